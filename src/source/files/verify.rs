//! Verifies files against the digest of what was read from them: a changed file at once, every other finished file once
//! a day.
//!
//! The work is done in small steps between reads. The daily verification is throttled, and drops what it read from the
//! host's page cache.

use super::digest::Digest;
use super::file_reader::hole_at;
use super::tracked::TrackedFile;
use super::{AuditFiles, ReadStatus, directory, name};
use crate::position::{ReadDigest, Verification};
use rustix::fs::Advice;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const DAY_MS: u64 = 86_400_000;
const STEP_BYTES: usize = 1 << 20;
/// Limits the daily verification to 10 MB/s. What Confluence retains takes a quarter of an hour, and little CPU and
/// disk time.
const PAUSE: Duration = Duration::from_millis(100);
/// Delay before a file that could not be read is checked again.
const RETRY: Duration = Duration::from_secs(60);

/// A verification in progress.
pub(super) struct RunningVerification {
    /// Key of the file's entry.
    key: u32,
    truncations: u32,
    inode: (u64, u64),
    file: File,
    expected: ReadDigest,
    digest: Digest,
    /// The file has changed; it is not only the daily verification.
    urgent: bool,
}

enum VerificationStep {
    More,
    Same,
    Different,
}

impl AuditFiles {
    /// Runs one step of a verification. Daily ones are not done with `once`.
    pub(super) fn verify(&mut self, now: Instant, now_ms: i64, once: bool) -> ReadStatus {
        if let Some(at) = self.verify_at.filter(|at| now < *at) {
            return if self.verification.is_some() { ReadStatus::IdleUntil(at) } else { ReadStatus::Idle };
        }
        self.verify_at = None;
        let mut verification = match self.verification.take() {
            Some(verification) => verification,
            None => {
                let Some(index) = self.next_to_verify(now, now_ms, once) else {
                    return ReadStatus::Idle;
                };
                match self.begin_verification(index) {
                    Ok(verification) => verification,
                    Err(error) => return self.verification_failed(index, now, &error),
                }
            }
        };
        let key = verification.key;
        let current = |t: &TrackedFile| t.entry.key == key && verification.is_of(t);
        let Some(index) = self.tracked.iter().position(current) else {
            return ReadStatus::More;
        };
        let path = self.tracked[index].path.clone();
        match verification.step() {
            Ok(VerificationStep::More) if verification.urgent => {
                self.verification = Some(verification);
                ReadStatus::More
            }
            Ok(VerificationStep::More) => {
                self.verification = Some(verification);
                self.verify_at = Some(now + PAUSE);
                ReadStatus::IdleUntil(now + PAUSE)
            }
            Ok(VerificationStep::Same) => {
                let tracked = &mut self.tracked[index];
                (tracked.entry.verification, tracked.changed) = (Verification::At(now_ms), true);
                tracing::debug!(source = self.source, path, "audit file is unchanged");
                ReadStatus::More
            }
            Ok(VerificationStep::Different) => {
                let size = verification.file.metadata().map_or(0, |metadata| metadata.len());
                self.handle_truncation(index, size);
                ReadStatus::More
            }
            Err(error) => self.verification_failed(index, now, &error),
        }
    }

    /// The verification is retried later. Reading the file reports the cause.
    fn verification_failed(&mut self, index: usize, now: Instant, error: &io::Error) -> ReadStatus {
        let tracked = &mut self.tracked[index];
        tracked.verify_after = Some(now + RETRY);
        tracing::debug!(
            source = self.source,
            path = tracked.path,
            %error,
            "verification of the audit file with its digest failed; it is retried"
        );
        ReadStatus::More
    }

    /// The next file to verify: a changed one, else one whose daily verification is due.
    fn next_to_verify(&self, now: Instant, now_ms: i64, once: bool) -> Option<usize> {
        let can_be =
            |t: &TrackedFile| t.listed && t.has_digest() && t.verify_after.is_none_or(|after| after <= now);
        let changed = |t: &TrackedFile| t.entry.verification == Verification::Requested && can_be(t);
        let is_old = |t: &TrackedFile| match t.entry.verification {
            Verification::At(at_ms) => now_ms.abs_diff(at_ms) >= DAY_MS,
            Verification::Never | Verification::Requested => true,
        };
        let due = |t: &TrackedFile| !once && t.entry.finished && is_old(t) && can_be(t);
        let next = self.tracked.iter().position(changed);
        next.or_else(|| self.tracked.iter().position(due))
    }

    fn begin_verification(&self, index: usize) -> io::Result<RunningVerification> {
        let TrackedFile { entry, directory, .. } = &self.tracked[index];
        let (Some(opened), Some(expected)) = (&self.directories[*directory].open, entry.digest) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let file = opened.open_file(name::file_name(&entry.path))?;
        let (observed, _) = directory::observe(&file, &entry.path)?;
        if (observed.dev, observed.ino) != (entry.dev, entry.ino) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(RunningVerification {
            key: entry.key,
            truncations: entry.truncations,
            inode: (observed.dev, observed.ino),
            file,
            expected,
            digest: Digest::new(expected.key, expected.from),
            urgent: entry.verification == Verification::Requested,
        })
    }
}

impl RunningVerification {
    /// Whether the entry still describes the verified file.
    fn is_of(&self, tracked: &TrackedFile) -> bool {
        let entry = &tracked.entry;
        entry.truncations == self.truncations && (entry.dev, entry.ino) == self.inode
    }

    fn step(&mut self) -> io::Result<VerificationStep> {
        let at = self.digest.offset();
        let left = self.expected.to - at;
        if let Some(hole) = hole_at(&self.file, at)?.filter(|_| left > 0) {
            self.digest.feed_zeros(hole.min(left));
        } else {
            let mut bytes = vec![0; left.min(STEP_BYTES as u64) as usize];
            match self.file.read_exact_at(&mut bytes, at) {
                Ok(()) => self.digest.feed(&bytes),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(VerificationStep::Different);
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
            VerificationStep::More
        } else if self.digest.state() == self.expected {
            VerificationStep::Same
        } else {
            VerificationStep::Different
        })
    }
}
