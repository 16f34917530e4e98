//! Lists as texts, because CEF has no lists.

use super::super::affected;
use super::super::buffer::EventBuffer;
use super::super::escape::value_text;
use super::text::Limited;
use super::{CUSTOM_MAX, TEXT_MAX, value};
use crate::record::json::for_each_element;
use crate::record::{Record, Shape, Text, object};

/// Writes all affected objects as one text. The first one that is not a user or group becomes the file of the
/// event.
pub(super) fn objects(record: &Record, out: &mut EventBuffer) {
    let mut all: Option<Limited> = None;
    let mut file = None;
    affected::for_each(record, |affected| {
        if affected.kind.is_none() && affected.name.is_none() {
            return;
        }
        if file.is_none() && !affected.is("User") && !affected.is("Group") {
            file = Some(affected);
        }
        let all = begin(&mut all, " cs3=", ", ", out);
        if let Some(kind) = affected.kind {
            all.escaped(kind.escaped(), out);
        }
        if let Some(name) = affected.name {
            all.plain(if affected.kind.is_some() { " " } else { "" }, out);
            all.escaped(name.escaped(), out);
        }
    });
    if all.is_some() {
        out.put(" cs3Label=affectedObjects");
    }
    if let Some(file) = file {
        value(out, " fname=", TEXT_MAX, file.name.map(Text::escaped));
        value(out, " fileType=", TEXT_MAX, file.kind.map(Text::escaped));
        value(out, " fileId=", TEXT_MAX, file.id.map(Text::escaped));
    }
}

/// Begins or continues a text of several parts: writes `key` before the first part and `between` before the
/// others.
fn begin<'t>(
    text: &'t mut Option<Limited>,
    key: &str,
    between: &str,
    out: &mut EventBuffer,
) -> &'t mut Limited {
    if let Some(text) = text.as_mut() {
        text.plain(between, out);
    } else {
        out.put(key);
    }
    text.get_or_insert_with(|| Limited::extension(CUSTOM_MAX))
}

/// Writes `key: from -> to; …`.
pub(super) fn changed_values(record: &Record, out: &mut EventBuffer) {
    let names = match record.shape {
        Shape::Cloud => ["name", "name", "oldValue", "newValue"],
        Shape::File | Shape::Entity => ["key", "i18nKey", "from", "to"],
    };
    let mut all = None;
    for_each_element(record.changed_values, |element| {
        let [key, i18n_key, from, to] = object(element, names);
        let key = key.text().or(i18n_key.text());
        let [from, to] = [from, to].map(value_text);
        if key.is_none() && from.is_none() && to.is_none() {
            return;
        }
        let all = begin(&mut all, " cs4=", "; ", out);
        all.escaped(key.map_or("", Text::escaped), out);
        all.plain(": ", out);
        all.escaped(&from.unwrap_or_default(), out);
        all.plain(" -> ", out);
        all.escaped(&to.unwrap_or_default(), out);
    });
    if all.is_some() {
        out.put(" cs4Label=changedValues");
    }
}

/// Writes the extra attributes as `name: value; …`, or Cloud's description.
pub(super) fn details(record: &Record, out: &mut EventBuffer) {
    let mut all = None;
    if let Some(description) = record.description.text() {
        begin(&mut all, " cs5=", "", out).escaped(description.escaped(), out);
    }
    for_each_element(record.extra_attributes, |element| {
        let [name, key, value] = object(element, ["name", "nameI18nKey", "value"]);
        let Some(name) = name.text().or(key.text()) else {
            return;
        };
        let all = begin(&mut all, " cs5=", "; ", out);
        all.escaped(name.escaped(), out);
        all.plain(": ", out);
        all.escaped(&value_text(value).unwrap_or_default(), out);
    });
    if all.is_some() {
        out.put(" cs5Label=details");
    }
}
