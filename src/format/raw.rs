//! The format `raw`: the record as received, with its id.

use super::escape::escape_long;
use super::kind::RAW_START;
use super::{Event, EventBuffer, Origin};
use crate::notice::Notice;
use crate::record::json_cursor::JsonCursor;
use crate::record::{Parsed, compact, time};

/// Writes `event_id` before the members of the record. Only ambiguous members are removed: all but the last
/// of a repeated name, and an `event_id` in the record.
#[derive(Clone, Debug, Default)]
pub struct Raw;

impl Raw {
    pub(super) fn write(&self, event: &Event, out: &mut EventBuffer) {
        out.put(RAW_START);
        out.bytes.extend_from_slice(&event.id.hex());
        out.put("\"");
        match event.content {
            Parsed::Record(record) => {
                let needs_compacting = matches!(event.origin, Origin::Api)
                    || memchr::memchr2(b'\n', b'\r', record.text.as_bytes()).is_some();
                let compacted = needs_compacting.then(|| compact(record.text));
                let text = compacted.as_deref().unwrap_or(record.text).trim_ascii();
                // A record has at least one member: its shape is recognised by one.
                out.put(",");
                if record.has_event_id {
                    members(text, out);
                } else {
                    out.put_long(text.strip_prefix('{').unwrap_or(text).trim_ascii_start());
                }
            }
            Parsed::Unreadable { error, bytes, .. } => {
                out.put(",\"error\":\"");
                escape_long(error, out);
                out.put("\",\"original\":\"");
                escape_long(&String::from_utf8_lossy(bytes), out);
                out.put("\"}");
            }
        }
    }

    pub(super) fn write_notice(&self, notice: &Notice, out: &mut EventBuffer) {
        out.put(RAW_START);
        out.bytes.extend_from_slice(&notice.id.hex());
        out.put("\",\"agent\":{\"action\":\"");
        out.put(notice.action);
        if !notice.fields.0.is_empty() {
            out.put("\",\"fields\":");
            out.put(&notice.fields.json());
            out.put(",\"message\":\"");
        } else {
            out.put("\",\"message\":\"");
        }
        escape_long(&notice.message, out);
        if let Some(original) = &notice.original {
            out.put("\",\"original\":\"");
            escape_long(original, out);
        }
        out.put("\",\"time\":\"");
        out.bytes.extend_from_slice(&time::iso(notice.at_ms));
        out.put("\"}}");
    }
}

/// Writes the members of a record except `event_id`, and the closing brace.
fn members(record: &str, out: &mut EventBuffer) {
    let mut cursor = JsonCursor::new(record);
    cursor.enter();
    let mut first = true;
    while cursor.more() {
        let start = cursor.value_start();
        let is_id = cursor.key() == "event_id";
        let value_start = cursor.value_start();
        let end = value_start + cursor.value().len();
        if !is_id {
            out.put(if std::mem::take(&mut first) { "" } else { "," });
            out.put_long(&record[start..end]);
        }
    }
    out.put("}");
}
