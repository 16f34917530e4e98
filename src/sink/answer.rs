//! What a server's answer means for the events that it was sent. One classification for all sinks; each adds what its
//! protocol says of single events.

use crate::delay::requested_delay;
use crate::http::{self, HttpError};
use std::time::Duration;

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// It was there already, under its own id.
    Duplicate,
    /// A fault that passes by itself; `after`: not before the server's own time.
    Retry {
        reason: String,
        after: Option<Duration>,
    },
    /// The event is refused, and will always be.
    Poison {
        reason: String,
    },
    /// Larger than the protocol carries, whoever is asked: its own fault although no other event was taken. What a server calls
    /// too large is [`Outcome::Poison`].
    TooLarge {
        reason: String,
    },
    /// Nobody's event would be taken: a person has to correct credentials, permissions, names.
    Misconfigured {
        reason: String,
    },
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    All(Outcome),
    /// One for each event, in their order.
    Each(Vec<Outcome>),
    /// Refused for a fault of some event that is not named: each half tells more. Of one event alone: that is the one.
    Halve {
        reason: String,
        too_large: bool,
    },
    /// All were refused, for a fault of this one, counted from 0. It is sent alone, and so are those before and after it.
    Suspect {
        at: usize,
        reason: String,
    },
}

/// How much of a server's own words is told.
const EXCERPT_CHARS_MAX: usize = 400;

impl Outcome {
    pub fn retry(reason: impl Into<String>) -> Outcome {
        Outcome::Retry {
            reason: reason.into(),
            after: None,
        }
    }

    /// Empty where an event is there.
    pub fn reason(&self) -> &str {
        match self {
            Outcome::Delivered | Outcome::Duplicate => "",
            Outcome::Retry { reason, .. }
            | Outcome::Poison { reason }
            | Outcome::TooLarge { reason }
            | Outcome::Misconfigured { reason } => reason,
        }
    }

    /// Of a request that got no answer.
    pub fn of_error(error: &HttpError) -> Outcome {
        let reason = crate::telemetry::chain(error);
        match error {
            HttpError::Unreachable { .. }
            | HttpError::Proxy { .. }
            | HttpError::Timeout { .. }
            | HttpError::TooLarge { .. }
            | HttpError::Broken { .. } => Outcome::Retry { reason, after: None },
            HttpError::Credential(_)
            | HttpError::NoHeader { .. }
            | HttpError::Setting(_)
            | HttpError::File { .. }
            | HttpError::NoPem { .. }
            | HttpError::Build(_)
            | HttpError::Foreign { .. }
            | HttpError::Tls { .. }
            | HttpError::Redirect { .. } => Outcome::Misconfigured { reason },
        }
    }
}

/// What a status means where the protocol has no rule of its own.
pub fn of_status(answer: &http::Answer, now_ms: i64) -> Answer {
    let reason = || server_message(answer);
    match answer.status {
        200..=299 => Answer::All(Outcome::Delivered),
        400 | 422 => Answer::Halve {
            reason: reason(),
            too_large: false,
        },
        413 => Answer::Halve {
            reason: reason(),
            too_large: true,
        },
        408 | 425 | 429 | 500..=599 => Answer::All(Outcome::Retry {
            reason: reason(),
            after: requested_delay(&answer.headers, now_ms),
        }),
        _ => Answer::All(Outcome::Misconfigured { reason: reason() }),
    }
}

/// The status, what it usually asks of a person, and the beginning of the server's own words.
pub fn server_message(answer: &http::Answer) -> String {
    let hint = match answer.status {
        401 => ": the credentials are not accepted; correct them",
        403 => ": the credentials are accepted and may not do this; see their permissions",
        404 => ": there is nothing at this place; correct the URL",
        405 => ": this method is not accepted; correct the URL or the method",
        413 => ": the request is too large",
        415 => ": this kind of content is not accepted; see `format` and `compression`",
        429 => ": too many requests",
        _ => "",
    };
    let hint = match answer.status {
        407 => format!(": {}", answer.proxy_wants_credentials()),
        _ => hint.to_owned(),
    };
    said(answer, &hint)
}

/// The same without what the status usually asks: for where the protocol says more of it.
pub fn words(answer: &http::Answer) -> String {
    said(answer, "")
}

fn said(answer: &http::Answer, hint: &str) -> String {
    let body = excerpt(&answer.text());
    let comma = if body.is_empty() { "" } else { ", it says: " };
    format!("status {}{hint}{comma}{body}", answer.status)
}

/// On one line, and not long.
pub fn excerpt(text: &str) -> String {
    let mut short = String::new();
    for word in text.split_whitespace() {
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
        if short.chars().count() > EXCERPT_CHARS_MAX {
            short = short.chars().take(EXCERPT_CHARS_MAX).collect();
            short.push('…');
            break;
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Answer {
        let answer = http::Answer {
            status,
            body: body.into(),
            ..http::Answer::default()
        };
        of_status(&answer, 0)
    }

    #[test]
    fn every_status_has_one_class() {
        for status in 100..=599u16 {
            let class = match of(status, "") {
                Answer::All(Outcome::Delivered) => "delivered",
                Answer::All(Outcome::Retry { .. }) => "retry",
                Answer::All(Outcome::Misconfigured { .. }) => "misconfigured",
                Answer::Halve { too_large: true, .. } => "too large",
                Answer::Halve { .. } => "halve",
                other => panic!("{status}: {other:?}"),
            };
            let expect = match status {
                200..=299 => "delivered",
                400 | 422 => "halve",
                413 => "too large",
                408 | 425 | 429 => "retry",
                500.. => "retry",
                _ => "misconfigured",
            };
            assert_eq!(class, expect, "{status}");
        }
    }

    #[test]
    fn what_a_server_says_is_told_on_one_line_and_short() {
        let Answer::Halve { reason, .. } = of(400, "{\n  \"error\" :\t\"no such stream\"\n}") else {
            panic!()
        };
        assert_eq!(reason, "status 400, it says: { \"error\" : \"no such stream\" }");
        assert!(excerpt(&"ä".repeat(9000)).chars().count() <= EXCERPT_CHARS_MAX + 1);
        assert_eq!(excerpt(" \n "), "");
    }
}
