//! Failpoints: places where a test can crash the process, to prove that a crash there loses and repeats nothing.
//!
//! `CONFLUENCE_AUDIT_AGENT_FAILPOINT="before_flush=abort@3"` aborts when `before_flush` is hit the third time.
//! `panic` unwinds instead, `hang` never returns. Only debug builds have failpoints.

/// Crashes the process if a debug build is configured to do so at this hit of `name`; otherwise does nothing.
#[cfg(debug_assertions)]
pub(crate) fn hit(name: &str) {
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
        FailpointAction::Abort => std::process::abort(),
        FailpointAction::Panic => panic!("failpoint `{name}`"),
        FailpointAction::Hang => loop {
            std::thread::park();
        },
    }
}

/// Crashes the process if a debug build is configured to do so at this hit of `name`; otherwise does nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn hit(_name: &str) {}

#[cfg(debug_assertions)]
#[derive(Debug, PartialEq)]
enum FailpointAction {
    Abort,
    Panic,
    Hang,
}

#[cfg(debug_assertions)]
#[derive(Debug, PartialEq)]
struct Failpoint {
    name: String,
    action: FailpointAction,
    hit: u64,
}

/// Parses `name=action@hit`; without `@hit` the first hit. Anything else is ignored.
#[cfg(debug_assertions)]
fn parse(text: &str) -> Option<Failpoint> {
    let (name, rest) = text.split_once('=')?;
    let (action, hit) = rest.split_once('@').unwrap_or((rest, "1"));
    let action = match action {
        "abort" => FailpointAction::Abort,
        "panic" => FailpointAction::Panic,
        "hang" => FailpointAction::Hang,
        _ => return None,
    };
    Some(Failpoint { name: name.to_owned(), action, hit: hit.parse().ok()? })
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_a_name_an_action_and_a_count() {
        let abort =
            |name: &str, hit| Some(Failpoint { name: name.to_owned(), action: FailpointAction::Abort, hit });
        assert_eq!(parse("before_flush=abort@3"), abort("before_flush", 3));
        assert_eq!(parse("read=abort"), abort("read", 1));
        assert_eq!(parse("read=panic@x"), None);
        assert_eq!(parse("read=stop@1"), None);
        assert_eq!(parse("read"), None);
    }
}
