//! The quarantine directory for commands, which may run as root. Its content is not trusted, no link is
//! followed, and files keep their owner.

use super::{DIRECTORY, Entry, SUFFIX};
use crate::access;
use crate::record::EventId;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Temporary name of a rewritten file. Only the holder of the lock creates it, so an existing one is from a
/// killed command.
const REWRITE: &str = ".rewrite";
/// The log of dropped events: who dropped them and when, one per line.
const DROPPED: &str = "dropped.log";
/// Longer lines are not entries. They are skipped and not held in memory.
const LINE_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// This user has no access.
    #[error("{0}")]
    Denied(String),
    #[error("`{}` is not safe to use: {problem}", path.display())]
    Insecure { path: PathBuf, problem: &'static str },
    #[error("another command is changing `{}`; try again when it has ended", .0.display())]
    Locked(PathBuf),
    #[error("cannot {verb} `{}`", path.display())]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
}

/// An open directory. All operations use its handle, so a replacement of the path has no effect.
#[derive(Debug)]
pub struct QuarantineDirectory {
    pub path: PathBuf,
    handle: File,
}

/// The files of the directory.
#[derive(Debug, Default)]
pub struct DirectoryListing {
    /// Regular files, oldest first.
    pub names: Vec<OsString>,
    /// Names of entries that are not regular files.
    pub not_regular: Vec<OsString>,
    /// Entries that cannot be examined.
    pub failed: Vec<(OsString, io::Error)>,
}

/// A line of a file.
#[derive(Debug)]
pub struct QuarantineLine {
    /// Position of the line in bytes, with its LF.
    pub range: Range<u64>,
    pub entry: Result<Entry, String>,
}

