//! One audit record, parsed once and borrowed from the bytes that were read.
//!
//! docs/CONFLUENCE.md describes what Confluence writes. Everything in a record is user-controlled text. Nothing in it
//! can make [`parse`] fail, panic or take more than linear time.
//!
//! Reading order: `shapes` (from JSON members to a [`Record`]), `token` (values, still escaped), `json_cursor` and
//! `scan` (how JSON is read without a tree), `event_id`, `twins`.

pub(crate) mod address;
mod event_id;
pub(crate) mod json;
pub(crate) mod json_cursor;
mod member_checker;
mod members;
mod repeated_names;
pub(crate) mod scan;
mod shapes;
pub mod time;
pub(crate) mod token;
pub(crate) mod twins;

#[cfg(test)]
mod tests;

use memchr::memmem::Finder;
use std::fmt;
use std::sync::LazyLock;

pub use event_id::{EventId, IdHasher, event_id};
pub use json::object;
pub use scan::{compact, without_blanks};
pub use token::{Text, Token};

/// The form of a record, recognised by its content alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A line of a Data Center audit file.
    File,
    /// An entity of Data Center's REST API.
    Entity,
    /// A record of Cloud's REST API.
    Cloud,
}

/// The result of [`parse`].
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a box would cost an allocation for each line")]
pub enum Parsed<'a> {
    Record(Record<'a>),
    /// Not JSON, not an object, or of no known shape. It still becomes an event.
    Unreadable {
        /// What is wrong, as a phrase.
        error: String,
        /// The record as it was read; only its beginning if it is too long.
        bytes: &'a [u8],
        /// Hash of the complete record if `bytes` is only its beginning.
        whole_hash: Option<u128>,
    },
}

/// A record of any shape. Null, empty and absent values are [`Token::MISSING`]. A token that should be a text may
/// still be a number or an object; `problems` then names it.
#[derive(Debug)]
pub struct Record<'a> {
    pub shape: Shape,
    /// The complete record as it was read, with invalid UTF-8 replaced by U+FFFD.
    pub original: &'a str,
    /// As `original`, with lone surrogates replaced too, and of repeated member names only the last. The tokens
    /// borrow from it.
    pub text: &'a str,
    /// Whether any text contains an escape. Most records have none.
    pub has_escapes: bool,
    /// Milliseconds since 1970. `None` if the time is missing or invalid.
    pub time_ms: Option<i64>,
    /// The time as it was written.
    pub time: Token<'a>,
    /// Translated text. Cloud: `summary`.
    pub action: Token<'a>,
    pub action_key: Token<'a>,
    pub area: Token<'a>,
    pub category: Token<'a>,
    pub category_key: Token<'a>,
    pub level: Token<'a>,
    pub author: Author<'a>,
    pub method: Token<'a>,
    pub node: Token<'a>,
    /// The remote address, or a list of them.
    pub source: Token<'a>,
    /// The site's base URL.
    pub system: Token<'a>,
    /// A list. Cloud: `associatedObjects`.
    pub affected_objects: Token<'a>,
    /// An object. Cloud only.
    pub affected_object: Token<'a>,
    /// A list.
    pub changed_values: Token<'a>,
    /// A list.
    pub extra_attributes: Token<'a>,
    /// These lists contain no empty values and no white space between values.
    pub has_clean_lists: bool,
    /// It has a member `event_id`, the name that the format `raw` gives to the id.
    pub has_event_id: bool,
    pub description: Token<'a>,
    pub sys_admin: Option<bool>,
    pub super_admin: Option<bool>,
    /// Members with a wrong type or content.
    pub problems: Vec<MemberProblem>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Author<'a> {
    /// A user key. Cloud: `accountId`.
    pub id: Token<'a>,
    /// A display name.
    pub name: Token<'a>,
    pub kind: Token<'a>,
    pub uri: Token<'a>,
    pub external_collaborator: Option<bool>,
    pub guest: Option<bool>,
}

impl<'a> Record<'a> {
    /// The action's name that does not depend on the site's language. Cloud has only the translated one.
    pub fn stable_action(&self) -> Option<Text<'a>> {
        match self.shape {
            Shape::File | Shape::Entity => self.action_key.text(),
            Shape::Cloud => self.action.text(),
        }
    }
}

/// A wrong member in an otherwise valid record.
#[derive(Debug, PartialEq, Eq)]
pub struct MemberProblem {
    /// Path of the member.
    pub member: String,
    pub problem: &'static str,
}

impl fmt::Display for MemberProblem {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "`{}` {}", self.member, self.problem)
    }
}

/// Buffers for records that cannot be borrowed unchanged. They are reused for all records.
#[derive(Debug, Default)]
pub struct Scratch {
    decoded: String,
    repaired: String,
    unique: String,
}

static UNICODE_ESCAPE: LazyLock<Finder> = LazyLock::new(|| Finder::new("\\u"));

/// Parses one record: the bytes of one JSON object without its line end.
pub fn parse<'a>(line: &'a [u8], scratch: &'a mut Scratch) -> Parsed<'a> {
    let Scratch { decoded, repaired, unique } = scratch;
    let mut problems = Vec::new();
    let mut replaced = Vec::new();
    let original: &'a str = match simdutf8::basic::from_utf8(line) {
        Ok(text) => text,
        Err(_) => {
            replaced = decode_lossily(line, decoded);
            decoded
        }
    };
    let mut text = original;
    let mut lone_surrogates = Vec::new();
    let has_escapes = token::has_escape(original);
    if has_escapes
        && UNICODE_ESCAPE.find(line).is_some()
        && let Some((without, positions)) = token::without_lone_surrogates(original)
    {
        *repaired = without;
        text = repaired;
        lone_surrogates = positions;
    }
    let complete = text;
    let mut read = shapes::read(text, original, &mut problems);
    if read.as_ref().is_ok_and(|(_, may_repeat_names)| *may_repeat_names)
        && let Some(last) = repeated_names::without_repeated(text)
    {
        *unique = last;
        text = unique;
        problems.clear();
        read = shapes::read(text, original, &mut problems);
    }
    match read {
        Ok((mut record, _)) => {
            report_positions(original, &replaced, "has invalid UTF-8", &mut problems);
            report_positions(complete, &lone_surrogates, "has half a surrogate pair", &mut problems);
            record.problems = problems;
            record.has_escapes = has_escapes;
            Parsed::Record(record)
        }
        Err(error) => Parsed::Unreadable { error, bytes: line, whole_hash: None },
    }
}

/// Number of replaced positions that are reported per record, the first ones.
const POSITIONS_MAX: usize = 8;

/// Writes `bytes` to `text` with invalid sequences replaced by U+FFFD. Returns the positions of the first ones.
fn decode_lossily(bytes: &[u8], text: &mut String) -> Vec<usize> {
    let mut positions = Vec::new();
    text.clear();
    text.reserve(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            if positions.len() < POSITIONS_MAX {
                positions.push(text.len());
            }
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    positions
}

fn report_positions(
    text: &str,
    positions: &[usize],
    problem: &'static str,
    problems: &mut Vec<MemberProblem>,
) {
    for position in positions.iter().take(POSITIONS_MAX) {
        let problem = MemberProblem { member: json::path_at(text, *position), problem };
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}
