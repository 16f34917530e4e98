//! Open Cybersecurity Schema Framework 1.8.0. The class depends on the table in `taxonomy.rs`.
//! docs/FORMATS.md describes each attribute. The tests validate events against the published schema.

mod attributes;
mod class;
mod endpoints;
mod person;
mod resources;

#[cfg(test)]
mod tests;

use super::affected;
use super::escape::{escape, escape_long, quoted};
use super::event_kind::{ActionClass, OTHER, Severity};
use super::kind::OCSF_START;
use super::object::Object;
use super::taxonomy::Taxonomy;
use super::{Context, Event, EventBuffer, Origin, message, tags};
use crate::notice::Notice;
use crate::record::{EventId, Parsed, Record, Shape, Text, Token, address};
use attributes::ClassAttributes;
use class::OcsfClass;

/// Writes OCSF events.
#[derive(Clone, Debug)]
pub struct Ocsf {
    taxonomy: Taxonomy,
    /// A JSON string with its quotes.
    site: Option<String>,
    /// The constant members of `metadata`, indexed by shape (Data Center, Cloud) and by [`tags::own_tag`].
    metadata: [[String; 3]; 2],
    /// The agent as an application: a JSON object.
    app: String,
    preserve_original_event: bool,
}

impl Ocsf {
    pub fn new(context: &Context) -> Self {
        let for_all_tags =
            |tags: Vec<String>| tags::OWN_TAGS.map(|own_tag| metadata(context, &tags, own_tag));
        Ocsf {
            taxonomy: Taxonomy::default(),
            site: context.site().map(quoted),
            metadata: [for_all_tags(tags::data_center(context)), for_all_tags(tags::cloud(context))],
            app: format!(
                "{{\"name\":{},\"version\":{}}}",
                quoted(crate::NAME),
                quoted(&context.agent.version)
            ),
            preserve_original_event: context.preserve_original_event,
        }
    }

    pub(super) fn write(&self, event: &Event, out: &mut EventBuffer) {
        match event.content {
            Parsed::Record(record) => self.audit_event(record, event, out),
            Parsed::Unreadable { error, bytes, .. } => self.unreadable(error, bytes, event, out),
        }
    }

    fn audit_event(&self, record: &Record, event: &Event, out: &mut EventBuffer) {
        let url = record.system.text().map(Text::decoded);
        let host = url.as_deref().and_then(address::host);
        let kind = self.taxonomy.kind(record);
        let attributes = ClassAttributes::of(record, &kind, host.as_deref());
        let of_cloud = usize::from(record.shape == Shape::Cloud);
        let constants = &self.metadata[of_cloud][tags::own_tag(event)];
        self.head(event.id, constants, event.read_at_ms, host.as_deref(), out);
        if let Some(code) = record.stable_action() {
            out.put(",\"event_code\":");
            out.put_long(code.quoted());
        }
        log_source(event, out);
        original_time(record.time, out);
        let (class, activity) = attributes.activity;
        // This class has an actor only with this profile.
        out.put(match class {
            ActionClass::WebResources => ",\"profiles\":[\"host\"]}",
            _ => "}",
        });
        self.class(class::class_of(class), activity, record.action.text(), kind.severity, out);
        let (status_id, status) = class::status(kind.status);
        out.put(",\"status_id\":");
        out.put_number(status_id);
        out.put(",\"status\":\"");
        out.put(status);
        out.put("\",\"time\":");
        out.put_signed(record.time_ms.unwrap_or(event.read_at_ms));
        out.put(",\"message\":\"");
        message::write(record, out);
        out.put("\"");
        attributes.write(out);
        if self.preserve_original_event {
            out.put(",\"raw_data\":\"");
            escape_long(record.original, out);
            out.put("\"");
        }
        unmapped(record, event, class, out);
        out.put("}");
    }

