//! The signed checkpoints of a ledger, as the agent writes them.
//!
//! ```text
//! checkpoints   all signed notes, oldest first; appended and synced before the next file is replaced
//! checkpoint    the latest one
//! origin        the number of the log, if it is not the first one of its source
//! ```

use super::note::{Checkpoint, Signature, Signer, split_notes};
use super::reader::{ALL_CHECKPOINTS, LedgerReader, source_name};
use super::segments::{self, read_text};
use super::subtrees::{either, has_root};
use super::tiles::LATEST_CHECKPOINT;
use super::tree::{self, Edge};
use crate::position::LedgerPosition;
use rustix::fs::{OFlags, RenameFlags};
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

/// File with the number of the log.
const ORIGIN: &str = "origin";

/// Why a checkpoint was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("failed to {verb} `{}`", path.display())]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    /// The ledger is not a continuation of what was signed. It has to go on as a new log: see [`begin_new_log`].
    #[error("{0}")]
    Inconsistent(String),
}

impl SignError {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SignError {
        move |source| SignError::Io { verb, path: path.to_owned(), source }
    }
}

/// Name of the key of an agent. It signs the ledgers of all sources.
pub fn key_name(agent_id: &str) -> String {
    format!("{}/{agent_id}", crate::NAME)
}

/// Origin of the log in `dir`, the ledger's directory: it names agent, source and, from the second log on, its number.
///
/// # Errors
/// The number cannot be read.
pub fn origin(dir: &Path, agent_id: &str) -> io::Result<String> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let source = source_name(&name).unwrap_or_else(|| name.into_owned());
    let origin = format!("{}/{agent_id}/{source}", crate::NAME);
    Ok(match log_number(dir)? {
        1 => origin,
        number => format!("{origin}/{number}"),
    })
}

fn log_number(dir: &Path) -> io::Result<u64> {
    let text = read_text(&dir.join(ORIGIN))?;
    match text.trim() {
        "" => Ok(1),
        text => text.parse().map_err(|_| io::Error::other(format!("`{text}` is not the number of a log"))),
    }
}

/// Keeps the ledger in `dir` as it is under another name, and lets a copy of its first `size` entries go on as a new
/// log, without checkpoints. Returns where the old log is kept. Nothing has changed if it fails.
///
/// # Errors
/// The copy cannot be made.
pub fn begin_new_log(dir: &Path, size: u64) -> io::Result<PathBuf> {
    let mut number = log_number(dir)?;
    let kept = loop {
        let mut kept = dir.as_os_str().to_owned();
        kept.push(format!(".log-{number}"));
        let kept = PathBuf::from(kept);
        // Another kept log has this number if the file with the number was lost.
        if !kept.join(ALL_CHECKPOINTS).exists() {
            break kept;
        }
        number += 1;
    };
    // It is there without checkpoints if an earlier call was killed before the exchange: until then it is the copy.
    match std::fs::remove_dir_all(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    copy(dir, &kept, size)?;
    std::fs::write(kept.join(ORIGIN), format!("{}\n", number + 1))?;
    for changed in [kept.join(ORIGIN), kept.join(segments::ENTRIES), kept.clone()] {
        File::open(changed)?.sync_all()?;
    }
    let cwd = rustix::fs::CWD;
    rustix::fs::renameat_with(cwd, dir, cwd, &kept, RenameFlags::EXCHANGE)?;
    if let Some(parent) = dir.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(kept)
}

/// Copies the first `size` entries of a ledger, and the summaries of their blocks.
fn copy(from: &Path, to: &Path, size: u64) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to.join(segments::ENTRIES))?;
    let copy = |from: PathBuf, to: PathBuf| match std::fs::copy(&from, &to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            // By this time retention knows how old a segment is.
            let written = std::fs::metadata(&from)?.modified()?;
            let copy = File::options().write(true).open(&to)?;
            copy.set_modified(written)?;
            copy.sync_all()
        }
    };
    let kept = segments::on_disk(from)?.unwrap_or_default();
    for first in (kept.start..kept.end.min(size)).step_by(segments::SEGMENT_ENTRIES as usize) {
        copy(segments::path(from, first), segments::path(to, first))?;
    }
    copy(from.join(segments::BLOCKS), to.join(segments::BLOCKS))
}

