//! Client configurations for local servers, and a runtime for requests.

use std::time::Duration;

use url::Url;

pub use super::server::{TestServer, answer, serve, serve_with};
use crate::config::{Auth, HttpConfig, Timeouts};
use crate::http::{Client, HttpError, Response};

pub fn url_of(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// Timeouts are longer than any test.
pub fn config(base: &str) -> HttpConfig {
    let mut config = HttpConfig::new(url_of(base), Auth::None);
    let long = Duration::from_secs(60);
    config.timeouts = Timeouts { connect: long, first_byte: long, idle: long, whole: long };
    config
}

pub fn run<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        // One runtime for all requests of a test, because it owns the pooled connections.
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

pub fn get(client: &mut Client, url: &str) -> Result<Response, HttpError> {
    run(client.get(&url_of(url)))
}

/// An error with its causes and its debug output.
pub fn everything_of(error: &HttpError) -> String {
    format!("{} {error:?} {error:#?}", crate::telemetry::chain(error))
}
