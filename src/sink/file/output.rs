//! The file that is being written, and its rotation.

use super::super::Batch;
use super::compress_rotated::Compressor;
use super::open::{open, terminate_last_line};
use super::permissions::OutputPermissions;
use super::prune::{self, ExcessFile};
use super::rotated_files::{rotated_name, with_context};
use crate::config::FileSinkConfig;
use crate::durable::parent;
use crate::position::{DeletedOutputs, SinkMark};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// Rotated files that stay open until the next sync. With more, writing waits until the oldest is durable.
pub(super) const ROTATED_OPEN_MAX: usize = 8;

pub(crate) struct OutputFile {
    pub(super) sink: String,
    pub(super) path: PathBuf,
    pub(super) config: FileSinkConfig,
    pub(super) file: File,
    pub(super) rotation: u64,
    /// Offset of the next byte: the length of the file.
    pub(super) length: u64,
    /// Offset after the last complete event.
    pub(super) last_event_end: u64,
    /// How many bytes of the batch were written before a write failed.
    pub(super) written_of_batch: usize,
    /// The file was renamed for rotation and the next one does not exist yet.
    pub(super) rotation_pending: bool,
    pub(super) day: i64,
    /// Rotated files that are not durable yet.
    pub(super) rotated: Vec<File>,
    /// Syncing one of them failed. The next sync reports it.
    pub(super) sync_failed: Option<io::Error>,
    /// Number of events in the file. `None` if an earlier process began it.
    pub(super) events: Option<u64>,
    /// Number of events in rotated files by rotation, as far as known.
    pub(super) rotated_events: BTreeMap<u64, u64>,
    pub(super) deleted: DeletedOutputs,
    pub(super) permissions: OutputPermissions,
}

/// A sync to be run by another thread than the writing one.
pub(crate) struct SyncJob {
    files: Vec<File>,
    /// Set if names have changed, so the directory must be synced too.
    directory: Option<File>,
    /// Rotated files beyond `rotated_files_max`, to be deleted.
    excess: Vec<ExcessFile>,
}

impl SyncJob {
    pub(crate) fn run(self) -> io::Result<DeletedOutputs> {
        for file in self.files {
            file.sync_data()?;
        }
        let Some(directory) = self.directory else {
            return Ok(DeletedOutputs::default());
        };
        directory.sync_all()?;
        let deleted = prune::delete(&self.excess);
        if deleted.files > 0 {
            // They are counted with the next position. A file that came back would be counted again.
            directory.sync_all()?;
        }
        Ok(deleted)
    }
}

impl OutputFile {
    pub(crate) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Starts the compression of rotated files, if configured.
    pub(super) fn compressor(&self) -> io::Result<Option<Compressor>> {
        Compressor::start(&self.path, self.config.compression, self.permissions.clone())
    }

    /// Identity of the file, and its length up to the last complete event.
    pub(crate) fn mark(&self) -> io::Result<SinkMark> {
        let metadata = self.file.metadata()?;
        Ok(SinkMark {
            sink: self.sink.clone(),
            path: self.path.clone(),
            dev: metadata.dev(),
            ino: metadata.ino(),
            rotation: self.rotation,
            length: self.last_event_end,
            deleted: self.deleted,
        })
    }

    /// All rotated files that were deleted from this output so far.
    pub(crate) fn deleted(&self) -> DeletedOutputs {
        self.deleted
    }

    pub(crate) fn note_deleted(&mut self, deleted: DeletedOutputs) {
        self.deleted.add(deleted);
    }

