//! Kibana or OpenSearch Dashboards: saved objects, and Kibana's detection rules.

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Value, json};
use url::Url;

use super::rules::{Change, Rule, digest};
use crate::config::ElasticsearchConfig;
use crate::http::{HeaderMap, Response};
use crate::sink::elasticsearch::hosts::Hosts;
use crate::sink::outcome::server_message;

const RULES: &str = "/api/detection_engine/rules";
/// The member of `meta` that holds the digest of a rule. Kibana removes it when somebody edits the rule.
const EDITION: &str = "confluence_audit_agent";

pub(super) struct DashboardsServer {
    hosts: Hosts,
    is_kibana: bool,
}

impl DashboardsServer {
    /// Credentials and TLS are those of the cluster.
    pub(super) fn new(config: &ElasticsearchConfig, url: &Url, is_kibana: bool) -> DashboardsServer {
        let mut config = config.clone();
        config.hosts = vec![url.clone()];
        config.http.base = url.clone();
        DashboardsServer { hosts: Hosts::new(&config), is_kibana }
    }

    pub(super) fn name(&self) -> &'static str {
        if self.is_kibana { "Kibana" } else { "OpenSearch Dashboards" }
    }

    /// Imports saved objects, unless the server has all dashboards of this edition.
    pub(super) async fn import(&self, objects: &[Value], dry_run: bool) -> Result<Change, String> {
        let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
        let edition = format!("Edition {}.", digest(&texts));
        let dashboards: Vec<&Value> = objects.iter().filter(|object| object["type"] == "dashboard").collect();
        let change = self.existing(&dashboards, &edition).await?;
        if dry_run || change == Change::Unchanged {
            return Ok(change);
        }
        let lines = objects.iter().map(|object| {
            let mut object = object.clone();
            if object["type"] == "dashboard" {
                let description = object["attributes"]["description"].as_str().unwrap_or_default();
                object["attributes"]["description"] = format!("{description} {edition}").into();
            }
            format!("{object}\n")
        });
        let lines: String = lines.collect();
        let boundary = format!("confluence-audit-{}", digest(&texts));
        let body = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"dashboards.ndjson\"\r\n\
             content-type: application/ndjson\r\n\r\n{lines}\r\n--{boundary}--\r\n"
        );
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let path = "/api/saved_objects/_import?overwrite=true";
        let answer = self.send(Method::POST, path, &content_type, body.into_bytes()).await?;
        let result: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match (answer.status, &result["success"]) {
            (200, Value::Bool(true)) => Ok(change),
            (200, _) => {
                let error = result["errors"][0].to_string();
                Err(format!("{} refuses a dashboard: {}", self.name(), answer.redacted(&error)))
            }
            _ => Err(self.refused(&answer, "dashboards", "all rights on saved objects")),
        }
    }

    async fn existing(&self, dashboards: &[&Value], edition: &str) -> Result<Change, String> {
        let wanted: Vec<Value> =
            dashboards.iter().map(|object| json!({"type": object["type"], "id": object["id"]})).collect();
        let export = json!({"objects": wanted, "excludeExportDetails": true});
        let path = "/api/saved_objects/_export";
        let answer = self.send(Method::POST, path, "application/json", export.to_string().into()).await?;
        match answer.status {
            200 => {
                let text = String::from_utf8_lossy(&answer.body);
                let objects = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                let current = objects
                    .filter_map(|object| object["attributes"]["description"].as_str().map(str::to_owned));
                let current = current.filter(|description| description.ends_with(edition)).count();
                Ok(if current == dashboards.len() { Change::Unchanged } else { Change::Updated })
            }
            // At least one does not exist.
            400 => Ok(Change::Created),
            _ => Err(self.refused(&answer, "dashboards", "all rights on saved objects")),
        }
    }

    /// Creates a detection rule, or replaces an older edition of it. Whether it is enabled, its actions and its
    /// exceptions stay.
    pub(super) async fn install_rule(&self, rule: &Rule, dry_run: bool) -> Result<Change, String> {
        let what = format!("detection rule `{}`", rule.name);
        let id = rule.document["rule_id"].as_str().unwrap_or_default();
        let found =
            self.send(Method::GET, &format!("{RULES}?rule_id={id}"), "application/json", Vec::new()).await?;
        let existing: Value = serde_json::from_slice(&found.body).unwrap_or_default();
        let is_missing =
            found.status == 404 && existing["message"].as_str().is_some_and(|message| message.contains(id));
        let change = match found.status {
            200 => Change::of(existing["meta"][EDITION].as_str(), &rule.digest),
            _ if is_missing => Change::Created,
            404 => return Err("Kibana has no detection rules at this address; correct `--dashboards`".into()),
            _ => return Err(self.refused(&found, &what, "all rights on Security")),
        };
        let mut document = rule.document.clone();
        document["meta"] = json!({EDITION: rule.digest});
        let method = match change {
            Change::Created => Method::POST,
            Change::Updated => {
                document["enabled"] = existing["enabled"].clone();
                Method::PATCH
            }
            Change::Unchanged | Change::Kept => return Ok(change),
        };
        if dry_run {
            return Ok(change);
        }
        let answer = self.send(method, RULES, "application/json", document.to_string().into()).await?;
        match answer.status {
            200 => Ok(change),
            _ => Err(self.refused(&answer, &what, "all rights on Security")),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Response, String> {
        let xsrf = if self.is_kibana { "kbn-xsrf" } else { "osd-xsrf" };
        let make = || {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(xsrf), HeaderValue::from_static("true"));
            if let (Ok(value), false) = (HeaderValue::from_str(content_type), body.is_empty()) {
                headers.insert(CONTENT_TYPE, value);
            }
            Ok((headers, body.clone()))
        };
        let answer = self.hosts.send(method, path, make).await;
        answer.map_err(|outcome| format!("{}: {}", self.name(), outcome.reason()))
    }

    fn refused(&self, answer: &Response, what: &str, right: &str) -> String {
        match answer.status {
            403 => format!(
                "{what}: the credentials lack the permission; in {} they need {right}, or name others with `--user`",
                self.name()
            ),
            _ => format!("{what}: {}: {}", self.name(), server_message(answer)),
        }
    }
}
