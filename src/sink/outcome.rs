//! What the response of a server means for the events of a request. All sinks share this classification; each
//! adds the rules of its protocol for single events.

use crate::delay::requested_delay;
use crate::http::{self, HttpError};
use std::time::Duration;

/// The outcome of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    /// The server already had an event with this id.
    Duplicate,
    /// A transient fault. `after`: the delay that the server asked for.
    Retry {
        reason: String,
        after: Option<Duration>,
    },
    /// The event is refused, and would be refused each time.
    Poison {
        reason: String,
    },
    /// The event is larger than the protocol allows. It goes into quarantine even if no other event was
    /// accepted. An event that a server calls too large is [`Outcome::Poison`].
    TooLarge {
        reason: String,
    },
    /// No event would be accepted. A person has to correct credentials, permissions or names.
    Misconfigured {
        reason: String,
    },
}

/// The outcome of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    All(Outcome),
    /// One outcome for each event, in the order in which they were sent.
    Each(Vec<Outcome>),
    /// The request is refused because of an event that is not named. It is sent again in halves. If it has
    /// one event, that event is refused.
    Halve {
        reason: String,
        too_large: bool,
    },
    /// The request is refused because of the event with this index, counted from 0. That event is sent alone;
    /// so are the events before it and after it.
    Suspect {
        at: usize,
        reason: String,
    },
}

impl RequestOutcome {
    /// The word of the metrics. Outcomes of single events count by the one that needs most attention.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            RequestOutcome::All(outcome) => outcome.class(),
            RequestOutcome::Each(outcomes) => {
                let classes = || outcomes.iter().map(Outcome::class);
                let mut worst = ["misconfigured", "retry", "refused"].into_iter();
                worst.find(|class| classes().any(|other| other == *class)).unwrap_or("ok")
            }
            RequestOutcome::Halve { .. } | RequestOutcome::Suspect { .. } => "refused",
        }
    }
}

/// Longest excerpt of a server's message in a reason.
const EXCERPT_CHARS_MAX: usize = 400;

impl Outcome {
    pub(crate) fn retry(reason: impl Into<String>) -> Outcome {
        Outcome::Retry { reason: reason.into(), after: None }
    }

