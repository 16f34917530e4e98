//! The members of a JSON object, borrowed from its text. Pure.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The members of one level, in their order.
pub(super) struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// `None`: the text is no JSON object, or a name is repeated, so that readers would disagree about its value.
    pub(super) fn of(object: &'a str) -> Option<Members<'a>> {
        let members: Members<'a> = serde_json::from_str(object).ok()?;
        let mut names: Vec<&str> = members.0.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        names.windows(2).all(|pair| pair[0] != pair[1]).then_some(members)
    }

    /// The JSON text of a member.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.get())
    }

    /// The text of a member that is a string, or a list of one string.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let value = self.get(name)?;
        text(value.strip_prefix('[').and_then(|list| list.strip_suffix(']')).map_or(value, str::trim))
    }

    pub(super) fn object(&self, name: &str) -> Option<Members<'a>> {
        self.get(name).filter(|value| value.starts_with('{')).and_then(Members::of)
    }
}

/// The text of a JSON string.
pub(super) fn text(value: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text>(value).ok().map(|Text(text)| text)
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(24);
                while let Some(Text(name)) = map.next_key()? {
                    members.push((name, map.next_value::<&'de RawValue>()?));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(MembersVisitor)
    }
}

/// Borrowed if it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