    /// Writes `metadata` up to the event's own members.
    fn head(&self, id: EventId, constants: &str, read_at_ms: i64, host: Option<&str>, out: &mut EventBuffer) {
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

    fn class(
        &self,
        ocsf_class: OcsfClass,
        activity: u8,
        action: Option<Text>,
        severity: Severity,
        out: &mut EventBuffer,
    ) {
        out.put(",\"activity_id\":");
        out.put_number(activity.into());
        out.put(",\"activity_name\":");
        match action.filter(|_| activity == OTHER) {
            // An activity that is not in the schema has the name of the action.
            Some(action) => out.put_long(action.quoted()),
            None => {
                out.put("\"");
                out.put(ocsf_class.activity(activity));
                out.put("\"");
            }
        }
        out.put(",\"category_name\":\"");
        out.put(ocsf_class.category);
        out.put("\",\"category_uid\":");
        out.put_number(ocsf_class.category_uid.into());
        out.put(",\"class_name\":\"");
        out.put(ocsf_class.name);
        out.put("\",\"class_uid\":");
        out.put_number(ocsf_class.uid.into());
        out.put(",\"type_name\":\"");
        out.put(ocsf_class.name);
        out.put(": ");
        out.put(ocsf_class.activity(activity));
        out.put("\",\"type_uid\":");
        out.put_number(u64::from(ocsf_class.uid) * 100 + u64::from(activity));
        let (severity_id, severity) = class::severity(severity);
        out.put(",\"severity_id\":");
        out.put_number(severity_id);
        out.put(",\"severity\":\"");
        out.put(severity);
        out.put("\"");
    }

    pub(super) fn write_notice(&self, notice: &Notice, out: &mut EventBuffer) {
        let severity = Severity::of_notice(notice.action);
        self.head(notice.id, &self.metadata[0][tags::PLAIN], notice.at_ms, None, out);
        out.put(",\"event_code\":\"");
        out.put(notice.action);
        out.put("\"}");
        let (class, activity) = class::of_notice(notice.action);
        let is_lifecycle = class.uid != class::BASE.uid;
        self.class(class, activity, None, severity, out);
        if is_lifecycle {
            out.put(",\"app\":");
            out.put(&self.app);
        }
        out.put(",\"status_id\":0,\"status\":\"Unknown\",\"time\":");
        out.put_signed(notice.at_ms);
        out.put(",\"message\":\"");
        escape_long(&notice.message, out);
        if let Some(original) = &notice.original {
            out.put("\",\"raw_data\":\"");
            escape_long(original, out);
        }
        out.put("\"");
        let mut unmapped = Object::new(",\"unmapped\":{");
        let mut agent = unmapped.object(",\"agent\":");
        for (name, value) in &notice.fields.0 {
            agent.field(name, value, out);
        }
        agent.end(out);
        unmapped.end(out);
        out.put("}");
    }

    fn unreadable(&self, error: &str, bytes: &[u8], event: &Event, out: &mut EventBuffer) {
        let constants = &self.metadata[0][tags::own_tag(event)];
        self.head(event.id, constants, event.read_at_ms, None, out);
        out.put(",\"event_code\":\"pipeline_error\"");
        log_source(event, out);
        out.put("}");
        self.class(class::BASE, 0, None, Severity::Medium, out);
        out.put(",\"status_id\":2,\"status\":\"Failure\",\"status_detail\":\"");
        escape_long(error, out);
        out.put("\",\"time\":");
        out.put_signed(event.read_at_ms);
        // Written even without `preserve_original_event`: the event contains nothing else of the record.
        out.put(",\"message\":\"Unreadable audit record\",\"raw_data\":\"");
        escape_long(&String::from_utf8_lossy(bytes), out);
        out.put("\"");
        let mut unmapped = Object::new(",\"unmapped\":{");
        log_offset(event, &mut unmapped, out);
        unmapped.end(out);
        out.put("}");
    }
}

fn metadata(context: &Context, tags: &[String], own_tag: Option<&str>) -> String {
    let labels: Vec<String> =
        tags.iter().map(String::as_str).chain(own_tag).filter(|tag| !tag.is_empty()).map(quoted).collect();
    let labels = match labels.as_slice() {
        [] => String::new(),
        some => format!("\"labels\":[{}],", some.join(",")),
    };
    // `convert` has no state directory and therefore no id.
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

fn log_source(event: &Event, out: &mut EventBuffer) {
    if let Origin::File { path_json, .. } = event.origin {
        out.put(",\"log_source\":");
        out.put(path_json);
    }
}

fn log_offset(event: &Event, object: &mut Object, out: &mut EventBuffer) {
    if let Origin::File { offset, .. } = event.origin {
        object.number(",\"log_offset\":", offset, out);
    }
}

/// Writes the time as it is in the record. A JSON value that is not a string is written as a string.
fn original_time(time: Token, out: &mut EventBuffer) {
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

/// Writes the members of the record without an attribute of their own.
fn unmapped(record: &Record, event: &Event, class: ActionClass, out: &mut EventBuffer) {
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
        // Two classes have an attribute for all objects.
        let is_mapped =
            key.contains("object") && matches!(class, ActionClass::WebResources | ActionClass::Api);
        if !is_mapped {
            object.pruned(key, list, record.has_clean_lists, out);
        }
    }
    log_offset(event, &mut object, out);
    if !record.problems.is_empty() {
        let problems: Vec<String> = record.problems.iter().map(ToString::to_string).collect();
        object.plain(",\"error\":", &problems.join("; "), out);
    }
    object.end(out);
}
