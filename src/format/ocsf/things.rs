//! Objects as resources.

use super::super::affected::{AffectedObject, for_each};
use super::super::out::{Object, Out};
use crate::record::Record;

/// Writes it as a resource; one of the web has an address.
pub fn write(thing: &AffectedObject, web: bool, out: &mut Out) {
    let mut object = Object::new("{");
    for (key, text) in [
        (",\"name\":", thing.name),
        (",\"type\":", thing.kind),
        (",\"uid\":", thing.id),
        (",\"url_string\":", thing.uri.filter(|_| web)),
    ] {
        object.text(key, text, out);
    }
    object.end(out);
}

/// Writes those that are wanted as a list, `open` before it; returns whether there is any.
pub fn list(
    record: &Record,
    open: &str,
    web: bool,
    wanted: impl Fn(&AffectedObject) -> bool,
    out: &mut Out,
) -> bool {
    let mut any = false;
    for_each(record, |thing| {
        if (thing.name.is_some() || thing.id.is_some()) && wanted(&thing) {
            out.put(if any { "," } else { open });
            write(&thing, web, out);
            out.room();
            any = true;
        }
    });
    if any {
        out.put("]");
    }
    any
}
