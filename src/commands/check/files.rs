//! Checks the audit files: readable, how many, and the age of the newest event.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FileType};
use rustix::io::Errno;
use serde::Deserialize;

use super::{CheckReport, access};
use crate::clock;
use crate::config::FileLocation;
use crate::source::files::compressed::{self, FileCompression};
use crate::source::files::directory::{Candidate, Contents, OpenDirectory, SkipReason, SkippedEntry};
use crate::source::files::failures;
use crate::source::files::name::{self, FileOrder, display_path};
use crate::source::files::sweep::{self, ListedDirectory};

const SUFFIX: &str = ".audit.log";
/// How much of the end of the newest file is searched for its last line.
const TAIL_BYTES: u64 = 1 << 20;
/// A Confluence in use writes something each day. After a week without events this is a warning.
const SILENT_MS: i64 = 7 * 86_400_000;
/// Clocks of two hosts differ by less than this.
const AHEAD_MS: i64 = 5 * 60_000;

/// A readable audit file, open.
struct Readable {
    path: PathBuf,
    file: File,
    order: FileOrder,
    bytes: u64,
    mtime_ms: i64,
}

impl Readable {
    fn compression(&self) -> Option<FileCompression> {
        compressed::split_extension(&self.path).map(|(_, how)| how)
    }
}

/// What was found, with the same code as in `run`.
#[derive(Default)]
struct Findings {
    readable: Vec<Readable>,
    denied: Vec<access::AccessProblem>,
    /// Audit files that are not read, each with the message of `run`.
    unread: Vec<String>,
    special: Vec<String>,
    foreign: Vec<String>,
}

/// Checks the audit directory of a home.
pub(crate) fn home(subject: &str, location: &FileLocation, report: &mut CheckReport) -> io::Result<()> {
    let mut findings = Findings::default();
    for ListedDirectory { path, opened } in list_directories(location) {
        let (directory, contents) = match opened {
            Ok(opened) => opened,
            Err(error) => return report.failure(subject, sweep::unreadable_message(&path, &error)),
        };
        followed(subject, &directory, &contents, report)?;
        let nothing = contents.files.is_empty();
        findings.add(&directory, contents);
        if !findings.foreign.is_empty() {
            findings.foreign.sort();
            let what = format!(
                "ignored in `{}`, because their names do not end in {SUFFIX}: {}",
                display_path(&path),
                first_names(&findings.foreign)
            );
            report.warning(
                subject,
                format_args!(
                    "{what}; files of others count towards the number that Confluence keeps: move them away"
                ),
            )?;
        }
        if nothing && findings.unread.is_empty() {
            let what = format!("no audit file in `{}` yet", display_path(&path));
            report.warning(
                subject,
                format_args!("{what}; perform an audited action in Confluence, and check again"),
            )?;
        }
    }
    findings.report(subject, report)
}

/// Checks the files that match the patterns.
pub(crate) fn matching(subject: &str, patterns: &[String], report: &mut CheckReport) -> io::Result<()> {
    let mut findings = Findings::default();
    for pattern in patterns {
        let (mut any, mut failed) = (false, false);
        for ListedDirectory { path, opened } in list_directories(&FileLocation::Files(vec![pattern.clone()]))
        {
            match opened {
                Ok((directory, contents)) => {
                    any |= !contents.files.is_empty();
                    followed(subject, &directory, &contents, report)?;
                    findings.add(&directory, contents);
                }
                Err(error) => {
                    failed = true;
                    let reason = sweep::unreadable_message(&path, &error);
                    report.failure(subject, format_args!("`{pattern}`: {reason}"))?;
                }
            }
        }
        if !any && !failed {
            report.warning(
                subject,
                format_args!("`{pattern}` matches no file yet; if there should be one, check the pattern"),
            )?;
        }
    }
    findings.report(subject, report)
}

fn list_directories(location: &FileLocation) -> Vec<ListedDirectory> {
    sweep::list_directories(location, &|_| false, &|_| false)
}

