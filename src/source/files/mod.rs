//! The audit files of one source: finds them, identifies them, reads them in order and detects rewriting.
//!
//! The caller drives it. [`AuditFiles::sweep`] lists the directories. [`AuditFiles::read`] emits the records of one
//! block. [`AuditFiles::progress`] returns what a checkpoint may store once those records are delivered.
//!
//! Reading order: `sweep` (list directories), `identify` (known file or new one), `reading` (read one file),
//! `file_reader` and `record_splitter` (bytes to records), `copies` (skip content that another file delivered),
//! `vanished` and `truncated` (deletion, rewriting).

pub(crate) mod compressed;
mod copies;
mod copy_scan;
mod digest;
pub(crate) mod directory;
mod discover;
pub(crate) mod failures;
pub(crate) mod file_reader;
#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/targets/frame.rs"]
pub(crate) mod fuzz;
mod identify;
mod malformed;
pub(crate) mod matching;
mod mount_namespace;
pub(crate) mod name;
mod open_files;
mod originals;
mod path_resolver;
mod reading;
pub(crate) mod record_splitter;
mod streams;
pub(crate) mod sweep;
#[cfg(test)]
mod tests;
mod tracked;
mod truncated;
mod twin_window;
mod vanished;
mod verify;
pub(crate) mod wake;

use crate::config::FilesConfig;
use crate::metrics::SourceMetrics;
use crate::position::{FileEntry, Progress};
use directory::OpenDirectory;
use identify::Unidentified;
use name::FileOrder;
use record_splitter::RawRecord;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tracked::TrackedFile;
use verify::RunningVerification;

/// A file that was not written to for this long counts as complete if a newer file exists.
const QUIET_MIN_MS: i64 = 3_600_000;

pub struct AuditFiles {
    config: FilesConfig,
    source: String,
    directories: Vec<DirectoryState>,
    tracked: Vec<TrackedFile>,
    unidentified: Vec<Unidentified>,
    next_key: u32,
    /// Wall clock of the last sweep or read.
    now_ms: i64,
    /// The source never ran before: `start_at` decides where to begin.
    first_run: bool,
    pending_progress: Progress,
    health: Option<String>,
    reported: HashSet<PathBuf>,
    rewritten_files: Vec<RewrittenFile>,
    /// The running verification of a file with its digest, and when its next step is due.
    verification: Option<RunningVerification>,
    verify_at: Option<Instant>,
    /// When this process gives up on a directory that its mount namespace hides. A new process may see it.
    stale_namespace_at: Option<Instant>,
    /// Sizes of the files by key when all of them were first known. `None`: some are not known yet.
    sizes_at_start: Option<HashMap<u32, u64>>,
    metrics: SourceMetrics,
}

/// A configured directory. Its files are read in order as one series of records.
struct DirectoryState {
    path: PathBuf,
    open: Option<OpenDirectory>,
    /// No configured home or pattern leads to this directory any more.
    orphaned: bool,
    /// Bytes of records emitted so far. Twins are counted by distance in these bytes.
    emitted_bytes: u64,
    /// The records before the first one of the twin scope were emitted again, so their twins are known.
    twin_window_loaded: bool,
    /// Number of the range of records in which twins are counted. A new one begins where content is read again: a
    /// repeated record is then not a twin.
    twin_scope: u32,
    /// Key of the file that is currently read with a twin scope of its own.
    own_scope_file: Option<u32>,
}

/// A record and where it was found.
pub struct FileRecord<'a> {
    pub raw: RawRecord<'a>,
    /// Key of the file's checkpoint entry.
    pub file_key: u32,
    /// The file's path as a JSON string.
    pub path_json: &'a str,
    /// Index of the directory, number of its twin scope, and the record's offset in that scope in bytes.
    pub directory: usize,
    pub twin_scope: u32,
    pub twin_offset: u64,
    /// The file is complete and its last record has no line end.
    pub unterminated: bool,
    /// Already delivered. It is emitted again only to rebuild state that depends on earlier records.
    pub already_delivered: bool,
}

/// A file that no longer contains what was read from it.
#[derive(Clone, Debug)]
pub struct RewrittenFile {
    pub path: String,
    /// Offset in bytes up to which it was read.
    pub offset: u64,
    /// Current size in bytes.
    pub size: u64,
    /// How many times this file was rewritten.
    pub truncations: u32,
    /// Path of a copy that contains what was read.
    pub copy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    /// Something was done; there may be more to read.
    More,
    /// Everything available was read.
    Idle,
    /// As `Idle`, but read again at this time: a file has to stay quiet until then, or a read is retried.
    IdleUntil(Instant),
}

