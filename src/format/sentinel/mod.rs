//! Records for Microsoft Sentinel's Logs Ingestion API: the eleven members of a Cloud record that Microsoft's
//! data collection rule maps to the columns of `ConfluenceAuditLogs_CL`. docs/FORMATS.md describes each
//! member.

mod capped;

use super::escape::{escape, quoted, value_text};
use super::kind::SENTINEL_START;
use super::login::login;
use super::{Context, Event, EventBuffer};
use crate::notice::Notice;
use crate::record::json::for_each_element;
use crate::record::{EventId, Parsed, Record, Shape, Text, Token, address, object};
use capped::Capped;

/// Writes records for Sentinel.
#[derive(Clone, Debug)]
pub struct Sentinel {
    /// A JSON string with its quotes.
    site: Option<String>,
}

/// The members that are sent unchanged. `creationDate` is not among them, because it must be a number.
const CLOUD_MEMBERS: [&str; 10] = [
    "author",
    "remoteAddress",
    "summary",
    "description",
    "category",
    "sysAdmin",
    "superAdmin",
    "affectedObject",
    "changedValues",
    "associatedObjects",
];

/// Category of the agent's own events.
const OWN_CATEGORY: &str = crate::NAME;

impl Sentinel {
    pub fn new(context: &Context) -> Self {
        Sentinel { site: context.site().map(quoted) }
    }

    pub(super) fn write(&self, event: &Event, out: &mut EventBuffer) {
        match event.content {
            Parsed::Record(record) => self.audit_event(record, event, out),
            Parsed::Unreadable { error, bytes, .. } => {
                // A field can hold no more of it.
                let bytes = &bytes[..bytes.len().min(capped::FIELD_BYTES_MAX)];
                let text = format!("{error}\n{}", String::from_utf8_lossy(bytes));
                self.own_event(event.id, event.read_at_ms, "Unreadable audit record", &text, out);
            }
        }
    }

    pub(super) fn write_notice(&self, notice: &Notice, out: &mut EventBuffer) {
        self.own_event(notice.id, notice.at_ms, notice.action, &notice.text(), out);
    }

    fn own_event(&self, id: EventId, at_ms: i64, summary: &str, description: &str, out: &mut EventBuffer) {
        head(id, at_ms, out);
        self.site(None, out);
        out.put(",\"summary\":\"");
        escape(summary, &mut out.bytes);
        out.put("\",\"category\":\"");
        out.put(OWN_CATEGORY);
        out.put("\"");
        let mut truncated = TruncatedFields::default();
        truncated.field("description", out, |field, out| field.plain(description, out));
        truncated.end(out);
    }

    fn audit_event(&self, record: &Record, event: &Event, out: &mut EventBuffer) {
        head(event.id, record.time_ms.unwrap_or(event.read_at_ms), out);
        let url = record.system.text().map(Text::decoded);
        self.site(url.as_deref().and_then(address::host).as_deref(), out);
        for (at, problem) in record.problems.iter().enumerate() {
            out.put(if at == 0 { ",\"Error\":\"" } else { "; " });
            escape(&problem.to_string(), &mut out.bytes);
        }
        if !record.problems.is_empty() {
            out.put("\"");
        }
        let mut truncated = TruncatedFields::default();
        match record.shape {
            Shape::Cloud => cloud(record, &mut truncated, out),
            Shape::File | Shape::Entity => data_center(record, &mut truncated, out),
        }
        truncated.end(out);
    }

    fn site(&self, host: Option<&str>, out: &mut EventBuffer) {
        if let Some(site) = &self.site {
            out.put(",\"Site\":");
            out.put(site);
        } else if let Some(host) = host {
            out.put(",\"Site\":\"");
            escape(host, &mut out.bytes);
            out.put("\"");
        }
    }
}

fn head(id: EventId, time_ms: i64, out: &mut EventBuffer) {
    out.put(SENTINEL_START);
    out.bytes.extend_from_slice(&id.hex());
    out.put("\",\"creationDate\":");
    out.put_signed(time_ms);
}

