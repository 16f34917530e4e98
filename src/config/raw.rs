//! What was typed: TOML tables whose keys are taken one by one, with their lines in the file.
//!
//! Not derived from serde, which stops at the first error: here each value is read by itself, and each error is
//! collected with its line.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::ConfigError;
use super::words::{list, nearest, renamed_to};

/// A range of bytes of the file.
pub(super) type Span = Range<usize>;

/// Collects what is wrong with one file.
pub(super) struct Problems<'t> {
    file: &'t Path,
    text: &'t str,
    errors: RefCell<Vec<(usize, ConfigError)>>,
    warnings: RefCell<Vec<(usize, ConfigError)>>,
    /// Files that are named as holding a secret.
    pub secret_files: RefCell<Vec<PathBuf>>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Problems<'t> {
        Problems {
            file,
            text,
            errors: RefCell::default(),
            warnings: RefCell::default(),
            secret_files: RefCell::default(),
        }
    }

    /// Something is wrong.
    pub(super) fn error(&self, span: &Span, key: impl Into<String>, message: impl Into<String>) {
        let error = self.located(span, key.into(), message.into());
        self.errors.borrow_mut().push((span.start, error));
    }

    /// Something works and is not as it should be.
    pub(super) fn warn(&self, span: &Span, key: impl Into<String>, message: impl Into<String>) {
        let warning = self.located(span, key.into(), message.into());
        self.warnings.borrow_mut().push((span.start, warning));
    }

    fn located(&self, span: &Span, key: String, message: String) -> ConfigError {
        let location = Some((self.file.to_path_buf(), self.line(span)));
        ConfigError { location, ..ConfigError::new(key, message) }
    }

    /// The line, from 1, in which a span begins.
    pub(super) fn line(&self, span: &Span) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    /// All errors, and all warnings, in the order of the file.
    pub(super) fn into_parts(self) -> (Vec<ConfigError>, Vec<ConfigError>) {
        let sorted = |list: RefCell<Vec<(usize, ConfigError)>>| {
            let mut list = list.into_inner();
            list.sort_by_key(|(start, _)| *start);
            list.into_iter().map(|(_, error)| error).collect()
        };
        (sorted(self.errors), sorted(self.warnings))
    }
}

/// A value that was found, where, and the path of its key.
pub(super) struct ConfigValue<'t, T> {
    pub value: T,
    pub span: Span,
    pub key: String,
    pub problems: &'t Problems<'t>,
}

impl<T> ConfigValue<'_, T> {
    pub(super) fn error(&self, message: impl Into<String>) {
        self.problems.error(&self.span, &self.key, message);
    }

    pub(super) fn warn(&self, message: impl Into<String>) {
        self.problems.warn(&self.span, &self.key, message);
    }
}

/// A table whose keys are taken out one by one; what is left at the end is unknown.
pub(super) struct Table<'t> {
    /// With a dot at its end unless it is the root.
    path: String,
    pub span: Span,
    entries: DeTable<'t>,
    /// Keys asked for.
    pub asked: Vec<&'static str>,
    /// Keys asked for that were there, be their values right or wrong.
    present: Vec<(&'static str, Span)>,
    pub problems: &'t Problems<'t>,
}

