//! What was typed: TOML tables whose keys are taken one by one, with their places in the file.
//!
//! Written by hand and not derived from serde, because serde stops at the first error.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::ConfigError;
use super::units;
use super::words::{choose, list, nearest, one_of};

/// Where something stands: a range of bytes.
pub type Span = Range<usize>;

/// Collects what is wrong with one file.
pub struct Problems<'t> {
    file: &'t Path,
    text: &'t str,
    found: Vec<(usize, ConfigError)>,
}

impl<'t> Problems<'t> {
    pub fn new(file: &'t Path, text: &'t str) -> Problems<'t> {
        Problems {
            file,
            text,
            found: Vec::new(),
        }
    }

    pub fn add(&mut self, span: &Span, key: impl Into<String>, message: impl Into<String>) {
        let place = Some((self.file.to_path_buf(), self.line(span)));
        self.found.push((
            span.start,
            ConfigError {
                place,
                key: key.into(),
                message: message.into(),
            },
        ));
    }

    /// The line, from 1, in which something stands.
    pub fn line(&self, span: &Span) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    /// All errors in the order of the file.
    pub fn into_errors(mut self) -> Vec<ConfigError> {
        self.found.sort_by_key(|(start, _)| *start);
        self.found.into_iter().map(|(_, error)| error).collect()
    }
}

/// A value that was found, where, and the path of its key.
pub struct Found<T> {
    pub value: T,
    pub span: Span,
    pub key: String,
}

/// A table whose keys are taken out one by one; what is left at the end is unknown.
pub struct Table<'t> {
    /// With a dot at its end unless it is the root.
    path: String,
    pub span: Span,
    entries: DeTable<'t>,
    /// Keys asked for.
    asked: Vec<&'static str>,
    /// Keys asked for that were there, be their values right or wrong.
    present: Vec<(&'static str, Span)>,
}

impl<'t> Table<'t> {
    /// Parses a file. Without its syntax being right nothing else can be told; all errors of syntax are.
    pub fn parse(problems: &mut Problems<'t>) -> Option<Table<'t>> {
        let (root, errors) = DeTable::parse_recoverable(problems.text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let line = problems
                .text
                .lines()
                .nth(problems.line(&span) - 1)
                .unwrap_or("")
                .trim();
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            problems.add(&span, "", format!("not valid TOML: {message}: `{line}`"));
        }
        errors
            .is_empty()
            .then(|| Table::new(String::new(), root.span(), root.into_inner()))
    }

    fn new(path: String, span: Span, entries: DeTable<'t>) -> Table<'t> {
        Table {
            path,
            span,
            entries,
            asked: Vec::new(),
            present: Vec::new(),
        }
    }

    /// The path of one of this table's keys.
    pub fn key(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// From here on the table's keys are told with this path.
    pub fn rename(&mut self, path: impl Display) {
        self.path = format!("{path}.");
    }

    /// Reports what is left, with the nearest name. `elsewhere` gives the table that a known key belongs to.
    /// Returns the keys that were asked for.
    pub fn finish(
        self,
        elsewhere: impl Fn(&str) -> Option<&'static str>,
        problems: &mut Problems,
    ) -> Vec<&'static str> {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            let way_out = match (nearest(name, &self.asked), elsewhere(name)) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(table)) => format!("it belongs in `{table}`"),
                (None, None) => format!("remove it; known here are {}", list(&self.asked)),
            };
            problems.add(&key.span(), self.key(name), format!("unknown key; {way_out}"));
        }
        self.asked
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'t>>> {
        self.asked.push(key);
        let value = self.entries.remove(key)?;
        self.present.push((key, value.span()));
        Some(value)
    }

    /// Where the value of a key stood that has been asked for, be it right or wrong.
    pub fn place_of(&self, key: &str) -> Option<&Span> {
        self.present
            .iter()
            .find(|(present, _)| *present == key)
            .map(|(_, span)| span)
    }

    pub fn had(&self, key: &str) -> bool {
        self.place_of(key).is_some()
    }

    /// Whether an unknown key is there that was probably meant to be this one.
    pub fn has_like(&self, key: &str) -> bool {
        self.entries
            .keys()
            .any(|name| nearest(name.get_ref(), &[key]).is_some())
    }

    /// Takes a value that `read` understands; otherwise says that `wanted` is wanted.
    fn read<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        problems: &mut Problems,
        read: impl FnOnce(DeValue<'t>) -> Result<T, Option<String>>,
    ) -> Option<Found<T>> {
        let (span, value) = self.take(key).map(|value| (value.span(), value.into_inner()))?;
        let kind = with_article(value.type_str());
        match read(value) {
            Ok(value) => Some(Found {
                value,
                span,
                key: self.key(key),
            }),
            Err(message) => {
                let message = message.unwrap_or_else(|| format!("this is {kind}; write {wanted}"));
                problems.add(&span, self.key(key), message);
                None
            }
        }
    }

    pub fn text(
        &mut self,
        key: &'static str,
        example: &str,
        problems: &mut Problems,
    ) -> Option<Found<String>> {
        self.read(
            key,
            &format!("a string, as in `{key} = \"{example}\"`"),
            problems,
            |value| match value {
                DeValue::String(text) if text.trim().is_empty() => Err(Some(format!(
                    "is empty; write a value, as in `{key} = \"{example}\"`"
                ))),
                DeValue::String(text) => Ok(text.into_owned()),
                _ => Err(None),
            },
        )
    }

