//! Read failures are retried and reported. Losses are recorded.

use super::AuditFiles;
use super::name::display_path;
use super::tracked::Retry;
use crate::access;
use crate::metrics::LossClass;
use crate::position::Loss;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// After this many consecutive failures the source is unhealthy.
const READ_ERRORS_UNHEALTHY: u32 = 3;
const READ_RETRY_MAX: Duration = Duration::from_secs(30);

/// Why a part of a file is lost: its class, and a message.
pub(super) struct LossReason<'a>(pub(super) LossClass, pub(super) &'a str);

/// Error message for a file that cannot be read.
pub(crate) fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("cannot read `{}`: {error}", display_path(path))
}

impl AuditFiles {
    /// Updates the metrics of what is not read yet.
    pub fn measure_backlog(&self) {
        let unread =
            self.tracked.iter().filter(|tracked| !tracked.entry.finished && tracked.unread_bytes() > 0);
        let (mut files, mut bytes) = (self.unidentified.len() as u64, 0);
        for tracked in unread {
            files += 1;
            bytes += tracked.unread_bytes();
        }
        self.metrics.backlog_files.set(files as i64);
        self.metrics.backlog_bytes.set(bytes as i64);
    }

    pub(super) fn read_failed(&mut self, index: usize, now: Instant, error: io::Error) -> Instant {
        let tracked = &mut self.tracked[index];
        let failures = tracked.retry.as_ref().map_or(0, |retry| retry.failures) + 1;
        let pause = Duration::from_millis(50 << failures.min(10)).min(READ_RETRY_MAX);
        tracked.retry = Some(Retry { at: now + pause, failures });
        let path = tracked.entry.path.clone();
        self.report_failure(&path, failures, &error);
        now + pause
    }

    /// `failures`: consecutive failures, this one included.
    pub(super) fn report_failure(&mut self, path: &Path, failures: u32, error: &io::Error) {
        let out_of_descriptors = matches!(error.raw_os_error(), Some(code)
            if code == rustix::io::Errno::MFILE.raw_os_error() || code == rustix::io::Errno::NFILE.raw_os_error());
        if error.kind() == io::ErrorKind::PermissionDenied {
            self.set_unhealthy(access::denied_message(path));
        } else if error.kind() == io::ErrorKind::NotFound {
            // Renamed or deleted: the next sweep finds out.
        } else if failures == READ_ERRORS_UNHEALTHY {
            self.set_unhealthy(if out_of_descriptors {
                "no file descriptor is free; audit files wait (raise `LimitNOFILE`)".to_owned()
            } else {
                cannot_read(path, error)
            });
        } else if out_of_descriptors {
            tracing::warn!(
                source = self.source,
                path = display_path(path),
                "no file descriptor is free; the file waits (raise `LimitNOFILE`)"
            );
        } else {
            let path = display_path(path);
            tracing::warn!(source = self.source, path, %error, failures, "read failed; it is retried");
        }
    }

    pub(super) fn set_unhealthy(&mut self, what: String) {
        if self.health.as_deref() != Some(what.as_str()) {
            tracing::error!(source = self.source, "{what}");
            self.health = Some(what);
        }
    }

    pub(super) fn record_loss(
        &mut self,
        at_ms: i64,
        path: &Path,
        from: u64,
        bytes: u64,
        reason: LossReason<'_>,
    ) {
        let LossReason(class, reason) = reason;
        self.metrics.count_loss(class, bytes);
        if bytes > 0 {
            tracing::error!(
                source = self.source,
                path = display_path(path),
                from,
                bytes,
                reason,
                "audit records are lost"
            );
        } else {
            tracing::warn!(
                source = self.source,
                path = display_path(path),
                from,
                reason,
                "audit records may be lost"
            );
        }
        let tracked = self.tracked.iter().rev().find(|tracked| tracked.entry.path == path);
        self.pending_progress.losses.push(Loss {
            file: tracked.map_or(0, |tracked| tracked.entry.key),
            at_ms,
            path: path.to_owned(),
            from,
            to: from + bytes,
            reason: reason.to_owned(),
        });
    }
}
