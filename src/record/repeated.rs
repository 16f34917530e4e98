//! Names that stand twice in an object. JSON allows them and readers differ; here the last one stands, as with
//! serde_json and Jackson. A record is rewritten before anything looks at it, so its id and all formats agree.

use std::borrow::Cow;

use super::walk::{self, Cursor};

/// What one pass over a JSON value shows.
pub struct Survey {
    /// Nothing in it is empty, and there is no white space.
    pub clean: bool,
    /// A name may stand twice in an object.
    pub doubtful: bool,
}

pub fn survey(raw: &str) -> Survey {
    let bytes = raw.as_bytes();
    let mut found = Survey {
        clean: true,
        doubtful: false,
    };
    // The names in each open object, each a bit: names that share a bit are looked at more closely later.
    let mut names = [0_u64; walk::DEPTH_MAX + 1];
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = walk::string_end(bytes, at);
                let is_key = match bytes.get(end) {
                    Some(b' ' | b'\t' | b'\r' | b'\n') => {
                        bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
                    }
                    next => next == Some(&b':'),
                };
                if is_key {
                    let name = name_bit(&bytes[at + 1..end - 1]);
                    found.doubtful |= names[depth] & name != 0;
                    names[depth] |= name;
                } else {
                    found.clean &= end - at > 2;
                }
                at = end;
                continue;
            }
            b'{' | b'[' => {
                depth = (depth + 1).min(walk::DEPTH_MAX);
                names[depth] = 0;
                found.clean &= !matches!(bytes.get(at + 1), Some(b'}' | b']'));
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'n' | b' ' | b'\t' | b'\r' | b'\n' => found.clean = false,
            _ => {}
        }
        at += 1;
    }
    found
}

/// One of 63 bits that differ for names that Confluence uses together, or all where a name has escapes.
fn name_bit(name: &[u8]) -> u64 {
    if name.contains(&b'\\') {
        return u64::MAX;
    }
    let (first, last) = (
        name.first().copied().unwrap_or(0),
        name.last().copied().unwrap_or(0),
    );
    1 << ((name.len() * 5 + usize::from(first) * 3 + usize::from(last)) % 63)
}

/// A member of an object that is being walked through.
struct Member {
    /// Equal for equal names, whichever way they are escaped.
    hash: u64,
    /// Where its name begins.
    start: u32,
    /// Its place among the members of the object.
    number: u32,
}

/// `json` with the last only of each name that stands twice in an object, at any depth. `None` if no name stands twice.
/// `json` is valid and no deeper than [`walk::DEPTH_MAX`].
pub fn without_repeated(json: &str) -> Option<String> {
    if !survey(json).doubtful {
        return None;
    }
    let mut gone = Vec::new();
    let mut cursor = Cursor::new(json);
    find_repeated(json, &mut cursor, &mut Vec::new(), &mut gone);
    if gone.is_empty() {
        return None;
    }
    gone.sort_unstable();
    let mut kept = String::with_capacity(json.len());
    let mut copied = 0;
    for start in gone {
        let start = start as usize;
        // Within a member that went itself.
        if start < copied {
            continue;
        }
        kept.push_str(&json[copied..start]);
        let mut cursor = Cursor::new(&json[start..]);
        cursor.key();
        cursor.skip();
        // One of the same name comes later, so a comma follows.
        cursor.more();
        copied = start + cursor.place();
    }
    kept.push_str(&json[copied..]);
    Some(kept)
}

/// Goes over the next value and adds where each member begins that one of the same name follows. `open` holds the
/// members of all objects that have begun.
fn find_repeated(json: &str, cursor: &mut Cursor, open: &mut Vec<Member>, gone: &mut Vec<u32>) {
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
            let start = cursor.place() as u32;
            let hash = xxhash_rust::xxh3::xxh3_64(cursor.key().as_bytes());
            open.push(Member { hash, start, number });
            number += 1;
        }
        find_repeated(json, cursor, open, gone);
    }
    let name = |member: &Member| -> Cow<str> { Cursor::new(&json[member.start as usize..]).key() };
    let members = &mut open[first..];
    members.sort_unstable_by_key(|member| (member.hash, member.number));
    // Names of one hash that are not equal would take somebody who looks for them; then names decide.
    for alike in members.chunk_by_mut(|a, b| a.hash == b.hash) {
        alike.sort_by(|a, b| name(a).cmp(&name(b)).then(a.number.cmp(&b.number)));
        let followed = alike.windows(2).filter(|pair| name(&pair[0]) == name(&pair[1]));
        gone.extend(followed.map(|pair| pair[0].start));
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
            let bits = names
                .iter()
                .fold(0, |bits, name| bits | name_bit(name.as_bytes()));
            assert_eq!(bits.count_ones() as usize, names.len(), "{names:?}");
        }
    }

    #[test]
    fn f101_last_of_two_names_stands() {
        for (json, expected) in [
            (r#"{"a":1,"a":2}"#, Some(r#"{"a":2}"#)),
            (r#"{"a":1,"b":3,"\u0061":2}"#, Some(r#"{"b":3,"\u0061":2}"#)),
            (r#"[{"a":1,"b":3,"a":""}]"#, Some(r#"[{"b":3,"a":""}]"#)),
            (
                r#"{ "a" : 1 , "b":3, "a" :null }"#,
                Some(r#"{ "b":3, "a" :null }"#),
            ),
            (r#"[{"a":1},{"a":2}]"#, None),
            (r#"{"a":{"a":{"a":1}}}"#, None),
            (
                r#"{"a":{"b":1,"b":2},"a":{"c":1,"c":[{"d":1,"d":3}]}}"#,
                Some(r#"{"a":{"c":[{"d":3}]}}"#),
            ),
            (r#"{"":1,"":2,"":{"":3,"":[]}}"#, Some(r#"{"":{"":[]}}"#)),
            // Alike to the survey, and yet different.
            (r#"{"abc":1,"adc":2}"#, None),
        ] {
            assert_eq!(without_repeated(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn f101_many_names_take_no_more_than_linear_memory_and_time() {
        let many: Vec<String> = (0..200_000)
            .map(|at| format!("\"k{}\":{at}", at % 150_000))
            .collect();
        let deep = format!(
            "{}{{{}}}{}",
            "{\"k\":".repeat(100),
            many.join(","),
            "}".repeat(100)
        );
        let kept = without_repeated(&deep).unwrap();
        assert_eq!(kept.matches(':').count(), 100 + 150_000);
        assert!(kept.contains("\"k3\":150003,") && !kept.contains("\"k3\":3,"));
    }
}
