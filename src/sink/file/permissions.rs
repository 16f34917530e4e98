//! File mode and group of the output, for other readers than the agent. Also applied to rotated and
//! compressed files.

use super::open::open_existing;
use crate::access;
use crate::config::FileSinkConfig;
use crate::telemetry::escape::escape_path;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Mode and group of one output. Clones share whether an error was reported.
#[derive(Clone, Default)]
pub(super) struct OutputPermissions {
    mode: Option<u32>,
    group: Option<String>,
    reported: Arc<AtomicBool>,
}

impl OutputPermissions {
    pub(super) fn new(config: &FileSinkConfig) -> OutputPermissions {
        OutputPermissions { mode: config.mode, group: config.group.clone(), reported: Arc::default() }
    }

    /// Sets mode and group. If that fails, it is logged once and the file keeps its owner and mode. Events
    /// are written all the same.
    pub(super) fn apply(&self, file: &File, path: &Path) {
        match self.set(file) {
            Ok(()) => {}
            Err(_) if self.reported.swap(true, Ordering::Relaxed) => {}
            Err(reason) => tracing::error!(
                path = %escape_path(path),
                reason,
                "mode or group of the output cannot be set, so its readers may lack access; events are written all the same, and the next start retries it"
            ),
        }
    }

    /// Sets mode and group of an existing rotated file.
    pub(super) fn apply_to(&self, path: &Path) {
        if self.mode.is_none() && self.group.is_none() {
            return;
        }
        match open_existing(path) {
            Ok(file) => self.apply(&file, path),
            // The file was deleted or compressed meanwhile, or is foreign.
            Err(error) => {
                tracing::debug!(path = %escape_path(path), %error, "mode and group of a rotated file were not set")
            }
        }
    }

    /// The group is set before the mode: otherwise the previous group could read the file.
    fn set(&self, file: &File) -> Result<(), String> {
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if let Some(group) = &self.group {
            let gid = access::group_id(group)
                .ok_or_else(|| format!("there is no group `{group}`; run: groupadd {group}"))?;
            if metadata.gid() != gid {
                rustix::fs::fchown(file, None, Some(rustix::fs::Gid::from_raw(gid)))
                    .map_err(|error| denied(group, gid, error.into()))?;
            }
        }
        match self.mode {
            Some(mode) if metadata.mode() & 0o7777 != mode => file
                .set_permissions(Permissions::from_mode(mode))
                .map_err(|error| format!("mode {mode:04o}: {error}")),
            _ => Ok(()),
        }
    }
}

fn denied(group: &str, gid: u32, error: io::Error) -> String {
    let user = access::user().name;
    if access::may_give_to(gid) {
        return format!(
            "group `{group}`: {error}; where the service's sandbox forbids it, add `PrivateUsers=no` and \
             `SystemCallFilter=fchown` by `systemctl edit`, as docs/sinks/file.md says"
        );
    }
    format!("`{user}` is not in group `{group}`; run: usermod -aG {group} {user}, and restart the agent")
}
