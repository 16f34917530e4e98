//! Compares files with the digest of what was read from them: a changed file at once, every other finished file once
//! a day.
//!
//! The work is done in small steps between reads. The daily comparison is throttled, and drops what it read from the
//! host's page cache.

use super::digest::Digest;
use super::tail::hole_at;
use super::tracked::Tracked;
use super::{AuditFiles, ReadStatus, directory, name};
use crate::position::ReadDigest;
use rustix::fs::Advice;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const DAY_MS: u64 = 86_400_000;
const STEP_BYTES: usize = 1 << 20;
/// Limits the daily comparison to 10 MB/s. What Confluence retains takes a quarter of an hour, and little CPU and
/// disk time.
const PAUSE: Duration = Duration::from_millis(100);
/// Delay before a file that could not be read is compared again.
const RETRY: Duration = Duration::from_secs(60);

/// A comparison in progress.
pub(super) struct Comparison {
    /// Key of the file's entry.
    key: u32,
    epoch: u32,
    inode: (u64, u64),
    file: File,
    expected: ReadDigest,
    digest: Digest,
    /// The file has changed; it is not only the daily comparison.
    urgent: bool,
}

enum ComparisonStep {
    More,
    Same,
    Different,
}

impl AuditFiles {
    /// Runs one step of a comparison. Daily comparisons are not done with `once`.
    pub(super) fn compare(&mut self, now: Instant, now_ms: i64, once: bool) -> ReadStatus {
        if let Some(at) = self.compare_at.filter(|at| now < *at) {
            return if self.comparison.is_some() { ReadStatus::IdleUntil(at) } else { ReadStatus::Idle };
        }
        self.compare_at = None;
        let mut comparison = match self.comparison.take() {
            Some(comparison) => comparison,
            None => {
                let Some(index) = self.next_to_compare(now, now_ms, once) else {
                    return ReadStatus::Idle;
                };
                match self.begin_comparison(index) {
                    Ok(comparison) => comparison,
                    Err(error) => return self.comparison_failed(index, now, &error),
                }
            }
        };
        let key = comparison.key;
        let current = |t: &Tracked| t.entry.key == key && comparison.is_of(t);
        let Some(index) = self.tracked.iter().position(current) else {
            return ReadStatus::More;
        };
        let path = self.tracked[index].path.clone();
        match comparison.step() {
            Ok(ComparisonStep::More) if comparison.urgent => {
                self.comparison = Some(comparison);
                ReadStatus::More
            }
            Ok(ComparisonStep::More) => {
                self.comparison = Some(comparison);
                self.compare_at = Some(now + PAUSE);
                ReadStatus::IdleUntil(now + PAUSE)
            }
            Ok(ComparisonStep::Same) => {
                let tracked = &mut self.tracked[index];
                (tracked.entry.compared_ms, tracked.changed) = (now_ms, true);
                tracing::debug!(source = self.source, path, "audit file is unchanged");
                ReadStatus::More
            }
            Ok(ComparisonStep::Different) => {
                let size = comparison.file.metadata().map_or(0, |metadata| metadata.len());
                self.restart(index, size);
                ReadStatus::More
            }
            Err(error) => self.comparison_failed(index, now, &error),
        }
    }

    /// The comparison is retried later. Reading the file reports the cause.
    fn comparison_failed(&mut self, index: usize, now: Instant, error: &io::Error) -> ReadStatus {
        let tracked = &mut self.tracked[index];
        tracked.compare_after = Some(now + RETRY);
        tracing::debug!(
            source = self.source,
            path = tracked.path,
            %error,
            "comparison of the audit file with its digest failed; it is retried"
        );
        ReadStatus::More
    }

    /// The next file to compare: a changed one, else one whose daily comparison is due.
    fn next_to_compare(&self, now: Instant, now_ms: i64, once: bool) -> Option<usize> {
        let can_be =
            |t: &Tracked| t.listed && t.has_digest() && t.compare_after.is_none_or(|after| after <= now);
        let changed = |t: &Tracked| t.entry.compared_ms < 0 && can_be(t);
        let is_old = |t: &Tracked| now_ms.abs_diff(t.entry.compared_ms) >= DAY_MS;
        let due = |t: &Tracked| !once && t.entry.finished && is_old(t) && can_be(t);
        let next = self.tracked.iter().position(changed);
        next.or_else(|| self.tracked.iter().position(due))
    }

    fn begin_comparison(&self, index: usize) -> io::Result<Comparison> {
        let Tracked { entry, directory, .. } = &self.tracked[index];
        let (Some(opened), Some(expected)) = (&self.directories[*directory].open, entry.digest) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let file = opened.open_file(name::file_name(&entry.path))?;
        let (observed, _) = directory::observe(&file, &entry.path)?;
        if (observed.dev, observed.ino) != (entry.dev, entry.ino) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Comparison {
            key: entry.key,
            epoch: entry.epoch,
            inode: (observed.dev, observed.ino),
            file,
            expected,
            digest: Digest::new(expected.key, expected.from),
            urgent: entry.compared_ms < 0,
        })
    }
}

impl Comparison {
    /// Whether the entry still describes the compared file.
    fn is_of(&self, tracked: &Tracked) -> bool {
        let entry = &tracked.entry;
        entry.epoch == self.epoch && (entry.dev, entry.ino) == self.inode
    }

    fn step(&mut self) -> io::Result<ComparisonStep> {
        let at = self.digest.offset();
        let left = self.expected.to - at;
        if let Some(hole) = hole_at(&self.file, at)?.filter(|_| left > 0) {
            self.digest.feed_zeros(hole.min(left));
        } else {
            let mut bytes = vec![0; left.min(STEP_BYTES as u64) as usize];
            match self.file.read_exact_at(&mut bytes, at) {
                Ok(()) => self.digest.feed(&bytes),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(ComparisonStep::Different);
                }
                Err(error) => return Err(error),
            }
            if !self.urgent {
                let length = NonZeroU64::new(bytes.len() as u64);
                // An error is irrelevant: this is only advice to the kernel.
                let _ = rustix::fs::fadvise(&self.file, at, length, Advice::DontNeed);
            }
        }
        Ok(if self.digest.offset() < self.expected.to {
            ComparisonStep::More
        } else if self.digest.state() == self.expected {
            ComparisonStep::Same
        } else {
            ComparisonStep::Different
        })
    }
}
