//! Content that was delivered already: of a copy of a known file, or of the same file compressed. Before a file is read on it
//! is compared with those that begin as it does and of which more was read; what they have brought is passed over.

use super::compressed::{Decompressor, Flaw, flaw};
use super::frame::FINGERPRINT_BYTES;
use super::name::Order;
use super::scan::{Proof, Rival, Scan, ScanStep, Whole};
use super::tail::{self, Content, Tail};
use super::tracked::Tracked;
use super::{Files, Turn, directory, name};
use crate::position::Fingerprint;
use crate::record::twins;
use std::fs::File;
use std::io;
use std::time::Instant;

/// So many files a file is compared with at once.
const RIVALS_MAX: usize = 4;

impl Files {
    /// Passes over what was delivered from another file, a block at a time. `None`: the file is to be read on where it is.
    pub(super) fn pass_known(
        &mut self,
        at: usize,
        now: Instant,
        now_ms: i64,
        once: bool,
    ) -> io::Result<Option<Turn>> {
        let scan = match self.tracked[at].scan.take() {
            Some(scan) => Ok(Some(scan)),
            None => self.begin_scan(at),
        };
        let mut scan = match scan {
            Ok(Some(scan)) => scan,
            Ok(None) => return Ok(None),
            Err(error) => return self.stream_failed(at, None, error, now, now_ms),
        };
        match scan.step() {
            Ok(ScanStep::More) => {
                let tracked = &mut self.tracked[at];
                (tracked.scan, tracked.contained) = (Some(scan), false);
                Ok(Some(Turn::More))
            }
            Ok(ScanStep::Done) => self.scan_done(at, scan),
            Ok(ScanStep::AtEnd) if self.tracked[at].compression.is_some() => self.stream_at_end(at, scan),
            Ok(ScanStep::AtEnd) => self.copy_at_end(at, scan, now, now_ms, once),
            Err(error) => self.stream_failed(at, Some(scan), error, now, now_ms),
        }
    }

    /// What the file is to be compared with; none if it can be read on as it is. A compressed one is always looked through from
    /// its beginning, up to where it was left.
    pub(super) fn begin_scan(&mut self, at: usize) -> io::Result<Option<Box<Scan>>> {
        let tracked = &self.tracked[at];
        let Some(how) = tracked.compression else {
            if !self.may_be_known(at) {
                return Ok(None);
            }
            let Some(file) = self.file_of(at)? else {
                return Ok(None);
            };
            let head = tail::bytes_before(&file, self.tracked[at].head_len(), FINGERPRINT_BYTES)?
                .unwrap_or_default();
            let rivals = self.rivals(at, &head);
            let scan = |rivals| Box::new(Scan::new(Content::Plain(file), rivals, 0));
            return Ok((!rivals.is_empty()).then(|| scan(rivals)));
        };
        if tracked.tail.is_some() {
            return Ok(None);
        }
        let Some(file) = self.file_of(at)? else {
            return Ok(None);
        };
        let head = Decompressor::open(file.try_clone()?, how)?.head()?;
        let mut rivals = self.rivals(at, &head);
        let tracked = &mut self.tracked[at];
        let entry = &mut tracked.entry;
        if entry.prefix.len == 0 {
            (entry.prefix, tracked.changed) = (Fingerprint::of(&head), true);
        }
        if entry.offset > 0 {
            rivals.push(Rival {
                key: entry.key,
                path: tracked.path.clone(),
                offset: entry.offset,
                // What was to be passed over was not read.
                proof: if entry.tail_fingerprint.len == 0 {
                    Proof::Done
                } else {
                    Proof::Fingerprint(entry.tail_fingerprint)
                },
                whole: Whole::of(entry),
            });
        }
        let stream = Content::Compressed(Decompressor::open(file, how)?);
        // What stands before the place where it is read on is told again to those who count twins.
        let keep = 2 * twins::WINDOW_BYTES as usize;
        Ok(Some(Box::new(Scan::new(stream, rivals, keep))))
    }

    /// Whether another file, of which more was read, may begin as this one does: no file is read to find out.
    fn may_be_known(&self, at: usize) -> bool {
        let tracked = &self.tracked[at];
        tracked.entry.size > tracked.read_offset()
            && (0..self.tracked.len()).any(|other| self.may_be_rival(at, other))
    }

