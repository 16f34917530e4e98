//! Names of audit files, and the order in which files are read.

use super::compressed;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The last component of a path.
pub(crate) fn file_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// A path as text for messages and events. Bytes that are not UTF-8 are written as `\xNN`.
pub(crate) fn display_path(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Whether a pattern matches a name. Patterns are text: a byte that is not UTF-8 counts as one character.
pub(crate) fn matches(pattern: &glob::Pattern, name: &OsStr) -> bool {
    pattern.matches(&name.to_string_lossy())
}

/// Position of a file among the files of its directory; a smaller one is older.
///
/// Names without a date come first, by modification time: older forms, or names of other tools.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileOrder {
    ByTime { mtime_ms: i64, name: OsString },
    ByName { date: u32, number: u64, name: OsString },
}

impl FileOrder {
    /// Confluence names a file `YYYYMMDD.NNNNN.audit.log`; its documentation also shows `YYYYMMDD-NNNNN`. A
    /// compressed file follows its original.
    pub(crate) fn of(name: &OsStr, mtime_ms: i64) -> FileOrder {
        let stem = compressed::split_extension(name).map_or(name, |(stem, _)| stem);
        match stem.to_str().and_then(date_and_number) {
            Some((date, number)) => FileOrder::ByName { date, number, name: name.to_owned() },
            None => FileOrder::ByTime { mtime_ms, name: name.to_owned() },
        }
    }
}

/// A file's date may be that of a time zone ahead of UTC, and clocks differ. More than this is a wrong clock.
const AHEAD_MS: i64 = 2 * 86_400_000;

impl FileOrder {
    /// The position directly before `other`.
    pub(crate) fn before(other: &FileOrder) -> FileOrder {
        let mtime_ms = match other {
            FileOrder::ByTime { mtime_ms, .. } => mtime_ms.saturating_sub(1),
            FileOrder::ByName { .. } => i64::MAX,
        };
        FileOrder::ByTime { mtime_ms, name: OsString::new() }
    }

    /// Whether a file is dated in the future by its name or its time: it was created under a wrong clock.
    pub(crate) fn is_in_future(&self, now_ms: i64) -> bool {
        let latest_ms = now_ms.saturating_add(AHEAD_MS);
        match self {
            FileOrder::ByTime { mtime_ms, .. } => *mtime_ms > latest_ms,
            FileOrder::ByName { date, .. } => day_of(latest_ms).is_some_and(|latest| *date > latest),
        }
    }
}

/// The UTC date as in a file's name: `YYYYMMDD`.
fn day_of(time_ms: i64) -> Option<u32> {
    let date = jiff::Timestamp::from_millisecond(time_ms).ok()?.to_zoned(jiff::tz::TimeZone::UTC).date();
    let (year, month, day) = (date.year(), date.month(), date.day());
    u32::try_from(i32::from(year) * 10_000 + i32::from(month) * 100 + i32::from(day)).ok()
}

fn date_and_number(name: &str) -> Option<(u32, u64)> {
    let stem = name.strip_suffix(".audit.log")?;
    let (date, number) = stem.split_once(['.', '-'])?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if date.len() != 8 || !digits(date) || !digits(number) || number.len() > 18 {
        return None;
    }
    Some((date.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_number_before_text() {
        assert_eq!(date_and_number("20260105.00003.audit.log"), Some((20260105, 3)));
        assert_eq!(date_and_number("20260105-00003.audit.log"), Some((20260105, 3)));
        for other in ["audit.log", "20260105.audit.log", "2026010.00003.audit.log", "20260105.x.audit.log"] {
            assert_eq!(date_and_number(other), None, "{other}");
        }
        let mut names = ["20260106.00000.audit.log", "20260105-00010.audit.log", "20260105.00009.audit.log"];
        names.sort_by_key(|n| FileOrder::of(OsStr::new(n), 0));
        assert_eq!(
            names,
            ["20260105.00009.audit.log", "20260105-00010.audit.log", "20260106.00000.audit.log"]
        );
        let order = |name: &str, mtime_ms| FileOrder::of(OsStr::new(name), mtime_ms);
        assert!(order("20260105.00003.audit.log", 0) < order("20260105.00003.audit.log.gz", 0));
        assert!(order("20260105.00003.audit.log.gz", 0) < order("20260105.00004.audit.log", 0));
        assert!(order("other.audit.log", i64::MAX) < order("20200101.00000.audit.log", 0));
    }
}
