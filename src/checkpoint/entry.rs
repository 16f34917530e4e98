//! What is remembered. Nouns without behaviour, as they lie in the store and in the side file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The newest losses that are kept of one source; the totals in [`SourceState`] go on counting.
pub const LOSSES_MAX: usize = 1000;

/// One audit file of one source.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct FileEntry {
    /// Number of the file within its source, never used for another.
    pub key: u32,
    #[serde(with = "path_text")]
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
    /// Counts how often the file was truncated or rewritten.
    pub epoch: u32,
    /// Of the first bytes of the file.
    pub prefix: Evidence,
    /// Of the bytes just before `offset`.
    pub frontier: Evidence,
    /// In bytes: all before it has a final outcome. Always a record boundary.
    pub offset: u64,
    /// In bytes, when the file was last looked at.
    pub size: u64,
    pub mtime_ms: i64,
    /// Nothing more will be read from this file.
    pub finished: bool,
    pub last_seen_ms: i64,
}

/// `len` bytes have the xxh3-64 `hash`.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    pub len: u32,
    pub hash: u64,
}

/// How long an output was when the positions of the same commit were reached.
///
/// A source that has lost its mark has an output that must not be cut.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct SinkMark {
    pub sink: String,
    #[serde(with = "path_text")]
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
    /// Counts the output's rotations.
    pub generation: u64,
    /// In bytes.
    pub length: u64,
}

/// Bytes `from..to` of a file that will never be delivered.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Loss {
    pub at_ms: i64,
    #[serde(with = "path_text")]
    pub path: PathBuf,
    pub from: u64,
    pub to: u64,
    pub reason: String,
}

/// What one source has newly reached. Becomes durable as a whole or not at all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Commit {
    pub source: String,
    /// The entries that changed.
    pub files: Vec<FileEntry>,
    /// Keys of files whose entries are removed. Applied after `files`.
    pub forget: Vec<u32>,
    pub marks: Vec<SinkMark>,
    pub losses: Vec<Loss>,
}

/// All that is remembered of one source.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct SourceState {
    /// Counts the commits; of two states of a source the one with more is newer.
    pub commits: u64,
    /// No file of this source has had this key or a greater one.
    pub next_key: u32,
    /// Losses ever, and their bytes; `losses` holds the newest [`LOSSES_MAX`].
    pub losses_total: u64,
    pub lost_bytes_total: u64,
    pub files: Vec<FileEntry>,
    pub marks: Vec<SinkMark>,
    pub losses: Vec<Loss>,
}

impl SourceState {
    /// Whether nothing is remembered but the counters.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.marks.is_empty() && self.losses.is_empty()
    }
}

/// Everything a state directory remembers, as the side file and `state export` write it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct Image {
    /// A UUID that lasts as long as the state directory.
    pub agent_id: String,
    pub sources: BTreeMap<String, SourceState>,
}

/// A path is a JSON string. One that is not UTF-8 is written as U+0000, which no path can hold, and its bytes
/// in hexadecimal.
mod path_text {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = path.to_str() {
            return serializer.serialize_str(text);
        }
        let mut hex = String::from("\0");
        for byte in path.as_os_str().as_bytes() {
            hex.push_str(&format!("{byte:02x}"));
        }
        serializer.serialize_str(&hex)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Some(hex) = text.strip_prefix('\0') else {
            return Ok(PathBuf::from(text));
        };
        let mut bytes = Vec::with_capacity(hex.len() / 2);
        for pair in hex.as_bytes().chunks(2) {
            let byte = std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok());
            bytes.push(byte.ok_or_else(|| D::Error::custom("path is not hexadecimal"))?);
        }
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }
}
