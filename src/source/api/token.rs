//! When the token in use expires, and when to warn.
//!
//! Data Center lists a user's own tokens (`<base>/rest/pat/latest/tokens`, since 7.9), without the one that made the
//! request. Cloud has no such list, so the operator sets `token_expires`.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::response::{self, ResponseClass};
use crate::config::{ApiConfig, Auth, Product};
use crate::delay::parse_date_ms;
use crate::http::{Client, Response};

const DAY_MS: i64 = 86_400_000;
/// How many days ahead warnings are due; 0 is after the expiry.
const DAYS_AHEAD: [u32; 6] = [0, 1, 3, 7, 14, 30];

/// The expiry of the token in use, from the list of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// The token with this name, at this moment in milliseconds since 1970.
    At { name: String, expires_ms: i64 },
    /// It never expires, or the list has no token with an expiry.
    Never,
    /// No token has the configured name. With the names that exist.
    NoSuchToken { names: Vec<String> },
}

/// Whether the server lists the expiry: of a Personal Access Token in use, or of the token with the configured name.
pub(crate) fn is_listed(config: &ApiConfig) -> bool {
    let in_use = matches!(config.http.auth, Auth::Bearer(_));
    config.product == Product::DataCenter && (in_use || config.token.name.is_some())
}

/// A warning: one each for 30, 14, 7, 3 and 1 days ahead, and one after the expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Warning {
    /// 30, 14, 7, 3, 1, or 0 for an expired token. To be stored with `expires_ms`, for [`due`].
    pub days: u32,
    pub expires_ms: i64,
    /// Milliseconds until the expiry; negative after it.
    pub left_ms: i64,
}

/// The warning that is due now and was not logged yet. `last_warned_days`: the last [`Warning::days`] for the same
/// `expires_ms`; `None` for a new token.
pub(crate) fn due(expires_ms: i64, now_ms: i64, last_warned_days: Option<u32>) -> Option<Warning> {
    let left_ms = expires_ms.saturating_sub(now_ms);
    let days = *DAYS_AHEAD.iter().find(|days| left_ms <= i64::from(**days) * DAY_MS)?;
    let logged = last_warned_days.is_some_and(|last| last <= days);
    (!logged).then_some(Warning { days, expires_ms, left_ms })
}

impl Warning {
    /// The text for log, `check`, health and the event.
    pub(crate) fn message(&self) -> String {
        let when = Timestamp::from_millisecond(self.expires_ms).unwrap_or_default();
        let when = when.strftime("%Y-%m-%d %H:%M UTC");
        let remedy = "create a new one and replace the old one; if it is in a file, the agent reads it without a restart";
        match self.left_ms {
            ..=0 => format!("the token expired on {when}; {remedy}"),
            left if left < DAY_MS => format!("the token expires in less than a day, on {when}; {remedy}"),
            left if left < 2 * DAY_MS => format!("the token expires in 1 day, on {when}; {remedy}"),
            left => format!("the token expires in {} days, on {when}; {remedy}", left / DAY_MS),
        }
    }
}

