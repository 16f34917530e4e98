//! Generates audit file lines in the shapes of Confluence Data Center, from a seed.
//!
//! Uses std only, so that the example, the tests and the benches include this file by `#[path]`. The same
//! seed gives the same bytes on every machine and in every release: tests compare runs.
#![allow(dead_code, unused_imports, reason = "each of its users takes a part of it")]

#[path = "kinds.rs"]
mod kinds;
#[path = "numbered.rs"]
mod numbered;
#[path = "words.rs"]
mod words;

use std::io::Write;

use kinds::{KINDS, Kind, Object, Side, Value};
pub use numbered::check;
use numbered::{CRC_KEY, SEQ_KEY, checksum};
use words::{APPS, GROUPS, LOGINS, METHODS, PAGES, PEOPLE, PERMISSIONS, SOURCES, SPACES, WORDS};

/// 2026-01-05T00:00:00Z, the start of generated time.
pub const START_MS: i64 = 1_767_571_200_000;

const DAY_MS: i64 = 86_400_000;

/// SplitMix64: eight lines, and good enough to choose names.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound`, exclusive.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

/// An endless sequence of lines.
pub struct Lines {
    random: Random,
    now_ms: i64,
    next_seq: u64,
    numbered: bool,
}

impl Lines {
    pub fn new(seed: u64) -> Lines {
        Lines { random: Random::new(seed), now_ms: START_MS, next_seq: 0, numbered: false }
    }

    /// Each line has a sequence number from 0 and a checksum, for [`check`].
    pub fn numbered(seed: u64) -> Lines {
        Lines { numbered: true, ..Lines::new(seed) }
    }