    fn may_be_rival(&self, at: usize, other: usize) -> bool {
        let (tracked, other) = (&self.tracked[at], &self.tracked[other]);
        let (mine, theirs) = (tracked.entry.prefix, other.entry.prefix);
        let whole = FINGERPRINT_BYTES as u32;
        other.read_offset() > tracked.read_offset()
            && other.entry.key != tracked.entry.key
            && theirs.len > 0
            && (mine.len != whole || theirs.len != whole || mine.hash == theirs.hash)
            // What this file itself held before it was truncated is told again if it still stands there.
            && !(other.entry.is_replaced() && other.path == tracked.path)
            && !tracked.strangers.contains(&other.entry.key)
    }

    /// The files that begin as this one does, those first of which most was read.
    fn rivals(&mut self, at: usize, head: &[u8]) -> Vec<Rival> {
        self.tracked
            .iter_mut()
            .for_each(|tracked| tracked.note_position());
        // The newest of Confluence's own names is no copy: it may well begin with a record that is alike in everything.
        let is_named = matches!(self.tracked[at].order, Order::ByName { .. });
        let is_confluences = is_named && self.newer_than(at).next().is_none();
        let least = if is_confluences { FINGERPRINT_BYTES } else { 0 };
        if head.len() < least {
            return Vec::new();
        }
        let others: Vec<usize> = (0..self.tracked.len())
            .filter(|&other| self.may_be_rival(at, other))
            .collect();
        let mut rivals = Vec::new();
        for other in others {
            let entry = self.tracked[other].entry.clone();
            if entry.offset < least as u64 {
                continue;
            }
            let len = entry.prefix.len as usize;
            let plain = self.tracked[other].compression.is_none();
            let file = || {
                let file = plain.then(|| self.file_of(other).ok().flatten()).flatten()?;
                // One that was truncated meanwhile is known by its fingerprints only.
                let holds = |at, fingerprint| tail::holds(&file, at, fingerprint).unwrap_or(false);
                (holds(u64::from(entry.prefix.len), entry.prefix)
                    && holds(entry.offset, entry.tail_fingerprint))
                .then_some(file)
            };
            let begins_alike = match head.get(..len) {
                Some(head) => Fingerprint::of(head) == entry.prefix,
                // Less than a line says nothing, for all records begin alike.
                None if !head.contains(&b'\n') => continue,
                None => match file()
                    .and_then(|file| tail::bytes_before(&file, head.len() as u64, head.len()).ok())
                {
                    Some(theirs) => theirs.is_some_and(|theirs| theirs == head),
                    None => continue,
                },
            };
            if !begins_alike {
                self.tracked[at].strangers.push(entry.key);
                continue;
            }
            let proof = match file() {
                Some(file) => Proof::File(file, entry.tail_fingerprint),
                None if entry.tail_fingerprint.len > 0 => Proof::Fingerprint(entry.tail_fingerprint),
                None => continue,
            };
            rivals.push(Rival {
                key: entry.key,
                path: self.tracked[other].path.clone(),
                offset: entry.offset,
                proof,
                whole: Whole::of(&entry),
            });
        }
        rivals.sort_by_key(|rival| std::cmp::Reverse(rival.offset));
        rivals.truncate(RIVALS_MAX);
        rivals
    }

    /// The file of an entry, if it is there.
    pub(super) fn file_of(&self, at: usize) -> io::Result<Option<File>> {
        let tracked = &self.tracked[at];
        if let Some(tail) = &tracked.tail {
            return tail.file().try_clone().map(Some);
        }
        let Some(folder) = self.folders[tracked.folder]
            .open
            .as_ref()
            .filter(|_| tracked.listed)
        else {
            return Ok(None);
        };
        let file = folder.open_file(name::of(&tracked.entry.path))?;
        let (seen, _) = directory::look(&file, &tracked.entry.path)?;
        // Else it was replaced since the sweep.
        Ok(((seen.dev, seen.ino) == (tracked.entry.dev, tracked.entry.ino)).then_some(file))
    }

    /// Goes on behind what is known.
    fn scan_done(&mut self, at: usize, mut scan: Box<Scan>) -> io::Result<Option<Turn>> {
        let (key, size) = (self.tracked[at].entry.key, self.tracked[at].entry.size);
        let rewritten = scan.rejected.contains(&key);
        self.tracked[at].strangers.append(&mut scan.rejected);
        if rewritten {
            self.restart(at, size);
            return Ok(Some(Turn::More));
        }
        let known = scan.known();
        if let Content::Compressed(_) = scan.content {
            self.open_stream(at, *scan)?;
            return Ok(Some(Turn::More));
        }
        if known <= self.tracked[at].read_offset() {
            return Ok(None);
        }
        self.report_copy(at, &scan);
        self.go_to(at, known, scan.content.file())?;
        Ok(Some(Turn::More))
    }

