//! The field `message`: one sentence with the author, the action and the objects.

use super::affected;
use super::buffer::EventBuffer;
use crate::record::json_cursor::JsonCursor;
use crate::record::{Record, Shape, Text, Token, object};

/// Maximum number of objects in the sentence.
const OBJECTS_MAX: usize = 3;

/// Longer names are cut.
const NAME_BYTES_MAX: usize = 200;

/// Writes for example `Anonymous: User added to group: Group confluence-users, User admin`. The text is
/// escaped for JSON and has no quotes.
pub(super) fn write(record: &Record, out: &mut EventBuffer) {
    put_name(record.author.name.text().or(record.author.id.text()), "Someone", out);
    out.put(": ");
    put_name(record.action.text().or(record.action_key.text()), "unknown action", out);
    let kind_name = if record.shape == Shape::Cloud { "objectType" } else { "type" };
    let mut count = 0;
    let mut seen = [[None; 3]; OBJECTS_MAX];
    // A Cloud record has the object that was acted on first. The list of associated objects may repeat it.
    for list in [record.affected_object, record.affected_objects] {
        for_first_elements(list, |element| {
            let texts = object(element, [kind_name, "name", "id"]).map(Token::text);
            let [kind, name, _] = texts;
            let is_repeated =
                seen[..count.min(OBJECTS_MAX)].iter().any(|other| affected::is_same_object(other, &texts));
            if is_repeated || (kind.is_none() && name.is_none()) {
                return;
            }
            if let Some(slot) = seen.get_mut(count) {
                *slot = texts;
                out.put(if count == 0 { ": " } else { ", " });
                if kind.is_some() {
                    put_name(kind, "", out);
                    if name.is_some() {
                        out.put(" ");
                    }
                }
                put_name(name, "", out);
            }
            count += 1;
        });
    }
    if count > OBJECTS_MAX {
        out.put(" and more");
    }
}

/// Calls `each` for the first elements of a list, or for an object as its only element.
fn for_first_elements<'a>(list: Token<'a>, mut each: impl FnMut(Token<'a>)) {
    if list.is_object() {
        return each(list);
    }
    let mut cursor = JsonCursor::new(list.raw());
    cursor.enter();
    for _ in 0..=OBJECTS_MAX {
        if !cursor.more() {
            return;
        }
        each(cursor.token());
    }
}

fn put_name(name: Option<Text>, default: &str, out: &mut EventBuffer) {
    let Some(name) = name else {
        return out.put(default);
    };
    let escaped = name.escaped();
    if escaped.len() <= NAME_BYTES_MAX {
        return out.put(escaped);
    }
    out.put(&escaped[..cut(escaped)]);
    out.put("…");
}

/// The largest offset, up to the limit, between two characters or escapes.
fn cut(escaped: &str) -> usize {
    let bytes = escaped.as_bytes();
    let mut at = 0;
    loop {
        let step = match bytes.get(at) {
            // The two halves of a surrogate pair are not separated.
            Some(b'\\') if matches!(bytes.get(at + 1..at + 4), Some(b"ud8" | b"uD8" | b"ud9" | b"uD9")) => 12,
            Some(b'\\') if matches!(bytes.get(at + 1), Some(b'u')) => match bytes.get(at + 2..at + 4) {
                Some([b'd' | b'D', b'a' | b'b' | b'A' | b'B']) => 12,
                _ => 6,
            },
            Some(b'\\') => 2,
            Some(0xf0..) => 4,
            Some(0xe0..) => 3,
            Some(0xc0..) => 2,
            _ => 1,
        };
        if at + step > NAME_BYTES_MAX {
            return at;
        }
        at += step;
    }
}
