//! Follows a path one component at a time, each from the open directory before it, so that nobody can swap anything in.
//!
//! A symbolic link on the way is followed if only root or the agent's own user can have made it. Another user's link would
//! let that user choose what is read with the agent's rights.

use super::name::shown;
use crate::access;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// Where a path leads.
pub(super) struct Walked {
    /// What is there, as an `O_PATH` descriptor.
    pub fd: OwnedFd,
    /// The directory that holds it, unless it is `/` or was reached by `..`.
    pub parent: Option<OwnedFd>,
    /// The path without links.
    pub real: PathBuf,
    /// The links that were followed.
    pub links: Vec<PathBuf>,
}

/// A walk that ended early.
#[derive(Debug)]
pub struct Stopped {
    pub error: io::Error,
    /// The path without links as far as it is known, and the rest as it was written.
    pub path: PathBuf,
    /// Before its end was reached.
    pub on_the_way: bool,
}

struct Walk {
    at: OwnedFd,
    parent: Option<OwnedFd>,
    real: PathBuf,
    /// What is still to go, the next component last.
    rest: Vec<OsString>,
    links: Vec<PathBuf>,
}

/// Follows an absolute path from the root.
pub(super) fn from_root(path: &Path) -> Result<Walked, Stopped> {
    let stopped = |error| Stopped {
        error,
        path: path.to_owned(),
        on_the_way: true,
    };
    let mut walk = Walk {
        at: root().map_err(stopped)?,
        parent: None,
        real: PathBuf::from("/"),
        rest: Vec::new(),
        links: Vec::new(),
    };
    walk.add(path);
    walk.go()
}

/// Follows one name in an open directory, whose real path is `path`.
pub(super) fn from_directory(directory: impl AsFd, path: &Path, name: &OsStr) -> Result<Walked, Stopped> {
    let stopped = |error| Stopped {
        error,
        path: path.join(name),
        on_the_way: true,
    };
    let at = rustix::io::fcntl_dupfd_cloexec(directory, 0).map_err(|errno| stopped(errno.into()))?;
    let walk = Walk {
        at,
        parent: None,
        real: path.to_owned(),
        rest: vec![name.to_owned()],
        links: Vec::new(),
    };
    walk.go()
}

impl Walk {
    fn add(&mut self, path: &Path) {
        let parts = path.components().rev().filter_map(|part| match part {
            Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
            _ => None,
        });
        self.rest.extend(parts);
    }

    fn go(mut self) -> Result<Walked, Stopped> {
        while let Some(part) = self.rest.pop() {
            if let Err(error) = self.step(&part) {
                let mut path = self.real.join(part);
                path.extend(self.rest.iter().rev());
                return Err(Stopped {
                    error,
                    path,
                    on_the_way: true,
                });
            }
        }
        Ok(Walked {
            fd: self.at,
            parent: self.parent,
            real: self.real,
            links: self.links,
        })
    }

    fn step(&mut self, part: &OsStr) -> io::Result<()> {
        // Search permission is enough on the way.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(&self.at, part, flags, Mode::empty())?;
        if part == ".." {
            (self.at, self.parent) = (found, None);
            self.real.pop();
            return Ok(());
        }
        let path = self.real.join(part);
        let stat = rustix::fs::fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                judge(&self.at, &stat, &path)?;
                self.links.push(path);
                if self.links.len() > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                // Of the very link that was judged: its descriptor is read, not its name.
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                let target = PathBuf::from(OsString::from_vec(target));
                if target.is_absolute() {
                    (self.at, self.parent) = (root()?, None);
                    self.real = PathBuf::from("/");
                }
                self.add(&target);
            }
            kind if kind != FileType::Directory && !self.rest.is_empty() => {
                return Err(no_directory(&path));
            }
            _ => {
                self.parent = Some(std::mem::replace(&mut self.at, found));
                self.real = path;
            }
        }
        Ok(())
    }
}

fn root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/", flags, Mode::empty())?)
}

/// Refuses a link that somebody else than root and the agent's user may have made or put where it is.
///
/// Nobody can make a link that belongs to root but root. What others can do is give one a second name, and move one in
/// a directory that they may write into. The directory's owner may do the latter, too: a home belongs to Confluence's user,
/// and where root has put a link there, it is followed.
fn judge(directory: impl AsFd, link: &Stat, path: &Path) -> io::Result<()> {
    let directory = rustix::fs::fstat(directory)?;
    let agent = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let others = |mode: u32| directory.st_mode & mode != 0;
    let reason = if ![0, agent].contains(&link.st_uid) {
        format!("belongs to `{}`", access::user_name(link.st_uid))
    } else if link.st_nlink > 1 {
        "has more than one name".to_owned()
    } else if others(0o002) {
        "stands in a directory that everybody may write into".to_owned()
    } else if others(0o020) && ![0, group].contains(&directory.st_gid) {
        let group = access::group_name(directory.st_gid);
        format!("stands in a directory that group `{group}` may write into")
    } else {
        return Ok(());
    };
    let rule = "links are followed only where nobody but root or the agent's user can have made them";
    Err(refused(format!(
        "`{}` is a symbolic link that {reason}; {rule}: name the real path, or let root make the link",
        shown(path)
    )))
}

pub(super) fn no_directory(path: &Path) -> io::Error {
    let text = format!("`{}` is no directory", shown(path));
    io::Error::new(io::ErrorKind::NotADirectory, text)
}

pub(super) fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Whether this is a refusal of this module's kind: nothing that passes, and no fault of the system.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none()
}
