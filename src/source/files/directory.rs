//! Opens and lists directories, and opens files in them, without races on path components. Only regular files are
//! opened, and never blocking.

use super::compressed;
pub(crate) use super::identify::Candidate;
use super::matching::FileObservation;
use super::name::{self, display_path};
use super::path_resolver::{self, ResolveError, ResolvedPath};
use crate::access;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

pub(crate) struct OpenDirectory {
    fd: OwnedFd,
    /// Without symbolic links.
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
    owner: u32,
    /// Symbolic links that were followed to it.
    pub links: Vec<PathBuf>,
}

/// One name in a directory and what `lstat` returned for it.
struct DirectoryEntry {
    name: OsString,
    stat: Result<Stat, Errno>,
}

/// The audit files of a directory, and what was skipped.
#[derive(Default)]
pub(crate) struct Contents {
    pub files: Vec<Candidate>,
    pub skipped: Vec<SkippedEntry>,
    /// Symbolic links with audit file names that were followed.
    pub links: Vec<PathBuf>,
}

pub(crate) struct SkippedEntry {
    pub path: PathBuf,
    pub reason: SkipReason,
}

#[derive(Debug)]
pub(crate) enum SkipReason {
    /// Its name is not an audit file's.
    NotAuditFile(FileType),
    /// It has an audit file's name but is not a regular file.
    NotRegular(FileType),
    /// It may be another user's file under an audit file's name.
    Refused(io::Error),
    /// It cannot be examined. `has_audit_name`: its name is an audit file's.
    StatFailed { error: io::Error, has_audit_name: bool },
    /// Another name of a file that is read under this path.
    OtherName(PathBuf),
}

impl OpenDirectory {
    /// Opens an absolute path for listing.
    ///
    /// # Errors
    /// Those of the system, and refused symbolic links (see `path_resolver`).
    pub(crate) fn open(path: &Path) -> Result<OpenDirectory, ResolveError> {
        let ResolvedPath { fd, real, links, .. } = path_resolver::from_root(path)?;
        let opened = || {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
            let fd = rustix::fs::openat(&fd, ".", flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&fd)?;
            Ok((fd, stat))
        };
        match opened() {
            Ok((fd, stat)) => Ok(OpenDirectory {
                fd,
                path: real,
                dev: stat.st_dev,
                ino: stat.st_ino,
                owner: stat.st_uid,
                links,
            }),
            Err(errno) => Err(ResolveError {
                error: match errno {
                    Errno::NOTDIR => path_resolver::no_directory(&real),
                    errno => errno.into(),
                },
                path: real,
                is_intermediate: false,
            }),
        }
    }