/// Size of the ledger in `dir` when it was last signed; `None` if it never was. A checkpoint store that knows fewer
/// entries is older than that, and the ledger has to go on as a new log before it is cut back.
///
/// # Errors
/// A file cannot be read.
pub fn signed_size(dir: &Path) -> io::Result<Option<u64>> {
    let mut notes = split_notes(&read_text(&dir.join(ALL_CHECKPOINTS))?);
    notes.push(read_text(&dir.join(LATEST_CHECKPOINT))?);
    Ok(notes.iter().filter_map(|note| Some(Checkpoint::parse(note)?.size)).max())
}

/// Signs and stores the checkpoints of one ledger.
pub struct Checkpoints {
    dir: PathBuf,
    origin: String,
    signer: Signer,
    /// All of them.
    file: File,
    /// Length of the complete notes in it.
    length: u64,
    last: Option<(Checkpoint, String)>,
}

impl Checkpoints {
    /// Opens the checkpoints of the ledger in `dir`. The last one is compared with the entries. If another key signed
    /// it, this one signs it as well.
    ///
    /// # Errors
    /// A file cannot be read or written, or the ledger is not a continuation of its last checkpoint.
    pub fn open(dir: &Path, origin: &str, signer: Signer) -> Result<Checkpoints, SignError> {
        let path = dir.join(ALL_CHECKPOINTS);
        let failed = |verb| SignError::io(verb, &path);
        let file = segments::open(&path, OFlags::RDWR | OFlags::CREATE).map_err(failed("open"))?;
        let notes = split_notes(&read_text(&path).map_err(failed("read"))?);
        let length = notes.iter().map(|note| note.len() as u64).sum();
        let origin = origin.to_owned();
        let mut checkpoints = Checkpoints { dir: dir.to_owned(), origin, signer, file, length, last: None };
        let latest = dir.join(LATEST_CHECKPOINT);
        let latest = read_text(&latest).map_err(SignError::io("read", &latest))?;
        if let Some(note) = notes.last() {
            checkpoints.last = Some((checkpoints.continued(note)?, note.clone()));
        }
        if !latest.is_empty() && !notes.contains(&latest) {
            return Err(SignError::Inconsistent(format!(
                "the last checkpoint in `{}` is not in `{}`",
                dir.join(LATEST_CHECKPOINT).display(),
                path.display()
            )));
        }
        match &checkpoints.last {
            // A kill came between the two files.
            Some((_, note)) if *note != latest => {
                replace(&checkpoints.dir, note)?;
                checkpoints.cosign()?;
            }
            _ => checkpoints.cosign()?,
        }
        Ok(checkpoints)
    }

    /// The checkpoint in a stored note, if the ledger begins with what it says.
    fn continued(&self, note: &str) -> Result<Checkpoint, SignError> {
        let inconsistent = |text: String| Err(SignError::Inconsistent(text));
        let path = self.dir.join(ALL_CHECKPOINTS);
        let Some(last) = Checkpoint::parse(note) else {
            return inconsistent(format!("the last checkpoint in `{}` cannot be read", path.display()));
        };
        if last.origin != self.origin {
            return inconsistent(format!(
                "the last checkpoint is of `{}`, not of `{}`",
                last.origin, self.origin
            ));
        }
        if self.signer.verifier().signature(note) == Signature::Invalid {
            return inconsistent("the last checkpoint was changed after it was signed".to_owned());
        }
        let reader = LedgerReader::open(&self.dir).map_err(SignError::io("read", &self.dir))?;
        let has_root = match reader {
            Some(reader) => has_root(&reader, last.size, &last.root),
            None => Ok(false),
        };
        if !has_root.map_err(SignError::io("read", &self.dir))? {
            return inconsistent(format!(
                "the first {} entries of the ledger are not those of its last checkpoint",
                last.size
            ));
        }
        Ok(last)
    }

