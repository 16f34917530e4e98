//! The affected objects and changed values of a record.

use crate::record::json::for_each_element;
use crate::record::token::{decoded, has_escape};
use crate::record::{Record, Shape, Text, Token, object};

/// An object with a name or an id.
#[derive(Clone, Copy)]
pub(super) struct AffectedObject<'a> {
    pub kind: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
    pub id: Option<Text<'a>>,
    pub uri: Option<Text<'a>>,
}

impl<'a> AffectedObject<'a> {
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|own_kind| own_kind.is(kind))
    }

    fn texts(&self) -> [Option<Text<'a>>; 3] {
        [self.kind, self.name, self.id]
    }
}

/// Longer texts are compared without decoding their escapes.
const DECODED_BYTES_MAX: usize = 2048;

/// Whether type, name and id are equal, however they are escaped.
pub(super) fn is_same_object(a: &[Option<Text>; 3], b: &[Option<Text>; 3]) -> bool {
    a.iter().zip(b).all(|texts| match texts {
        (Some(a), Some(b)) => a == b || is_same_text(a.escaped(), b.escaped()),
        (a, b) => a.is_none() && b.is_none(),
    })
}

fn is_same_text(a: &str, b: &str) -> bool {
    a.len().max(b.len()) <= DECODED_BYTES_MAX && (has_escape(a) || has_escape(b)) && decoded(a) == decoded(b)
}

/// Maximum number of objects that are checked for duplicates. Longer lists are not read one by one.
const COMPARED_MAX: usize = 32;

/// Calls `each` for each distinct object, the object that was acted on first. Cloud repeats it in the list of
/// associated objects.
pub(super) fn for_each<'a>(record: &Record<'a>, mut each: impl FnMut(AffectedObject<'a>)) {
    let kind_name = match record.shape {
        Shape::Cloud => "objectType",
        Shape::File | Shape::Entity => "type",
    };
    let mut seen: Vec<AffectedObject> = Vec::new();
    for list in [record.affected_object, record.affected_objects] {
        for_each_element(list, |element| {
            let [kind, name, id, uri] = object(element, [kind_name, "name", "id", "uri"]).map(Token::text);
            let affected = AffectedObject { kind, name, id, uri };
            let texts = affected.texts();
            if texts == [None; 3] || seen.iter().any(|other| is_same_object(&other.texts(), &texts)) {
                return;
            }
            if seen.len() < COMPARED_MAX {
                seen.push(affected);
            }
            each(affected);
        });
    }
}

/// Whether the object that was acted on is repeated in the list of associated objects.
pub(super) fn is_repeated(record: &Record) -> bool {
    if record.affected_object.is_missing() {
        return false;
    }
    let acted_on = object(record.affected_object, ["objectType", "name", "id"]).map(Token::text);
    let mut found = false;
    for_each_element(record.affected_objects, |element| {
        let texts = object(element, ["objectType", "name", "id"]).map(Token::text);
        found |= is_same_object(&texts, &acted_on);
    });
    found
}

pub(super) fn first<'a>(
    record: &Record<'a>,
    filter: impl Fn(&AffectedObject) -> bool,
) -> Option<AffectedObject<'a>> {
    let mut first = None;
    for_each(record, |affected| {
        if first.is_none() && (affected.name.is_some() || affected.id.is_some()) && filter(&affected) {
            first = Some(affected);
        }
    });
    first
}

/// The user or group that an event is about: an object of this type, or a changed value of that name.
pub(super) fn grantee<'a>(record: &Record<'a>, kind: &str) -> Option<AffectedObject<'a>> {
    first(record, |affected| affected.is(kind)).or_else(|| {
        Some(AffectedObject { kind: None, name: Some(changed_value(record, kind)?), id: None, uri: None })
    })
}

/// The new value of a changed value, or else the old one.
pub(super) fn changed_value<'a>(record: &Record<'a>, wanted: &str) -> Option<Text<'a>> {
    let mut found = None;
    for_each_change(record, |key, from, to| {
        if key.is(wanted) {
            found = found.or(to).or(from);
        }
    });
    found
}

/// Whether the account was activated (`true`) or deactivated. `None` if that has not changed.
pub(super) fn new_active(record: &Record) -> Option<bool> {
    let yes_or_no = |text: Option<Text>| match &*text?.decoded() {
        text if text.eq_ignore_ascii_case("yes") || text.eq_ignore_ascii_case("true") => Some(true),
        text if text.eq_ignore_ascii_case("no") || text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    };
    let mut found = None;
    for_each_change(record, |key, from, to| {
        if key.is("Active")
            && let (Some(from), Some(to)) = (yes_or_no(from), yes_or_no(to))
            && from != to
        {
            found = Some(to);
        }
    });
    found
}

fn for_each_change<'a>(
    record: &Record<'a>,
    mut each: impl FnMut(Text<'a>, Option<Text<'a>>, Option<Text<'a>>),
) {
    let names = match record.shape {
        Shape::Cloud => ["name", "oldValue", "newValue"],
        Shape::File | Shape::Entity => ["i18nKey", "from", "to"],
    };
    for_each_element(record.changed_values, |element| {
        let [key, from, to] = object(element, names).map(Token::text);
        if let Some(key) = key {
            each(key, from, to);
        }
    });
}
