//! Times in milliseconds since 1970, in the forms that Confluence writes and no others.
//!
//! Hand-written for speed, because one is parsed and two are written per event.

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999Z: the range of ISO 8601 with four-digit years.
const MS_MIN: i64 = -62_167_219_200_000;
const MS_MAX: i64 = 253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;

/// From a file's `epochSecond` and `nano`. `nano` is a number of nanoseconds: 54000000 is 54 ms.
pub fn from_epoch(second: i64, nano: i64) -> Option<i64> {
    if !(0..1_000_000_000).contains(&nano) {
        return None;
    }
    from_epoch_ms(second.checked_mul(1000)?.checked_add(nano / 1_000_000)?)
}

/// From Cloud's milliseconds.
pub fn from_epoch_ms(ms: i64) -> Option<i64> {
    (MS_MIN..=MS_MAX).contains(&ms).then_some(ms)
}

/// From `2021-11-23T00:39:37.908Z`: a fraction of any length or none, `Z` or an offset (`+01:00`, `+0100`, `+01`).
/// Digits beyond milliseconds are truncated.
pub fn from_iso(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (date_time, rest) = bytes.split_at_checked(19)?;
    let separators = [date_time[4], date_time[7], date_time[10], date_time[13], date_time[16]];
    if &separators != b"--T::" {
        return None;
    }
    let [year, month, day] =
        [number(&date_time[..4])?, number(&date_time[5..7])?, number(&date_time[8..10])?];
    let [hour, minute, second] =
        [number(&date_time[11..13])?, number(&date_time[14..16])?, number(&date_time[17..])?];
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_ms, zone) = fraction(rest)?;
    let local_ms = days_from_civil(year, month, day) * DAY_MS
        + ((hour * 60 + minute) * 60 + second) * 1000
        + fraction_ms;
    from_epoch_ms(local_ms - offset_ms(zone)?)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

/// The milliseconds of `.908…`, and the text after the fraction.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let ms = (0..3).fold(0, |ms, at| ms * 10 + if at < length { i64::from(digits[at] - b'0') } else { 0 });
    Some((ms, &digits[length..]))
}

