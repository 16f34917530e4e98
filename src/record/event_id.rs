//! The event id: a hash of what a file line and an API entity of one event have in common.
//!
//! BLAKE3, because everything in a record is user-controlled: a crafted collision would make a sink drop the second
//! event as a duplicate.

use std::fmt;
use std::ops::Range;

use super::json_cursor::JsonCursor;
use super::token::{self, Text, Token};
use super::{Parsed, Record, Shape, address, json};

/// 128 bits; as text 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u128);

impl EventId {
    /// The id of the n-th twin, see [`Twins`](super::twins::Twins). The first one (0) keeps its id.
    pub fn twin(self, n: u32) -> EventId {
        if n == 0 {
            return self;
        }
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.0.to_be_bytes());
        bytes[16..].copy_from_slice(&n.to_be_bytes());
        EventId::of(&bytes)
    }

    /// As text, 32 lower-case hexadecimal digits.
    pub fn hex(self) -> [u8; 32] {
        let mut text = [0; 32];
        for (at, digit) in text.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(self.0 >> (124 - 4 * at) & 0xf) as usize];
        }
        text
    }

    /// A cryptographic hash of any bytes.
    pub fn of(bytes: &[u8]) -> EventId {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        EventId(u128::from_be_bytes(id))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

/// The id of a record without its twin number: a pure function of its content and its site. [`IdHasher`] does the
/// same for many records without an allocation for each.
pub fn event_id(record: &Record, site: Option<&str>) -> EventId {
    IdHasher::new(site).record_id(record)
}

/// Longer texts are represented by their hash in the canonical form, to keep it small.
const TEXT_MAX: usize = 1024;

/// The elements of a list are sorted in runs of this many bytes, so that a list of 16 MiB does not need as much
/// memory again. Within a run the order of elements does not matter. Real lists are a thousand times smaller.
const RUN_BYTES_MAX: usize = 256 * 1024;

/// Computes the ids of a source's records.
#[derive(Debug)]
pub struct IdHasher {
    site: Option<String>,
    /// The last `system`, as it is in the record, and its host: nearly all records of a source have the same.
    last_system: (String, String),
    canonical: Vec<u8>,
    elements: Vec<u8>,
    ranges: Vec<Range<u32>>,
}

impl IdHasher {
    /// `site` is used for records without a `system`; otherwise the host of their `system` is.
    pub fn new(site: Option<&str>) -> Self {
        IdHasher {
            site: site.map(str::to_owned),
            last_system: (String::new(), site.unwrap_or("").to_owned()),
            canonical: Vec::new(),
            elements: Vec::new(),
            ranges: Vec::new(),
        }
    }

    pub fn id(&mut self, parsed: &Parsed) -> EventId {
        match parsed {
            Parsed::Record(record) => self.record_id(record),
            Parsed::Unreadable { bytes, whole_hash, .. } => {
                self.start(b'U');
                self.site(None);
                self.canonical.extend_from_slice(trim_line_end(bytes));
                if let Some(hash) = whole_hash {
                    self.canonical.extend_from_slice(&hash.to_be_bytes());
                }
                EventId::of(&self.canonical)
            }
        }
    }

    pub fn record_id(&mut self, record: &Record) -> EventId {
        match record.shape {
            Shape::File | Shape::Entity => self.data_center(record),
            Shape::Cloud => self.cloud(record),
        }
        EventId::of(&self.canonical)
    }

    fn data_center(&mut self, record: &Record) {
        self.start(b'D');
        self.site(record.system.text());
        self.time(record);
        let action = if record.action_key.is_missing() {
            self.canonical.push(b'T');
            record.action
        } else {
            self.canonical.push(b'K');
            record.action_key
        };
        for token in
            [action, record.category_key, record.author.id, record.source, record.method, record.node]
        {
            put(&mut self.canonical, token, record.has_escapes);
        }
        self.multiset(record.affected_objects, record.has_escapes, |key| match key {
            "type" => Some(0),
            "id" => Some(1),
            "name" => Some(2),
            _ => None,
        });
        // The stable name of a changed value or an attribute takes precedence over the translated one.
        self.multiset(record.changed_values, record.has_escapes, |key| match key {
            "i18nKey" => Some(STABLE_NAME),
            "key" => Some(TRANSLATED_NAME),
            "from" => Some(1),
            "to" => Some(2),
            _ => None,
        });
        self.multiset(record.extra_attributes, record.has_escapes, |key| match key {
            "nameI18nKey" => Some(STABLE_NAME),
            "name" => Some(TRANSLATED_NAME),
            "value" => Some(1),
            _ => None,
        });
    }

    fn cloud(&mut self, record: &Record) {
        self.start(b'C');
        self.site(None);
        self.time(record);
        for token in [record.action, record.category, record.author.id, record.source, record.description] {
            put(&mut self.canonical, token, record.has_escapes);
        }
        let named = |key: &str| match key {
            "objectType" => Some(0),
            "name" => Some(1),
            _ => None,
        };
        self.multiset(record.affected_object, record.has_escapes, named);
        self.multiset(record.affected_objects, record.has_escapes, named);
        self.multiset(record.changed_values, record.has_escapes, |key| match key {
            "name" => Some(0),
            "oldValue" => Some(1),
            "newValue" => Some(2),
            "hiddenOldValue" => Some(3),
            "hiddenNewValue" => Some(4),
            _ => None,
        });
    }

    /// The first byte is the version of the canonical form: ids of different forms must not collide.
    fn start(&mut self, kind: u8) {
        self.canonical.clear();
        self.canonical.extend_from_slice(&[1, kind]);
    }

    fn site(&mut self, system: Option<Text>) {
        let site = self.site.as_deref().unwrap_or("");
        let Some(system) = system else {
            return put_text(&mut self.canonical, site);
        };
        if system.escaped() != self.last_system.0 {
            let url = system.decoded();
            let host = address::host(&url);
            let host = host.as_deref().unwrap_or(site);
            if url.len() > TEXT_MAX {
                return put_text(&mut self.canonical, host);
            }
            self.last_system = (system.escaped().to_owned(), host.to_owned());
        }
        put_text(&mut self.canonical, &self.last_system.1);
    }

    fn time(&mut self, record: &Record) {
        match record.time_ms {
            Some(ms) => {
                self.canonical.push(b'T');
                self.canonical.extend_from_slice(&ms.to_be_bytes());
            }
            None => put(&mut self.canonical, record.time, record.has_escapes),
        }
    }

    /// Adds the elements of a list independent of their order. `field` maps a member name to its index, or `None` if
    /// it does not count.
    fn multiset(&mut self, list: Token, has_escapes: bool, field: impl Fn(&str) -> Option<usize>) {
        self.elements.clear();
        self.ranges.clear();
        let mut cursor = JsonCursor::new(list.raw());
        let is_list = list.is_list();
        if is_list {
            cursor.enter();
        }
        while (is_list && cursor.more()) || (!is_list && cursor.peek() != 0) {
            let start = self.elements.len();
            if cursor.peek() == b'{' {
                let mut fields = [Token::MISSING; 7];
                cursor.enter();
                while cursor.more() {
                    match field(&cursor.key()) {
                        Some(at) => fields[at] = cursor.token(),
                        None => cursor.skip(),
                    }
                }
                if !fields[STABLE_NAME].is_missing() {
                    fields[0] = fields[STABLE_NAME];
                } else if !fields[TRANSLATED_NAME].is_missing() {
                    fields[0] = fields[TRANSLATED_NAME];
                }
                if fields.iter().all(|field| field.is_missing()) {
                    continue;
                }
                self.elements.push(b'O');
                for field in &fields[..5] {
                    put(&mut self.elements, *field, has_escapes);
                }
            } else {
                let element = cursor.token();
                if element.is_missing() {
                    continue;
                }
                self.elements.push(b'V');
                put(&mut self.elements, element, has_escapes);
            }
            self.ranges.push(start as u32..self.elements.len() as u32);
            if self.elements.len() > RUN_BYTES_MAX {
                self.end_run();
            }
        }
        self.end_run();
        self.canonical.push(b'.');
    }

    fn end_run(&mut self) {
        let bytes = |range: &Range<u32>| &self.elements[range.start as usize..range.end as usize];
        self.ranges.sort_unstable_by(|a, b| bytes(a).cmp(bytes(b)));
        for range in &self.ranges {
            self.canonical.extend_from_slice(bytes(range));
        }
        self.elements.clear();
        self.ranges.clear();
        if self.canonical.len() > RUN_BYTES_MAX {
            let so_far = blake3::hash(&self.canonical);
            self.canonical.clear();
            self.canonical.push(b'H');
            self.canonical.extend_from_slice(so_far.as_bytes());
        }
    }
}

/// Indexes at which [`IdHasher::multiset`] collects an element's names. The stable one is used if there is one.
const STABLE_NAME: usize = 5;
const TRANSLATED_NAME: usize = 6;

/// Adds a value. Missing, null and `""` are equal; a number is added as its text.
fn put(canonical: &mut Vec<u8>, token: Token, has_escapes: bool) {
    if let Some(text) = token.text() {
        match has_escapes {
            true => put_escaped(canonical, text.escaped()),
            false => put_text(canonical, text.escaped()),
        }
    } else if token.is_list() || token.is_object() {
        canonical.push(3);
        put_text(canonical, &json::canonical(token.raw()));
    } else {
        put_text(canonical, token.raw());
    }
}

fn put_escaped(canonical: &mut Vec<u8>, escaped: &str) {
    if escaped.len() <= TEXT_MAX {
        return put_text(canonical, &token::decoded(escaped));
    }
    let mut length = 0;
    token::pieces(escaped, |piece| length += piece.len());
    if length <= TEXT_MAX {
        return put_text(canonical, &token::decoded(escaped));
    }
    let mut hasher = blake3::Hasher::new();
    token::pieces(escaped, |piece| {
        hasher.update(piece.as_bytes());
    });
    put_hash(canonical, hasher.finalize());
}

fn put_text(canonical: &mut Vec<u8>, text: &str) {
    match u16::try_from(text.len()) {
        Ok(0) => canonical.push(0),
        Ok(length) if text.len() <= TEXT_MAX => {
            canonical.push(1);
            canonical.extend_from_slice(&length.to_be_bytes());
            canonical.extend_from_slice(text.as_bytes());
        }
        _ => put_hash(canonical, blake3::hash(text.as_bytes())),
    }
}

fn put_hash(canonical: &mut Vec<u8>, hash: blake3::Hash) {
    canonical.push(2);
    canonical.extend_from_slice(hash.as_bytes());
}

fn trim_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
#[path = "event_id_tests.rs"]
mod tests;
