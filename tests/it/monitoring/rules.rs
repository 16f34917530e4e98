//! The alert rules for Prometheus.

use super::{prometheus_program, read, root};
use std::collections::BTreeMap;
use std::process::Command;

pub const RULES: &str = "packaging/prometheus/confluence-audit-agent.rules.yml";
const TESTS: &str = "tests/prometheus/rules_test.yml";

/// The alerts of issue and document: name, and the anchor of its section in OPERATIONS.md.
fn alerts(rules: &str) -> BTreeMap<&str, &str> {
    let alerts = rules.split("- alert: ").skip(1).map(|rule| {
        let name = rule.lines().next().unwrap();
        for key in ["expr", "for", "severity", "summary", "description", "runbook_url"] {
            let has = rule.lines().any(|line| line.trim_start().starts_with(&format!("{key}: ")));
            assert!(has, "{name} has no `{key}`");
        }
        assert!(["severity: critical", "severity: warning"].iter().any(|severity| rule.contains(severity)));
        let (_, anchor) = rule.split_once("OPERATIONS.md#").expect("a runbook");
        (name, anchor.lines().next().unwrap())
    });
    alerts.collect()
}

#[test]
fn promtool_accepts_the_rules_and_each_alert_fires_and_is_silent_where_it_must() {
    let Some(promtool) = prometheus_program("promtool") else { return };
    for arguments in [["check", "rules", RULES], ["test", "rules", TESTS]] {
        let output = Command::new(&promtool).args(arguments).current_dir(root()).output().unwrap();
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && printed.contains("SUCCESS"), "{arguments:?}\n{printed}");
    }
}

#[test]
fn each_alert_has_a_section_in_operations_and_tests_of_both_kinds() {
    let (rules, tests, operations) = (read(RULES), read(TESTS), read("docs/OPERATIONS.md"));
    let alerts = alerts(&rules);
    assert!(alerts.len() >= 14, "{alerts:?}");
    for (alert, anchor) in &alerts {
        let words = anchor.strip_prefix("alert-").expect("anchors of alerts begin so").replace('-', " ");
        let section = operations.split_once(&format!("\n### Alert: {words}\n"));
        let section = section.unwrap_or_else(|| panic!("OPERATIONS.md has no section for #{anchor}")).1;
        assert!(section.trim_start().starts_with(&format!("`{alert}`")), "{anchor} is not about {alert}");
        let tested: Vec<&str> = tests.split(&format!("alertname: {alert}\n")).skip(1).collect();
        let fires = |test: &&&str| !test.split("alertname: ").next().unwrap().contains("exp_alerts: []");
        let firing = tested.iter().filter(fires).count();
        assert!(firing > 0 && firing < tested.len(), "{alert}: {firing} of {} tests fire", tested.len());
    }
    let sections = operations.matches("\n### Alert: ").count();
    assert_eq!(sections, alerts.len(), "a section of OPERATIONS.md is about no alert");
}
