//! Validation of each written event in debug builds, and so in all tests: it must be one complete line that
//! every reader parses in the same way. Release builds skip it.

use std::collections::{BTreeMap, HashSet};

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Format;

/// The defect of an event, or `None`.
pub(super) fn defect(format: &Format, event: &[u8]) -> Option<String> {
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

/// Checks for control characters other than the `allowed` ones.
fn line(text: &str, allowed: &str) -> Result<(), String> {
    match text.chars().find(|c| *c < ' ' && !allowed.contains(*c)) {
        Some(control) => Err(format!("contains {control:?}")),
        None => Ok(()),
    }
}

/// Checks JSON including strings and keys. Keys must be unique in each object.
fn json(text: &str) -> Result<(), String> {
    let failed = |error: serde_json::Error| format!("is not JSON: {error}");
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => {
            let JsonMembers(members) = serde_json::from_str(text).map_err(failed)?;
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

struct JsonMembers<'a>(Vec<&'a RawValue>);

impl<'de> de::Deserialize<'de> for JsonMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonMembersVisitor;
        impl<'de> Visitor<'de> for JsonMembersVisitor {
            type Value = JsonMembers<'de>;

            fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.contains_key(&name) {
                        return Err(de::Error::custom(format!("`{name}` is repeated")));
                    }
                    members.insert(name, map.next_value()?);
                }
                Ok(JsonMembers(members.into_values().collect()))
            }
        }
        deserializer.deserialize_map(JsonMembersVisitor)
    }
}

/// Checks CEF: seven header fields, unique keys, and no character that any reader treats as a line end.
fn cef(text: &str) -> Result<(), String> {
    let is_line_end = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if let Some(end) = text.chars().find(|c| is_line_end(*c)) {
        return Err(format!("contains {end:?}"));
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
                    return Err(format!("has the invalid or repeated key `{key}`"));
                }
            }
            _ => {}
        }
    }
    match (fields, escaped, keys.contains("externalId")) {
        (7, false, true) => Ok(()),
        _ => Err("is not a complete CEF event".to_owned()),
    }
}
