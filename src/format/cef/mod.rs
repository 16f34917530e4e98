//! ArcSight's Common Event Format (CEF): one line of text, supported by syslog receivers and most SIEMs.
//! docs/FORMATS.md describes each key.

mod lists;
mod text;

use super::event_kind::Severity;
use super::kind::{CEF_ID, CEF_START};
use super::message;
use super::tags;
use super::taxonomy::Taxonomy;
use super::users::Users;
use super::{Context, Event, EventBuffer};
use crate::notice::{FieldValue, Fields, Notice};
use crate::record::{EventId, Parsed, Record, Shape, Text, address};
use std::net::IpAddr;
use text::Limited;

/// Writes CEF events.
#[derive(Clone, Debug)]
pub struct Cef {
    /// The header up to the signature id.
    head: String,
    taxonomy: Taxonomy,
    site: Option<String>,
    /// Indexed by shape (Data Center, Cloud) and by [`tags::own_tag`].
    tags: [[String; 3]; 2],
}

// Maximum lengths in characters, by ArcSight's dictionary.
const SIGNATURE_MAX: usize = 1023;
const NAME_MAX: usize = 512;
const VERSION_MAX: usize = 31;
const TEXT_MAX: usize = 1023;
const CUSTOM_MAX: usize = 4000;
const ACT_MAX: usize = 63;
const HOST_MAX: usize = 100;
const NODE_MAX: usize = 255;

/// An unreadable record is decoded up to this size. A value is shorter.
const UNREADABLE_BYTES_MAX: usize = 4 * CUSTOM_MAX;

impl Cef {
    pub fn new(context: &Context) -> Self {
        let mut out = EventBuffer::new();
        out.put(CEF_START);
        let mut version = Limited::header(VERSION_MAX);
        version.plain(&context.agent.version, &mut out);
        out.put("|");
        let join = |tags: Vec<String>| {
            tags::OWN_TAGS.map(|own_tag| {
                let all: Vec<&str> = tags.iter().map(String::as_str).chain(own_tag).collect();
                all.join(",")
            })
        };
        Cef {
            head: String::from_utf8_lossy(&out.bytes).into_owned(),
            taxonomy: Taxonomy::default(),
            site: context.site().map(str::to_owned),
            tags: [join(tags::data_center(context)), join(tags::cloud(context))],
        }
    }

    pub(super) fn write(&self, event: &Event, out: &mut EventBuffer) {
        match event.content {
            Parsed::Record(record) => self.audit_event(record, event, out),
            Parsed::Unreadable { error, bytes, .. } => {
                let bytes = &bytes[..bytes.len().min(UNREADABLE_BYTES_MAX)];
                self.own_event(
                    "pipeline_error",
                    "Unreadable audit record",
                    Severity::Medium,
                    event.read_at_ms,
                    out,
                );
                custom(out, 1, "site", self.site.as_deref());
                plain(out, " reason=", TEXT_MAX, error);
                plain(out, " msg=", TEXT_MAX, &String::from_utf8_lossy(bytes));
                custom(out, 6, "tags", Some(&self.tags[0][tags::own_tag(event)]));
                end(event.id, out);
            }
        }
    }

    pub(super) fn write_notice(&self, notice: &Notice, out: &mut EventBuffer) {
        let severity = Severity::of_notice(notice.action);
        self.own_event(notice.action, notice.action, severity, notice.at_ms, out);
        custom(out, 1, "site", self.site.as_deref());
        match notice.fields.0.is_empty() {
            true => plain(out, " msg=", TEXT_MAX, &notice.text()),
            false => {
                named_values(&notice.fields, out);
                plain(out, " msg=", TEXT_MAX, &notice.message);
            }
        }
        custom(out, 6, "tags", Some(&self.tags[0][tags::PLAIN]));
        end(notice.id, out);
    }

    /// Writes the header of an event that is not an audit record.
    fn own_event(&self, signature: &str, name: &str, severity: Severity, at_ms: i64, out: &mut EventBuffer) {
        out.put(&self.head);
        out.put(signature);
        out.put("|");
        out.put(name);
        out.put("|");
        out.put(number(severity));
        out.put("|rt=");
        out.put_signed(at_ms);
    }