    pub fn texts(
        &mut self,
        key: &'static str,
        example: &str,
        problems: &mut Problems,
    ) -> Option<Found<Vec<String>>> {
        let wanted = format!("an array of strings, as in `{key} = [\"{example}\"]`");
        self.read(key, &wanted, problems, |value| match value {
            DeValue::Array(values) => values
                .iter()
                .map(|value| match value.get_ref() {
                    DeValue::String(text) if !text.trim().is_empty() => Ok(text.to_string()),
                    DeValue::String(_) => Err(Some("holds an empty string; remove it".to_string())),
                    other => Err(Some(format!(
                        "holds {}; write {wanted}",
                        with_article(other.type_str())
                    ))),
                })
                .collect(),
            _ => Err(None),
        })
    }

    pub fn flag(&mut self, key: &'static str, problems: &mut Problems) -> Option<bool> {
        let found = self.read(key, "`true` or `false`", problems, |value| {
            value.as_bool().ok_or(None)
        });
        found.map(|found| found.value)
    }

    pub fn count(
        &mut self,
        key: &'static str,
        range: RangeInclusive<usize>,
        problems: &mut Problems,
    ) -> Option<usize> {
        let found = self.read(key, "a whole number", problems, |value| {
            let number = integer(&value).ok_or(None)?;
            let count = usize::try_from(number).ok().filter(|count| range.contains(count));
            count.ok_or_else(|| Some(out_of_range(number, range.start(), range.end())))
        });
        found.map(|found| found.value)
    }

    pub fn size(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        problems: &mut Problems,
    ) -> Option<u64> {
        let wanted = "a size, as in \"16MiB\", or a whole number of bytes";
        let found = self.read(key, wanted, problems, |value| {
            let limits = |typed: &dyn Display| {
                let [low, high] = [range.start(), range.end()].map(|limit| units::format_size(*limit));
                Some(out_of_range(typed, low, high))
            };
            let (bytes, typed) = match (&value, integer(&value)) {
                (_, Some(number)) => (u64::try_from(number).ok(), number.to_string()),
                (DeValue::String(text), _) => {
                    (Some(units::parse_size(text).map_err(Some)?), text.to_string())
                }
                _ => return Err(None),
            };
            bytes
                .filter(|bytes| range.contains(bytes))
                .ok_or_else(|| limits(&typed))
        });
        found.map(|found| found.value)
    }

    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        problems: &mut Problems,
    ) -> Option<Duration> {
        let found = self.read(key, "a duration with its unit, as in \"5s\"", problems, |value| {
            let DeValue::String(text) = &value else {
                let message =
                    |number| format!("has no unit; write it with ms, s, m, h or d, as in \"{number}s\"");
                return Err(integer(&value).filter(|number| *number >= 0).map(message));
            };
            let duration = units::parse_duration(text).map_err(Some)?;
            let [low, high] = [range.start(), range.end()].map(|limit| units::format_duration(*limit));
            if range.contains(&duration) {
                Ok(duration)
            } else {
                Err(Some(out_of_range(text, low, high)))
            }
        });
        found.map(|found| found.value)
    }

    /// One of a few words. `later` are words that a later version will know.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        later: &[&str],
        problems: &mut Problems,
    ) -> Option<Found<T>> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.read(key, &one_of(&names), problems, |value| {
            let DeValue::String(text) = value else {
                return Err(None);
            };
            choose(&text, words, later).map_err(Some)
        })
    }

    /// A `[key]` table; empty when it is not there.
    pub fn table(&mut self, key: &'static str, problems: &mut Problems) -> Table<'t> {
        let found = self.read(
            key,
            &format!("a table, as in `[{key}]`"),
            problems,
            |value| match value {
                DeValue::Table(table) => Ok(table),
                _ => Err(None),
            },
        );
        let (entries, span) = found.map_or((DeTable::new(), 0..0), |found| (found.value, found.span));
        Table::new(format!("{}.", self.key(key)), span, entries)
    }

    /// The `[[key]]` tables; `None` when there are none.
    pub fn tables(&mut self, key: &'static str, problems: &mut Problems) -> Option<Vec<Table<'t>>> {
        let wanted = format!("an array of tables: put `[[{key}]]` over each, in two brackets");
        let found = self.read(key, &wanted, problems, |value| match value {
            DeValue::Array(values) => values
                .into_iter()
                .map(|value| (value.span(), value.into_inner()))
                .map(|(span, value)| match value {
                    DeValue::Table(table) => Ok((span, table)),
                    _ => Err(None),
                })
                .collect::<Result<Vec<_>, _>>(),
            _ => Err(None),
        })?;
        let table = |(n, (span, entries))| Table::new(format!("{key}#{}.", n + 1), span, entries);
        Some(found.value.into_iter().enumerate().map(table).collect())
    }
}

fn integer(value: &DeValue) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn out_of_range(typed: impl Display, low: impl Display, high: impl Display) -> String {
    format!("`{typed}` is out of range; write {low} to {high}")
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}
