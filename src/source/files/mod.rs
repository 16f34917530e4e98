//! Audit files of a Confluence node: found by sweeps, told apart by evidence, read in order, watched for rewriting.
//!
//! A source is driven from outside: [`Files::sweep`] looks at the directories, [`Files::read`] hands out the records of
//! one block, [`Files::progress`] says what a checkpoint may say once those records are delivered.

pub mod directory;
pub mod frame;
pub mod identity;
pub mod name;
mod sweep;
pub mod tail;
pub mod wake;

use crate::access;
use crate::config::FilesConfig;
use crate::position::{Evidence, FileEntry, Loss, Progress};
use directory::Directory;
use frame::{FRONTIER_BYTES, Frame};
use name::Order;
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tail::Tail;

/// After so many failed reads in a row it is no hiccup any more.
const READ_ERRORS_TOLD: u32 = 3;
const READ_RETRY_MAX: Duration = Duration::from_secs(30);

pub struct Files {
    config: FilesConfig,
    source: String,
    folders: Vec<Folder>,
    tracked: Vec<Tracked>,
    next_key: u32,
    /// Nothing was ever read: `start_at` decides where to begin.
    fresh: bool,
    pending: Progress,
    health: Option<String>,
    told: HashSet<String>,
    pub counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub truncations: u64,
    pub read_errors: u64,
    pub lost_bytes: u64,
}

/// A directory that is read. Its files are one sequence.
struct Folder {
    path: PathBuf,
    open: Option<Directory>,
    /// Bytes handed out so far: the measure for what stands close together.
    passed_bytes: u64,
    begun: bool,
}

struct Tracked {
    entry: FileEntry,
    folder: usize,
    order: Order,
    tail: Option<Tail>,
    /// Found by the last sweep of its folder.
    listed: bool,
    /// Since when it has been at its end and did not change.
    quiet_since: Option<Instant>,
    deleted_since: Option<Instant>,
    retry: Option<Retry>,
    skip_to_end: bool,
    changed: bool,
    /// The entry's path as text.
    path: String,
    path_json: String,
    /// Totals of this run, for its summary.
    records: u64,
    bytes: u64,
}

struct Retry {
    at: Instant,
    failures: u32,
}

