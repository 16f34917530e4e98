//! ClusterProduct and version of a cluster, by `GET /`.

use crate::http::Response;
use crate::sink::outcome::{self, Outcome, RequestOutcome, of_status};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    Elasticsearch,
    OpenSearch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterProduct {
    pub distribution: Distribution,
    /// For example `8.17.1`.
    pub number: String,
    pub major: u32,
    pub minor: u32,
    /// Elastic Cloud Serverless: its users see no versions and no node settings.
    pub is_serverless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    Yes,
    /// Newer than this agent, or older than the tested versions.
    Untested,
    TooOld,
}

impl fmt::Display for ClusterProduct {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.distribution {
            Distribution::OpenSearch => write!(f, "OpenSearch {}", self.number),
            Distribution::Elasticsearch if self.is_serverless => write!(f, "Elasticsearch Serverless"),
            Distribution::Elasticsearch => write!(f, "Elasticsearch {}", self.number),
        }
    }
}

impl ClusterProduct {
    pub(crate) fn support(&self) -> Support {
        match (self.distribution, self.major, self.minor) {
            (Distribution::Elasticsearch, ..) if self.is_serverless => Support::Yes,
            (Distribution::Elasticsearch, 7, 17..) | (Distribution::Elasticsearch, 8..=9, _) => Support::Yes,
            (Distribution::Elasticsearch, 0..=6, _) | (Distribution::Elasticsearch, 7, 0..=8) => {
                Support::TooOld
            }
            (Distribution::OpenSearch, 1..=3, _) => Support::Yes,
            // Reported with `compatibility.override_main_response_version`, for old clients.
            (Distribution::OpenSearch, 7, 10) => Support::Yes,
            _ => Support::Untested,
        }
    }

    /// Whether bulk requests support `require_data_stream`.
    pub(crate) fn requires_data_streams(&self) -> bool {
        self.distribution == Distribution::Elasticsearch
            && (self.is_serverless || (self.major, self.minor) >= (8, 13))
    }
}

/// Why the product is unknown. No event is delivered by such a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnknownProduct {
    /// A transient fault.
    Busy { reason: String, after: Option<Duration> },
    /// It is another kind of server: the operator has to act.
    Other { reason: String },
}

impl UnknownProduct {
    pub(crate) fn reason(&self) -> &str {
        match self {
            UnknownProduct::Busy { reason, .. } | UnknownProduct::Other { reason } => reason,
        }
    }
}

impl From<UnknownProduct> for Outcome {
    fn from(unknown: UnknownProduct) -> Outcome {
        match unknown {
            UnknownProduct::Busy { reason, after } => Outcome::Retry { reason, after },
            UnknownProduct::Other { reason } => Outcome::Misconfigured { reason },
        }
    }
}

/// Longer version numbers are cut.
const NUMBER_CHARS_MAX: usize = 40;

#[derive(Deserialize)]
struct Root {
    version: ServerVersion,
    #[serde(default)]
    tagline: String,
}

#[derive(Deserialize)]
struct ServerVersion {
    number: String,
    distribution: Option<String>,
    build_flavor: Option<String>,
}

/// `None`: credentials that may write events need not have the permission for this request.
pub(crate) fn identify(response: &Response) -> Result<Option<ClusterProduct>, UnknownProduct> {
    let other = || UnknownProduct::Other {
        reason: format!(
            "the server is neither Elasticsearch nor OpenSearch; correct `hosts` ({})",
            outcome::server_message_without_hint(response)
        ),
    };
    match response.status {
        200 => parse(response).map(Some).ok_or_else(other),
        401 | 403 | 404 | 405 => Ok(None),
        _ => match of_status(response, crate::clock::now_ms()) {
            RequestOutcome::All(Outcome::Retry { reason, after }) => {
                Err(UnknownProduct::Busy { reason, after })
            }
            _ => Err(other()),
        },
    }
}

fn parse(response: &Response) -> Option<ClusterProduct> {
    let root: Root = serde_json::from_slice(&response.body).ok()?;
    let ServerVersion { number, distribution, build_flavor } = root.version;
    let mut parts = number.split(['.', '-']).map(|part| part.parse().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    let is_opensearch = distribution.as_deref() == Some("opensearch") || root.tagline.contains("OpenSearch");
    let is_elastic = response.header("x-elastic-product").is_some() || root.tagline == "You Know, for Search";
    let distribution = match (is_opensearch, is_elastic) {
        (true, _) => Distribution::OpenSearch,
        (false, true) => Distribution::Elasticsearch,
        (false, false) => return None,
    };
    Some(ClusterProduct {
        distribution,
        number: response.redacted(&number).chars().take(NUMBER_CHARS_MAX).collect(),
        major,
        minor,
        is_serverless: build_flavor.as_deref() == Some("serverless"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str, headers: &[(&'static str, &str)]) -> Response {
        let mut response = Response { status, body: body.into(), ..Response::default() };
        for (name, value) in headers {
            response.headers.insert(*name, value.parse().unwrap());
        }
        response
    }

    /// Body, headers, display name, support, whether `require_data_stream` is supported.
    type ProductRow = (&'static str, &'static [(&'static str, &'static str)], &'static str, Support, bool);

    #[test]
    fn servers_are_recognised_by_their_responses() {
        let elastic: &'static [_] = &[("x-elastic-product", "Elasticsearch")];
        let table: &[ProductRow] = &[
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
            (r#"{"version":{"number":"8.12.2"}}"#, elastic, "Elasticsearch 8.12.2", Support::Yes, false),
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
            let product = identify(&response(200, body, headers)).unwrap().unwrap();
            assert_eq!(
                (product.to_string().as_str(), product.support(), product.requires_data_streams()),
                (*name, *support, *strict)
            );
        }
    }

    #[test]
    fn other_servers_differ_from_missing_permissions() {
        for body in [
            "<html>Welcome to nginx</html>",
            "{}",
            r#"{"version":{"number":"1.2.3"}}"#,
            r#"{"version":{"number":"x"},"tagline":"You Know, for Search"}"#,
            "",
        ] {
            let outcome = identify(&response(200, body, &[])).unwrap_err();
            assert!(
                matches!(&outcome, UnknownProduct::Other { reason } if reason.contains("`hosts`")),
                "{outcome:?}"
            );
        }
        for status in [401, 403, 404, 405] {
            assert_eq!(identify(&response(status, "", &[])), Ok(None), "{status}");
        }
        // Any other status is another server or a transient fault; so is a success without a product.
        for status in (100..=599).filter(|status| ![200, 401, 403, 404, 405].contains(status)) {
            let is_transient = matches!(status, 408 | 425 | 429 | 500..);
            match identify(&response(status, "", &[])).unwrap_err() {
                UnknownProduct::Busy { reason, .. } => {
                    assert!(is_transient && !reason.is_empty(), "{status}: {reason}")
                }
                UnknownProduct::Other { reason } => {
                    assert!(!is_transient && reason.contains("`hosts`"), "{status}: {reason}")
                }
            }
        }
    }
}
