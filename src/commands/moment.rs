//! Days and moments on the command line. Pure.

use crate::record::time;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The first moment of a day, or the moment itself, in milliseconds since the epoch.
pub(crate) fn from(text: &str) -> Result<i64, String> {
    parse(text).map(|(moment, _)| moment)
}

/// The moment after a day, or the moment itself.
pub(crate) fn to(text: &str) -> Result<i64, String> {
    parse(text).map(|(moment, is_day)| if is_day { moment.saturating_add(DAY_MS) } else { moment })
}

fn parse(text: &str) -> Result<(i64, bool), String> {
    let is_day = text.len() == 10;
    let moment = if is_day { time::from_iso(&format!("{text}T00:00:00Z")) } else { time::from_iso(text) };
    let moment =
        moment.ok_or("write a day as 2026-11-30, or a moment as 2026-11-30T18:00:00Z; both are UTC")?;
    Ok((moment, is_day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_whole() {
        assert_eq!(from("1970-01-02"), Ok(DAY_MS));
        assert_eq!(to("1970-01-02"), Ok(2 * DAY_MS));
        assert_eq!(from("1970-01-01T00:00:01Z"), Ok(1000));
        assert_eq!(to("1970-01-01T00:00:01Z"), Ok(1000));
        for wrong in ["", "yesterday", "1970-13-01", "1970-1-1"] {
            assert!(from(wrong).is_err() && to(wrong).is_err(), "{wrong}");
        }
    }
}
