//! What something was done to: affected objects and changed values.

use super::super::out::{Object, Out};
use crate::record::walk::for_each_element;
use crate::record::{Record, Shape, Text, Token, object};

/// An object with a name or an id.
#[derive(Clone, Copy)]
pub struct Thing<'a> {
    pub kind: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
    pub id: Option<Text<'a>>,
    pub uri: Option<Text<'a>>,
}

impl Thing<'_> {
    pub fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|own| own.is(kind))
    }

    /// Writes it as a resource; one of the web has an address.
    pub fn write(&self, web: bool, out: &mut Out) {
        let mut object = Object::new("{");
        for (key, text) in [
            (",\"name\":", self.name),
            (",\"type\":", self.kind),
            (",\"uid\":", self.id),
            (",\"url_string\":", self.uri.filter(|_| web)),
        ] {
            object.text(key, text, out);
        }
        object.end(out);
    }
}

/// Hands on each object, what was acted on first.
pub fn for_each<'a>(record: &Record<'a>, mut each: impl FnMut(Thing<'a>)) {
    let kind_name = match record.shape {
        Shape::Cloud => "objectType",
        Shape::File | Shape::Entity => "type",
    };
    for list in [record.affected_object, record.affected_objects] {
        for_each_element(list, |element| {
            let [kind, name, id, uri] = object(element, [kind_name, "name", "id", "uri"]).map(Token::text);
            if name.is_some() || id.is_some() {
                each(Thing { kind, name, id, uri });
            }
        });
    }
}

pub fn first<'a>(record: &Record<'a>, which: impl Fn(&Thing) -> bool) -> Option<Thing<'a>> {
    let mut first = None;
    for_each(record, |thing| {
        if first.is_none() && which(&thing) {
            first = Some(thing);
        }
    });
    first
}

/// The user or group that an event is about: an object, or a changed value of that name.
pub fn grantee<'a>(record: &Record<'a>, kind: &str) -> Option<Thing<'a>> {
    first(record, |thing| thing.is(kind)).or_else(|| {
        Some(Thing {
            kind: None,
            name: Some(changed_value(record, kind)?),
            id: None,
            uri: None,
        })
    })
}

/// What a value was changed to, or else from.
pub fn changed_value<'a>(record: &Record<'a>, wanted: &str) -> Option<Text<'a>> {
    let names = match record.shape {
        Shape::Cloud => ["name", "oldValue", "newValue"],
        Shape::File | Shape::Entity => ["i18nKey", "from", "to"],
    };
    let mut found = None;
    for_each_element(record.changed_values, |element| {
        let [key, from, to] = object(element, names).map(Token::text);
        if key.is_some_and(|key| key.is(wanted)) {
            found = found.or(to).or(from);
        }
    });
    found
}

/// Writes those that are wanted as a list, `open` before it; returns whether there is any.
pub fn list(record: &Record, open: &str, web: bool, wanted: impl Fn(&Thing) -> bool, out: &mut Out) -> bool {
    let mut any = false;
    for_each(record, |thing| {
        if wanted(&thing) {
            out.put(if any { "," } else { open });
            thing.write(web, out);
            out.room();
            any = true;
        }
    });
    if any {
        out.put("]");
    }
    any
}
