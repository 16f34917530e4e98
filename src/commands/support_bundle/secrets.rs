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
