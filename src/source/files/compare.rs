//! Compares files with what was read of them, whole: what has changed since at once, each other finished file once a day.
//!
//! It is done in small steps between reads. A daily one takes its time, and leaves nothing in the cache of a host that is not
//! the agent's.

use super::digest::Digest;
use super::tail::hole_at;
use super::tracked::Tracked;
use super::{Files, Turn, directory, name};
use crate::position::ReadDigest;
use rustix::fs::Advice;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const DAY_MS: u64 = 86_400_000;
const STEP_BYTES: usize = 1 << 20;
/// 10 MB/s: what Confluence keeps is compared in a quarter of an hour, at a small part of a core and of a disk.
const PAUSE: Duration = Duration::from_millis(100);
/// Until a file that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// A file that is being compared.
pub(super) struct Comparison {
    /// Of its entry.
    key: u32,
    epoch: u32,
    inode: (u64, u64),
    file: File,
    expected: ReadDigest,
    digest: Digest,
    /// It has changed, and is not merely due.
    urgent: bool,
}

enum ComparisonStep {
    More,
    Same,
    Other,
}

impl Files {
    /// Goes on with a comparison. Those that are merely due are left to a run that lasts.
    pub(super) fn compare(&mut self, now: Instant, now_ms: i64, once: bool) -> Turn {
        if let Some(at) = self.compare_at.filter(|at| now < *at) {
            return if self.comparison.is_some() {
                Turn::Until(at)
            } else {
                Turn::Idle
            };
        }
        self.compare_at = None;
        let mut comparison = match self.comparison.take() {
            Some(comparison) => comparison,
            None => {
                let Some(at) = self.next_to_compare(now, now_ms, once) else {
                    return Turn::Idle;
                };
                match self.begin_comparison(at) {
                    Ok(comparison) => comparison,
                    Err(error) => return self.not_compared(at, now, &error),
                }
            }
        };
        let key = comparison.key;
        let current = |t: &Tracked| t.entry.key == key && comparison.is_of(t);
        let Some(at) = self.tracked.iter().position(current) else {
            return Turn::More;
        };
        let path = self.tracked[at].path.clone();
        match comparison.step() {
            Ok(ComparisonStep::More) if comparison.urgent => {
                self.comparison = Some(comparison);
                Turn::More
            }
            Ok(ComparisonStep::More) => {
                self.comparison = Some(comparison);
                self.compare_at = Some(now + PAUSE);
                Turn::Until(now + PAUSE)
            }
            Ok(ComparisonStep::Same) => {
                let tracked = &mut self.tracked[at];
                (tracked.entry.compared_ms, tracked.changed) = (now_ms, true);
                tracing::debug!(source = self.source, path, "audit file holds what was read of it");
                Turn::More
            }
            Ok(ComparisonStep::Other) => {
                let size = comparison.file.metadata().map_or(0, |metadata| metadata.len());
                self.restart(at, size);
                Turn::More
            }
            Err(error) => self.not_compared(at, now, &error),
        }
    }

    /// What it is, reading tells. The other files have their turns meanwhile.
    fn not_compared(&mut self, at: usize, now: Instant, error: &io::Error) -> Turn {
        let tracked = &mut self.tracked[at];
        tracked.compare_after = Some(now + RETRY);
        tracing::debug!(
            source = self.source,
            path = tracked.path,
            %error,
            "audit file cannot be compared with what was read of it; tried again"
        );
        Turn::More
    }

    /// A file that has changed, or else one that is due.
    fn next_to_compare(&self, now: Instant, now_ms: i64, once: bool) -> Option<usize> {
        let can_be =
            |t: &Tracked| t.listed && t.is_covered() && t.compare_after.is_none_or(|after| after <= now);
        let changed = |t: &Tracked| t.entry.compared_ms < 0 && can_be(t);
        let is_old = |t: &Tracked| now_ms.abs_diff(t.entry.compared_ms) >= DAY_MS;
        let due = |t: &Tracked| !once && t.entry.finished && is_old(t) && can_be(t);
        let next = self.tracked.iter().position(changed);
        next.or_else(|| self.tracked.iter().position(due))
    }

    fn begin_comparison(&self, at: usize) -> io::Result<Comparison> {
        let Tracked { entry, folder, .. } = &self.tracked[at];
        let (Some(directory), Some(expected)) = (&self.folders[*folder].open, entry.digest) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let file = directory.open_file(name::of(&entry.path))?;
        let (seen, _) = directory::look(&file, &entry.path)?;
        if (seen.dev, seen.ino) != (entry.dev, entry.ino) {
            // Replaced since the sweep.
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Comparison {
            key: entry.key,
            epoch: entry.epoch,
            inode: (seen.dev, seen.ino),
            file,
            expected,
            digest: Digest::new(expected.key, expected.from),
            urgent: entry.compared_ms < 0,
        })
    }
}

impl Comparison {
    /// Whether it is still of what the entry says.
    fn is_of(&self, tracked: &Tracked) -> bool {
        let entry = &tracked.entry;
        entry.epoch == self.epoch && (entry.dev, entry.ino) == self.inode
    }

    fn step(&mut self) -> io::Result<ComparisonStep> {
        let at = self.digest.at();
        let left = self.expected.to - at;
        if let Some(hole) = hole_at(&self.file, at)?.filter(|_| left > 0) {
            self.digest.feed_zeros(hole.min(left));
        } else {
            let mut bytes = vec![0; left.min(STEP_BYTES as u64) as usize];
            match self.file.read_exact_at(&mut bytes, at) {
                Ok(()) => self.digest.feed(&bytes),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(ComparisonStep::Other);
                }
                Err(error) => return Err(error),
            }
            if !self.urgent {
                let length = NonZeroU64::new(bytes.len() as u64);
                // Advice, and taken as such.
                let _ = rustix::fs::fadvise(&self.file, at, length, Advice::DontNeed);
            }
        }
        Ok(if self.digest.at() < self.expected.to {
            ComparisonStep::More
        } else if self.digest.state() == self.expected {
            ComparisonStep::Same
        } else {
            ComparisonStep::Other
        })
    }
}
