//! Exports a ledger as static C2SP `tlog-tiles`, which any reader of transparency logs understands.

use super::blocks::BLOCK_ENTRIES;
use super::note::Checkpoint;
use super::reader::{ALL_CHECKPOINTS, LedgerReader, READ_ENTRIES};
use super::segments::read_text;
use super::subtrees::stored_blocks;
use super::tiles::{self, LATEST_CHECKPOINT, WIDTH};
use super::tree::{Edge, TreeHash, joined_root, leaf_hash};
use std::io;
use std::path::{Path, PathBuf};

/// Why a ledger was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot read the ledger")]
    Read(#[source] io::Error),
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("nothing of this ledger is signed yet; the agent signs it at intervals and when it stops")]
    NotSealed,
    #[error("`{}` is not empty and holds no export of this ledger; name another directory", .0.display())]
    Foreign(PathBuf),
    #[error("the entries do not lead to the root of the last checkpoint; `verify` says what was changed")]
    Altered,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The signed checkpoint of the export.
    pub checkpoint: Checkpoint,
    /// The first entry that is in it. Those before were dropped by retention; only their hashes are there.
    pub first: u64,
    pub checkpoints: usize,
}

/// Exports the ledger as of its last checkpoint into `dir`, which is created, or which holds an earlier export of the
/// same ledger. The checkpoint is written last. `progress` gets the number of the entry that was reached.
///
/// # Errors
/// A file cannot be read or written, or the ledger cannot be exported.
pub fn export(
    reader: &LedgerReader,
    dir: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Exported, ExportError> {
    let notes = reader.checkpoints().map_err(ExportError::Read)?;
    let mut readable = notes.iter().filter_map(|note| Some((Checkpoint::parse(note)?, note)));
    let (checkpoint, note) = readable.next_back().ok_or(ExportError::NotSealed)?;
    ensure_same_ledger(dir, &checkpoint.origin)?;
    if checkpoint.size > reader.size() {
        return Err(ExportError::Altered);
    }
    let mut tiles = Tiles { dir, levels: Vec::new(), first_tile: reader.first() / WIDTH };
    if tiles.write_all(reader, checkpoint.size, progress)? != checkpoint.root {
        return Err(ExportError::Altered);
    }
    write(&dir.join(ALL_CHECKPOINTS), notes.concat().as_bytes())?;
    write(&dir.join(LATEST_CHECKPOINT), note.as_bytes())?;
    let first = reader.first().min(checkpoint.size);
    Ok(Exported { checkpoint, first, checkpoints: notes.len() })
}

/// Refuses a directory with anything else than an export of this log.
fn ensure_same_ledger(dir: &Path, origin: &str) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { path: dir.to_owned(), source };
    let is_empty = match std::fs::read_dir(dir) {
        Ok(mut names) => names.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed(error)),
    };
    let latest = read_text(&dir.join(LATEST_CHECKPOINT)).map_err(failed)?;
    let same = Checkpoint::parse(&latest).is_some_and(|known| known.origin == origin);
    // An export that did not get as far as its checkpoint has nothing but tiles.
    let unfinished = || {
        let mut names = std::fs::read_dir(dir).into_iter().flatten().flatten();
        names.all(|name| name.file_name() == "tile" || name.file_name() == ALL_CHECKPOINTS)
    };
    if is_empty || same || latest.is_empty() && unfinished() {
        return Ok(());
    }
    Err(ExportError::Foreign(dir.to_owned()))
}

/// The tiles that are being filled.
struct Tiles<'a> {
    dir: &'a Path,
    /// Of each level: number of complete tiles, and the hashes after them.
    levels: Vec<(u64, Vec<TreeHash>)>,
    /// The first tile of level 0 whose entries are kept.
    first_tile: u64,
}

impl Tiles<'_> {
    /// Writes entries and hashes of the first `size` entries. Returns their root.
    fn write_all(
        &mut self,
        reader: &LedgerReader,
        size: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<TreeHash, ExportError> {
        let first = reader.first().min(size - size % WIDTH);
        let mut blocks = Edge::default();
        self.levels.push((self.first_tile, Vec::new()));
        for hash in stored_blocks(reader, 0..first / BLOCK_ENTRIES).map_err(ExportError::Read)? {
            let hash = hash.ok_or(ExportError::Altered)?;
            blocks.push(hash, |_, _| {});
            self.push(1, hash)?;
        }
        let mut leaves = Edge::default();
        let mut bundle = Vec::new();
        for begin in (first..size).step_by(READ_ENTRIES as usize) {
            let end = size.min(begin + READ_ENTRIES);
            let bytes = reader.read(begin..end).map_err(ExportError::Read)?;
            for (number, entry) in (begin..).zip(bytes.as_chunks().0) {
                let leaf = leaf_hash(entry);
                leaves.push(leaf, |_, _| {});
                tiles::bundle(entry, &mut bundle);
                if leaves.size() == WIDTH {
                    blocks.push(std::mem::take(&mut leaves).root(), |_, _| {});
                    self.put(None, number / WIDTH, WIDTH, &std::mem::take(&mut bundle))?;
                }
                self.push(0, leaf)?;
            }
            progress(end);
        }
        if leaves.size() > 0 {
            self.put(None, size / WIDTH, leaves.size(), &bundle)?;
        }
        for (level, (tile, hashes)) in self.levels.iter().enumerate() {
            if !hashes.is_empty() {
                self.put(Some(level as u32), *tile, hashes.len() as u64, hashes.as_flattened())?;
            }
        }
        Ok(joined_root(&blocks, &leaves))
    }

    /// Adds a hash to a level. A full tile is written, and its hash added to the next level.
    fn push(&mut self, level: u32, hash: TreeHash) -> Result<(), ExportError> {
        let at = level as usize;
        if self.levels.len() == at {
            self.levels.push((0, Vec::new()));
        }
        let (tile, hashes) = &mut self.levels[at];
        hashes.push(hash);
        if hashes.len() as u64 == WIDTH {
            let (number, hashes) = (*tile, std::mem::take(hashes));
            *tile += 1;
            self.put(Some(level), number, WIDTH, hashes.as_flattened())?;
            let mut edge = Edge::default();
            hashes.into_iter().for_each(|hash| edge.push(hash, |_, _| {}));
            self.push(level + 1, edge.root())?;
        }
        Ok(())
    }

    fn put(&self, level: Option<u32>, index: u64, width: u64, bytes: &[u8]) -> Result<(), ExportError> {
        write(&self.dir.join(tiles::path(level, index, width)), bytes)
    }
}

