//! JSON as the fuzz target needs it on the way in: with repeated names and broken text.

use super::readers::json::Json;
use crate::rig::Random;

/// Stands in a text for half a surrogate pair.
pub const HALF_PAIR: char = '\u{f8ff}';
/// Stands in a text for a byte that is no UTF-8.
pub const NO_UTF8: char = '\u{f8fe}';

/// What a text means to a reader of the record.
fn decoded(text: &str) -> String {
    text.replace([HALF_PAIR, NO_UTF8], "\u{fffd}")
}

impl Json {
    /// The members in an order by chance, but for those of one name: the last of these is still the last.
    pub fn reordered(&self, random: &mut Random) -> Json {
        match self {
            Json::List(elements) => {
                Json::List(elements.iter().map(|element| element.reordered(random)).collect())
            }
            Json::Object(members) => {
                let mut order: Vec<usize> = (0..members.len()).collect();
                for at in (1..order.len()).rev() {
                    order.swap(at, random.below(at as u64 + 1) as usize);
                }
                let names: Vec<String> = order.iter().map(|at| decoded(&members[*at].0)).collect();
                for name in &names {
                    let mut places: Vec<usize> = (0..order.len()).filter(|at| names[*at] == *name).collect();
                    let mut of_name: Vec<usize> = places.iter().map(|at| order[*at]).collect();
                    of_name.sort_unstable();
                    places.drain(..).zip(of_name).for_each(|(at, member)| order[at] = member);
                }
                let member = |at: &usize| (members[*at].0.clone(), members[*at].1.reordered(random));
                Json::Object(order.iter().map(member).collect())
            }
            other => other.clone(),
        }
    }

    /// Of members of one name the last.
    pub fn without_repeated(&self) -> Json {
        match self {
            Json::List(elements) => Json::List(elements.iter().map(Json::without_repeated).collect()),
            Json::Object(members) => {
                let is_last = |at: usize| {
                    let name = decoded(&members[at].0);
                    members[at + 1..].iter().all(|(other, _)| decoded(other) != name)
                };
                let kept = (0..members.len()).filter(|at| is_last(*at));
                Json::Object(
                    kept.map(|at| (members[at].0.clone(), members[at].1.without_repeated())).collect(),
                )
            }
            other => other.clone(),
        }
    }
}

/// How a record is written.
#[derive(Clone, Copy, Default)]
pub struct Style {
    /// White space between tokens.
    pub blanks: bool,
    /// Of it, line ends too.
    pub line_ends: bool,
    /// Characters are escaped that need not be.
    pub escapes: bool,
}

pub fn write(json: &Json, style: Style, random: &mut Random, out: &mut Vec<u8>) {
    blanks(style, random, out);
    match json {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Json::Number(number) => out.extend_from_slice(number.as_bytes()),
        Json::Text(text) => write_text(text, style, random, out),
        Json::List(elements) => {
            out.push(b'[');
            for (at, element) in elements.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                write(element, style, random, out);
            }
            out.push(b']');
        }
        Json::Object(members) => {
            out.push(b'{');
            for (at, (name, value)) in members.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"," });
                blanks(style, random, out);
                write_text(name, style, random, out);
                blanks(style, random, out);
                out.push(b':');
                write(value, style, random, out);
            }
            out.push(b'}');
        }
    }
    blanks(style, random, out);
}

fn blanks(style: Style, random: &mut Random, out: &mut Vec<u8>) {
    while style.blanks && random.below(4) == 0 {
        let kinds: &[u8] = if style.line_ends { b" \t\r\n" } else { b" \t" };
        out.push(kinds[random.below(kinds.len() as u64) as usize]);
    }
}

fn write_text(text: &str, style: Style, random: &mut Random, out: &mut Vec<u8>) {
    out.push(b'"');
    for letter in text.chars() {
        match letter {
            // The second half: with what is before or behind it never makes a pair.
            HALF_PAIR => out.extend_from_slice(b"\\uDc01"),
            NO_UTF8 => out.push(0xff),
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '/' if style.escapes => out.extend_from_slice(b"\\/"),
            '\n' if style.escapes => out.extend_from_slice(b"\\n"),
            letter if letter < ' ' || (style.escapes && random.below(8) == 0) => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
            letter => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
