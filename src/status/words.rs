//! The words of a status, for the terminal and the page. Pure.

use super::{Health, SinkStatus, SourceStatus, Status};
use crate::record::time::from_iso;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 86_400.0;
/// So many failing sources and sinks are named in the summary.
const NAMED_MAX: usize = 3;

/// What to do about a source whose problem does not say so.
pub(crate) const SOURCE_ACTION: &str =
    "the agent retries; `confluence-audit-agent check` says what this host lacks";
/// What to do about a sink whose problem does not say so.
pub(crate) const SINK_ACTION: &str =
    "nothing is lost and the agent retries; if it lasts, `confluence-audit-agent check` tests the connection";

/// What to do about a stage that makes no progress.
pub(crate) const STUCK_ACTION: &str = "the watchdog restarts the agent if that lasts; look after the disks, and at `journalctl -u confluence-audit-agent`";

/// Splits a message at its first clause: what is wrong, and what to do. Text in backticks is not split.
pub(crate) fn split_remedy(message: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    for (at, c) in message.char_indices() {
        quoted ^= c == '`';
        if let Some(remedy) = message[at..].strip_prefix("; ").filter(|_| !quoted) {
            return (&message[..at], Some(remedy));
        }
    }
    (message, None)
}

/// How long before `now` this was, as in `5 min`.
pub(crate) fn since(time: &str, now: &str) -> String {
    match (from_iso(time), from_iso(now)) {
        (Some(time), Some(now)) => duration(now.saturating_sub(time).max(0) as f64 / 1000.0),
        _ => "an unknown time".to_owned(),
    }
}

pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.05 => "0 s".to_owned(),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 2.0 * MINUTE => format!("{s:.0} s"),
        s if s < 2.0 * HOUR => format!("{:.0} min", s / MINUTE),
        s if s < 2.0 * DAY => format!("{:.0} h", s / HOUR),
        s => format!("{:.0} days", s / DAY),
    }
}

/// Events a second, in as many digits as say something.
pub(crate) fn rate(events: f64) -> String {
    match events {
        e if e < 0.005 => "0/s".to_owned(),
        e if e < 0.995 => format!("{e:.2}/s"),
        e if e < 99.5 => format!("{e:.1}/s"),
        e => format!("{}/s", number(e.round() as u64)),
    }
}

/// A number with its thousands apart.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

pub(crate) fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1024.0 => counted(bytes, "byte", "bytes"),
        b if b < 1024.0 * 1024.0 => format!("{:.1} KiB", b / 1024.0),
        b if b < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", b / 1024.0 / 1024.0),
        b => format!("{:.1} GiB", b / 1024.0 / 1024.0 / 1024.0),
    }
}

pub(crate) fn quarantined(events: u64) -> String {
    let (events, are) = (counted(events, "event", "events"), if events == 1 { "is" } else { "are" });
    format!(
        "{events} {are} in quarantine, refused by the server; `confluence-audit-agent quarantine list` says why"
    )
}

/// Of sinks or sources that the configuration no longer has.
pub(crate) fn quarantined_of_others(events: u64) -> String {
    let events = counted(events, "event", "events");
    format!(
        "{events} in quarantine of sinks or sources that are no longer configured; \
         `confluence-audit-agent quarantine list` shows them"
    )
}

/// What the last `reconcile` found, if there was anything.
pub(crate) fn reconciled(missing: u64, altered: u64) -> Option<String> {
    (missing > 0 || altered > 0).then(|| {
        let (missing, altered) = (number(missing), number(altered));
        format!(
            "the last `reconcile` found {missing} missing and {altered} altered; run \
             `confluence-audit-agent reconcile` to see which"
        )
    })
}

pub(crate) fn lost(lost: u64) -> String {
    let lost = bytes(lost);
    format!(
        "{lost} of audit files were deleted or changed before they were read; find out who does that, or why \
         reading was late"
    )
}

