//! Removes repeated names from objects. JSON allows them and readers differ; here the last one counts, as with
//! serde_json and Jackson. A record is rewritten before it is used, so its id and all formats agree.

use std::borrow::Cow;

use super::json_cursor::JsonCursor;
use super::scan;

/// The result of one pass over a JSON value.
pub(super) struct ValueScan {
    /// It contains no empty values and no white space.
    pub is_clean: bool,
    /// A name may be repeated in an object.
    pub may_repeat_names: bool,
}

pub(super) fn scan_value(raw: &str) -> ValueScan {
    let bytes = raw.as_bytes();
    let mut found = ValueScan { is_clean: true, may_repeat_names: false };
    // A set of name bits per open object. Names that share a bit are compared exactly later.
    let mut names = [0_u64; scan::DEPTH_MAX + 1];
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = scan::string_end(bytes, at);
                let is_key = match bytes.get(end) {
                    Some(b' ' | b'\t' | b'\r' | b'\n') => {
                        bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
                    }
                    next => next == Some(&b':'),
                };
                if is_key {
                    let name = name_bit(&bytes[at + 1..end - 1]);
                    found.may_repeat_names |= names[depth] & name != 0;
                    names[depth] |= name;
                } else {
                    found.is_clean &= end - at > 2;
                }
                at = end;
                continue;
            }
            b'{' | b'[' => {
                depth = (depth + 1).min(scan::DEPTH_MAX);
                names[depth] = 0;
                found.is_clean &= !matches!(bytes.get(at + 1), Some(b'}' | b']'));
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'n' | b' ' | b'\t' | b'\r' | b'\n' => found.is_clean = false,
            _ => {}
        }
        at += 1;
    }
    found
}

/// One of 63 bits. It differs for names that Confluence uses together. All bits are set if the name has escapes.
fn name_bit(name: &[u8]) -> u64 {
    if name.contains(&b'\\') {
        return u64::MAX;
    }
    let (first, last) = (name.first().copied().unwrap_or(0), name.last().copied().unwrap_or(0));
    1 << ((name.len() * 5 + usize::from(first) * 3 + usize::from(last)) % 63)
}

/// A member of an object that is being read.
struct OpenMember {
    /// Hash of the decoded name.
    hash: u64,
    /// Offset of its name.
    start: u32,
    /// Its index in the object.
    number: u32,
}

/// `json` with only the last member of each repeated name, at any depth. `None` if no name is repeated. `json` is
/// valid and not deeper than [`scan::DEPTH_MAX`].
pub(super) fn without_repeated(json: &str) -> Option<String> {
    if !scan_value(json).may_repeat_names {
        return None;
    }
    let mut repeated = Vec::new();
    let mut cursor = JsonCursor::new(json);
    find_repeated(json, &mut cursor, &mut Vec::new(), &mut repeated);
    if repeated.is_empty() {
        return None;
    }
    repeated.sort_unstable();
    let mut kept = String::with_capacity(json.len());
    let mut copied = 0;
    for start in repeated {
        let start = start as usize;
        // It is inside a member that was removed.
        if start < copied {
            continue;
        }
        kept.push_str(&json[copied..start]);
        let mut cursor = JsonCursor::new(&json[start..]);
        cursor.key();
        cursor.skip();
        // A member of the same name follows, so there is a comma.
        cursor.more();
        copied = start + cursor.value_start();
    }
    kept.push_str(&json[copied..]);
    Some(kept)
}

/// Reads the next value and collects the offsets of members that a later one of the same name replaces. `open`
/// contains the members of all open objects.
fn find_repeated(json: &str, cursor: &mut JsonCursor, open: &mut Vec<OpenMember>, repeated: &mut Vec<u32>) {
    let object = match cursor.peek() {
        b'{' => true,
        b'[' => false,
        _ => return cursor.skip(),
    };
    cursor.enter();
    let first = open.len();
    let mut number = 0;
    while cursor.more() {
        if object {
            let start = cursor.value_start() as u32;
            let hash = xxhash_rust::xxh3::xxh3_64(cursor.key().as_bytes());
            open.push(OpenMember { hash, start, number });
            number += 1;
        }
        find_repeated(json, cursor, open, repeated);
    }
    let name = |member: &OpenMember| -> Cow<str> { JsonCursor::new(&json[member.start as usize..]).key() };
    let members = &mut open[first..];
    members.sort_unstable_by_key(|member| (member.hash, member.number));
    // Different names with the same hash are only possible on purpose; the names are then compared.
    for alike in members.chunk_by_mut(|a, b| a.hash == b.hash) {
        alike.sort_by(|a, b| name(a).cmp(&name(b)).then(a.number.cmp(&b.number)));
        let followed = alike.windows(2).filter(|pair| name(&pair[0]) == name(&pair[1]));
        repeated.extend(followed.map(|pair| pair[0].start));
    }
    open.truncate(first);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_have_bits_of_their_own() {
        for names in [
            &["id", "name", "type", "uri"][..],
            &["from", "i18nKey", "key", "to"],
            &["name", "nameI18nKey", "value"],
        ] {
            let bits = names.iter().fold(0, |bits, name| bits | name_bit(name.as_bytes()));
            assert_eq!(bits.count_ones() as usize, names.len(), "{names:?}");
        }
    }

    #[test]
    fn f101_the_last_of_two_names_counts() {
        for (json, expected) in [
            (r#"{"a":1,"a":2}"#, Some(r#"{"a":2}"#)),
            (r#"{"a":1,"b":3,"\u0061":2}"#, Some(r#"{"b":3,"\u0061":2}"#)),
            (r#"[{"a":1,"b":3,"a":""}]"#, Some(r#"[{"b":3,"a":""}]"#)),
            (r#"{ "a" : 1 , "b":3, "a" :null }"#, Some(r#"{ "b":3, "a" :null }"#)),
            (r#"[{"a":1},{"a":2}]"#, None),
            (r#"{"a":{"a":{"a":1}}}"#, None),
            (r#"{"a":{"b":1,"b":2},"a":{"c":1,"c":[{"d":1,"d":3}]}}"#, Some(r#"{"a":{"c":[{"d":3}]}}"#)),
            (r#"{"":1,"":2,"":{"":3,"":[]}}"#, Some(r#"{"":{"":[]}}"#)),
            // Different names with the same bit.
            (r#"{"abc":1,"adc":2}"#, None),
        ] {
            assert_eq!(without_repeated(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn f101_many_names_take_no_more_than_linear_memory_and_time() {
        let many: Vec<String> = (0..200_000).map(|at| format!("\"k{}\":{at}", at % 150_000)).collect();
        let deep = format!("{}{{{}}}{}", "{\"k\":".repeat(100), many.join(","), "}".repeat(100));
        let kept = without_repeated(&deep).unwrap();
        assert_eq!(kept.matches(':').count(), 100 + 150_000);
        assert!(kept.contains("\"k3\":150003,") && !kept.contains("\"k3\":3,"));
    }
}
