//! The hosts of one cluster: one is used until it fails, then the next.

use crate::config::ElasticsearchConfig;
use crate::http::{HeaderMap, HttpError, Response, below};
use crate::sink::http::SharedClient;
use crate::sink::outcome::Outcome;
use reqwest::Method;
use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// How long after its failure the first host is tried again. A node restarts faster, and for a host that
/// stays down this costs few connection attempts.
const FIRST_HOST_RETRY: Duration = Duration::from_secs(300);

pub(crate) struct Hosts {
    client: SharedClient,
    /// At least one.
    urls: Vec<Url>,
    current: Cell<usize>,
    /// When the first host failed. `None`: it is in use.
    first_failed_at: Cell<Option<Instant>>,
    /// How often the first host failed in a row. It is tried again after [`FIRST_HOST_RETRY`], or after the
    /// back-off of the sink where every host failed.
    first_failures: Cell<u32>,
    /// The failure of the first host was logged as a warning.
    warned: Cell<bool>,
}

impl Hosts {
    pub(crate) fn new(config: &ElasticsearchConfig) -> Hosts {
        let client = SharedClient::new(&config.http);
        for url in &config.hosts {
            client.allow(url);
        }
        Hosts {
            client,
            urls: config.hosts.clone(),
            current: Cell::new(0),
            first_failed_at: Cell::new(None),
            first_failures: Cell::new(0),
            warned: Cell::new(false),
        }
    }

    /// The host in use.
    pub(crate) fn current(&self) -> &Url {
        &self.urls[self.current.get()]
    }

    pub(crate) fn credentials_changed(&self) -> bool {
        self.client.credentials_changed()
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Response, Outcome> {
        self.send(Method::GET, path, || Ok((HeaderMap::new(), Vec::new()))).await
    }

    /// Sends a request to the host in use. If that fails, the other hosts are tried in turn. `make` returns
    /// headers and body. `path` begins with a slash and may have a query.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        make: impl Fn() -> Result<(HeaderMap, Vec<u8>), Outcome>,
    ) -> Result<Response, Outcome> {
        let result = self.try_send(method, path, make).await?;
        result.map_err(|error| Outcome::of_error(&error))
    }

    /// Same as `send`, but returns the error of a request that got no response.
    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        make: impl Fn() -> Result<(HeaderMap, Vec<u8>), Outcome>,
    ) -> Result<Result<Response, HttpError>, Outcome> {
        self.retry_first_host(Instant::now());
        let mut tries = self.urls.len();
        loop {
            let current = self.current.get();
            let (headers, body) = make()?;
            let result =
                self.client.send(method.clone(), &below(&self.urls[current], path), headers, body).await;
            tries -= 1;
            let Some(reason) = failure(&result) else {
                self.on_success(current);
                return Ok(result);
            };
            // Another request may have switched the host already.
            if self.current.get() == current && self.urls.len() > 1 {
                self.on_failure(current, &reason);
            }
            if tries == 0 {
                return Ok(result);
            }
        }
    }

    fn on_success(&self, current: usize) {
        if current != 0 || self.first_failures.replace(0) == 0 {
            return;
        }
        let host = self.urls[0].as_str();
        match self.warned.replace(false) {
            true => tracing::info!(host, "the first host is used again"),
            false => tracing::debug!(host, "the first host is used again"),
        }
    }

    /// Switches to the next host.
    fn on_failure(&self, current: usize, reason: &str) {
        let next = (current + 1) % self.urls.len();
        self.use_host(next);
        let (host, next) = (self.urls[current].as_str(), self.urls[next].as_str());
        match self.is_lasting(current) {
            true => tracing::warn!(host, next, reason, "a host still fails; the next one is used"),
            false => tracing::debug!(host, next, reason, "a host failed; the next one is used"),
        }
    }

    /// Counts a failure. Returns whether to warn: the first host failed before and has not responded since.
    /// There is one warning until it responds.
    fn is_lasting(&self, current: usize) -> bool {
        if current == 0 {
            self.first_failures.set(self.first_failures.get() + 1);
        }
        current == 0 && self.first_failures.get() > 1 && !self.warned.replace(true)
    }

    fn retry_first_host(&self, now: Instant) {
        if self.first_failed_at.get().is_some_and(|first_failed_at| now - first_failed_at >= FIRST_HOST_RETRY)
        {
            self.use_host(0);
        }
    }

    fn use_host(&self, current: usize) {
        self.current.set(current);
        self.first_failed_at.set((current > 0).then(Instant::now));
    }
}

/// Why another host may work where this one failed. `None`: it has responded.
fn failure(result: &Result<Response, HttpError>) -> Option<String> {
    match result {
        Ok(response) if matches!(response.status, 502..=504) => Some(format!("status {}", response.status)),
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

    fn two_hosts() -> (Hosts, Vec<Url>) {
        let urls: Vec<Url> = ["http://a", "http://b"].iter().map(|url| url.parse().unwrap()).collect();
        let hosts = Hosts::new(&ElasticsearchConfig {
            http: HttpConfig::new(urls[0].clone(), Auth::None),
            hosts: urls.clone(),
            target: Target::Index("x".into()),
            compression: Compression::None,
            template: String::new(),
            pipeline: None,
        });
        (hosts, urls)
    }

    #[test]
    fn a_host_that_fails_once_is_no_warning_and_one_that_stays_down_is_one() {
        let (hosts, _) = two_hosts();
        let failures = |count| (0..count).map(|_| hosts.is_lasting(0)).collect::<Vec<_>>();
        assert_eq!(failures(1), [false]);
        hosts.on_success(0);
        assert_eq!(failures(4), [false, true, false, false]);
        // The second host serves as a replacement only.
        hosts.on_success(1);
        assert!(!hosts.is_lasting(1) && hosts.warned.get());
        hosts.on_success(0);
        assert_eq!((failures(2), hosts.warned.get()), (vec![false, true], true));
    }

    #[test]
    fn the_first_host_is_used_again_after_a_while() {
        let (hosts, urls) = two_hosts();
        let now = Instant::now();
        hosts.retry_first_host(now);
        assert_eq!(hosts.current(), &urls[0]);
        hosts.use_host(1);
        hosts.retry_first_host(now + FIRST_HOST_RETRY / 2);
        assert_eq!(hosts.current(), &urls[1]);
        hosts.retry_first_host(now + 2 * FIRST_HOST_RETRY);
        assert_eq!(hosts.current(), &urls[0]);
    }
}
