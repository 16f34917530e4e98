//! What the steps of a setup have in common.

use std::io;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use crate::http::{HeaderMap, Response};
use crate::sink::elasticsearch::JSON;
use crate::sink::elasticsearch::hosts::Hosts;
use crate::sink::outcome::Outcome;

/// The result of a step: done, or why not. The outer error is of `out`.
pub(super) type StepResult<T = ()> = io::Result<Result<T, String>>;

pub(super) async fn put(hosts: &Hosts, path: &str, document: &Value) -> Result<Response, Outcome> {
    send(hosts, Method::PUT, path, document).await
}

/// Sends a document; `null` is an empty body.
pub(super) async fn send(
    hosts: &Hosts,
    method: Method,
    path: &str,
    document: &Value,
) -> Result<Response, Outcome> {
    let make = || {
        let mut headers = HeaderMap::new();
        if document.is_null() {
            return Ok((headers, Vec::new()));
        }
        headers.insert(CONTENT_TYPE, JSON);
        Ok((headers, document.to_string().into_bytes()))
    };
    hosts.send(method, path, make).await
}
