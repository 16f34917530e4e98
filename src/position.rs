//! Progress of a source: the types that are passed from sources and sinks to the checkpoint.

use crate::ledger::Entry;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A hash (XXH3, 64 bits) of a range of a file. It shows whether the file is still the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub len: u32,
    pub hash: u64,
}

impl Fingerprint {
    pub fn of(bytes: &[u8]) -> Fingerprint {
        Fingerprint { len: bytes.len() as u32, hash: xxhash_rust::xxh3::xxh3_64(bytes) }
    }
}

/// State of the digest of what was read from a file (`source/files/digest.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadDigest {
    /// Random and secret.
    pub key: [u64; 2],
    /// First byte that it covers.
    pub from: u64,
    /// Offset after the last byte that it covers.
    pub to: u64,
    /// Chained digest of the complete blocks.
    pub chain: [u64; 2],
    /// Blocks of NUL bytes after those.
    #[serde(rename = "zeros")]
    pub zero_blocks: u64,
    /// Digest of the last, partial block.
    #[serde(rename = "begun")]
    pub partial_block: [u64; 2],
}

/// One audit file of one source.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct FileEntry {
    /// Number of the file within its source. Never reused.
    pub key: u32,
    #[serde(with = "path_text")]
    pub path: PathBuf,
    pub dev: u64,
    /// 0 if the file has other content now, see [`FileEntry::is_replaced`].
    pub ino: u64,
    /// Number of times that the file was truncated or rewritten.
    #[serde(rename = "epoch")]
    pub truncations: u32,
    /// Fingerprint of the first bytes that were read, at most 1,024. If nothing was read yet, of those that were
    /// there when the file was found.
    #[serde(rename = "prefix")]
    pub head_fingerprint: Fingerprint,
    /// Fingerprint of the bytes just before `offset`.
    #[serde(rename = "frontier")]
    pub tail_fingerprint: Fingerprint,
    /// Offset in bytes. Everything before it has a final outcome. It is a record boundary, except with an empty
    /// `tail_fingerprint`: then nothing was read, and everything before the offset is to be skipped.
    pub offset: u64,
    /// Size in bytes when the file was last examined.
    pub size: u64,
    pub mtime_ms: i64,
    /// The file was read to its end and is not read any further.
    pub finished: bool,
    pub last_seen_ms: i64,
    /// Digest of the bytes before `offset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ReadDigest>,
    #[serde(default, rename = "compared_ms")]
    pub verification: Verification,
}

/// When a file was last verified against its digest.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(from = "i64", into = "i64")]
pub enum Verification {
    #[default]
    Never,
    /// The file has changed: it is to be verified now.
    Requested,
    /// In milliseconds since 1970.
    At(i64),
}

impl From<i64> for Verification {
    fn from(stored: i64) -> Verification {
        match stored {
            0 => Verification::Never,
            ..0 => Verification::Requested,
            at_ms => Verification::At(at_ms),
        }
    }
}

impl From<Verification> for i64 {
    fn from(verification: Verification) -> i64 {
        match verification {
            Verification::Never => 0,
            Verification::Requested => -1,
            Verification::At(at_ms) => at_ms.max(1),
        }
    }
}

impl FileEntry {
    /// Whether the content is in no known file any more, because the file was truncated or rewritten.
    pub fn is_replaced(&self) -> bool {
        self.ino == 0
    }
}

/// Length of an output file when the positions of the same commit were reached.
///
/// Without a mark nothing in the output is recognised or truncated.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct SinkMark {
    pub sink: String,
    #[serde(with = "path_text")]
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
    /// Number of times that the output was rotated.
    #[serde(rename = "generation")]
    pub rotation: u64,
    /// Length in bytes.
    pub length: u64,
    #[serde(default, skip_serializing_if = "DeletedOutputs::is_none")]
    pub deleted: DeletedOutputs,
}

/// Rotated files of an output that were deleted because of `rotated_files_max`, and their number of events.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeletedOutputs {
    pub files: u64,
    pub events: u64,
}

impl DeletedOutputs {
    fn is_none(&self) -> bool {
        *self == DeletedOutputs::default()
    }

    pub fn add(&mut self, later: DeletedOutputs) {
        self.files += later.files;
        self.events += later.events;
    }
}

/// Bytes `from..to` of a file that cannot be delivered.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Loss {
    pub at_ms: i64,
    #[serde(with = "path_text")]
    pub path: PathBuf,
    pub from: u64,
    pub to: u64,
    pub reason: String,
    /// Key of the file.
    #[serde(default)]
    pub file: u32,
}

/// How far an audit API was read.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApiCursor {
    /// Each row up to this time has a final outcome, except rows that become visible late.
    pub at_ms: i64,
    /// Start of the source. Nothing before this time is requested.
    pub start_ms: i64,
    /// It was read through the API of a Data Center before 7.5.
    #[serde(default)]
    pub legacy: bool,
    /// The token expiry that the last warning was about, in milliseconds since 1970, and how many days ahead it
    /// warned.
    #[serde(default)]
    pub warned: Option<(i64, u32)>,
    /// The API has answered. Without an answer `at_ms` is where to begin.
    #[serde(default)]
    pub answered: bool,
}

