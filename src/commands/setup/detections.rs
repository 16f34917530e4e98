//! `--detections`: dashboards and detection rules, read from the files that the packages install.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::Value;
use url::Url;

use super::dashboards::DashboardsServer;
use super::monitors::Monitors;
use super::rules::{Change, Rule};
use super::step::StepResult;
use crate::config::{ElasticsearchConfig, Target};
use crate::sink::elasticsearch::hosts::Hosts;
use crate::sink::elasticsearch::product::{ClusterProduct, Distribution};
use crate::telemetry::escape::{escape, escape_path};

/// What the files search. The name of another index takes its place.
const STREAMS: &str = "logs-atlassian_confluence.audit-*";

pub(super) struct Detections {
    pub directory: PathBuf,
    /// Kibana or OpenSearch Dashboards. Rules of OpenSearch are installed without it.
    pub dashboards: Option<Url>,
    pub dry_run: bool,
}

/// The content of the two files for a product.
struct Files {
    rules: Vec<Rule>,
    dashboards: Vec<Value>,
}

impl Detections {
    pub(super) async fn set_up(
        &self,
        product: &ClusterProduct,
        config: &ElasticsearchConfig,
        out: &mut dyn Write,
    ) -> StepResult {
        let is_elastic = product.distribution == Distribution::Elasticsearch;
        if is_elastic && self.dashboards.is_none() {
            return Ok(Err(
                "Kibana keeps dashboards and detection rules; name its address with `--dashboards URL`"
                    .into(),
            ));
        }
        let files = match self.read(is_elastic, config) {
            Ok(files) => files,
            Err(reason) => return Ok(Err(reason)),
        };
        let server = self.dashboards.as_ref().map(|url| DashboardsServer::new(config, url, is_elastic));
        match &server {
            Some(server) => match server.import(&files.dashboards, self.dry_run).await {
                Ok(change) => self.report(change, &format!("dashboards in {}", server.name()), out)?,
                Err(reason) => return Ok(Err(reason)),
            },
            None => writeln!(
                out,
                "skipped   dashboards; name the address of OpenSearch Dashboards with `--dashboards URL`"
            )?,
        }
        match server {
            Some(server) if is_elastic => self.kibana_rules(&server, &files.rules, out).await,
            _ => self.monitors(&Hosts::new(config), &files.rules, out).await,
        }
    }

    async fn kibana_rules(
        &self,
        server: &DashboardsServer,
        rules: &[Rule],
        out: &mut dyn Write,
    ) -> StepResult {
        let mut unchanged = 0;
        for rule in rules {
            match server.install_rule(rule, self.dry_run).await {
                Ok(Change::Unchanged) => unchanged += 1,
                Ok(change) => self.report(change, &format!("detection rule `{}`", rule.name), out)?,
                Err(reason) => return Ok(Err(reason)),
            }
        }
        report_unchanged(unchanged, "detection rules", out)
    }

    async fn monitors(&self, hosts: &Hosts, rules: &[Rule], out: &mut dyn Write) -> StepResult {
        let monitors = match Monitors::find(hosts, rules).await {
            Ok(Some(monitors)) => monitors,
            Ok(None) => {
                writeln!(
                    out,
                    "warning   this OpenSearch has no alerting: no monitors are installed; install its plugin and run this command again"
                )?;
                return Ok(Ok(()));
            }
            Err(reason) => return Ok(Err(reason)),
        };
        let mut unchanged = 0;
        for rule in rules {
            match monitors.install(rule, self.dry_run).await {
                Ok(Change::Unchanged) => unchanged += 1,
                Ok(change) => self.report(change, &format!("monitor `{}`", rule.name), out)?,
                Err(reason) => return Ok(Err(reason)),
            }
        }
        report_unchanged(unchanged, "monitors", out)
    }

    fn report(&self, change: Change, what: &str, out: &mut dyn Write) -> io::Result<()> {
        let what = escape(what);
        match change {
            Change::Created if self.dry_run => writeln!(out, "would be created: {what}"),
            Change::Updated if self.dry_run => writeln!(out, "would be updated: {what}"),
            Change::Created => writeln!(out, "created   {what}"),
            Change::Updated => writeln!(out, "updated   {what}"),
            Change::Unchanged => writeln!(out, "unchanged {what}"),
            Change::Kept => {
                writeln!(
                    out,
                    "kept      {what}: it was edited; delete it and run this command again to replace it"
                )
            }
        }
    }

    fn read(&self, is_elastic: bool, config: &ElasticsearchConfig) -> Result<Files, String> {
        let (rules, dashboards) = match is_elastic {
            true => ("detections/elastic/rules.ndjson", "kibana/dashboards.ndjson"),
            false => ("detections/opensearch/monitors.ndjson", "opensearch/dashboards.ndjson"),
        };
        let rules = self.objects(rules, config)?.into_iter().map(Rule::new).collect::<Option<Vec<_>>>();
        Ok(Files {
            rules: rules.ok_or("a detection rule has no name")?,
            dashboards: self.objects(dashboards, config)?,
        })
    }

    /// The lines of a file. Those of Index `target` search that index.
    fn objects(&self, file: &str, config: &ElasticsearchConfig) -> Result<Vec<Value>, String> {
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path).map_err(|error| {
            format!(
                "cannot read `{}`: {error}; the packages install it, and `--detections=DIR` names another directory",
                escape_path(&path)
            )
        })?;
        let text = match &config.target {
            Target::DataStream(_) => text,
            Target::Index(index) => text.replace(STREAMS, index),
        };
        let objects = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
        objects.map_err(|error| {
            format!("`{}` is damaged: {error}; install the package again", escape_path(&path))
        })
    }
}

fn report_unchanged(count: usize, what: &str, out: &mut dyn Write) -> StepResult {
    if count > 0 {
        writeln!(out, "unchanged {count} {what}")?;
    }
    Ok(Ok(()))
}
