//! Elastic Common Schema 8.11, with the field mapping of Elastic's `atlassian_confluence` integration.
//! docs/MAPPING.md describes each field. Members are sorted by name where that costs nothing.

mod constants;
mod geo;
mod lists;
mod related;

#[cfg(test)]
mod tests;

use super::escape::EscapedText;
use super::escape::{escape, escape_long};
use super::event_kind::EventKind;
use super::object::Object;
use super::tags;
use super::taxonomy::Taxonomy;
use super::users::{GroupFields, Person, Users};
use super::{Context, Event, EventBuffer, Origin, message};
use crate::enrich::geo::Geo;
use crate::notice::{HEARTBEAT, Notice};
use crate::record::{Parsed, Record, Shape, Text, address, time};
use constants::Constants;
use std::sync::Arc;

/// Writes ECS events.
#[derive(Clone, Debug)]
pub struct Ecs {
    constants: Constants,
    taxonomy: Taxonomy,
    site: Option<String>,
    geo: Option<Arc<Geo>>,
    preserve_original_event: bool,
}

impl Ecs {
    pub fn new(context: &Context) -> Self {
        Ecs {
            constants: Constants::new(context),
            taxonomy: Taxonomy::default(),
            site: context.site().map(str::to_owned),
            geo: context.geo.clone(),
            preserve_original_event: context.preserve_original_event,
        }
    }

    pub(super) fn write(&self, event: &Event, out: &mut EventBuffer) {
        match event.content {
            Parsed::Record(record) => self.audit_event(record, event, out),
            Parsed::Unreadable { error, bytes, .. } => self.pipeline_error(error, bytes, event, out),
        }
    }

    fn audit_event(&self, record: &Record, event: &Event, out: &mut EventBuffer) {
        let constants = match record.shape {
            Shape::File | Shape::Entity => &self.constants.data_center,
            Shape::Cloud => &self.constants.cloud,
        };
        head(record.time_ms.unwrap_or(event.read_at_ms), constants, event, out);
        let url = record.system.text().map(Text::decoded);
        let host = url.as_deref().and_then(address::host);
        self.confluence(record, host.as_deref(), out);
        error(record, out);
        let kind = self.taxonomy.kind(record);
        self.event_fields(record, &kind, event, out);
        let users = Users::of(record);
        group(Object::new(",\"group\":{"), &users.group, out);
        out.put(match record.shape {
            Shape::File => ",\"input\":{\"type\":\"log\"}",
            Shape::Entity | Shape::Cloud => ",\"input\":{\"type\":\"api\"}",
        });
        log(event, out);
        out.put(",\"message\":\"");
        message::write(record, out);
        out.put("\"");
        related::write(record, host.as_deref(), &users, self.geo.as_deref(), out);
        if let Some(system) = record.system.text() {
            out.put(",\"service\":{\"address\":");
            out.put_long(system.quoted());
            out.put("}");
        }
        user(&users, out);
        out.put("}");
    }

    fn event_fields(&self, record: &Record, kind: &EventKind, event: &Event, out: &mut EventBuffer) {
        out.put(constants::EVENT);
        out.put("\"kind\":\"event\",\"id\":\"");
        out.bytes.extend_from_slice(&event.id.hex());
        out.put("\",\"created\":\"");
        out.bytes.extend_from_slice(&time::iso(event.read_at_ms));
        out.put("\",\"type\":");
        string_list(kind.types, out);
        if !kind.categories.is_empty() {
            out.put(",\"category\":");
            string_list(kind.categories, out);
        }
        if let Some(outcome) = kind.outcome {
            out.put(",\"outcome\":\"");
            out.put(outcome);
            out.put("\"");
        }
        if let Some(action) = record.stable_action() {
            out.put(",\"action\":");
            out.put_long(action.quoted());
        }
        if self.preserve_original_event {
            out.put(",\"original\":\"");
            escape_long(record.original, out);
            out.put("\"");
        }
        out.put("}");
    }

    fn confluence(&self, record: &Record, host: Option<&str>, out: &mut EventBuffer) {
        let mut audit = Object::new(",\"confluence\":{\"audit\":{");
        match record.shape {
            Shape::File | Shape::Entity => {
                for (key, list) in [
                    (",\"affected_objects\":", record.affected_objects),
                    (",\"changed_values\":", record.changed_values),
                    (",\"extra_attributes\":", record.extra_attributes),
                ] {
                    audit.pruned(key, list, record.has_clean_lists, out);
                }
            }
            Shape::Cloud => {
                lists::write_cloud_objects(record, &mut audit, out);
                lists::write_cloud_changes(record, &mut audit, out);
            }
        }
        audit.text(",\"author_type\":", record.author.kind.text(), out);
        audit.text(",\"description\":", record.description.text(), out);
        for (key, value) in [
            (",\"external_collaborator\":", record.author.external_collaborator),
            (",\"guest\":", record.author.guest),
            (",\"super_admin\":", record.super_admin),
            (",\"sys_admin\":", record.sys_admin),
        ] {
            audit.boolean(key, value, out);
        }
        audit.text(",\"method\":", record.method.text(), out);
        audit.text(",\"node\":", record.node.text(), out);
        if let Some(site) = self.site.as_deref().or(host) {
            audit.plain(",\"site\":", site, out);
        }
        let mut kind = audit.object(",\"type\":");
        for (key, token) in [
            (",\"action\":", record.action),
            (",\"actionI18nKey\":", record.action_key),
            (",\"area\":", record.area),
            (",\"category\":", record.category),
            (",\"categoryI18nKey\":", record.category_key),
            (",\"level\":", record.level),
        ] {
            kind.text(key, token.text(), out);
        }
        kind.end(out);
        if audit.end(out) {
            out.put("}");
        }
    }

