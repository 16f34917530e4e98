//! The files of an exported ledger: C2SP `tlog-tiles`.
//!
//! ```text
//! checkpoint              the latest signed checkpoint
//! checkpoints             all of them, oldest first; the specification does not know this file
//! tile/0/x001/234         hashes of 256 entries; level 1 has the hashes of 256 such tiles, and so on
//! tile/entries/x001/234   256 entries, each after its length in two bytes
//! tile/0/x001/235.p/17    the last tile of a level has fewer: 17
//! ```

use super::blocks::BLOCK_ENTRIES;
use super::entry::ENTRY_BYTES;
use super::note::Checkpoint;
use super::segments::read_text;
use super::tree::TreeHash;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Hashes of a full tile, entries of a full bundle.
pub(super) const WIDTH: u64 = BLOCK_ENTRIES;
/// Levels of the tree between the levels of tiles.
pub(super) const TILE_LEVELS: u32 = WIDTH.trailing_zeros();
/// An entry with its length.
const BUNDLED_BYTES: usize = 2 + ENTRY_BYTES;
const LENGTH: [u8; 2] = (ENTRY_BYTES as u16).to_be_bytes();
const BUNDLES: &str = "tile/entries";
/// The latest signed checkpoint.
pub(super) const LATEST_CHECKPOINT: &str = "checkpoint";

/// Path of a tile, or of a bundle of entries if `level` is `None`, that has so many hashes or entries.
pub(super) fn path(level: Option<u32>, index: u64, width: u64) -> PathBuf {
    let level = level.map_or("entries".to_owned(), |level| level.to_string());
    let mut number = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        number = format!("x{:03}/{number}", rest % 1000);
        rest /= 1000;
    }
    let partial = if width < WIDTH { format!(".p/{width}") } else { String::new() };
    format!("tile/{level}/{number}{partial}").into()
}

/// The entries that an export has. `None`: it is no export.
pub(super) fn on_disk(dir: &Path) -> io::Result<Option<Range<u64>>> {
    let mut found: Option<Range<u64>> = None;
    // Whatever else is there, the log has no more entries than its checkpoint says.
    let latest = read_text(&dir.join(LATEST_CHECKPOINT))?;
    let size = Checkpoint::parse(&latest).map_or(0, |checkpoint| checkpoint.size);
    each_bundle(&dir.join(BUNDLES), 0, &mut |bundle, width| {
        if let Some(first) = bundle.checked_mul(WIDTH).filter(|first| *first < size) {
            let all = found.get_or_insert(first..first);
            *all = all.start.min(first)..all.end.max(size.min(first.saturating_add(width)));
        }
    })?;
    // An export of no entries has nothing but its checkpoint.
    Ok(found.or_else(|| dir.join(LATEST_CHECKPOINT).is_file().then_some(0..0)))
}

/// Calls `found` with the number and the width of each bundle below `dir`; `before` is the first part of their numbers.
fn each_bundle(dir: &Path, before: u64, found: &mut impl FnMut(u64, u64)) -> io::Result<()> {
    for name in names(dir)? {
        let (digits, kind) = match (name.strip_prefix('x'), name.strip_suffix(".p")) {
            (Some(digits), _) => (digits, 'x'),
            (None, Some(digits)) => (digits, 'p'),
            (None, None) => (name.as_str(), ' '),
        };
        let Some(number) = digits.parse::<u64>().ok().filter(|number| digits.len() == 3 && *number < 1000)
        else {
            continue;
        };
        let Some(number) = before.checked_mul(1000).and_then(|before| before.checked_add(number)) else {
            continue;
        };
        match kind {
            'x' => each_bundle(&dir.join(&name), number, found)?,
            'p' => widths(&dir.join(&name))?.into_iter().for_each(|width| found(number, width)),
            _ => found(number, WIDTH),
        }
    }
    Ok(())
}

/// Names in a directory; a missing one has none.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let found = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let names = found.map(|name| Ok(name?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

/// How many hashes or entries the partial tiles in this directory have.
fn widths(partial: &Path) -> io::Result<Vec<u64>> {
    let widths = names(partial)?.into_iter().filter_map(|name| name.parse().ok());
    Ok(widths.filter(|width| (1..WIDTH).contains(width)).collect())
}

/// The bytes of a tile or a bundle that has at least `width` hashes or entries. `None`: there is none.
fn read(dir: &Path, level: Option<u32>, index: u64, width: u64) -> io::Result<Option<Vec<u8>>> {
    // A full tile first: an export that went on may have left the partial one.
    let full = dir.join(path(level, index, WIDTH));
    match std::fs::read(&full) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        bytes => return bytes.map(Some),
    }
    let partial = full.with_extension("p");
    let widest = widths(&partial)?.into_iter().max().filter(|widest| *widest >= width);
    widest.map(|widest| std::fs::read(partial.join(widest.to_string()))).transpose()
}