impl QuarantineDirectory {
    /// Opens the directory. `None` if it does not exist.
    pub fn open(state_dir: &Path) -> Result<Option<QuarantineDirectory>, QuarantineError> {
        // Without a trailing slash, which would follow a link.
        let state_dir: PathBuf = state_dir.components().collect();
        let path = state_dir.join(DIRECTORY);
        if let Ok(found) = state_dir.symlink_metadata() {
            check_owner(&state_dir, &found)?;
        }
        let handle = open_dir(rustix::fs::CWD, state_dir.as_os_str(), &state_dir)?;
        match open_dir(&handle, OsStr::new(DIRECTORY), &path) {
            Ok(handle) => Ok(Some(QuarantineDirectory { path, handle })),
            Err(QuarantineError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Excludes other commands until this value is dropped. The agent only adds files and needs no lock.
    pub fn lock(&self) -> Result<(), QuarantineError> {
        match self.handle.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(QuarantineError::Locked(self.path.clone())),
            Err(TryLockError::Error(error)) => Err(self.failed("lock", OsStr::new(""), error)),
        }
    }

    pub fn files(&self) -> Result<DirectoryListing, QuarantineError> {
        let failed = |error: rustix::io::Errno| self.failed("read", OsStr::new(""), error.into());
        let mut files = DirectoryListing::default();
        for entry in rustix::fs::Dir::read_from(&self.handle).map_err(failed)? {
            let name = OsString::from_vec(entry.map_err(failed)?.file_name().to_bytes().to_vec());
            if !name.as_bytes().ends_with(SUFFIX.as_bytes()) {
                continue;
            }
            match rustix::fs::statat(&self.handle, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if FileType::from_raw_mode(found.st_mode).is_file() => files.names.push(name),
                Ok(_) => files.not_regular.push(name),
                Err(rustix::io::Errno::NOENT) => {}
                // An entry that cannot be examined does not hide others.
                Err(error) => files.failed.push((name, error.into())),
            }
        }
        files.names.sort();
        files.not_regular.sort();
        Ok(files)
    }

    /// Calls `each` for each line of a file. A file that was removed meanwhile has no lines.
    pub fn read<E: From<QuarantineError>>(
        &self,
        name: &OsStr,
        each: &mut dyn FnMut(QuarantineLine) -> Result<(), E>,
    ) -> Result<(), E> {
        let file = match self.open_file(name) {
            Ok(file) => file,
            Err(QuarantineError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let (mut at, mut text) = (0, Vec::new());
        loop {
            let line = next_line(&mut reader, &mut text);
            let (bytes, is_text) = line.map_err(|error| self.failed("read", name, error))?;
            if bytes == 0 {
                return Ok(());
            }
            let entry = match is_text {
                true => parse(&text),
                false => Err("it is not text".to_owned()),
            };
            let range = at..at + bytes;
            at = range.end;
            each(QuarantineLine { range, entry })?;
        }
    }

    /// Reads an entry at a position from [`QuarantineDirectory::read`]. The caller must hold the lock.
    pub fn entry(&self, name: &OsStr, range: &Range<u64>) -> Result<Entry, QuarantineError> {
        let mut text = vec![0; (range.end - range.start) as usize];
        let read = self
            .open_file(name)?
            .read_exact_at(&mut text, range.start)
            .and_then(|()| parse(text.strip_suffix(b"\n").unwrap_or(&text)).map_err(io::Error::other));
        read.map_err(|error| self.failed("read", name, error))
    }

    /// Removes the lines at these positions, sorted, from a file. The file is replaced atomically, and the
    /// new one is durable on return. A file without lines is removed. The caller must hold the lock.
    pub fn remove(&self, name: &OsStr, removed: &[Range<u64>]) -> Result<(), QuarantineError> {
        let failed = |error: io::Error| self.failed("rewrite", name, error);
        let file = self.open_file(name)?;
        let metadata = file.metadata().map_err(failed)?;
        let starts = std::iter::once(0).chain(removed.iter().map(|range| range.end));
        let ends = removed.iter().map(|range| range.start).chain(std::iter::once(metadata.len()));
        let kept: Vec<Range<u64>> =
            starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty()).collect();
        self.unlink(REWRITE)?;
        crate::failpoint::hit("quarantine_rewrite");
        if kept.is_empty() {
            rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())
                .map_err(|error| failed(error.into()))?;
        } else if let Err(error) = self.replace(name, &file, (metadata.uid(), metadata.gid()), &kept) {
            self.unlink(REWRITE)?;
            return Err(failed(error));
        }
        crate::failpoint::hit("quarantine_rewritten");
        self.handle.sync_all().map_err(failed)
    }

    fn replace(&self, name: &OsStr, from: &File, owner: (u32, u32), kept: &[Range<u64>]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to: File = rustix::fs::openat(&self.handle, REWRITE, flags, Mode::RUSR | Mode::WUSR)?.into();
        set_owner(&to, owner)?;
        for range in kept {
            let mut at = range.start;
            let mut block = vec![0; 64 * 1024];
            while at < range.end {
                let bytes = block.len().min((range.end - at) as usize);
                from.read_exact_at(&mut block[..bytes], at)?;
                (&to).write_all(&block[..bytes])?;
                at += bytes as u64;
            }
        }
        to.sync_all()?;
        crate::failpoint::hit("quarantine_rename");
        Ok(rustix::fs::renameat(&self.handle, REWRITE, &self.handle, name)?)
    }

    /// Appends lines to the log of dropped events. They are durable when the function returns.
    pub fn log_dropped(&self, lines: &[u8]) -> Result<(), QuarantineError> {
        let logged = (|| {
            let flags = OFlags::WRONLY
                | OFlags::APPEND
                | OFlags::CREATE
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::CLOEXEC;
            let mut file: File =
                rustix::fs::openat(&self.handle, DROPPED, flags, Mode::RUSR | Mode::WUSR)?.into();
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            let owner = self.handle.metadata()?;
            set_owner(&file, (owner.uid(), owner.gid()))?;
            file.write_all(lines)?;
            file.sync_all()?;
            self.handle.sync_all()
        })();
        logged.map_err(|error| self.failed("write", OsStr::new(DROPPED), error))
    }

    fn unlink(&self, name: &str) -> Result<(), QuarantineError> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", OsStr::new(name), error.into())),
        }
    }

