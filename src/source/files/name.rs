//! Names of audit files and the order they are read in.

use super::compressed;

/// The last component of a path.
pub fn of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Where a file stands among the files of its directory; smaller is older.
///
/// Names that do not say a day come first, by modification time: they are older forms or other tools' names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    ByTime { mtime_ms: i64, name: String },
    ByName { date: u32, number: u64, name: String },
}

impl Order {
    /// Confluence names a file `YYYYMMDD.NNNNN.audit.log`; its documentation also shows `YYYYMMDD-NNNNN`.
    /// A compressed one stands behind the file that it was.
    pub fn of(name: &str, mtime_ms: i64) -> Order {
        let stem = compressed::of_name(name).map_or(name, |(stem, _)| stem);
        match date_and_number(stem) {
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

impl Order {
    /// Just before another one.
    pub fn before(other: &Order) -> Order {
        let mtime_ms = match other {
            Order::ByTime { mtime_ms, .. } => mtime_ms.saturating_sub(1),
            Order::ByName { .. } => i64::MAX,
        };
        Order::ByTime {
            mtime_ms,
            name: String::new(),
        }
    }
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
        names.sort_by_key(|n| Order::of(n, 0));
        assert_eq!(
            names,
            [
                "20260105.00009.audit.log",
                "20260105-00010.audit.log",
                "20260106.00000.audit.log"
            ]
        );
        let order = |name| Order::of(name, 0);
        assert!(order("20260105.00003.audit.log") < order("20260105.00003.audit.log.gz"));
        assert!(order("20260105.00003.audit.log.gz") < order("20260105.00004.audit.log"));
        assert!(Order::of("other.audit.log", i64::MAX) < Order::of("20200101.00000.audit.log", 0));
    }
}
