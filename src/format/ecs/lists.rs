//! Cloud's lists, which are mapped member by member.

use super::super::out::{Object, Out};
use crate::record::walk::for_each_element;
use crate::record::{Record, Text, Token, object};

/// Writes `associatedObjects`, then `affectedObject` unless an equal one is there; `objectType` becomes `type`.
/// Returns without a trace if there is none. `open` stands before the list.
pub fn write_cloud_objects(record: &Record, open: &mut Object, out: &mut Out) {
    let affected = named(record.affected_object);
    let mut seen = affected == (None, None);
    let mut count = 0;
    let mut write = |(name, kind): (Option<Text>, Option<Text>), out: &mut Out| {
        if (name, kind) == (None, None) {
            return;
        }
        if count == 0 {
            open.key(",\"affected_objects\":[", out);
        } else {
            out.put(",");
        }
        count += 1;
        let mut object = Object::new("{");
        for (key, text) in [(",\"name\":", name), (",\"type\":", kind)] {
            if let Some(text) = text {
                object.key(key, out);
                out.put_long(text.quoted());
            }
        }
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
    if count > 0 {
        out.put("]");
    }
}

fn named(element: Token) -> (Option<Text>, Option<Text>) {
    let [name, kind] = object(element, ["name", "objectType"]);
    (name.text(), kind.text())
}

fn same(a: Option<Text>, b: Option<Text>) -> bool {
    a == b || a.map(Text::decoded) == b.map(Text::decoded)
}

/// Writes `changedValues`: `name` becomes `i18nKey` and `key`, the values `from` and `to`; what is hidden is left
/// out.
pub fn write_cloud_changes(record: &Record, open: &mut Object, out: &mut Out) {
    let mut count = 0;
    for_each_element(record.changed_values, |element| {
        let [name, from, to] = object(element, ["name", "oldValue", "newValue"]).map(Token::text);
        if name.is_none() && from.is_none() && to.is_none() {
            return;
        }
        if count == 0 {
            open.key(",\"changed_values\":[", out);
        } else {
            out.put(",");
        }
        count += 1;
        let mut object = Object::new("{");
        for (key, text) in [
            (",\"from\":", from),
            (",\"i18nKey\":", name),
            (",\"key\":", name),
            (",\"to\":", to),
        ] {
            if let Some(text) = text {
                object.key(key, out);
                out.put_long(text.quoted());
            }
        }
        object.end(out);
        out.room();
    });
    if count > 0 {
        out.put("]");
    }
}
