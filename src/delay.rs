//! How long to wait before the next request: what the server asks for in any known header, or the agent's own
//! back-off.
//!
//! Data Center has a token bucket: `X-RateLimit-Remaining` tokens, `-FillRate` new ones per `-Interval-Seconds`, and
//! `Retry-After` in seconds. Cloud sends `Retry-After`, and `X-RateLimit-Reset` as a date. Proxies send the other
//! forms.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::http::HeaderMap;

/// Minimum delay after a failure.
pub const DELAY_MIN: Duration = Duration::from_secs(1);
/// Maximum delay, whatever a server asks for: a wrong header must not stop the agent.
pub const DELAY_MAX: Duration = Duration::from_secs(15 * 60);

/// A number from here on is a time in seconds since 1970, and from `EPOCH_MS_MIN` on in milliseconds. Both limits are
/// in 1973.
const EPOCH_S_MIN: f64 = 1e8;
const EPOCH_MS_MIN: f64 = 1e11;
/// More than every limit, and far from an overflow.
const SECONDS_MAX: f64 = 1e9;

/// The delay that the headers of a refused request (429, 503) ask for; zero if that time is over. `None` if they have
/// none in a known form. A reset time does not count while requests remain.
pub fn requested_delay(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name| text(name).and_then(parse_number);
    if let Some(delay) = text("retry-after").and_then(|text| parse_delay(text, now_ms)) {
        return Some(delay);
    }
    let remaining = number("x-ratelimit-remaining");
    if remaining.is_some_and(|remaining| remaining >= 1.0) {
        return None;
    }
    if let Some(delay) = text("x-ratelimit-reset").and_then(|text| parse_delay(text, now_ms)) {
        return Some(delay);
    }
    remaining?;
    let interval = number("x-ratelimit-interval-seconds")?;
    let fill = number("x-ratelimit-fillrate").filter(|fill| *fill > 0.0).unwrap_or(1.0);
    Some(seconds(interval * (1.0 / fill).ceil()))
}

/// The pause that the headers of a successful answer ask for because no request remains.
pub fn requested_pause(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let remaining = headers.get("x-ratelimit-remaining")?.to_str().ok().and_then(parse_number)?;
    let delay = requested_delay(headers, now_ms).filter(|_| remaining < 1.0)?;
    Some(delay.min(DELAY_MAX))
}

/// The delay after `failures` consecutive failures, counted from 1. `random` is from 0 to 1.
pub fn back_off(failures: u32, requested: Option<Duration>, random: f64) -> Duration {
    let random = if (0.0..=1.0).contains(&random) { random } else { 0.5 };
    let doubled = DELAY_MIN.as_secs_f64() * f64::from(failures.clamp(1, 20) - 1).exp2();
    // Half of it is random, so that agents that failed together do not retry together. Never earlier than the server
    // requested for.
    let delay = doubled.min(DELAY_MAX.as_secs_f64()) * (0.5 + random / 2.0);
    let requested = requested.map_or(0.0, |requested| requested.as_secs_f64() * (1.0 + random / 10.0));
    seconds(delay.max(requested)).clamp(DELAY_MIN, DELAY_MAX)
}

/// A number from 0 to 1, for jitter.
pub fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64
}

/// Parses seconds from now, a time in seconds or milliseconds since 1970, an HTTP date, or an ISO date.
fn parse_delay(text: &str, now_ms: i64) -> Option<Duration> {
    let until = |at_ms: f64| seconds((at_ms - now_ms as f64) / 1000.0);
    match parse_number(text) {
        Some(number) if number >= EPOCH_MS_MIN => Some(until(number)),
        Some(number) if number >= EPOCH_S_MIN => Some(until(number * 1000.0)),
        Some(number) => Some(seconds(number)),
        None => parse_date_ms(text).map(|at| until(at as f64)),
    }
}

/// A plain number: no exponent, no infinity.
fn parse_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".+-".contains(&byte));
    text.parse().ok().filter(|_| plain)
}

/// Parses an HTTP or ISO date to milliseconds since 1970.
pub fn parse_date_ms(text: &str) -> Option<i64> {
    let iso = || text.parse::<Timestamp>().ok();
    let moment = rfc2822::DateTimeParser::new().parse_timestamp(text).ok().or_else(iso);
    moment.map(Timestamp::as_millisecond)
}