    /// Reads a compressed file on behind what is known; what is behind that already has to be read once more.
    fn open_stream(&mut self, at: usize, scan: Scan) -> io::Result<()> {
        let tracked = &mut self.tracked[at];
        let known = scan.known();
        if known != scan.at() {
            tracked.scan = Some(Box::new(scan.again(tracked.entry.key, &tracked.path)?));
            return Ok(());
        }
        if known > tracked.entry.offset {
            self.report_copy(at, &scan);
        }
        let tracked = &mut self.tracked[at];
        let recent = scan.recent().to_vec();
        let Content::Compressed(stream) = scan.content else {
            return Ok(());
        };
        let tail = Tail::of_stream(stream, &recent, self.config.record_bytes_max);
        if !self.folders[tracked.folder].begun {
            tracked.before = recent;
        }
        tracked.tail = Some(tail);
        tracked.changed = true;
        tracked.note_position();
        Ok(())
    }

    /// Moves the position of a file that is not compressed.
    fn go_to(&mut self, at: usize, offset: u64, file: &File) -> io::Result<()> {
        let head = offset.min(FINGERPRINT_BYTES as u64);
        let before = tail::bytes_before(file, offset, FINGERPRINT_BYTES)?;
        let first = tail::bytes_before(file, head, FINGERPRINT_BYTES)?;
        let (Some(before), Some(first)) = (before, first) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let tracked = &mut self.tracked[at];
        (tracked.tail, tracked.changed) = (None, true);
        let entry = &mut tracked.entry;
        // A digest is of what was read here.
        entry.digest = None;
        (entry.offset, entry.tail_fingerprint, entry.prefix) =
            (offset, Fingerprint::of(&before), Fingerprint::of(&first));
        Ok(())
    }

    pub(super) fn report_copy(&self, at: usize, scan: &Scan) {
        let original = scan.original().unwrap_or_default();
        let path = &self.tracked[at].path;
        if original != path {
            tracing::info!(
                source = self.source,
                path,
                original,
                bytes = scan.known(),
                "the file begins with content that was delivered from another file; only what follows it is read"
            );
        }
    }

    /// The file ends, and what it holds is the beginning of another one, as far as can be told: it may be a copy that is not
    /// whole yet.
    fn copy_at_end(
        &mut self,
        at: usize,
        mut scan: Box<Scan>,
        now: Instant,
        now_ms: i64,
        once: bool,
    ) -> io::Result<Option<Turn>> {
        let succeeded = self.succeeded(at);
        let tracked = &mut self.tracked[at];
        let (seen, names) = directory::look(scan.content.file(), &tracked.entry.path)?;
        if (seen.size, seen.mtime_ms) != (tracked.entry.size, tracked.entry.mtime_ms) {
            (tracked.entry.size, tracked.entry.mtime_ms) = (seen.size, seen.mtime_ms);
            tracked.quiet_since = None;
        }
        if seen.size != scan.at() {
            // It has grown; or it was truncated, and will be compared when it is opened.
            tracked.scan = (seen.size > scan.at()).then_some(scan);
            tracked.tail = tracked.tail.take().filter(|_| tracked.scan.is_some());
            return Ok(Some(Turn::More));
        }
        let grace = self.config.rotate_grace;
        let since = *tracked.quiet_since.get_or_insert(now);
        let quiet = now_ms - seen.mtime_ms >= grace.as_millis() as i64 || now.duration_since(since) >= grace;
        if !scan.is_contained() {
            if quiet || once {
                // Its original is gone: what of it was delivered cannot be told. Its events get the ids that they had.
                scan.reject_rest();
                tracked.alone = true;
                return self.scan_done(at, scan);
            }
            tracked.scan = Some(scan);
            return Ok(Some(Turn::Until(since + grace)));
        }
        let (listed, known) = (tracked.listed, scan.line_end());
        if known > tracked.read_offset() {
            let file = scan.content.file().try_clone()?;
            self.go_to(at, known, &file)?;
        }
        let tracked = &mut self.tracked[at];
        let may_grow = listed && names > 0 && !succeeded;
        if quiet && (!may_grow || known == seen.size) {
            // The rest is the beginning of a record that the other file has whole.
            scan.all_is_known();
            self.report_copy(at, &scan);
            let file = scan.content.file().try_clone()?;
            self.go_to(at, seen.size, &file)?;
            self.tracked[at].entry.finished = !may_grow;
            return Ok(Some(if may_grow { Turn::Idle } else { Turn::More }));
        }
        (tracked.scan, tracked.contained) = (Some(scan), true);
        Ok(Some(if may_grow {
            Turn::Idle
        } else {
            Turn::Until(since + grace)
        }))
    }

