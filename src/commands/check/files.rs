//! The audit files that are there: readable, how many, and how old the newest event is.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::Access;
use serde::Deserialize;

use super::{Report, access};
use crate::clock;
use crate::source::files::compressed::{self, Compression};
use crate::source::files::name::Order;

const SUFFIX: &str = ".audit.log";
/// How much of the newest file's end is searched for its last line.
const TAIL_BYTES: u64 = 1 << 20;
/// A Confluence that is in use writes something each day; after a week without it is worth a look.
const SILENT_MS: i64 = 7 * 86_400_000;
/// Clocks of two hosts differ by less than this.
const AHEAD_MS: i64 = 5 * 60_000;

/// Looks through an audit directory that may be listed.
pub fn directory(subject: &str, dir: &Path, report: &mut Report) -> io::Result<()> {
    let (mut audit, mut foreign) = (Vec::new(), Vec::new());
    for entry in dir.read_dir()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = compressed::of_name(&name).map_or(name.as_str(), |(stem, _)| stem);
        if stem.ends_with(SUFFIX) {
            audit.push(entry.path());
        } else {
            foreign.push(name);
        }
    }
    if !foreign.is_empty() {
        foreign.sort();
        let what = format!(
            "left alone in `{}`, for {SUFFIX} is not their end: {}",
            dir.display(),
            some(&foreign)
        );
        report.warning(
            subject,
            format_args!(
                "{what}; what is not Confluence's own counts towards the files it keeps: move it away"
            ),
        )?;
    }
    if audit.is_empty() {
        let what = format!("no audit file in `{}` yet", dir.display());
        return report.warning(
            subject,
            format_args!("{what}; do something in Confluence that is audited, and look again"),
        );
    }
    readable(subject, audit, report)
}

/// Looks through what patterns match.
pub fn matching(subject: &str, patterns: &[String], report: &mut Report) -> io::Result<()> {
    let mut found = Vec::new();
    for pattern in patterns {
        let before = found.len();
        let compressed = compressed::endings().map(|ending| format!("{pattern}{ending}"));
        let patterns = std::iter::once(pattern.clone()).chain(compressed);
        for path in patterns.flat_map(|pattern| glob::glob(&pattern).into_iter().flatten()) {
            match path {
                Ok(path) => found.push(path),
                Err(error) => {
                    report.failure(subject, lists(error.path()).err().unwrap_or_else(|| error.into()))?
                }
            }
        }
        if found.len() == before {
            // A directory that may not be searched matches nothing, without an error.
            match lists(directory_of(pattern)) {
                Err(problem) => report.failure(subject, format_args!("`{pattern}`: {problem}"))?,
                Ok(()) => report.warning(
                    subject,
                    format_args!(
                        "`{pattern}` matches no file yet; if there should be one, look at the pattern"
                    ),
                )?,
            }
        }
    }
    found.sort();
    found.dedup();
    readable(subject, found, report)
}

/// The directory of a pattern as far as it has no wildcards.
fn directory_of(pattern: &str) -> &Path {
    let plain = &pattern[..pattern.find(['*', '?', '[']).unwrap_or(pattern.len())];
    Path::new(
        plain
            .rsplit_once('/')
            .map(|(dir, _)| dir)
            .filter(|dir| !dir.is_empty())
            .unwrap_or("/"),
    )
}

/// Whether this user can get at a directory's names and files.
pub fn lists(dir: &Path) -> Result<(), access::Problem> {
    access::reach(dir)?;
    access::allowed(dir, Access::READ_OK | Access::EXEC_OK)
}