    /// Writes the batch. After an error the same batch must be passed again: the write continues where it
    /// stopped.
    pub(crate) fn write(&mut self, batch: &Batch) -> io::Result<SinkMark> {
        self.detect_external_changes()?;
        self.rotate_if_full()?;
        let today = day(crate::clock::now_ms());
        if self.config.rotate_daily && today != self.day && self.between_events() {
            if self.length > 0 {
                self.rotate()?;
            }
            self.day = today;
        }
        // A file is full at the first end of an event at or above the limit. So rotation depends on the
        // events only.
        let mut length = self.length;
        let written_of_batch = self.written_of_batch;
        let mut before = written_of_batch;
        for end in batch.events.iter().map(|event| event.end as usize).filter(|&end| end > written_of_batch) {
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
        self.written_of_batch = 0;
        self.mark()
    }

    /// Returns the sync of everything that was written since the last call.
    pub(crate) fn sync(&mut self) -> io::Result<SyncJob> {
        if let Some(error) = self.sync_failed.take() {
            return Err(error);
        }
        let mut files = std::mem::take(&mut self.rotated);
        let directory = if files.is_empty() { None } else { Some(File::open(parent(&self.path))?) };
        let excess = if files.is_empty() {
            Vec::new()
        } else {
            // The next rotation retries it.
            prune::excess_files(&self.path, self.config.rotated_files_max, &self.rotated_events).unwrap_or_else(|error| {
                tracing::warn!(path = self.path(), %error, "rotated files beyond `rotated_files_max` cannot be listed; they are kept until the next rotation");
                Vec::new()
            })
        };
        files.push(self.file.try_clone()?);
        Ok(SyncJob { files, directory, excess })
    }

    /// Writes the batch up to the offset `end`.
    fn append(&mut self, batch: &Batch, end: usize) -> io::Result<()> {
        if end == self.written_of_batch {
            return Ok(());
        }
        let bytes = &batch.bytes[self.written_of_batch..end];
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        let ended = |at: usize| batch.events.partition_point(|event| event.end as usize <= at) as u64;
        let events = ended(end) - ended(self.written_of_batch);
        self.events = self.events.map(|before| before + events);
        self.written_of_batch = end;
        if batch.events.binary_search_by_key(&(end as u32), |event| event.end).is_ok() {
            self.last_event_end = self.length;
        }
        Ok(())
    }

    fn between_events(&self) -> bool {
        self.last_event_end == self.length
    }

    /// Also repeats a rotation that a crash or an error has prevented.
    pub(super) fn rotate_if_full(&mut self) -> io::Result<()> {
        if self.between_events() && self.length >= self.config.rotate_bytes {
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let to = rotated_name(&self.path, crate::clock::now_ms(), self.rotation);
        std::fs::rename(&self.path, &to).map_err(|error| {
            with_context(format!("the full output cannot be renamed to `{}`", to.display()), error)
        })?;
        self.rotation_pending = true;
        self.open_next()
    }

    fn open_next(&mut self) -> io::Result<()> {
        let begun = open(&self.path).and_then(|next| Ok((terminate_last_line(&next)?, next)));
        let (length, next) = begun.map_err(|error| {
            with_context("the next output after a rotation cannot be created".to_owned(), error)
        })?;
        self.permissions.apply(&next, &self.path);
        if self.rotated.len() >= ROTATED_OPEN_MAX {
            // This error must end the process. It is reported by the sync, because a failed write would be
            // retried.
            self.sync_failed = self.sync_failed.take().or(self.rotated.remove(0).sync_data().err());
        }
        self.rotated.push(std::mem::replace(&mut self.file, next));
        self.rotation_pending = false;
        if let Some(events) = self.events {
            self.rotated_events.insert(self.rotation, events);
        }
        self.rotation += 1;
        (self.length, self.last_event_end) = (length, length);
        self.events = (length == 0).then_some(0);
        let oldest_kept =
            self.rotation.saturating_sub(self.config.rotated_files_max as u64 + ROTATED_OPEN_MAX as u64);
        self.rotated_events = self.rotated_events.split_off(&oldest_kept);
        Ok(())
    }

    /// Detects that another program has rotated or truncated the file.
    fn detect_external_changes(&mut self) -> io::Result<()> {
        let opened = self.file.metadata()?;
        let under_path = std::fs::symlink_metadata(&self.path);
        let moved = match &under_path {
            Ok(found) => (found.dev(), found.ino()) != (opened.dev(), opened.ino()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(_) => false,
        };
        if moved && self.between_events() {
            if !self.rotation_pending {
                tracing::warn!(
                    path = self.path(),
                    "the output was moved by another program; a new file is created"
                );
            }
            return self.open_next();
        }
        if opened.len() < self.length {
            tracing::warn!(
                path = self.path(),
                "the output was truncated by another program; events are appended to it"
            );
            self.rotation += 1;
            let length = terminate_last_line(&self.file)?;
            (self.length, self.last_event_end) = (length, length);
            self.events = (length == 0).then_some(0);
        }
        Ok(())
    }
}

/// Number of the UTC day since 1970.
pub(super) fn day(ms: i64) -> i64 {
    ms.div_euclid(86_400_000)
}
