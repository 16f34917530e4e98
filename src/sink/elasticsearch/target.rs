//! Checks that a data stream or index is set up for this agent. Elastic's stock template `logs-*-*` matches
//! the name too, and Elastic's integration adds an ingest pipeline for it. Either would change events or
//! refuse them.

use super::SETUP;
use super::hosts::Hosts;
use crate::config::{ElasticsearchConfig, Target};
use crate::http::Response;
use crate::sink::outcome::{Outcome, RequestOutcome, of_status};
use serde::Deserialize;
use serde_json::Value;

/// The setting of an index without a default pipeline.
const NO_PIPELINE: &str = "_none";

/// The response to `GET _data_stream`.
#[derive(Default, Deserialize)]
struct DataStreams {
    data_streams: Vec<DataStream>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DataStream {
    template: String,
    indices: Vec<BackingIndex>,
}

#[derive(Deserialize)]
struct BackingIndex {
    index_name: String,
}

/// Why the target is not set up for the agent's events, and what to do. `stream`: the response for a data
/// stream, `None` for an index. Settings that may not be read are not a fault.
pub(crate) async fn target_fault(
    config: &ElasticsearchConfig,
    hosts: &Hosts,
    stream: Option<&Response>,
) -> Result<Option<String>, Outcome> {
    let mut index = config.target.name().to_owned();
    if let Some(response) = stream {
        let body: DataStreams = serde_json::from_slice(&response.body).unwrap_or_default();
        let data_stream = body.data_streams.into_iter().next().unwrap_or_default();
        if let Some(reason) = template_fault(config, &response.redacted(&data_stream.template)) {
            return Ok(Some(reason));
        }
        if let Some(last) = data_stream.indices.into_iter().next_back() {
            index = last.index_name;
        }
    }
    // The name becomes a part of a path.
    let is_plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if !index.chars().all(is_plain) {
        return Ok(None);
    }
    let path = format!("/{index}/_settings?filter_path=*.settings.index.default_pipeline");
    let settings = hosts.get(&path).await?;
    match (settings.status, of_status(&settings, crate::clock::now_ms())) {
        (200, _) => Ok(pipeline_fault(config, &index, &settings)),
        (_, RequestOutcome::All(outcome @ Outcome::Retry { .. })) => Err(outcome),
        _ => Ok(None),
    }
}

fn pipeline_fault(config: &ElasticsearchConfig, index: &str, settings: &Response) -> Option<String> {
    let body: Value = serde_json::from_slice(&settings.body).ok()?;
    let indices = body.as_object()?.values();
    let mut pipelines = indices.filter_map(|index| index["settings"]["index"]["default_pipeline"].as_str());
    let index = settings.redacted(index);
    let pipeline = settings.redacted(pipelines.find(|name| !is_accepted_pipeline(config, name))?);
    Some(format!(
        "the index `{index}` sends events through the ingest pipeline `{pipeline}`, which is not this agent's and may change or refuse them; {}, or accept it with `pipeline = \"{pipeline}\"`",
        remedy(config)
    ))
}

fn is_accepted_pipeline(config: &ElasticsearchConfig, pipeline: &str) -> bool {
    // `setup` creates a pipeline with the name of the agent's own template, for templates that are based on
    // it.
    [NO_PIPELINE, ElasticsearchConfig::TEMPLATE, &config.template].contains(&pipeline)
        || config.pipeline.as_deref() == Some(pipeline)
}

/// `template`: the name in the server's response; empty if it has none.
fn template_fault(config: &ElasticsearchConfig, template: &str) -> Option<String> {
    let is_accepted_pipeline = template.is_empty() || template == config.template;
    (!is_accepted_pipeline).then(|| {
        format!(
            "the data stream `{}` uses the index template `{template}` instead of `{}`, so its mappings do not fit the events; {}, or accept it with `template = \"{template}\"`",
            config.target.name(),
            config.template,
            remedy(config)
        )
    })
}

fn remedy(config: &ElasticsearchConfig) -> String {
    match &config.target {
        Target::DataStream(name) => {
            format!("{SETUP}, then roll the data stream over (`POST /{name}/_rollover`)")
        }
        Target::Index(name) => format!("set `index.default_pipeline` of `{name}` to `_none`"),
    }
}

/// Whether the data stream would be created from the right template. `None`: the credentials may not check
/// it.
pub(crate) async fn has_template(config: &ElasticsearchConfig, hosts: &Hosts) -> Option<bool> {
    let response = hosts.get(&format!("/_index_template/{}", config.template)).await.ok()?;
    match response.status {
        200..=299 => Some(true),
        404 => Some(false),
        _ => None,
    }
}