/// Reads the list of tokens from a Data Center. `name`: the configured token name; without it, the token that expires
/// first counts.
pub(crate) async fn fetch(
    client: &mut Client,
    base: &Url,
    name: Option<&str>,
    now_ms: i64,
) -> Result<Expiry, ResponseClass> {
    let result = client.get(&response::below(base, "rest/pat/latest/tokens")).await;
    match response::classify(&result, &Product::DataCenter) {
        ResponseClass::Ok => {
            let Response { body, secrets, .. } = result.unwrap_or_default();
            let expiry = expiry(&body, name, now_ms);
            client.recycle(body);
            match expiry {
                Ok(Expiry::At { name, expires_ms }) => {
                    Ok(Expiry::At { name: secrets.redacted(&name), expires_ms })
                }
                Ok(Expiry::NoSuchToken { names }) => Ok(Expiry::NoSuchToken {
                    names: names.iter().map(|name| secrets.redacted(name)).collect(),
                }),
                Ok(Expiry::Never) => Ok(Expiry::Never),
                Err(reason) => Err(ResponseClass::Protocol {
                    what: secrets.redacted(&format!("the response is no list of tokens: {reason}")),
                }),
            }
        }
        class => Err(class),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    name: String,
    /// A date. Missing or null: never.
    expiring_at: Option<Value>,
}

/// Reads the list of tokens.
pub(crate) fn expiry(body: &[u8], name: Option<&str>, now_ms: i64) -> Result<Expiry, serde_json::Error> {
    let tokens: Vec<Token> = serde_json::from_slice(body)?;
    let at = |token: &Token| {
        let expires_ms = moment(token.expiring_at.as_ref()?)?;
        Some(Expiry::At { name: token.name.clone(), expires_ms })
    };
    let Some(name) = name else {
        // The request was accepted, so its token has not expired.
        let alive = tokens.iter().filter_map(at).filter_map(|expiry| match expiry {
            Expiry::At { expires_ms, .. } if expires_ms > now_ms => Some((expires_ms, expiry)),
            _ => None,
        });
        return Ok(alive.min_by_key(|(at, _)| *at).map_or(Expiry::Never, |(_, expiry)| expiry));
    };
    Ok(match tokens.iter().find(|token| token.name == name) {
        Some(token) => at(token).unwrap_or(Expiry::Never),
        None => Expiry::NoSuchToken { names: tokens.into_iter().map(|token| token.name).collect() },
    })
}

fn moment(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => parse_date_ms(text),
        value => value.as_i64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_795_262_400_000;

    #[test]
    fn each_warning_is_due_once_and_a_new_token_restarts_them() {
        let expires_ms = NOW_MS + 40 * DAY_MS;
        let (mut last, mut said) = (None, Vec::new());
        for hour in 0..24 * 45 {
            if let Some(warning) = due(expires_ms, NOW_MS + hour * 3_600_000, last) {
                said.push((hour / 24, warning.days));
                last = Some(warning.days);
            }
        }
        assert_eq!(said, [(10, 30), (26, 14), (33, 7), (37, 3), (39, 1), (40, 0)]);
        assert_eq!(due(expires_ms + 365 * DAY_MS, NOW_MS, None), None);
    }

    #[test]
    fn an_agent_that_was_stopped_logs_only_the_latest_warning() {
        let days = |left_days: i64, last| due(NOW_MS + left_days * DAY_MS, NOW_MS, last).map(|due| due.days);
        assert_eq!(days(31, None), None);
        assert_eq!(days(30, None), Some(30));
        assert_eq!(days(5, None), Some(7));
        assert_eq!(days(5, Some(30)), Some(7));
        assert_eq!(days(5, Some(7)), None);
        assert_eq!(days(-300, Some(7)), Some(0));
        assert_eq!(days(-300, Some(0)), None);
        assert_eq!(due(i64::MIN, i64::MAX, Some(0)), None);
    }

    #[test]
    fn messages_contain_the_day_and_the_remedy() {
        let message = |left_ms| due(NOW_MS + left_ms, NOW_MS, None).unwrap().message();
        assert!(
            message(6 * DAY_MS)
                .starts_with("the token expires in 6 days, on 2026-11-27 12:00 UTC; create a new one")
        );
        assert!(message(DAY_MS).contains("in 1 day, on 2026-11-22"));
        assert!(message(1).contains("in less than a day, on 2026-11-21"));
        assert!(message(-DAY_MS).contains("expired on 2026-11-20"));
    }

    const TOKENS: &str = r#"[
        {"id":1,"name":"old","createdAt":"2025-01-01T10:00:00.000Z","expiringAt":"2026-01-01T10:00:00.000Z"},
        {"id":2,"name":"late","createdAt":"2026-01-01T10:00:00.000Z","expiringAt":"2027-06-01T10:00:00.000Z"},
        {"id":3,"name":"soon","createdAt":"2026-01-01T10:00:00.000Z","lastAccessedAt":null,"expiringAt":"2026-12-01T10:00:00Z"},
        {"id":4,"name":"always","createdAt":"2026-01-01T10:00:00.000Z"},
        {"id":5,"name":"null","expiringAt":null}]"#;

    #[test]
    fn the_named_token_or_the_one_that_expires_soonest() {
        let find = |name| expiry(TOKENS.as_bytes(), name, NOW_MS).unwrap();
        let at = |name: &str, date: &str| Expiry::At {
            name: name.into(),
            expires_ms: parse_date_ms(date).unwrap(),
        };
        assert_eq!(find(None), at("soon", "2026-12-01T10:00:00Z"));
        assert_eq!(find(Some("late")), at("late", "2027-06-01T10:00:00Z"));
        assert_eq!(find(Some("old")), at("old", "2026-01-01T10:00:00Z"));
        assert_eq!(find(Some("always")), Expiry::Never);
        assert_eq!(find(Some("null")), Expiry::Never);
        let names = ["old", "late", "soon", "always", "null"].map(String::from).to_vec();
        assert_eq!(find(Some("other")), Expiry::NoSuchToken { names });
        assert_eq!(expiry(b"[]", None, NOW_MS).unwrap(), Expiry::Never);
        assert!(expiry(b"{}", None, NOW_MS).is_err());
        assert!(expiry(b"<html>", None, NOW_MS).is_err());
    }
}