    fn class(&self) -> &'static str {
        match self {
            Outcome::Delivered | Outcome::Duplicate => "ok",
            Outcome::Retry { .. } => "retry",
            Outcome::Poison { .. } | Outcome::TooLarge { .. } => "refused",
            Outcome::Misconfigured { .. } => "misconfigured",
        }
    }

    /// Empty if the event was delivered.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Outcome::Delivered | Outcome::Duplicate => "",
            Outcome::Retry { reason, .. }
            | Outcome::Poison { reason }
            | Outcome::TooLarge { reason }
            | Outcome::Misconfigured { reason } => reason,
        }
    }

    /// The outcome of a request that got no response.
    pub(crate) fn of_error(error: &HttpError) -> Outcome {
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

/// The outcome by HTTP status, where the protocol has no rule of its own.
pub(crate) fn of_status(response: &http::Response, now_ms: i64) -> RequestOutcome {
    let reason = || server_message(response);
    match response.status {
        200..=299 => RequestOutcome::All(Outcome::Delivered),
        400 | 422 => RequestOutcome::Halve { reason: reason(), too_large: false },
        413 => RequestOutcome::Halve { reason: reason(), too_large: true },
        408 | 425 | 429 | 500..=599 => RequestOutcome::All(Outcome::Retry {
            reason: reason(),
            after: requested_delay(&response.headers, now_ms),
        }),
        _ => RequestOutcome::All(Outcome::Misconfigured { reason: reason() }),
    }
}

/// The status, a hint for the operator, and an excerpt of the body.
pub(crate) fn server_message(response: &http::Response) -> String {
    let hint = match response.status {
        401 => ": the credentials are not accepted; correct them",
        403 => ": the credentials are accepted, but lack the permission; grant it",
        404 => ": not found; correct the URL",
        405 => ": this method is not allowed; correct the URL or the method",
        413 => ": the request is too large",
        415 => ": this content type is not accepted; see `format` and `compression`",
        429 => ": too many requests",
        _ => "",
    };
    let hint = match response.status {
        407 => format!(": {}", response.proxy_credentials_remedy()),
        _ => hint.to_owned(),
    };
    status_and_body(response, &hint)
}

/// The status and an excerpt of the body, without a hint. For callers that add a more specific one.
pub(crate) fn server_message_without_hint(response: &http::Response) -> String {
    status_and_body(response, "")
}

fn status_and_body(response: &http::Response, hint: &str) -> String {
    let body = excerpt(&response.text());
    let separator = if body.is_empty() { "" } else { ", response: " };
    format!("status {}{hint}{separator}{body}", response.status)
}

/// The text on one line, cut at `EXCERPT_CHARS_MAX`.
pub(crate) fn excerpt(text: &str) -> String {
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

    fn classify(status: u16, body: &str) -> RequestOutcome {
        let response = http::Response { status, body: body.into(), ..http::Response::default() };
        of_status(&response, 0)
    }

    #[test]
    fn every_status_has_one_class() {
        for status in 100..=599u16 {
            let class = match classify(status, "") {
                RequestOutcome::All(Outcome::Delivered) => "delivered",
                RequestOutcome::All(Outcome::Retry { .. }) => "retry",
                RequestOutcome::All(Outcome::Misconfigured { .. }) => "misconfigured",
                RequestOutcome::Halve { too_large: true, .. } => "too large",
                RequestOutcome::Halve { .. } => "halve",
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
    fn server_messages_are_shortened_to_one_line() {
        let RequestOutcome::Halve { reason, .. } = classify(400, "{\n  \"error\" :\t\"no such stream\"\n}")
        else {
            panic!()
        };
        assert_eq!(reason, "status 400, response: { \"error\" : \"no such stream\" }");
        assert!(excerpt(&"ä".repeat(9000)).chars().count() <= EXCERPT_CHARS_MAX + 1);
        assert_eq!(excerpt(" \n "), "");
    }

    /// The metrics count a request by its event that needs most attention.
    #[test]
    fn a_request_has_the_class_of_its_worst_event() {
        let reason = || "why".to_owned();
        let (poison, misconfigured) =
            (Outcome::Poison { reason: reason() }, Outcome::Misconfigured { reason: reason() });
        let large = Outcome::TooLarge { reason: reason() };
        let each = |outcomes: &[&Outcome]| {
            RequestOutcome::Each(outcomes.iter().map(|outcome| (*outcome).clone()).collect()).class()
        };
        let (delivered, retry) = (&Outcome::Delivered, &Outcome::retry("why"));
        assert_eq!(each(&[]), "ok");
        assert_eq!(each(&[delivered, &Outcome::Duplicate]), "ok");
        assert_eq!(each(&[delivered, &poison]), "refused");
        assert_eq!(each(&[&large]), "refused");
        assert_eq!(each(&[&poison, retry, delivered]), "retry");
        assert_eq!(each(&[retry, &misconfigured, &poison]), "misconfigured");
        assert_eq!(RequestOutcome::All(Outcome::Delivered).class(), "ok");
        assert_eq!(RequestOutcome::All(retry.clone()).class(), "retry");
        assert_eq!(RequestOutcome::Halve { reason: reason(), too_large: false }.class(), "refused");
        assert_eq!(RequestOutcome::Suspect { at: 1, reason: reason() }.class(), "refused");
        for outcome in [&poison, &misconfigured, &large, retry] {
            assert_eq!(outcome.reason(), "why");
        }
        assert_eq!((delivered.reason(), Outcome::Duplicate.reason()), ("", ""));
    }

    /// A failed connection heals by itself, a wrong certificate does not.
    #[test]
    fn a_request_without_a_response_is_retried_unless_a_person_must_act() {
        let (phase, after) = (http::Phase::Idle, Duration::from_secs(60));
        let retry = [HttpError::Timeout { phase, after }, HttpError::TooLarge { bytes_max: 7 }];
        for error in &retry {
            assert_eq!(Outcome::of_error(error), Outcome::retry(crate::telemetry::chain(error)));
        }
        let settings = [
            HttpError::NoHeader { what: "the token".into() },
            HttpError::Foreign { url: "http://x/".into() },
        ];
        for error in &settings {
            assert_eq!(
                Outcome::of_error(error),
                Outcome::Misconfigured { reason: crate::telemetry::chain(error) }
            );
        }
    }

    /// What an operator reads has the remedy of its status, and what the server said.
    #[test]
    fn server_messages_have_a_hint() {
        let response =
            |status, body: &str| http::Response { status, body: body.into(), ..http::Response::default() };
        for (status, hint) in [
            (401, "the credentials are not accepted"),
            (403, "lack the permission"),
            (404, "correct the URL"),
            (405, "this method is not allowed"),
            (407, "proxy"),
            (413, "too large"),
            (415, "content type is not accepted"),
            (429, "too many requests"),
        ] {
            let message = server_message(&response(status, "said"));
            assert!(message.starts_with(&format!("status {status}: ")), "{message}");
            assert!(message.contains(hint) && message.ends_with(", response: said"), "{message}");
            assert_eq!(
                server_message_without_hint(&response(status, "said")),
                format!("status {status}, response: said")
            );
        }
        assert_eq!(server_message(&response(418, "")), "status 418");
    }

    #[test]
    fn an_excerpt_is_cut_after_its_longest_length() {
        let exact = "x".repeat(EXCERPT_CHARS_MAX);
        assert_eq!(excerpt(&exact), exact);
        assert_eq!(excerpt(&format!("{exact}y")), format!("{exact}…"));
        let words = "ab ".repeat(EXCERPT_CHARS_MAX);
        let cut = excerpt(&words);
        assert!(words.starts_with(cut.trim_end_matches('…')) && cut.ends_with('…'));
        assert_eq!(cut.chars().count(), EXCERPT_CHARS_MAX + 1);
    }
}
