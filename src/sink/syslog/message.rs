//! Encodes events as messages of RFC 5424.

use crate::config::{Framing, SyslogConfig};
use crate::record::EventId;
use crate::record::time::iso;
use memchr::memmem;
use std::borrow::Cow;

/// SD-ID of the structured data, with a private enterprise number. 32473 is reserved by RFC 5612 for those
/// without a number of their own.
const SD_ID: &str = "audit@32473";

/// Maximum length of MSGID in RFC 5424.
const MSGID_BYTES_MAX: usize = 32;

const WARNING: u8 = 4;
const NOTICE: u8 = 5;
const INFO: u8 = 6;

/// The parts that all messages of a sink of one source share.
pub struct MessageWriter {
    facility: u8,
    /// HOSTNAME, APP-NAME and PROCID, each after a blank.
    sender: String,
    source: String,
}

impl MessageWriter {
    /// `host`: the name of this host. `process`: the process id of the agent.
    pub fn new(config: &SyslogConfig, host: &str, process: u32, source: &str) -> MessageWriter {
        let host = header_field(host, 255);
        MessageWriter {
            facility: config.facility,
            sender: format!(" {host} {} {process}", config.app_name),
            source: escaped(source),
        }
    }

    /// The message up to the event. Without a BOM: the RFC requires one before text in UTF-8, but JSON must
    /// not begin with it.
    fn head(&self, id: EventId, time_ms: i64, event: &[u8]) -> Vec<u8> {
        let of = members(event);
        let severity = match (value(of, b"\"kind\":\""), value(of, b"\"outcome\":\"")) {
            (b"pipeline_error", _) => WARNING,
            (_, b"failure") => NOTICE,
            _ => INFO,
        };
        let action = value(of, b"\"action\":\"");
        let message_id = header_field(&unescaped(action), MSGID_BYTES_MAX);
        let priority = u32::from(self.facility) * 8 + u32::from(severity);
        let mut out = format!("<{priority}>1 ").into_bytes();
        out.extend_from_slice(&iso(time_ms));
        out.extend_from_slice(self.sender.as_bytes());
        let id = id.hex();
        let id = String::from_utf8_lossy(&id);
        let data = format!(" {message_id} [{SD_ID} id=\"{id}\" source=\"{}\"] ", self.source);
        out.extend_from_slice(data.as_bytes());
        out
    }

    /// Appends one message.
    pub fn write(&self, id: EventId, time_ms: i64, event: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head(id, time_ms, event));
        out.extend_from_slice(&escape_line_separators(event));
    }

    /// Appends one message with the framing of a stream transport.
    pub fn frame(&self, framing: Framing, id: EventId, time_ms: i64, event: &[u8], out: &mut Vec<u8>) {
        let head = self.head(id, time_ms, event);
        let event = &*escape_line_separators(event);
        if framing == Framing::OctetCounting {
            out.extend_from_slice(format!("{} ", head.len() + event.len()).as_bytes());
        }
        out.extend_from_slice(&head);
        out.extend_from_slice(event);
        // The event is a single line, so it contains no LF.
        if framing == Framing::Newline {
            out.push(b'\n');
        }
    }
}

/// Escapes the line separators of Unicode. A receiver that splits at them would read user input after one as
/// a separate message. JSON has them in strings only; CEF has none.
fn escape_line_separators(event: &[u8]) -> Cow<'_, [u8]> {
    let mut escaped = Vec::new();
    let mut copied = 0;
    for at in memchr::memchr2_iter(0xC2, 0xE2, event) {
        let (length, escape) = match event[at..] {
            [0xC2, 0x85, ..] => (2, b"\\u0085"),
            [0xE2, 0x80, 0xA8, ..] => (3, b"\\u2028"),
            [0xE2, 0x80, 0xA9, ..] => (3, b"\\u2029"),
            _ => continue,
        };
        escaped.extend_from_slice(&event[copied..at]);
        escaped.extend_from_slice(escape);
        copied = at + length;
    }
    if copied == 0 {
        return Cow::Borrowed(event);
    }
    escaped.extend_from_slice(&event[copied..]);
    Cow::Owned(escaped)
}

/// The short members of `event` in an ECS event; they end where `original` begins. Empty for other formats.
/// Parsing the whole event would cost more than the rest of sending it.
fn members<'e>(event: &'e [u8]) -> &'e [u8] {
    const BEGINNING: &[u8] = b",\"event\":{\"dataset\":\"atlassian_confluence.audit\"";
    let Some(at) = memmem::find(event, BEGINNING) else {
        return b"";
    };
    let members = &event[at + BEGINNING.len()..];
    let before = |members: &'e [u8], end: &[u8]| match memmem::find(members, end) {
        Some(at) => &members[..at],
        None => members,
    };
    before(before(members, b",\"original\":\""), b"},\"")
}

/// The raw text after `key` up to the closing quote, with its escapes.
fn value<'e>(members: &'e [u8], key: &[u8]) -> &'e [u8] {
    let Some(at) = memmem::find(members, key) else {
        return b"";
    };
    let text = &members[at + key.len()..];
    let mut end = 0;
    while let Some(&byte) = text.get(end).filter(|byte| **byte != b'"') {
        end += if byte == b'\\' { 2 } else { 1 };
    }
    &text[..end.min(text.len())]
}

fn unescaped(text: &[u8]) -> Cow<'_, str> {
    match text.contains(&b'\\') {
        false => String::from_utf8_lossy(text),
        true => serde_json::from_slice(&[b"\"", text, b"\""].concat()).map(Cow::Owned).unwrap_or_default(),
    }
}

