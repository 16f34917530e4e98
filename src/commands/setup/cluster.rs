//! Sets up one cluster. Existing objects that are correct are not changed.

use std::io::Write;

use serde_json::Value;

use super::documents::{self, RETENTION_DAYS, TEMPLATE};
use super::step::{self, StepResult};
use crate::config::{ElasticsearchConfig, Target};
use crate::http::Response;
use crate::sink::elasticsearch::bulk_response::BulkError;
use crate::sink::elasticsearch::hosts::Hosts;
use crate::sink::elasticsearch::product::{self, ClusterProduct, Distribution, Support};
use crate::sink::outcome::server_message;
use crate::telemetry::escape::escape;

pub(super) struct ElasticsearchSetup<'a> {
    pub config: &'a ElasticsearchConfig,
    /// `None`: an existing policy keeps its retention.
    pub retention_days: Option<u64>,
    pub dry_run: bool,
}

/// An object, its path, and the permission it needs in Elasticsearch and in OpenSearch.
struct SetupStep {
    what: String,
    path: String,
    rights: [&'static str; 2],
}

impl ElasticsearchSetup<'_> {
    /// Returns the product for what else is installed there.
    pub(super) async fn set_up(&self, out: &mut dyn Write) -> StepResult<ClusterProduct> {
        let hosts = Hosts::new(self.config);
        let product = match self.product(&hosts).await {
            Ok(product) => product,
            Err(reason) => return Ok(Err(reason)),
        };
        let host = hosts.current().as_str().trim_end_matches('/');
        writeln!(out, "{host}: {}", escape(&product.to_string()))?;
        let is_stream = matches!(self.config.target, Target::DataStream(_));
        if is_stream
            && !product.is_serverless
            && let Err(reason) = self.policy(&hosts, &product, out).await?
        {
            return Ok(Err(reason));
        }
        // Before the template that names it: an index whose pipeline is missing accepts no events.
        let has_pipeline = match self.pipeline(&hosts, &product, out).await? {
            Ok(has_pipeline) => has_pipeline,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Err(reason) = self.template(has_pipeline, &hosts, &product, out).await? {
            return Ok(Err(reason));
        }
        if let Target::DataStream(name) = &self.config.target
            && let Err(reason) = self.data_stream(name, &hosts, &product, out).await?
        {
            return Ok(Err(reason));
        }
        Ok(Ok(product))
    }

    async fn product(&self, hosts: &Hosts) -> Result<ClusterProduct, String> {
        let root = hosts.get("/").await.map_err(|outcome| outcome.reason().to_owned())?;
        match product::identify(&root) {
            Ok(Some(product)) if product.support() == Support::TooOld => Err(format!(
                "{product} has no data streams; Elasticsearch 7.17 or newer, or OpenSearch, is needed"
            )),
            Ok(Some(product)) => Ok(product),
            Ok(None) => Err(format!("{}; name other credentials with `--user`", server_message(&root))),
            Err(unknown) => Err(unknown.reason().to_owned()),
        }
    }

    async fn policy(&self, hosts: &Hosts, product: &ClusterProduct, out: &mut dyn Write) -> StepResult {
        let days = self.retention_days.unwrap_or(RETENTION_DAYS);
        let is_elastic = product.distribution == Distribution::Elasticsearch;
        let (path, policy) = match is_elastic {
            true => (format!("/_ilm/policy/{TEMPLATE}"), documents::ilm(days)),
            false => (format!("/_plugins/_ism/policies/{TEMPLATE}"), documents::ism(days)),
        };
        let step = SetupStep {
            what: format!("lifecycle policy `{TEMPLATE}`"),
            path,
            rights: ["the cluster privilege `manage_ilm`", "`cluster:admin/opendistro/ism/policy/*`"],
        };
        let found = match hosts.get(&step.path).await {
            Ok(found) => found,
            Err(outcome) => return Ok(Err(outcome.reason().to_owned())),
        };
        // OpenSearch reports an unknown path in another form than a missing object.
        if !is_elastic && matches!(found.status, 400 | 404 | 405) && BulkError::parse(&found.body).is_none() {
            writeln!(
                out,
                "warning   this OpenSearch has no index state management: old events are never deleted; install its plugin and run this command again"
            )?;
            return Ok(Ok(()));
        }
        let effect = format!("deletes events after {days} days");
        match (found.status, self.retention_days) {
            (404, _) => self.put(hosts, product, &step, &step.path, "created", &effect, &policy, out).await,
            (200, None) => {
                writeln!(out, "unchanged {}: it exists and keeps its retention", step.what)?;
                Ok(Ok(()))
            }
            (200, Some(_)) => {
                let existing: Value = serde_json::from_slice(&found.body).unwrap_or_default();
                let path = match (is_elastic, &existing["_seq_no"], &existing["_primary_term"]) {
                    (false, number, term) => {
                        format!("{}?if_seq_no={number}&if_primary_term={term}", step.path)
                    }
                    (true, ..) => step.path.clone(),
                };
                self.put(hosts, product, &step, &path, "updated", &effect, &policy, out).await
            }
            _ => Ok(Err(refused(&found, &step, product))),
        }
    }

    /// Installs the pipeline. Returns whether the cluster has it: it may lack the processor.
    async fn pipeline(
        &self,
        hosts: &Hosts,
        product: &ClusterProduct,
        out: &mut dyn Write,
    ) -> StepResult<bool> {
        let pipeline = documents::pipeline();
        let step = SetupStep {
            what: format!("ingest pipeline `{TEMPLATE}`"),
            path: format!("/_ingest/pipeline/{TEMPLATE}"),
            rights: ["the cluster privilege `manage_ingest_pipelines`", "`cluster:admin/ingest/pipeline/*`"],
        };
        let found = match hosts.get(&step.path).await {
            Ok(found) => found,
            Err(outcome) => return Ok(Err(outcome.reason().to_owned())),
        };
        let verb = match found.status {
            404 => "created",
            200 => {
                let existing: Value = serde_json::from_slice(&found.body).unwrap_or_default();
                let existing = &existing[TEMPLATE];
                if !documents::is_own_pipeline(existing) {
                    return Ok(Err(format!(
                        "{} exists and is not this agent's; rename or remove it",
                        step.what
                    )));
                }
                if ["description", "processors"].iter().all(|key| existing[key] == pipeline[key]) {
                    writeln!(out, "unchanged {}", step.what)?;
                    return Ok(Ok(true));
                }
                "updated"
            }
            _ => return Ok(Err(refused(&found, &step, product))),
        };
        if self.dry_run {
            writeln!(out, "would be {verb}: {} (sets `event.ingested`)", step.what)?;
            return Ok(Ok(true));
        }
        match step::put(hosts, &step.path, &pipeline).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                writeln!(out, "{verb:<9} {}: sets `event.ingested`", step.what)?;
                Ok(Ok(true))
            }
            Ok(answer) if lacks_processor(&answer) => {
                writeln!(
                    out,
                    "warning   this cluster lacks the ingest processor `set`: events will have no `event.ingested`"
                )?;
                Ok(Ok(false))
            }
            Ok(answer) => Ok(Err(refused(&answer, &step, product))),
            Err(outcome) => Ok(Err(outcome.reason().to_owned())),
        }
    }

    async fn template(
        &self,
        has_pipeline: bool,
        hosts: &Hosts,
        product: &ClusterProduct,
        out: &mut dyn Write,
    ) -> StepResult {
        let days = self.retention_days.unwrap_or(RETENTION_DAYS);
        let (name, template) = documents::template(product, &self.config.target, days, has_pipeline);
        let step = SetupStep {
            what: format!("index template `{name}`"),
            path: format!("/_index_template/{name}"),
            rights: ["the cluster privilege `manage_index_templates`", "`indices:admin/index_template/*`"],
        };
        let found = match hosts.get(&step.path).await {
            Ok(found) => found,
            Err(outcome) => return Ok(Err(outcome.reason().to_owned())),
        };
        let verb = match found.status {
            404 => "created",
            200 => {
                let existing: Value = serde_json::from_slice(&found.body).unwrap_or_default();
                let meta = &existing["index_templates"][0]["index_template"]["_meta"];
                if meta["managed_by"] != template["_meta"]["managed_by"] {
                    return Ok(Err(format!(
                        "{} exists and is not this agent's; rename or remove it",
                        step.what
                    )));
                }
                if meta["digest"] == template["_meta"]["digest"] {
                    writeln!(out, "unchanged {}", step.what)?;
                    return Ok(Ok(()));
                }
                "updated"
            }
            _ => return Ok(Err(refused(&found, &step, product))),
        };
        let effect = match (verb, &self.config.target) {
            ("updated", Target::DataStream(name)) => {
                format!("an existing data stream uses it after its next rollover: POST /{name}/_rollover")
            }
            ("updated", Target::Index(_)) => "an existing index keeps its mapping".into(),
            _ => format!("for {}", template["index_patterns"]),
        };
        self.put(hosts, product, &step, &step.path, verb, &effect, &template, out).await
    }

    async fn data_stream(
        &self,
        name: &str,
        hosts: &Hosts,
        product: &ClusterProduct,
        out: &mut dyn Write,
    ) -> StepResult {
        let step = SetupStep {
            what: format!("data stream `{name}`"),
            path: format!("/_data_stream/{name}"),
            rights: ["the privilege `create_index` on it", "`indices:admin/data_stream/create` on it"],
        };
        match hosts.get(&step.path).await {
            Ok(found) if found.status == 200 => {
                writeln!(out, "unchanged {}", step.what)?;
                Ok(Ok(()))
            }
            Ok(found) if found.status == 404 => {
                let path = &step.path;
                self.put(hosts, product, &step, path, "created", "ready for events", &Value::Null, out).await
            }
            Ok(found) => Ok(Err(refused(&found, &step, product))),
            Err(outcome) => Ok(Err(outcome.reason().to_owned())),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the object, its destination and its message")]
    async fn put(
        &self,
        hosts: &Hosts,
        product: &ClusterProduct,
        step: &SetupStep,
        path: &str,
        verb: &str,
        effect: &str,
        document: &Value,
        out: &mut dyn Write,
    ) -> StepResult {
        if self.dry_run {
            writeln!(out, "would be {verb}: {} ({effect})", step.what)?;
            return Ok(Ok(()));
        }
        match step::put(hosts, path, document).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                writeln!(out, "{verb:<9} {}: {effect}", step.what)?;
                Ok(Ok(()))
            }
            Ok(answer) => Ok(Err(refused(&answer, step, product))),
            Err(outcome) => Ok(Err(outcome.reason().to_owned())),
        }
    }
}

/// The processor is a module of each distribution, but a custom build may lack it.
fn lacks_processor(answer: &Response) -> bool {
    BulkError::parse(&answer.body).is_some_and(|fault| fault.reason.contains("No processor type exists"))
}

fn refused(answer: &Response, step: &SetupStep, product: &ClusterProduct) -> String {
    let [elastic, open] = step.rights;
    let right = match product.distribution {
        Distribution::Elasticsearch => elastic,
        Distribution::OpenSearch => open,
    };
    match answer.status {
        403 => format!(
            "{}: the credentials lack the permission; they need {right}, or name others with `--user`",
            step.what
        ),
        _ => format!("{}: {}", step.what, server_message(answer)),
    }
}