    fn audit_event(&self, record: &Record, event: &Event, out: &mut EventBuffer) {
        let kind = self.taxonomy.kind(record);
        out.put(&self.head);
        header(record.stable_action().or(record.action.text()), "unknown", SIGNATURE_MAX, out);
        header(record.action.text().or(record.stable_action()), "Unknown action", NAME_MAX, out);
        out.put(number(kind.severity));
        out.put("|rt=");
        out.put_signed(record.time_ms.unwrap_or(event.read_at_ms));
        source(record, out);
        let users = Users::of(record);
        value(
            out,
            " suser=",
            TEXT_MAX,
            users.user.name.as_ref().or(users.user.full_name.as_ref()).map(AsRef::as_ref),
        );
        value(out, " suid=", TEXT_MAX, users.user.id.as_deref());
        let target = users.target_of(record, kind.categories).unwrap_or_default();
        let target_name = target.name.as_deref().or(target.full_name.as_deref());
        value(out, " duser=", TEXT_MAX, target_name);
        value(out, " duid=", TEXT_MAX, target.id.as_deref());
        plain(out, " act=", ACT_MAX, kind.types.last().copied().unwrap_or("info"));
        value(
            out,
            " cat=",
            TEXT_MAX,
            record.category.text().or(record.category_key.text()).map(Text::escaped),
        );
        if let Some(outcome) = kind.status {
            plain(out, " outcome=", ACT_MAX, outcome);
        }
        let mut sentence = EventBuffer::new();
        message::write(record, &mut sentence);
        value(out, " msg=", TEXT_MAX, Some(&String::from_utf8_lossy(&sentence.bytes)));
        let url = record.system.text().map(Text::decoded);
        let host = url.as_deref().and_then(address::host);
        if let Some(host) = &host {
            plain(out, " dvchost=", HOST_MAX, host);
        }
        value(out, " deviceExternalId=", NODE_MAX, record.node.text().map(Text::escaped));
        custom(out, 1, "site", self.site.as_deref().or(host.as_deref()));
        if let Some(area) = record.area.text() {
            value(out, " cs2=", CUSTOM_MAX, Some(area.escaped()));
            out.put(" cs2Label=area");
        }
        lists::objects(record, out);
        lists::changed_values(record, out);
        lists::details(record, out);
        let of_cloud = usize::from(record.shape == Shape::Cloud);
        custom(out, 6, "tags", Some(&self.tags[of_cloud][tags::own_tag(event)]));
        if let Some(method) = record.method.text() {
            value(out, " flexString1=", TEXT_MAX, Some(method.escaped()));
            out.put(" flexString1Label=method");
        }
        for (at, problem) in record.problems.iter().enumerate() {
            if at == 0 {
                plain(out, " reason=", TEXT_MAX, &problem.to_string());
            }
        }
        end(event.id, out);
    }
}

/// The severity in CEF, 0 to 10.
fn number(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "1",
        Severity::Low => "3",
        Severity::Medium => "5",
        Severity::High => "8",
    }
}

fn header(text: Option<Text>, default: &str, max: usize, out: &mut EventBuffer) {
    let mut field = Limited::header(max);
    field.escaped(text.map_or(default, Text::escaped), out);
    out.put("|");
}

fn value(out: &mut EventBuffer, key: &str, max: usize, escaped: Option<&str>) {
    if let Some(escaped) = escaped {
        out.put(key);
        Limited::extension(max).escaped(escaped, out);
    }
}

fn plain(out: &mut EventBuffer, key: &str, max: usize, text: &str) {
    out.put(key);
    Limited::extension(max).plain(text, out);
}

/// Writes `csN` and its label.
fn custom(out: &mut EventBuffer, at: u64, label: &str, text: Option<&str>) {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return;
    };
    out.put(" cs");
    out.put_number(at);
    out.put("=");
    Limited::extension(CUSTOM_MAX).plain(text, out);
    out.put(" cs");
    out.put_number(at);
    out.put("Label=");
    out.put(label);
}

/// Writes the first values of an event of the agent itself, as many as CEF has keys for: `cn1` to `cn3` for numbers,
/// `cs2` to `cs5` for texts.
fn named_values(fields: &Fields, out: &mut EventBuffer) {
    let (mut numbers, mut texts) = (1..=3, 2..=5);
    for (name, value) in &fields.0 {
        match value {
            FieldValue::Text(text) => {
                if let Some(at) = texts.next() {
                    custom(out, at, name, Some(text));
                }
            }
            FieldValue::Number(number) => {
                if let Some(at) = numbers.next() {
                    out.put(" cn");
                    out.put_number(at);
                    out.put("=");
                    out.put_signed(*number);
                    out.put(" cn");
                    out.put_number(at);
                    out.put("Label=");
                    out.put(name);
                }
            }
        }
    }
}

/// Writes the source address. `src` allows IPv4 only; IPv6 has a key of its own.
fn source(record: &Record, out: &mut EventBuffer) {
    let Some(source) = record.source.text() else {
        return;
    };
    let text = source.decoded();
    match address::addresses(&text).next() {
        Some((address, IpAddr::V4(_))) => {
            out.put(" src=");
            out.put(address);
        }
        Some((address, IpAddr::V6(_))) => {
            out.put(" c6a2=");
            out.put(address);
            out.put(" c6a2Label=Source IPv6 Address");
        }
        None => plain(out, " shost=", TEXT_MAX, &text),
    }
}

fn end(id: EventId, out: &mut EventBuffer) {
    out.put(CEF_ID);
    out.bytes.extend_from_slice(&id.hex());
}

#[cfg(test)]
mod tests;
