//! Values of the types that keys have, read out of a table. Each reader reports what is wrong. Where the key is not
//! there, or its value is wrong, it gives `None`, or leaves the slot with its default.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::raw::{Table, with_article};
use super::remote::Start;
use super::units::{format_duration, format_size, parse_duration, parse_size, parse_time};
use super::words::{choose, ensure, one_of};

/// Reads keys whose values go to the fields of the same names: type, key and, in brackets, what is allowed.
macro_rules! keys {
    ($table:ident, $config:expr; $($kind:ident $key:ident $(($allowed:expr))?;)*) => {
        $($table.$kind(stringify!($key), $($allowed,)? &mut $config.$key);)*
    };
}
pub(super) use keys;

impl Table<'_> {
    pub(super) fn text(&mut self, key: &'static str, example: &str) -> Option<String> {
        self.parsed(key, example, |text| Ok(text.to_owned()))
    }

    /// A text that a `check` has nothing against.
    pub(super) fn checked(
        &mut self,
        key: &'static str,
        example: &str,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> Option<String> {
        self.parsed(key, example, |text| check(text).map(|()| text.to_owned()))
    }

    /// What `parse` makes of a text.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let wanted = format!("a string, as in `{key} = \"{example}\"`");
        self.read(key, &wanted, |value| {
            let text = value.as_str().ok_or(None)?;
            let empty = format!("is empty; write a value, as in `{key} = \"{example}\"`");
            ensure(!text.trim().is_empty(), empty)?;
            Ok(parse(text)?)
        })
    }

    /// The same of a text without which the table has no meaning.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.parsed(key, example, parse);
        self.require(key, &format!("\"{example}\""));
        value
    }

    /// The whole path of a file or directory.
    pub(super) fn path(&mut self, key: &'static str, example: &str) -> Option<PathBuf> {
        self.parsed(key, example, absolute)
    }

    pub(super) fn texts(&mut self, key: &'static str, example: &str) -> Option<Vec<String>> {
        let wanted = format!("an array of strings, as in `{key} = [\"{example}\"]`");
        let text = |value: &DeValue| match value {
            DeValue::String(text) if !text.trim().is_empty() => Ok(text.to_string()),
            DeValue::String(_) => Err(Some("holds an empty string; remove it".to_string())),
            other => Err(Some(format!("holds {}; write {wanted}", with_article(other.type_str())))),
        };
        self.read(key, &wanted, |value| {
            value.as_array().ok_or(None)?.iter().map(|value| text(value.get_ref())).collect()
        })
    }

    pub(super) fn flag(&mut self, key: &'static str, slot: &mut bool) {
        let found = self.read(key, "`true` or `false`", |value| value.as_bool().ok_or(None));
        fill(slot, found);
    }

    pub(super) fn count<S: From<usize>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<usize>,
        slot: &mut S,
    ) {
        let found = self.read(key, "a whole number", |value| {
            let number = integer(value).ok_or(None)?;
            let count = usize::try_from(number).ok().filter(|count| range.contains(count));
            count.ok_or_else(|| Some(out_of_range(number, range.start(), range.end())))
        });
        fill(slot, found);
    }

    pub(super) fn size<S: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        slot: &mut S,
    ) {
        let wanted = "a size, as in \"16MiB\", or a whole number of bytes";
        let found = self.read(key, wanted, |value| {
            let (bytes, typed) = match (value, integer(value)) {
                (_, Some(number)) => (u64::try_from(number).ok(), number.to_string()),
                (DeValue::String(text), _) => (Some(parse_size(text).map_err(Some)?), text.to_string()),
                _ => return Err(None),
            };
            bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
                let [low, high] = [range.start(), range.end()].map(|limit| format_size(*limit));
                Some(out_of_range(typed, low, high))
            })
        });
        if let Some(Ok(bytes)) = found.map(S::try_from) {
            *slot = bytes;
        }
    }

    pub(super) fn duration<S: From<Duration>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        slot: &mut S,
    ) {
        let found = self.read(key, "a duration with its unit, as in \"5s\"", |value| {
            let Some(text) = value.as_str() else {
                let message =
                    |number| format!("has no unit; write it with ms, s, m, h or d, as in \"{number}s\"");
                return Err(integer(value).filter(|number| *number >= 0).map(message));
            };
            let duration = parse_duration(text).map_err(Some)?;
            let [low, high] = [range.start(), range.end()].map(|limit| format_duration(*limit));
            let fits = range.contains(&duration);
            fits.then_some(duration).ok_or_else(|| Some(out_of_range(text, low, high)))
        });
        fill(slot, found);
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.read(key, &one_of(&names), |value| choose(value.as_str().ok_or(None)?, words).map_err(Some))
    }

    /// The same, where only the meaning of the word counts.
    pub(super) fn choice<T: Copy, S: From<T>>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        slot: &mut S,
    ) {
        let found = self.word(key, words);
        fill(slot, found);
    }

    /// A point in time, in milliseconds since 1970. A date alone is its first moment in UTC.
    pub(super) fn time(&mut self, key: &'static str) -> Option<i64> {
        self.read(key, "a date or a time, as in \"2027-03-01\"", |value| {
            parse_time(&text_or_time(value).ok_or(None)?).map_err(Some)
        })
    }

    /// A point in time, or a duration that is counted back from the first poll.
    pub(super) fn start(&mut self, key: &'static str) -> Option<Start> {
        let wanted = "a time, as in \"2026-06-01T00:00:00Z\", or a duration, as in \"30d\"";
        self.read(key, wanted, |value| {
            let text = text_or_time(value).ok_or(None)?;
            if text.contains('-') {
                return parse_time(&text).map(Start::At).map_err(Some);
            }
            let message = |_| Some(format!("`{text}` is neither a time nor a duration; write {wanted}"));
            parse_duration(&text).map(Start::Ago).map_err(message)
        })
    }
}

pub(super) fn absolute(path: &str) -> Result<PathBuf, String> {
    let message = format!("`{path}` is relative; write the whole path, from `/` on");
    ensure(Path::new(path).is_absolute(), message).map(|()| path.into())
}

fn fill<T, S: From<T>>(slot: &mut S, found: Option<T>) {
    if let Some(found) = found {
        *slot = found.into();
    }
}

/// TOML has times of its own, which need no quotes.
fn text_or_time(value: &DeValue) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.trim().to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        _ => None,
    }
}

fn integer(value: &DeValue) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn out_of_range(typed: impl Display, low: impl Display, high: impl Display) -> String {
    format!("`{typed}` is out of range; write {low} to {high}")
}