/// Writes fields and records which of them were cut.
#[derive(Default)]
struct TruncatedFields(Vec<&'static str>);

impl TruncatedFields {
    /// Writes `,"name":` and a value of at most 64 KB.
    fn field(
        &mut self,
        name: &'static str,
        out: &mut EventBuffer,
        write: impl FnOnce(&mut Capped, &mut EventBuffer),
    ) {
        out.put(",\"");
        out.put(name);
        out.put("\":");
        let mut field = Capped::new();
        write(&mut field, out);
        if field.is_cut() {
            self.0.push(name);
        }
        out.flush_if_large();
    }

    fn end(self, out: &mut EventBuffer) {
        for (at, name) in self.0.iter().enumerate() {
            out.put(if at == 0 { ",\"Truncated\":[\"" } else { "\",\"" });
            out.put(name);
        }
        out.put(if self.0.is_empty() { "}" } else { "\"]}" });
    }
}

fn cloud(record: &Record, truncated: &mut TruncatedFields, out: &mut EventBuffer) {
    let values = capped::members(record.text, CLOUD_MEMBERS);
    for (name, value) in CLOUD_MEMBERS.into_iter().zip(values) {
        if let Some(value) = value {
            truncated.field(name, out, |field, out| match name {
                "affectedObject" => affected_object(value, field, out),
                _ => field.value(value, out),
            });
        }
    }
}

/// Cloud has the type of an object in `objectType`. Microsoft's rule fills the column from `type`.
fn affected_object(json: &str, field: &mut Capped, out: &mut EventBuffer) {
    let [kind, type_member] = object(Token::new(json), ["objectType", "type"]);
    match kind.text() {
        Some(kind) if type_member.is_missing() => field.object_with("type", kind.escaped(), json, out),
        _ => field.value(json, out),
    }
}

fn data_center(record: &Record, truncated: &mut TruncatedFields, out: &mut EventBuffer) {
    truncated.field("author", out, |field, out| author(record, field, out));
    if let Some(source) = record.source.text() {
        truncated.field("remoteAddress", out, |field, out| {
            let text = source.decoded();
            match address::addresses(&text).next() {
                Some((address, _)) => field.plain(address, out),
                None => field.text(source.escaped(), out),
            }
        });
    }
    for (name, text) in [
        ("summary", record.action.text().or(record.action_key.text())),
        ("category", record.category.text().or(record.category_key.text())),
    ] {
        if let Some(text) = text {
            truncated.field(name, out, |field, out| field.text(text.escaped(), out));
        }
    }
    if !record.extra_attributes.is_missing() {
        truncated.field("description", out, |field, out| description(record, field, out));
    }
    affected_objects(record, truncated, out);
    truncated.field("changedValues", out, |field, out| changed_values(record, field, out));
}

fn author(record: &Record, field: &mut Capped, out: &mut EventBuffer) {
    let author = &record.author;
    let login = login(author.uri);
    let id = author.id.text().map(Text::escaped);
    let mut first = true;
    field.raw("{", out);
    for (key, value) in [
        ("\"type\":", author.kind.text().map(Text::escaped)),
        ("\"displayName\":", author.name.text().map(Text::escaped)),
        ("\"accountId\":", id),
        ("\"userKey\":", id),
        ("\"username\":", login.as_deref()),
    ] {
        if let Some(value) = value {
            field.raw(if std::mem::take(&mut first) { "" } else { "," }, out);
            field.raw(key, out);
            field.text(value, out);
        }
    }
    field.raw("}", out);
}

/// Writes the extra attributes, one `name: value` per line.
fn description(record: &Record, field: &mut Capped, out: &mut EventBuffer) {
    field.raw("\"", out);
    let mut first = true;
    for_each_element(record.extra_attributes, |element| {
        let [name, key, value] = object(element, ["name", "nameI18nKey", "value"]);
        let name = name.text().or(key.text()).map(Text::escaped);
        let value = value_text(value);
        let Some(head) = name.or(value.as_deref()) else {
            return;
        };
        if !std::mem::take(&mut first) {
            field.piece("\\n", out);
        }
        field.piece(head, out);
        if let Some(value) = value.as_deref().filter(|value| *value != head) {
            field.piece(": ", out);
            field.piece(value, out);
        }
    });
    field.raw("\"", out);
}

/// The first object is the one that was acted on, the others are associated.
fn affected_objects(record: &Record, truncated: &mut TruncatedFields, out: &mut EventBuffer) {
    let mut first = None;
    for_each_object(record, |object| first = first.or(Some(object)));
    if let Some(first) = first {
        truncated.field("affectedObject", out, |field, out| {
            field.raw("{", out);
            write_name_and_type(first, field, out);
            // The member that Microsoft's rule maps to the column.
            field.raw(",\"type\":", out);
            field.text(first[1].map_or("", Text::escaped), out);
            field.raw("}", out);
        });
    }
    truncated.field("associatedObjects", out, |field, out| {
        let mut at = 0;
        field.raw("[", out);
        for_each_object(record, |object| {
            if at > 0 {
                field.element(at == 1, out, |field, out| {
                    field.raw("{", out);
                    write_name_and_type(object, field, out);
                    field.raw("}", out);
                });
            }
            at += 1;
        });
        field.raw("]", out);
    });
}

type NameAndType<'a> = [Option<Text<'a>>; 2];

fn for_each_object<'a>(record: &Record<'a>, mut each: impl FnMut(NameAndType<'a>)) {
    for_each_element(record.affected_objects, |element| {
        let object = object(element, ["name", "type"]).map(Token::text);
        if object != [None, None] {
            each(object);
        }
    });
}

fn write_name_and_type([name, kind]: NameAndType, field: &mut Capped, out: &mut EventBuffer) {
    field.raw("\"name\":", out);
    field.text(name.map_or("", Text::escaped), out);
    field.raw(",\"objectType\":", out);
    field.text(kind.map_or("", Text::escaped), out);
}

fn changed_values(record: &Record, field: &mut Capped, out: &mut EventBuffer) {
    let mut first = true;
    field.raw("[", out);
    for_each_element(record.changed_values, |element| {
        let [key, i18n_key, from, to] = object(element, ["key", "i18nKey", "from", "to"]);
        let name = key.text().or(i18n_key.text());
        let [from, to] = [from, to].map(value_text);
        if name.is_none() && from.is_none() && to.is_none() {
            return;
        }
        field.element(std::mem::take(&mut first), out, |field, out| {
            field.raw("{\"name\":", out);
            field.text(name.map_or("", Text::escaped), out);
            field.raw(",\"oldValue\":", out);
            field.text(&from.unwrap_or_default(), out);
            field.raw(",\"newValue\":", out);
            field.text(&to.unwrap_or_default(), out);
            field.raw(",\"hiddenOldValue\":\"\",\"hiddenNewValue\":\"\"}", out);
        });
    });
    field.raw("]", out);
}

#[cfg(test)]
mod tests;
