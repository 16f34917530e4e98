//! Where a secret is found, as it is written: `{ file = "…" }`, `{ env = "…" }`, `{ credential = "…" }`, or the text
//! itself. No message repeats what is written there: it could be the secret, put into the wrong place.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::raw::{ConfigValue, Table, with_article};
use super::remote::Reference;
use super::words::ensure;
use crate::secret::Secret;

const WANTED: &str =
    "`{ file = \"/path\" }`, `{ env = \"NAME\" }` or `{ credential = \"name\" }` (of the systemd unit)";

impl<'t> Table<'t> {
    pub(super) fn reference(&mut self, key: &'static str) -> Option<ConfigValue<'t, Reference>> {
        read(self.any(key)?)
    }
}

impl ConfigValue<'_, Reference> {
    /// A secret in the configuration itself works, with a warning.
    pub(super) fn warn_inline(&self) {
        if matches!(self.value, Reference::Inline(_)) {
            self.warn(
                "is in the configuration itself, readable for everyone who may read the file or a copy of it; \
                 put it into a file of its own and write `{ file = \"/path\" }`",
            );
        }
    }
}

pub(super) fn read<'t>(found: ConfigValue<'t, DeValue<'t>>) -> Option<ConfigValue<'t, Reference>> {
    let ConfigValue { value, span, key, problems } = found;
    let value = match value {
        DeValue::Table(entries) => place(Table::new(format!("{key}."), span.clone(), entries, problems)),
        DeValue::String(text) => inline(&text),
        other => Err(format!("this is {}; write {WANTED}", with_article(other.type_str()))),
    };
    let value = value.map_err(|message| problems.error(&span, &key, message)).ok()??;
    Some(ConfigValue { value, span, key, problems })
}

fn inline(text: &str) -> Result<Option<Reference>, String> {
    ensure(!text.trim().is_empty(), format!("is empty; write {WANTED}"))?;
    let message = "holds a line break or another control character; write it on one line";
    ensure(!text.chars().any(char::is_control), message)?;
    Ok(Some(Reference::Inline(Secret::new(text))))
}

/// `None` where something in the table is wrong, which has been reported then.
fn place(mut table: Table) -> Result<Option<Reference>, String> {
    const KEYS: [&str; 3] = ["file", "env", "credential"];
    let file = table.checked("file", "/etc/confluence-audit-agent/token", check_file);
    let env = table.checked("env", "CONFLUENCE_TOKEN", check_env);
    let credential = table.checked("credential", "confluence-token", check_credential);
    let present = KEYS.iter().filter(|key| table.had(key)).count();
    let misspelt = KEYS.iter().any(|key| table.has_like(key));
    let problems = table.problems;
    table.finish(|_| None);
    ensure(present <= 1, format!("names {present} places; keep one"))?;
    ensure(present == 1 || misspelt, format!("names no place; write {WANTED}"))?;
    problems.secret_files.borrow_mut().extend(file.as_ref().map(PathBuf::from));
    let file = file.map(|file| Reference::File(file.into()));
    Ok(file.or(env.map(Reference::Env)).or(credential.map(Reference::Systemd)))
}

fn check_file(file: &str) -> Result<(), String> {
    let message = "is relative; write the file's whole path, from `/` on";
    ensure(Path::new(file).is_absolute(), message)
}

fn check_env(name: &str) -> Result<(), String> {
    ensure(!name.starts_with('$'), "begins with `$`; write the variable's name alone")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = name.bytes().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit());
    ensure(good, "is not the name of an environment variable; write A-Z, a-z, 0-9 and `_`")
}

fn check_credential(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let message = "is not the name of a systemd credential; write the name from the unit's `LoadCredential=`, without a path";
    ensure(name.bytes().all(fits) && !name.starts_with('.'), message)
}