/// What this run read from one file.
#[derive(Clone, Debug)]
pub struct FileTotal {
    pub path: String,
    pub records: u64,
    pub bytes: u64,
    pub unterminated_bytes: u64,
}

impl AuditFiles {
    /// `entries` come from the checkpoint. `next_key` is the first unused file key. `first_run`: the source never
    /// ran.
    pub fn new(
        source: &str,
        config: FilesConfig,
        entries: Vec<FileEntry>,
        next_key: u32,
        first_run: bool,
    ) -> AuditFiles {
        let mut files = AuditFiles {
            config,
            source: source.to_owned(),
            directories: Vec::new(),
            tracked: Vec::new(),
            unidentified: Vec::new(),
            next_key,
            now_ms: 0,
            first_run,
            pending_progress: Progress::default(),
            health: None,
            reported: HashSet::new(),
            rewritten_files: Vec::new(),
            verification: None,
            verify_at: None,
            stale_namespace_at: None,
            sizes_at_start: None,
            metrics: SourceMetrics::default(),
        };
        for entry in entries {
            let directory = files.directory_index(entry.path.parent().unwrap_or(&entry.path));
            files.tracked.push(TrackedFile::new(entry, directory));
        }
        files
    }

    /// Counts what is read with these metrics.
    pub fn with_metrics(mut self, metrics: SourceMetrics) -> AuditFiles {
        self.metrics = metrics;
        self
    }

    fn directory_index(&mut self, path: &Path) -> usize {
        if let Some(index) = self.directories.iter().position(|directory| directory.path == path) {
            return index;
        }
        self.directories.push(DirectoryState {
            path: path.to_owned(),
            open: None,
            orphaned: false,
            emitted_bytes: 0,
            twin_window_loaded: false,
            twin_scope: 0,
            own_scope_file: None,
        });
        self.directories.len() - 1
    }

