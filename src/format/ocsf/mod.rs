//! Open Cybersecurity Schema Framework 1.8.0. The class is told by the table of `taxonomy.rs`; docs/FORMATS.md has each
//! attribute. The tests validate events against the published schema.

mod class;
mod endpoints;
mod parts;
mod person;
mod things;

#[cfg(test)]
mod tests;

use super::affected;
use super::escape::{escape, escape_long, quoted};
use super::name::OCSF_START;
use super::out::Object;
use super::taxonomy::{ActionClass, OTHER, Severity, Taxonomy};
use super::{Context, Event, Origin, Out, message, tags};
use crate::notice::Notice;
use crate::record::{EventId, Parsed, Record, Shape, Text, Token, address};
use class::Names;
use parts::Parts;

/// Writes OCSF events.
#[derive(Clone, Debug)]
pub struct Ocsf {
    taxonomy: Taxonomy,
    /// Escaped, with quotes.
    site: Option<String>,
    /// The members of `metadata` that never change, by `tags::own_tag`; for Data Center and Cloud.
    metadata: [[String; 3]; 2],
    preserve_original_event: bool,
}

impl Ocsf {
    pub fn new(context: &Context) -> Self {
        let of = |tags: Vec<String>| tags::OWN_TAGS.map(|own| metadata(context, &tags, own));
        Ocsf {
            taxonomy: Taxonomy::new(),
            site: context.site().map(quoted),
            metadata: [of(tags::data_center(context)), of(tags::cloud(context))],
            preserve_original_event: context.preserve_original_event,
        }
    }

    pub(super) fn write(&self, item: &Event, out: &mut Out) {
        match item.content {
            Parsed::Record(record) => self.event(record, item, out),
            Parsed::Unreadable { error, bytes, .. } => self.unreadable(error, bytes, item, out),
        }
    }

    fn event(&self, record: &Record, item: &Event, out: &mut Out) {
        let url = record.system.text().map(Text::decoded);
        let host = url.as_deref().and_then(address::host);
        let kind = self.taxonomy.kind(record);
        let parts = Parts::of(record, &kind, host.as_deref());
        let of_cloud = usize::from(record.shape == Shape::Cloud);
        let constants = &self.metadata[of_cloud][tags::own_tag(item)];
        self.head(item.id, constants, item.read_at_ms, host.as_deref(), out);
        if let Some(code) = record.stable_action() {
            out.put(",\"event_code\":");
            out.put_long(code.quoted());
        }
        log_source(item, out);
        original_time(record.time, out);
        let (class, activity) = parts.activity;
        // The one class that has no actor but by this profile.
        out.put(match class {
            ActionClass::WebResources => ",\"profiles\":[\"host\"]}",
            _ => "}",
        });
        self.class(
            class::names(class),
            activity,
            record.action.text(),
            kind.severity,
            out,
        );
        let (status_id, status) = class::status(kind.status);
        out.put(",\"status_id\":");
        out.put_number(status_id);
        out.put(",\"status\":\"");
        out.put(status);
        out.put("\",\"time\":");
        out.put_signed(record.time_ms.unwrap_or(item.read_at_ms));
        out.put(",\"message\":\"");
        message::write(record, out);
        out.put("\"");
        parts.write(out);
        if self.preserve_original_event {
            out.put(",\"raw_data\":\"");
            escape_long(record.original, out);
            out.put("\"");
        }
        unmapped(record, item, class, out);
        out.put("}");
    }

    /// `metadata` up to where an event's own members follow.
    fn head(&self, id: EventId, constants: &str, read_at_ms: i64, host: Option<&str>, out: &mut Out) {
        out.put(OCSF_START);
        out.bytes.extend_from_slice(&id.hex());
        out.put("\",");
        out.put(constants);
        out.put(",\"logged_time\":");
        out.put_signed(read_at_ms);
        if let Some(site) = &self.site {
            out.put(",\"tenant_uid\":");
            out.put(site);
        } else if let Some(host) = host {
            out.put(",\"tenant_uid\":\"");
            escape(host, &mut out.bytes);
            out.put("\"");
        }
    }

    fn class(&self, names: Names, activity: u8, action: Option<Text>, severity: Severity, out: &mut Out) {
        out.put(",\"activity_id\":");
        out.put_number(activity.into());
        out.put(",\"activity_name\":");
        match action.filter(|_| activity == OTHER) {
            // What is none of the schema's activities goes by the source's own name.
            Some(action) => out.put_long(action.quoted()),
            None => {
                out.put("\"");
                out.put(names.activity(activity));
                out.put("\"");
            }
        }
        out.put(",\"category_name\":\"");
        out.put(names.category);
        out.put("\",\"category_uid\":");
        out.put_number(names.category_uid.into());
        out.put(",\"class_name\":\"");
        out.put(names.name);
        out.put("\",\"class_uid\":");
        out.put_number(names.uid.into());
        out.put(",\"type_name\":\"");
        out.put(names.name);
        out.put(": ");
        out.put(names.activity(activity));
        out.put("\",\"type_uid\":");
        out.put_number(u64::from(names.uid) * 100 + u64::from(activity));
        let (severity_id, severity) = class::severity(severity);
        out.put(",\"severity_id\":");
        out.put_number(severity_id);
        out.put(",\"severity\":\"");
        out.put(severity);
        out.put("\"");
    }