    fn open_file(&self, name: &OsStr) -> Result<File, QuarantineError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.handle, name, flags, Mode::empty());
        let file: File = opened.map_err(|error| self.failed("open", name, error.into()))?.into();
        let found = file.metadata().map_err(|error| self.failed("examine", name, error))?;
        if !found.is_file() {
            return Err(QuarantineError::Insecure {
                path: self.path.join(name),
                problem: "it is not a regular file",
            });
        }
        Ok(file)
    }

    fn failed(&self, verb: &'static str, name: &OsStr, source: io::Error) -> QuarantineError {
        let path = match name.is_empty() {
            true => self.path.clone(),
            false => self.path.join(name),
        };
        QuarantineError::Io { verb, path, source }
    }
}

fn open_dir(at: impl std::os::fd::AsFd, name: &OsStr, path: &Path) -> Result<File, QuarantineError> {
    let insecure = |problem| QuarantineError::Insecure { path: path.to_owned(), problem };
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => QuarantineError::Denied(access::denied_message_own("open", path)),
        _ => QuarantineError::Io { verb: "open", path: path.to_owned(), source },
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle: File = match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Ok(handle) => handle.into(),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
            return Err(insecure("it is a symbolic link, or not a directory; remove it"));
        }
        Err(error) => return Err(failed(error.into())),
    };
    let found = handle.metadata().map_err(failed)?;
    check_owner(path, &found)?;
    if found.mode() & 0o022 != 0 {
        return Err(insecure("others may write to it; `chmod 700` it"));
    }
    Ok(handle)
}

fn check_owner(path: &Path, found: &fs::Metadata) -> Result<(), QuarantineError> {
    let uid = access::user().uid;
    if uid == 0 || uid == found.uid() {
        return Ok(());
    }
    Err(QuarantineError::Denied(access::belongs_to_other(path, found)))
}

