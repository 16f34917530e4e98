//! Proofs that an entry is in the tree of a signed checkpoint, as C2SP `tlog-proof` files.

use super::entry::{ENTRY_BYTES, Entry};
use super::note::{Checkpoint, Signature, Verifier, decimal, decode_hash, signers};
use super::reader::LedgerReader;
use super::subtrees::either;
use super::tree::{self, TreeHash, leaf_hash, root_from_inclusion};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::io;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Hashes of a proof in the deepest tree that can be.
const HASHES_MAX: usize = 63;

/// The proof for one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Number of the entry.
    pub index: u64,
    /// The entry itself: it holds the digest of the event's original.
    entry: Vec<u8>,
    hashes: Vec<TreeHash>,
    /// The signed checkpoint.
    note: String,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("this is not a proof; `prove` prints one, which begins with `{HEADER}`")]
    Malformed,
    #[error("the proof does not contain an entry of a ledger")]
    NoEntry,
    #[error("the proof's checkpoint was changed after `{0}` had signed it")]
    CheckpointAltered(String),
    #[error("the proof's checkpoint is not signed by a given key, but by {0}")]
    WrongKey(String),
    #[error("the entry is not in the ledger that the checkpoint was signed for")]
    NotIncluded,
}

/// What a valid proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenEntry {
    pub number: u64,
    pub entry: Entry,
    pub checkpoint: Checkpoint,
    /// The key that signed it.
    pub key: String,
}

impl Proof {
    /// The proof that entry `number` is in the tree of a signed note, of the ledger's own checkpoints. `None`: the note
    /// does not cover the entry, or the ledger does not lead to its root.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn new(reader: &LedgerReader, number: u64, note: &str) -> io::Result<Option<Proof>> {
        let Some(checkpoint) = Checkpoint::parse(note) else {
            return Ok(None);
        };
        if number < reader.first() || number >= checkpoint.size || checkpoint.size > reader.size() {
            return Ok(None);
        }
        let entry = reader.read(number..number + 1)?;
        let Some(leaf) = entry.first_chunk().map(leaf_hash) else {
            return Ok(None);
        };
        let hashes = either(
            reader,
            |hashes| tree::inclusion_proof(hashes, number, checkpoint.size),
            |proof| root_from_inclusion(leaf, number, checkpoint.size, proof) == Some(checkpoint.root),
        )?;
        Ok(hashes.map(|hashes| Proof { index: number, entry, hashes, note: note.to_owned() }))
    }

    /// `None`: the text is no proof.
    pub fn parse(text: &str) -> Option<Proof> {
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return None;
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let entry = match extra {
            Some(line) => STANDARD.decode(&line["extra ".len()..]).ok()?,
            None => Vec::new(),
        };
        let index = decimal(lines.next()?.strip_prefix("index ")?)?;
        let hashes = lines.map(decode_hash).collect::<Option<Vec<TreeHash>>>()?;
        let proof = Proof { index, entry, hashes, note: note.to_owned() };
        Some(proof).filter(|proof| proof.hashes.len() <= HASHES_MAX)
    }

    /// What the proof shows to somebody who trusts these keys. The caller compares the event with the entry's digest.
    ///
    /// # Errors
    /// It shows nothing.
    pub fn verify(&self, keys: &[Verifier]) -> Result<ProvenEntry, ProofError> {
        let bytes = <&[u8; ENTRY_BYTES]>::try_from(&self.entry[..]).map_err(|_| ProofError::NoEntry)?;
        let entry = Entry::from_bytes(bytes).ok_or(ProofError::NoEntry)?;
        let checkpoint = Checkpoint::parse(&self.note).ok_or(ProofError::Malformed)?;
        let mut signed = None;
        for key in keys {
            match key.signature(&self.note) {
                Signature::Valid => signed = Some(key.short()),
                Signature::Invalid => return Err(ProofError::CheckpointAltered(key.short())),
                Signature::Missing => {}
            }
        }
        let key = signed.ok_or_else(|| {
            let signers: Vec<String> =
                signers(&self.note).iter().map(|signer| format!("`{signer}`")).collect();
            let nobody = "nobody".to_owned();
            ProofError::WrongKey(if signers.is_empty() { nobody } else { signers.join(" and ") })
        })?;
        let root = root_from_inclusion(leaf_hash(bytes), self.index, checkpoint.size, &self.hashes);
        if root != Some(checkpoint.root) {
            return Err(ProofError::NotIncluded);
        }
        Ok(ProvenEntry { number: self.index, entry, checkpoint, key })
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{HEADER}\nextra {}\nindex {}", STANDARD.encode(&self.entry), self.index)?;
        for hash in &self.hashes {
            writeln!(out, "{}", STANDARD.encode(hash))?;
        }
        write!(out, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::check_tests::{signed_ledger, signer};
    use crate::ledger::store_tests::nth;

    #[test]
    fn a_proof_is_verified_with_the_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        signed_ledger(dir.path(), &[300, 1300]);
        let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
        let notes = reader.checkpoints().unwrap();
        let keys = [signer(1).verifier()];
        for (number, note) in [(0, 0), (299, 0), (299, 1), (512, 1), (1299, 1)] {
            let proof = Proof::new(&reader, number, &notes[note]).unwrap().unwrap();
            let parsed = Proof::parse(&proof.to_string()).unwrap();
            assert_eq!(parsed, proof);
            let proven = parsed.verify(&keys).unwrap();
            assert_eq!((proven.number, proven.entry), (number, nth(number)));
            assert_eq!(proven.key, keys[0].short());
        }
        // Not covered, or not the ledger that was signed.
        assert_eq!(Proof::new(&reader, 300, &notes[0]).unwrap(), None);
        assert_eq!(Proof::new(&reader, 5, &notes[1].replace("\n1300\n", "\n1299\n")).unwrap(), None);
        let text = Proof::new(&reader, 700, &notes[1]).unwrap().unwrap().to_string();
        let verified = |text: &str, seed| Proof::parse(text).unwrap().verify(&[signer(seed).verifier()]);
        assert_eq!(verified(&text.replace("index 700", "index 701"), 1), Err(ProofError::NotIncluded));
        let altered = verified(&text.replace("\n1300\n", "\n1301\n"), 1);
        assert_eq!(altered, Err(ProofError::CheckpointAltered(keys[0].short())));
        assert_eq!(verified(&text, 2), Err(ProofError::WrongKey(format!("`{}`", keys[0].short()))));
        let extra = text.lines().nth(1).unwrap();
        assert_eq!(verified(&text.replace(&format!("{extra}\n"), ""), 1), Err(ProofError::NoEntry));
        for wrong in ["", "{}", &text.replace("index 700", "index 0700"), &text.replace("@v1", "@v2")] {
            assert_eq!(Proof::parse(wrong), None);
        }
    }
}
