//! Checks at start and each hour what a Data Center records: the coverage level of each area, the list of actions that
//! are not recorded, and how long events are kept. An attacker may change them to hide what follows.

use super::page::Route;
use super::response::{self, ResponseClass, below};
use super::server_clock::Now;
use super::state::Api;
use crate::config::Product;
use crate::http::{Client, Response};
use crate::notice::{COVERAGE_LOWERED, DENYLIST_CHANGED, Notice, RETENTION_CHANGED};
use crate::position::{AuditSettings, Coverage};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use url::Url;

const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// From the lowest to the highest.
const LEVELS: [&str; 4] = ["off", "base", "advanced", "full"];

impl Api {
    /// `settings`: what the checkpoint has stored.
    pub fn with_audit_settings(mut self, settings: Option<AuditSettings>) -> Api {
        self.checks.audit_settings = settings;
        self
    }

    pub(super) fn audit_settings_due(&self, now: Now) -> bool {
        self.config.product == Product::DataCenter
            && self.endpoint.route != Route::Legacy
            && self.faults.outage.is_none()
            && self.checks.next_audit_settings.is_none_or(|at| now.monotonic >= at)
    }

    pub(super) async fn check_audit_settings(&mut self, now: Now) {
        self.checks.next_audit_settings = Some(now.monotonic + CHECK_INTERVAL);
        self.total.requests += 3;
        let (client, base) = (&mut self.client, &self.config.http.base);
        let coverage = fetch_coverage(client, base).await;
        let denied = fetch(client, base, "denylist").await.map(|response| denied_actions(&response));
        let retention = fetch(client, base, "retention").await.map(|response| retention(&response));
        let before = self.checks.audit_settings.clone().unwrap_or_default();
        let mut settings = before.clone();
        let mut changes = Vec::new();
        match coverage {
            Ok(found) => {
                changes.extend(coverage_change(&before.coverage, &found));
                // Areas that a response leaves out keep their last level.
                settings.coverage.extend(found);
            }
            Err(class) => self.unreadable("coverage", &class),
        }
        match denied {
            Ok(found) => {
                changes.extend(denylist_change(before.denied_actions.as_ref(), found.as_ref()));
                settings.denied_actions = found.or(settings.denied_actions);
            }
            Err(class) => self.unreadable("deny list", &class),
        }
        match retention {
            Ok(found) => {
                changes.extend(retention_change(before.retention.as_deref(), found.as_deref()));
                settings.retention = found.or(settings.retention);
            }
            Err(class) => self.unreadable("retention", &class),
        }
        for (action, message) in changes {
            tracing::warn!(source = self.source, "{message}");
            let occasion = now.ms.to_string();
            self.checks.notices.push(Notice::new(action, &self.source, &occasion, now.ms, message));
        }
        self.metrics.set_coverages(&settings.coverage);
        if settings != before {
            self.checks.audit_settings = Some(settings);
            self.checks.audit_settings_changed = true;
        }
    }

    /// Not every version has the settings, and not every administrator may read them.
    fn unreadable(&self, what: &str, class: &ResponseClass) {
        tracing::debug!(source = self.source, reason = class.message(), "the audit {what} cannot be read");
    }
}

/// What `check` and `status` say if an area is off.
pub(crate) fn coverage_off(levels: &Coverage) -> Option<String> {
    let remedy = "nothing is audited in an area that is off: raise it in Confluence's audit log settings";
    levels
        .values()
        .any(|level| level == "off")
        .then(|| format!("coverage: {}; {remedy}", coverage_text(levels)))
}

pub(crate) fn coverage_text(levels: &Coverage) -> String {
    let list: Vec<String> = levels.iter().map(|(area, level)| format!("{area} {level}")).collect();
    list.join(", ")
}

