//! Decides whether a file found now is one that was read before: by evidence, never by name alone. Pure.

use super::compressed;
use super::name::{self, Order};
use crate::position::{FileEntry, Fingerprint};
use std::io;
use std::path::{Path, PathBuf};

/// What a look at the directory tells of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileObservation {
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime_ms: i64,
}

impl FileObservation {
    pub fn order(&self) -> Order {
        Order::of(name::of(&self.path), self.mtime_ms)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileIdentity {
    /// The entry's file, maybe under another name or on another device: go on at its offset.
    Resume {
        entry: usize,
    },
    /// The entry's file, but what was read of it is gone: begin anew, one epoch later.
    Restart {
        entry: usize,
    },
    New,
}

/// Looks `seen` up among the entries. `holds` reads the file and says whether the evidence still stands before an offset.
///
/// The inode is asked first, for a renamed file keeps it; an inode is used again after a deletion, so it proves nothing
/// by itself. Then the path: a file on a remounted or restored volume has a new device or inode but the same bytes.
///
/// # Errors
/// Those of `holds`: the file may be one of these, and it is not known whether it is.
pub fn resolve(
    entries: &[FileEntry],
    seen: &FileObservation,
    holds: &mut dyn FnMut(u64, Fingerprint) -> io::Result<bool>,
) -> io::Result<FileIdentity> {
    let by_inode = entries
        .iter()
        .position(|e| (e.dev, e.ino) == (seen.dev, seen.ino));
    let by_path = entries
        .iter()
        .position(|e| !e.is_replaced() && e.path == seen.path);
    for entry in [by_inode, by_path].into_iter().flatten() {
        if stands(&entries[entry], seen, holds)? {
            return Ok(FileIdentity::Resume { entry });
        }
    }
    Ok(match by_inode {
        Some(entry) if Some(entry) == by_path => FileIdentity::Restart { entry },
        _ => FileIdentity::New,
    })
}

/// Looks a compressed file up among the entries: by its inode or path, by the path that it had before it was compressed, or as
/// the content of a file that is gone and was not read to its end. `head` are the first bytes of its content. Where it was read to
/// is compared when it is read on.
pub fn resolve_compressed(
    entries: &[FileEntry],
    seen: &FileObservation,
    original: &Path,
    head: &[u8],
) -> FileIdentity {
    let begins_alike = |entry: &FileEntry| {
        let head = head.get(..entry.prefix.len as usize);
        head.is_some_and(|head| Fingerprint::of(head) == entry.prefix)
    };
    let by_inode = |e: &FileEntry| {
        let was_compressed = compressed::of_name(&e.path).is_some();
        (e.dev, e.ino) == (seen.dev, seen.ino) && was_compressed
    };
    let by_path = |path: &Path, e: &FileEntry| !e.is_replaced() && e.path == path;
    let by_content = |e: &FileEntry| e.prefix.len > 0 && !e.finished;
    let same: [&dyn Fn(&FileEntry) -> bool; 4] = [
        &by_inode,
        &|e| by_path(&seen.path, e),
        // What was finished is known; but of what was to be passed over it is known only by its name.
        &|e| by_path(original, e) && (!e.finished || e.offset > 0 && e.tail_fingerprint.len == 0),
        &by_content,
    ];
    let found = |same: &&dyn Fn(&FileEntry) -> bool| entries.iter().position(|e| same(e) && begins_alike(e));
    match same.iter().find_map(found) {
        Some(entry) => FileIdentity::Resume { entry },
        None => FileIdentity::New,
    }
}

/// Looks `seen` up among the entries of directories that are not looked at any more, for its own may be one of these in another
/// place: the same name, and the same bytes before the offset.
///
/// # Errors
/// Those of `holds`, as above.
pub fn resolve_moved(
    entries: &[FileEntry],
    seen: &FileObservation,
    holds: &mut dyn FnMut(u64, Fingerprint) -> io::Result<bool>,
) -> io::Result<FileIdentity> {
    for (at, entry) in entries.iter().enumerate() {
        let same_name = entry.path.file_name() == seen.path.file_name();
        // Where nothing was read there is no evidence: either it is read from its beginning anyway, or it was to be passed over.
        let evident = entry.offset == 0 || entry.tail_fingerprint.len > 0;
        if same_name
            && evident
            && seen.size >= entry.offset
            && holds(entry.offset, entry.tail_fingerprint)?
            && holds(u64::from(entry.prefix.len), entry.prefix)?
        {
            return Ok(FileIdentity::Resume { entry: at });
        }
    }
    Ok(FileIdentity::New)
}

fn stands(
    entry: &FileEntry,
    seen: &FileObservation,
    holds: &mut dyn FnMut(u64, Fingerprint) -> io::Result<bool>,
) -> io::Result<bool> {
    // Nothing was read of it: it is the file of its name (or inode) that begins as it did and is not shorter. Where not even
    // its beginning is known, whatever stands under the name is read from its beginning anyway.
    if entry.offset == 0 {
        let long_enough = seen.size >= entry.size;
        return Ok(long_enough && holds(u64::from(entry.prefix.len), entry.prefix)?);
    }
    Ok(seen.size >= entry.offset
        && holds(entry.offset, entry.tail_fingerprint)?
        && holds(u64::from(entry.prefix.len), entry.prefix)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, dev: u64, ino: u64, offset: u64) -> FileEntry {
        let fingerprint = Fingerprint {
            len: offset.min(8) as u32,
            hash: offset,
        };
        FileEntry {
            path: path.into(),
            dev,
            ino,
            offset,
            prefix: fingerprint,
            tail_fingerprint: fingerprint,
            ..Default::default()
        }
    }

    /// F03: twelve combinations of place, size and evidence, and what each is.
    #[test]
    fn f03_resolve_table() {
        let resume = FileIdentity::Resume { entry: 0 };
        let restart = FileIdentity::Restart { entry: 0 };
        let table = [
            // path, dev, ino, size, prefix holds, frontier holds → verdict
            ("a", 1, 10, 100, true, true, resume),
            ("a", 1, 10, 200, true, true, resume),
            ("a", 1, 10, 99, true, true, restart),             // shrunk
            ("a", 1, 10, 200, true, false, restart),           // rewritten before the offset
            ("a", 1, 10, 200, false, true, restart),           // begins otherwise
            ("b", 1, 10, 200, true, true, resume),             // renamed
            ("b", 1, 10, 200, true, false, FileIdentity::New), // inode used again
            ("b", 1, 10, 50, true, true, FileIdentity::New),   // inode used again, shorter
            ("a", 2, 10, 100, true, true, resume),             // other device: remounted
            ("a", 1, 11, 200, true, true, resume),             // restored copy
            ("a", 1, 11, 200, true, false, FileIdentity::New), // deleted and made again
            ("b", 2, 11, 200, true, true, FileIdentity::New),  // nothing in common but bytes
        ];
        for (path, dev, ino, size, prefix, tail_fingerprint, expect) in table {
            let entries = [entry("a", 1, 10, 100)];
            let seen = FileObservation {
                path: path.into(),
                dev,
                ino,
                size,
                mtime_ms: 0,
            };
            let verdict = resolve(&entries, &seen, &mut |before, _| {
                Ok(if before == 100 { tail_fingerprint } else { prefix })
            });
            assert_eq!(
                verdict.unwrap(),
                expect,
                "{seen:?} prefix {prefix} frontier {tail_fingerprint}"
            );
        }
    }

    #[test]
    fn f13_dev_changed_resumes_by_evidence() {
        let entries = [entry("a", 1, 10, 100)];
        let seen = FileObservation {
            path: "a".into(),
            dev: 7,
            ino: 99,
            size: 150,
            mtime_ms: 0,
        };
        assert_eq!(
            resolve(&entries, &seen, &mut |_, _| Ok(true)).unwrap(),
            FileIdentity::Resume { entry: 0 }
        );
    }

    /// What might be the entry's file and cannot be read is not decided; what can be none of the entries needs no reading.
    #[test]
    fn f13_what_cannot_be_read_is_not_a_new_file() {
        let entries = [entry("a", 1, 10, 100)];
        for (path, ino, size, decided) in [
            ("a", 11, 150, false),
            ("b", 10, 150, false),
            ("b", 11, 150, true),
            ("a", 11, 50, true),
        ] {
            let seen = FileObservation {
                path: path.into(),
                dev: 1,
                ino,
                size,
                mtime_ms: 0,
            };
            let verdict = resolve(&entries, &seen, &mut |_, _| Err(io::Error::from_raw_os_error(13)));
            assert_eq!(verdict.ok(), decided.then_some(FileIdentity::New), "{seen:?}");
        }
    }

    /// F85: a file of which nothing was read is known by its name or inode, its beginning, and that it is not shorter.
    #[test]
    fn f85_unread_is_told_by_name_and_content() {
        let (resume, new) = (FileIdentity::Resume { entry: 0 }, FileIdentity::New);
        let restart = FileIdentity::Restart { entry: 0 };
        let table = [
            // path, dev, ino, size, begins the same → verdict
            ("a", 1, 10, 100, true, resume),
            ("a", 2, 10, 100, true, resume),   // other device
            ("a", 1, 11, 150, true, resume),   // restored, and written to since
            ("b", 1, 10, 100, true, resume),   // renamed
            ("a", 2, 10, 100, false, new),     // another file of that name
            ("a", 2, 10, 99, true, new),       // shorter: something of it is gone
            ("b", 1, 10, 100, false, new),     // inode used again
            ("a", 1, 10, 100, false, restart), // rewritten
            ("b", 2, 11, 100, true, new),
        ];
        for (path, dev, ino, size, begins, expect) in table {
            let mut entries = [entry("a", 1, 10, 0)];
            (entries[0].size, entries[0].prefix.len) = (100, 64);
            let seen = FileObservation {
                path: path.into(),
                dev,
                ino,
                size,
                mtime_ms: 0,
            };
            let verdict = resolve(&entries, &seen, &mut |_, _| Ok(begins)).unwrap();
            assert_eq!(verdict, expect, "{seen:?} begins the same: {begins}");
        }
    }

    #[test]
    fn an_unread_entry_without_content_goes_by_its_name() {
        let entries = [entry("a", 1, 10, 0)];
        let at = |path: &str, ino| FileObservation {
            path: path.into(),
            dev: 1,
            ino,
            size: 9,
            mtime_ms: 0,
        };
        assert_eq!(
            resolve(&entries, &at("a", 10), &mut |_, _| Ok(true)).unwrap(),
            FileIdentity::Resume { entry: 0 }
        );
        assert_eq!(
            resolve(&entries, &at("a", 11), &mut |_, _| Ok(true)).unwrap(),
            FileIdentity::Resume { entry: 0 }
        );
        assert_eq!(
            resolve(&entries, &at("b", 11), &mut |_, _| Ok(true)).unwrap(),
            FileIdentity::New
        );
        // Renamed before a byte of it was read.
        assert_eq!(
            resolve(&entries, &at("b", 10), &mut |_, _| Ok(true)).unwrap(),
            FileIdentity::Resume { entry: 0 }
        );
    }
}
