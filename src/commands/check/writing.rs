//! What the agent writes: its state and the files of sinks. Nothing is opened for writing here.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::{Report, access, files, format_name};
use crate::config::{FileSinkConfig, FormatKind, SourceConfig};
use crate::quarantine::Tally;

/// The running agent holds a lock on this file of the state directory.
const LOCK_FILE: &str = "lock";
/// Less free space than this is told: the state needs little, but it must not fail.
const FREE_BYTES_MIN: u64 = 100 << 20;

pub fn state_dir(dir: &Path, report: &mut Report) -> io::Result<()> {
    let subject = "state";
    let shown = dir.display();
    let me = access::user();
    let metadata = match dir.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match creatable(dir) {
                Ok(()) => report.ok(subject, format_args!("`{shown}` will be created")),
                Err(problem) => {
                    let way_out = format!("create it: install -d -m 0700 -o {} {shown}", me.name);
                    report.failure(
                        subject,
                        format_args!("`{shown}` cannot be created: {problem}; {way_out}"),
                    )
                }
            };
        }
        Err(_) => match access::reach(dir) {
            Err(problem) => return report.failure(subject, problem),
            Ok(()) => return report.failure(subject, format_args!("`{shown}` cannot be looked at")),
        },
    };
    if !metadata.is_dir() {
        let what = if metadata.is_symlink() {
            "is a symbolic link"
        } else {
            "is no directory"
        };
        return report.failure(
            subject,
            format_args!("`{shown}` {what}; name a directory of the agent's own"),
        );
    }
    if metadata.uid() != me.uid {
        let owner = access::user_name(metadata.uid());
        let way_out = format!("run: chown -R {} {shown}", me.name);
        return report.failure(
            subject,
            format_args!("`{shown}` belongs to `{owner}`, not to `{}`; {way_out}", me.name),
        );
    }
    if let Err(problem) = access::allowed(dir, Access::WRITE_OK | Access::EXEC_OK) {
        return report.failure(subject, problem);
    }
    let mode = metadata.mode() & 0o777;
    let what = format!("`{shown}` is open to others (mode {mode:04o}); run: chmod 0700 {shown}");
    if mode & 0o022 != 0 {
        return report.failure(subject, what);
    }
    if mode & 0o077 != 0 {
        report.warning(subject, what)?;
    }
    let running = if is_locked(dir) {
        "; in use by a running agent"
    } else {
        ""
    };
    free_space(subject, dir, &format!("`{shown}`{running}"), report)
}

/// Events that wait there for a person. Of a directory that cannot be looked into the state has told already.
pub fn quarantine(state_dir: &Path, report: &mut Report) -> io::Result<()> {
    match Tally::default().count(state_dir) {
        Ok(0) | Err(_) => Ok(()),
        Ok(events) => {
            let events = match events {
                1 => "1 event is".to_owned(),
                events => format!("{events} events are"),
            };
            let way_out = format!(
                "see `{0} quarantine list`, then `{0} quarantine replay`",
                crate::NAME
            );
            report.warning(
                "quarantine",
                format_args!("{events} kept that a server refuses; {way_out}"),
            )
        }
    }
}

/// An agent that runs holds the lock; one that cannot be asked about is taken as not running.
fn is_locked(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(LOCK_FILE)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// Whether the nearest directory above that exists lets this user make what is missing.
fn creatable(path: &Path) -> Result<(), access::Problem> {
    let existing = path
        .ancestors()
        .skip(1)
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    access::reach(existing)?;
    access::allowed(existing, Access::WRITE_OK | Access::EXEC_OK)
}

pub fn outputs(file: &FileSinkConfig, sources: &[SourceConfig]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = sources.iter().map(|source| file.path_for(&source.name)).collect();
    paths.dedup();
    paths
}

pub fn output(subject: &str, path: &Path, format: FormatKind, report: &mut Report) -> io::Result<()> {
    let shown = path.display();
    let dir = path.parent().unwrap_or(Path::new("/"));
    if let Err(problem) = access::reach(dir) {
        return match problem {
            access::Problem::Missing(missing) => {
                let way_out = format!("run: install -d -o {} {}", access::user().name, dir.display());
                let missing = missing.display();
                report.failure(
                    subject,
                    format_args!("`{shown}`: directory `{missing}` does not exist; {way_out}"),
                )
            }
            other => report.failure(subject, other),
        };
    }
    // Rotating and creating need the directory, whether or not the file is there.
    if let Err(problem) = access::allowed(dir, Access::WRITE_OK | Access::EXEC_OK) {
        return report.failure(subject, problem);
    }
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => report.failure(
            subject,
            format_args!("`{shown}` is a symbolic link, which is not followed; name its target"),
        ),
        Ok(metadata) if !metadata.is_file() => {
            report.failure(subject, format_args!("`{shown}` is no file; name another path"))
        }
        Ok(_) => match access::allowed(path, Access::WRITE_OK) {
            Ok(()) => free_space(
                subject,
                dir,
                &format!("`{shown}`, {}", format_name(format)),
                report,
            ),
            Err(problem) => report.failure(subject, problem),
        },
        Err(_) => {
            let what = format!("`{shown}`, {}, will be created", format_name(format));
            free_space(subject, dir, &what, report)
        }
    }
}

/// Who will be able to read the output, and for how long it stays.
pub fn readers(subject: &str, path: &Path, file: &FileSinkConfig, report: &mut Report) -> io::Result<()> {
    let mode = file.mode.unwrap_or(0o600);
    let kept = format!(
        "the newest {} rotated files stay, older ones are deleted, read or not",
        file.keep
    );
    let Some(group) = &file.group else {
        return report.ok(subject, format_args!("files get mode {mode:04o}; {kept}"));
    };
    let me = access::user().name;
    let Some(gid) = access::group_id(group) else {
        return report.failure(
            subject,
            format_args!(
                "there is no group `{group}`, to which the files are to be given; run: groupadd {group}"
            ),
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
            format_args!("group `{group}` may read the files, but not look into `{shown}`; docs/SINKS.md says how to open it"),
        )?;
    }
    report.ok(
        subject,
        format_args!("files get mode {mode:04o} and group `{group}`; {kept}"),
    )
}

fn free_space(subject: &str, dir: &Path, what: &str, report: &mut Report) -> io::Result<()> {
    let free_bytes = match rustix::fs::statvfs(dir) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => return report.warning(subject, format_args!("{what}; free space is unknown: {error}")),
    };
    let free = files::human_size(free_bytes);
    if free_bytes < FREE_BYTES_MIN {
        let dir = dir.display();
        report.warning(
            subject,
            format_args!("{what}; only {free} are free in `{dir}`: make room"),
        )
    } else {
        report.ok(subject, format_args!("{what}; {free} free"))
    }
}