/// The ledger of a source as of a commit.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct LedgerPosition {
    /// The first entry that is kept.
    pub first: u64,
    /// Number of entries since the beginning.
    pub size: u64,
    /// The right edge of the tree over the entries: one hash for each 1 in the binary form of `size`.
    #[serde(with = "hashes_text")]
    pub edge: Vec<[u8; 32]>,
    /// Number of full blocks whose summaries are on the disk.
    pub blocks_synced: u64,
    /// When a checkpoint of it was last published, in milliseconds since 1970.
    pub published_ms: i64,
}

/// Why a source with files is read through its API.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum FallbackCause {
    /// The directory or a file in it is missing or cannot be read.
    Unusable,
    /// The API has events that the files did not deliver in time.
    Silent,
}

/// The input that a source with files and API currently reads: its files, or for a cause its API.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ActiveInput {
    pub api: Option<FallbackCause>,
    pub since_ms: i64,
    /// Explanation for operators.
    #[serde(rename = "why")]
    pub reason: String,
}

/// A cluster node whose id was in a source's audit files.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct FileNode {
    pub id: String,
    /// Times of its oldest and of its newest event.
    pub from_ms: i64,
    pub to_ms: i64,
    /// From this time on the same files had the id of another node.
    #[serde(default)]
    pub until_ms: Option<i64>,
}

/// Known nodes of a cluster.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterNodes {
    /// Nodes whose audit files were read, in order of appearance.
    pub of_files: Vec<FileNode>,
    /// Nodes that had events at the same time as this source's own node.
    pub others: Vec<String>,
}

/// The agent's user in Confluence, to recognise its own searches in audit files.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct AgentUser {
    /// As configured, if it was.
    pub configured: Option<String>,
    /// Login name, in lower case.
    pub name: String,
    pub key: String,
}

/// What a Data Center records, as last read.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditSettings {
    pub coverage: Coverage,
    /// Actions that are not recorded. `None`: the list was never read.
    pub denied_actions: Option<BTreeSet<String>>,
    /// How long Confluence keeps events, as JSON. `None`: it was never read.
    pub retention: Option<String>,
}

/// Audit coverage level per area: `off`, `base`, `advanced` or `full`.
pub type Coverage = BTreeMap<String, String>;

/// Changes to a source's checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    pub files: Vec<FileEntry>,
    /// Keys of files whose entries are removed.
    pub forgotten_files: Vec<u32>,
    pub losses: Vec<Loss>,
    pub api: Option<ApiCursor>,
    /// The positions of delivered events follow later. Until then output lengths in the checkpoint stay unchanged:
    /// after a crash there would be events that no position and no length covers.
    pub positions_pending: bool,
    /// How far the API was read for nodes whose files are not read.
    pub api_other_nodes: Option<ApiCursor>,
    pub nodes: Option<ClusterNodes>,
    pub agent_user: Option<AgentUser>,
    pub active_input: Option<ActiveInput>,
    pub audit_settings: Option<AuditSettings>,
    /// What was delivered, for the ledger.
    pub entries: Vec<Entry>,
}

impl Progress {
    pub fn is_empty(&self) -> bool {
        let nothing = |positions_pending| Progress { positions_pending, ..Progress::default() };
        *self == nothing(self.positions_pending)
    }

    /// Adds later changes. For a file or a cursor the newest replaces the earlier ones.
    pub fn merge(&mut self, later: Progress) {
        for entry in later.files {
            match self.files.iter_mut().find(|known| known.key == entry.key) {
                Some(known) => *known = entry,
                None => self.files.push(entry),
            }
        }
        self.files.retain(|entry| !later.forgotten_files.contains(&entry.key));
        self.forgotten_files.extend(later.forgotten_files);
        self.losses.extend(later.losses);
        self.api = later.api.or(self.api);
        self.api_other_nodes = later.api_other_nodes.or(self.api_other_nodes);
        self.nodes = later.nodes.or(self.nodes.take());
        self.agent_user = later.agent_user.or(self.agent_user.take());
        self.active_input = later.active_input.or(self.active_input.take());
        self.audit_settings = later.audit_settings.or(self.audit_settings.take());
        self.entries.extend(later.entries);
    }
}

/// Stores a path as a JSON string. A path that is not UTF-8 is stored as U+0000, which no path contains, followed by
/// its bytes in hexadecimal.
mod path_text {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = path.to_str() {
            return serializer.serialize_str(text);
        }
        let mut hex = String::from("\0");
        for byte in path.as_os_str().as_bytes() {
            hex.push_str(&format!("{byte:02x}"));
        }
        serializer.serialize_str(&hex)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Some(hex) = text.strip_prefix('\0') else {
            return Ok(PathBuf::from(text));
        };
        let mut bytes = Vec::with_capacity(hex.len() / 2);
        for pair in hex.as_bytes().chunks(2) {
            let byte = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
            bytes.push(byte.ok_or_else(|| D::Error::custom("path is not hexadecimal"))?);
        }
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }
}

