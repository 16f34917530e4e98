//! What a cluster says it is, at `GET /`.

use crate::http::Answer;
use crate::sink::answer::{self, Outcome, of_status};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    Elasticsearch,
    OpenSearch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub distribution: Distribution,
    /// As in `8.17.1`.
    pub number: String,
    pub major: u32,
    pub minor: u32,
    /// Elastic's, where versions and settings of nodes are no concern of its users.
    pub is_serverless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Yes,
    /// Newer than this agent, or older than what it is tested with.
    Untested,
    TooOld,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.distribution {
            Distribution::OpenSearch => write!(f, "OpenSearch {}", self.number),
            Distribution::Elasticsearch if self.is_serverless => write!(f, "Elasticsearch Serverless"),
            Distribution::Elasticsearch => write!(f, "Elasticsearch {}", self.number),
        }
    }
}

impl Product {
    pub fn support(&self) -> Support {
        match (self.distribution, self.major, self.minor) {
            (Distribution::Elasticsearch, ..) if self.is_serverless => Support::Yes,
            (Distribution::Elasticsearch, 7, 17..) | (Distribution::Elasticsearch, 8..=9, _) => Support::Yes,
            (Distribution::Elasticsearch, 0..=6, _) | (Distribution::Elasticsearch, 7, 0..=8) => {
                Support::TooOld
            }
            (Distribution::OpenSearch, 1..=3, _) => Support::Yes,
            // What it says with `compatibility.override_main_response_version`, for old clients.
            (Distribution::OpenSearch, 7, 10) => Support::Yes,
            _ => Support::Untested,
        }
    }

    /// Whether a request can ask that it goes to a data stream or nowhere.
    pub fn requires_data_streams(&self) -> bool {
        self.distribution == Distribution::Elasticsearch
            && (self.is_serverless || (self.major, self.minor) >= (8, 13))
    }
}

/// Why nothing that takes events has said what it is. Whatever was answered, no event is delivered by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It passes by itself.
    Busy { reason: String, after: Option<Duration> },
    /// It is no such server: a person has to act.
    Other { reason: String },
}

impl Unknown {
    pub fn reason(&self) -> &str {
        match self {
            Unknown::Busy { reason, .. } | Unknown::Other { reason } => reason,
        }
    }
}

impl From<Unknown> for Outcome {
    fn from(unknown: Unknown) -> Outcome {
        match unknown {
            Unknown::Busy { reason, after } => Outcome::Retry { reason, after },
            Unknown::Other { reason } => Outcome::Misconfigured { reason },
        }
    }
}

/// Longer version numbers are none.
const NUMBER_CHARS_MAX: usize = 40;

#[derive(Deserialize)]
struct Root {
    version: Version,
    #[serde(default)]
    tagline: String,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    distribution: Option<String>,
    build_flavor: Option<String>,
}

/// `None`: whoever writes events need not be allowed to ask this.
pub fn of(answer: &Answer) -> Result<Option<Product>, Unknown> {
    let other = || Unknown::Other {
        reason: format!(
            "what answers there is neither Elasticsearch nor OpenSearch; correct `hosts` ({})",
            answer::words(answer)
        ),
    };
    match answer.status {
        200 => parse(answer).map(Some).ok_or_else(other),
        401 | 403 | 404 | 405 => Ok(None),
        _ => match of_status(answer, crate::clock::now_ms()) {
            answer::Answer::All(Outcome::Retry { reason, after }) => Err(Unknown::Busy { reason, after }),
            _ => Err(other()),
        },
    }
}