    /// Adds the signature of a new key to the last checkpoint.
    fn cosign(&mut self) -> Result<(), SignError> {
        let Some((checkpoint, note)) = &self.last else {
            return Ok(());
        };
        if self.signer.verifier().signature(note) == Signature::Valid {
            return Ok(());
        }
        match self.signer.cosign(note) {
            Some(note) => self.store(checkpoint.clone(), note).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The last checkpoint.
    pub fn last(&self) -> Option<&Checkpoint> {
        self.last.as_ref().map(|(checkpoint, _)| checkpoint)
    }

    /// Signs the ledger as of a commit, and returns the signed note. Entries and note are durable then; the position's
    /// entries have to be durable before. The same position again gives the same note.
    ///
    /// # Errors
    /// A file cannot be read or written, or the position does not continue what was signed before. Then nothing is
    /// signed.
    pub fn sign(&mut self, position: &LedgerPosition) -> Result<String, SignError> {
        let Some(edge) = Edge::new(position.size, position.edge.clone()) else {
            return Err(SignError::Inconsistent("the edge of the tree does not fit its size".to_owned()));
        };
        let checkpoint = Checkpoint { origin: self.origin.clone(), size: edge.size(), root: edge.root() };
        if let Some((last, note)) = &self.last {
            if *last == checkpoint {
                return Ok(note.clone());
            }
            self.ensure_extends(last, &checkpoint)?;
        }
        let note = self.signer.sign(&checkpoint);
        self.store(checkpoint, note)
    }

    fn ensure_extends(&self, last: &Checkpoint, next: &Checkpoint) -> Result<(), SignError> {
        let failed = |error| SignError::io("read", &self.dir)(error);
        let (old, new) = ((last.size, &last.root), (next.size, &next.root));
        let extends = match LedgerReader::open(&self.dir).map_err(failed)? {
            _ if old.0 > new.0 => false,
            _ if old.0 == 0 || old.0 == new.0 => tree::is_consistent(old, new, &[]),
            None => false,
            Some(reader) => either(
                &reader,
                |hashes| tree::consistency_proof(hashes, old.0, new.0),
                |proof| tree::is_consistent(old, new, proof),
            )
            .map_err(failed)?
            .is_some(),
        };
        if extends {
            return Ok(());
        }
        Err(SignError::Inconsistent(format!(
            "the ledger with {} entries does not continue the signed checkpoint with {} entries",
            next.size, last.size
        )))
    }

    /// Stores a note durably: first in the list, then as the latest one.
    fn store(&mut self, checkpoint: Checkpoint, note: String) -> Result<String, SignError> {
        let path = self.dir.join(ALL_CHECKPOINTS);
        let append = || {
            // What a failed or killed call has left.
            self.file.set_len(self.length)?;
            self.file.write_all_at(note.as_bytes(), self.length)?;
            self.file.sync_all()
        };
        append().map_err(SignError::io("write", &path))?;
        replace(&self.dir, &note)?;
        self.length += note.len() as u64;
        self.last = Some((checkpoint, note.clone()));
        Ok(note)
    }
}

/// Makes a note the latest one.
fn replace(dir: &Path, note: &str) -> Result<(), SignError> {
    let path = dir.join(LATEST_CHECKPOINT);
    let replace = || {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
        file.write_all(note.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        File::open(dir)?.sync_all()
    };
    replace().map_err(SignError::io("write", &path))
}

#[cfg(test)]
#[path = "checkpoints_tests.rs"]
mod tests;