fn followed(
    subject: &str,
    directory: &OpenDirectory,
    contents: &Contents,
    report: &mut CheckReport,
) -> io::Result<()> {
    for link in directory.links.iter().chain(&contents.links) {
        report.ok(subject, format_args!("follows the symbolic link `{}`", display_path(link)))?;
    }
    Ok(())
}

impl Findings {
    fn add(&mut self, directory: &OpenDirectory, contents: Contents) {
        for Candidate { observed, .. } in contents.files {
            let path = &observed.path;
            if self.readable.iter().any(|known| known.path == *path) {
                continue;
            }
            let opened = directory.open_file(name::file_name(path));
            match opened.and_then(|file| Ok((file.metadata()?.len(), file))) {
                Ok((bytes, file)) => self.readable.push(Readable {
                    order: observed.order(),
                    mtime_ms: observed.mtime_ms,
                    path: observed.path,
                    bytes,
                    file,
                }),
                // It was deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let problem = access::allowed(path, Access::READ_OK).err();
                    let problem = problem.or_else(|| access::reach(path).err());
                    let other = || access::AccessProblem::Other(path.clone(), Errno::ACCESS);
                    self.denied.push(problem.unwrap_or_else(other));
                }
                Err(error) => self.unread.push(failures::cannot_read(path, &error)),
            }
        }
        for SkippedEntry { path, reason } in contents.skipped {
            match reason {
                SkipReason::StatFailed { error, has_audit_name: true } => {
                    self.unread.push(failures::cannot_read(&path, &error))
                }
                SkipReason::Refused(error) => self.unread.push(error.to_string()),
                SkipReason::NotRegular(_) => self.special.push(display_path(&path)),
                SkipReason::NotAuditFile(kind) if kind != FileType::Directory => {
                    self.foreign.push(display_path(Path::new(name::file_name(&path))))
                }
                SkipReason::NotAuditFile(_) | SkipReason::StatFailed { .. } | SkipReason::OtherName(_) => {}
            }
        }
    }

    fn report(self, subject: &str, report: &mut CheckReport) -> io::Result<()> {
        if !self.special.is_empty() {
            let what = format!("ignored, because they are not regular files: {}", first_names(&self.special));
            report.warning(subject, what)?;
        }
        for reason in &self.unread {
            report.failure(subject, format_args!("{reason}; not read"))?;
        }
        let total = self.readable.len() + self.denied.len() + self.unread.len();
        if let Some(first) = self.denied.first() {
            let what = format!("{} of {total} files cannot be read", self.denied.len());
            report.failure(subject, format_args!("{what}; the first: {first}"))?;
        } else if !self.readable.is_empty() {
            let what = format!(
                "{}, {}, all readable",
                count(self.readable.len(), "file"),
                human_size(self.readable.iter().map(|file| file.bytes).sum())
            );
            report.ok(subject, what)?;
        }
        self.compressed_files(subject, report)?;
        let now_ms = clock::now_ms();
        let ahead = self.readable.iter().filter(|file| file.order.is_in_future(now_ms));
        let ahead: Vec<String> = ahead.map(|file| display_path(&file.path)).collect();
        if !ahead.is_empty() {
            let what = format!("dated more than two days ahead: {}", first_names(&ahead));
            report.warning(
                subject,
                format_args!("{what}; they are read, but do not show that older files are complete"),
            )?;
        }
        let rank = |file: &&Readable| (!file.order.is_in_future(now_ms), file.order.clone());
        let plain = self.readable.iter().filter(|file| file.compression().is_none());
        match plain.max_by_key(rank) {
            Some(newest) => newest_event(subject, newest, report),
            None => Ok(()),
        }
    }

    /// Reports files that another program has compressed. Confluence never compresses them.
    fn compressed_files(&self, subject: &str, report: &mut CheckReport) -> io::Result<()> {
        let named = |unsupported: bool| -> Vec<String> {
            let is_so = |how| unsupported == (how == FileCompression::Unsupported);
            let files = self.readable.iter();
            let files = files.filter(|file| file.compression().is_some_and(is_so));
            files.map(|file| display_path(&file.path)).collect()
        };
        let (read, unread) = (named(false), named(true));
        if !read.is_empty() {
            let what = count(read.len(), "file");
            report.ok(
                subject,
                format_args!("{what} of these compressed, and read like the others: {}", first_names(&read)),
            )?;
        }
        if !unread.is_empty() {
            let what = format!("compressed in an unsupported way: {}", first_names(&unread));
            report.warning(
                subject,
                format_args!(
                    "{what}; what was not delivered before is lost, unless they are decompressed in place"
                ),
            )?;
        }
        Ok(())
    }
}

