//! Secrets that are known, to remove them from whatever text they are in.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(super) const REMOVED: &str = "[removed]";

/// A shorter text is not removed from other texts: it would be found in words.
const SECRET_BYTES_MIN: usize = 4;
/// Tokens have a few hundred bytes, keys a few thousand.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Keys whose values are paths of files with secrets.
const FILE_KEYS: [&str; 3] = ["file", "client_key", "private_key"];

#[derive(Default)]
pub(super) struct Secrets(BTreeSet<String>);

impl Secrets {
    /// The text, each of its lines, and what follows a word such as `Bearer` or the name of a user.
    pub(super) fn add(&mut self, text: &str) {
        for line in text.lines().map(str::trim).chain([text.trim()]) {
            let ends = [' ', ':'].map(|separator| line.rsplit(separator).next().unwrap_or_default());
            let parts = ends.into_iter().chain([line]).filter(|part| part.len() >= SECRET_BYTES_MIN);
            self.0.extend(parts.map(str::to_owned));
        }
    }

    /// The content of a file, if it is a small one that may be read.
    pub(super) fn add_file(&mut self, path: &Path) {
        // A pipe must not be waited for.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let Ok(file) = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) else {
            return;
        };
        let mut text = String::new();
        if file.metadata().is_ok_and(|found| found.is_file())
            && file.take(FILE_BYTES_MAX).read_to_string(&mut text).is_ok()
        {
            self.add(&text);
        }
    }

    /// The content of each file that a configuration names as the place of a secret. The text may be wrong, or no TOML.
    pub(super) fn add_files_of(&mut self, config: &str) {
        FILE_KEYS.iter().flat_map(|key| paths_after(config, key)).for_each(|path| self.add_file(path));
    }

    pub(super) fn remove_from(&self, text: String) -> String {
        // The longest first, because one may be a part of another.
        let mut secrets: Vec<&String> = self.0.iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text, |text, secret| {
            let quoted = serde_json::to_string(secret).unwrap_or_default();
            let escaped = quoted.trim_matches('"');
            match text.contains(secret.as_str()) || text.contains(escaped) {
                true => text.replace(secret.as_str(), REMOVED).replace(escaped, REMOVED),
                false => text,
            }
        })
    }
}

/// The absolute paths in quotes that follow a key and an equals sign.
fn paths_after<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a Path> {
    text.match_indices(key).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
            return None;
        }
        let after = text[at + key.len()..].trim_start_matches(['"', '\'']);
        let value = after.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let path = value.trim_start_matches(quote).split([quote, '\n']).next()?;
        path.starts_with('/').then_some(Path::new(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_secrets_are_found_in_a_text_that_is_wrong() {
        let text = r#"
            type = "file"
            ca_file = "/no-secret"
            token = { file = "/a" }
            password = { "file"='/b b' }
            token.file="/c
            file = relative
            client_key = "/d"
            private_key = "/f"
            x = { file = """/e""" "#;
        let paths = FILE_KEYS.iter().flat_map(|key| paths_after(text, key));
        assert_eq!(paths.collect::<Vec<_>>(), ["/a", "/b b", "/c", "/e", "/d", "/f"].map(Path::new));
    }
}
