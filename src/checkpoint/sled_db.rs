//! sled, kept at arm's length: opened with settings of ours, its panics caught, its errors sorted.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use super::error::{StoreError, is_full};
use super::state_dir::{self, StateDir};
use crate::{clock, failpoint};

/// The store holds some hundred kilobytes; 1 GiB is sled's default.
const CACHE_BYTES_MAX: u64 = 1024 * 1024;

/// sled lets go of its lock some time after it was dropped.
const LOCK_WAIT: Duration = Duration::from_secs(5);

const TIMER_SLACK_NS: u64 = 60_000_000_000;

/// What sled came back with.
#[derive(Debug)]
pub enum DbError {
    Locked,
    Full,
    /// Anything that may come from the bytes on disk.
    Damaged(String),
    /// The operating system said no.
    Io(io::Error),
}

impl DbError {
    pub fn into_error(self, dir: &StateDir) -> StoreError {
        match self {
            DbError::Locked => StoreError::Locked {
                dir: dir.path.clone(),
                pid: None,
            },
            DbError::Full => StoreError::StorageFull {
                path: dir.path.clone(),
            },
            DbError::Damaged(problem) => StoreError::Damaged {
                dir: dir.path.clone(),
                problem,
            },
            DbError::Io(source) => StoreError::io("use", dir.path.join("db"), source),
        }
    }
}

/// An open sled database of one tree.
pub struct Db {
    // An option, so that dropping it can be guarded: sled flushes then, and panics if it cannot.
    sled: Option<sled::Db>,
    /// sled's log, for the `fdatasync` that sled's own flush is not.
    log: File,
}

impl Db {
    /// Opens or creates `path`, waiting for a lock that a database dropped just now may still hold.
    pub fn open(path: &Path) -> Result<Db, DbError> {
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
        Ok(Db { sled, log })
    }

    fn run<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, DbError> {
        let Some(sled) = &self.sled else {
            return Err(DbError::Damaged("closed".to_owned()));
        };
        guard(|| work(sled))
    }

    /// Calls `each` with every key that begins with `prefix`, in order, and its value.
    pub fn scan(&self, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), DbError> {
        self.run(|sled| {
            for entry in sled.scan_prefix(prefix) {
                let (key, value) = entry?;
                each(&key, &value);
            }
            Ok(())
        })
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DbError> {
        self.run(|sled| Ok(sled.get(key)?.map(|value| value.to_vec())))
    }

    /// Applies all changes or none; durable on return. After a failure the database has to be opened again.
    pub fn apply(&self, batch: sled::Batch) -> Result<(), DbError> {
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
            tracing::warn!("the checkpoint store did not close in order");
        }
    }
}

fn open_sled(path: &Path) -> sled::Result<sled::Db> {
    sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES_MAX)
        .mode(sled::Mode::LowSpace)
        // Whoever commits flushes; an idle agent shall not wake up for it.
        .flush_every_ms(None)
        .open()
}

/// Each of sled's seven threads wakes up once a second to see that there is nothing to do. A thread inherits the
/// timer slack of the one that starts it: with a minute of it the kernel lets them sleep. Work still wakes them.
fn with_lazy_timers<T>(work: impl FnOnce() -> T) -> T {
    // A kernel that does not know it leaves us with the wake-ups.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
    let result = work();
    // Back to the thread's default.
    let _ = rustix::thread::set_current_timer_slack(None);
    result
}

/// A kill while sled opens leaves `snap.*.generating`, with which it never opens again.
fn remove_half_snapshots(path: &Path) -> io::Result<()> {
    remove_files(path, |name| {
        name.starts_with("snap.") && name.ends_with(".generating")
    })
}

/// Removes the files in `path` whose names fit; a directory that is not there has none.
pub fn remove_files(path: &Path, fits: impl Fn(&str) -> bool) -> io::Result<()> {
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

/// Runs a piece of sled, which panics on some kinds of damage.
fn guard<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, DbError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(failure(error)),
        Ok(Err(error)) => Err(DbError::Damaged(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(DbError::Damaged(format!(
                "panic: {}",
                text.unwrap_or("without a message")
            )))
        }
    }
}

/// sled passes on what the system said, and makes errors of its own for bytes that make no sense.
fn failure(error: io::Error) -> DbError {
    if is_full(&error) {
        return DbError::Full;
    }
    // The only sign of a held lock is this text.
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
