//! The state directory: owned by the agent's user, locked, and written without following symbolic links.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::StoreError;
use crate::{access, durable};

/// Free space that is required before the store is opened. sled writes a snapshot while it opens; in tests twice its
/// segment size of 512 KiB was enough.
const FREE_BYTES_MIN: u64 = 1024 * 1024;

/// Prefix of temporary files. One that a killed process left is removed at the next start.
const TEMPORARY: &str = ".new-";

/// Prefix of the names of damaged copies.
pub(super) const DAMAGED_COPY: &str = "db.corrupt-";

/// A state directory that this process has locked until the value is dropped.
#[derive(Debug)]
pub(super) struct StateDir {
    pub path: PathBuf,
    handle: File,
    lock: File,
}

impl StateDir {
    /// Creates the directory if it is missing (mode 0700), checks it, and locks it. Writes nothing else.
    pub(super) fn acquire(path: &Path) -> Result<StateDir, StoreError> {
        let path = without_trailing_slash(path);
        match durable::create_dir_all(&path, 0o700) {
            Ok(()) => {}
            // `check` reports what exists instead of a directory.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::io("create", path, error)),
        }
        let handle = check(&path)?;
        let lock = open_regular(&handle, &path, "lock", OFlags::RDWR | OFlags::CREATE)?;
        let dir = StateDir { path, handle, lock };
        dir.try_lock()?;
        Ok(dir)
    }

    /// As [`StateDir::acquire`], but creates nothing. `None` if the directory is missing.
    pub(super) fn acquire_existing(path: &Path) -> Result<Option<StateDir>, StoreError> {
        let path = without_trailing_slash(path);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let handle = check(&path)?;
        let lock = match open_regular(&handle, &path, "lock", OFlags::RDONLY) {
            Ok(lock) => lock,
            // No process has used the directory since it was restored: there is no lock to respect.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                handle.try_clone().map_err(|error| StoreError::io("open", &path, error))?
            }
            Err(error) => return Err(error),
        };
        let dir = StateDir { path, handle, lock };
        dir.try_lock()?;
        Ok(Some(dir))
    }

    fn try_lock(&self) -> Result<(), StoreError> {
        match self.lock.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The process id only makes the message more helpful.
                let read = (&self.lock).take(32).read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                Err(StoreError::Locked { dir: self.path.clone(), pid })
            }
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", self.path.join("lock"), error)),
        }
    }

    /// Writes the process id, for the error message of another process that finds the lock held.
    pub(super) fn write_process_id(&mut self) -> Result<(), StoreError> {
        let text = format!("{}\n", std::process::id());
        let written = (|| {
            self.lock.seek(SeekFrom::Start(0))?;
            self.lock.write_all(text.as_bytes())?;
            self.lock.set_len(text.len() as u64)
        })();
        written.map_err(|error| StoreError::io("write", self.path.join("lock"), error))
    }

    /// Fails if the disk has no space for opening the store, before anything is changed.
    pub(super) fn require_space(&self) -> Result<(), StoreError> {
        let stat = rustix::fs::fstatvfs(&self.handle)
            .map_err(|error| StoreError::io("examine", &self.path, error.into()))?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < FREE_BYTES_MIN {
            return Err(StoreError::StorageFull { path: self.path.clone() });
        }
        Ok(())
    }

    /// The content of a file in the directory, or `None` if it is missing.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut file = match open_regular(&self.handle, &self.path, name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| StoreError::io("read", self.path.join(name), error))?;
        Ok(Some(bytes))
    }

    /// Replaces a file (mode 0600) atomically and durably.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let replaced = (|| {
            let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.path)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            self.handle.sync_all()
        })();
        replaced.map_err(|error| StoreError::io("write", path, error))
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.handle.sync_all().map_err(|error| StoreError::io("sync", &self.path, error))
    }

    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        names(&self.path)
    }

    /// Removes temporary files of killed processes.
    pub(super) fn remove_temporary(&self) -> Result<(), StoreError> {
        for name in self.names()? {
            if name.starts_with(TEMPORARY) {
                let path = self.path.join(name);
                // The file is harmless. The next start tries again.
                if let Err(error) = fs::remove_file(&path) {
                    let path = path.display().to_string();
                    tracing::warn!(path, %error, "a temporary file of an earlier run cannot be removed; it is ignored");
                }
            }
        }
        Ok(())
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // Unlock explicitly: a forked child that has not executed its program yet would keep the lock.
        let _ = self.lock.unlock();
    }
}