/// Where a record was found.
pub struct Found<'a> {
    pub frame: Frame<'a>,
    /// The file's path as a JSON string.
    pub path_json: &'a str,
    /// Number of the folder, and where in its sequence the record stands.
    pub folder: usize,
    pub at: u64,
    /// The file ended here for good, without a line end.
    pub unterminated: bool,
    /// Delivered before: told again only so that what depends on the records before can be made again.
    pub replayed: bool,
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
            next_key,
            fresh,
            pending: Progress::default(),
            health: None,
            told: HashSet::new(),
            counts: Counts::default(),
        };
        for entry in entries {
            let folder = files.folder(entry.path.parent().unwrap_or(&entry.path));
            files.tracked.push(Tracked::new(entry, folder));
        }
        files
    }

    fn folder(&mut self, path: &std::path::Path) -> usize {
        if let Some(at) = self.folders.iter().position(|folder| folder.path == path) {
            return at;
        }
        self.folders.push(Folder {
            path: path.to_owned(),
            open: None,
            passed_bytes: 0,
            begun: false,
        });
        self.folders.len() - 1
    }

    /// Hands out the records of at most one block. `once`: this run will not wait for the end of a line in a file that
    /// was last written long ago.
    pub fn read(&mut self, now: Instant, now_ms: i64, once: bool, emit: &mut dyn FnMut(Found<'_>)) -> Turn {
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
        until.map_or(Turn::Idle, Turn::Until)
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

    /// The files that may still grow: the newest of each folder.
    pub fn live(&self) -> Vec<PathBuf> {
        (0..self.folders.len())
            .filter_map(|folder| {
                self.tracked
                    .iter()
                    .filter(|t| t.folder == folder && t.listed)
                    .max_by_key(|t| &t.order)
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
            && active.all(|t| t.retry.is_none() && (t.tail.is_some() || t.entry.offset == t.entry.size))
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

    fn read_one(
        &mut self,
        at: usize,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(Found<'_>),
    ) -> io::Result<Turn> {
        if self.tracked[at].tail.is_none() {
            // Closed to make room while it was waiting to be quiet for long enough; a sweep sees whether it grows.
            let tracked = &self.tracked[at];
            if let Some(since) = tracked.quiet_since
                && tracked.entry.offset == tracked.entry.size
                && now.duration_since(since) < self.config.rotate_grace
            {
                return Ok(Turn::Until(since + self.config.rotate_grace));
            }
            if !self.room_for_one_more() || !self.open(at)? {
                return Ok(Turn::Idle);
            }
            if let Err(error) = self.replay(at, emit) {
                self.tracked[at].tail = None;
                return Err(error);
            }
        }
        crate::failpoint::hit("read");
        let tracked = &mut self.tracked[at];
        let Some(tail) = &mut tracked.tail else {
            return Ok(Turn::Idle);
        };
        let look = tail.look(&tracked.path)?;
        if look.rewritten {
            self.restart(at, look.seen.size);
            return Ok(Turn::More);
        }
        if (look.seen.size, look.seen.mtime_ms) != (tracked.entry.size, tracked.entry.mtime_ms) {
            (tracked.entry.size, tracked.entry.mtime_ms) = (look.seen.size, look.seen.mtime_ms);
            tracked.quiet_since = None;
        }
        if tail.fill(self.config.read_bytes)? > 0 {
            tracked.quiet_since = None;
            self.folders[tracked.folder].passed_bytes +=
                tracked.hand_out(self.folders[tracked.folder].passed_bytes, emit);
            return Ok(Turn::More);
        }
        self.at_end(at, look.names, now, now_ms, once, emit)
    }

    /// The file has no more now; if nothing can follow, its rest is a record and it is finished.
    fn at_end(
        &mut self,
        at: usize,
        names: u64,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(Found<'_>),
    ) -> io::Result<Turn> {
        let succeeded = self.succeeded(at);
        let tracked = &mut self.tracked[at];
        let folder = tracked.folder;
        if !succeeded && names > 0 && tracked.listed {
            return Ok(Turn::Idle);
        }
        let since = *tracked.quiet_since.get_or_insert(now);
        let grace = self.config.rotate_grace;
        // What was last written long ago by the wall clock has been quiet already. A rest that may still get its end is
        // watched all the same, unless this run will not wait.
        let long_ago = now_ms - tracked.entry.mtime_ms >= grace.as_millis() as i64;
        let rest = tracked
            .tail
            .as_ref()
            .is_some_and(|tail| tail.framer.waiting_bytes() > 0);
        if !(long_ago && (once || !rest)) && now.duration_since(since) < grace {
            return Ok(Turn::Until(since + grace));
        }
        let Some(tail) = &mut tracked.tail else {
            return Ok(Turn::Idle);
        };
        let path_json = &tracked.path_json;
        let passed = self.folders[folder].passed_bytes;
        if let Some(frame) = tail.framer.last_frame() {
            emit(Found {
                frame,
                path_json,
                folder,
                at: passed,
                unterminated: true,
                replayed: false,
            });
            tracked.records += 1;
        }
        tracked.note_position();
        tracked.entry.finished = true;
        tracked.changed = true;
        tracked.tail = None;
        tracing::debug!(source = self.source, path = tracked.path, "audit file finished");
        Ok(Turn::More)
    }

    /// Opens the file where its entry says. `false`: it is not what the entry says; the next turn or sweep knows more.
    fn open(&mut self, at: usize) -> io::Result<bool> {
        let tracked = &mut self.tracked[at];
        let Some(folder) = &self.folders[tracked.folder].open else {
            return Ok(false);
        };
        let name = name::of(&tracked.path);
        let file = folder.open_file(name)?;
        let (seen, _) = directory::look(&file, &tracked.path)?;
        if (seen.dev, seen.ino) != (tracked.entry.dev, tracked.entry.ino) {
            // Replaced since the sweep.
            return Ok(false);
        }
        if std::mem::take(&mut tracked.skip_to_end) {
            tracked.entry.offset = tail::boundary_before(&file, seen.size)?;
            let before = tail::bytes_before(&file, tracked.entry.offset, FRONTIER_BYTES)?.unwrap_or_default();
            tracked.entry.frontier = Evidence::of(&before);
            tracked.changed = true;
        }
        let entry = &tracked.entry;
        tracked.tail = Tail::open(file, entry.offset, entry.frontier, self.config.record_bytes_max)?;
        if tracked.tail.is_none() {
            self.restart(at, seen.size);
            return self.open(at);
        }
        Ok(true)
    }

    /// What was read of the file is gone from it: it is a new file in the place of the old one.
    fn restart(&mut self, at: usize, size: u64) {
        let tracked = &mut self.tracked[at];
        let entry = &mut tracked.entry;
        self.counts.truncations += 1;
        tracing::warn!(
            source = self.source,
            path = tracked.path,
            offset = entry.offset,
            size_bytes = size,
            "audit file was truncated or rewritten; it is read from its beginning, and what was written between the last read and that is lost"
        );
        entry.epoch += 1;
        (entry.offset, entry.frontier, entry.prefix) = (0, Evidence::of(b""), Evidence::of(b""));
        (entry.size, entry.finished) = (size, false);
        (tracked.tail, tracked.quiet_since, tracked.changed) = (None, None, true);
    }

    /// Before the first record of a folder: tells the records just before it again, from the file itself and its predecessors.
    fn replay(&mut self, at: usize, emit: &mut dyn FnMut(Found<'_>)) -> io::Result<()> {
        let folder = self.tracked[at].folder;
        if self.folders[folder].begun {
            return Ok(());
        }
        let Some(directory) = &self.folders[folder].open else {
            return Ok(());
        };
        // Twice the window: lines count without their ends, so the same stretch is longer on the disk.
        let mut wanted = 2 * crate::record::twins::WINDOW_BYTES;
        let mut stretches = Vec::new();
        let mut before: Vec<usize> = (0..self.tracked.len())
            .filter(|&t| self.tracked[t].folder == folder && self.tracked[t].listed)
            .filter(|&t| self.tracked[t].entry.offset > 0)
            .collect();
        before.sort_by(|&a, &b| self.tracked[b].order.cmp(&self.tracked[a].order));
        for t in before {
            if wanted == 0 {
                break;
            }
            let entry = &self.tracked[t].entry;
            let file = match directory.open_file(name::of(&self.tracked[t].path)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let bytes = tail::bytes_before(&file, entry.offset, wanted as usize)?.unwrap_or_default();
            wanted -= bytes.len() as u64;
            stretches.push((t, bytes));
        }
        self.folders[folder].begun = true;
        for (t, bytes) in stretches.into_iter().rev() {
            let entry = &self.tracked[t].entry;
            let from = entry.offset - bytes.len() as u64;
            let whole = if from == 0 {
                0
            } else {
                memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |at| at + 1)
            };
            let mut framer = frame::Framer::new(from + whole as u64, b"", self.config.record_bytes_max);
            let path_json = &self.tracked[t].path_json;
            let passed = &mut self.folders[folder].passed_bytes;
            for piece in bytes[whole..].chunks(64 * 1024) {
                framer.room(piece.len())[..piece.len()].copy_from_slice(piece);
                framer.filled(piece.len());
                while let Some(frame) = framer.next_frame() {
                    let bytes = frame.bytes();
                    emit(Found {
                        frame,
                        path_json,
                        folder,
                        at: *passed,
                        unterminated: false,
                        replayed: true,
                    });
                    *passed += bytes;
                }
            }
        }
        Ok(())
    }

    fn read_failed(&mut self, at: usize, now: Instant, error: io::Error) -> Instant {
        self.counts.read_errors += 1;
        let tracked = &mut self.tracked[at];
        let failures = tracked.retry.as_ref().map_or(0, |retry| retry.failures) + 1;
        let pause = Duration::from_millis(50 << failures.min(10)).min(READ_RETRY_MAX);
        tracked.retry = Some(Retry {
            at: now + pause,
            failures,
        });
        let path = tracked.path.clone();
        let out_of_descriptors = matches!(error.raw_os_error(), Some(code)
            if code == rustix::io::Errno::MFILE.raw_os_error() || code == rustix::io::Errno::NFILE.raw_os_error());
        if out_of_descriptors {
            tracing::warn!(
                source = self.source,
                path,
                "no file descriptor is free; the file waits (raise `LimitNOFILE`)"
            );
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            self.trouble(access::why_denied(std::path::Path::new(&path)));
        } else if error.kind() != io::ErrorKind::NotFound {
            if failures == READ_ERRORS_TOLD {
                self.trouble(format!("cannot read `{path}`: {error}"));
            } else {
                tracing::warn!(source = self.source, path, %error, failures, "read failed; the same bytes are tried again");
            }
        }
        now + pause
    }

    fn trouble(&mut self, what: String) {
        if self.health.as_deref() != Some(what.as_str()) {
            tracing::error!(source = self.source, "{what}");
            self.health = Some(what);
        }
    }

    fn lose(&mut self, at_ms: i64, path: String, from: u64, bytes: u64, reason: &str) {
        self.counts.lost_bytes += bytes;
        tracing::error!(
            source = self.source,
            path,
            from,
            bytes,
            reason,
            "audit records are lost"
        );
        self.pending.losses.push(Loss {
            at_ms,
            path: path.into(),
            from,
            to: from + bytes,
            reason: reason.to_owned(),
        });
    }

    /// Whether another file may be opened. If need be one is closed that was read to its end: the rotated file that has
    /// been quiet for longest, or a live one, for there may be more directories than files that may be open.
    fn room_for_one_more(&mut self) -> bool {
        if self.open_tails() < self.config.open_files_max {
            return true;
        }
        let at_its_end = |t: &Tracked| {
            let Some(tail) = &t.tail else { return false };
            let read = tail.framer.waiting_bytes() == 0 && tail.framer.boundary() == t.entry.size;
            t.listed && read && t.retry.is_none()
        };
        let idle: Vec<usize> = (0..self.tracked.len())
            .filter(|&at| at_its_end(&self.tracked[at]))
            .collect();
        let (mut rotated, mut live): (Vec<usize>, Vec<usize>) =
            idle.into_iter().partition(|&at| self.succeeded(at));
        rotated.retain(|&at| self.tracked[at].quiet_since.is_some());
        rotated.sort_by_key(|&at| self.tracked[at].quiet_since);
        // The last, not the first: most of those that are looked at in turn stay open then.
        live.reverse();
        for at in rotated.into_iter().chain(live) {
            let tracked = &mut self.tracked[at];
            // Deleted since the last sweep: this descriptor is all that is left of it.
            let named = |tail: &mut Tail| tail.look(&tracked.path).is_ok_and(|look| look.names > 0);
            if tracked.tail.as_mut().is_some_and(named) {
                tracked.note_position();
                tracked.tail = None;
                return true;
            }
        }
        false
    }

    /// Whether a newer file has appeared beside it.
    fn succeeded(&self, at: usize) -> bool {
        let (folder, order) = (self.tracked[at].folder, &self.tracked[at].order);
        self.tracked
            .iter()
            .any(|other| other.folder == folder && other.listed && other.order > *order)
    }

    fn open_tails(&self) -> usize {
        self.tracked.iter().filter(|t| t.tail.is_some()).count()
    }
}

impl Tracked {
    fn new(entry: FileEntry, folder: usize) -> Tracked {
        let path = entry.path.to_string_lossy().into_owned();
        Tracked {
            order: Order::of(name::of(&path), entry.mtime_ms),
            path_json: serde_json::Value::from(path.as_str()).to_string(),
            path,
            folder,
            entry,
            tail: None,
            listed: false,
            quiet_since: None,
            deleted_since: None,
            retry: None,
            skip_to_end: false,
            changed: false,
            records: 0,
            bytes: 0,
        }
    }

    fn is_active(&self) -> bool {
        !self.entry.finished && (self.listed || self.tail.is_some())
    }

    /// Emits what is whole in the buffer; returns how many bytes of records that were.
    fn hand_out(&mut self, passed: u64, emit: &mut dyn FnMut(Found<'_>)) -> u64 {
        let Some(tail) = &mut self.tail else { return 0 };
        let (folder, path_json) = (self.folder, &self.path_json);
        let (mut handed_out, before) = (0, tail.framer.boundary());
        while let Some(frame) = tail.framer.next_frame() {
            let bytes = frame.bytes();
            emit(Found {
                frame,
                path_json,
                folder,
                at: passed + handed_out,
                unterminated: false,
                replayed: false,
            });
            handed_out += bytes;
            self.records += 1;
        }
        self.bytes += tail.framer.boundary() - before;
        self.changed |= tail.framer.boundary() > before;
        handed_out
    }

    /// Writes the reading position into the entry.
    fn note_position(&mut self) {
        let Some(tail) = &self.tail else { return };
        self.entry.offset = tail.framer.boundary();
        self.entry.frontier = Evidence::of(tail.framer.frontier());
        let prefix = self.entry.offset.min(FRONTIER_BYTES as u64);
        if u64::from(self.entry.prefix.len) < prefix
            && let Ok(evidence) = tail.prefix(prefix as usize)
        {
            self.entry.prefix = evidence;
        }
    }
}
