//! Audit files of a Confluence node: found by sweeps, told apart by evidence, read in order, watched for rewriting.
//!
//! A source is driven from outside: [`Files::sweep`] looks at the directories, [`Files::read`] hands out the records of
//! one block, [`Files::progress`] says what a checkpoint may say once those records are delivered.

mod compare;
pub mod compressed;
mod copies;
mod digest;
pub mod directory;
pub mod frame;
mod identify;
pub mod identity;
pub mod name;
mod open_files;
mod places;
mod reading;
mod replay;
mod scan;
mod streams;
pub mod sweep;
pub mod tail;
#[cfg(test)]
mod tests;
mod tracked;
pub mod trouble;
mod truncated;
mod vanished;
mod view;
pub mod wake;
mod walk;

use crate::config::FilesConfig;
use crate::position::{FileEntry, Progress};
use compare::Comparison;
use directory::Directory;
use frame::Frame;
use identify::Unidentified;
use name::Order;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tracked::Tracked;

/// A file that has not been written to for so long does not grow any more, if a newer one is there.
const GROWING_MAX_MS: i64 = 3_600_000;

pub struct Files {
    config: FilesConfig,
    source: String,
    folders: Vec<Folder>,
    tracked: Vec<Tracked>,
    unidentified: Vec<Unidentified>,
    next_key: u32,
    /// The wall clock at the last look.
    now_ms: i64,
    /// Nothing was ever read: `start_at` decides where to begin.
    fresh: bool,
    pending: Progress,
    health: Option<String>,
    told: HashSet<PathBuf>,
    tampered: Vec<Tampered>,
    /// A file that is being compared with what was read of it, and when to go on.
    comparison: Option<Comparison>,
    compare_at: Option<Instant>,
    /// When another process is to look for a directory that this one cannot see.
    view_ends: Option<Instant>,
}

/// A directory that is read. Its files are one sequence.
struct Folder {
    path: PathBuf,
    open: Option<Directory>,
    /// Nothing leads to it any more: the home or the patterns are others now, or what they led to is gone.
    left: bool,
    /// Bytes handed out so far: the measure for what stands close together.
    passed_bytes: u64,
    begun: bool,
    /// Counts how often the sequence was begun anew: what is read again is not a second event.
    sequence: u32,
    /// Key of the file that is read apart from the sequence now.
    alone: Option<u32>,
}

/// Where a record was found.
pub struct FileRecord<'a> {
    pub frame: Frame<'a>,
    /// Key of the file's entry.
    pub file: u32,
    /// The file's path as a JSON string.
    pub path_json: &'a str,
    /// Number of the folder, of its sequence (which a rewritten file begins anew), and where in it the record stands.
    pub folder: usize,
    pub sequence: u32,
    pub at: u64,
    /// The file ended here for good, without a line end.
    pub unterminated: bool,
    /// Delivered before: told again only so that what depends on the records before can be made again.
    pub replayed: bool,
}

/// A file that does not hold any more what was read of it.
#[derive(Clone, Debug)]
pub struct Tampered {
    pub path: String,
    /// Up to where it had been read.
    pub offset: u64,
    /// How long it is now, in bytes.
    pub size: u64,
    /// How often that has happened to it.
    pub epoch: u32,
    /// The file that holds what was read.
    pub copy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something was read; there may be more.
    More,
    /// Everything that stands there now has been read.
    Idle,
    /// Like `Idle`, but look again then: a file waits to be quiet for long enough, or a read is tried once more.
    Until(Instant),
}

/// What a run read from one file.
#[derive(Clone, Debug)]
pub struct FileTotal {
    pub path: String,
    pub records: u64,
    pub bytes: u64,
    pub waiting_bytes: u64,
}

impl Files {
    /// `entries` is what the checkpoint knows, `next_key` the first number it has not used; `fresh` says that this source never ran.
    pub fn new(
        source: &str,
        config: FilesConfig,
        entries: Vec<FileEntry>,
        next_key: u32,
        fresh: bool,
    ) -> Files {
        let mut files = Files {
            config,
            source: source.to_owned(),
            folders: Vec::new(),
            tracked: Vec::new(),
            unidentified: Vec::new(),
            next_key,
            now_ms: 0,
            fresh,
            pending: Progress::default(),
            health: None,
            told: HashSet::new(),
            tampered: Vec::new(),
            comparison: None,
            compare_at: None,
            view_ends: None,
        };
        for entry in entries {
            let folder = files.folder(entry.path.parent().unwrap_or(&entry.path));
            files.tracked.push(Tracked::new(entry, folder));
        }
        files
    }

    fn folder(&mut self, path: &Path) -> usize {
        if let Some(at) = self.folders.iter().position(|folder| folder.path == path) {
            return at;
        }
        self.folders.push(Folder {
            path: path.to_owned(),
            open: None,
            left: false,
            passed_bytes: 0,
            begun: false,
            sequence: 0,
            alone: None,
        });
        self.folders.len() - 1
    }