fn newest_event(subject: &str, newest: &Readable, report: &mut CheckReport) -> io::Result<()> {
    let shown = display_path(&newest.path);
    let (time_ms, what) = match last_event_ms(&newest.file) {
        Ok(Some(time_ms)) => (time_ms, "newest event"),
        Ok(None) => (newest.mtime_ms, "newest file was written"),
        Err(error) => {
            return report.failure(subject, format_args!("failed to read `{shown}`: {error}"));
        }
    };
    let age_ms = clock::now_ms() - time_ms;
    let age = human_age(age_ms.abs());
    if age_ms < -AHEAD_MS {
        report.warning(subject, format_args!("{what} in {age} from now, in `{shown}`; set this host's clock"))
    } else if age_ms > SILENT_MS {
        let way_out = "if Confluence is in use, check whether this is its home, and its audit coverage";
        report.warning(subject, format_args!("{what} {age} ago, in `{shown}`; {way_out}"))
    } else {
        report.ok(subject, format_args!("{what} {age} ago, in `{shown}`"))
    }
}

#[derive(Deserialize)]
struct Line {
    timestamp: Timestamp,
}

#[derive(Deserialize)]
struct Timestamp {
    #[serde(rename = "epochSecond")]
    epoch_second: i64,
}

/// Time of the last complete line, if it is a record.
fn last_event_ms(mut file: &File) -> io::Result<Option<i64>> {
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let whole = memchr::memrchr(b'\n', &tail).map_or(0, |end| end + 1);
    let mut lines = tail[..whole].rsplit(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let line = lines.next().and_then(|line| serde_json::from_slice::<Line>(line).ok());
    Ok(line.and_then(|line| line.timestamp.epoch_second.checked_mul(1000)))
}

/// Up to three names; there may be thousands.
fn first_names(names: &[String]) -> String {
    let shown = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown}, …") } else { shown }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

pub(crate) fn human_size(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}

fn human_age(ms: i64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => count(seconds as usize, "second"),
        120..7_200 => count((seconds / 60) as usize, "minute"),
        7_200..172_800 => count((seconds / 3_600) as usize, "hour"),
        _ => count((seconds / 86_400) as usize, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_event_is_taken_from_the_last_complete_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let check = |content: &str, expected: Option<i64>| {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(last_event_ms(&File::open(file.path()).unwrap()).unwrap(), expected, "{content:?}");
        };
        check("", None);
        check("{\"timestamp\":{\"epochSecond\":5,\"nano\":0}}", None);
        check("{\"timestamp\":{\"epochSecond\":5,\"nano\":0}}\n", Some(5000));
        check("{\"timestamp\":{\"epochSecond\":5}}\r\n\r\n{\"timestamp\":{\"epo", Some(5000));
        check("not json\n", None);
    }

    #[test]
    fn ages_and_sizes_read_well() {
        assert_eq!(human_age(1_000), "1 second");
        assert_eq!(human_age(3 * 60_000), "3 minutes");
        assert_eq!(human_age(9 * 86_400_000), "9 days");
        assert_eq!(human_size(999), "999 B");
        assert_eq!(human_size(12_340_000), "12.3 MB");
    }
}