/// Stores hashes as one string: base64 of their bytes.
mod hashes_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer>(hashes: &[[u8; 32]], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(hashes.as_flattened()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<[u8; 32]>, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text.as_bytes()).map_err(D::Error::custom)?;
        match bytes.as_chunks() {
            (hashes, []) => Ok(hashes.to_vec()),
            _ => Err(D::Error::custom("hashes are not 32 bytes each")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn a_file_without_an_inode_is_replaced() {
        assert!(FileEntry::default().is_replaced());
        assert!(!FileEntry { ino: 7, ..FileEntry::default() }.is_replaced());
    }

    /// The numbers of deleted outputs are stored only if there are any: an older release reads such a mark.
    #[test]
    fn deleted_outputs_are_added_up_and_stored_if_there_are_any() {
        let mut deleted = DeletedOutputs::default();
        let mark = |deleted| {
            let (sink, path) = ("out".to_owned(), "/out".into());
            let mark = SinkMark { sink, path, dev: 1, ino: 2, rotation: 3, length: 4, deleted };
            let text = serde_json::to_string(&mark).unwrap();
            assert_eq!(serde_json::from_str::<SinkMark>(&text).unwrap(), mark);
            text
        };
        assert!(!mark(deleted).contains("deleted"));
        deleted.add(DeletedOutputs { files: 2, events: 30 });
        deleted.add(DeletedOutputs { files: 1, events: 12 });
        assert_eq!(deleted, DeletedOutputs { files: 3, events: 42 });
        assert!(mark(deleted).contains(r#""deleted":{"files":3,"events":42}"#));
    }

    #[test]
    fn a_path_that_is_not_utf8_is_stored_as_it_is() {
        for path in [&b"/var/log/audit"[..], b"/gr\xc3\xbc", b"/no \xff utf-8\x0a", b"\xfe"] {
            let entry = FileEntry { path: OsString::from_vec(path.to_vec()).into(), ..FileEntry::default() };
            let text = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<FileEntry>(&text).unwrap(), entry, "{text}");
        }
        for wrong in ["\\u0000zz", "\\u0000ä"] {
            let loss = format!(r#"{{"at_ms":1,"path":"{wrong}","from":0,"to":1,"reason":""}}"#);
            assert!(serde_json::from_str::<Loss>(&loss).is_err(), "{loss}");
        }
    }

    #[test]
    fn hashes_are_stored_as_whole_ones() {
        let position = LedgerPosition { edge: vec![[1; 32], [2; 32]], size: 3, ..LedgerPosition::default() };
        let text = serde_json::to_string(&position).unwrap();
        assert_eq!(serde_json::from_str::<LedgerPosition>(&text).unwrap(), position);
        let cut = text.replace("Ag\",", "\",");
        assert!(cut != text && serde_json::from_str::<LedgerPosition>(&cut).is_err(), "{cut}");
    }

    /// That positions follow later is no change by itself.
    #[test]
    fn progress_without_changes_is_empty() {
        let mut progress = Progress::default();
        assert!(progress.is_empty());
        progress.positions_pending = true;
        assert!(progress.is_empty());
        progress.forgotten_files.push(1);
        assert!(!progress.is_empty());
    }

    /// Of each file and each cursor the newest counts; lists are joined in order.
    #[test]
    fn later_progress_replaces_what_is_older() {
        let file = |key, offset| FileEntry { key, offset, ..FileEntry::default() };
        let api = |at_ms| Some(ApiCursor { at_ms, ..ApiCursor::default() });
        let nodes =
            |name: &str| Some(ClusterNodes { others: vec![name.to_owned()], ..ClusterNodes::default() });
        let loss = |from| Loss { at_ms: 1, path: "/a".into(), from, to: 9, reason: String::new(), file: 1 };
        let mut progress = Progress {
            files: vec![file(1, 10), file(2, 10), file(3, 10)],
            losses: vec![loss(1)],
            api: api(5),
            api_other_nodes: api(6),
            nodes: nodes("a"),
            ..Progress::default()
        };
        progress.merge(Progress {
            files: vec![file(2, 20), file(4, 20)],
            forgotten_files: vec![3, 4],
            losses: vec![loss(2)],
            api: api(7),
            ..Progress::default()
        });
        assert_eq!(progress.files, [file(1, 10), file(2, 20)]);
        assert_eq!(progress.forgotten_files, [3, 4]);
        assert_eq!(progress.losses, [loss(1), loss(2)]);
        assert_eq!((progress.api, progress.api_other_nodes, progress.nodes), (api(7), api(6), nodes("a")));
    }
}
