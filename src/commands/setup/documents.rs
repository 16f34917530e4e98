//! Template, pipeline and policies, which the packages contain as files too.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::config::{ElasticsearchConfig, Target};
use crate::sink::elasticsearch::product::{ClusterProduct, Distribution};

/// Name of index template, ingest pipeline and policy.
pub const TEMPLATE: &str = ElasticsearchConfig::TEMPLATE;
/// One year, as PCI DSS requires. Longer requirements mostly concern an archive.
pub(super) const RETENTION_DAYS: u64 = 365;
/// Maximum age of a backing index before its rollover.
const ROLLOVER_DAYS: u64 = 30;

const FOR_ELASTICSEARCH: &str =
    include_str!("../../../packaging/elasticsearch/index-template.elasticsearch.json");
const FOR_OPENSEARCH: &str = include_str!("../../../packaging/elasticsearch/index-template.opensearch.json");
const PIPELINE: &str = include_str!("../../../packaging/elasticsearch/pipeline.json");
const ILM: &str = include_str!("../../../packaging/elasticsearch/policy-ilm.elasticsearch.json");
const ISM: &str = include_str!("../../../packaging/elasticsearch/policy-ism.opensearch.json");

/// Prints the documents for the consoles of Kibana and OpenSearch Dashboards.
pub(super) fn print(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# Elasticsearch\nPUT _ilm/policy/{TEMPLATE}\n{ILM}")?;
    writeln!(out, "PUT _ingest/pipeline/{TEMPLATE}\n{PIPELINE}")?;
    writeln!(out, "PUT _index_template/{TEMPLATE}\n{FOR_ELASTICSEARCH}")?;
    writeln!(out, "# OpenSearch\nPUT _plugins/_ism/policies/{TEMPLATE}\n{ISM}")?;
    writeln!(out, "PUT _ingest/pipeline/{TEMPLATE}\n{PIPELINE}")?;
    write!(out, "PUT _index_template/{TEMPLATE}\n{FOR_OPENSEARCH}")
}

/// The pipeline that sets `event.ingested`, the time at which the cluster received an event.
pub(super) fn pipeline() -> Value {
    parse(PIPELINE)
}

/// Whether this agent installed an existing pipeline. OpenSearch supports no `_meta` in pipelines.
pub(super) fn is_own_pipeline(existing: &Value) -> bool {
    let description = existing["description"].as_str().unwrap_or("");
    description.starts_with(crate::NAME)
}

/// The template and its name. An index has no lifecycle, because it is not rolled over.
pub(super) fn template(
    product: &ClusterProduct,
    target: &Target,
    retention_days: u64,
    has_pipeline: bool,
) -> (String, Value) {
    let mut template = parse(match product.distribution {
        Distribution::Elasticsearch => FOR_ELASTICSEARCH,
        Distribution::OpenSearch => FOR_OPENSEARCH,
    });
    let mut name = TEMPLATE.to_owned();
    if let Target::Index(index) = target {
        name = format!("{TEMPLATE}-{index}");
        template["index_patterns"] = json!([index]);
        remove(&mut template, "data_stream");
        remove(&mut template["template"]["settings"]["index"], "lifecycle");
    }
    if !has_pipeline {
        remove(&mut template["template"]["settings"]["index"], "default_pipeline");
    }
    if product.is_serverless {
        // Elastic manages the storage of indices there.
        remove(&mut template["template"]["settings"]["index"], "lifecycle");
        remove(&mut template["template"]["settings"]["index"], "codec");
        if let Target::DataStream(_) = target {
            template["template"]["lifecycle"] = json!({"data_retention": format!("{retention_days}d")});
        }
    }
    let digest = blake3::hash(template.to_string().as_bytes()).to_hex();
    template["_meta"]["digest"] = Value::from(&digest[..32]);
    (name, template)
}

pub(super) fn ilm(retention_days: u64) -> Value {
    let mut policy = parse(ILM);
    policy["policy"]["phases"]["delete"]["min_age"] = Value::from(format!("{retention_days}d"));
    policy
}

/// Counts from the creation of an index, so the retention is extended by the age at rollover: the youngest
/// event decides.
pub(super) fn ism(retention_days: u64) -> Value {
    let mut policy = parse(ISM);
    let age = format!("{}d", retention_days + ROLLOVER_DAYS);
    policy["policy"]["states"][0]["transitions"][0]["conditions"]["min_index_age"] = Value::from(age);
    policy
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn remove(value: &mut Value, key: &str) {
    if let Some(members) = value.as_object_mut() {
        members.remove(key);
    }
}

#[cfg(test)]
mod tests;