/// Writes a file, unless it has this content: a web server may be serving an earlier export.
fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let put = || {
        if std::fs::read(path).is_ok_and(|known| known == bytes) {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(path);
        std::fs::create_dir_all(parent)?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
        io::Write::write_all(&mut file, bytes)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    put().map_err(|source| ExportError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::check;
    use crate::ledger::check_tests::{signed_ledger, signer};
    use crate::ledger::proof::Proof;
    use crate::ledger::segments;

    fn opened(dir: &Path) -> LedgerReader {
        LedgerReader::open(dir).unwrap().unwrap()
    }

    #[test]
    fn an_export_has_the_entries_and_hashes_of_the_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, out) = (dir.path().join("wiki"), dir.path().join("out"));
        signed_ledger(&ledger, &[100, 66_000]);
        let reader = opened(&ledger);
        let exported = export(&reader, &out, &mut |_| {}).unwrap();
        assert_eq!((exported.first, exported.checkpoint.size, exported.checkpoints), (0, 66_000, 2));
        let tiles = LedgerReader::open_tiles(&out).unwrap().unwrap();
        assert_eq!((tiles.first(), tiles.size()), (0, 66_000));
        assert_eq!(tiles.read(0..66_000).unwrap(), reader.read(0..66_000).unwrap());
        let keys = [signer(1).verifier()];
        let checked = check(&tiles, &keys, &[], &mut |_| {}).unwrap();
        assert_eq!((checked.findings, checked.vouched), (vec![], 66_000));
        let notes = reader.checkpoints().unwrap();
        for number in [0, 65_535, 65_536, 65_999] {
            let proof = Proof::new(&tiles, number, &notes[1]).unwrap();
            assert_eq!(proof, Proof::new(&reader, number, &notes[1]).unwrap());
            assert!(proof.unwrap().verify(&keys).is_ok());
        }
        let paths = ["tile/0/255", "tile/0/257.p/208", "tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"];
        for path in paths.into_iter().chain(["tile/entries/257.p/208", "checkpoint", "checkpoints"]) {
            assert!(out.join(path).is_file(), "{path}");
        }
        // Again, after retention has dropped the first segment: what was exported before stays.
        export(&reader, &out, &mut |_| {}).unwrap();
        std::fs::remove_file(segments::path(&ledger, 0)).unwrap();
        let later = dir.path().join("later");
        let exported = export(&opened(&ledger), &later, &mut |_| {}).unwrap();
        assert_eq!(exported.first, 65_536);
        let tiles = LedgerReader::open_tiles(&later).unwrap().unwrap();
        assert_eq!((tiles.first(), tiles.size()), (65_536, 66_000));
        assert_eq!(check(&tiles, &keys, &[], &mut |_| {}).unwrap().findings, []);
        assert!(Proof::new(&tiles, 65_800, &notes[1]).unwrap().unwrap().verify(&keys).is_ok());
    }

    #[test]
    fn what_cannot_be_exported_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, out) = (dir.path().join("wiki"), dir.path().join("out"));
        signed_ledger(&ledger, &[]);
        let refused = |ledger: &Path, out: &Path| export(&opened(ledger), out, &mut |_| {}).unwrap_err();
        assert!(matches!(refused(&ledger, &out), ExportError::NotSealed));
        let ledger = dir.path().join("docs");
        signed_ledger(&ledger, &[600]);
        assert!(matches!(refused(&ledger, dir.path()), ExportError::Foreign(_)));
        let path = segments::path(&ledger, 0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(refused(&ledger, &out), ExportError::Altered));
        assert!(!out.join("checkpoint").exists());
        bytes[60] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        // What an unfinished export has left is overwritten.
        export(&opened(&ledger), &out, &mut |_| {}).unwrap();
        std::fs::write(
            out.join("checkpoint"),
            "other\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— a b\n",
        )
        .unwrap();
        assert!(matches!(refused(&ledger, &out), ExportError::Foreign(_)));
    }
}
