//! Who besides the agent may read the output: its files, rotated and compressed ones too, get the mode and group that
//! are
//! configured.

use super::output::open_existing;
use crate::access;
use crate::config::FileSinkConfig;
use crate::telemetry::escape::escape_path;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Of one output; clones share what has been reported.
#[derive(Clone, Default)]
pub struct Sharing {
    mode: Option<u32>,
    group: Option<String>,
    reported: Arc<AtomicBool>,
}

impl Sharing {
    pub fn new(config: &FileSinkConfig) -> Sharing {
        Sharing {
            mode: config.mode,
            group: config.group.clone(),
            reported: Arc::default(),
        }
    }

    /// Sets mode and group. Events do not depend on who reads them: where it cannot be done, that is reported once, and
    /// the file
    /// stays its owner's.
    pub fn apply(&self, file: &File, path: &Path) {
        match self.set(file) {
            Ok(()) => {}
            Err(_) if self.reported.swap(true, Ordering::Relaxed) => {}
            Err(problem) => tracing::error!(
                path = %escape_path(path),
                problem,
                "the output cannot be given to its readers; events are written all the same, and the next start tries it again"
            ),
        }
    }

    /// The same for files that are there, as far as they have another mode or group.
    pub fn apply_to(&self, path: &Path) {
        if self.mode.is_none() && self.group.is_none() {
            return;
        }
        match open_existing(path) {
            Ok(file) => self.apply(&file, path),
            // It is deleted or compressed meanwhile, or is none of ours.
            Err(error) => {
                tracing::debug!(path = %escape_path(path), %error, "a rotated output keeps its mode")
            }
        }
    }

    /// The group comes first: the one before it must not get a look.
    fn set(&self, file: &File) -> Result<(), String> {
        let found = file.metadata().map_err(|error| error.to_string())?;
        if let Some(group) = &self.group {
            let gid = access::group_id(group)
                .ok_or_else(|| format!("there is no group `{group}`; run: groupadd {group}"))?;
            if found.gid() != gid {
                rustix::fs::fchown(file, None, Some(rustix::fs::Gid::from_raw(gid)))
                    .map_err(|error| denied(group, gid, error.into()))?;
            }
        }
        match self.mode {
            Some(mode) if found.mode() & 0o7777 != mode => file
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
