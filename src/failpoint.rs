//! Places where a test can end the process: proof that a crash there loses nothing and repeats nothing.
//!
//! `CONFLUENCE_AUDIT_AGENT_FAILPOINT="before_flush=abort@3"` aborts at the third time `before_flush` is hit;
//! `panic` instead of `abort` unwinds, `hang` never returns. Only debug builds read it.

/// Does nothing, unless a debug build was told to end the process at the n-th hit of `name`.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<Failpoint>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);

    let armed = ARMED.get_or_init(|| parse(&std::env::var("CONFLUENCE_AUDIT_AGENT_FAILPOINT").ok()?));
    let Some(failpoint) = armed else { return };
    if failpoint.name != name || HITS.fetch_add(1, Ordering::SeqCst) + 1 != failpoint.hit {
        return;
    }
    match failpoint.action {
        Action::Abort => std::process::abort(),
        Action::Panic => panic!("failpoint `{name}`"),
        Action::Hang => loop {
            std::thread::park();
        },
    }
}

/// Does nothing, unless a debug build was told to end the process at the n-th hit of `name`.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// A limit that a debug build may be told to lower, so that a test reaches it: `CONFLUENCE_AUDIT_AGENT_LIMIT="ids_max=2000"`.
#[cfg(debug_assertions)]
pub fn limit(name: &str, limit: usize) -> usize {
    let told = std::env::var("CONFLUENCE_AUDIT_AGENT_LIMIT").unwrap_or_default();
    let lower = told
        .split_once('=')
        .filter(|(told, _)| *told == name)
        .and_then(|(_, limit)| limit.parse().ok());
    lower.unwrap_or(limit)
}

/// A limit that a debug build may be told to lower, so that a test reaches it.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn limit(_name: &str, limit: usize) -> usize {
    limit
}

#[cfg(debug_assertions)]
#[derive(Debug, PartialEq)]
enum Action {
    Abort,
    Panic,
    Hang,
}

#[cfg(debug_assertions)]
#[derive(Debug, PartialEq)]
struct Failpoint {
    name: String,
    action: Action,
    hit: u64,
}

/// `name=action@hit`; without `@hit` the first hit. Anything else arms nothing.
#[cfg(debug_assertions)]
fn parse(text: &str) -> Option<Failpoint> {
    let (name, rest) = text.split_once('=')?;
    let (action, hit) = rest.split_once('@').unwrap_or((rest, "1"));
    let action = match action {
        "abort" => Action::Abort,
        "panic" => Action::Panic,
        "hang" => Action::Hang,
        _ => return None,
    };
    Some(Failpoint {
        name: name.to_owned(),
        action,
        hit: hit.parse().ok()?,
    })
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_a_name_an_action_and_a_count() {
        let abort = |name: &str, hit| {
            Some(Failpoint {
                name: name.to_owned(),
                action: Action::Abort,
                hit,
            })
        };
        assert_eq!(parse("before_flush=abort@3"), abort("before_flush", 3));
        assert_eq!(parse("read=abort"), abort("read", 1));
        assert_eq!(parse("read=panic@x"), None);
        assert_eq!(parse("read=stop@1"), None);
        assert_eq!(parse("read"), None);
    }
}
