//! Where a secret is found, as it is written: `{ file = "…" }`, `{ env = "…" }`, `{ credential = "…" }`, or the text itself.
//! No message repeats what is written there: it could be the secret, put into the wrong place.

use std::path::Path;

use toml::de::DeValue;

use super::raw::{ConfigValue, Table, with_article};
use super::remote::Reference;
use crate::secret::Secret;

const WANTED: &str =
    "`{ file = \"/path\" }`, `{ env = \"NAME\" }` or `{ credential = \"name\" }` (of the systemd unit)";

impl<'t> Table<'t> {
    pub fn reference(&mut self, key: &'static str) -> Option<ConfigValue<'t, Reference>> {
        read(self.any(key)?)
    }
}

impl ConfigValue<'_, Reference> {
    /// A secret in the configuration itself works, with a warning.
    pub fn warn_inline(&self) {
        if matches!(self.value, Reference::Inline(_)) {
            self.warn(
                "stands in the configuration itself, for everyone to see who may read the file or a copy of it; \
                 put it into a file of its own and write `{ file = \"/path\" }`",
            );
        }
    }
}

pub fn read<'t>(found: ConfigValue<'t, DeValue<'t>>) -> Option<ConfigValue<'t, Reference>> {
    match &found.value {
        DeValue::Table(_) => table(found),
        _ => found.parse(|value| {
            let text = value
                .as_str()
                .ok_or_else(|| format!("this is {}; write {WANTED}", with_article(value.type_str())))?;
            if text.trim().is_empty() {
                return Err(format!("is empty; write {WANTED}"));
            }
            if text.chars().any(char::is_control) {
                return Err("holds a line break or another control character; write it on one line".into());
            }
            Ok(Reference::Inline(Secret::new(text)))
        }),
    }
}

fn table<'t>(found: ConfigValue<'t, DeValue<'t>>) -> Option<ConfigValue<'t, Reference>> {
    const KEYS: [&str; 3] = ["file", "env", "credential"];
    let entries = found.value.as_table().cloned()?;
    let mut table = Table::new(
        format!("{}.", found.key),
        found.span.clone(),
        entries,
        found.problems,
    );
    let file = table.text("file", "/etc/confluence-audit-agent/token");
    let env = table.text("env", "CONFLUENCE_TOKEN");
    let credential = table.text("credential", "confluence-token");
    let present = KEYS.iter().filter(|key| table.had(key)).count();
    let misspelt = KEYS.iter().any(|key| table.has_like(key));
    table.finish(|_| None);
    if present > 1 {
        found.error(format!("names {present} places; keep one"));
        return None;
    }
    if present == 0 && !misspelt {
        found.error(format!("names no place; write {WANTED}"));
        return None;
    }
    let reference = if let Some(file) = file {
        file.parse(|file| is_absolute(file).map(|()| Reference::File(file.into())))
    } else if let Some(env) = env {
        env.parse(|name| check_env(name).map(|()| Reference::Env(name.clone())))
    } else {
        credential?.parse(|name| check_credential(name).map(|()| Reference::Systemd(name.clone())))
    };
    let value = reference?.value;
    if let Reference::File(path) = &value {
        found.problems.secret_files.borrow_mut().push(path.clone());
    }
    found.parse(|_| Ok::<_, String>(value))
}

fn is_absolute(file: &str) -> Result<(), &'static str> {
    match Path::new(file).is_absolute() {
        true => Ok(()),
        false => Err("is relative; write the file's whole path, from `/` on"),
    }
}

fn check_env(name: &str) -> Result<(), &'static str> {
    if name.starts_with('$') {
        return Err("begins with `$`; write the variable's name alone");
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match name.bytes().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        true => Ok(()),
        false => Err("is no name of an environment variable; write A-Z, a-z, 0-9 and `_`"),
    }
}

fn check_credential(name: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match name.bytes().all(fits) && !name.starts_with('.') {
        true => Ok(()),
        false => Err(
            "is no name of a systemd credential; write the name that stands in the unit's `LoadCredential=`, without a path",
        ),
    }
}
