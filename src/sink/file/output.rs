//! The file that is being written, and its rotation.

use super::super::Batch;
use super::compress_rotated::Compressor;
use super::prune::{self, Surplus};
use super::recover::end_of_last_line;
use super::share::Sharing;
use crate::config::FileSinkConfig;
use crate::position::{DeletedOutputs, SinkMark};
use crate::sink::compress;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Rotated files that are kept open until the next sync. With more the writing waits for the oldest to be durable.
pub(super) const ROTATED_OPEN_MAX: usize = 8;

pub struct Output {
    pub(super) sink: String,
    pub(super) path: PathBuf,
    pub(super) config: FileSinkConfig,
    pub(super) file: File,
    pub(super) generation: u64,
    /// Where the next byte goes: the file's length as far as it is ours.
    pub(super) length: u64,
    /// Where the last whole event ends.
    pub(super) whole: u64,
    /// How much of a batch was written before a write failed.
    pub(super) taken: usize,
    /// It was renamed to rotate it, and the next one is not begun yet.
    pub(super) renamed: bool,
    pub(super) day: i64,
    /// Rotated files that are not durable yet.
    pub(super) rotated: Vec<File>,
    /// One of them could not be made durable: the next sync says so.
    pub(super) sync_failed: Option<io::Error>,
    /// Events in the file; `None` if it was begun by an earlier process.
    pub(super) events: Option<u64>,
    /// The same of rotated files, by generation, as far as known.
    pub(super) rotated_events: BTreeMap<u64, u64>,
    pub(super) deleted: DeletedOutputs,
    pub(super) sharing: Sharing,
}

/// What is to be made durable, apart from the writing.
pub struct Sync {
    files: Vec<File>,
    /// Names changed: their directory too.
    directory: Option<File>,
    /// Rotated files over the number to keep.
    surplus: Vec<Surplus>,
}

impl Sync {
    pub fn run(self) -> io::Result<DeletedOutputs> {
        for file in self.files {
            file.sync_data()?;
        }
        if let Some(directory) = self.directory {
            directory.sync_all()?;
        }
        Ok(prune::delete(&self.surplus))
    }
}

impl Output {
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Compresses rotated files, if that is configured.
    pub(super) fn compressor(&self) -> io::Result<Option<Compressor>> {
        Compressor::start(&self.path, self.config.compression, self.sharing.clone())
    }

    /// How long the file is with its last whole event.
    pub fn mark(&self) -> io::Result<SinkMark> {
        let metadata = self.file.metadata()?;
        Ok(SinkMark {
            sink: self.sink.clone(),
            path: self.path.clone(),
            dev: metadata.dev(),
            ino: metadata.ino(),
            generation: self.generation,
            length: self.whole,
            deleted: self.deleted,
        })
    }

    /// What was deleted of it, ever.
    pub fn deleted(&self) -> DeletedOutputs {
        self.deleted
    }

    pub fn note_deleted(&mut self, deleted: DeletedOutputs) {
        self.deleted.add(deleted);
    }

    /// Writes the batch. After an error the same batch must be given again: it goes on where it stopped.
    pub fn write(&mut self, batch: &Batch) -> io::Result<SinkMark> {
        self.notice_strangers()?;
        self.rotate_if_full()?;
        let today = day(crate::clock::now_ms());
        if self.config.rotate_daily && today != self.day && self.between_events() {
            if self.length > 0 {
                self.rotate()?;
            }
            self.day = today;
        }
        // A file is full at the first event end at or over the limit: where that is depends on nothing but the events.
        let mut length = self.length;
        let taken = self.taken;
        let mut before = taken;
        for end in batch
            .events
            .iter()
            .map(|event| event.end as usize)
            .filter(|&end| end > taken)
        {
            length += (end - before) as u64;
            before = end;
            if length >= self.config.rotate_bytes {
                self.append(batch, end)?;
                self.rotate_if_full()?;
                length = self.length;
            }
        }
        self.append(batch, before)?;
        self.append(batch, batch.bytes.len())?;
        self.taken = 0;
        self.mark()
    }

    /// Hands over what was written since the last call.
    pub fn sync(&mut self) -> io::Result<Sync> {
        if let Some(error) = self.sync_failed.take() {
            return Err(error);
        }
        let mut files = std::mem::take(&mut self.rotated);
        let directory = if files.is_empty() {
            None
        } else {
            Some(File::open(parent(&self.path))?)
        };
        let surplus = if files.is_empty() {
            Vec::new()
        } else {
            // The next rotation looks again.
            prune::surplus(&self.path, self.config.rotated_files_max, &self.rotated_events).unwrap_or_else(|error| {
                tracing::warn!(path = self.path(), %error, "rotated outputs over the number to keep stay for now");
                Vec::new()
            })
        };
        files.push(self.file.try_clone()?);
        Ok(Sync {
            files,
            directory,
            surplus,
        })
    }

