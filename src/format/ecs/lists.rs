//! Lists of Cloud records, which are mapped member by member.

use super::super::buffer::EventBuffer;
use super::super::object::Object;
use crate::record::json::for_each_element;
use crate::record::{Record, Text, Token, object};

/// Writes `associatedObjects`, then `affectedObject` unless it is in that list. `objectType` becomes `type`.
pub(super) fn write_cloud_objects(record: &Record, audit: &mut Object, out: &mut EventBuffer) {
    let affected = name_and_type(record.affected_object);
    let mut is_listed = false;
    let mut list = audit.list(",\"affected_objects\":");
    let mut write = |(name, kind): (Option<Text>, Option<Text>), out: &mut EventBuffer| {
        let mut object = list.object();
        object.text(",\"name\":", name, out);
        object.text(",\"type\":", kind, out);
        object.end(out);
        out.flush_if_large();
    };
    for_each_element(record.affected_objects, |element| {
        let object = name_and_type(element);
        is_listed |= is_same_text(object.0, affected.0) && is_same_text(object.1, affected.1);
        write(object, out);
    });
    if !is_listed {
        write(affected, out);
    }
    list.end(out);
}

fn name_and_type(element: Token) -> (Option<Text>, Option<Text>) {
    let [name, kind] = object(element, ["name", "objectType"]);
    (name.text(), kind.text())
}

fn is_same_text(a: Option<Text>, b: Option<Text>) -> bool {
    a == b || a.map(Text::decoded) == b.map(Text::decoded)
}

/// Writes `changedValues`: `name` becomes `i18nKey` and `key`; `oldValue` and `newValue` become `from` and
/// `to`. Hidden values are omitted.
pub(super) fn write_cloud_changes(record: &Record, audit: &mut Object, out: &mut EventBuffer) {
    let mut list = audit.list(",\"changed_values\":");
    for_each_element(record.changed_values, |element| {
        let [name, from, to] = object(element, ["name", "oldValue", "newValue"]);
        let mut object = list.object();
        object.pruned(",\"from\":", from, false, out);
        object.text(",\"i18nKey\":", name.text(), out);
        object.text(",\"key\":", name.text(), out);
        object.pruned(",\"to\":", to, false, out);
        object.end(out);
        out.flush_if_large();
    });
    list.end(out);
}