    pub(super) fn write_notice(&self, told: &Notice, out: &mut Out) {
        let severity = Severity::of_notice(told.action);
        self.head(told.id, &self.metadata[0][tags::PLAIN], told.at_ms, None, out);
        out.put(",\"event_code\":\"");
        out.put(told.action);
        out.put("\"}");
        self.class(class::BASE, OTHER, None, severity, out);
        out.put(",\"status_id\":0,\"status\":\"Unknown\",\"time\":");
        out.put_signed(told.at_ms);
        out.put(",\"message\":\"");
        escape_long(&told.message, out);
        out.put("\"}");
    }

    fn unreadable(&self, error: &str, bytes: &[u8], item: &Event, out: &mut Out) {
        let constants = &self.metadata[0][tags::own_tag(item)];
        self.head(item.id, constants, item.read_at_ms, None, out);
        out.put(",\"event_code\":\"pipeline_error\"");
        log_source(item, out);
        out.put("}");
        self.class(class::BASE, 0, None, Severity::Medium, out);
        out.put(",\"status_id\":2,\"status\":\"Failure\",\"status_detail\":\"");
        escape_long(error, out);
        out.put("\",\"time\":");
        out.put_signed(item.read_at_ms);
        // Kept whatever is configured: nothing else of the record is in the event.
        out.put(",\"message\":\"Unreadable audit record\",\"raw_data\":\"");
        escape_long(&String::from_utf8_lossy(bytes), out);
        out.put("\"");
        let mut unmapped = Object::new(",\"unmapped\":{");
        log_offset(item, &mut unmapped, out);
        unmapped.end(out);
        out.put("}");
    }
}

fn metadata(context: &Context, tags: &[String], own_tag: Option<&str>) -> String {
    let labels: Vec<String> = tags
        .iter()
        .map(String::as_str)
        .chain(own_tag)
        .filter(|tag| !tag.is_empty())
        .map(quoted)
        .collect();
    let labels = match labels.as_slice() {
        [] => String::new(),
        some => format!("\"labels\":[{}],", some.join(",")),
    };
    // `convert` has no state directory, and so no id.
    let id = match context.agent.id.as_str() {
        "" => String::new(),
        id => format!(",\"uid\":{}", quoted(id)),
    };
    format!(
        concat!(
            "{}\"log_format\":\"JSON\",\"log_name\":\"atlassian_confluence.audit\",\"log_provider\":\"Confluence\",",
            "\"loggers\":[{{\"name\":{}{},\"version\":{}}}],",
            "\"product\":{{\"feature\":{{\"name\":\"Audit log\"}},\"name\":\"Confluence\",\"vendor_name\":\"Atlassian\"}},",
            "\"version\":\"1.8.0\""
        ),
        labels,
        quoted(crate::NAME),
        id,
        quoted(&context.agent.version),
    )
}

fn log_source(item: &Event, out: &mut Out) {
    if let Origin::File { path_json, .. } = item.origin {
        out.put(",\"log_source\":");
        out.put(path_json);
    }
}

fn log_offset(item: &Event, object: &mut Object, out: &mut Out) {
    if let Origin::File { offset, .. } = item.origin {
        object.number(",\"log_offset\":", offset, out);
    }
}

/// The time as it stands in the record; JSON that is no text becomes one.
fn original_time(time: Token, out: &mut Out) {
    if time.is_missing() {
        return;
    }
    out.put(",\"original_time\":");
    match time.text() {
        Some(text) => out.put_long(text.quoted()),
        None => {
            out.put("\"");
            escape_long(time.raw(), out);
            out.put("\"");
        }
    }
}

/// What has no attribute of its own.
fn unmapped(record: &Record, item: &Event, class: ActionClass, out: &mut Out) {
    let mut object = Object::new(",\"unmapped\":{");
    for (key, token) in [
        (",\"area\":", record.area),
        (",\"author_type\":", record.author.kind),
        (",\"category\":", record.category),
        (",\"category_key\":", record.category_key),
        (",\"description\":", record.description),
        (",\"level\":", record.level),
        (",\"method\":", record.method),
        (",\"node\":", record.node),
    ] {
        object.text(key, token.text(), out);
    }
    for (key, value) in [
        (",\"external_collaborator\":", record.author.external_collaborator),
        (",\"guest\":", record.author.guest),
        (",\"super_admin\":", record.super_admin),
        (",\"sys_admin\":", record.sys_admin),
    ] {
        object.boolean(key, value, out);
    }
    let acted_on = match affected::is_repeated(record) {
        true => Token::MISSING,
        false => record.affected_object,
    };
    for (key, list) in [
        (",\"affected_object\":", acted_on),
        (",\"affected_objects\":", record.affected_objects),
        (",\"changed_values\":", record.changed_values),
        (",\"extra_attributes\":", record.extra_attributes),
    ] {
        // Two classes have a list for all objects.
        let told = key.contains("object") && matches!(class, ActionClass::WebResources | ActionClass::Api);
        if !told {
            object.pruned(key, list, record.has_clean_lists, out);
        }
    }
    log_offset(item, &mut object, out);
    if !record.problems.is_empty() {
        let problems: Vec<String> = record.problems.iter().map(ToString::to_string).collect();
        object.plain(",\"error\":", &problems.join("; "), out);
    }
    object.end(out);
}
