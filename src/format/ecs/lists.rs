//! Cloud's lists, which are mapped member by member.

use super::super::out::{Object, Out};
use crate::record::walk::for_each_element;
use crate::record::{Record, Text, Token, object};

/// Writes `associatedObjects`, then `affectedObject` unless an equal one is there; `objectType` becomes `type`.
pub fn write_cloud_objects(record: &Record, audit: &mut Object, out: &mut Out) {
    let affected = named(record.affected_object);
    let mut seen = false;
    let mut list = audit.list(",\"affected_objects\":");
    let mut write = |(name, kind): (Option<Text>, Option<Text>), out: &mut Out| {
        let mut object = list.object();
        object.text(",\"name\":", name, out);
        object.text(",\"type\":", kind, out);
        object.end(out);
        out.room();
    };
    for_each_element(record.affected_objects, |element| {
        let object = named(element);
        seen |= same(object.0, affected.0) && same(object.1, affected.1);
        write(object, out);
    });
    if !seen {
        write(affected, out);
    }
    list.end(out);
}

fn named(element: Token) -> (Option<Text>, Option<Text>) {
    let [name, kind] = object(element, ["name", "objectType"]);
    (name.text(), kind.text())
}

fn same(a: Option<Text>, b: Option<Text>) -> bool {
    a == b || a.map(Text::decoded) == b.map(Text::decoded)
}

/// Writes `changedValues`: `name` becomes `i18nKey` and `key`, the values `from` and `to`, whatever they are; what is
/// hidden is left out.
pub fn write_cloud_changes(record: &Record, audit: &mut Object, out: &mut Out) {
    let mut list = audit.list(",\"changed_values\":");
    for_each_element(record.changed_values, |element| {
        let [name, from, to] = object(element, ["name", "oldValue", "newValue"]);
        let mut object = list.object();
        object.pruned(",\"from\":", from, false, out);
        object.text(",\"i18nKey\":", name.text(), out);
        object.text(",\"key\":", name.text(), out);
        object.pruned(",\"to\":", to, false, out);
        object.end(out);
        out.room();
    });
    list.end(out);
}