/// What is no number, such as zero times infinity, is zero seconds.
fn seconds(seconds: f64) -> Duration {
    let seconds = if seconds.is_nan() { 0.0 } else { seconds };
    Duration::from_secs_f64(seconds.clamp(0.0, SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-21T12:00:00Z
    const NOW_MS: i64 = 1_795_262_400_000;

    fn headers(lines: &[(&'static str, String)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            let name = reqwest::header::HeaderName::from_static(name);
            (name, reqwest::header::HeaderValue::from_str(value).unwrap())
        });
        lines.collect()
    }

    #[track_caller]
    fn check(lines: &[(&'static str, &str)], expect_s: Option<f64>) {
        let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let requested = requested_delay(&headers(&lines), NOW_MS);
        assert_eq!(requested.map(|requested| requested.as_secs_f64()), expect_s, "{lines:?}");
    }

    #[test]
    fn every_shape() {
        assert_eq!(parse_date_ms("2026-11-21T12:00:00Z"), Some(NOW_MS));
        for (text, expect_s) in [
            ("30", Some(30.0)),
            (" 30 ", Some(30.0)),
            ("0", Some(0.0)),
            ("1.5", Some(1.5)),
            ("-7", Some(0.0)),
            ("99999999999999999999999999", Some(SECONDS_MAX)),
            ("Sat, 21 Nov 2026 12:01:30 GMT", Some(90.0)),
            ("Sat, 21 Nov 2026 11:59:30 GMT", Some(0.0)),
            ("1795262460", Some(60.0)),
            ("1795262460000", Some(60.0)),
            ("1795262400", Some(0.0)),
            ("1795000000", Some(0.0)),
            ("2026-11-21T12:05:00Z", Some(300.0)),
            ("2026-11-21T12:05Z", Some(300.0)),
            ("2026-11-21T12:05:00.500Z", Some(300.5)),
            ("2026-11-21T13:05:00+01:00", Some(300.0)),
            ("1970-01-01T00:00Z", Some(0.0)),
            ("", None),
            ("soon", None),
            ("NaN", None),
            ("inf", None),
            ("1e9", None),
            ("2026-11-21", None),
            ("-", None),
        ] {
            check(&[("retry-after", text)], expect_s);
            check(&[("x-ratelimit-reset", text)], expect_s);
            check(&[("retry-after", "soon"), ("x-ratelimit-reset", text)], expect_s);
            check(&[("retry-after", "3"), ("x-ratelimit-reset", text)], Some(3.0));
            check(&[("x-ratelimit-remaining", "12"), ("x-ratelimit-reset", text)], None);
        }
    }

    #[test]
    fn data_center_counts_tokens() {
        let bucket = |left, interval, fill| {
            [
                ("x-ratelimit-limit", "100"),
                ("x-ratelimit-remaining", left),
                ("x-ratelimit-interval-seconds", interval),
                ("x-ratelimit-fillrate", fill),
            ]
        };
        check(&bucket("0", "60", "10"), Some(60.0));
        check(&bucket("0", "60", "0.25"), Some(240.0));
        check(&bucket("0", "60", "0"), Some(60.0));
        check(&bucket("0", "60", "many"), Some(60.0));
        check(&bucket("-1", "60", "10"), Some(60.0));
        check(&bucket("5", "60", "10"), None);
        check(&bucket("0", "long", "10"), None);
        check(&bucket("?", "60", "10"), None);
        // Zero times infinity is no number.
        let (tiny, huge) = (format!("0.{}1", "0".repeat(320)), "9".repeat(400));
        check(&bucket("0", "0", &tiny), Some(0.0));
        check(&bucket("0", &huge, &huge), Some(0.0));
        check(&[("x-ratelimit-interval-seconds", "60")], None);
        check(&[], None);
    }

    #[test]
    fn backs_off_by_doubling_and_never_before_the_servers_time() {
        let seconds = |failures, requested: Option<u64>, random| {
            back_off(failures, requested.map(Duration::from_secs), random).as_secs_f64()
        };
        assert_eq!(
            (1..=12).map(|n| seconds(n, None, 1.0)).collect::<Vec<_>>(),
            [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 900.0, 900.0]
        );
        assert_eq!(seconds(5, None, 0.0), 8.0);
        assert_eq!(seconds(1, Some(60), 0.0), 60.0);
        assert_eq!(seconds(1, Some(60), 1.0), 66.0);
        assert_eq!(seconds(9, Some(60), 1.0), 256.0);
        assert_eq!(seconds(0, Some(0), 0.0), 1.0);
        assert_eq!(seconds(u32::MAX, Some(u64::MAX), f64::NAN), 900.0);
    }

    fn any_value() -> impl Strategy<Value = String> {
        let moment = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        let near = NOW_MS - 4_000_000..NOW_MS + 4_000_000;
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            (-100..10_000i64).prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n}")),
            near.clone().prop_map(|ms| ms.to_string()),
            near.clone().prop_map(|ms| (ms / 1000).to_string()),
            near.clone().prop_map(move |ms| moment(ms).to_string()),
            near.clone().prop_map(move |ms| moment(ms).strftime("%Y-%m-%dT%H:%MZ").to_string()),
            near.prop_map(move |ms| moment(ms).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()),
            "[ -~]{0,40}",
        ]
    }

    fn any_headers() -> impl Strategy<Value = Vec<(&'static str, String)>> {
        let name = prop::sample::select(vec![
            "retry-after",
            "x-ratelimit-reset",
            "x-ratelimit-remaining",
            "x-ratelimit-interval-seconds",
            "x-ratelimit-fillrate",
        ]);
        prop::collection::vec((name, any_value()), 0..5)
    }

    proptest! {
        /// A server that always refuses gets few requests, whatever its headers are, but always another one.
        #[test]
        fn f43_retry_after_shapes(answers in prop::collection::vec((any_headers(), 0.0..=1.0f64), 40)) {
            let end_ms = NOW_MS + 600_000;
            let (mut now_ms, mut requests) = (NOW_MS, 0u32);
            while now_ms < end_ms {
                let (lines, random) = &answers[requests as usize % answers.len()];
                requests += 1;
                let delay = back_off(requests, requested_delay(&headers(lines), now_ms), *random);
                prop_assert!((DELAY_MIN..=DELAY_MAX).contains(&delay));
                now_ms += delay.as_millis() as i64;
            }
            // 1 + 1 + 2 + 4 + … + 256 s: with the smallest jitter the eleventh request is sent after 512 s.
            prop_assert!(requests <= 12, "{requests} requests in 10 minutes");
        }
    }
}