/// The bytes of a range of entries. Zeros stand for what is missing.
pub(super) fn read_entries(dir: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut entries = vec![0; range.end.saturating_sub(range.start) as usize * ENTRY_BYTES];
    let (mut at, mut rest) = (range.start, &mut entries[..]);
    while at < range.end {
        let bundle = at / WIDTH;
        let end = range.end.min((bundle + 1) * WIDTH);
        let (now, later) = rest.split_at_mut((end - at) as usize * ENTRY_BYTES);
        let bytes = read(dir, None, bundle, 1)?.unwrap_or_default();
        let found = bytes.chunks(BUNDLED_BYTES).skip((at % WIDTH) as usize);
        for (entry, found) in now.chunks_exact_mut(ENTRY_BYTES).zip(found) {
            // Entries of another length are none of ours, and nothing behind one is where it is expected.
            match found.split_at_checked(2) {
                Some((length, found)) if length == LENGTH && found.len() == ENTRY_BYTES => {
                    entry.copy_from_slice(found);
                }
                _ => break,
            }
        }
        (at, rest) = (end, later);
    }
    Ok(entries)
}

/// A range of the hashes of one tile. `None`: they are not there.
pub(super) fn read_hashes(
    dir: &Path,
    level: u32,
    tile: u64,
    range: Range<u64>,
) -> io::Result<Option<Vec<TreeHash>>> {
    let bytes = read(dir, Some(level), tile, range.end)?.unwrap_or_default();
    let hashes = bytes.as_chunks().0.get(range.start as usize..range.end as usize);
    Ok(hashes.map(<[TreeHash]>::to_vec))
}

/// Appends an entry to a bundle.
pub(super) fn bundle(entry: &[u8], bundle: &mut Vec<u8>) {
    bundle.extend_from_slice(&LENGTH);
    bundle.extend_from_slice(entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        for (level, index, width, expected) in [
            (Some(0), 1_234_067, 256, "tile/0/x001/x234/067"),
            (Some(1), 0, 256, "tile/1/000"),
            (Some(0), 273, 5, "tile/0/273.p/5"),
            (None, 999, 256, "tile/entries/999"),
            (None, 1000, 112, "tile/entries/x001/000.p/112"),
        ] {
            assert_eq!(path(level, index, width), Path::new(expected));
        }
    }

    #[test]
    fn bundles_are_found_and_read_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(on_disk(dir.path()).unwrap(), None);
        let checkpoint = dir.path().join("checkpoint");
        let sized =
            |size: u64| format!("o\n{size}\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— k AA\n");
        std::fs::write(&checkpoint, sized(0)).unwrap();
        assert_eq!(on_disk(dir.path()).unwrap(), Some(0..0));
        std::fs::write(&checkpoint, sized(1000 * 256 + 7)).unwrap();
        // The last one is none of this log.
        for (index, width) in [(998, 256), (999, 256), (1000, 3), (1000, 7), (u64::MAX / 3, 256)] {
            let path = dir.path().join(path(None, index, width));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut bytes = Vec::new();
            (0..width).for_each(|n| bundle(&[index.wrapping_add(n) as u8; ENTRY_BYTES], &mut bytes));
            std::fs::write(path, bytes).unwrap();
        }
        assert_eq!(on_disk(dir.path()).unwrap(), Some(998 * 256..1000 * 256 + 7));
        let entries = read_entries(dir.path(), 999 * 256 + 254..1000 * 256 + 9).unwrap();
        let firsts: Vec<u8> = entries.chunks_exact(ENTRY_BYTES).map(|entry| entry[0]).collect();
        let expected = [999 + 254, 999 + 255, 1000, 1001, 1002, 1003, 1004, 1005, 1006].map(|n: u64| n as u8);
        assert_eq!(firsts[..9], expected);
        assert_eq!(firsts[9..], [0, 0]);
        // Somebody claims the longest log that can be.
        std::fs::write(&checkpoint, sized(u64::MAX)).unwrap();
        let last = dir.path().join(path(None, u64::MAX / 256, 256));
        std::fs::create_dir_all(last.parent().unwrap()).unwrap();
        std::fs::write(last, "").unwrap();
        assert_eq!(on_disk(dir.path()).unwrap(), Some(998 * 256..u64::MAX));
    }
}