fn parse(answer: &Answer) -> Option<Product> {
    let root: Root = serde_json::from_slice(&answer.body).ok()?;
    let Version {
        number,
        distribution,
        build_flavor,
    } = root.version;
    let mut parts = number.split(['.', '-']).map(|part| part.parse().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    let is_open = distribution.as_deref() == Some("opensearch") || root.tagline.contains("OpenSearch");
    let is_elastic = answer.header("x-elastic-product").is_some() || root.tagline == "You Know, for Search";
    let distribution = match (is_open, is_elastic) {
        (true, _) => Distribution::OpenSearch,
        (false, true) => Distribution::Elasticsearch,
        (false, false) => return None,
    };
    Some(Product {
        distribution,
        number: answer.concealed(&number).chars().take(NUMBER_CHARS_MAX).collect(),
        major,
        minor,
        is_serverless: build_flavor.as_deref() == Some("serverless"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut answer = Answer {
            status,
            body: body.into(),
            ..Answer::default()
        };
        for (name, value) in headers {
            answer.headers.insert(*name, value.parse().unwrap());
        }
        answer
    }

    /// Body, headers, name, support, whether it takes `require_data_stream`.
    type Row = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
        Support,
        bool,
    );

    #[test]
    fn servers_are_recognised_by_what_they_say() {
        let elastic: &'static [_] = &[("x-elastic-product", "Elasticsearch")];
        let table: &[Row] = &[
            (
                r#"{"name":"n","version":{"number":"9.1.0","build_flavor":"default"},"tagline":"You Know, for Search"}"#,
                elastic,
                "Elasticsearch 9.1.0",
                Support::Yes,
                true,
            ),
            (
                r#"{"version":{"number":"8.11.0","build_flavor":"serverless"},"tagline":"You Know, for Search"}"#,
                elastic,
                "Elasticsearch Serverless",
                Support::Yes,
                true,
            ),
            (
                r#"{"version":{"number":"8.12.2"}}"#,
                elastic,
                "Elasticsearch 8.12.2",
                Support::Yes,
                false,
            ),
            (
                r#"{"version":{"number":"7.17.28"},"tagline":"You Know, for Search"}"#,
                &[],
                "Elasticsearch 7.17.28",
                Support::Yes,
                false,
            ),
            (
                r#"{"version":{"number":"7.10.2","build_flavor":"oss"},"tagline":"You Know, for Search"}"#,
                &[],
                "Elasticsearch 7.10.2",
                Support::Untested,
                false,
            ),
            (
                r#"{"version":{"number":"6.8.23"},"tagline":"You Know, for Search"}"#,
                &[],
                "Elasticsearch 6.8.23",
                Support::TooOld,
                false,
            ),
            (
                r#"{"version":{"number":"10.0.0-SNAPSHOT"}}"#,
                elastic,
                "Elasticsearch 10.0.0-SNAPSHOT",
                Support::Untested,
                true,
            ),
            (
                r#"{"version":{"distribution":"opensearch","number":"2.19.3"},"tagline":"The OpenSearch Project: https://opensearch.org/"}"#,
                &[],
                "OpenSearch 2.19.3",
                Support::Yes,
                false,
            ),
            (
                r#"{"version":{"number":"7.10.2"},"tagline":"The OpenSearch Project: https://opensearch.org/"}"#,
                &[],
                "OpenSearch 7.10.2",
                Support::Yes,
                false,
            ),
            (
                r#"{"version":{"distribution":"opensearch","number":"4.0.0"}}"#,
                &[],
                "OpenSearch 4.0.0",
                Support::Untested,
                false,
            ),
        ];
        for (body, headers, name, support, strict) in table {
            let product = of(&answer(200, body, headers)).unwrap().unwrap();
            assert_eq!(
                (
                    product.to_string().as_str(),
                    product.support(),
                    product.requires_data_streams()
                ),
                (*name, *support, *strict)
            );
        }
    }

    #[test]
    fn what_is_no_such_server_is_told_apart_from_what_may_not_be_asked() {
        for body in [
            "<html>Welcome to nginx</html>",
            "{}",
            r#"{"version":{"number":"1.2.3"}}"#,
            r#"{"version":{"number":"x"},"tagline":"You Know, for Search"}"#,
            "",
        ] {
            let outcome = of(&answer(200, body, &[])).unwrap_err();
            assert!(
                matches!(&outcome, Unknown::Other { reason } if reason.contains("`hosts`")),
                "{outcome:?}"
            );
        }
        for status in [401, 403, 404, 405] {
            assert_eq!(of(&answer(status, "", &[])), Ok(None), "{status}");
        }
        // Whatever else comes is no such server, or one that will be there soon: a success without a name, too.
        for status in (100..=599).filter(|status| ![200, 401, 403, 404, 405].contains(status)) {
            let passes = matches!(status, 408 | 425 | 429 | 500..);
            match of(&answer(status, "", &[])).unwrap_err() {
                Unknown::Busy { reason, .. } => assert!(passes && !reason.is_empty(), "{status}: {reason}"),
                Unknown::Other { reason } => {
                    assert!(!passes && reason.contains("`hosts`"), "{status}: {reason}")
                }
            }
        }
    }
}
