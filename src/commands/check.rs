//! `check`: can the agent do its work here, and what to do if not. Looks only; creates and opens nothing for
//! writing.

mod access;
mod files;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::cli::{CONFIG_PATH, Options};
use crate::config::{self, Config, FileSinkConfig, FormatKind, Place, SinkKind, SourceConfig};
use crate::exit;
use crate::telemetry::escape::escape;

/// The running agent holds a lock on this file of the state directory.
const LOCK_FILE: &str = "lock";
/// Less free space than this is told: the state needs little, but it must not fail.
const FREE_BYTES_MIN: u64 = 100 << 20;

/// Writes one line for each thing looked at. `Ok` is the exit code: 0 without a failure, 78 when the
/// configuration is wrong, 75 when something on the host is not ready.
pub fn check(options: &Options, colour: bool, out: &mut dyn Write) -> io::Result<u8> {
    let mut report = Report {
        out,
        colour,
        failed: false,
    };
    let config = match config::load(options) {
        Ok(config) => config,
        Err(errors) => {
            for error in &errors.0 {
                report.failure("configuration", error)?;
            }
            return Ok(exit::CONFIG);
        }
    };
    configuration(options, &config, &mut report)?;
    user(&mut report)?;
    for source in &config.sources {
        source_place(source, &mut report)?;
    }
    state_dir(&config.state_dir, &mut report)?;
    for sink in &config.sinks {
        let subject = format!("sink {}", sink.name);
        match &sink.kind {
            SinkKind::Stdout => report.ok(&subject, format_args!("stdout, {}", format_name(sink.format)))?,
            SinkKind::File(file) => {
                for path in outputs(file, &config.sources) {
                    output(&subject, &path, sink.format, &mut report)?;
                }
            }
        }
    }
    Ok(if report.failed { exit::TRY_AGAIN } else { exit::OK })
}

/// Writes the lines and remembers whether one is a failure.
struct Report<'o> {
    out: &'o mut dyn Write,
    colour: bool,
    failed: bool,
}

impl Report<'_> {
    fn ok(&mut self, subject: &str, what: impl fmt::Display) -> io::Result<()> {
        self.line("ok", "32", subject, what)
    }

    fn warning(&mut self, subject: &str, what: impl fmt::Display) -> io::Result<()> {
        self.line("warning", "33", subject, what)
    }

    fn failure(&mut self, subject: &str, what: impl fmt::Display) -> io::Result<()> {
        self.failed = true;
        self.line("failure", "31", subject, what)
    }

    fn line(
        &mut self,
        verdict: &str,
        colour: &str,
        subject: &str,
        what: impl fmt::Display,
    ) -> io::Result<()> {
        let what = what.to_string();
        let (subject, what) = (escape(subject), escape(&what));
        if self.colour {
            writeln!(self.out, "\x1b[{colour}m{verdict:<8}\x1b[0m {subject}: {what}")
        } else {
            writeln!(self.out, "{verdict:<8} {subject}: {what}")
        }
    }
}

fn configuration(options: &Options, config: &Config, report: &mut Report) -> io::Result<()> {
    let from = match &options.config {
        Some(path) => format!("`{}`", path.display()),
        None if options.home.is_some() || !options.files.is_empty() => {
            "from options, no file read".to_string()
        }
        None => format!("`{CONFIG_PATH}`"),
    };
    let names = |names: Vec<&str>| names.join(", ");
    let sources = names(config.sources.iter().map(|source| source.name.as_str()).collect());
    let sinks = names(config.sinks.iter().map(|sink| sink.name.as_str()).collect());
    report.ok(
        "configuration",
        format_args!("{from}; sources: {sources}; sinks: {sinks}"),
    )
}

/// Root may read everything, which says nothing about the agent's own user.
fn user(report: &mut Report) -> io::Result<()> {
    let user = access::user();
    if user.uid == 0 && access::user_exists(crate::NAME) {
        let way_out = format!("see what the agent sees: sudo -u {0} {0} check", crate::NAME);
        return report.warning(
            "user",
            format_args!("running as root, who may read everything; {way_out}"),
        );
    }
    report.ok("user", format_args!("{} (uid {})", user.name, user.uid))
}

fn source_place(source: &SourceConfig, report: &mut Report) -> io::Result<()> {
    let subject = format!("source {}", source.name);
    match &source.files.place {
        Place::Home { dir, found } => {
            let text = format!("home `{}`, {found}", dir.display());
            if let Err(problem) = access::reach(dir) {
                let way_out = "name the right one with `home` or `--home`; the agent waits for it meanwhile";
                return match problem {
                    access::Problem::Missing(missing) => report.failure(
                        &subject,
                        format_args!("{text}: `{}` does not exist; {way_out}", missing.display()),
                    ),
                    other => report.failure(&subject, format_args!("{text}: {other}")),
                };
            }
            report.ok(&subject, text)?;
            audit_dir(&subject, &config::audit_dir(dir), report)
        }
        Place::Files(patterns) => {
            report.ok(&subject, format_args!("files {}", patterns.join(", ")))?;
            files::matching(&subject, patterns, report)
        }
    }
}

fn audit_dir(subject: &str, dir: &Path, report: &mut Report) -> io::Result<()> {
    match access::reach(dir).and_then(|()| access::allowed(dir, Access::READ_OK | Access::EXEC_OK)) {
        Ok(()) => files::directory(subject, dir, report),
        Err(access::Problem::Missing(_)) => report.failure(
            subject,
            format_args!(
                "no audit directory `{}`; either this is the wrong home, or Confluence has no Data Center licence \
                 (it writes audit files with one only, from 7.5 on), or its coverage has let nothing be written yet",
                dir.display()
            ),
        ),
        Err(problem) => report.failure(subject, problem),
    }
}

fn state_dir(dir: &Path, report: &mut Report) -> io::Result<()> {
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
    if mode & 0o077 != 0 {
        let what = format!("`{shown}` is open to others (mode {mode:04o}); run: chmod 0700 {shown}");
        report.warning(subject, what)?;
    }
    let running = if is_locked(dir) {
        "; in use by a running agent"
    } else {
        ""
    };
    free_space(subject, dir, &format!("`{shown}`{running}"), report)
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

fn outputs(file: &FileSinkConfig, sources: &[SourceConfig]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = sources.iter().map(|source| file.path_for(&source.name)).collect();
    paths.dedup();
    paths
}

fn output(subject: &str, path: &Path, format: FormatKind, report: &mut Report) -> io::Result<()> {
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

fn format_name(format: FormatKind) -> &'static str {
    match format {
        FormatKind::Ecs => "ECS events",
        FormatKind::Raw => "raw records",
    }
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
