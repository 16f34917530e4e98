//! Several hosts of one cluster: one is used until it does not answer.

use crate::config::ElasticsearchConfig;
use crate::http::{Answer, HeaderMap, HttpError, below};
use crate::sink::answer::Outcome;
use crate::sink::http::Link;
use reqwest::Method;
use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// So long after it failed the first host is tried again: a node is restarted in less, and a host that stays away costs a
/// connection attempt no more often.
const BACK_AFTER: Duration = Duration::from_secs(300);

pub struct Hosts {
    link: Link,
    /// At least one.
    urls: Vec<Url>,
    at: Cell<usize>,
    /// When the first one was left.
    left: Cell<Option<Instant>>,
    /// It has been told that it was.
    told: Cell<bool>,
}

impl Hosts {
    pub fn new(config: &ElasticsearchConfig) -> Hosts {
        let link = Link::new(&config.http);
        for url in &config.hosts {
            link.allow(url);
        }
        Hosts {
            link,
            urls: config.hosts.clone(),
            at: Cell::new(0),
            left: Cell::new(None),
            told: Cell::new(false),
        }
    }

    /// The one that is asked first.
    pub fn current(&self) -> &Url {
        &self.urls[self.at.get()]
    }

    pub fn changed(&self) -> bool {
        self.link.changed()
    }

    pub async fn get(&self, path: &str) -> Result<Answer, Outcome> {
        self.ask(Method::GET, path, || Ok((HeaderMap::new(), Vec::new())))
            .await
    }

    /// Sends what `make` makes to the host in use, and where that is not there to the others in turn. `path` begins with a
    /// slash and may have a query.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        make: impl Fn() -> Result<(HeaderMap, Vec<u8>), Outcome>,
    ) -> Result<Answer, Outcome> {
        let result = self.try_to_ask(method, path, make).await?;
        result.map_err(|error| Outcome::of_error(&error))
    }

    /// The same, with the error of a request that got no answer.
    pub async fn try_to_ask(
        &self,
        method: Method,
        path: &str,
        make: impl Fn() -> Result<(HeaderMap, Vec<u8>), Outcome>,
    ) -> Result<Result<Answer, HttpError>, Outcome> {
        self.go_back(Instant::now());
        let mut tries = self.urls.len();
        loop {
            let at = self.at.get();
            let (headers, body) = make()?;
            let result = self
                .link
                .send(method.clone(), &below(&self.urls[at], path), headers, body)
                .await;
            tries -= 1;
            let Some(reason) = is_away(&result) else {
                if at == 0 && self.told.replace(false) {
                    tracing::info!(host = self.urls[0].as_str(), "the first host is used again");
                }
                return Ok(result);
            };
            // Another request may have gone on already.
            if self.at.get() == at && self.urls.len() > 1 {
                let next = (at + 1) % self.urls.len();
                self.use_host(next);
                if !self.told.replace(true) {
                    let (host, next) = (self.urls[at].as_str(), self.urls[next].as_str());
                    tracing::warn!(host, next, reason, "a host is not there; the next one is used");
                }
            }
            if tries == 0 {
                return Ok(result);
            }
        }
    }

    fn go_back(&self, now: Instant) {
        if self.left.get().is_some_and(|left| now - left >= BACK_AFTER) {
            self.use_host(0);
        }
    }

    fn use_host(&self, at: usize) {
        self.at.set(at);
        self.left.set((at > 0).then(Instant::now));
    }
}

/// Why another host may answer where this one does not.
fn is_away(result: &Result<Answer, HttpError>) -> Option<String> {
    match result {
        Ok(answer) if matches!(answer.status, 502..=504) => Some(format!("status {}", answer.status)),
        Ok(_) => None,
        Err(
            error @ (HttpError::Unreachable { .. }
            | HttpError::Tls { .. }
            | HttpError::Proxy { .. }
            | HttpError::Timeout { .. }
            | HttpError::Broken { .. }),
        ) => Some(crate::telemetry::chain(error)),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, Compression, HttpConfig, Target};

    #[test]
    fn the_first_host_is_used_again_after_a_while() {
        let urls: Vec<Url> = ["http://a", "http://b"]
            .iter()
            .map(|url| url.parse().unwrap())
            .collect();
        let hosts = Hosts::new(&ElasticsearchConfig {
            http: HttpConfig::new(urls[0].clone(), Auth::None),
            hosts: urls.clone(),
            target: Target::Index("x".into()),
            compression: Compression::None,
            template: String::new(),
            pipeline: None,
        });
        let now = Instant::now();
        hosts.go_back(now);
        assert_eq!(hosts.current(), &urls[0]);
        hosts.use_host(1);
        hosts.go_back(now + BACK_AFTER / 2);
        assert_eq!(hosts.current(), &urls[1]);
        hosts.go_back(now + 2 * BACK_AFTER);
        assert_eq!(hosts.current(), &urls[0]);
    }
}
