//! Wraps sled: fixed settings, caught panics, classified errors.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use super::error::{StoreError, is_full};
use super::state_dir::{self, StateDir};
use crate::{clock, durable, failpoint};

/// The store has a few hundred kilobytes. sled's default is 1 GiB.
const CACHE_BYTES_MAX: u64 = 1024 * 1024;

/// sled releases its lock some time after it is dropped.
const LOCK_WAIT: Duration = Duration::from_secs(5);

const TIMER_SLACK_NS: u64 = 60_000_000_000;

/// A classified error of sled.
#[derive(Debug)]
pub(super) enum DbError {
    Locked,
    Full,
    /// Any error that the bytes on disk may cause.
    Damaged(String),
    /// Any other error of the operating system.
    Io(io::Error),
}

impl DbError {
    pub(super) fn into_error(self, dir: &StateDir) -> StoreError {
        match self {
            DbError::Locked => StoreError::Locked { dir: dir.path.clone(), pid: None },
            DbError::Full => StoreError::StorageFull { path: dir.path.clone() },
            DbError::Damaged(problem) => StoreError::Damaged { dir: dir.path.clone(), problem },
            DbError::Io(source) => StoreError::io("use", dir.path.join("db"), source),
        }
    }
}

/// An open sled database of one tree.
pub(super) struct Db {
    // An option, so that a panic while it is dropped can be caught: sled flushes then.
    sled: Option<sled::Db>,
    /// sled's log file. It is synced after each flush, because sled's own flush is not durable.
    log: File,
}

impl Db {
    /// Opens or creates `path`. Waits for the lock of a database that was dropped just before.
    pub(super) fn open(path: &Path) -> Result<Db, DbError> {
        remove_half_snapshots(path).map_err(failure)?;
        let deadline = clock::monotonic() + LOCK_WAIT;
        let sled = loop {
            let opened = with_lazy_timers(|| guard(|| open_sled(path)));
            match opened {
                Err(DbError::Locked) if clock::monotonic() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => break other?,
            }
        };
        let sled = Some(sled);
        let log = File::open(path.join("db")).map_err(failure)?;
        state_dir::make_private(path).map_err(failure)?;
        sync_files(path).map_err(failure)?;
        Ok(Db { sled, log })
    }

    fn run<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, DbError> {
        let Some(sled) = &self.sled else {
            return Err(DbError::Damaged("closed".to_owned()));
        };
        guard(|| work(sled))
    }

    /// Calls `each` with every key that starts with `prefix` and its value, in order.
    pub(super) fn scan(&self, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), DbError> {
        self.run(|sled| {
            for entry in sled.scan_prefix(prefix) {
                let (key, value) = entry?;
                each(&key, &value);
            }
            Ok(())
        })
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DbError> {
        self.run(|sled| Ok(sled.get(key)?.map(|value| value.to_vec())))
    }

    /// Applies all changes or none, durably. After a failure the database has to be opened again.
    pub(super) fn apply(&self, batch: sled::Batch) -> Result<(), DbError> {
        failpoint::hit("before_flush");
        with_lazy_timers(|| {
            self.run(|sled| {
                sled.apply_batch(batch)?;
                sled.flush()?;
                Ok(())
            })
        })?;
        self.log.sync_data().map_err(failure)?;
        failpoint::hit("after_flush");
        Ok(())
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let sled = self.sled.take();
        if catch_unwind(AssertUnwindSafe(|| drop(sled))).is_err() {
            tracing::warn!("closing the checkpoint store failed; no commit is lost");
        }
    }
}

fn open_sled(path: &Path) -> sled::Result<sled::Db> {
    sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES_MAX)
        .mode(sled::Mode::LowSpace)
        // Every commit flushes. An idle agent does not have to wake up.
        .flush_every_ms(None)
        .open()
}

/// Starts sled's seven threads with a timer slack of a minute. Each one wakes up every second for nothing; the slack
/// lets the kernel delay that. Threads inherit the slack of the thread that starts them. Work still wakes them at
/// once.
fn with_lazy_timers<T>(work: impl FnOnce() -> T) -> T {
    // Without support in the kernel the wake-ups stay.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
    let result = work();
    // Reset to the thread's default.
    let _ = rustix::thread::set_current_timer_slack(None);
    result
}

/// A kill while sled opens leaves `snap.*.generating`. sled cannot open with such a file.
fn remove_half_snapshots(path: &Path) -> io::Result<()> {
    remove_files(path, |name| name.starts_with("snap.") && name.ends_with(".generating"))
}

/// Removes the files in `path` whose names `fits` accepts. A missing directory is empty.
pub(super) fn remove_files(path: &Path, fits: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&fits) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the files of sled and their names durable. sled syncs neither `conf` nor any name, and a commit is worth
/// nothing if the log loses its name.
fn sync_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    durable::sync_dir(path)
}

/// Runs code of sled, which panics on some kinds of damage.
fn guard<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, DbError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(failure(error)),
        Ok(Err(error)) => Err(DbError::Damaged(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(DbError::Damaged(format!("panic: {}", text.unwrap_or("without a message"))))
        }
    }
}

/// Classifies an I/O error: sled forwards those of the system, and uses the same type for invalid bytes.
fn failure(error: io::Error) -> DbError {
    if is_full(&error) {
        return DbError::Full;
    }
    // Only this text identifies a held lock.
    if error.to_string().starts_with("could not acquire lock") {
        return DbError::Locked;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::NotFound
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::Other => DbError::Damaged(error.to_string()),
        _ => DbError::Io(error),
    }
}
