//! Opens directories and files such that nobody can swap anything in, and tells what of a directory is to be read.
//! Regular files only, never blocking.

use super::compressed;
pub use super::identify::Candidate;
use super::identity::FileObservation;
use super::name::{self, shown};
use super::walk::{self, Stopped, Walked};
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

pub struct Directory {
    fd: OwnedFd,
    /// Without links.
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
    owner: u32,
    /// The links that led to it.
    pub links: Vec<PathBuf>,
}

/// What stands in a directory under one name.
struct Listed {
    name: OsString,
    stat: Result<Stat, Errno>,
}

/// What of a directory is to be read, and what is not.
#[derive(Default)]
pub struct Contents {
    pub files: Vec<Candidate>,
    pub left: Vec<LeftAlone>,
    /// Names of audit files that are links to files, which were followed.
    pub links: Vec<PathBuf>,
}

/// Something that is not read.
pub struct LeftAlone {
    pub path: PathBuf,
    pub reason: LeftAloneReason,
}

#[derive(Debug)]
pub enum LeftAloneReason {
    /// Its name is none of an audit file.
    Foreign(FileType),
    /// It has the name of an audit file, but is none.
    NotRegular(FileType),
    /// It may be somebody else's file under the name of an audit file.
    Refused(io::Error),
    /// It cannot be looked at. `named`: it has the name of an audit file.
    Failed { error: io::Error, named: bool },
    /// Another name of a file that is read as this one.
    Same(PathBuf),
}

impl Directory {
    /// Opens an absolute path for listing.
    ///
    /// # Errors
    /// Those of the system, and links that are refused (see [`walk`]).
    pub fn open(path: &Path) -> Result<Directory, Stopped> {
        let Walked { fd, real, links, .. } = walk::from_root(path)?;
        let opened = || {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
            let fd = rustix::fs::openat(&fd, ".", flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&fd)?;
            Ok((fd, stat))
        };
        match opened() {
            Ok((fd, stat)) => Ok(Directory {
                fd,
                path: real,
                dev: stat.st_dev,
                ino: stat.st_ino,
                owner: stat.st_uid,
                links,
            }),
            Err(errno) => Err(Stopped {
                error: match errno {
                    Errno::NOTDIR => walk::no_directory(&real),
                    errno => errno.into(),
                },
                path: real,
                on_the_way: false,
            }),
        }
    }

    /// All names but `.` and `..`.
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

    /// The regular files, whatever their names are, that may be read under these.
    pub(super) fn regular_files(&self) -> io::Result<Vec<FileObservation>> {
        let file = |Listed { name, stat }: Listed| {
            let (stat, path) = (stat.ok()?, self.path.join(name));
            let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            (regular && self.foreign_file(&stat, &path).is_none()).then(|| seen(&stat, path))
        };
        Ok(self.list()?.into_iter().filter_map(file).collect())
    }

    fn list(&self) -> io::Result<Vec<Listed>> {
        let listed = self.names()?.into_iter().map(|name| {
            let stat = rustix::fs::statat(&self.fd, &name, AtFlags::SYMLINK_NOFOLLOW);
            Listed { name, stat }
        });
        // Deleted since the listing was read.
        Ok(listed
            .filter(|listed| !matches!(listed.stat, Err(Errno::NOENT)))
            .collect())
    }

    /// Looks at everything in the directory. `being_read` says whether a file is followed whatever its name is now.
    ///
    /// # Errors
    /// The directory itself cannot be listed. An entry that cannot be looked at is left alone, and hides no other.
    pub fn contents(
        &self,
        names: &[glob::Pattern],
        being_read: &dyn Fn(&FileObservation) -> bool,
    ) -> io::Result<Contents> {
        let mut contents = Contents::default();
        for Listed { name, stat } in self.list()? {
            // Something else may have compressed an audit file: it is one all the same.
            let stem = compressed::of_name(&name).map_or(name.as_os_str(), |(stem, _)| stem);
            let matches = |name| names.iter().any(|pattern| name::matches(pattern, name));
            let named = matches(&name) || matches(stem);
            let path = self.path.join(&name);
            let reason = match stat {
                Err(errno) => LeftAloneReason::Failed {
                    error: errno.into(),
                    named,
                },
                Ok(stat) => {
                    let seen = seen(&stat, path.clone());
                    let kind = FileType::from_raw_mode(stat.st_mode);
                    if !named && !being_read(&seen) {
                        LeftAloneReason::Foreign(kind)
                    } else if kind == FileType::Symlink {
                        match self.behind_link(&name) {
                            Ok(seen) => {
                                contents.files.push(Candidate { seen, named });
                                contents.links.push(path);
                                continue;
                            }
                            Err(reason) => reason,
                        }
                    } else if kind != FileType::RegularFile {
                        LeftAloneReason::NotRegular(kind)
                    } else if let Some(error) = self.foreign_file(&stat, &path)
                        && !being_read(&seen)
                    {
                        LeftAloneReason::Refused(error)
                    } else {
                        contents.files.push(Candidate { seen, named });
                        continue;
                    }
                }
            };
            contents.left.push(LeftAlone { path, reason });
        }
        Ok(contents)
    }