/// All of the agent in a few words. It names what fails.
pub(crate) fn summary(status: &Status) -> String {
    if let Some(stage) = &status.stuck {
        return format!("{stage} makes no progress");
    }
    let parts = parts(status);
    let count = |health| parts.iter().filter(|(part, _)| *part == health).count() as u64;
    let failing: Vec<&str> = parts
        .iter()
        .filter(|(health, _)| *health == Health::Failure)
        .map(|(_, name)| name.as_str())
        .collect();
    let mut texts = Vec::new();
    if !failing.is_empty() {
        let more = if failing.len() > NAMED_MAX { ", …" } else { "" };
        let named = failing[..failing.len().min(NAMED_MAX)].join(", ");
        texts.push(format!("{}: {named}{more}", counted(failing.len() as u64, "failure", "failures")));
    }
    let warnings = count(Health::Warning) + status.warnings.len() as u64;
    for (count, one, many) in [
        (warnings, "warning", "warnings"),
        (count(Health::Starting), "source is starting", "sources are starting"),
    ] {
        if count > 0 {
            texts.push(counted(count, one, many));
        }
    }
    if texts.is_empty() { "all is well".to_owned() } else { texts.join("; ") }
}

/// Health and name of each source and sink.
fn parts(status: &Status) -> Vec<(Health, String)> {
    let mut parts = Vec::new();
    for source in &status.sources {
        parts.push((source.health, format!("source {}", source.name)));
        parts.extend(source.sinks.iter().map(|sink| (sink.health, sink_subject(status, source, sink))));
    }
    parts
}

/// The name of a sink. Each source has its own, so with several sources the source is named too.
pub(crate) fn sink_subject(status: &Status, source: &SourceStatus, sink: &SinkStatus) -> String {
    match status.sources.len() {
        0 | 1 => format!("sink {}", sink.name),
        _ => format!("sink {} of {}", sink.name, source.name),
    }
}

/// What a source does, in short clauses.
pub(crate) fn source_facts(source: &SourceStatus, now: &str) -> Vec<String> {
    let input = match (source.input.as_str(), &source.fallback) {
        ("api", Some(_)) => "reads the API, as fallback",
        ("api", None) => "reads the API",
        _ => "reads files",
    };
    let mut facts = vec![input.to_owned(), format!("lag {}", duration(source.lag_seconds))];
    if source.backlog_bytes > 0 {
        facts.push(format!(
            "{} in {} to read",
            bytes(source.backlog_bytes),
            counted(source.backlog_files, "file", "files")
        ));
    }
    facts.push(rate(source.activity.rate_minute));
    facts.push(match &source.last_event {
        Some(time) => format!("newest event {} ago", since(time, now)),
        None => "no event yet".to_owned(),
    });
    facts
}

/// What a sink does, in short clauses.
pub(crate) fn sink_facts(sink: &SinkStatus) -> Vec<String> {
    let mut facts = vec![format!("{} delivered", counted(sink.delivered, "event", "events"))];
    facts.push(rate(sink.activity.rate_minute));
    if sink.waiting > 0 {
        facts.push(format!("{} waiting", number(sink.waiting)));
    }
    if let Some(delay) = sink.delay_seconds {
        facts.push(format!("delay {}", duration(delay)));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_split_off() {
        for (message, expected) in
            [("refused", ("refused", None)), ("no `a; b`; make it; now", ("no `a; b`", Some("make it; now")))]
        {
            assert_eq!(split_remedy(message), expected);
        }
    }

    #[test]
    fn numbers_are_short() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.21, "0.2 s"),
            (45.0, "45 s"),
            (300.0, "5 min"),
            (86_400.0, "24 h"),
            (864_000.0, "10 days"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        for (events, expected) in [(0.0, "0/s"), (0.021, "0.02/s"), (3.44, "3.4/s"), (12_345.6, "12,346/s")] {
            assert_eq!(rate(events), expected);
        }
        assert_eq!(
            (bytes(1), bytes(2_000), bytes(3 << 30)),
            ("1 byte".into(), "2.0 KiB".into(), "3.0 GiB".into())
        );
        assert_eq!(since("2026-11-29T12:00:00.000Z", "2026-11-29T12:05:00.000Z"), "5 min");
        assert_eq!(since("", "2026-11-29T12:05:00.000Z"), "an unknown time");
    }
}
