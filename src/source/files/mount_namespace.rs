//! Detects directories that exist but are not visible to this process.
//!
//! systemd builds a service's mount namespace when the service starts. A directory that is created or recreated later
//! is not in it. A new process sees it.

use super::AuditFiles;
use rustix::fs::StatVfsMountFlags;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for a directory that an empty read-only file system hides, before a new process tries. The
/// directory may not exist at all.
const HIDDEN_MAX: Duration = Duration::from_secs(60);
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: u64 = 0x0102_1994;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MountNamespace {
    /// The file system is visible as it is, as far as can be determined.
    Current,
    Deleted,
    /// An empty file system hides the directory.
    Hidden,
}

impl AuditFiles {
    /// Whether a new process may see what this one cannot.
    pub fn mount_namespace_is_stale(&self, now: Instant) -> bool {
        self.stale_namespace_at.is_some_and(|at| at <= now)
    }

    /// Checks the directories that could not be opened.
    pub(super) fn check_mount_namespace(&mut self, missing: &[std::path::PathBuf], now: Instant) {
        let ends = missing.iter().filter_map(|dir| match mount_namespace(dir) {
            MountNamespace::Current => None,
            MountNamespace::Deleted => Some(now),
            MountNamespace::Hidden => {
                Some(self.stale_namespace_at.map_or(now + HIDDEN_MAX, |at| at.min(now + HIDDEN_MAX)))
            }
        });
        self.stale_namespace_at = ends.min();
    }
}

/// Examines the nearest parent directory that can be reached.
fn mount_namespace(missing: &Path) -> MountNamespace {
    let mut up = missing.ancestors();
    let Some((path, stat)) = up.find_map(|path| Some((path, rustix::fs::stat(path).ok()?))) else {
        return MountNamespace::Current;
    };
    // A directory with a name has at least one link. Only a mount leads to one without.
    if stat.st_nlink == 0 {
        return MountNamespace::Deleted;
    }
    let is_tmpfs = rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type as u64 == TMPFS);
    let is_read_only =
        rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    if path != missing && is_tmpfs && is_read_only { MountNamespace::Hidden } else { MountNamespace::Current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merely_missing_is_not_hidden() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(mount_namespace(&dir.path().join("home/log/audit")), MountNamespace::Current);
        assert_eq!(mount_namespace(dir.path()), MountNamespace::Current);
    }
}
