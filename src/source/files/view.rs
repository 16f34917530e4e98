//! A directory that may be there, only not for this process: what a service sees of the file system is put together when it
//! starts, and a directory that is made anew or made later is not in it. Another process will see it.

use super::Files;
use rustix::fs::StatVfsMountFlags;
use std::path::Path;
use std::time::{Duration, Instant};

/// So long a directory is waited for that an empty read-only file system hides, before another process is to look. It may not be
/// there at all.
const HIDDEN_MAX: Duration = Duration::from_secs(60);
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: u64 = 0x0102_1994;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// As far as can be told, it shows what is there.
    Whole,
    /// A mount of a directory that was deleted.
    Dead,
    /// An empty file system in the place of what is there.
    Hidden,
}

impl Files {
    /// Whether another process may see what this one cannot.
    pub fn view_is_stale(&self, now: Instant) -> bool {
        self.view_ends.is_some_and(|at| at <= now)
    }

    /// Takes note of directories that could not be opened.
    pub(super) fn judge_view(&mut self, missing: &[std::path::PathBuf], now: Instant) {
        let ends = missing.iter().filter_map(|dir| match view_of(dir) {
            View::Whole => None,
            View::Dead => Some(now),
            View::Hidden => Some(
                self.view_ends
                    .map_or(now + HIDDEN_MAX, |at| at.min(now + HIDDEN_MAX)),
            ),
        });
        self.view_ends = ends.min();
    }
}

/// Looks at the nearest directory above that can be reached.
fn view_of(missing: &Path) -> View {
    let mut up = missing.ancestors();
    let Some((path, stat)) = up.find_map(|path| Some((path, rustix::fs::stat(path).ok()?))) else {
        return View::Whole;
    };
    // What has a name has a link; only a mount can lead to what has none.
    if stat.st_nlink == 0 {
        return View::Dead;
    }
    let is_tmpfs = rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type as u64 == TMPFS);
    let is_read_only =
        rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    if path != missing && is_tmpfs && is_read_only {
        View::Hidden
    } else {
        View::Whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merely_missing_is_not_hidden() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(view_of(&dir.path().join("home/log/audit")), View::Whole);
        assert_eq!(view_of(dir.path()), View::Whole);
    }
}
