//! What a debug build, and with it every test, asks of each event that is written: to be one whole line that every
//! reader of its format reads in the same way. Release builds ask nothing.

use std::collections::{BTreeMap, HashSet};

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Format;

/// What is wrong with an event.
pub(super) fn fault(format: &Format, event: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(event) else {
        return Some("is not UTF-8".to_owned());
    };
    let found = match format {
        Format::Cef(_) => cef(text),
        Format::Raw(_) => line(text, "\t").and_then(|()| json(text)),
        _ => line(text, "").and_then(|()| json(text)),
    };
    found.err()
}

/// No control character but the `allowed` ones.
fn line(text: &str, allowed: &str) -> Result<(), String> {
    match text.chars().find(|c| *c < ' ' && !allowed.contains(*c)) {
        Some(control) => Err(format!("holds {control:?}")),
        None => Ok(()),
    }
}

/// JSON, its strings and its names included; no name twice in an object.
fn json(text: &str) -> Result<(), String> {
    let failed = |error: serde_json::Error| format!("is not JSON: {error}");
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text).map_err(failed)?;
            members.iter().try_for_each(|value| json(value.get()))
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(failed)?;
            elements.iter().try_for_each(|value| json(value.get()))
        }
        Some(b'"') => serde_json::from_str::<String>(text).map(drop).map_err(failed),
        _ => serde_json::from_str::<&RawValue>(text).map(drop).map_err(failed),
    }
}

struct Members<'a>(Vec<&'a RawValue>);

impl<'de> de::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.contains_key(&name) {
                        return Err(de::Error::custom(format!("`{name}` stands twice")));
                    }
                    members.insert(name, map.next_value()?);
                }
                Ok(Members(members.into_values().collect()))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Seven fields before the extensions, no key twice, and nothing that any reader takes for a line end.
fn cef(text: &str) -> Result<(), String> {
    let is_line_end = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if let Some(end) = text.chars().find(|c| is_line_end(*c)) {
        return Err(format!("holds {end:?}"));
    }
    let mut fields = 0;
    let mut escaped = false;
    let mut keys = HashSet::new();
    let mut word = 0;
    for (at, byte) in text.bytes().enumerate() {
        let allowed: &[u8] = if fields < 7 { b"\\|" } else { b"\\=nr" };
        match byte {
            _ if escaped => {
                if !allowed.contains(&byte) {
                    return Err(format!("escapes `{}`", char::from(byte)));
                }
                escaped = false;
            }
            b'\\' => escaped = true,
            b'|' if fields < 7 => {
                fields += 1;
                word = at + 1;
            }
            b' ' => word = at + 1,
            b'=' if fields == 7 => {
                let key = &text[word..at];
                if !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) || !keys.insert(key) {
                    return Err(format!("has the key `{key}` that is none, or twice"));
                }
            }
            _ => {}
        }
    }
    match (fields, escaped, keys.contains("externalId")) {
        (7, false, true) => Ok(()),
        _ => Err("is no whole event of CEF".to_owned()),
    }
}