    /// All names except `.` and `..`.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// All regular files that may be read, with any name.
    pub(super) fn regular_files(&self) -> io::Result<Vec<FileObservation>> {
        let file = |DirectoryEntry { name, stat }: DirectoryEntry| {
            let (stat, path) = (stat.ok()?, self.path.join(name));
            let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            (regular && self.refused_hard_link(&stat, &path).is_none()).then(|| observation(&stat, path))
        };
        Ok(self.list()?.into_iter().filter_map(file).collect())
    }

    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        let listed = self.names()?.into_iter().map(|name| {
            let stat = rustix::fs::statat(&self.fd, &name, AtFlags::SYMLINK_NOFOLLOW);
            DirectoryEntry { name, stat }
        });
        // Deleted since the directory was read.
        Ok(listed.filter(|listed| !matches!(listed.stat, Err(Errno::NOENT))).collect())
    }

    /// Lists the directory. `being_read` returns whether a file is being read and is therefore followed under any
    /// name.
    ///
    /// # Errors
    /// The directory itself cannot be listed. An entry that cannot be examined is skipped.
    pub(crate) fn contents(
        &self,
        names: &[glob::Pattern],
        being_read: &dyn Fn(&FileObservation) -> bool,
    ) -> io::Result<Contents> {
        let mut contents = Contents::default();
        for DirectoryEntry { name, stat } in self.list()? {
            // A compressed audit file counts as an audit file.
            let stem = compressed::split_extension(&name).map_or(name.as_os_str(), |(stem, _)| stem);
            let matches = |name| names.iter().any(|pattern| name::matches(pattern, name));
            let has_audit_name = matches(&name) || matches(stem);
            let path = self.path.join(&name);
            let reason = match stat {
                Err(errno) => SkipReason::StatFailed { error: errno.into(), has_audit_name },
                Ok(stat) => {
                    let observed = observation(&stat, path.clone());
                    let kind = FileType::from_raw_mode(stat.st_mode);
                    if !has_audit_name && !being_read(&observed) {
                        SkipReason::NotAuditFile(kind)
                    } else if kind == FileType::Symlink {
                        match self.follow_link(&name) {
                            Ok(observed) => {
                                contents.files.push(Candidate { observed, has_audit_name });
                                contents.links.push(path);
                                continue;
                            }
                            Err(reason) => reason,
                        }
                    } else if kind != FileType::RegularFile {
                        SkipReason::NotRegular(kind)
                    } else if let Some(error) = self.refused_hard_link(&stat, &path)
                        && !being_read(&observed)
                    {
                        SkipReason::Refused(error)
                    } else {
                        contents.files.push(Candidate { observed, has_audit_name });
                        continue;
                    }
                }
            };
            contents.skipped.push(SkippedEntry { path, reason });
        }
        Ok(contents)
    }

    /// Follows a symbolic link with an audit file's name.
    fn follow_link(&self, name: &OsStr) -> Result<FileObservation, SkipReason> {
        let failed = |error: io::Error| {
            // A dangling link is not an audit file. Any other error may be temporary.
            let has_audit_name = error.kind() != io::ErrorKind::NotFound;
            if path_resolver::is_refusal(&error) {
                SkipReason::Refused(error)
            } else {
                SkipReason::StatFailed { error, has_audit_name }
            }
        };
        let resolved =
            path_resolver::from_directory(&self.fd, &self.path, name).map_err(|error| failed(error.error))?;
        let stat = rustix::fs::fstat(&resolved.fd).map_err(|errno| failed(errno.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(observation(&stat, self.path.join(name))),
            kind => Err(SkipReason::NotRegular(kind)),
        }
    }

    /// Refuses a hard link to another user's file. The directory's owner may have created it to have a file read with
    /// the agent's rights that the owner cannot read. Hard links to the owner's own files are accepted.
    fn refused_hard_link(&self, stat: &Stat, path: &Path) -> Option<io::Error> {
        (stat.st_nlink > 1 && stat.st_uid != self.owner).then(|| {
            path_resolver::refused(format!(
                "`{}` belongs to `{}`, its directory to `{}`, and it has {} hard links: it may be another file of that \
                 user under an audit file's name; remove it, or replace the link by a copy",
                display_path(path),
                access::user_name(stat.st_uid),
                access::user_name(self.owner),
                stat.st_nlink
            ))
        })
    }

    /// Opens a regular file of this directory for reading.
    pub(crate) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let fd = match self.open_at(&self.fd, name) {
            // A symbolic link: resolve it under the rules of `path_resolver`.
            Err(Errno::LOOP) => {
                let resolved =
                    path_resolver::from_directory(&self.fd, &self.path, name).map_err(|error| error.error)?;
                let (Some(parent), Some(name)) = (&resolved.parent, resolved.real.file_name()) else {
                    return Err(not_regular());
                };
                self.open_at(parent, name)?
            }
            other => other?,
        };
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_regular());
        }
        Ok(File::from(fd))
    }

    fn open_at(&self, directory: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::openat(directory, name, flags, Mode::empty())
    }
}

impl Contents {
    /// The reason of the first refused audit file.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.skipped.iter().find_map(|left| match &left.reason {
            SkipReason::Refused(error) => Some(error.to_string()),
            _ => None,
        })
    }

    /// Skips each file for which `best` has another name.
    pub(crate) fn skip_other_names(&mut self, best: &HashMap<(u64, u64), PathBuf>) {
        for file in std::mem::take(&mut self.files) {
            match best.get(&(file.observed.dev, file.observed.ino)) {
                Some(path) if *path != file.observed.path => self.skipped.push(SkippedEntry {
                    path: file.observed.path,
                    reason: SkipReason::OtherName(path.clone()),
                }),
                _ => self.files.push(file),
            }
        }
    }
}

/// Chooses one name for each file with several: a name that `known` accepts, else one that is not a symbolic link,
/// else the first in alphabetical order. Returns the chosen name of each such file by device and inode.
pub(crate) fn preferred_names<'a>(
    contents: impl Iterator<Item = &'a Contents>,
    known: &dyn Fn(&Path) -> bool,
) -> HashMap<(u64, u64), PathBuf> {
    let (mut first, mut best) = (HashMap::new(), HashMap::new());
    let mut links = HashSet::new();
    for Contents { files, links: more, .. } in contents {
        links.extend(more);
        for Candidate { observed, .. } in files {
            let inode = (observed.dev, observed.ino);
            let Some(other) = first.insert(inode, &observed.path) else {
                continue;
            };
            let rank = |path: &&PathBuf| (!known(path), links.contains(path), (*path).clone());
            let better = [&observed.path, other].into_iter().min_by_key(rank).unwrap_or(other);
            first.insert(inode, better);
            best.insert(inode, better.clone());
        }
    }
    best
}

fn not_regular() -> io::Error {
    path_resolver::refused("is not a regular file".to_owned())
}

/// State of an open file by `fstat`, and its number of hard links.
pub(crate) fn observe(file: impl AsFd, path: impl Into<PathBuf>) -> io::Result<(FileObservation, u64)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((observation(&stat, path.into()), stat.st_nlink as u64))
}

fn observation(stat: &Stat, path: PathBuf) -> FileObservation {
    FileObservation {
        path,
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: stat.st_size as u64,
        mtime_ms: stat.st_mtime * 1000 + stat.st_mtime_nsec as i64 / 1_000_000,
    }
}