    /// Emits the records of at most one block. With `once` the run does not wait for the end of a line in a file that
    /// was last written long ago.
    pub fn read(
        &mut self,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(FileRecord<'_>),
    ) -> ReadStatus {
        self.now_ms = now_ms;
        let mut until: Option<Instant> = None;
        let mut wait = |at: Instant| until = Some(until.map_or(at, |u| u.min(at)));
        for index in self.reading_order() {
            if let Some(retry) = &self.tracked[index].retry
                && now < retry.at
            {
                wait(retry.at);
                continue;
            }
            match self.read_file(index, now, now_ms, once, emit) {
                Ok(ReadStatus::More) => {
                    self.tracked[index].retry = None;
                    return ReadStatus::More;
                }
                Ok(ReadStatus::Idle) => self.tracked[index].retry = None,
                Ok(ReadStatus::IdleUntil(then)) => wait(then),
                Err(error) => wait(self.read_failed(index, now, error)),
            }
        }
        match (self.verify(now, now_ms, once), until) {
            (ReadStatus::Idle, Some(until)) => ReadStatus::IdleUntil(until),
            (ReadStatus::IdleUntil(at), Some(until)) => ReadStatus::IdleUntil(at.min(until)),
            (status, _) => status,
        }
    }

    /// Changes since the last call. They may be checkpointed once every emitted record is delivered.
    pub fn progress(&mut self) -> Progress {
        for tracked in &mut self.tracked {
            if std::mem::take(&mut tracked.changed) {
                tracked.save_position();
                self.pending_progress.files.push(tracked.entry.clone());
            }
        }
        std::mem::take(&mut self.pending_progress)
    }

    /// Files that were truncated or rewritten since the last call. Confluence does neither.
    pub fn take_rewritten(&mut self) -> Vec<RewrittenFile> {
        std::mem::take(&mut self.rewritten_files)
    }

    /// The files that most likely grow: the newest of each directory that is not dated in the future.
    pub fn growing(&self) -> Vec<PathBuf> {
        (0..self.directories.len())
            .filter_map(|directory| {
                self.tracked
                    .iter()
                    .filter(|t| t.directory == directory && t.listed)
                    .max_by_key(|t| (!t.order.is_in_future(self.now_ms), &t.order))
            })
            .map(|tracked| tracked.entry.path.clone())
            .collect()
    }

    /// Path, device and inode of each directory that is open.
    pub fn watched(&self) -> Vec<(PathBuf, u64, u64)> {
        let open = self.directories.iter().filter_map(|directory| directory.open.as_ref());
        open.map(|open| (open.path.clone(), open.dev, open.ino)).collect()
    }

    /// Whether an unterminated last record waits for its file to stay quiet.
    pub fn has_unterminated_record(&self) -> bool {
        self.tracked.iter().any(|t| {
            t.quiet_since.is_some()
                && t.retry.is_none()
                && t.reader.as_ref().is_some_and(|reader| reader.splitter.unterminated_bytes() > 0)
        })
    }

    /// Whether each available file was read to its end.
    pub fn all_at_end(&self) -> bool {
        let mut active = self.tracked.iter().filter(|t| t.is_active());
        self.health.is_none()
            && self.unidentified.is_empty()
            && active.all(|t| t.retry.is_none() && t.is_at_end())
    }

    /// Whether everything was read that was there when this process started: what an earlier one may have delivered.
    /// Unlike [`AuditFiles::all_at_end`] it becomes true while the files grow without a pause.
    pub fn has_replayed(&mut self) -> bool {
        let all_known = self.health.is_none() && self.unidentified.is_empty();
        if self.sizes_at_start.is_none() && all_known {
            let active = self.tracked.iter().filter(|tracked| tracked.is_active());
            self.sizes_at_start = Some(active.map(|t| (t.entry.key, t.entry.size)).collect());
        }
        let Some(sizes) = &self.sizes_at_start else { return false };
        let is_read =
            |tracked: &TrackedFile| sizes.get(&tracked.entry.key).is_none_or(|size| tracked.has_read(*size));
        self.tracked.iter().all(|tracked| !tracked.is_active() || is_read(tracked))
    }

    /// Whether nothing more can be read now. Compressed files that are still incomplete do not count.
    pub fn nothing_left_to_read(&self) -> bool {
        let mut active = self.tracked.iter().filter(|t| t.is_active());
        self.health.is_none()
            && self.unidentified.is_empty()
            && active.all(|t| t.retry.is_none() && (t.is_at_end() || t.incomplete.is_some() && !t.is_open()))
    }

    /// Why the source cannot read at the moment, if it cannot.
    pub fn health(&self) -> Option<&str> {
        self.health.as_deref()
    }

    pub fn totals(&self) -> Vec<FileTotal> {
        let mut out: Vec<(&FileOrder, FileTotal)> = self
            .tracked
            .iter()
            .map(|t| {
                let unterminated_bytes =
                    t.reader.as_ref().map_or(0, |reader| reader.splitter.unterminated_bytes());
                (
                    &t.order,
                    FileTotal {
                        path: t.path.clone(),
                        records: t.records,
                        bytes: t.bytes,
                        unterminated_bytes,
                    },
                )
            })
            .filter(|(_, total)| total.records > 0 || total.unterminated_bytes > 0)
            .collect();
        out.sort_by(|a, b| a.0.cmp(b.0));
        out.into_iter().map(|(_, total)| total).collect()
    }

    fn reading_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> =
            (0..self.tracked.len()).filter(|&index| self.tracked[index].is_active()).collect();
        order.sort_by(|&a, &b| {
            let key = |index: usize| (self.tracked[index].directory, &self.tracked[index].order);
            key(a).cmp(&key(b))
        });
        order
    }

    /// Whether Confluence has moved on to a newer file in the same directory.
    ///
    /// A name alone does not prove it. A file dated in the future was created under a wrong clock. A file that was
    /// last written before this one is no successor while this one grows.
    fn has_successor(&self, index: usize) -> bool {
        let this = &self.tracked[index];
        let written_ms = this.entry.mtime_ms;
        let old = self.now_ms.saturating_sub(written_ms) > QUIET_MIN_MS;
        self.newer_than(index).any(|other| old || other.entry.mtime_ms >= written_ms)
    }

    /// The listed files of the same directory with a later name, without those dated in the future.
    fn newer_than(&self, index: usize) -> impl Iterator<Item = &TrackedFile> {
        let this = &self.tracked[index];
        self.tracked.iter().filter(move |other| {
            other.directory == this.directory
                && other.listed
                && other.order > this.order
                && !other.order.is_in_future(self.now_ms)
        })
    }
}
