//! Checks at start and each hour which audit coverage level each area has. Lowering a level hides events, so an
//! attacker may do it.

use super::page::Route;
use super::response::{self, ResponseClass, below};
use super::server_clock::Now;
use super::state::Api;
use crate::config::Product;
use crate::http::Client;
use crate::notice::{COVERAGE_LOWERED, Notice};
use crate::position::Coverage;
use serde_json::Value;
use std::time::Duration;
use url::Url;

const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// From the lowest to the highest.
const LEVELS: [&str; 4] = ["off", "base", "advanced", "full"];

impl Api {
    /// `coverage`: what the checkpoint has stored.
    pub fn with_coverage(mut self, coverage: Option<Coverage>) -> Api {
        self.checks.coverage = coverage;
        self
    }

    pub(super) fn coverage_due(&self, now: Now) -> bool {
        self.config.product == Product::DataCenter
            && self.endpoint.route != Route::Legacy
            && self.faults.outage.is_none()
            && self.checks.next_coverage.is_none_or(|at| now.monotonic >= at)
    }

    pub(super) async fn check_coverage(&mut self, now: Now) {
        self.checks.next_coverage = Some(now.monotonic + CHECK_INTERVAL);
        self.total.requests += 1;
        let found = match fetch(&mut self.client, &self.config.http.base).await {
            Ok(found) if !found.is_empty() => found,
            Ok(_) => return,
            Err(class) => {
                tracing::debug!(
                    source = self.source,
                    reason = class.message(),
                    "the audit coverage cannot be read"
                );
                return;
            }
        };
        let mut known = self.checks.coverage.clone().unwrap_or_default();
        let lowered = lowered(&known, &found);
        if !lowered.is_empty() {
            let message = format!(
                "the audit coverage was lowered: {}; events below the level are not recorded and cannot be delivered. If this was \
                 not intended, find out who did it: Confluence audits the change itself",
                lowered.join(", ")
            );
            tracing::warn!(source = self.source, "{message}");
            let occasion = now.ms.to_string();
            self.checks.notices.push(Notice::new(COVERAGE_LOWERED, &self.source, &occasion, now.ms, message));
        }
        // Areas that a response leaves out keep their last level.
        known.extend(found);
        if self.checks.coverage.as_ref() != Some(&known) {
            self.checks.coverage = Some(known);
            self.checks.coverage_changed = true;
        }
    }
}

/// Reads the level of each area from a Data Center. Not every version supports it, and not every user may read it.
pub(crate) async fn fetch(client: &mut Client, base: &Url) -> Result<Coverage, ResponseClass> {
    let url = below(base, "rest/auditing/1.0/configuration/coverage");
    let result = client.get(&url).await;
    match response::classify(&result, &Product::DataCenter) {
        ResponseClass::Ok => {
            let response = result.unwrap_or_default();
            let redacted = |(area, level): (String, String)| (response.redacted(&area), level);
            Ok(levels(&response.body).into_iter().map(redacted).collect())
        }
        class => Err(class),
    }
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
