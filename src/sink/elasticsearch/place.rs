//! Whether a data stream or index is the agent's own: Elastic's stock template `logs-*-*` fits its name too, and Elastic's integration
//! brings a pipeline for it. Either would change events, or refuse them.

use super::SETUP;
use super::hosts::Hosts;
use crate::config::{ElasticsearchConfig, Target};
use crate::http::Answer;
use crate::sink::answer::{self, Outcome, of_status};
use serde::Deserialize;
use serde_json::Value;

/// Without any pipeline.
const NO_PIPELINE: &str = "_none";

/// What `GET _data_stream` says.
#[derive(Default, Deserialize)]
struct DataStreams {
    data_streams: Vec<DataStream>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DataStream {
    template: String,
    indices: Vec<Index>,
}

#[derive(Deserialize)]
struct Index {
    index_name: String,
}

/// Why the place is not one for this agent's events, and what to do. `found` is the answer that there is a data stream; `None` of an
/// index. What may not be asked is no fault.
pub async fn fault(
    config: &ElasticsearchConfig,
    hosts: &Hosts,
    found: Option<&Answer>,
) -> Result<Option<String>, Outcome> {
    let mut index = config.target.name().to_owned();
    if let Some(answer) = found {
        let found: DataStreams = serde_json::from_slice(&answer.body).unwrap_or_default();
        let stream = found.data_streams.into_iter().next().unwrap_or_default();
        if let Some(reason) = template_fault(config, &answer.concealed(&stream.template)) {
            return Ok(Some(reason));
        }
        if let Some(last) = stream.indices.into_iter().next_back() {
            index = last.index_name;
        }
    }
    // It becomes a part of a path.
    let is_plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if !index.chars().all(is_plain) {
        return Ok(None);
    }
    let path = format!("/{index}/_settings?filter_path=*.settings.index.default_pipeline");
    let settings = hosts.get(&path).await?;
    match (settings.status, of_status(&settings, crate::clock::now_ms())) {
        (200, _) => Ok(pipeline_fault(config, &index, &settings)),
        (_, answer::Answer::All(outcome @ Outcome::Retry { .. })) => Err(outcome),
        _ => Ok(None),
    }
}

fn pipeline_fault(config: &ElasticsearchConfig, index: &str, settings: &Answer) -> Option<String> {
    let said: Value = serde_json::from_slice(&settings.body).ok()?;
    let indices = said.as_object()?.values();
    let mut pipelines = indices.filter_map(|of| of["settings"]["index"]["default_pipeline"].as_str());
    let index = settings.concealed(index);
    let pipeline = settings.concealed(pipelines.find(|name| !is_accepted(config, name))?);
    Some(format!(
        "the index `{index}` sends events through the ingest pipeline `{pipeline}`, which is not this agent's and may change or refuse them; {}, or accept it with `pipeline = \"{pipeline}\"`",
        remedy(config)
    ))
}

fn is_accepted(config: &ElasticsearchConfig, pipeline: &str) -> bool {
    // `setup` installs one under the name of the agent's own template, which others may build theirs on.
    [NO_PIPELINE, ElasticsearchConfig::TEMPLATE, &config.template].contains(&pipeline)
        || config.pipeline.as_deref() == Some(pipeline)
}

/// `template`: empty where it is not said.
fn template_fault(config: &ElasticsearchConfig, template: &str) -> Option<String> {
    let is_accepted = template.is_empty() || template == config.template;
    (!is_accepted).then(|| {
        format!(
            "the data stream `{}` is of the index template `{template}` and not of `{}`, so its mappings are not those of the events; {}, or accept it with `template = \"{template}\"`",
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

/// Whether the data stream would be made of the right template. `None`: that may not be asked.
pub async fn has_template(config: &ElasticsearchConfig, hosts: &Hosts) -> Option<bool> {
    let answer = hosts
        .get(&format!("/_index_template/{}", config.template))
        .await
        .ok()?;
    match answer.status {
        200..=299 => Some(true),
        404 => Some(false),
        _ => None,
    }
}