    /// The file that a link of an audit file's name leads to.
    fn behind_link(&self, name: &OsStr) -> Result<FileObservation, LeftAloneReason> {
        let failed = |error: io::Error| {
            // A link that leads nowhere is no file; what stands in the way may pass.
            let named = error.kind() != io::ErrorKind::NotFound;
            if walk::is_refusal(&error) {
                LeftAloneReason::Refused(error)
            } else {
                LeftAloneReason::Failed { error, named }
            }
        };
        let walked =
            walk::from_directory(&self.fd, &self.path, name).map_err(|stopped| failed(stopped.error))?;
        let stat = rustix::fs::fstat(&walked.fd).map_err(|errno| failed(errno.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(seen(&stat, self.path.join(name))),
            kind => Err(LeftAloneReason::NotRegular(kind)),
        }
    }

    /// A file with a second name may stand in a directory that nobody else can reach, and have been given its name here by the
    /// directory's owner, to be read with the agent's rights. One of the owner's own files gains nothing by that.
    fn foreign_file(&self, stat: &Stat, path: &Path) -> Option<io::Error> {
        (stat.st_nlink > 1 && stat.st_uid != self.owner).then(|| {
            walk::refused(format!(
                "`{}` belongs to `{}`, not to `{}` as its directory does, and has {} names: it may be another file of that \
                 user under the name of an audit file; remove it, or copy it in place of the link",
                shown(path),
                access::user_name(stat.st_uid),
                access::user_name(self.owner),
                stat.st_nlink
            ))
        })
    }

    /// Opens a regular file of this directory for reading.
    pub fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let fd = match self.open_at(&self.fd, name) {
            // It is a link, which may be followed or not.
            Err(Errno::LOOP) => {
                let walked =
                    walk::from_directory(&self.fd, &self.path, name).map_err(|stopped| stopped.error)?;
                let (Some(parent), Some(name)) = (&walked.parent, walked.real.file_name()) else {
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
    /// Why the first of the audit files that are refused is.
    pub fn refusal(&self) -> Option<String> {
        self.left.iter().find_map(|left| match &left.reason {
            LeftAloneReason::Refused(error) => Some(error.to_string()),
            _ => None,
        })
    }

    /// Leaves alone what `best` says has a better name.
    pub fn keep(&mut self, best: &HashMap<(u64, u64), PathBuf>) {
        for file in std::mem::take(&mut self.files) {
            match best.get(&(file.seen.dev, file.seen.ino)) {
                Some(path) if *path != file.seen.path => self.left.push(LeftAlone {
                    path: file.seen.path,
                    reason: LeftAloneReason::Same(path.clone()),
                }),
                _ => self.files.push(file),
            }
        }
    }
}

/// Of several names for one file one is read: that which `known` knows, a name that is no link, or else the first. Returns the
/// files with several names.
pub fn best_names<'a>(
    contents: impl Iterator<Item = &'a Contents>,
    known: &dyn Fn(&Path) -> bool,
) -> HashMap<(u64, u64), PathBuf> {
    let (mut first, mut best) = (HashMap::new(), HashMap::new());
    let mut links = HashSet::new();
    for Contents {
        files, links: more, ..
    } in contents
    {
        links.extend(more);
        for Candidate { seen, .. } in files {
            let inode = (seen.dev, seen.ino);
            let Some(other) = first.insert(inode, &seen.path) else {
                continue;
            };
            let rank = |path: &&PathBuf| (!known(path), links.contains(path), (*path).clone());
            let better = [&seen.path, other].into_iter().min_by_key(rank).unwrap_or(other);
            first.insert(inode, better);
            best.insert(inode, better.clone());
        }
    }
    best
}

fn not_regular() -> io::Error {
    walk::refused("is not a regular file".to_owned())
}

/// What `fstat` tells of an open file now, and by how many names it can be reached.
pub fn look(file: impl AsFd, path: impl Into<PathBuf>) -> io::Result<(FileObservation, u64)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((seen(&stat, path.into()), stat.st_nlink as u64))
}

fn seen(stat: &Stat, path: PathBuf) -> FileObservation {
    FileObservation {
        path,
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: stat.st_size as u64,
        mtime_ms: stat.st_mtime * 1000 + stat.st_mtime_nsec as i64 / 1_000_000,
    }
}
