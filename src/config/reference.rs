//! Where a secret is found, as it is written: `{ file = "…" }`, `{ env = "…" }`, `{ credential = "…" }`, or the text itself.
//! No message repeats what is written there: it could be the secret, put into the wrong place.

use std::path::Path;

use toml::de::DeValue;

use super::raw::{ConfigValue, Table, with_article};
use super::remote::Reference;
use super::words::ensure;
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
        DeValue::String(_) => found.parse(inline),
        other => {
            found.error(format!(
                "this is {}; write {WANTED}",
                with_article(other.type_str())
            ));
            None
        }
    }
}

fn inline(value: &DeValue) -> Result<Reference, String> {
    let text = value.as_str().unwrap_or_default();
    ensure(!text.trim().is_empty(), format!("is empty; write {WANTED}"))?;
    let message = "holds a line break or another control character; write it on one line";
    ensure(!text.chars().any(char::is_control), message)?;
    Ok(Reference::Inline(Secret::new(text)))
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
        file.check(check_file)
            .map(|file| Reference::File(file.value.into()))
    } else if let Some(env) = env {
        env.check(check_env).map(|env| Reference::Env(env.value))
    } else {
        credential?
            .check(check_credential)
            .map(|name| Reference::Systemd(name.value))
    };
    let value = reference?;
    if let Reference::File(path) = &value {
        found.problems.secret_files.borrow_mut().push(path.clone());
    }
    let ConfigValue {
        span, key, problems, ..
    } = found;
    Some(ConfigValue {
        value,
        span,
        key,
        problems,
    })
}

fn check_file(file: &str) -> Result<(), String> {
    let message = "is relative; write the file's whole path, from `/` on";
    ensure(Path::new(file).is_absolute(), message)
}

fn check_env(name: &str) -> Result<(), String> {
    ensure(
        !name.starts_with('$'),
        "begins with `$`; write the variable's name alone",
    )?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = name.bytes().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit());
    ensure(
        good,
        "is no name of an environment variable; write A-Z, a-z, 0-9 and `_`",
    )
}

fn check_credential(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let message = "is no name of a systemd credential; write the name that stands in the unit's `LoadCredential=`, without a path";
    ensure(name.bytes().all(fits) && !name.starts_with('.'), message)
}
