//! Where a secret is found, as it is written: `{ file = "…" }`, `{ env = "…" }`, `{ credential = "…" }`, or the text itself.
//! No message repeats what stands there: it could be the secret, put into the wrong place.

use std::path::Path;

use toml::de::DeValue;

use super::raw::{ConfigValue, Problems, Span, Table, with_article};
use super::remote::Reference;
use crate::secret::Secret;

const WANTED: &str =
    "`{ file = \"/path\" }`, `{ env = \"NAME\" }` or `{ credential = \"name\" }` (of the systemd unit)";

impl Table<'_> {
    pub fn reference(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<ConfigValue<Reference>> {
        let found = self.any(key)?;
        let value = read(found.value, &found.span, &found.key, problems)?;
        Some(ConfigValue {
            value,
            span: found.span,
            key: found.key,
        })
    }
}

/// A secret that stands in the configuration itself works, with a warning.
pub fn warn_inline(found: &ConfigValue<Reference>, problems: &mut Problems) {
    if matches!(found.value, Reference::Inline(_)) {
        let message = "stands in the configuration itself, for everyone to see who may read the file or a copy of it; \
                       put it into a file of its own and write `{ file = \"/path\" }`";
        problems.warn(&found.span, found.key.clone(), message);
    }
}

/// Reads the value of `key`, whose name is its whole path.
pub fn read(value: DeValue, span: &Span, key: &str, problems: &mut Problems) -> Option<Reference> {
    match value {
        DeValue::String(text) => match check_inline(&text) {
            Ok(()) => Some(Reference::Inline(Secret::new(text))),
            Err(message) => {
                problems.add(span, key, message);
                None
            }
        },
        DeValue::Table(entries) => table(
            Table::new(format!("{key}."), span.clone(), entries),
            key,
            problems,
        ),
        other => {
            let message = format!("this is {}; write {WANTED}", with_article(other.type_str()));
            problems.add(span, key, message);
            None
        }
    }
}

fn table(mut table: Table, key: &str, problems: &mut Problems) -> Option<Reference> {
    const KEYS: [&str; 3] = ["file", "env", "credential"];
    let span = table.span.clone();
    let file = table.text("file", "/etc/confluence-audit-agent/token", problems);
    let env = table.text("env", "CONFLUENCE_TOKEN", problems);
    let credential = table.text("credential", "confluence-token", problems);
    let present = KEYS.iter().filter(|key| table.had(key)).count();
    let misspelt = KEYS.iter().any(|key| table.has_like(key));
    table.finish(|_| None, problems);
    if present > 1 {
        problems.add(&span, key, format!("names {present} places; keep one"));
        return None;
    }
    if present == 0 && !misspelt {
        problems.add(&span, key, format!("names no place; write {WANTED}"));
        return None;
    }
    let (reference, found, wrong) = if let Some(file) = file {
        let wrong = (!Path::new(&file.value).is_absolute())
            .then_some("is relative; write the file's whole path, from `/` on");
        (Reference::File(file.value.clone().into()), file, wrong)
    } else if let Some(env) = env {
        (
            Reference::Env(env.value.clone()),
            env.clone(),
            check_env(&env.value),
        )
    } else {
        let name = credential?;
        (
            Reference::Systemd(name.value.clone()),
            name.clone(),
            check_credential(&name.value),
        )
    };
    if let Some(wrong) = wrong {
        problems.add(&found.span, found.key, wrong);
        return None;
    }
    if let Reference::File(path) = &reference {
        problems.secret_files.push(path.clone());
    }
    Some(reference)
}

fn check_inline(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err(format!("is empty; write {WANTED}"));
    }
    if text.chars().any(char::is_control) {
        return Err("holds a line break or another control character; write it on one line".into());
    }
    Ok(())
}

fn check_env(name: &str) -> Option<&'static str> {
    if name.starts_with('$') {
        return Some("begins with `$`; write the variable's name alone");
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = name.bytes().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit());
    (!good).then_some("is no name of an environment variable; write A-Z, a-z, 0-9 and `_`")
}

fn check_credential(name: &str) -> Option<&'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let good = name.bytes().all(fits) && !name.starts_with('.');
    (!good).then_some(
        "is no name of a systemd credential; write the name that stands in the unit's `LoadCredential=`, without a path",
    )
}
