//! Checks what the agent writes: its state and the files of sinks. Nothing is opened for writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::{CheckReport, access, files, format_name};
use crate::config::{FileSinkConfig, FormatKind, SourceConfig};
use crate::quarantine::Tally;
use crate::telemetry::escape::shell_word;

/// A running agent holds a lock on this file of the state directory.
const LOCK_FILE: &str = "lock";
/// Less free space is a warning: the state needs little, but must never fail.
const FREE_BYTES_MIN: u64 = 100 << 20;

pub(super) fn state_dir(dir: &Path, report: &mut CheckReport) -> io::Result<()> {
    let subject = "state";
    let (shown, text) = (dir.display(), dir.to_string_lossy());
    let quoted = shell_word(&text);
    let me = access::user();
    let metadata = match dir.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match creatable(dir) {
                Ok(_) => report.ok(subject, format_args!("`{shown}` will be created")),
                Err(problem) => {
                    let way_out = format!("create it: install -d -m 0700 -o {} {quoted}", me.name);
                    report.failure(subject, format_args!("`{shown}` cannot be created: {problem}; {way_out}"))
                }
            };
        }
        Err(_) => match access::reach(dir) {
            Err(problem) => return report.failure(subject, problem),
            Ok(()) => return report.failure(subject, format_args!("`{shown}` cannot be examined")),
        },
    };
    if !metadata.is_dir() {
        let what = if metadata.is_symlink() { "is a symbolic link" } else { "is not a directory" };
        return report
            .failure(subject, format_args!("`{shown}` {what}; name a directory of the agent's own"));
    }
    if metadata.uid() != me.uid {
        return report.failure(subject, access::belongs_to_other(dir, &metadata));
    }
    if let Err(problem) = access::allowed(dir, Access::WRITE_OK | Access::EXEC_OK) {
        return report.failure(subject, problem);
    }
    let mode = metadata.mode() & 0o777;
    let what = format!("`{shown}` is open to others (mode {mode:04o}); run: chmod 0700 {quoted}");
    if mode & 0o022 != 0 {
        return report.failure(subject, what);
    }
    if mode & 0o077 != 0 {
        report.warning(subject, what)?;
    }
    let running = if is_locked(dir) { "; in use by a running agent" } else { "" };
    free_space(subject, dir, &format!("`{shown}`{running}"), report)
}

/// Reports events in quarantine. An unreadable directory is reported by the check of the state.
pub(super) fn quarantine(state_dir: &Path, report: &mut CheckReport) -> io::Result<()> {
    let mut tally = Tally::default();
    let events = tally.count(state_dir).unwrap_or(0);
    for (path, error) in &tally.failed {
        let what = format!("`{}` cannot be examined: {error}", path.display());
        report.failure("quarantine", format_args!("{what}; it is ignored"))?;
    }
    if events == 0 {
        return Ok(());
    }
    let events = match events {
        1 => "1 event is".to_owned(),
        events => format!("{events} events are"),
    };
    let way_out = format!("see `{0} quarantine list`, then `{0} quarantine replay`", crate::NAME);
    report.warning("quarantine", format_args!("{events} kept that a server refuses; {way_out}"))
}

/// Whether a running agent holds the lock. If the lock cannot be examined: no.
pub(super) fn is_locked(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(LOCK_FILE)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// The nearest existing ancestor, if this user may create the missing directories in it.
fn creatable(path: &Path) -> Result<&Path, access::AccessProblem> {
    let existing = path.ancestors().skip(1).find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    access::reach(existing)?;
    access::allowed(existing, Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(existing)
}

pub(super) fn outputs(file: &FileSinkConfig, sources: &[SourceConfig]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = sources.iter().map(|source| file.path_for(&source.name)).collect();
    paths.dedup();
    paths
}

pub(super) fn output(
    subject: &str,
    path: &Path,
    format: FormatKind,
    report: &mut CheckReport,
) -> io::Result<()> {
    let shown = path.display();
    let dir = path.parent().unwrap_or(Path::new("/"));
    match access::reach(dir) {
        Ok(()) => {}
        // The agent creates it when it opens the output.
        Err(access::AccessProblem::Missing(_)) => {
            let what = format!("`{shown}`, {}, will be created with its directory", format_name(format));
            return match creatable(dir) {
                Ok(existing) => free_space(subject, existing, &what, report),
                Err(problem) => {
                    let quoted = dir.to_string_lossy();
                    let (user, quoted) = (access::user().name, shell_word(&quoted));
                    report.failure(
                        subject,
                        format_args!(
                            "`{shown}`: its directory cannot be created: {problem}; or run: install -d -o {user} {quoted}"
                        ),
                    )
                }
            };
        }
        Err(other) => return report.failure(subject, other),
    }
    // Rotating and creating need write permission for the directory, whether or not the file exists.
    if let Err(problem) = access::allowed(dir, Access::WRITE_OK | Access::EXEC_OK) {
        return report.failure(subject, problem);
    }
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => report.failure(
            subject,
            format_args!("`{shown}` is a symbolic link, which is not followed; name its target"),
        ),
        Ok(metadata) if !metadata.is_file() => {
            report.failure(subject, format_args!("`{shown}` is not a regular file; name another path"))
        }
        Ok(_) => match access::allowed(path, Access::WRITE_OK) {
            Ok(()) => free_space(subject, dir, &format!("`{shown}`, {}", format_name(format)), report),
            Err(problem) => report.failure(subject, problem),
        },
        Err(_) => {
            let what = format!("`{shown}`, {}, will be created", format_name(format));
            free_space(subject, dir, &what, report)
        }
    }
}

/// Reports who may read the output, and how many rotated files are kept.
pub(super) fn readers(
    subject: &str,
    path: &Path,
    file: &FileSinkConfig,
    report: &mut CheckReport,
) -> io::Result<()> {
    let mode = file.mode.unwrap_or(0o600);
    let kept = format!(
        "the newest {} rotated files are kept, older ones are deleted, read or not",
        file.rotated_files_max
    );
    let Some(group) = &file.group else {
        return report.ok(subject, format_args!("files get mode {mode:04o}; {kept}"));
    };
    let me = access::user().name;
    let Some(gid) = access::group_id(group) else {
        return report.failure(
            subject,
            format_args!("there is no group `{group}` for the files; run: groupadd {group}"),
        );
    };
    if !access::may_give_to(gid) {
        return report.failure(
            subject,
            format_args!(
                "`{me}` may not give files to group `{group}`; run: usermod -aG {group} {me}, and restart the agent"
            ),
        );
    }
    if let Some(dir) = access::closed_to_group(path, gid) {
        let shown = dir.display();
        report.warning(
            subject,
            format_args!(
                "group `{group}` may read the files, but not list `{shown}`; docs/sinks/file.md describes the fix"
            ),
        )?;
    }
    report.ok(subject, format_args!("files get mode {mode:04o} and group `{group}`; {kept}"))
}

fn free_space(subject: &str, dir: &Path, what: &str, report: &mut CheckReport) -> io::Result<()> {
    let free_bytes = match rustix::fs::statvfs(dir) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => return report.warning(subject, format_args!("{what}; free space is unknown: {error}")),
    };
    let free = files::human_size(free_bytes);
    if free_bytes < FREE_BYTES_MIN {
        let dir = dir.display();
        report.warning(subject, format_args!("{what}; only {free} are free in `{dir}`: free space"))
    } else {
        report.ok(subject, format_args!("{what}; {free} free"))
    }
}
