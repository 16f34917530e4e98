//! Resolves a path one component at a time with open descriptors, so that no component can be swapped meanwhile.
//!
//! A symbolic link is followed only if root or the agent's own user can have created it. Another user's link would
//! let that user choose what is read with the agent's rights.

use super::name::display_path;
use crate::access;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// The kernel's own limit.
const LINKS_MAX: usize = 40;

/// A path without symbolic links.
pub(super) struct ResolvedPath {
    /// The file or directory, as an `O_PATH` descriptor.
    pub fd: OwnedFd,
    /// Its directory; `None` if it is `/` or was reached by `..`.
    pub parent: Option<OwnedFd>,
    pub real: PathBuf,
    /// The links that were followed.
    pub links: Vec<PathBuf>,
}

/// A path that cannot be resolved or opened.
#[derive(Debug)]
pub(crate) struct ResolveError {
    pub error: io::Error,
    /// The resolved part of the path, and the unresolved rest.
    pub path: PathBuf,
    /// It failed at a component before the last one was opened.
    pub is_intermediate: bool,
}

struct PathResolver {
    fd: OwnedFd,
    parent: Option<OwnedFd>,
    real: PathBuf,
    /// Unresolved components in reverse order: the next one is last.
    rest: Vec<OsString>,
    links: Vec<PathBuf>,
}

/// Resolves an absolute path from `/`.
pub(super) fn from_root(path: &Path) -> Result<ResolvedPath, ResolveError> {
    let failed = |error| ResolveError { error, path: path.to_owned(), is_intermediate: true };
    let mut resolver = PathResolver {
        fd: root().map_err(failed)?,
        parent: None,
        real: PathBuf::from("/"),
        rest: Vec::new(),
        links: Vec::new(),
    };
    resolver.add(path);
    resolver.resolve()
}

/// Resolves one name in an open directory whose resolved path is `path`.
pub(super) fn from_directory(
    directory: impl AsFd,
    path: &Path,
    name: &OsStr,
) -> Result<ResolvedPath, ResolveError> {
    let failed = |error| ResolveError { error, path: path.join(name), is_intermediate: true };
    let fd = rustix::io::fcntl_dupfd_cloexec(directory, 0).map_err(|errno| failed(errno.into()))?;
    let resolver = PathResolver {
        fd,
        parent: None,
        real: path.to_owned(),
        rest: vec![name.to_owned()],
        links: Vec::new(),
    };
    resolver.resolve()
}

impl PathResolver {
    fn add(&mut self, path: &Path) {
        let parts = path.components().rev().filter_map(|part| match part {
            Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
            _ => None,
        });
        self.rest.extend(parts);
    }

    fn resolve(mut self) -> Result<ResolvedPath, ResolveError> {
        while let Some(part) = self.rest.pop() {
            if let Err(error) = self.step(&part) {
                let mut path = self.real.join(part);
                path.extend(self.rest.iter().rev());
                return Err(ResolveError { error, path, is_intermediate: true });
            }
        }
        Ok(ResolvedPath { fd: self.fd, parent: self.parent, real: self.real, links: self.links })
    }

    fn step(&mut self, part: &OsStr) -> io::Result<()> {
        // `O_PATH` needs no more than search permission on the directory.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(&self.fd, part, flags, Mode::empty())?;
        if part == ".." {
            (self.fd, self.parent) = (found, None);
            self.real.pop();
            return Ok(());
        }
        let path = self.real.join(part);
        let stat = rustix::fs::fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                check_link(&self.fd, &stat, &path)?;
                self.links.push(path);
                if self.links.len() > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                // Read the link by its descriptor: its name may point elsewhere by now.
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                let target = PathBuf::from(OsString::from_vec(target));
                if target.is_absolute() {
                    (self.fd, self.parent) = (root()?, None);
                    self.real = PathBuf::from("/");
                }
                self.add(&target);
            }
            kind if kind != FileType::Directory && !self.rest.is_empty() => {
                return Err(no_directory(&path));
            }
            _ => {
                self.parent = Some(std::mem::replace(&mut self.fd, found));
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

/// Refuses a link that a user other than root and the agent's user may have created or moved.
///
/// Only root can create a link that belongs to root. Other users can give it a second name, or move it within a
/// directory that they may write to. A directory's owner may move it too; that is accepted, because a home belongs to
/// Confluence's user and links that root puts there are followed.
fn check_link(directory: impl AsFd, link: &Stat, path: &Path) -> io::Result<()> {
    let directory = rustix::fs::fstat(directory)?;
    let agent = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let others = |mode: u32| directory.st_mode & mode != 0;
    let reason = if ![0, agent].contains(&link.st_uid) {
        format!("belongs to `{}`", access::user_name(link.st_uid))
    } else if link.st_nlink > 1 {
        "has more than one hard link".to_owned()
    } else if others(0o002) {
        "is in a directory that everybody may write to".to_owned()
    } else if others(0o020) && ![0, group].contains(&directory.st_gid) {
        let group = access::group_name(directory.st_gid);
        format!("is in a directory that group `{group}` may write to")
    } else {
        return Ok(());
    };
    let rule = "only links that root or the agent's user created are followed";
    Err(refused(format!(
        "`{}` is a symbolic link that {reason}; {rule}: name the real path, or let root create the link",
        display_path(path)
    )))
}

pub(super) fn no_directory(path: &Path) -> io::Error {
    let text = format!("`{}` is not a directory", display_path(path));
    io::Error::new(io::ErrorKind::NotADirectory, text)
}

pub(super) fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Whether this module refused the path: not a system error, and a retry does not help.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none()
}
