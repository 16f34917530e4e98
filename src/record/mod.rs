//! One audit record, parsed once and borrowed from the bytes that were read.
//!
//! What Confluence writes is in docs/CONFLUENCE.md. Everything in a record is user-controlled text, so nothing in
//! it can make [`parse`] fail, panic or take more than linear time.

pub mod address;
mod audit;
mod event_id;
mod repeated;
pub mod time;
pub mod token;
pub mod twins;
pub mod walk;

#[cfg(test)]
mod tests;

use std::fmt;

pub use audit::object;
pub use event_id::{EventId, IdHasher, event_id};
pub use token::{Text, Token};
pub use walk::{compact, without_blanks};

/// What a record looks like; told by its content alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A line of a Data Center audit file.
    File,
    /// An entity of Data Center's REST API.
    Entity,
    /// A record of Cloud's REST API.
    Cloud,
}

/// What became of one record's bytes.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a box would cost an allocation for each line"
)]
pub enum Parsed<'a> {
    Record(Record<'a>),
    /// No JSON, no object or of no known shape. It still becomes an event.
    Unreadable {
        /// What is wrong, a phrase.
        error: String,
        /// The record as it was read; of one that is too long, its beginning.
        bytes: &'a [u8],
        /// A hash of the whole record where `bytes` is only its beginning.
        whole_hash: Option<u128>,
    },
}

/// A record of any shape. What is null, empty or absent is [`Token::MISSING`]; a token where a text belongs may
/// still be a number or an object, and `problems` then names it.
#[derive(Debug)]
pub struct Record<'a> {
    pub shape: Shape,
    /// The whole record as it was read, invalid UTF-8 replaced by U+FFFD.
    pub original: &'a str,
    /// The same, half surrogate pairs replaced too, and of members of one name the last alone: what the tokens are
    /// borrowed from.
    pub text: &'a str,
    /// Whether any text in it is escaped: in most records none is.
    pub has_escapes: bool,
    /// `None` if there is no time or none that can be understood.
    pub time_ms: Option<i64>,
    /// The time as it stands.
    pub time: Token<'a>,
    /// Translated text; Cloud's `summary`.
    pub action: Token<'a>,
    pub action_key: Token<'a>,
    pub area: Token<'a>,
    pub category: Token<'a>,
    pub category_key: Token<'a>,
    pub level: Token<'a>,
    pub author: Author<'a>,
    pub method: Token<'a>,
    pub node: Token<'a>,
    /// The remote address, or a chain of them.
    pub source: Token<'a>,
    /// The site's base URL.
    pub system: Token<'a>,
    /// A list; Cloud's `associatedObjects`.
    pub affected_objects: Token<'a>,
    /// Cloud only: an object.
    pub affected_object: Token<'a>,
    /// A list.
    pub changed_values: Token<'a>,
    /// A list.
    pub extra_attributes: Token<'a>,
    /// Nothing in these lists is empty, and there is no white space between their members.
    pub has_clean_lists: bool,
    /// It has a member `event_id`, which is the name that the format `raw` gives to the id.
    pub has_event_id: bool,
    pub description: Token<'a>,
    pub sys_admin: Option<bool>,
    pub super_admin: Option<bool>,
    /// What is wrong in it.
    pub problems: Vec<MemberProblem>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Author<'a> {
    /// A user key; Cloud's `accountId`.
    pub id: Token<'a>,
    /// A display name.
    pub name: Token<'a>,
    pub kind: Token<'a>,
    pub uri: Token<'a>,
    pub external_collaborator: Option<bool>,
    pub guest: Option<bool>,
}

impl<'a> Record<'a> {
    /// The action by the name that does not change with the site's language; on Cloud there is only the label.
    pub fn stable_action(&self) -> Option<Text<'a>> {
        match self.shape {
            Shape::File | Shape::Entity => self.action_key.text(),
            Shape::Cloud => self.action.text(),
        }
    }
}

/// Something wrong in a record that is otherwise fine.
#[derive(Debug, PartialEq, Eq)]
pub struct MemberProblem {
    /// Path of the member.
    pub member: String,
    pub wrong: &'static str,
}

impl fmt::Display for MemberProblem {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "`{}` {}", self.member, self.wrong)
    }
}

/// Room for the records that cannot be borrowed as they are. One serves all records, one after the other.
#[derive(Debug, Default)]
pub struct Scratch {
    decoded: String,
    repaired: String,
    unique: String,
}

/// Parses one record: the bytes of one JSON object without its line end.
pub fn parse<'a>(line: &'a [u8], scratch: &'a mut Scratch) -> Parsed<'a> {
    let Scratch {
        decoded,
        repaired,
        unique,
    } = scratch;
    let mut problems = Vec::new();
    let mut replaced = Vec::new();
    let original: &'a str = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(_) => {
            replaced = decode_lossily(line, decoded);
            decoded
        }
    };
    let mut text = original;
    let mut halves = Vec::new();
    let has_escapes = token::has_escape(original);
    if has_escapes
        && memchr::memmem::find(line, b"\\u").is_some()
        && let Some((without, places)) = token::without_lone_surrogates(original)
    {
        *repaired = without;
        text = repaired;
        halves = places;
    }
    let whole = text;
    let mut read = audit::read(text, original, &mut problems);
    if read.as_ref().is_ok_and(|(_, doubtful)| *doubtful)
        && let Some(last) = repeated::without_repeated(text)
    {
        *unique = last;
        text = unique;
        problems.clear();
        read = audit::read(text, original, &mut problems);
    }
    match read {
        Ok((mut record, _)) => {
            name_places(original, &replaced, "has invalid UTF-8", &mut problems);
            name_places(whole, &halves, "has half a surrogate pair", &mut problems);
            record.problems = problems;
            record.has_escapes = has_escapes;
            Parsed::Record(record)
        }
        Err(error) => Parsed::Unreadable {
            error,
            bytes: line,
            whole_hash: None,
        },
    }
}

/// How many replaced places are named; a record with more is named by its first ones.
const PLACES_MAX: usize = 8;

/// Writes `bytes` to `text`, invalid sequences replaced by U+FFFD; returns where the first of them are.
fn decode_lossily(bytes: &[u8], text: &mut String) -> Vec<usize> {
    let mut places = Vec::new();
    text.clear();
    text.reserve(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            if places.len() < PLACES_MAX {
                places.push(text.len());
            }
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    places
}

fn name_places(text: &str, places: &[usize], wrong: &'static str, problems: &mut Vec<MemberProblem>) {
    for place in places.iter().take(PLACES_MAX) {
        let problem = MemberProblem {
            member: walk::path_at(text, *place),
            wrong,
        };
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}
