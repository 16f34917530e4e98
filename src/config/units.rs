//! Sizes, durations and times as people write them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Largest first, so that formatting finds the largest unit that divides; binary before decimal.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// `"16MiB"` in bytes. The error says what to write.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, &SIZES).ok_or_else(|| {
        format!(
            "`{text}` is no size; write a whole number with B, kB, MB, GB, KiB, MiB or GiB, as in \"16MiB\""
        )
    })
}

/// `"5s"`. The error says what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, &DURATIONS).map(Duration::from_millis).ok_or_else(|| {
        format!("`{text}` is no duration; write a whole number with ms, s, m, h or d, as in \"5s\"")
    })
}

/// `"2026-06-01T00:00:00Z"` or `"2026-06-01"`, in milliseconds since 1970. The error says what to write.
pub fn parse_time(text: &str) -> Result<i64, String> {
    // A date's parser takes a whole time too and forgets its hours.
    let time = if text.len() == "2027-03-01".len() {
        let date = text.parse::<Date>().ok();
        date.and_then(|date| date.to_zoned(TimeZone::UTC).ok()).map(|zoned| zoned.timestamp())
    } else {
        text.parse::<Timestamp>().ok()
    };
    time.map(Timestamp::as_millisecond).filter(|ms| *ms >= 0).ok_or_else(|| {
        format!(
            "`{text}` is no time since 1970 with its offset; write it as in \"2026-06-01T00:00:00Z\" or \"2026-06-01\""
        )
    })
}

pub fn format_size(bytes: u64) -> String {
    format(bytes, &SIZES)
}

pub fn format_duration(duration: Duration) -> String {
    match duration.as_millis() as u64 {
        0 => "0s".to_owned(),
        millis => format(millis, &DURATIONS),
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn format(value: u64, units: &[(&str, u64)]) -> String {
    let smallest = units.iter().min_by_key(|(_, factor)| *factor).map_or("", |(name, _)| name);
    match units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor)) {
        Some((name, factor)) => format!("{}{name}", value / factor),
        None => format!("{value}{smallest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            ("0B", 0),
            ("1B", 1),
            ("1kB", 1000),
            ("1KiB", 1024),
            ("16MiB", 16 << 20),
            ("16 MiB", 16 << 20),
            ("2GB", 2_000_000_000),
            ("1GiB", 1 << 30),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes), "{text}");
        }
        for text in ["", "16", "MiB", "1.5GiB", "-1B", "16mib", "16Mb", "99999999999GiB", "１MiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(format_size(16 << 20), "16MiB");
        assert_eq!(format_size(100_000_000), "100MB");
    }

    #[test]
    fn durations() {
        let table = [
            ("250ms", 250),
            ("5s", 5_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("0s", 0),
        ];
        for (text, ms) in table {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(
                parse_duration(&format_duration(Duration::from_millis(ms))),
                Ok(Duration::from_millis(ms))
            );
        }
        for text in ["", "5", "s", "1.5s", "-5s", "5 seconds", "5S", "5min"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
    }

    #[test]
    fn times() {
        let table = [
            ("1970-01-01", 0),
            ("2027-03-01", 1_803_859_200_000),
            ("2026-06-01T00:00:00Z", 1_780_272_000_000),
            ("2026-06-01T02:00:00+02:00", 1_780_272_000_000),
            ("2026-06-01 00:00:00.5Z", 1_780_272_000_500),
        ];
        for (text, ms) in table {
            assert_eq!(parse_time(text), Ok(ms), "{text}");
        }
        for text in ["", "2026-06-01T00:00:00", "2026-02-30", "1969-12-31", "2026-6-1", "01-06-2026"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
