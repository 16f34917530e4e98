//! The nouns of progress that travel from a source and a sink to the checkpoint.

use crate::record::EventId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A hash (XXH3, 64 bits) over a stretch of a file: says whether a file is the one it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub len: u32,
    pub hash: u64,
}

impl Fingerprint {
    pub fn of(bytes: &[u8]) -> Fingerprint {
        Fingerprint {
            len: bytes.len() as u32,
            hash: xxhash_rust::xxh3::xxh3_64(bytes),
        }
    }
}

/// A digest of what was read of a file (`source/files/digest.rs`), as far as it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadDigest {
    /// Random, and nobody else's to know.
    pub key: [u64; 2],
    /// What it is of begins at this offset.
    pub from: u64,
    /// And ends here.
    pub to: u64,
    /// Of whole blocks.
    pub chain: [u64; 2],
    /// Whole blocks of NUL behind these.
    #[serde(rename = "zeros")]
    pub zero_blocks: u64,
    /// Of the block that has begun.
    #[serde(rename = "begun")]
    pub partial_block: [u64; 2],
}

/// One audit file of one source.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct FileEntry {
    /// Number of the file within its source, never used for another.
    pub key: u32,
    #[serde(with = "path_text")]
    pub path: PathBuf,
    pub dev: u64,
    /// 0 where the file holds something else by now: see [`FileEntry::is_replaced`].
    pub ino: u64,
    /// Counts how often the file was truncated or rewritten.
    pub epoch: u32,
    /// Of the first bytes of the file: at most as many as were read, or where nothing was read as were there when it was found.
    #[serde(rename = "prefix")]
    pub head_fingerprint: Fingerprint,
    /// Of the bytes just before `offset`.
    #[serde(rename = "frontier")]
    pub tail_fingerprint: Fingerprint,
    /// In bytes: all before it has a final outcome. Always a record boundary, but where `tail_fingerprint` is empty: nothing was read
    /// then, and what stands before it is to be passed over.
    pub offset: u64,
    /// In bytes, when the file was last looked at.
    pub size: u64,
    pub mtime_ms: i64,
    /// Nothing more will be read from this file.
    pub finished: bool,
    pub last_seen_ms: i64,
    /// Of the bytes before `offset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ReadDigest>,
    /// When the file was last compared with its digest. 0: never yet; negative: it is to be compared now.
    #[serde(default)]
    pub compared_ms: i64,
}

impl FileEntry {
    /// It stands for content that is in no file any more that is known: its file was truncated or rewritten.
    pub fn is_replaced(&self) -> bool {
        self.ino == 0
    }
}

/// How long an output was when the positions of the same commit were reached.
///
/// Without a mark nothing of the output is recognised or cut.
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
    #[serde(default, skip_serializing_if = "Deleted::is_none")]
    pub deleted: Deleted,
}

/// Rotated files of an output that were deleted, because there were more than are kept, and the events in them.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deleted {
    pub files: u64,
    pub events: u64,
}

impl Deleted {
    fn is_none(&self) -> bool {
        *self == Deleted::default()
    }

    pub fn add(&mut self, later: Deleted) {
        self.files += later.files;
        self.events += later.events;
    }
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

/// How far an audit API has been read.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApiCursor {
    /// Each row up to this time has a final outcome, but for rows that become visible late.
    pub at_ms: i64,
    /// Where the source began: nothing before it is asked for.
    pub start_ms: i64,
    /// The ids of all events since then that were delivered are known, but for stretches that files brought: see [`IdChunk`].
    pub ids_from_ms: i64,
    /// It was read in the way of a Data Center before 7.5.
    #[serde(default)]
    pub legacy: bool,
    /// The expiry of the token that was warned of, and how many days ahead.
    #[serde(default)]
    pub warned: Option<(i64, u32)>,
    /// An answer with events, or with none, has come. Without one `at_ms` says where to begin.
    #[serde(default)]
    pub answered: bool,
}

