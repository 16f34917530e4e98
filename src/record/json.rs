//! Reads and rewrites JSON values with a [`JsonCursor`].

use std::borrow::Cow;
use std::ops::Range;

use super::json_cursor::JsonCursor;
use super::token::{self, Token};

/// The members of an object with these names; of a repeated name the last value counts. All are missing if `object`
/// is not an object.
pub fn object<'a, const N: usize>(object: Token<'a>, names: [&str; N]) -> [Token<'a>; N] {
    let mut values = [Token::MISSING; N];
    if object.is_object() {
        let mut cursor = JsonCursor::new(object.raw());
        cursor.enter();
        while cursor.more() {
            let key = cursor.key();
            match names.iter().position(|name| *name == key) {
                Some(at) => values[at] = cursor.token(),
                None => cursor.skip(),
            }
        }
    }
    values
}

/// Canonical form of a value: without white space, members sorted by name, each text escaped in one way. Equal values
/// have the same form. It is not JSON.
pub(crate) fn canonical(json: &str) -> String {
    let mut result = String::with_capacity(json.len());
    put_canonical(&mut JsonCursor::new(json), &mut result);
    result
}

fn put_canonical_text(text: &str, result: &mut String) {
    result.push('"');
    for part in text.split_inclusive(['"', '\\']) {
        // The separator is the last byte.
        match part.strip_suffix(['"', '\\']) {
            Some(before) => {
                result.push_str(before);
                result.push('\\');
                result.push_str(&part[before.len()..]);
            }
            None => result.push_str(part),
        }
    }
    result.push('"');
}

fn put_canonical(cursor: &mut JsonCursor, result: &mut String) {
    match cursor.peek() {
        b'{' => {
            cursor.enter();
            result.push('{');
            let begin = result.len();
            let mut members: Vec<(Cow<str>, Range<usize>)> = Vec::new();
            while cursor.more() {
                result.push_str(if members.is_empty() { "" } else { "," });
                let start = result.len();
                let name = cursor.key();
                put_canonical_text(&name, result);
                result.push(':');
                put_canonical(cursor, result);
                members.push((name, start - begin..result.len() - begin));
            }
            if !members.is_sorted_by(|(a, _), (b, _)| a <= b) {
                members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                let unsorted = result.split_off(begin);
                for (at, (_, member)) in members.into_iter().enumerate() {
                    result.push_str(if at == 0 { "" } else { "," });
                    result.push_str(&unsorted[member]);
                }
            }
            result.push('}');
        }
        b'[' => {
            cursor.enter();
            result.push('[');
            let mut first = true;
            while cursor.more() {
                result.push_str(if std::mem::take(&mut first) { "" } else { "," });
                put_canonical(cursor, result);
            }
            result.push(']');
        }
        b'"' => {
            let text = cursor.value();
            put_canonical_text(&token::decoded(&text[1..text.len() - 1]), result);
        }
        _ => result.push_str(cursor.value()),
    }
}

/// Path of the value at `position`: member names joined by dots. List elements have no name.
pub(crate) fn path_at(text: &str, position: usize) -> String {
    let mut path = String::new();
    let mut cursor = JsonCursor::new(text);
    loop {
        let object = match cursor.peek() {
            b'{' => true,
            b'[' => false,
            _ => return path,
        };
        cursor.enter();
        let mut inside = false;
        while cursor.more() {
            let key = if object { cursor.key() } else { Cow::Borrowed("") };
            let start = cursor.value_start();
            cursor.skip();
            if position < cursor.position {
                if object {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key);
                }
                cursor.position = start;
                inside = true;
                break;
            }
        }
        if !inside {
            return path;
        }
    }
}

/// Calls `each` with each element of a list that is not empty. An object counts as a list of one.
pub(crate) fn for_each_element<'a>(list: Token<'a>, mut each: impl FnMut(Token<'a>)) {
    if !list.is_list() {
        if !list.is_missing() {
            each(list);
        }
        return;
    }
    let mut cursor = JsonCursor::new(list.raw());
    cursor.enter();
    while cursor.more() {
        let element = cursor.token();
        if !element.is_missing() {
            each(element);
        }
    }
}