/// Files that root creates get the owner of the agent's files.
fn set_owner(file: &File, (uid, gid): (u32, u32)) -> io::Result<()> {
    let found = file.metadata()?;
    if (found.uid(), found.gid()) != (uid, gid) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Reads the next line without its LF. Returns its size in bytes with the LF, and whether it may be an entry.
fn next_line(reader: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<(u64, bool)> {
    text.clear();
    let (mut bytes, mut is_text) = (0, true);
    loop {
        let block = reader.fill_buf()?;
        let end = memchr::memchr(b'\n', block);
        let consumed = end.map_or(block.len(), |at| at + 1);
        if is_text {
            let part = &block[..end.unwrap_or(consumed)];
            // After a power cut, unwritten data on the disk is zero.
            is_text = text.len() + part.len() <= LINE_BYTES_MAX && memchr::memchr(0, part).is_none();
            text.extend_from_slice(if is_text { part } else { &[] });
        }
        reader.consume(consumed);
        bytes += consumed as u64;
        if end.is_some() || consumed == 0 {
            return Ok((bytes, is_text));
        }
    }
}

fn parse(text: &[u8]) -> Result<Entry, String> {
    let entry: Entry = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match entry.event_id() {
        Some(_) => Ok(entry),
        None => Err("its id is invalid".to_owned()),
    }
}

impl Entry {
    /// `None` if the id is invalid.
    pub fn event_id(&self) -> Option<EventId> {
        let is_hex = self.id.len() == 32 && self.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(&self.id, 16).ok().filter(|_| is_hex).map(EventId)
    }
}

#[cfg(test)]
mod tests {
    use super::super::put;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn entry(number: u128) -> Entry {
        Entry {
            id: EventId(number).to_string(),
            sink: "elastic".into(),
            source: "wiki".into(),
            event: format!("{{\"n\":{number}}}"),
            ..Entry::default()
        }
    }

    fn read(directory: &QuarantineDirectory, name: &OsStr) -> Vec<QuarantineLine> {
        let mut lines = Vec::new();
        let mut each = |line| {
            lines.push(line);
            Ok::<_, QuarantineError>(())
        };
        directory.read(name, &mut each).unwrap();
        lines
    }

    fn state_dir() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        temp
    }

    #[test]
    fn lines_are_removed_and_the_others_are_unchanged() {
        let temp = state_dir();
        assert!(QuarantineDirectory::open(temp.path()).unwrap().is_none());
        let entries: Vec<Entry> = (0..4).map(entry).collect();
        put(temp.path(), 1, &entries).unwrap();
        let directory = QuarantineDirectory::open(temp.path()).unwrap().unwrap();
        let name = directory.files().unwrap().names.remove(0);
        let path = directory.path.join(&name);
        let whole = std::fs::read_to_string(&path).unwrap();
        let torn = format!("{whole}\0\0\0\nnonsense\n{}", &whole[..9]);
        std::fs::write(&path, &torn).unwrap();
        std::fs::write(directory.path.join(REWRITE), "left by a kill").unwrap();
        let lines = read(&directory, &name);
        let found: Vec<Option<&Entry>> = lines.iter().map(|line| line.entry.as_ref().ok()).collect();
        let expect: Vec<Option<&Entry>> = entries.iter().map(Some).chain([None; 3]).collect();
        assert_eq!(found, expect);
        assert_eq!(directory.entry(&name, &lines[2].range).unwrap(), entries[2]);
        directory.remove(&name, &[lines[0].range.clone(), lines[2].range.clone()]).unwrap();
        let left = std::fs::read_to_string(&path).unwrap();
        let kept: String = torn
            .split_inclusive('\n')
            .enumerate()
            .fold(String::new(), |kept, (at, line)| kept + if at == 0 || at == 2 { "" } else { line });
        assert_eq!(left, kept);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let all: Vec<Range<u64>> = read(&directory, &name).into_iter().map(|line| line.range).collect();
        directory.remove(&name, &all).unwrap();
        assert_eq!(std::fs::read_dir(&directory.path).unwrap().count(), 0);
        assert!(read(&directory, &name).is_empty());
    }

    #[test]
    fn no_link_is_followed_and_commands_exclude_each_other() {
        let temp = state_dir();
        let dir = temp.path().join(DIRECTORY);
        put(temp.path(), 1, &[entry(1)]).unwrap();
        let odd = OsString::from_vec(b"9-\xff\n\x1b[2J.ndjson".to_vec());
        std::fs::copy(super::super::files(temp.path()).unwrap()[0].0.clone(), dir.join(&odd)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("a.ndjson")).unwrap();
        std::fs::create_dir(dir.join("b.ndjson")).unwrap();
        let directory = QuarantineDirectory::open(temp.path()).unwrap().unwrap();
        let files = directory.files().unwrap();
        assert_eq!((files.names.len(), &files.names[1]), (2, &odd));
        assert_eq!(read(&directory, &odd).len(), 1);
        assert_eq!(files.not_regular, ["a.ndjson", "b.ndjson"]);
        assert!(directory.open_file(OsStr::new("a.ndjson")).is_err());
        std::os::unix::fs::symlink("/etc/passwd", dir.join(DROPPED)).unwrap();
        assert!(directory.log_dropped(b"{}\n").is_err());
        directory.lock().unwrap();
        let second = QuarantineDirectory::open(temp.path()).unwrap().unwrap();
        assert!(matches!(second.lock(), Err(QuarantineError::Locked(_))));
        drop(directory);
        second.lock().unwrap();

        let moved = temp.path().join("elsewhere");
        std::fs::rename(&dir, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &dir).unwrap();
        assert!(matches!(QuarantineDirectory::open(temp.path()), Err(QuarantineError::Insecure { .. })));
    }
}
