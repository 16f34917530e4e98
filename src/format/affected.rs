//! What an event is about: affected objects and changed values.

use std::borrow::Cow;

use super::login::login_of;
use super::users::{Person, Users};
use crate::record::token::{decoded, has_escape};
use crate::record::walk::for_each_element;
use crate::record::{Record, Shape, Text, Token, object};

/// An object with a name or an id.
#[derive(Clone, Copy)]
pub struct AffectedObject<'a> {
    pub kind: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
    pub id: Option<Text<'a>>,
    pub uri: Option<Text<'a>>,
}

impl<'a> AffectedObject<'a> {
    pub fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|own| own.is(kind))
    }

    /// As a user: the login stands in the address.
    pub fn person(&self) -> Person<'a> {
        Person {
            id: self.id.map(|id| Cow::Borrowed(id.escaped())),
            name: self.uri.and_then(login_of),
            full_name: self.name.map(|name| Cow::Borrowed(name.escaped())),
            email: None,
        }
    }

    fn texts(&self) -> [Option<Text<'a>>; 3] {
        [self.kind, self.name, self.id]
    }
}

/// Longer texts than a name are compared as they stand.
const DECODED_BYTES_MAX: usize = 2048;

/// Whether type, name and id are the same texts, however they are escaped.
pub fn same(a: &[Option<Text>; 3], b: &[Option<Text>; 3]) -> bool {
    a.iter().zip(b).all(|texts| match texts {
        (Some(a), Some(b)) => a == b || is_same_text(a.escaped(), b.escaped()),
        (a, b) => a.is_none() && b.is_none(),
    })
}

fn is_same_text(a: &str, b: &str) -> bool {
    a.len().max(b.len()) <= DECODED_BYTES_MAX && (has_escape(a) || has_escape(b)) && decoded(a) == decoded(b)
}

/// So many objects are compared with those before them; nobody reads more of them one by one.
const COMPARED_MAX: usize = 32;

/// Hands on each object once, what was acted on first: Cloud names it again among those that go with it.
pub fn for_each<'a>(record: &Record<'a>, mut each: impl FnMut(AffectedObject<'a>)) {
    let kind_name = match record.shape {
        Shape::Cloud => "objectType",
        Shape::File | Shape::Entity => "type",
    };
    let mut before: Vec<AffectedObject> = Vec::new();
    for list in [record.affected_object, record.affected_objects] {
        for_each_element(list, |element| {
            let [kind, name, id, uri] = object(element, [kind_name, "name", "id", "uri"]).map(Token::text);
            let thing = AffectedObject { kind, name, id, uri };
            let texts = thing.texts();
            if texts == [None; 3] || before.iter().any(|other| same(&other.texts(), &texts)) {
                return;
            }
            if before.len() < COMPARED_MAX {
                before.push(thing);
            }
            each(thing);
        });
    }
}

/// Whether what was acted on is named again among what goes with it.
pub fn is_repeated(record: &Record) -> bool {
    if record.affected_object.is_missing() {
        return false;
    }
    let acted_on = object(record.affected_object, ["objectType", "name", "id"]).map(Token::text);
    let mut found = false;
    for_each_element(record.affected_objects, |element| {
        let texts = object(element, ["objectType", "name", "id"]).map(Token::text);
        found |= same(&texts, &acted_on);
    });
    found
}

pub fn first<'a>(record: &Record<'a>, which: impl Fn(&AffectedObject) -> bool) -> Option<AffectedObject<'a>> {
    let mut first = None;
    for_each(record, |thing| {
        if first.is_none() && (thing.name.is_some() || thing.id.is_some()) && which(&thing) {
            first = Some(thing);
        }
    });
    first
}

/// The user or group that an event is about: an object, or a changed value of that name.
pub fn grantee<'a>(record: &Record<'a>, kind: &str) -> Option<AffectedObject<'a>> {
    first(record, |thing| thing.is(kind)).or_else(|| {
        Some(AffectedObject {
            kind: None,
            name: Some(changed_value(record, kind)?),
            id: None,
            uri: None,
        })
    })
}

/// The user that something was done to. ECS names it for events about users only; a permission is given to one too.
pub fn target<'a>(record: &Record<'a>, users: &Users<'a>, categories: &[&str]) -> Option<Person<'a>> {
    let mut target = users.target.clone();
    let renamed = &users.renamed;
    target.id = target.id.or_else(|| renamed.id.clone());
    target.full_name = target.full_name.or_else(|| renamed.full_name.clone());
    target.name = target.name.or_else(|| renamed.name.clone());
    if target != Person::default() {
        return Some(target);
    }
    let is_about_permissions = categories == super::rules::IAM_CONFIGURATION;
    let user = is_about_permissions.then(|| grantee(record, "User"))??;
    Some(user.person())
}

/// What a value was changed to, or else from.
pub fn changed_value<'a>(record: &Record<'a>, wanted: &str) -> Option<Text<'a>> {
    let mut found = None;
    for_each_change(record, |key, from, to| {
        if key.is(wanted) {
            found = found.or(to).or(from);
        }
    });
    found
}

/// Whether an account was made active or inactive, if that is what changed.
pub fn new_active(record: &Record) -> Option<bool> {
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