/// Checks that only this user can put files into the directory: not a symbolic link, owned by this user, writable by
/// no other.
fn check(path: &Path) -> Result<File, StoreError> {
    let insecure = |problem: String| StoreError::Insecure { path: path.to_owned(), problem };
    let found = fs::symlink_metadata(path).map_err(|error| StoreError::io("open", path, error))?;
    if found.is_symlink() {
        return Err(insecure("it is a symbolic link; give the directory it leads to".to_owned()));
    }
    if !found.is_dir() {
        return Err(insecure("it is not a directory".to_owned()));
    }
    let user = rustix::process::geteuid().as_raw();
    // Check before opening it: the error of opening would be less helpful.
    if found.uid() != user {
        return Err(StoreError::Denied(access::belongs_to_other(path, &found)));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle: File = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| StoreError::io("open", path, error.into()))?
        .into();
    let found = handle.metadata().map_err(|error| StoreError::io("examine", path, error))?;
    if found.uid() != user {
        return Err(StoreError::Denied(access::belongs_to_other(path, &found)));
    }
    if found.mode() & 0o022 != 0 {
        return Err(insecure(format!(
            "others may write to it (mode {:o}); `chmod 700` it",
            found.mode() & 0o7777
        )));
    }
    Ok(handle)
}

/// Opens a regular file in the open directory `handle`, never a symbolic link.
fn open_regular(handle: &File, dir: &Path, name: &str, flags: OFlags) -> Result<File, StoreError> {
    let path = dir.join(name);
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = match rustix::fs::openat(handle, name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file.into(),
        Err(rustix::io::Errno::LOOP) => {
            return Err(StoreError::Insecure {
                path,
                problem: "it is a symbolic link; remove it".to_owned(),
            });
        }
        Err(error) => return Err(StoreError::io("open", path, error.into())),
    };
    let found = file.metadata().map_err(|error| StoreError::io("examine", &path, error))?;
    if !found.is_file() {
        return Err(StoreError::Insecure { path, problem: "it is not a regular file; remove it".to_owned() });
    }
    Ok(file)
}

/// Removes a trailing slash, which would follow a symbolic link.
fn without_trailing_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

/// The names in a directory, without those that are not UTF-8.
pub(super) fn names(path: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs::read_dir(path).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
    });
    let entries = entries.map_err(|error| StoreError::io("read", path, error))?;
    Ok(entries.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Copies a directory of regular files and directories with modes 0700 and 0600. A failed copy is removed.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    copy_level(from, to).map_err(|(path, error)| {
        let _ = fs::remove_dir_all(to);
        StoreError::io("copy", path, error)
    })
}

/// Errors are returned with the path that they concern.
fn copy_level(from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
    let of = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    DirBuilder::new().mode(0o700).create(to).map_err(of(to))?;
    for entry in fs::read_dir(from).map_err(of(from))? {
        let entry = entry.map_err(of(from))?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type().map_err(of(&entry.path()))?;
        if kind.is_dir() {
            copy_level(&entry.path(), &target)?;
        } else if kind.is_file() {
            copy_file(&entry.path(), &target).map_err(of(&entry.path()))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut file).map(drop)
}

/// Sets a directory and its content to modes 0700 and 0600.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            make_private(&entry.path())?;
        } else if kind.is_file() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

/// Copies of damaged stores in a state directory, oldest first.
pub fn damaged_copies(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut names = names(path)?;
    names.retain(|name| name.starts_with(DAMAGED_COPY));
    names.sort();
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}