    /// Generated time, used for file names and time stamps.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// A generator that follows a real clock sets it before each batch.
    pub fn set_now_ms(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// Number of written lines.
    pub fn count(&self) -> u64 {
        self.next_seq
    }

    /// Appends one line of 512 to 2,048 bytes with its LF (numbered: some 170 more).
    pub fn write(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        let kind = &KINDS[self.random.below(KINDS.len() as u64) as usize];
        self.affected_objects(kind, out);
        audit_type(kind, out);
        self.author(out);
        self.changed_values(kind, out);
        let crc_at = self.extra_attributes(kind, out);
        self.rest(out);
        if let Some(crc_at) = crc_at {
            let crc = checksum(&out[start..crc_at], &out[crc_at + 8..]);
            let _ = write!(&mut out[crc_at..crc_at + 8], "{crc:08x}");
        }
        out.push(b'\n');
        self.next_seq += 1;
        self.now_ms += self.random.below(160) as i64;
    }

    fn affected_objects(&mut self, kind: &Kind, out: &mut Vec<u8>) {
        put(out, "{\"affectedObjects\":[");
        for (i, object) in kind.objects.iter().enumerate() {
            put(out, if i == 0 { "{" } else { ",{" });
            let (name, type_name) = match object {
                Object::User => {
                    put(out, "\"id\":\"");
                    self.user_key(out);
                    put(out, "\",");
                    (self.random.pick(&PEOPLE), "User")
                }
                Object::Group => {
                    let group = self.random.pick(&GROUPS);
                    put(out, "\"id\":\"");
                    put(out, group);
                    put(out, "\",");
                    (group, "Group")
                }
                Object::Space => {
                    self.number_id(out);
                    (self.random.pick(&SPACES), "Space")
                }
                Object::Page => {
                    self.number_id(out);
                    (self.random.pick(&PAGES), "Page")
                }
                Object::App => (self.random.pick(&APPS), "App"),
            };
            put(out, "\"name\":\"");
            put(out, name);
            put(out, "\",\"type\":\"");
            put(out, type_name);
            put(out, "\"}");
        }
        put(out, "],");
    }

    fn author(&mut self, out: &mut Vec<u8>) {
        match self.random.below(16) {
            0 => put(out, "\"author\":{\"id\":\"-1\",\"name\":\"System\",\"type\":\"system\"},"),
            1 => put(out, "\"author\":{\"id\":\"-2\",\"name\":\"Anonymous\",\"type\":\"user\"},"),
            _ => {
                put(out, "\"author\":{\"id\":\"");
                self.user_key(out);
                put(out, "\",\"name\":\"");
                put(out, self.random.pick(&PEOPLE));
                put(out, "\",\"type\":\"user\"},");
            }
        }
    }

    fn changed_values(&mut self, kind: &Kind, out: &mut Vec<u8>) {
        put(out, "\"changedValues\":[");
        let rounds = if kind.repeats { 1 + self.random.below(2) } else { 1 };
        for round in 0..rounds {
            for (i, (key, i18n_key, side, value)) in kind.changes.iter().enumerate() {
                put(out, if round == 0 && i == 0 { "{" } else { ",{" });
                if matches!(side, Side::From | Side::Both) {
                    put(out, "\"from\":\"");
                    self.value(*value, out);
                    put(out, "\",");
                }
                put(out, "\"i18nKey\":\"");
                put(out, i18n_key);
                put(out, "\",\"key\":\"");
                put(out, key);
                put(out, "\"");
                if matches!(side, Side::To | Side::Both) {
                    put(out, ",\"to\":\"");
                    self.value(*value, out);
                    put(out, "\"");
                }
                put(out, "}");
            }
        }
        put(out, "],");
    }

    /// Returns the position of the eight bytes of the checksum.
    fn extra_attributes(&mut self, kind: &Kind, out: &mut Vec<u8>) -> Option<usize> {
        put(out, "\"extraAttributes\":[");
        // Confluence writes them in random order; rotating the list is sufficient.
        let turn = self.random.below(kind.attributes.len().max(1) as u64) as usize;
        let (head, tail) = kind.attributes.split_at(turn);
        for (i, (name, i18n_key, value)) in tail.iter().chain(head).enumerate() {
            attribute(i == 0, name, i18n_key, out);
            self.value(*value, out);
            put(out, "\"}");
        }
        let mut crc_at = None;
        if self.numbered {
            attribute(kind.attributes.is_empty(), "seq", SEQ_KEY, out);
            let _ = write!(out, "{}", self.next_seq);
            put(out, "\"}");
            attribute(false, "crc", CRC_KEY, out);
            crc_at = Some(out.len());
            put(out, "00000000\"}");
        }
        put(out, "],");
        crc_at
    }

    fn rest(&mut self, out: &mut Vec<u8>) {
        put(out, "\"method\":\"");
        put(out, self.random.pick(&METHODS));
        // A real file has the member in all lines or in none; here each file has both.
        if self.random.below(2) == 0 {
            put(out, "\",\"node\":\"5f1c");
            put(out, if self.random.below(2) == 0 { "0a77" } else { "e93d" });
        }
        put(out, "\",\"source\":\"");
        put(out, self.random.pick(&SOURCES));
        // One line in eight is up to 2 s older than the line before it.
        let late_ms = if self.random.below(8) == 0 { self.random.below(2_000) as i64 } else { 0 };
        let at_ms = self.now_ms - late_ms;
        let _ = write!(
            out,
            "\",\"system\":\"https://wiki.example.com\",\"timestamp\":{{\"epochSecond\":{},\"nano\":{}}},\"version\":\"1.0\"}}",
            at_ms.div_euclid(1_000),
            at_ms.rem_euclid(1_000) * 1_000_000
        );
    }

    fn value(&mut self, value: Value, out: &mut Vec<u8>) {
        match value {
            Value::Person => put(out, self.random.pick(&PEOPLE)),
            Value::Login => put(out, self.random.pick(&LOGINS)),
            Value::Group => put(out, self.random.pick(&GROUPS)),
            Value::Space => put(out, self.random.pick(&SPACES)),
            Value::Permission => put(out, self.random.pick(&PERMISSIONS)),
            Value::YesNo => put(out, if self.random.below(2) == 0 { "Yes" } else { "No" }),
            Value::Number => {
                let _ = write!(out, "{}", self.random.below(1_000_000));
            }
            Value::Email => {
                put(out, "user");
                let _ = write!(out, "{}@example.com", self.random.below(100_000));
            }
            Value::Text => {
                for i in 0..4 + self.random.below(8) {
                    put(out, if i == 0 { "" } else { " " });
                    put(out, self.random.pick(&WORDS));
                }
            }
        }
    }

    fn number_id(&mut self, out: &mut Vec<u8>) {
        let _ = write!(out, "\"id\":\"{}\",", 98_305 + self.random.below(4_000_000));
    }

    fn user_key(&mut self, out: &mut Vec<u8>) {
        // A few users perform most of the actions.
        let person = self.random.below(64);
        let _ = write!(out, "8a80cb819bd0{person:04x}019bd0{:010x}", person * 7_919);
    }
}

fn audit_type(kind: &Kind, out: &mut Vec<u8>) {
    put(out, "\"auditType\":{\"action\":\"");
    put(out, kind.action);
    put(out, "\",\"actionI18nKey\":\"");
    put(out, kind.action_key);
    put(out, "\",\"area\":\"");
    put(out, kind.area);
    put(out, "\",\"category\":\"");
    put(out, kind.category);
    put(out, "\",\"categoryI18nKey\":\"");
    put(out, kind.category_key);
    put(out, "\",\"level\":\"");
    put(out, kind.level);
    put(out, "\"},");
}

fn attribute(first: bool, name: &str, i18n_key: &str, out: &mut Vec<u8>) {
    put(out, if first { "{\"name\":\"" } else { ",{\"name\":\"" });
    put(out, name);
    put(out, "\",\"nameI18nKey\":\"");
    put(out, i18n_key);
    put(out, "\",\"value\":\"");
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// The name of a file. Confluence's documentation has a dash before the number, its own example a dot.
pub fn file_name(date_ms: i64, number: u32, dash: bool) -> String {
    let (year, month, day) = date(date_ms);
    let separator = if dash { '-' } else { '.' };
    format!("{year:04}{month:02}{day:02}{separator}{number:05}.audit.log")
}

/// Whether a new file is due because of the date.
pub fn same_day(a_ms: i64, b_ms: i64) -> bool {
    a_ms.div_euclid(DAY_MS) == b_ms.div_euclid(DAY_MS)
}

/// Year, month and day in UTC, by the algorithm known as `civil_from_days`.
fn date(at_ms: i64) -> (i64, i64, i64) {
    let z = at_ms.div_euclid(DAY_MS) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}
