//! Values of the types that keys have, read out of a table. Each reports what is wrong and gives `None` then, as it
//! does where the key is not there.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::raw::{ConfigValue, Problems, Table, with_article};
use super::units;
use super::words::{choose, one_of};

impl Table<'_> {
    pub fn text(
        &mut self,
        key: &'static str,
        example: &str,
        problems: &mut Problems,
    ) -> Option<ConfigValue<String>> {
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
    ) -> Option<ConfigValue<Vec<String>>> {
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
    ) -> Option<ConfigValue<T>> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.read(key, &one_of(&names), problems, |value| {
            let DeValue::String(text) = value else {
                return Err(None);
            };
            choose(&text, words, later).map_err(Some)
        })
    }
}

fn integer(value: &DeValue) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn out_of_range(typed: impl Display, low: impl Display, high: impl Display) -> String {
    format!("`{typed}` is out of range; write {low} to {high}")
}
