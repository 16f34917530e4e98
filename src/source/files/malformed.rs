//! Bytes that cannot be a record: a line that is too long, or a run of NUL bytes. Skipped in constant memory. Pure.

use crate::position::ReadDigest;
use xxhash_rust::xxh3::Xxh3;

/// Bytes of a malformed record that its event contains.
const HEAD_BYTES: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MalformedReason {
    TooLong,
    Nul,
}

impl MalformedReason {
    /// Error message of the event.
    pub fn error(self, bytes: u64, offset: u64, hash: u64) -> String {
        let what = match self {
            MalformedReason::TooLong => "a line longer than `record_bytes_max`",
            MalformedReason::Nul => "a run of NUL bytes",
        };
        format!("{what}: {bytes} bytes at offset {offset}, xxh3 {hash:016x}")
    }
}

/// A malformed record that is being skipped.
pub(super) struct MalformedRun {
    pub(super) reason: MalformedReason,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) head: Vec<u8>,
    /// Hash of the bytes before the first NUL. The number of NULs is added at the end: a hole is counted without
    /// being read.
    hash: Xxh3,
    nuls: u64,
    /// Bytes that were read; holes are not.
    pub(super) read: u64,
    /// Digest of everything before it.
    pub(super) digest: Option<ReadDigest>,
    /// The bytes before it, for the tail fingerprint: the buffer no longer has them when it ends.
    pub(super) bytes_before: Vec<u8>,
}

impl MalformedRun {
    /// A run that starts at `offset`; `digest` covers everything before it.
    pub(super) fn new(
        reason: MalformedReason,
        offset: u64,
        digest: Option<ReadDigest>,
        bytes_before: &[u8],
    ) -> MalformedRun {
        MalformedRun {
            reason,
            offset,
            bytes: 0,
            head: Vec::new(),
            hash: Xxh3::new(),
            nuls: 0,
            read: 0,
            digest,
            bytes_before: bytes_before.to_vec(),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.bytes += bytes.len() as u64;
        self.read += bytes.len() as u64;
        self.hash.update(bytes);
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hash = self.hash.clone();
        if self.nuls > 0 {
            hash.update(&self.nuls.to_le_bytes());
        }
        hash.digest()
    }

    pub(super) fn push_nuls(&mut self, nuls: u64) {
        let head_len = (self.head.len() as u64).saturating_add(nuls).min(HEAD_BYTES as u64);
        self.head.resize(head_len as usize, 0);
        self.bytes += nuls;
        self.nuls += nuls;
    }
}
