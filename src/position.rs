//! The nouns of progress that travel from a source and a sink to the checkpoint.

use serde::{Deserialize, Serialize};

/// A hash (XXH3, 64 bits) over a stretch of a file: says whether a file is the one it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub len: u32,
    pub hash: u64,
}

impl Evidence {
    pub fn of(bytes: &[u8]) -> Evidence {
        Evidence { len: bytes.len() as u32, hash: xxhash_rust::xxh3::xxh3_64(bytes) }
    }
}

/// How far one file of a source has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Number of the file within its source, never used again.
    pub key: u32,
    pub path: String,
    pub dev: u64,
    pub ino: u64,
    /// One more each time the file was truncated or rewritten in place.
    pub epoch: u32,
    /// Over the first bytes.
    pub prefix: Evidence,
    /// Over the bytes just before `offset`.
    pub frontier: Evidence,
    /// A record boundary: every record before it is delivered.
    pub offset: u64,
    /// Size and modification time when last looked at.
    pub size: u64,
    pub mtime_ms: i64,
    /// A successor exists and the end has been reached and was quiet.
    pub finished: bool,
    pub last_seen_ms: i64,
}

/// How long an output was when everything before the checkpoint stood in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkMark {
    pub sink: String,
    pub path: String,
    pub dev: u64,
    pub ino: u64,
    /// When this was so, by the wall clock.
    pub at_ms: i64,
    /// Counts the files that were begun under this path.
    pub generation: u64,
    pub length: u64,
}

/// Bytes that are known to be lost, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub at_ms: i64,
    pub path: String,
    pub from: u64,
    pub bytes: u64,
    pub reason: String,
}

/// What a source's checkpoint has to learn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub files: Vec<FileEntry>,
    pub forget: Vec<u32>,
    pub losses: Vec<Loss>,
}

impl Progress {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.forget.is_empty() && self.losses.is_empty()
    }

    /// Adds what came later; of a file only the newest entry counts.
    pub fn merge(&mut self, later: Progress) {
        for entry in later.files {
            match self.files.iter_mut().find(|known| known.key == entry.key) {
                Some(known) => *known = entry,
                None => self.files.push(entry),
            }
        }
        self.files.retain(|entry| !later.forget.contains(&entry.key));
        self.forget.extend(later.forget);
        self.losses.extend(later.losses);
    }
}
