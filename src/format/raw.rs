//! The record as it came, with its id.

use super::escape::escape_long;
use super::name::RAW_START;
use super::{Event, Origin, Out};
use crate::notice::Notice;
use crate::record::walk::Cursor;
use crate::record::{Parsed, compact, time};

/// Puts `event_id` before the members of the record. Of these it leaves out only what readers would not agree on: all
/// but the last of one name, and an `event_id` of the record's own.
#[derive(Clone, Debug, Default)]
pub struct Raw;

impl Raw {
    pub(super) fn write(&self, item: &Event, out: &mut Out) {
        out.put(RAW_START);
        out.bytes.extend_from_slice(&item.id.hex());
        out.put("\"");
        match item.content {
            Parsed::Record(record) => {
                let needs_compacting = matches!(item.origin, Origin::Api)
                    || memchr::memchr2(b'\n', b'\r', record.text.as_bytes()).is_some();
                let compacted = needs_compacting.then(|| compact(record.text));
                let text = compacted.as_deref().unwrap_or(record.text).trim_ascii();
                // A record has a member at least: the one that its shape was told by.
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

    pub(super) fn write_notice(&self, notice: &Notice, out: &mut Out) {
        out.put(RAW_START);
        out.bytes.extend_from_slice(&notice.id.hex());
        out.put("\",\"agent\":{\"action\":\"");
        out.put(notice.action);
        out.put("\",\"message\":\"");
        escape_long(&notice.message, out);
        out.put("\",\"time\":\"");
        out.bytes.extend_from_slice(&time::iso(notice.at_ms));
        out.put("\"}}");
    }
}

/// The members of a record but its `event_id`, and the sign that closes it.
fn members(record: &str, out: &mut Out) {
    let mut cursor = Cursor::new(record);
    cursor.enter();
    let mut first = true;
    while cursor.more() {
        let start = cursor.place();
        let is_id = cursor.key() == "event_id";
        let value_start = cursor.place();
        let end = value_start + cursor.value().len();
        if !is_id {
            out.put(if std::mem::take(&mut first) { "" } else { "," });
            out.put_long(&record[start..end]);
        }
    }
    out.put("}");
}