    /// Hands out the records of at most one block. `once`: this run will not wait for the end of a line in a file that
    /// was last written long ago.
    pub fn read(
        &mut self,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(FileRecord<'_>),
    ) -> Turn {
        self.now_ms = now_ms;
        let mut until: Option<Instant> = None;
        let mut wait = |at: Instant| until = Some(until.map_or(at, |u| u.min(at)));
        for at in self.reading_order() {
            if let Some(retry) = &self.tracked[at].retry
                && now < retry.at
            {
                wait(retry.at);
                continue;
            }
            match self.read_one(at, now, now_ms, once, emit) {
                Ok(Turn::More) => {
                    self.tracked[at].retry = None;
                    return Turn::More;
                }
                Ok(Turn::Idle) => self.tracked[at].retry = None,
                Ok(Turn::Until(then)) => wait(then),
                Err(error) => wait(self.read_failed(at, now, error)),
            }
        }
        match (self.compare(now, now_ms, once), until) {
            (Turn::Idle, Some(until)) => Turn::Until(until),
            (Turn::Until(at), Some(until)) => Turn::Until(at.min(until)),
            (turn, _) => turn,
        }
    }

    /// What has changed since the last call; it may be checkpointed once every record handed out is delivered.
    pub fn progress(&mut self) -> Progress {
        for tracked in &mut self.tracked {
            if std::mem::take(&mut tracked.changed) {
                tracked.note_position();
                self.pending.files.push(tracked.entry.clone());
            }
        }
        std::mem::take(&mut self.pending)
    }

    /// Files that were truncated or rewritten since the last call. Confluence does neither.
    pub fn take_tampered(&mut self) -> Vec<Tampered> {
        std::mem::take(&mut self.tampered)
    }

    /// The files that most likely grow: of each folder the newest whose day has come.
    pub fn live(&self) -> Vec<PathBuf> {
        (0..self.folders.len())
            .filter_map(|folder| {
                self.tracked
                    .iter()
                    .filter(|t| t.folder == folder && t.listed)
                    .max_by_key(|t| (!t.order.is_ahead(self.now_ms), &t.order))
            })
            .map(|tracked| tracked.entry.path.clone())
            .collect()
    }

    /// The folders that could be opened.
    pub fn watched(&self) -> Vec<(PathBuf, u64, u64)> {
        let open = self.folders.iter().filter_map(|folder| folder.open.as_ref());
        open.map(|open| (open.path.clone(), open.dev, open.ino)).collect()
    }

    /// Whether the rest of a file waits for the file to be quiet for long enough to be its last record.
    pub fn rest_waits(&self) -> bool {
        self.tracked.iter().any(|t| {
            t.quiet_since.is_some()
                && t.retry.is_none()
                && t.tail
                    .as_ref()
                    .is_some_and(|tail| tail.framer.waiting_bytes() > 0)
        })
    }

    /// Whether each file that is there has been read to its end.
    pub fn caught_up(&self) -> bool {
        let mut active = self.tracked.iter().filter(|t| t.is_active());
        self.health.is_none()
            && self.unidentified.is_empty()
            && active.all(|t| t.retry.is_none() && t.is_read())
    }

    /// Whether nothing more can be read now: all is read, but for compressed files that are not whole yet.
    pub fn is_drained(&self) -> bool {
        let mut active = self.tracked.iter().filter(|t| t.is_active());
        self.health.is_none()
            && self.unidentified.is_empty()
            && active.all(|t| t.retry.is_none() && (t.is_read() || t.cut_off.is_some() && !t.is_open()))
    }

    /// Why the source cannot do its work at the moment, if so.
    pub fn health(&self) -> Option<&str> {
        self.health.as_deref()
    }

    pub fn totals(&self) -> Vec<FileTotal> {
        let mut out: Vec<(&Order, FileTotal)> = self
            .tracked
            .iter()
            .map(|t| {
                let waiting_bytes = t.tail.as_ref().map_or(0, |tail| tail.framer.waiting_bytes());
                (
                    &t.order,
                    FileTotal {
                        path: t.path.clone(),
                        records: t.records,
                        bytes: t.bytes,
                        waiting_bytes,
                    },
                )
            })
            .filter(|(_, total)| total.records > 0 || total.waiting_bytes > 0)
            .collect();
        out.sort_by(|a, b| a.0.cmp(b.0));
        out.into_iter().map(|(_, total)| total).collect()
    }

    fn reading_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tracked.len())
            .filter(|&at| self.tracked[at].is_active())
            .collect();
        order.sort_by(|&a, &b| {
            let key = |at: usize| (self.tracked[at].folder, &self.tracked[at].order);
            key(a).cmp(&key(b))
        });
        order
    }

    /// Whether a newer file has appeared beside it, in which Confluence goes on.
    ///
    /// A name is a claim. A file of a day that has not come is no successor: a clock that was far ahead has left it. Nor is one
    /// that was last written before this one, for this one grows.
    fn succeeded(&self, at: usize) -> bool {
        let this = &self.tracked[at];
        let written_ms = this.entry.mtime_ms;
        let old = self.now_ms.saturating_sub(written_ms) > GROWING_MAX_MS;
        self.newer_than(at)
            .any(|other| old || other.entry.mtime_ms >= written_ms)
    }

    /// The files beside it that are newer by what their names claim, but for those of days that have not come.
    fn newer_than(&self, at: usize) -> impl Iterator<Item = &Tracked> {
        let this = &self.tracked[at];
        self.tracked.iter().filter(move |other| {
            other.folder == this.folder
                && other.listed
                && other.order > this.order
                && !other.order.is_ahead(self.now_ms)
        })
    }
}
