//! Decides whether a file was read before. Its content decides, never its name alone. Pure.

use super::compressed;
use super::name::{self, FileOrder};
use crate::position::{FileEntry, Fingerprint};
use std::io;
use std::path::{Path, PathBuf};

/// What a directory listing and `stat` report about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileObservation {
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime_ms: i64,
}

impl FileObservation {
    pub(crate) fn order(&self) -> FileOrder {
        FileOrder::of(name::file_name(&self.path), self.mtime_ms)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileIdentity {
    /// The entry's file, maybe renamed or on another device: continue at its offset.
    Resume {
        entry: usize,
    },
    /// The entry's file, but what was read is no longer there: read it from the start, as a new file.
    Restart {
        entry: usize,
    },
    New,
}

/// Finds the entry of a file. `has_fingerprint(offset, fingerprint)` reads the file and returns whether the bytes
/// before `offset` match.
///
/// The inode is tried first, because a renamed file keeps it. It proves nothing by itself, because inodes are reused
/// after a deletion. The path is tried next: on a remounted or restored volume device and inode differ but the
/// content is the same.
///
/// # Errors
/// Those of `has_fingerprint`. It is then unknown whether the file is one of the entries.
pub(crate) fn match_entry(
    entries: &[FileEntry],
    observed: &FileObservation,
    has_fingerprint: &mut dyn FnMut(u64, Fingerprint) -> io::Result<bool>,
) -> io::Result<FileIdentity> {
    let by_inode = entries.iter().position(|e| (e.dev, e.ino) == (observed.dev, observed.ino));
    let by_path = entries.iter().position(|e| !e.is_replaced() && e.path == observed.path);
    for entry in [by_inode, by_path].into_iter().flatten() {
        if is_same_file(&entries[entry], observed, has_fingerprint)? {
            return Ok(FileIdentity::Resume { entry });
        }
    }
    Ok(match by_inode {
        Some(entry) if Some(entry) == by_path => FileIdentity::Restart { entry },
        _ => FileIdentity::New,
    })
}

/// Finds the entry of a compressed file. Its inode or path may be known, or the path `original` that it had before
/// compression. Otherwise it may be the content of a missing file that was not fully read. `head` is the start of its
/// decompressed content. The tail fingerprint is compared later, when the file is read.
pub(crate) fn match_compressed(
    entries: &[FileEntry],
    observed: &FileObservation,
    original: &Path,
    head: &[u8],
) -> FileIdentity {
    let has_same_head = |entry: &FileEntry| {
        let head = head.get(..entry.head_fingerprint.len as usize);
        head.is_some_and(|head| Fingerprint::of(head) == entry.head_fingerprint)
    };
    let by_inode = |e: &FileEntry| {
        let was_compressed = compressed::split_extension(&e.path).is_some();
        (e.dev, e.ino) == (observed.dev, observed.ino) && was_compressed
    };
    let by_path = |path: &Path, e: &FileEntry| !e.is_replaced() && e.path == path;
    let by_content = |e: &FileEntry| e.head_fingerprint.len > 0 && !e.finished;
    let same: [&dyn Fn(&FileEntry) -> bool; 4] = [
        &by_inode,
        &|e| by_path(&observed.path, e),
        // A finished original needs no second entry. But a file that was skipped at the first start is known only by
        // its name.
        &|e| by_path(original, e) && (!e.finished || e.offset > 0 && e.tail_fingerprint.len == 0),
        &by_content,
    ];
    let found = |same: &&dyn Fn(&FileEntry) -> bool| entries.iter().position(|e| same(e) && has_same_head(e));
    match same.iter().find_map(found) {
        Some(entry) => FileIdentity::Resume { entry },
        None => FileIdentity::New,
    }
}

/// Finds the entry of a file among those of directories that are no longer configured: the same name and the same
/// content before the offset.
///
/// # Errors
/// Those of `has_fingerprint`, see [`match_entry`].
pub(crate) fn match_moved(
    entries: &[FileEntry],
    observed: &FileObservation,
    has_fingerprint: &mut dyn FnMut(u64, Fingerprint) -> io::Result<bool>,
) -> io::Result<FileIdentity> {
    for (index, entry) in entries.iter().enumerate() {
        let same_name = entry.path.file_name() == observed.path.file_name();
        // A skipped file has no tail fingerprint, so nothing proves that it is the same. An unread file starts at
        // offset 0 anyway.
        let evident = entry.offset == 0 || entry.tail_fingerprint.len > 0;
        if same_name
            && evident
            && observed.size >= entry.offset
            && has_fingerprint(entry.offset, entry.tail_fingerprint)?
            && has_fingerprint(u64::from(entry.head_fingerprint.len), entry.head_fingerprint)?
        {
            return Ok(FileIdentity::Resume { entry: index });
        }
    }
    Ok(FileIdentity::New)
}

fn is_same_file(
    entry: &FileEntry,
    observed: &FileObservation,
    has_fingerprint: &mut dyn FnMut(u64, Fingerprint) -> io::Result<bool>,
) -> io::Result<bool> {
    // Nothing was read yet: it is the same file if its head is the same and it is not shorter. Without a head
    // fingerprint it is read from the start in any case.
    if entry.offset == 0 {
        let long_enough = observed.size >= entry.size;
        return Ok(
            long_enough && has_fingerprint(u64::from(entry.head_fingerprint.len), entry.head_fingerprint)?
        );
    }
    Ok(observed.size >= entry.offset
        && has_fingerprint(entry.offset, entry.tail_fingerprint)?
        && has_fingerprint(u64::from(entry.head_fingerprint.len), entry.head_fingerprint)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, dev: u64, ino: u64, offset: u64) -> FileEntry {
        let fingerprint = Fingerprint { len: offset.min(8) as u32, hash: offset };
        FileEntry {
            path: path.into(),
            dev,
            ino,
            offset,
            head_fingerprint: fingerprint,
            tail_fingerprint: fingerprint,
            ..Default::default()
        }
    }

    /// F03: combinations of path, inode, size and content, with the expected result.
    #[test]
    fn f03_resolve_table() {
        let resume = FileIdentity::Resume { entry: 0 };
        let restart = FileIdentity::Restart { entry: 0 };
        let table = [
            // path, dev, ino, size, head fingerprint matches, tail fingerprint matches → identity
            ("a", 1, 10, 100, true, true, resume),
            ("a", 1, 10, 200, true, true, resume),
            ("a", 1, 10, 99, true, true, restart),             // shrunk
            ("a", 1, 10, 200, true, false, restart),           // rewritten before the offset
            ("a", 1, 10, 200, false, true, restart),           // begins differently
            ("b", 1, 10, 200, true, true, resume),             // renamed
            ("b", 1, 10, 200, true, false, FileIdentity::New), // inode reused
            ("b", 1, 10, 50, true, true, FileIdentity::New),   // inode reused, shorter
            ("a", 2, 10, 100, true, true, resume),             // other device: remounted
            ("a", 1, 11, 200, true, true, resume),             // restored copy
            ("a", 1, 11, 200, true, false, FileIdentity::New), // deleted and created again
            ("b", 2, 11, 200, true, true, FileIdentity::New),  // nothing in common but bytes
        ];
        for (path, dev, ino, size, head_fingerprint, tail_fingerprint, expect) in table {
            let entries = [entry("a", 1, 10, 100)];
            let observed = FileObservation { path: path.into(), dev, ino, size, mtime_ms: 0 };
            let verdict = match_entry(&entries, &observed, &mut |before, _| {
                Ok(if before == 100 { tail_fingerprint } else { head_fingerprint })
            });
            assert_eq!(
                verdict.unwrap(),
                expect,
                "{observed:?} head_fingerprint {head_fingerprint} tail_fingerprint {tail_fingerprint}"
            );
        }
    }

    #[test]
    fn f13_dev_changed_resumes_by_content() {
        let entries = [entry("a", 1, 10, 100)];
        let observed = FileObservation { path: "a".into(), dev: 7, ino: 99, size: 150, mtime_ms: 0 };
        assert_eq!(
            match_entry(&entries, &observed, &mut |_, _| Ok(true)).unwrap(),
            FileIdentity::Resume { entry: 0 }
        );
    }

    /// A file that may be the entry's and cannot be read is not decided. A file that matches no entry does not have
    /// to be read.
    #[test]
    fn f13_what_cannot_be_read_is_not_a_new_file() {
        let entries = [entry("a", 1, 10, 100)];
        for (path, ino, size, decided) in
            [("a", 11, 150, false), ("b", 10, 150, false), ("b", 11, 150, true), ("a", 11, 50, true)]
        {
            let observed = FileObservation { path: path.into(), dev: 1, ino, size, mtime_ms: 0 };
            let verdict = match_entry(&entries, &observed, &mut |_, _| Err(io::Error::from_raw_os_error(13)));
            assert_eq!(verdict.ok(), decided.then_some(FileIdentity::New), "{observed:?}");
        }
    }

    /// F85: an unread file is identified by its name or inode, its head, and that it is not shorter.
    #[test]
    fn f85_unread_is_identified_by_name_and_content() {
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
            ("b", 1, 10, 100, false, new),     // inode reused
            ("a", 1, 10, 100, false, restart), // rewritten
            ("b", 2, 11, 100, true, new),
        ];
        for (path, dev, ino, size, begins, expect) in table {
            let mut entries = [entry("a", 1, 10, 0)];
            (entries[0].size, entries[0].head_fingerprint.len) = (100, 64);
            let observed = FileObservation { path: path.into(), dev, ino, size, mtime_ms: 0 };
            let verdict = match_entry(&entries, &observed, &mut |_, _| Ok(begins)).unwrap();
            assert_eq!(verdict, expect, "{observed:?} begins the same: {begins}");
        }
    }

    #[test]
    fn an_unread_entry_without_content_goes_by_its_name() {
        let entries = [entry("a", 1, 10, 0)];
        let at = |path: &str, ino| FileObservation { path: path.into(), dev: 1, ino, size: 9, mtime_ms: 0 };
        assert_eq!(
            match_entry(&entries, &at("a", 10), &mut |_, _| Ok(true)).unwrap(),
            FileIdentity::Resume { entry: 0 }
        );
        assert_eq!(
            match_entry(&entries, &at("a", 11), &mut |_, _| Ok(true)).unwrap(),
            FileIdentity::Resume { entry: 0 }
        );
        assert_eq!(match_entry(&entries, &at("b", 11), &mut |_, _| Ok(true)).unwrap(), FileIdentity::New);
        // Renamed before anything was read.
        assert_eq!(
            match_entry(&entries, &at("b", 10), &mut |_, _| Ok(true)).unwrap(),
            FileIdentity::Resume { entry: 0 }
        );
    }

    fn observed(path: &str, dev: u64, ino: u64, size: u64) -> FileObservation {
        FileObservation { path: path.into(), dev, ino, size, mtime_ms: 0 }
    }

    /// An entry whose file began with these bytes.
    fn begun(path: &str, ino: u64, head: &[u8]) -> FileEntry {
        FileEntry { head_fingerprint: Fingerprint::of(head), ..entry(path, 1, ino, 100) }
    }

    #[test]
    fn a_compressed_file_continues_its_original() {
        let (resume, new) = (FileIdentity::Resume { entry: 0 }, FileIdentity::New);
        let at = |path: &str, ino| observed(path, 1, ino, 50);
        let of = |entry: FileEntry, observed: FileObservation, head: &[u8]| {
            match_compressed(&[entry], &observed, Path::new("a"), head)
        };
        let finished = |entry: FileEntry| FileEntry { finished: true, ..entry };
        // By the path of the original, as long as that was not read to its end.
        assert_eq!(of(begun("a", 10, b"head"), at("a.gz", 11), b"head and more"), resume);
        assert_eq!(of(begun("a", 10, b"head"), at("a.gz", 11), b"heat and more"), new);
        assert_eq!(of(begun("a", 10, b"head"), at("a.gz", 11), b"hea"), new, "shorter than what was read");
        assert_eq!(of(finished(begun("a", 10, b"head")), at("a.gz", 11), b"head"), new);
        // A file that was skipped at the first start is known by its name.
        let skipped =
            FileEntry { tail_fingerprint: Fingerprint::default(), ..finished(begun("a", 10, b"head")) };
        assert_eq!(of(skipped.clone(), at("a.gz", 11), b"head"), resume);
        assert_eq!(of(FileEntry { offset: 0, ..skipped }, at("a.gz", 11), b"head"), new);
        // By its own path or inode, finished or not.
        assert_eq!(of(finished(begun("a.gz", 10, b"head")), at("a.gz", 11), b"head"), resume);
        assert_eq!(of(finished(begun("b.gz", 11, b"head")), at("a.gz", 11), b"head"), resume);
        // The inode of a file that was not compressed was reused.
        assert_eq!(of(finished(begun("b", 11, b"head")), at("a.gz", 11), b"head"), new);
        let other_device = FileEntry { dev: 2, ..finished(begun("b.gz", 11, b"head")) };
        assert_eq!(of(other_device, at("a.gz", 11), b"head"), new);
        // What was replaced is in no file of that name.
        assert_eq!(
            of(FileEntry { ino: 0, ..finished(begun("a.gz", 10, b"head")) }, at("a.gz", 11), b"head"),
            new
        );
        // By content, if there is some and the file was not read to its end.
        assert_eq!(of(begun("b", 10, b"head"), at("a.gz", 11), b"head"), resume);
        assert_eq!(of(finished(begun("b", 10, b"head")), at("a.gz", 11), b"head"), new);
        assert_eq!(of(begun("b", 10, b""), at("a.gz", 11), b"head"), new);
    }

    /// The directory of a source was moved: the same name and the same content before the offset.
    #[test]
    fn a_file_of_a_moved_directory_is_resumed() {
        let (resume, new) = (FileIdentity::Resume { entry: 0 }, FileIdentity::New);
        let of = |entry: FileEntry, path: &str, size, head: bool, tail: bool| {
            let mut has = |before: u64, _| Ok(if before == 100 { tail } else { head });
            match_moved(&[entry], &observed(path, 5, 5, size), &mut has).unwrap()
        };
        let old = || entry("/old/a", 1, 10, 100);
        assert_eq!(of(old(), "/new/a", 100, true, true), resume);
        assert_eq!(of(old(), "/new/b", 100, true, true), new);
        assert_eq!(of(old(), "/new/a", 99, true, true), new);
        assert_eq!(of(old(), "/new/a", 100, false, true), new);
        assert_eq!(of(old(), "/new/a", 100, true, false), new);
        let skipped = FileEntry { tail_fingerprint: Fingerprint::default(), ..old() };
        assert_eq!(of(skipped, "/new/a", 100, true, true), new, "nothing proves that it is the same");
        assert_eq!(of(entry("/old/a", 1, 10, 0), "/new/a", 0, true, true), resume, "an unread file");
        // The first entry that matches, not the first one of that name.
        let entries = [entry("/old/a", 1, 10, 200), old()];
        let found = match_moved(&entries, &observed("/new/a", 5, 5, 150), &mut |_, _| Ok(true));
        assert_eq!(found.unwrap(), FileIdentity::Resume { entry: 1 });
    }

    /// The path of a file that was replaced belongs to the file that is there now.
    #[test]
    fn a_replaced_entry_has_no_path() {
        let replaced = FileEntry { ino: 0, ..entry("a", 1, 10, 100) };
        let found = match_entry(&[replaced], &observed("a", 1, 11, 200), &mut |_, _| Ok(true));
        assert_eq!(found.unwrap(), FileIdentity::New);
    }
}
