//! One cluster, brought to what its events need. What is there already and right stays.

use std::io::{self, Write};

use serde_json::Value;

use super::documents::{self, RETENTION_DAYS, TEMPLATE};
use crate::config::{ElasticsearchConfig, Target};
use crate::http::{HeaderMap, Response};
use crate::sink::elasticsearch::JSON;
use crate::sink::elasticsearch::bulk_response::BulkError;
use crate::sink::elasticsearch::hosts::Hosts;
use crate::sink::elasticsearch::product::{self, Distribution, Product, Support};
use crate::sink::outcome::{Outcome, server_message};
use crate::telemetry::escape::escape;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

pub struct Cluster<'a> {
    pub config: &'a ElasticsearchConfig,
    /// `None`: a policy that is there keeps what somebody may have set in it.
    pub retention_days: Option<u64>,
    pub dry_run: bool,
}

/// What was done, or why not. The outer error is of `out`.
type Done = io::Result<Result<(), String>>;

/// What is asked for, and which right it takes with Elasticsearch and with OpenSearch.
struct Step {
    what: String,
    path: String,
    rights: [&'static str; 2],
}

impl Cluster<'_> {
    pub async fn set_up(&self, out: &mut dyn Write) -> Done {
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
        // Before the template that names it: an index whose pipeline does not exist takes no events.
        let has_pipeline = match self.pipeline(&hosts, &product, out).await? {
            Ok(has_pipeline) => has_pipeline,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Err(reason) = self.template(has_pipeline, &hosts, &product, out).await? {
            return Ok(Err(reason));
        }
        match &self.config.target {
            Target::DataStream(name) => self.data_stream(name, &hosts, &product, out).await,
            Target::Index(_) => Ok(Ok(())),
        }
    }

    async fn product(&self, hosts: &Hosts) -> Result<Product, String> {
        let root = hosts
            .get("/")
            .await
            .map_err(|outcome| outcome.reason().to_owned())?;
        match product::identify(&root) {
            Ok(Some(product)) if product.support() == Support::TooOld => Err(format!(
                "{product} has no data streams; Elasticsearch 7.17 or newer, or OpenSearch, is needed"
            )),
            Ok(Some(product)) => Ok(product),
            Ok(None) => Err(format!(
                "{}; name other credentials with `--user`",
                server_message(&root)
            )),
            Err(unknown) => Err(unknown.reason().to_owned()),
        }
    }

    async fn policy(&self, hosts: &Hosts, product: &Product, out: &mut dyn Write) -> Done {
        let days = self.retention_days.unwrap_or(RETENTION_DAYS);
        let is_elastic = product.distribution == Distribution::Elasticsearch;
        let (path, policy) = match is_elastic {
            true => (format!("/_ilm/policy/{TEMPLATE}"), documents::ilm(days)),
            false => (
                format!("/_plugins/_ism/policies/{TEMPLATE}"),
                documents::ism(days),
            ),
        };
        let step = Step {
            what: format!("lifecycle policy `{TEMPLATE}`"),
            path,
            rights: [
                "the cluster privilege `manage_ilm`",
                "`cluster:admin/opendistro/ism/policy/*`",
            ],
        };
        let found = match hosts.get(&step.path).await {
            Ok(found) => found,
            Err(outcome) => return Ok(Err(outcome.reason().to_owned())),
        };
        // Of an address that nobody serves OpenSearch speaks in another form than of what does not exist.
        if !is_elastic && matches!(found.status, 400 | 404 | 405) && BulkError::parse(&found.body).is_none() {
            writeln!(
                out,
                "warning   this OpenSearch has no index state management: nothing deletes old events; install its plugin and call this again"
            )?;
            return Ok(Ok(()));
        }
        let kept = format!("deletes events after {days} days");
        match (found.status, self.retention_days) {
            (404, _) => {
                self.put(hosts, product, &step, &step.path, "created", &kept, &policy, out)
                    .await
            }
            (200, None) => {
                writeln!(
                    out,
                    "unchanged {}: it is there, with the retention that was set in it",
                    step.what
                )?;
                Ok(Ok(()))
            }
            (200, Some(_)) => {
                let there: Value = serde_json::from_slice(&found.body).unwrap_or_default();
                let path = match (is_elastic, &there["_seq_no"], &there["_primary_term"]) {
                    (false, number, term) => {
                        format!("{}?if_seq_no={number}&if_primary_term={term}", step.path)
                    }
                    (true, ..) => step.path.clone(),
                };
                self.put(hosts, product, &step, &path, "updated", &kept, &policy, out)
                    .await
            }
            _ => Ok(Err(refused(&found, &step, product))),
        }
    }

    /// Says whether there is one: a cluster can be without the processor for it.
    async fn pipeline(
        &self,
        hosts: &Hosts,
        product: &Product,
        out: &mut dyn Write,
    ) -> io::Result<Result<bool, String>> {
        let pipeline = documents::pipeline();
        let step = Step {
            what: format!("ingest pipeline `{TEMPLATE}`"),
            path: format!("/_ingest/pipeline/{TEMPLATE}"),
            rights: [
                "the cluster privilege `manage_ingest_pipelines`",
                "`cluster:admin/ingest/pipeline/*`",
            ],
        };
        let found = match hosts.get(&step.path).await {
            Ok(found) => found,
            Err(outcome) => return Ok(Err(outcome.reason().to_owned())),
        };
        let verb = match found.status {
            404 => "created",
            200 => {
                let there: Value = serde_json::from_slice(&found.body).unwrap_or_default();
                let there = &there[TEMPLATE];
                if !documents::is_own_pipeline(there) {
                    return Ok(Err(format!(
                        "{} is there and is not this agent's; rename or remove it",
                        step.what
                    )));
                }
                if ["description", "processors"]
                    .iter()
                    .all(|key| there[key] == pipeline[key])
                {
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
        match put(hosts, &step.path, &pipeline).await {
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
        product: &Product,
        out: &mut dyn Write,
    ) -> Done {
        let days = self.retention_days.unwrap_or(RETENTION_DAYS);
        let (name, template) = documents::template(product, &self.config.target, days, has_pipeline);
        let step = Step {
            what: format!("index template `{name}`"),
            path: format!("/_index_template/{name}"),
            rights: [
                "the cluster privilege `manage_index_templates`",
                "`indices:admin/index_template/*`",
            ],
        };
        let found = match hosts.get(&step.path).await {
            Ok(found) => found,
            Err(outcome) => return Ok(Err(outcome.reason().to_owned())),
        };
        let verb = match found.status {
            404 => "created",
            200 => {
                let there: Value = serde_json::from_slice(&found.body).unwrap_or_default();
                let meta = &there["index_templates"][0]["index_template"]["_meta"];
                if meta["managed_by"] != template["_meta"]["managed_by"] {
                    return Ok(Err(format!(
                        "{} is there and is not this agent's; rename or remove it",
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
        let then = match (verb, &self.config.target) {
            ("updated", Target::DataStream(name)) => {
                format!(
                    "an existing data stream follows it from its next rollover on: POST /{name}/_rollover"
                )
            }
            ("updated", Target::Index(_)) => "an existing index keeps its mapping".into(),
            _ => format!("for {}", template["index_patterns"]),
        };
        self.put(hosts, product, &step, &step.path, verb, &then, &template, out)
            .await
    }

    async fn data_stream(&self, name: &str, hosts: &Hosts, product: &Product, out: &mut dyn Write) -> Done {
        let step = Step {
            what: format!("data stream `{name}`"),
            path: format!("/_data_stream/{name}"),
            rights: [
                "the privilege `create_index` on it",
                "`indices:admin/data_stream/create` on it",
            ],
        };
        match hosts.get(&step.path).await {
            Ok(found) if found.status == 200 => {
                writeln!(out, "unchanged {}", step.what)?;
                Ok(Ok(()))
            }
            Ok(found) if found.status == 404 => {
                let path = &step.path;
                self.put(
                    hosts,
                    product,
                    &step,
                    path,
                    "created",
                    "events can come",
                    &Value::Null,
                    out,
                )
                .await
            }
            Ok(found) => Ok(Err(refused(&found, &step, product))),
            Err(outcome) => Ok(Err(outcome.reason().to_owned())),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what is put, where, and what is said of it"
    )]
    async fn put(
        &self,
        hosts: &Hosts,
        product: &Product,
        step: &Step,
        path: &str,
        verb: &str,
        then: &str,
        document: &Value,
        out: &mut dyn Write,
    ) -> Done {
        if self.dry_run {
            writeln!(out, "would be {verb}: {} ({then})", step.what)?;
            return Ok(Ok(()));
        }
        match put(hosts, path, document).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                writeln!(out, "{verb:<9} {}: {then}", step.what)?;
                Ok(Ok(()))
            }
            Ok(answer) => Ok(Err(refused(&answer, step, product))),
            Err(outcome) => Ok(Err(outcome.reason().to_owned())),
        }
    }
}

async fn put(hosts: &Hosts, path: &str, document: &Value) -> Result<Response, Outcome> {
    let make = || {
        let mut headers = HeaderMap::new();
        if document.is_null() {
            return Ok((headers, Vec::new()));
        }
        headers.insert(CONTENT_TYPE, JSON);
        Ok((headers, document.to_string().into_bytes()))
    };
    hosts.send(Method::PUT, path, make).await
}

/// It comes as a module of each distribution, but one can be put together without it.
fn lacks_processor(answer: &Response) -> bool {
    BulkError::parse(&answer.body).is_some_and(|fault| fault.reason.contains("No processor type exists"))
}

fn refused(answer: &Response, step: &Step, product: &Product) -> String {
    let [elastic, open] = step.rights;
    let right = match product.distribution {
        Distribution::Elasticsearch => elastic,
        Distribution::OpenSearch => open,
    };
    match answer.status {
        403 => format!(
            "{}: the credentials may not do this; they need {right}, or name others with `--user`",
            step.what
        ),
        _ => format!("{}: {}", step.what, server_message(answer)),
    }
}
