//! Events become messages of syslog that a strict reader reads back, in both framings, and in each format.

use super::formats::{formats_of, written};
use super::input::Input;
use super::readers::syslog::{counted, read};
use super::readers::{is_line_end, json};
use crate::config::{Framing, SyslogConfig, Transport};
use crate::format::{FormatKind, Origin};
use crate::record::time::iso;
use crate::sink::syslog::message::MessageWriter;
use crate::sink::{BatchEvent, EventSeverity, HeaderFields};

pub(super) fn syslog(data: &[u8]) {
    let mut input = Input(data);
    let choice = usize::from(input.byte());
    let kind = FormatKind::ALL[choice % FormatKind::ALL.len()];
    let facility = input.byte() % 24;
    let time_ms = (input.number() >> 18) as i64;
    let (host, action) = (input.text(), input.text());
    // The configuration admits no control characters in names.
    let source = input.text().replace(|c: char| c.is_control() || is_line_end(c), "_");
    let severity = [EventSeverity::Info, EventSeverity::Notice, EventSeverity::Warning][choice % 3];
    let (id, event) =
        written(&formats_of(choice)[choice % FormatKind::ALL.len()], input.0, Origin::Api, false);
    let text = String::from_utf8_lossy(&event);

    let config = SyslogConfig { facility, ..SyslogConfig::new("siem".to_owned(), 514, Transport::Tcp) };
    let writer = MessageWriter::new(&config, &host, 7, &source);
    let of = BatchEvent { end: 0, id, time_ms, header_fields: HeaderFields::new(severity, &action) };
    let (mut stream, mut lines) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        writer.frame(Framing::OctetCounting, &of, &event, &mut stream);
        writer.frame(Framing::Newline, &of, &event, &mut lines);
    }
    let messages = counted(&stream).unwrap_or_else(|error| panic!("{error}"));
    let lines = String::from_utf8_lossy(&lines);
    assert_eq!(lines.strip_suffix('\n').map(|lines| lines.split('\n').collect()), Some(messages.clone()));
    assert_eq!(messages.len(), 2);
    let message = read(messages[0]).unwrap_or_else(|error| panic!("{error}: {}", messages[0]));
    assert!(!messages[0].contains(is_line_end), "{}", messages[0]);
    let level = match severity {
        EventSeverity::Warning => 4,
        EventSeverity::Notice => 5,
        EventSeverity::Info => 6,
    };
    assert_eq!(message.priority, u32::from(facility) * 8 + level);
    assert_eq!(message.timestamp.as_bytes(), iso(time_ms));
    assert_eq!((message.app, message.process), ("confluence-audit", "7"));
    assert_eq!(message.host.chars().count(), host.chars().count().clamp(1, 255));
    let id = id.to_string();
    assert_eq!(message.parameters, [("id", id), ("source", source)]);
    match kind {
        FormatKind::Cef => assert_eq!(message.text, text),
        _ => assert_eq!(json::read(message.text), json::read(&text)),
    }
}
