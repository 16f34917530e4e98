//! The dashboards for Grafana. No Grafana can be had here: their form is compared with the types that Grafana
//! publishes, and their queries are run by a real Prometheus (`prometheus.rs`).

use super::{read, root};
use crate::rig::skip;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const FILES: [&str; 2] = ["packaging/grafana/health.json", "packaging/grafana/fleet.json"];

fn dashboards() -> impl Iterator<Item = (&'static str, Value)> {
    FILES.into_iter().map(|file| (file, serde_json::from_str(&read(file)).unwrap()))
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// Each query as Grafana would send it with all hosts and sources selected, and a panel that has it.
pub fn queries(range: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (file, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().unwrap() {
                let mut query = target["expr"].as_str().unwrap().to_owned();
                for (variable, value) in
                    [("$__rate_interval", range), ("$__range", "1m"), ("$instance", ".*"), ("$source", ".*")]
                {
                    query = query.replace(variable, value);
                }
                assert!(!query.contains('$'), "{file}: an unknown variable: {query}");
                all.insert(query, format!("{file}: {}", panel["title"]));
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inner = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
            let (series, label) = inner.and_then(|inner| inner.rsplit_once(", ")).expect("label_values");
            let query = format!("count by ({label}) ({})", series.replace("$instance", ".*"));
            all.insert(query, format!("{file}: variable {}", variable["name"]));
        }
    }
    all
}

#[test]
fn the_form_is_what_grafana_publishes() {
    let check = root().join("tests/grafana/check.mjs");
    if !root().join("target/tools/grafana/node_modules").is_dir() {
        skip("grafana", "Grafana's published types are not installed; tests/peers/install.sh does it");
        return;
    }
    let output = Command::new("node").arg(check).args(FILES).current_dir(root()).output().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{printed}");
    assert_eq!(printed.matches(": fits").count(), 6, "two dashboards, three releases: {printed}");
}

#[test]
fn panels_have_a_place_a_text_and_the_selected_data_source() {
    for (file, dashboard) in dashboards() {
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: {panel}");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(x + w <= 24, "{file}: {panel}");
            let own = (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row)));
            own.for_each(|cell| assert!(cells.insert(cell), "{file}: {panel} overlaps another one"));
        }
        for panel in panels(&dashboard) {
            let text = panel["description"].as_str().unwrap();
            assert!(!text.is_empty(), "{file}: {} has no description", panel["title"]);
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{file}: {}", panel["title"]);
        }
    }
}