    pub(super) fn write_notice(&self, notice: &Notice, out: &mut EventBuffer) {
        head_with(notice.at_ms, &self.constants.unreadable[tags::PLAIN], out);
        let mut audit = Object::new(",\"confluence\":{\"audit\":{");
        let mut agent = audit.object(",\"agent\":");
        for (name, value) in &notice.fields.0 {
            agent.field(name, value, out);
        }
        agent.end(out);
        if let Some(site) = &self.site {
            audit.plain(",\"site\":", site, out);
        }
        if audit.end(out) {
            out.put("}");
        }
        out.put(constants::EVENT);
        // A heartbeat is a measurement, and nothing has happened.
        out.put(if notice.action == HEARTBEAT { "\"kind\":\"metric\"" } else { "\"kind\":\"event\"" });
        out.put(",\"id\":\"");
        out.bytes.extend_from_slice(&notice.id.hex());
        out.put("\",\"created\":\"");
        out.bytes.extend_from_slice(&time::iso(notice.at_ms));
        out.put("\",\"type\":[\"info\"],\"action\":\"");
        out.put(notice.action);
        if let Some(original) = &notice.original {
            out.put("\",\"original\":\"");
            escape_long(original, out);
        }
        out.put("\"},\"message\":\"");
        escape_long(&notice.message, out);
        out.put("\"}");
    }

    fn pipeline_error(&self, error: &str, bytes: &[u8], event: &Event, out: &mut EventBuffer) {
        head(event.read_at_ms, &self.constants.unreadable, event, out);
        out.put(",\"error\":{\"message\":\"");
        escape_long(error, out);
        out.put("\"}");
        out.put(constants::EVENT);
        out.put("\"kind\":\"pipeline_error\",\"id\":\"");
        out.bytes.extend_from_slice(&event.id.hex());
        // Written even without `preserve_original_event`: the event contains nothing else of the record.
        out.put("\",\"original\":\"");
        escape_long(&String::from_utf8_lossy(bytes), out);
        out.put("\"},\"input\":{\"type\":\"log\"}");
        log(event, out);
        out.put("}");
    }
}

fn head(time_ms: i64, constants: &[String; 3], event: &Event, out: &mut EventBuffer) {
    head_with(time_ms, &constants[tags::own_tag(event)], out);
}

fn head_with(time_ms: i64, constants: &str, out: &mut EventBuffer) {
    out.put("{\"@timestamp\":\"");
    out.bytes.extend_from_slice(&time::iso(time_ms));
    out.put("\",");
    out.put(constants);
}

fn log(event: &Event, out: &mut EventBuffer) {
    if let Origin::File { path_json, offset, unterminated: _ } = event.origin {
        out.put(",\"log\":{\"file\":{\"path\":");
        out.put(path_json);
        out.put("},\"offset\":");
        out.put_number(offset);
        out.put("}");
    }
}

fn error(record: &Record, out: &mut EventBuffer) {
    for (at, problem) in record.problems.iter().enumerate() {
        out.put(if at == 0 { ",\"error\":{\"message\":\"" } else { "; " });
        escape(&problem.to_string(), &mut out.bytes);
    }
    if !record.problems.is_empty() {
        out.put("\"}");
    }
}

fn string_list(texts: &[&str], out: &mut EventBuffer) {
    out.put("[");
    for (at, word) in texts.iter().enumerate() {
        out.put(if at == 0 { "\"" } else { ",\"" });
        out.put(word);
        out.put("\"");
    }
    out.put("]");
}

fn group(mut object: Object, group: &GroupFields, out: &mut EventBuffer) {
    value(&mut object, ",\"id\":", group.id.as_ref(), out);
    value(&mut object, ",\"name\":", group.name.as_ref(), out);
    object.end(out);
}

fn user(users: &Users, out: &mut EventBuffer) {
    let mut object = Object::new(",\"user\":{");
    let mut changes = object.object(",\"changes\":");
    person(&mut changes, &users.changes, out);
    changes.end(out);
    person(&mut object, &users.user, out);
    let mut target = object.object(",\"target\":");
    person(&mut target, &users.target, out);
    group(target.object(",\"group\":"), &users.target_group, out);
    target.end(out);
    object.end(out);
}

fn person(object: &mut Object, person: &Person, out: &mut EventBuffer) {
    let Person { id, name, full_name, email } = person;
    value(object, ",\"email\":", email.as_ref(), out);
    value(object, ",\"full_name\":", full_name.as_ref(), out);
    value(object, ",\"id\":", id.as_ref(), out);
    value(object, ",\"name\":", name.as_ref(), out);
}

fn value(object: &mut Object, key: &str, value: Option<&EscapedText>, out: &mut EventBuffer) {
    if let Some(value) = value {
        object.escaped(key, value, out);
    }
}
