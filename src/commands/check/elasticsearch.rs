//! Checks a cluster: its hosts, product, data stream or index, and write permission.

use std::io;

use serde_json::{Value, json};

use super::CheckReport;
use crate::config::{ElasticsearchConfig, Target};
use crate::http::HeaderMap;
use crate::sink::elasticsearch::hosts::Hosts;
use crate::sink::elasticsearch::product::{self, ClusterProduct, Distribution, Support};
use crate::sink::elasticsearch::target;
use crate::sink::elasticsearch::{JSON, SETUP};
use crate::sink::outcome::{Outcome, server_message};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

/// Prints one line per check. Writes nothing to the cluster.
pub(super) async fn check(
    subject: &str,
    config: &ElasticsearchConfig,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let (mut answers, mut found) = (false, None);
    for host in &config.hosts {
        let single_host = ElasticsearchConfig { hosts: vec![host.clone()], ..config.clone() };
        let url = host.as_str().trim_end_matches('/');
        let root = match Hosts::new(&single_host).get("/").await {
            Ok(root) => root,
            Err(outcome) => {
                report.failure(subject, format_args!("`{url}`: {}", outcome.reason()))?;
                continue;
            }
        };
        match product::identify(&root) {
            Ok(Some(product)) => {
                report_product(subject, url, &product, report)?;
                (answers, found) = (true, found.or(Some(product)));
            }
            Ok(None) if root.status == 401 => {
                report.failure(subject, format_args!("`{url}`: {}", server_message(&root)))?
            }
            Ok(None) => {
                answers = true;
                report.ok(
                    subject,
                    format_args!(
                        "`{url}` responds, and does not report its product (status {})",
                        root.status
                    ),
                )?;
            }
            Err(unknown) => report.failure(subject, format_args!("`{url}`: {}", unknown.reason()))?,
        }
    }
    if !answers {
        return Ok(());
    }
    let hosts = Hosts::new(config);
    let exists = match check_target(subject, config, &hosts, report).await? {
        Ok(exists) => exists,
        Err(outcome) => return report.failure(subject, outcome.reason()),
    };
    match found.map(|product| product.distribution) {
        Some(Distribution::Elasticsearch) => check_permissions(subject, config, &hosts, exists, report).await,
        _ => report.ok(subject, "write permission is checked with the first event"),
    }
}

fn report_product(
    subject: &str,
    url: &str,
    product: &ClusterProduct,
    report: &mut CheckReport,
) -> io::Result<()> {
    match product.support() {
        Support::Yes => report.ok(subject, format_args!("`{url}` is {product}")),
        Support::Untested => report
            .warning(subject, format_args!("`{url}` is {product}, which this agent was not tested with")),
        Support::TooOld => report.failure(
            subject,
            format_args!(
                "`{url}` is {product}, which has no data streams; Elasticsearch 7.17 or newer is needed"
            ),
        ),
    }
}

/// Checks whether the data stream or index exists. Returns that, or the outcome of a failed request.
async fn check_target(
    subject: &str,
    config: &ElasticsearchConfig,
    hosts: &Hosts,
    report: &mut CheckReport<'_>,
) -> io::Result<Result<bool, Outcome>> {
    let name = config.target.name();
    let (kind, path) = match &config.target {
        Target::DataStream(name) => ("data stream", format!("/_data_stream/{name}")),
        Target::Index(name) => ("index", format!("/{name}?filter_path=*.aliases")),
    };
    let answer = match hosts.get(&path).await {
        Ok(answer) => answer,
        Err(outcome) => return Ok(Err(outcome)),
    };
    let status = answer.status;
    match status {
        200 => {
            let found = Some(&answer).filter(|_| kind == "data stream");
            match target::target_fault(config, hosts, found).await {
                Ok(None) => report.ok(subject, format_args!("the {kind} `{name}` exists"))?,
                Ok(Some(reason)) => report.failure(subject, reason)?,
                Err(outcome) => return Ok(Err(outcome)),
            }
        }
        404 => {
            match target::has_template(config, hosts).await {
                Some(true) if kind == "data stream" => {
                    report.ok(subject, format_args!("the {kind} `{name}` is created with the first event; its template exists"))?
                }
                Some(false) if kind == "data stream" => report.failure(
                    subject,
                    format_args!("there is no {kind} `{name}` yet, and no template of this agent for it (`{}`); {SETUP}", config.template),
                )?,
                Some(false) => report.warning(
                    subject,
                    format_args!("there is no {kind} `{name}` yet, and no template of this agent for it; {SETUP}"),
                )?,
                _ => report.warning(subject, format_args!("there is no {kind} `{name}` yet; {SETUP}"))?,
            }
        }
        _ => report.ok(
            subject,
            format_args!("the credentials may not check whether the {kind} `{name}` exists (status {status}); writing does not need that"),
        )?,
    }
    Ok(Ok(status != 404))
}

/// Elasticsearch reports permissions without a write.
async fn check_permissions(
    subject: &str,
    config: &ElasticsearchConfig,
    hosts: &Hosts,
    exists: bool,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let name = config.target.name();
    let wanted: &[&str] = if exists { &["create_doc"] } else { &["create_doc", "auto_configure"] };
    let body = json!({"index": [{"names": [name], "privileges": wanted}]}).to_string();
    let make = || {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, JSON);
        Ok((headers, body.clone().into_bytes()))
    };
    let answer = match hosts.send(Method::POST, "/_security/user/_has_privileges", make).await {
        Ok(answer) if answer.status == 200 => answer,
        // Without security there are no permissions.
        Ok(_) => {
            return report.ok(subject, "write permission is checked with the first event");
        }
        Err(outcome) => return report.failure(subject, outcome.reason()),
    };
    let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let has = |right: &&&str| answer["index"][name][**right] == Value::Bool(true);
    let missing: Vec<&str> = wanted.iter().filter(|right| !has(right)).copied().collect();
    match missing.is_empty() {
        true => report.ok(subject, format_args!("the credentials may write to `{name}`")),
        false => report.failure(
            subject,
            format_args!(
                "the credentials lack {} on `{name}`; grant it in their role or API key",
                missing.join(" and ")
            ),
        ),
    }
}
