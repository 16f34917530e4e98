//! What was typed: TOML tables whose keys are taken one by one, with their places in the file.
//!
//! Written by hand and not derived from serde, because serde stops at the first error.

use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::ConfigError;
use super::words::{list, nearest, renamed_to};

/// Where something stands: a range of bytes.
pub type Span = Range<usize>;

/// Collects what is wrong with one file.
pub struct Problems<'t> {
    file: &'t Path,
    text: &'t str,
    found: Vec<(usize, ConfigError)>,
    warnings: Vec<(usize, ConfigError)>,
    /// Files that are named as holding a secret.
    pub secret_files: Vec<PathBuf>,
}

impl<'t> Problems<'t> {
    pub fn new(file: &'t Path, text: &'t str) -> Problems<'t> {
        Problems {
            file,
            text,
            found: Vec::new(),
            warnings: Vec::new(),
            secret_files: Vec::new(),
        }
    }

    /// Something is wrong.
    pub fn add(&mut self, span: &Span, key: impl Into<String>, message: impl Into<String>) {
        let error = self.at(span, key.into(), message.into());
        self.found.push((span.start, error));
    }

    /// Something works and is not as it should be.
    pub fn warn(&mut self, span: &Span, key: impl Into<String>, message: impl Into<String>) {
        let warning = self.at(span, key.into(), message.into());
        self.warnings.push((span.start, warning));
    }

    fn at(&self, span: &Span, key: String, message: String) -> ConfigError {
        ConfigError {
            place: Some((self.file.to_path_buf(), self.line(span))),
            key,
            message,
            of_host: false,
        }
    }

    /// The line, from 1, in which something stands.
    pub fn line(&self, span: &Span) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    /// All errors, and all warnings, in the order of the file.
    pub fn into_parts(self) -> (Vec<ConfigError>, Vec<ConfigError>) {
        let sorted = |mut list: Vec<(usize, ConfigError)>| {
            list.sort_by_key(|(start, _)| *start);
            list.into_iter().map(|(_, error)| error).collect()
        };
        (sorted(self.found), sorted(self.warnings))
    }
}

/// A value that was found, where, and the path of its key.
#[derive(Clone)]
pub struct ConfigValue<T> {
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
            let line = problems.text.lines().nth(problems.line(&span) - 1);
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let shown = shown(line.unwrap_or("").trim());
            problems.add(&span, "", format!("not valid TOML: {message}: `{shown}`"));
        }
        errors
            .is_empty()
            .then(|| Table::new(String::new(), root.span(), root.into_inner()))
    }

    pub(super) fn new(path: String, span: Span, entries: DeTable<'t>) -> Table<'t> {
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

    /// Reports what is left, with the nearest name. `elsewhere` says where a known key belongs.
    /// Returns the keys that were asked for.
    pub fn finish(
        self,
        elsewhere: impl Fn(&str) -> Option<String>,
        problems: &mut Problems,
    ) -> Vec<&'static str> {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            let renamed = renamed_to(name).filter(|new| self.asked.contains(new));
            let way_out = match (renamed, nearest(name, &self.asked), elsewhere(name)) {
                (Some(new), _, _) => format!("its name is now `{new}`"),
                (None, Some(near), _) => format!("did you mean `{near}`?"),
                (None, None, Some(place)) => place,
                (None, None, None) => format!("remove it; known here are {}", list(&self.asked)),
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

    /// Whether a key is there, asked for or not.
    pub fn has(&self, key: &str) -> bool {
        self.had(key) || self.entries.contains_key(key)
    }

    /// Whether an unknown key is there that was probably meant to be this one.
    pub fn has_like(&self, key: &str) -> bool {
        self.entries
            .keys()
            .any(|name| nearest(name.get_ref(), &[key]).is_some())
    }

    /// Takes a value of whatever type.
    pub(super) fn any(&mut self, key: &'static str) -> Option<ConfigValue<DeValue<'t>>> {
        let value = self.take(key)?;
        Some(ConfigValue {
            span: value.span(),
            value: value.into_inner(),
            key: self.key(key),
        })
    }

    /// Takes a value that `read` understands; otherwise says that `wanted` is wanted.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        problems: &mut Problems,
        read: impl FnOnce(DeValue<'t>) -> Result<T, Option<String>>,
    ) -> Option<ConfigValue<T>> {
        let (span, value) = self.take(key).map(|value| (value.span(), value.into_inner()))?;
        let kind = with_article(value.type_str());
        match read(value) {
            Ok(value) => Some(ConfigValue {
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

/// What may be shown of a line: never a value, which could be somebody's token.
fn shown(line: &str) -> String {
    match line.split_once('=') {
        Some((key, _)) => format!("{}= …", key),
        None if line.starts_with('[') => line.to_string(),
        None => "…".to_string(),
    }
}

pub(super) fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}