    /// Whether the bytes that wait for the end of their record stand in another file too, which is read on or has brought them.
    pub(super) fn rest_is_of_another(&self, at: usize) -> bool {
        let tracked = &self.tracked[at];
        let Some(tail) = &tracked.tail else { return false };
        let (from, to, rest) = (
            tail.framer.boundary(),
            tail.framer.read_offset(),
            tail.framer.waiting(),
        );
        if rest.is_empty() || from == 0 {
            return false;
        }
        let (prefix, tail_fingerprint) = (
            tracked.entry.prefix,
            Fingerprint::of(tail.framer.tail_fingerprint()),
        );
        let may_be = |other: &usize| {
            let Tracked {
                entry, compression, ..
            } = &self.tracked[*other];
            // One that was finished before these bytes has left them to this one.
            let brings = if entry.finished {
                entry.offset >= to
            } else {
                self.tracked[*other].read_offset() >= from
            };
            entry.key != tracked.entry.key && compression.is_none() && entry.size >= to && brings
        };
        let alike = |other: usize| {
            let Ok(Some(file)) = self.file_of(other) else {
                return false;
            };
            let holds = |at, fingerprint| tail::holds(&file, at, fingerprint).unwrap_or(false);
            holds(u64::from(prefix.len), prefix)
                && holds(from, tail_fingerprint)
                && tail::bytes_before(&file, to, rest.len())
                    .is_ok_and(|theirs| theirs.as_deref() == Some(rest))
        };
        (0..self.tracked.len()).filter(may_be).any(alike)
    }

    /// All of the stream was compared, and it is no longer than what others hold.
    fn stream_at_end(&mut self, at: usize, mut scan: Box<Scan>) -> io::Result<Option<Turn>> {
        let key = self.tracked[at].entry.key;
        if scan.rivals.iter().any(|rival| rival.key == key) {
            // It holds less than was read of it.
            let size = self.tracked[at].entry.size;
            self.restart(at, size);
            return Ok(Some(Turn::More));
        }
        if !scan.is_contained() {
            scan.reject_rest();
            self.tracked[at].alone = true;
            return self.scan_done(at, scan);
        }
        scan.all_is_known();
        self.report_copy(at, &scan);
        let tracked = &mut self.tracked[at];
        let recent = scan.recent();
        let tail_fingerprint = &recent[recent.len().saturating_sub(FINGERPRINT_BYTES)..];
        (tracked.entry.offset, tracked.entry.tail_fingerprint) =
            (scan.at(), Fingerprint::of(tail_fingerprint));
        tracked.entry.digest = None;
        (tracked.entry.finished, tracked.changed) = (true, true);
        Ok(Some(Turn::More))
    }

    /// A stream that ends too early is waited for, one that is damaged is given up; other errors are those of reading a file.
    pub(super) fn stream_failed(
        &mut self,
        at: usize,
        scan: Option<Box<Scan>>,
        error: io::Error,
        now: Instant,
        now_ms: i64,
    ) -> io::Result<Option<Turn>> {
        let key = self.tracked[at].entry.key;
        match flaw(&error).filter(|_| self.tracked[at].compression.is_some()) {
            None => return Err(error),
            Some(Flaw::CutOff) => self.cut_off(at, now),
            Some(Flaw::Damaged) => match scan {
                // What stands before the damage may be new.
                Some(mut scan)
                    if !self.original_is_known(at)
                        && !scan.is_contained()
                        && scan.rivals.iter().all(|rival| rival.key != key) =>
                {
                    scan.reject_rest();
                    return self.scan_done(at, scan);
                }
                _ => self.give_up(at, now_ms, &format!("the compressed file is damaged ({error})")),
            },
        }
        Ok(Some(Turn::More))
    }
}