/// Ids of events that were delivered and may be met again. Of a file's events they may have been too many: then the chunk has
/// none, and says from when to when the file brought them.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct IdChunk {
    /// Number of the chunk among those of its source.
    pub key: u32,
    /// Key of the file that brought them; `None`: an API did.
    #[serde(default)]
    pub file: Option<u32>,
    /// Hash of the cluster node's id that the file's records carry; 0 for records without a node.
    #[serde(default)]
    pub node: u64,
    /// Of the oldest and of the newest of the events.
    #[serde(default)]
    pub oldest_ms: i64,
    pub newest_ms: i64,
    #[serde(with = "ids_text")]
    pub ids: Vec<EventId>,
}

/// Why a source's events come by the API although it has files.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The directory or a file in it is missing or cannot be read.
    Unusable,
    /// The API has events that the files did not bring in time.
    Silent,
}

/// By which of its two ways a source's events come in: by its files, or for a cause by its API.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ActiveInput {
    pub api: Option<Cause>,
    pub since_ms: i64,
    /// For people.
    #[serde(rename = "why")]
    pub reason: String,
}

/// A cluster node whose id audit files of a source carried.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct FileNode {
    pub id: String,
    /// Times of its oldest and of its newest event.
    pub from_ms: i64,
    pub to_ms: i64,
    /// From then on the same files carried the id of another node.
    #[serde(default)]
    pub until_ms: Option<i64>,
}

/// What is known of the nodes of a cluster.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterNodes {
    /// Nodes of which audit files were read, in the order in which they appeared.
    pub of_files: Vec<FileNode>,
    /// Nodes that had events while this source's own node had some as well.
    pub others: Vec<String>,
}

/// Who the agent is to Confluence, so that its own searches are recognised in audit files.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct AgentUser {
    /// As the configuration named it, if it did.
    pub configured: Option<String>,
    /// Login name, in lower case.
    pub name: String,
    pub key: String,
}

/// How closely each area is audited: `off`, `base`, `advanced` or `full`.
pub type Coverage = BTreeMap<String, String>;

/// What a source's checkpoint has to learn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    pub files: Vec<FileEntry>,
    pub forget: Vec<u32>,
    pub losses: Vec<Loss>,
    pub api: Option<ApiCursor>,
    pub ids: Vec<IdChunk>,
    pub forget_ids: Vec<u32>,
    /// The positions of what was delivered come later: until then the outputs' lengths stay as the checkpoint has them, or a crash
    /// would find events that neither positions nor ids nor lengths tell of.
    pub withheld: bool,
    /// How far the API has been read for nodes whose files are not read.
    pub api_other_nodes: Option<ApiCursor>,
    pub nodes: Option<ClusterNodes>,
    pub agent_user: Option<AgentUser>,
    pub active_input: Option<ActiveInput>,
    /// As it was last seen.
    pub coverage: Option<Coverage>,
}

impl Progress {
    pub fn is_empty(&self) -> bool {
        let nothing = |withheld| Progress {
            withheld,
            ..Progress::default()
        };
        *self == nothing(self.withheld)
    }

    /// Adds what came later; of a file, of the cursor and of a chunk of ids only the newest counts.
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
        self.api = later.api.or(self.api);
        self.api_other_nodes = later.api_other_nodes.or(self.api_other_nodes);
        self.nodes = later.nodes.or(self.nodes.take());
        self.agent_user = later.agent_user.or(self.agent_user.take());
        self.active_input = later.active_input.or(self.active_input.take());
        self.coverage = later.coverage.or(self.coverage.take());
        for chunk in later.ids {
            self.forget_ids.retain(|key| *key != chunk.key);
            match self.ids.iter_mut().find(|known| known.key == chunk.key) {
                Some(known) => *known = chunk,
                None => self.ids.push(chunk),
            }
        }
        self.ids.retain(|chunk| !later.forget_ids.contains(&chunk.key));
        self.forget_ids.extend(later.forget_ids);
    }
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

/// Ids are one string: base64 of their bytes, 16 each. There may be many.
mod ids_text {
    use crate::record::EventId;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;

    pub fn serialize<S: Serializer>(ids: &[EventId], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.0.to_be_bytes()).collect();
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<EventId>, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD
            .decode(text.as_bytes())
            .map_err(D::Error::custom)?;
        match bytes.as_chunks() {
            (ids, []) => Ok(ids.iter().map(|id| EventId(u128::from_be_bytes(*id))).collect()),
            _ => Err(D::Error::custom("ids are not 16 bytes each")),
        }
    }
}
