//! The template, the pipeline and the policies, which the packages bring as files too.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::config::{ElasticsearchConfig, Target};
use crate::sink::elasticsearch::product::{Distribution, Product};

/// The name of index template, ingest pipeline and policy.
pub const TEMPLATE: &str = ElasticsearchConfig::TEMPLATE;
/// A year: what PCI DSS asks for, and most who ask later than that ask of an archive.
pub const RETENTION_DAYS: u64 = 365;
/// A backing index is rolled over at this age at the latest.
const ROLLOVER_DAYS: u64 = 30;

const FOR_ELASTICSEARCH: &str =
    include_str!("../../../packaging/elasticsearch/index-template.elasticsearch.json");
const FOR_OPENSEARCH: &str = include_str!("../../../packaging/elasticsearch/index-template.opensearch.json");
const PIPELINE: &str = include_str!("../../../packaging/elasticsearch/pipeline.json");
const ILM: &str = include_str!("../../../packaging/elasticsearch/policy-ilm.elasticsearch.json");
const ISM: &str = include_str!("../../../packaging/elasticsearch/policy-ism.opensearch.json");

/// In the form that Kibana's and OpenSearch Dashboards' consoles take.
pub fn print(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# Elasticsearch\nPUT _ilm/policy/{TEMPLATE}\n{ILM}")?;
    writeln!(out, "PUT _ingest/pipeline/{TEMPLATE}\n{PIPELINE}")?;
    writeln!(out, "PUT _index_template/{TEMPLATE}\n{FOR_ELASTICSEARCH}")?;
    writeln!(out, "# OpenSearch\nPUT _plugins/_ism/policies/{TEMPLATE}\n{ISM}")?;
    writeln!(out, "PUT _ingest/pipeline/{TEMPLATE}\n{PIPELINE}")?;
    write!(out, "PUT _index_template/{TEMPLATE}\n{FOR_OPENSEARCH}")
}

/// Sets `event.ingested`: only the cluster knows when an event has come.
pub fn pipeline() -> Value {
    parse(PIPELINE)
}

/// Whether a pipeline that is there was installed by this agent. OpenSearch takes no `_meta` in pipelines.
pub fn is_own_pipeline(there: &Value) -> bool {
    let description = there["description"].as_str().unwrap_or("");
    description.starts_with(crate::NAME)
}

/// The template's name and the template. Of an index there is no lifecycle: it has no successor.
pub fn template(
    product: &Product,
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
        // Elastic decides there how an index is stored.
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

pub fn ilm(retention_days: u64) -> Value {
    let mut policy = parse(ILM);
    policy["policy"]["phases"]["delete"]["min_age"] = Value::from(format!("{retention_days}d"));
    policy
}

/// Counts from the making of an index and not from its end, so the youngest event decides.
pub fn ism(retention_days: u64) -> Value {
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
