//! Names of audit files and the order they are read in.

use super::compressed;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The last component of a path.
pub fn of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// A path for people and for text formats: bytes that are no UTF-8 are written as `\xNN`.
pub fn shown(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Whether a pattern means a name. Patterns are text: a byte of a name that is no UTF-8 counts as one character.
pub fn matches(pattern: &glob::Pattern, name: &OsStr) -> bool {
    pattern.matches(&name.to_string_lossy())
}

/// Where a file stands among the files of its directory; smaller is older.
///
/// Names that do not say a day come first, by modification time: they are older forms or other tools' names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    ByTime { mtime_ms: i64, name: OsString },
    ByName { date: u32, number: u64, name: OsString },
}

impl Order {
    /// Confluence names a file `YYYYMMDD.NNNNN.audit.log`; its documentation also shows `YYYYMMDD-NNNNN`.
    /// A compressed one stands behind the file that it was.
    pub fn of(name: &OsStr, mtime_ms: i64) -> Order {
        let stem = compressed::of_name(name).map_or(name, |(stem, _)| stem);
        match stem.to_str().and_then(date_and_number) {
            Some((date, number)) => Order::ByName {
                date,
                number,
                name: name.to_owned(),
            },
            None => Order::ByTime {
                mtime_ms,
                name: name.to_owned(),
            },
        }
    }
}

/// A file may be named for the day of a time zone that is ahead, and clocks differ; no more than that.
const AHEAD_MS: i64 = 2 * 86_400_000;

impl Order {
    /// Just before another one.
    pub fn before(other: &Order) -> Order {
        let mtime_ms = match other {
            Order::ByTime { mtime_ms, .. } => mtime_ms.saturating_sub(1),
            Order::ByName { .. } => i64::MAX,
        };
        Order::ByTime {
            mtime_ms,
            name: OsString::new(),
        }
    }

    /// Whether a file is of a day that has not come: its name, or its time, was made by a clock that was wrong.
    pub fn is_ahead(&self, now_ms: i64) -> bool {
        let latest_ms = now_ms.saturating_add(AHEAD_MS);
        match self {
            Order::ByTime { mtime_ms, .. } => *mtime_ms > latest_ms,
            Order::ByName { date, .. } => day_of(latest_ms).is_some_and(|latest| *date > latest),
        }
    }
}

/// As in a file's name: `YYYYMMDD`.
fn day_of(time_ms: i64) -> Option<u32> {
    let date = jiff::Timestamp::from_millisecond(time_ms)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
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
        for other in [
            "audit.log",
            "20260105.audit.log",
            "2026010.00003.audit.log",
            "20260105.x.audit.log",
        ] {
            assert_eq!(date_and_number(other), None, "{other}");
        }
        let mut names = [
            "20260106.00000.audit.log",
            "20260105-00010.audit.log",
            "20260105.00009.audit.log",
        ];
        names.sort_by_key(|n| Order::of(OsStr::new(n), 0));
        assert_eq!(
            names,
            [
                "20260105.00009.audit.log",
                "20260105-00010.audit.log",
                "20260106.00000.audit.log"
            ]
        );
        let order = |name: &str, mtime_ms| Order::of(OsStr::new(name), mtime_ms);
        assert!(order("20260105.00003.audit.log", 0) < order("20260105.00003.audit.log.gz", 0));
        assert!(order("20260105.00003.audit.log.gz", 0) < order("20260105.00004.audit.log", 0));
        assert!(order("other.audit.log", i64::MAX) < order("20200101.00000.audit.log", 0));
    }
}