fn readable(subject: &str, mut paths: Vec<PathBuf>, report: &mut Report) -> io::Result<()> {
    let total = paths.len();
    let mut bytes = 0;
    let mut odd = Vec::new();
    let mut denied = Vec::new();
    paths.retain(|path| match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {
            bytes += metadata.len();
            match access::allowed(path, Access::READ_OK) {
                Ok(()) => true,
                Err(problem) => {
                    denied.push(problem);
                    false
                }
            }
        }
        Ok(_) => {
            odd.push(path.display().to_string());
            false
        }
        // It was deleted while we looked.
        Err(_) => false,
    });
    if !odd.is_empty() {
        let what = format!(
            "not read, because links and special files are not followed: {}",
            some(&odd)
        );
        report.warning(
            subject,
            format_args!("{what}; name the files that links point to in `files`"),
        )?;
    }
    if let Some(first) = denied.first() {
        let what = format!("{} of {total} files cannot be read", denied.len());
        report.failure(subject, format_args!("{what}; the first: {first}"))?;
    } else if !paths.is_empty() {
        let what = format!(
            "{}, {}, all readable",
            count(paths.len(), "file"),
            human_size(bytes)
        );
        report.ok(subject, what)?;
    }
    let compression = |path: &Path| compressed::of_name(&path.to_string_lossy()).map(|(_, how)| how);
    packed(subject, &paths, compression, report)?;
    let plain = paths.iter().filter(|path| compression(path).is_none());
    match plain.max_by_key(|path| order(path)) {
        Some(newest) => newest_event(subject, newest, report),
        None => Ok(()),
    }
}

/// Audit files that something else has compressed. Confluence never does.
fn packed(
    subject: &str,
    paths: &[PathBuf],
    compression: impl Fn(&Path) -> Option<Compression>,
    report: &mut Report,
) -> io::Result<()> {
    let named = |unsupported: bool| {
        let is_so = |how| unsupported == (how == Compression::Unsupported);
        let paths = paths.iter().filter(|path| compression(path).is_some_and(is_so));
        paths.map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    let (read, unread) = (named(false), named(true));
    if !read.is_empty() {
        let what = count(read.len(), "file");
        report.ok(
            subject,
            format_args!(
                "{what} of these compressed, and read like the others: {}",
                some(&read)
            ),
        )?;
    }
    if !unread.is_empty() {
        let what = format!("compressed in a way that is not read: {}", some(&unread));
        report.warning(
            subject,
            format_args!(
                "{what}; what was not delivered before is lost until they are decompressed where they are"
            ),
        )?;
    }
    Ok(())
}

fn order(path: &Path) -> Order {
    Order::of(
        &path.file_name().unwrap_or_default().to_string_lossy(),
        modified_ms(path),
    )
}

fn newest_event(subject: &str, path: &Path, report: &mut Report) -> io::Result<()> {
    let shown = path.display();
    let (time_ms, what) = match last_event_ms(path) {
        Ok(Some(time_ms)) => (time_ms, "newest event"),
        Ok(None) => (modified_ms(path), "newest file was written"),
        Err(error) => return report.failure(subject, format_args!("failed to read `{shown}`: {error}")),
    };
    let age_ms = clock::now_ms() - time_ms;
    let age = human_age(age_ms.abs());
    if age_ms < -AHEAD_MS {
        report.warning(
            subject,
            format_args!("{what} in {age} from now, in `{shown}`; set this host's clock"),
        )
    } else if age_ms > SILENT_MS {
        let way_out = "if Confluence is in use, look whether this is its home and at its audit coverage";
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

/// Time of the last whole line, where it is a record.
fn last_event_ms(path: &Path) -> io::Result<Option<i64>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let whole = memchr::memrchr(b'\n', &tail).map_or(0, |end| end + 1);
    let mut lines = tail[..whole]
        .rsplit(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty());
    let line = lines
        .next()
        .and_then(|line| serde_json::from_slice::<Line>(line).ok());
    Ok(line.and_then(|line| line.timestamp.epoch_second.checked_mul(1000)))
}

fn modified_ms(path: &Path) -> i64 {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    let since = modified
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_millis() as i64)
}

/// A few names; there may be thousands.
fn some(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(3)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > 3 {
        format!("{shown}, …")
    } else {
        shown
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

pub fn human_size(bytes: u64) -> String {
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
    fn last_event_is_that_of_the_last_whole_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let check = |content: &str, expected: Option<i64>| {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(last_event_ms(file.path()).unwrap(), expected, "{content:?}");
        };
        check("", None);
        check("{\"timestamp\":{\"epochSecond\":5,\"nano\":0}}", None);
        check("{\"timestamp\":{\"epochSecond\":5,\"nano\":0}}\n", Some(5000));
        check(
            "{\"timestamp\":{\"epochSecond\":5}}\r\n\r\n{\"timestamp\":{\"epo",
            Some(5000),
        );
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
