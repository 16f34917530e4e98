//! Encodes events as messages of RFC 5424.

use crate::config::{Framing, SyslogConfig};
use crate::record::time::iso;
use crate::sink::{BatchEvent, EventSeverity};
use std::borrow::Cow;

/// SD-ID of the structured data, with a private enterprise number. 32473 is reserved by RFC 5612 for those
/// without a number of their own.
const SD_ID: &str = "audit@32473";

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
    fn head(&self, of: &BatchEvent) -> Vec<u8> {
        let severity = match of.header_fields.severity {
            EventSeverity::Warning => 4,
            EventSeverity::Notice => 5,
            EventSeverity::Info => 6,
        };
        let priority = u32::from(self.facility) * 8 + severity;
        let mut out = format!("<{priority}>1 ").into_bytes();
        out.extend_from_slice(&iso(of.time_ms));
        out.extend_from_slice(self.sender.as_bytes());
        let (id, action) = (of.id.hex(), of.header_fields.action());
        let message_id = if action.is_empty() { "-" } else { action };
        let id = String::from_utf8_lossy(&id);
        let data = format!(" {message_id} [{SD_ID} id=\"{id}\" source=\"{}\"] ", self.source);
        out.extend_from_slice(data.as_bytes());
        out
    }

    /// Appends one message.
    pub fn write(&self, of: &BatchEvent, event: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head(of));
        out.extend_from_slice(&escape_line_separators(event));
    }

    /// Appends one message with the framing of a stream transport.
    pub fn frame(&self, framing: Framing, of: &BatchEvent, event: &[u8], out: &mut Vec<u8>) {
        let head = self.head(of);
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
    use crate::record::EventId;
    use crate::sink::HeaderFields;
    use proptest::prelude::*;
    use syslog_loose::{Message, ProcId, Protocol, SyslogFacility, SyslogSeverity, Variant, parse_message};

    fn writer(source: &str) -> MessageWriter {
        let config = SyslogConfig::new("siem".into(), 514, Transport::Tcp);
        MessageWriter::new(&config, "node 1", 7, source)
    }

    fn written(severity: EventSeverity, action: &str) -> BatchEvent {
        BatchEvent {
            end: 0,
            id: EventId(0xabc),
            time_ms: 1_700_000_000_123,
            header_fields: HeaderFields::new(severity, action),
        }
    }

    fn server_message(of: &BatchEvent, event: &str) -> String {
        let mut out = Vec::new();
        writer("wiki").write(of, event.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_to_the_byte() {
        let event = r#"{"@timestamp":"2023-11-14T22:13:20.123Z"}"#;
        assert_eq!(
            server_message(&written(EventSeverity::Info, "user-login"), event),
            format!(
                "<110>1 2023-11-14T22:13:20.123Z node_1 confluence-audit 7 user-login [audit@32473 id=\"{:032x}\" source=\"wiki\"] {event}",
                0xabc
            )
        );
    }

    #[test]
    fn severity_and_msgid_come_from_the_label() {
        for (severity, action, priority, id) in [
            (EventSeverity::Notice, "x", 109, "x"),
            (EventSeverity::Warning, "", 108, "-"),
            (EventSeverity::Info, "Straße\n\"", 110, "Stra_e_\""),
            (EventSeverity::Info, &"a b".repeat(30), 110, "a_ba_ba_ba_ba_ba_ba_ba_ba_ba_ba_"),
        ] {
            let text = server_message(&written(severity, action), "{}");
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(words[0], format!("<{priority}>1"), "{action}");
            assert_eq!(words[5], id, "{action}");
        }
    }

    #[test]
    fn f102_line_ends_of_unicode_are_escaped() {
        let action = "a\u{85}b\u{2028}c\u{2029}d\u{a0}\u{2030}é";
        let event = format!(r#"{{"event":{{"action":"{action}"}}}}"#);
        let mut out = Vec::new();
        let writer = writer("wiki");
        for framing in [Framing::OctetCounting, Framing::Newline] {
            writer.frame(framing, &written(EventSeverity::Info, ""), event.as_bytes(), &mut out);
        }
        writer.write(&written(EventSeverity::Info, ""), event.as_bytes(), &mut out);
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
            writer("wiki").frame(framing, &written(EventSeverity::Info, ""), "é".as_bytes(), &mut out);
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
            let of = BatchEvent { end: 0, id: EventId(id), time_ms, header_fields: HeaderFields::default() };
            writer(&source).write(&of, event.as_bytes(), &mut out);
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