    /// Writes the batch on up to `end`; where that is an event's end, the file is whole again.
    fn append(&mut self, batch: &Batch, end: usize) -> io::Result<()> {
        if end == self.taken {
            return Ok(());
        }
        let bytes = &batch.bytes[self.taken..end];
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        let ended = |at: usize| batch.events.partition_point(|event| event.end as usize <= at) as u64;
        let events = ended(end) - ended(self.taken);
        self.events = self.events.map(|before| before + events);
        self.taken = end;
        if batch
            .events
            .binary_search_by_key(&(end as u32), |event| event.end)
            .is_ok()
        {
            self.whole = self.length;
        }
        Ok(())
    }

    fn between_events(&self) -> bool {
        self.whole == self.length
    }

    /// Also makes good a rotation that a crash or an error has prevented.
    pub(super) fn rotate_if_full(&mut self) -> io::Result<()> {
        if self.between_events() && self.length >= self.config.rotate_bytes {
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let to = rotated_name(&self.path, crate::clock::now_ms(), self.generation);
        std::fs::rename(&self.path, &to).map_err(|error| {
            because(
                format!("cannot rename the full output to `{}`", to.display()),
                error,
            )
        })?;
        self.renamed = true;
        self.restart()
    }

    fn restart(&mut self) -> io::Result<()> {
        let begun = open(&self.path).and_then(|next| Ok((end_of_last_line(&next)?, next)));
        let (length, next) = begun
            .map_err(|error| because("cannot begin the next output after a rotation".to_owned(), error))?;
        self.sharing.apply(&next, &self.path);
        if self.rotated.len() >= ROTATED_OPEN_MAX {
            // Its error must end the process and not look like one of writing, which is tried again.
            self.sync_failed = self
                .sync_failed
                .take()
                .or(self.rotated.remove(0).sync_data().err());
        }
        self.rotated.push(std::mem::replace(&mut self.file, next));
        self.renamed = false;
        if let Some(events) = self.events {
            self.rotated_events.insert(self.generation, events);
        }
        self.generation += 1;
        (self.length, self.whole) = (length, length);
        self.events = (length == 0).then_some(0);
        let kept_from = self
            .generation
            .saturating_sub(self.config.rotated_files_max as u64 + ROTATED_OPEN_MAX as u64);
        self.rotated_events = self.rotated_events.split_off(&kept_from);
        Ok(())
    }

    /// Somebody else's rotation: the file was moved away, or cut under our hands.
    fn notice_strangers(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let under_path = std::fs::symlink_metadata(&self.path);
        let moved = match &under_path {
            Ok(there) => (there.dev(), there.ino()) != (own.dev(), own.ino()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(_) => false,
        };
        if moved && self.between_events() {
            if !self.renamed {
                tracing::warn!(
                    path = self.path(),
                    "the output was moved away by another program; a new file is begun"
                );
            }
            return self.restart();
        }
        if own.len() < self.length {
            tracing::warn!(
                path = self.path(),
                "the output was cut by another program; events are appended to what is left"
            );
            self.generation += 1;
            let length = end_of_last_line(&self.file)?;
            (self.length, self.whole) = (length, length);
            self.events = (length == 0).then_some(0);
        }
        Ok(())
    }
}

/// Opens or makes the file: for its owner only, and no link.
pub(super) fn open(path: &Path) -> io::Result<File> {
    open_with(path, true)
}

/// The same for one that is there.
pub(super) fn open_existing(path: &Path) -> io::Result<File> {
    open_with(path, false)
}

fn open_with(path: &Path, create: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is not a regular file",
        ));
    }
    Ok(file)
}

fn because(what: String, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Number of the UTC day.
pub(super) fn day(ms: i64) -> i64 {
    ms.div_euclid(86_400_000)
}

/// `events.ndjson` of generation 17 becomes `events.ndjson.2026-11-21.000017`.
fn rotated_name(path: &Path, now_ms: i64, generation: u64) -> PathBuf {
    let date = jiff::Timestamp::from_millisecond(now_ms)
        .unwrap_or_default()
        .strftime("%Y-%m-%d")
        .to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{date}.{generation:06}"));
    name.into()
}

/// The rotated files of `path` with their generations, oldest first. Where a crash has left one twice, its compressed form
/// comes last.
pub(super) fn rotated_files(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let Some(base) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(Vec::new());
    };
    let list = |error| because("cannot list the rotated outputs".to_owned(), error);
    let mut out = Vec::new();
    for entry in std::fs::read_dir(parent(path)).map_err(list)? {
        let path = entry.map_err(list)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(generation) = name.and_then(|name| generation_of(name, base)) {
            out.push((generation, path));
        }
    }
    out.sort();
    Ok(out)
}

fn generation_of(name: &str, base: &str) -> Option<u64> {
    let ending = compress::of_name(Path::new(name)).ending();
    let (date, number) = name
        .strip_suffix(ending)?
        .strip_prefix(base)?
        .strip_prefix('.')?
        .rsplit_once('.')?;
    let dated = date.len() == 10 && date.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    number.parse().ok().filter(|_| dated && number.len() >= 6)
}
