//! Monitors of OpenSearch's alerting plugin.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::rules::{Change, Rule};
use super::step;
use crate::http::Response;
use crate::sink::elasticsearch::bulk_response::BulkError;
use crate::sink::elasticsearch::hosts::Hosts;
use crate::sink::outcome::server_message;

const MONITORS: &str = "/_plugins/_alerting/monitors";
/// The id of a trigger begins with this. The digest of the monitor follows: OpenSearch keeps the id as it is given.
const TRIGGER: &str = "confluence-audit-";

/// The monitors that exist.
pub(super) struct Monitors<'a> {
    hosts: &'a Hosts,
    /// The id of each by its name.
    existing: BTreeMap<String, String>,
}

impl<'a> Monitors<'a> {
    /// `None`: the plugin is not installed.
    pub(super) async fn find(hosts: &'a Hosts, rules: &[Rule]) -> Result<Option<Monitors<'a>>, String> {
        let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        let search = json!({"size": names.len(), "query": {"terms": {"monitor.name.keyword": names}}});
        let answer = send(hosts, Method::POST, &format!("{MONITORS}/_search"), &search).await?;
        let mut existing = BTreeMap::new();
        match answer.status {
            200 => {
                let found: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                for hit in found["hits"]["hits"].as_array().into_iter().flatten() {
                    if let (Some(name), Some(id)) = (hit["_source"]["name"].as_str(), hit["_id"].as_str()) {
                        existing.insert(name.to_owned(), id.to_owned());
                    }
                }
            }
            // Before the first monitor there is no index of them.
            404 if BulkError::parse(&answer.body).is_some() => {}
            400 | 404 | 405 if BulkError::parse(&answer.body).is_none() => return Ok(None),
            _ => return Err(refused(&answer, "monitors")),
        }
        Ok(Some(Monitors { hosts, existing }))
    }

    /// Creates a monitor, or replaces an older edition of it. Whether it is enabled, its schedule and its actions
    /// stay.
    pub(super) async fn install(&self, rule: &Rule, dry_run: bool) -> Result<Change, String> {
        let what = format!("monitor `{}`", rule.name);
        let mut document = rule.document.clone();
        let trigger_id = format!("{TRIGGER}{}", rule.digest);
        if let Some(trigger) = trigger(&mut document) {
            trigger["id"] = trigger_id.as_str().into();
        }
        let Some(id) = self.existing.get(&rule.name) else {
            if !dry_run {
                let answer = send(self.hosts, Method::POST, MONITORS, &document).await?;
                if !(200..300).contains(&answer.status) {
                    return Err(refused(&answer, &what));
                }
            }
            return Ok(Change::Created);
        };
        let found = send(self.hosts, Method::GET, &format!("{MONITORS}/{id}"), &Value::Null).await?;
        if found.status != 200 {
            return Err(refused(&found, &what));
        }
        let mut existing: Value = serde_json::from_slice(&found.body).unwrap_or_default();
        let version =
            format!("if_seq_no={}&if_primary_term={}", existing["_seq_no"], existing["_primary_term"]);
        let monitor = &mut existing["monitor"];
        let old = trigger(monitor).map(|trigger| trigger.clone()).unwrap_or_default();
        let old_id = old["id"].as_str().filter(|id| id.starts_with(TRIGGER));
        let change = Change::of(old_id, &trigger_id);
        if dry_run || change != Change::Updated {
            return Ok(change);
        }
        for member in ["enabled", "schedule"] {
            document[member] = monitor[member].clone();
        }
        if let Some(trigger) = trigger(&mut document) {
            trigger["actions"] = old["actions"].clone();
        }
        let answer = send(self.hosts, Method::PUT, &format!("{MONITORS}/{id}?{version}"), &document).await?;
        match answer.status {
            200..300 => Ok(change),
            _ => Err(refused(&answer, &what)),
        }
    }
}

/// The only trigger of a monitor, without the object that names its kind.
fn trigger(monitor: &mut Value) -> Option<&mut Value> {
    let wrapper = monitor["triggers"].as_array_mut()?.first_mut()?;
    wrapper.as_object_mut()?.values_mut().next().filter(|trigger| trigger.is_object())
}

async fn send(hosts: &Hosts, method: Method, path: &str, document: &Value) -> Result<Response, String> {
    let answer = step::send(hosts, method, path, document).await;
    answer.map_err(|outcome| outcome.reason().to_owned())
}

fn refused(answer: &Response, what: &str) -> String {
    match answer.status {
        403 => format!(
            "{what}: the credentials lack the permission; they need `cluster:admin/opendistro/alerting/monitor/*`, or name others with `--user`"
        ),
        _ => format!("{what}: {}", server_message(answer)),
    }
}