impl<'t> Table<'t> {
    /// Parses a file. Only if its syntax is right anything else can be found; all errors of syntax are reported.
    pub(super) fn parse(problems: &'t Problems<'t>) -> Option<Table<'t>> {
        let (root, errors) = DeTable::parse_recoverable(problems.text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let line = problems.text.lines().nth(problems.line(&span) - 1);
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let shown = shown(line.unwrap_or("").trim());
            problems.error(&span, "", format!("not valid TOML: {message}: `{shown}`"));
        }
        errors.is_empty().then(|| Table::new(String::new(), root.span(), root.into_inner(), problems))
    }

    pub(super) fn new(
        path: String,
        span: Span,
        entries: DeTable<'t>,
        problems: &'t Problems<'t>,
    ) -> Table<'t> {
        Table { path, span, entries, asked: Vec::new(), present: Vec::new(), problems }
    }

    /// The keys that a table of a kind may have: those that its reader asks an empty one for.
    pub(super) fn keys_asked(read: impl FnOnce(&mut Table)) -> Vec<&'static str> {
        let problems = Problems::new(Path::new(""), "");
        let mut table = Table::new(String::new(), 0..0, DeTable::new(), &problems);
        read(&mut table);
        table.asked
    }

    /// The path of one of this table's keys.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// From here on the table's keys are reported with this path.
    pub(super) fn rename(&mut self, path: impl Display) {
        self.path = format!("{path}.");
    }

    /// Reports what is left, with the nearest name. `elsewhere` says where a known key belongs.
    pub(super) fn finish(self, elsewhere: impl Fn(&str) -> Option<String>) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            let hint = match (renamed_to(name), nearest(name, &self.asked), elsewhere(name)) {
                (Some(new), _, _) if self.asked.contains(&new) => format!("its name is now `{new}`"),
                (None, Some(near), _) => format!("did you mean `{near}`?"),
                (Some(new), _, _) => match elsewhere(new) {
                    Some(place) => format!("its name is now `{new}`, and {place}"),
                    None => format!("its name is now `{new}`"),
                },
                (None, None, Some(place)) => place,
                (None, None, None) => format!("remove it; known here are {}", list(&self.asked)),
            };
            self.problems.error(&key.span(), self.key(name), format!("unknown key; {hint}"));
        }
    }

    /// Where the value of a key is that has been asked for, be it right or wrong.
    pub(super) fn place_of(&self, key: &str) -> Option<&Span> {
        self.present.iter().find(|(present, _)| *present == key).map(|(_, span)| span)
    }

    /// Whether a key was there that has been asked for.
    pub(super) fn had(&self, key: &str) -> bool {
        self.place_of(key).is_some()
    }

    /// Whether a key is there, asked for or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.had(key) || self.entries.contains_key(key)
    }

    /// Whether an unknown key is there that was probably meant to be this one.
    pub(super) fn has_like(&self, key: &str) -> bool {
        self.entries.keys().any(|name| nearest(name.get_ref(), &[key]).is_some())
    }

    /// Reports an error at a key, or at the table's head where the key is not there.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) {
        self.problems.error(self.place_of(key).unwrap_or(&self.span), self.key(key), message);
    }

    /// Reports an error at each of these keys that is there.
    pub(super) fn refuse(&self, keys: &[&str], message: &str) {
        for (key, span) in keys.iter().filter_map(|key| Some((key, self.place_of(key)?))) {
            self.problems.error(span, self.key(key), message);
        }
    }

    /// Warns at each of these keys that is there.
    pub(super) fn warn(&self, keys: &[&str], message: &str) {
        for (key, span) in keys.iter().filter_map(|key| Some((key, self.place_of(key)?))) {
            self.problems.warn(span, self.key(key), message);
        }
    }

    /// Reports that a key is missing which has been asked for; not if it is misspelt, which is reported anyway.
    pub(super) fn require(&self, key: &str, example: &str) {
        if !self.had(key) && !self.has_like(key) {
            self.error(key, format!("is missing; add `{key} = {example}`"));
        }
    }

    /// Takes a value of whatever type.
    pub(super) fn any(&mut self, key: &'static str) -> Option<ConfigValue<'t, DeValue<'t>>> {
        self.asked.push(key);
        let found: Spanned<DeValue> = self.entries.remove(key)?;
        let (span, value) = (found.span(), found.into_inner());
        self.present.push((key, span.clone()));
        Some(ConfigValue { value, span, key: self.key(key), problems: self.problems })
    }

    /// Takes a value that `read` understands; otherwise reports what `read` says, or that `wanted` is wanted.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, Option<String>>,
    ) -> Option<T> {
        let found = self.any(key)?;
        let mistyped = || format!("this is {}; write {wanted}", with_article(found.value.type_str()));
        let report = |message: Option<String>| found.error(message.unwrap_or_else(mistyped));
        read(&found.value).map_err(report).ok()
    }

    /// A `[key]` table; empty when it is not there.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'t> {
        let wanted = format!("a table, as in `[{key}]`");
        let entries = self.read(key, &wanted, |value| value.as_table().cloned().ok_or(None));
        let span = self.place_of(key).cloned().unwrap_or_default();
        Table::new(format!("{}.", self.key(key)), span, entries.unwrap_or_default(), self.problems)
    }

    /// The `[[key]]` tables; `None` when there are none.
    pub(super) fn tables(&mut self, key: &'static str) -> Option<Vec<Table<'t>>> {
        let wanted = format!("an array of tables: put `[[{key}]]` over each, in two brackets");
        let found = self.read(key, &wanted, |value| {
            let values = value.as_array().ok_or(None)?.iter();
            let tables = values.map(|value| Some((value.span(), value.get_ref().as_table()?.clone())));
            tables.collect::<Option<Vec<_>>>().ok_or(None)
        })?;
        let numbered = found.into_iter().enumerate();
        let table =
            |(n, (span, entries))| Table::new(format!("{key}#{}.", n + 1), span, entries, self.problems);
        Some(numbered.map(table).collect())
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
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}
