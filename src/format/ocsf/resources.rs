//! Affected objects as OCSF resources.

use super::super::affected::{AffectedObject, for_each};
use super::super::buffer::EventBuffer;
use super::super::object::Object;
use crate::record::Record;

/// Writes an object as a resource. A web resource has a URL.
pub(super) fn write(object: &AffectedObject, web: bool, out: &mut EventBuffer) {
    let mut resource = Object::new("{");
    for (key, text) in [
        (",\"name\":", object.name),
        (",\"type\":", object.kind),
        (",\"uid\":", object.id),
        (",\"url_string\":", object.uri.filter(|_| web)),
    ] {
        resource.text(key, text, out);
    }
    resource.end(out);
}

/// Writes the objects that pass the filter as a list with `open` before it. Returns whether there is any.
pub(super) fn list(
    record: &Record,
    open: &str,
    web: bool,
    filter: impl Fn(&AffectedObject) -> bool,
    out: &mut EventBuffer,
) -> bool {
    let mut any = false;
    for_each(record, |object| {
        if (object.name.is_some() || object.id.is_some()) && filter(&object) {
            out.put(if any { "," } else { open });
            write(&object, web, out);
            out.flush_if_large();
            any = true;
        }
    });
    if any {
        out.put("]");
    }
    any
}