/// An action of a notice, and its message.
type Change = (&'static str, String);

fn coverage_change(before: &Coverage, now: &Coverage) -> Option<Change> {
    let lowered = lowered(before, now);
    (!lowered.is_empty()).then(|| {
        let message = format!(
            "the audit coverage was lowered: {}; events below the level are not recorded and cannot be delivered. If this was \
             not intended, find out who did it: Confluence audits the change itself",
            lowered.join(", ")
        );
        (COVERAGE_LOWERED, message)
    })
}

/// The first list that is read is the one to compare with.
fn denylist_change(before: Option<&BTreeSet<String>>, now: Option<&BTreeSet<String>>) -> Option<Change> {
    let (before, now) = before.zip(now)?;
    let listed = |actions: Vec<&String>| match actions.is_empty() {
        true => "none".to_owned(),
        false => actions.iter().map(|action| format!("`{action}`")).collect::<Vec<_>>().join(", "),
    };
    (before != now).then(|| {
        let (added, removed) = (now.difference(before).collect(), before.difference(now).collect());
        let message = format!(
            "the list of actions that Confluence does not record was changed: added {}, removed {}; events of listed actions \
             are not recorded and cannot be delivered. If this was not intended, find out who did it",
            listed(added),
            listed(removed)
        );
        (DENYLIST_CHANGED, message)
    })
}

fn retention_change(before: Option<&str>, now: Option<&str>) -> Option<Change> {
    let (before, now) = before.zip(now)?;
    (before != now).then(|| {
        let message = format!(
            "the retention of the audit log in Confluence was changed from {before} to {now}; what is delivered stays delivered"
        );
        (RETENTION_CHANGED, message)
    })
}

/// Reads the level of each area from a Data Center. Not every version supports it, and not every user may read it.
pub(crate) async fn fetch_coverage(client: &mut Client, base: &Url) -> Result<Coverage, ResponseClass> {
    let response = fetch(client, base, "coverage").await?;
    let redacted = |(area, level): (String, String)| (response.redacted(&area), level);
    Ok(levels(&response.body).into_iter().map(redacted).collect())
}

async fn fetch(client: &mut Client, base: &Url, setting: &str) -> Result<Response, ResponseClass> {
    let url = below(base, &format!("rest/auditing/1.0/configuration/{setting}"));
    let result = client.get(&url).await;
    match response::classify(&result, &Product::DataCenter) {
        ResponseClass::Ok => Ok(result.unwrap_or_default()),
        class => Err(class),
    }
}

/// `{"actions": [...]}`. `None`: it is something else.
fn denied_actions(response: &Response) -> Option<BTreeSet<String>> {
    let body: Value = serde_json::from_slice(&response.body).ok()?;
    let actions = body.get("actions")?.as_array()?;
    Some(actions.iter().filter_map(Value::as_str).map(|action| response.redacted(action)).collect())
}

/// `{"period": ...}`, whose form differs between versions. `None`: it is something else.
fn retention(response: &Response) -> Option<String> {
    let body: Value = serde_json::from_slice(&response.body).ok()?;
    Some(response.redacted(&body.get("period")?.to_string()))
}

/// Every member of the response whose value is a level, at any depth: Confluence's versions nest them differently.
fn levels(body: &[u8]) -> Coverage {
    let mut found = Coverage::new();
    let mut open: Vec<Value> = serde_json::from_slice(body).into_iter().collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => {
                // `{"area": "SECURITY", "level": "BASE"}` is the other way to write `{"SECURITY": "BASE"}`.
                let area = members.get("area").and_then(Value::as_str).map(str::to_string);
                for (key, value) in members {
                    match level(&value) {
                        Some(level) => drop(found.insert(area.clone().unwrap_or(key), level)),
                        None => open.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn level(value: &Value) -> Option<String> {
    let level = value.as_str()?.to_ascii_lowercase();
    LEVELS.contains(&level.as_str()).then_some(level)
}

/// The areas that are audited less closely now, with both levels.
fn lowered(before: &Coverage, now: &Coverage) -> Vec<String> {
    let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
    let fell = now.iter().filter_map(|(area, level)| {
        let old = before.get(area)?;
        (rank(level) < rank(old)).then(|| format!("{area} from {old} to {level}"))
    });
    fell.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(levels: &[(&str, &str)]) -> Coverage {
        let owned = levels.iter().map(|(area, level)| (area.to_string(), level.to_string()));
        owned.collect()
    }

    #[test]
    fn levels_of_every_nesting() {
        let expect = coverage(&[("SECURITY", "base"), ("PERMISSIONS", "off")]);
        for body in [
            r#"{"levelByArea":{"SECURITY":"BASE","PERMISSIONS":"OFF"}}"#,
            r#"{"SECURITY":"base","PERMISSIONS":"off"}"#,
            r#"[{"area":"SECURITY","level":"BASE"},{"area":"PERMISSIONS","level":"OFF"}]"#,
        ] {
            assert_eq!(levels(body.as_bytes()), expect, "{body}");
        }
        assert!(levels(b"{\"x\":7,\"y\":\"other\"}").is_empty());
        assert!(levels(b"<html>").is_empty());
    }

    #[test]
    fn only_lowered_levels_are_reported() {
        let before = coverage(&[("A", "full"), ("B", "base"), ("C", "advanced"), ("D", "base")]);
        let now = coverage(&[("A", "base"), ("B", "full"), ("C", "advanced"), ("D", "off"), ("E", "off")]);
        assert_eq!(lowered(&before, &now), ["A from full to base", "D from base to off"]);
        assert!(lowered(&coverage(&[]), &now).is_empty());
    }
}
