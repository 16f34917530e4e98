use super::*;

/// What the log has written, kept for the test.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a real subscriber writes while `speak` runs and when it ends.
fn lines(format: LogFormat, level: Level, speak: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let log = Log::new(level, Output::Lines(format, Box::new(written.clone())));
    let guard = LogGuard { shared: log.shared.clone() };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(log), speak);
    drop(guard);
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_string).collect()
}

const HOSTILE: &str = "\x1b[2J\x1b[1;1Hx\n2026-11-21T10:00:00Z ERROR forged\r\u{202e}\u{9b}31m";

#[test]
fn text_is_a_sentence_and_fields() {
    let lines = lines(LogFormat::Text, Level::INFO, || {
        tracing::info!(
            files = 3,
            bytes = 12_u64,
            name = "plain",
            path = "with blank",
            empty = "",
            "read all files"
        );
        tracing::debug!("not at this level");
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (time, rest) = lines[0].split_at(20);
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    assert_eq!(rest, "  INFO read all files files=3 bytes=12 name=plain path=\"with blank\" empty=\"\"");
}

#[test]
fn f34_escape() {
    let text = lines(LogFormat::Text, Level::INFO, || {
        tracing::warn!(name = HOSTILE, debug = ?HOSTILE, display = %HOSTILE, "space {HOSTILE}");
    });
    assert_eq!(text.len(), 1, "{text:?}");
    assert!(!text[0].contains(super::super::escape::is_unsafe), "{text:?}");
    assert!(text[0].contains(
        "name=\"\\u{1b}[2J\\u{1b}[1;1Hx\\n2026-11-21T10:00:00Z ERROR forged\\r\\u{202e}\\u{9b}31m\""
    ));

    let json = lines(LogFormat::Json, Level::INFO, || tracing::warn!(name = HOSTILE, "space {HOSTILE}"));
    assert_eq!(json.len(), 1, "{json:?}");
    assert!(!json[0].contains(super::super::escape::is_unsafe), "{json:?}");
    let parsed: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!(parsed["name"], HOSTILE, "JSON carries the name itself");
    assert_eq!(parsed["message"], format!("space {HOSTILE}"));

    let line = LogLine { message: HOSTILE.into(), fields: vec![("name", Value::Text(HOSTILE.into()))] };
    let entry = line.journal_entry(Level::WARN, "target");
    assert_eq!(entry.lines().count(), 5, "{entry:?}");
    for line in entry.lines() {
        let name = line.split_once('=').unwrap().0;
        assert!(["PRIORITY", "SYSLOG_IDENTIFIER", "TARGET", "MESSAGE", "CAA_NAME"].contains(&name), "{line}");
        assert!(!line.contains(super::super::escape::is_unsafe), "{line:?}");
    }
}

#[test]
fn json_is_an_object_a_line() {
    let lines = lines(LogFormat::Json, Level::INFO, || {
        tracing::info!(files = 3, ratio = 0.5, nan = f64::NAN, live = true, name = "a\"b\\c", "read");
    });
    let parsed: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(parsed["level"], "INFO");
    assert_eq!(parsed["message"], "read");
    assert_eq!(parsed["files"], 3);
    assert_eq!(parsed["ratio"], 0.5);
    assert_eq!(parsed["nan"], "NaN");
    assert_eq!(parsed["live"], true);
    assert_eq!(parsed["name"], "a\"b\\c");
    assert!(parsed["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert!(parsed["target"].as_str().unwrap().starts_with("confluence_audit_agent"));
}

#[test]
fn an_error_is_reported_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("failed to store the position")]
    struct Outer(#[source] std::io::Error);
    let lines = lines(LogFormat::Text, Level::INFO, || {
        let error = Outer(std::io::Error::other("disk full"));
        tracing::error!(error = &error as &dyn std::error::Error, "waiting");
    });
    assert!(
        lines[0].ends_with("ERROR waiting error=\"failed to store the position: disk full\""),
        "{lines:?}"
    );
}

#[test]
fn libraries_are_heard_only_when_something_is_wrong() {
    let lines = lines(LogFormat::Text, Level::TRACE, || {
        tracing::info!(target: "somewhere", "chatter");
        tracing::warn!(target: "somewhere", "trouble");
        tracing::trace!("own");
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn a_long_value_is_cut() {
    let lines = lines(LogFormat::Text, Level::INFO, || {
        tracing::info!(name = "ü".repeat(1 << 20), "long");
    });
    assert!(lines[0].len() < 9 * 1024 && lines[0].ends_with('…'));
}

#[test]
fn f66_flood() {
    let lines = lines(LogFormat::Text, Level::INFO, || {
        for n in 0..100_000 {
            tracing::error!(n, "cannot parse the line");
        }
        // Another place is heard at once, and what an operator must know is never summed up.
        tracing::warn!("something else");
        (0..3).for_each(|_| tracing::info!("started"));
    });
    assert!(lines.len() < 50, "{} lines", lines.len());
    assert!(lines[0].ends_with("cannot parse the line n=0"), "the first in full: {}", lines[0]);
    assert_eq!(lines.iter().filter(|line| line.contains("something else")).count(), 1);
    assert_eq!(lines.iter().filter(|line| line.contains("started")).count(), 3);
    let repeats = lines.iter().filter(|line| line.contains("cannot parse the line"));
    let counts =
        repeats.map(|line| line.split_once(" repeated=").map_or(1, |(_, count)| count.parse().unwrap()));
    assert_eq!(counts.sum::<u64>(), 100_000);
}

#[test]
fn durations_are_printed_in_round_numbers() {
    use std::time::Duration;
    for (nanos, expect) in [
        (38_554_823_512, "39s"),
        (900_000_000_000, "900s"),
        (999_999_999, "1s"),
        (9_960_000_000, "10s"),
        (1_234_567_890, "1.2s"),
        (1_000_000_000, "1s"),
        (999_988_753, "1s"),
        (412_345_678, "412ms"),
        (1_500, "2µs"),
        (0, "0ns"),
    ] {
        let wait = Duration::from_nanos(nanos);
        let said = lines(LogFormat::Text, Level::INFO, || tracing::info!(?wait, "waits"));
        assert!(said[0].ends_with(&format!("waits wait={expect}")), "{said:?}");
    }
    let other = "1.23456s later";
    let said = lines(LogFormat::Text, Level::INFO, || tracing::info!(?other, "waits"));
    assert!(said[0].contains("1.23456s later"), "{said:?}");
}