/// A header field: printable ASCII without blanks, or `-` if it is empty.
fn header_field(text: &str, bytes_max: usize) -> String {
    let fitting = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let header_field: String = text.chars().take(bytes_max).map(fitting).collect();
    if header_field.is_empty() { "-".into() } else { header_field }
}

/// Escapes the value of a parameter of structured data.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transport;
    use proptest::prelude::*;
    use syslog_loose::{Message, ProcId, Protocol, SyslogFacility, SyslogSeverity, Variant, parse_message};

    fn writer(source: &str) -> MessageWriter {
        let config = SyslogConfig::new("siem".into(), 514, Transport::Tcp);
        MessageWriter::new(&config, "node 1", 7, source)
    }

    fn message(event: &str) -> String {
        let mut out = Vec::new();
        writer("wiki").write(EventId(0xabc), 1_700_000_000_123, event.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The beginning of an event in the ECS format.
    fn ecs(members: &str) -> String {
        format!(
            r#"{{"@timestamp":"2023-11-14T22:13:20.123Z","event":{{"dataset":"atlassian_confluence.audit"{members}}}}}"#
        )
    }

    #[test]
    fn a_message_to_the_byte() {
        let event = &ecs(r#","outcome":"success","action":"user-login""#);
        assert_eq!(
            message(event),
            format!(
                "<110>1 2023-11-14T22:13:20.123Z node_1 confluence-audit 7 user-login [audit@32473 id=\"{:032x}\" source=\"wiki\"] {event}",
                0xabc
            )
        );
    }

    #[test]
    fn severity_and_msgid_are_taken_from_the_event() {
        let long = format!(r#","action":"{}""#, "a b".repeat(30));
        for (event, priority, id) in [
            (ecs(r#","outcome":"failure","action":"x""#), 109, "x"),
            (ecs(r#","kind":"pipeline_error""#), 108, "-"),
            (ecs(r#","action":"Straße\n\"""#), 110, "Stra_e_\""),
            (ecs(&long), 110, "a_ba_ba_ba_ba_ba_ba_ba_ba_ba_ba_"),
            (ecs(r#","original":"{\"action\":\"x\"}","action":"y""#), 110, "-"),
            (ecs(""), 110, "-"),
            (
                ecs(r#"},"confluence":{"audit":{"changed_values":[{"action":"x","outcome":"failure"}]}"#),
                110,
                "-",
            ),
            (r#"{"event":7}"#.into(), 110, "-"),
            (r#"{"auditType":{"action":"x"}}"#.into(), 110, "-"),
            ("CEF:0|Atlassian|Confluence|".into(), 110, "-"),
        ] {
            let text = message(&event);
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(words[0], format!("<{priority}>1"), "{event}");
            assert_eq!(words[5], id, "{event}");
        }
    }

    #[test]
    fn f102_line_ends_of_unicode_are_escaped() {
        let action = "a\u{85}b\u{2028}c\u{2029}d\u{a0}\u{2030}é";
        let event = ecs(&format!(r#","action":"{action}""#));
        let mut out = Vec::new();
        let writer = writer("wiki");
        for framing in [Framing::OctetCounting, Framing::Newline] {
            writer.frame(framing, EventId(1), 0, event.as_bytes(), &mut out);
        }
        writer.write(EventId(1), 0, event.as_bytes(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let (length, rest) = text.split_once(' ').unwrap();
        let (first, rest) = rest.split_at(length.parse().unwrap());
        assert_eq!(rest, format!("{first}\n{first}"));
        let json = &first[first.find('{').unwrap()..];
        let read: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(read["event"]["action"], action);
        assert!(!first.contains(['\u{85}', '\u{2028}', '\u{2029}']), "{first}");
        assert!(first.contains("\u{a0}\u{2030}é"), "{first}");
    }

    #[test]
    fn frames() {
        let mut out = Vec::new();
        for framing in [Framing::OctetCounting, Framing::Newline] {
            writer("wiki").frame(framing, EventId(1), 0, "é".as_bytes(), &mut out);
        }
        let text = String::from_utf8(out).unwrap();
        let (length, rest) = text.split_once(' ').unwrap();
        let (first, second) = rest.as_bytes().split_at(length.parse().unwrap());
        assert_eq!(second, [first, b"\n"].concat());
        assert!(first.ends_with("] é".as_bytes()));
    }

    proptest! {
        /// Another parser reads back what was written.
        #[test]
        fn any_event_is_read_back(source in "[ -~äöü]{1,20}", event in "[{C][^\n\u{85}\u{2028}\u{2029}]{0,200}[}x]", id: u128, time_ms in 0i64..4_000_000_000_000) {
            let mut out = Vec::new();
            writer(&source).write(EventId(id), time_ms, event.as_bytes(), &mut out);
            let text = String::from_utf8(out).unwrap();
            let parsed: Message<&str> = parse_message(&text, Variant::RFC5424);
            prop_assert_eq!(parsed.protocol, Protocol::RFC5424(1));
            prop_assert_eq!(parsed.facility, Some(SyslogFacility::LOG_AUDIT));
            prop_assert_eq!(parsed.severity, Some(SyslogSeverity::SEV_INFO));
            prop_assert_eq!(parsed.timestamp.unwrap().timestamp_millis(), time_ms);
            prop_assert_eq!(parsed.procid, Some(ProcId::PID(7)));
            prop_assert_eq!(parsed.msg, event);
            let data = &parsed.structured_data[0];
            prop_assert_eq!(data.id, SD_ID);
            let id = format!("{id:032x}");
            let params: Vec<(String, String)> = data.params().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            prop_assert_eq!(params, vec![("id".to_string(), id), ("source".to_string(), source)]);
        }
    }
}