fn offset_ms(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match zone {
        b"Z" => return Some(0),
        [sign, h1, h2] => (sign, [*h1, *h2], [b'0', b'0']),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, [*h1, *h2], [*m1, *m2]),
        _ => return None,
    };
    let (hours, minutes) = (number(&hours)?, number(&minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let ms = (hours * 60 + minutes) * 60_000;
    match sign {
        b'+' => Some(ms),
        b'-' => Some(-ms),
        _ => None,
    }
}

/// Formats as `2021-11-22T23:44:13.873Z`, always 24 characters. `ms` is clamped to the years 0000 to 9999.
pub fn iso(ms: i64) -> [u8; 24] {
    let ms = ms.clamp(MS_MIN, MS_MAX);
    let (year, month, day) = civil_from_days(ms.div_euclid(DAY_MS));
    let of_day = ms.rem_euclid(DAY_MS);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    write(&mut text[..4], year);
    write(&mut text[5..7], month);
    write(&mut text[8..10], day);
    write(&mut text[11..13], of_day / 3_600_000);
    write(&mut text[14..16], of_day / 60_000 % 60);
    write(&mut text[17..19], of_day / 1000 % 60);
    write(&mut text[20..23], of_day % 1000);
    text
}

fn write(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Howard Hinnant, "chrono-compatible low-level date algorithms": years start in March, eras have 400 years.

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(ms: i64) -> String {
        String::from_utf8(iso(ms).to_vec()).unwrap()
    }

    #[test]
    fn f67_nano_is_a_number() {
        for (nano, expected) in [
            (0, "2021-11-22T23:42:47.000Z"),
            (1_000_000, "2021-11-22T23:42:47.001Z"),
            (54_000_000, "2021-11-22T23:42:47.054Z"),
            (999_000_000, "2021-11-22T23:42:47.999Z"),
            (999_999_999, "2021-11-22T23:42:47.999Z"),
        ] {
            assert_eq!(text(from_epoch(1_637_624_567, nano).unwrap()), expected);
        }
        assert_eq!(from_epoch(1, 1_000_000_000), None);
        assert_eq!(from_epoch(1, -1), None);
        assert_eq!(from_epoch(i64::MAX, 0), None);
    }

    #[test]
    fn f33_bad_timestamp() {
        for bad in [
            "",
            "yesterday",
            "2021-11-23",
            "2021-11-23T00:39:37",
            "2021-11-23 00:39:37Z",
            "2021-13-23T00:39:37Z",
            "2021-02-29T00:39:37Z",
            "2021-11-31T00:39:37Z",
            "2021-11-00T00:39:37Z",
            "2021-11-23T24:00:00Z",
            "2021-11-23T00:60:00Z",
            "2021-11-23T00:00:60Z",
            "2021-11-23T00:39:37.Z",
            "2021-11-23T00:39:37.1",
            "2021-11-23T00:39:37+1",
            "2021-11-23T00:39:37+24:00",
            "2021-11-23T00:39:37 01:00",
            "2021-11-23T00:39:37Zulu",
            "+021-11-23T00:39:37Z",
            "２021-11-23T00:39:37Z",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(from_iso(bad), None, "{bad}");
        }
    }

    #[test]
    fn offsets_and_fractions() {
        for (given, expected) in [
            ("2021-11-23T00:39:37Z", "2021-11-23T00:39:37.000Z"),
            ("2021-11-23T00:39:37.9Z", "2021-11-23T00:39:37.900Z"),
            ("2021-11-23T00:39:37.908123999Z", "2021-11-23T00:39:37.908Z"),
            ("2021-11-23T00:39:37.9089999999999Z", "2021-11-23T00:39:37.908Z"),
            ("2021-11-23T00:39:37+01:00", "2021-11-22T23:39:37.000Z"),
            ("2021-11-23T00:39:37.5-0930", "2021-11-23T10:09:37.500Z"),
            ("2020-02-29T23:59:59.999+00", "2020-02-29T23:59:59.999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(text(from_iso(given).unwrap()), expected, "{given}");
        }
    }

    proptest! {
        /// Compares with jiff in both directions.
        #[test]
        fn f33_timestamps(ms in MS_MIN..=MS_MAX, finer in 0i64..1_000_000, offset_minutes in -1439i64..=1439) {
            let stamp = jiff::Timestamp::from_millisecond(ms).unwrap();
            prop_assert_eq!(text(ms), format!("{stamp:.3}"));
            prop_assert_eq!(from_iso(&text(ms)), Some(ms));
            prop_assert_eq!(from_iso(&format!("{stamp:.9}")), Some(ms));
            let (second, nano) = (ms.div_euclid(1000), ms.rem_euclid(1000) * 1_000_000 + finer);
            prop_assert_eq!(from_epoch(second, nano), Some(ms));
            let fine = jiff::Timestamp::from_millisecond(ms).unwrap() + jiff::SignedDuration::from_nanos(finer);
            prop_assert_eq!(from_iso(&format!("{fine:.9}")), Some(ms));

            let local = ms + offset_minutes * 60_000;
            if (MS_MIN..=MS_MAX).contains(&local) {
                let (sign, size) = (if offset_minutes < 0 { '-' } else { '+' }, offset_minutes.abs());
                let body = text(local).replace('Z', "");
                for offset in [
                    format!("{sign}{:02}:{:02}", size / 60, size % 60),
                    format!("{sign}{:02}{:02}", size / 60, size % 60),
                ] {
                    prop_assert_eq!(from_iso(&format!("{body}{offset}")), Some(ms));
                }
            }
        }

        #[test]
        fn any_text_is_a_time_or_none(text in "\\PC{0,40}") {
            from_iso(&text);
        }
    }
}
