//! Points in time as people write them.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::raw::{ConfigValue, Problems, Table};
use super::remote::Start;
use super::units;

impl Table<'_> {
    /// A point in time, in milliseconds since 1970. A date alone is its first moment in UTC.
    pub fn time(&mut self, key: &'static str, problems: &mut Problems) -> Option<i64> {
        let wanted = "a date or a time, as in \"2027-03-01\"";
        let found = self.read(key, wanted, problems, |value| {
            parse_time(&text(&value).ok_or(None)?).map_err(Some)
        });
        found.map(|found| found.value)
    }

    /// A point in time, or a duration that is counted back from the first poll.
    pub fn start(&mut self, key: &'static str, problems: &mut Problems) -> Option<ConfigValue<Start>> {
        let wanted = "a time, as in \"2026-06-01T00:00:00Z\", or a duration, as in \"30d\"";
        self.read(key, wanted, problems, |value| {
            let text = text(&value).ok_or(None)?;
            if text.contains('-') {
                return parse_time(&text).map(Start::At).map_err(Some);
            }
            let message = |_| {
                Some(format!(
                    "`{text}` is neither a time nor a duration; write {wanted}"
                ))
            };
            units::parse_duration(&text).map(Start::Ago).map_err(message)
        })
    }
}

/// TOML has times of its own, which need no quotes.
fn text(value: &DeValue) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.trim().to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        _ => None,
    }
}

fn parse_time(text: &str) -> Result<i64, String> {
    // A date's parser takes a whole time too and forgets its hours.
    let time = if text.len() == "2027-03-01".len() {
        let date = text.parse::<Date>().ok();
        date.and_then(|date| date.to_zoned(TimeZone::UTC).ok())
            .map(|zoned| zoned.timestamp())
    } else {
        text.parse::<Timestamp>().ok()
    };
    time.map(Timestamp::as_millisecond).filter(|ms| *ms >= 0).ok_or_else(|| {
        format!(
            "`{text}` is no time since 1970 with its offset; write it as in \"2026-06-01T00:00:00Z\" or \"2026-06-01\""
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for text in [
            "",
            "2026-06-01T00:00:00",
            "2026-02-30",
            "1969-12-31",
            "2026-6-1",
            "01-06-2026",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
