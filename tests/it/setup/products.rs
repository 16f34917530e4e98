//! What packaging/detections/build.py makes of the Sigma rules for each product.

use crate::detections;
use crate::rig::skip;
use confluence_audit_agent::format::FormatKind;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Makes the detections. `None` where pySigma is not installed.
fn build(directory: &Path) -> Option<()> {
    let python = root().join("target/tools/detections/bin/python");
    if !python.exists() {
        skip("detections", "pySigma is not installed in target/tools/detections; `.ci/run` does that");
        return None;
    }
    let output = Command::new(python)
        .arg(root().join("packaging/detections/build.py"))
        .arg(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

/// What was made once for all tests that only read it.
fn made() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("detections");
        build(&directory).map(|()| directory)
    });
    made.as_deref()
}

/// Makes the detections beside the dashboards, as the packages have them. Returns the number of rules.
pub fn install(share: &Path) -> Option<usize> {
    let detections = share.join("detections");
    build(&detections)?;
    let rules = fs::read_to_string(detections.join("elastic/rules.ndjson")).unwrap();
    Some(rules.lines().count())
}

fn files(directory: &Path, found: &mut BTreeSet<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                found.insert((name, fs::read(&path).unwrap()));
            }
        }
    }
}

#[test]
fn the_same_rules_give_the_same_files() {
    let places = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut found = [(); 2].map(|()| BTreeSet::new());
    for (place, found) in places.iter().zip(&mut found) {
        let Some(()) = build(place.path()) else { return };
        files(place.path(), found);
    }
    assert!(found[0] == found[1] && found[0].len() > 80, "{}", found[0].len());
}

#[test]
fn each_rule_is_in_each_product_or_a_reason_is_given() {
    let Some(made) = made() else { return };
    let text = fs::read_to_string(made.join("coverage.json")).unwrap();
    let coverage: Value = serde_json::from_str(&text).unwrap();
    let rules = coverage.as_object().unwrap();
    assert!(rules.len() >= 24);
    for (rule, products) in rules {
        for product in ["elastic", "opensearch", "splunk"] {
            assert_eq!(products[product], true, "{rule} for {product}");
        }
        for product in ["esql", "security-analytics", "sentinel"] {
            let reason = products[product].as_str();
            assert!(products[product] == true || reason.is_some_and(|reason| reason.contains(' ')), "{rule}");
        }
    }
    let with = |product: &str| rules.values().filter(|products| products[product] == true).count();
    let document = fs::read_to_string(root().join("docs/DETECTIONS.md")).unwrap();
    for (product, file) in [
        ("elastic", "elastic/rules.ndjson"),
        ("esql", "elastic/hunting/*.esql"),
        ("opensearch", "opensearch/monitors.ndjson"),
        ("security-analytics", "opensearch/security-analytics/*.yml"),
        ("splunk", "splunk/savedsearches.conf"),
        ("sentinel", "sentinel/"),
    ] {
        let row = format!("| `{file}` | {} |", with(product));
        assert!(document.contains(&row), "docs/DETECTIONS.md does not have {row}");
    }
    assert!(with("sentinel") * 5 > rules.len() * 4, "{} for Sentinel", with("sentinel"));
}

/// The rules find the agent's records in the columns of the table, which has texts and no keys.
#[test]
fn rules_of_sentinel_find_what_they_must() {
    let Some(made) = made() else { return };
    let place = tempfile::tempdir().unwrap();
    let samples = place.path().join("samples");
    detections::write(&samples, &detections::events(FormatKind::Sentinel));
    let rules = made.join("sentinel");
    let printed = detections::check(&["sentinel", samples.to_str().unwrap(), rules.to_str().unwrap()]);
    let printed = printed.unwrap();
    assert!(detections::count(&printed) > 80, "{printed}");
}

#[test]
fn rules_of_security_analytics_are_those_of_sigma() {
    let Some(made) = made() else { return };
    let directory = made.join("opensearch/security-analytics");
    let printed = detections::check(&["analytics", directory.to_str().unwrap()]).unwrap();
    assert_eq!(detections::count(&printed), fs::read_dir(&directory).unwrap().count(), "{printed}");
}

/// In minutes, of `15m`, `1h`, `PT1H`.
fn minutes(text: &str) -> u64 {
    let text = text.trim_start_matches("PT");
    let (count, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "M" => 1,
        "H" => 60,
        other => panic!("the unit {other}"),
    };
    count.parse::<u64>().unwrap() * unit
}

#[test]
fn rules_of_sentinel_are_as_its_api_wants_them() {
    let Some(made) = made() else { return };
    let file = made.join("sentinel/azuredeploy.json");
    let template: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    let resources = template["resources"].as_array().unwrap();
    assert!(resources.iter().all(|one| ids.insert(one["name"].as_str().unwrap())), "an id occurs twice");
    let (rules, hunting): (Vec<&Value>, Vec<&Value>) =
        resources.iter().partition(|one| one["kind"] == "Scheduled");
    assert_eq!(hunting.len(), fs::read_dir(made.join("sentinel/hunting-queries")).unwrap().count());
    for query in &hunting {
        assert!(query["type"].as_str().unwrap().ends_with("/savedSearches"), "{query}");
        assert_eq!(query["properties"]["category"], "Hunting Queries");
        assert!(!query["properties"]["query"].as_str().unwrap().contains("ingestion_time"), "{query}");
    }
    for rule in rules {
        let properties = &rule["properties"];
        let name = properties["displayName"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} occurs twice");
        let [frequency, period] =
            ["queryFrequency", "queryPeriod"].map(|key| minutes(properties[key].as_str().unwrap()));
        assert!((5..=14 * 24 * 60).contains(&frequency) && period >= frequency, "{name}");
        let severity = properties["severity"].as_str().unwrap();
        assert!(["Informational", "Low", "Medium", "High"].contains(&severity), "{name}");
        let query = properties["query"].as_str().unwrap();
        // What arrived late is found: a rule alerts on what has arrived since its last run.
        let since = format!(" > ago({})", properties["queryFrequency"].as_str().unwrap()[2..].to_lowercase());
        assert!(query.contains("ingestion_time()") && query.contains(&since), "{name}: {query}");
        assert_eq!(period, 24 * 60, "{name}");
        let mappings = properties["entityMappings"].as_array().unwrap();
        assert!((1..=10).contains(&mappings.len()), "{name}");
        for field in mappings.iter().flat_map(|mapping| mapping["fieldMappings"].as_array().unwrap()) {
            let column = field["columnName"].as_str().unwrap();
            assert!(query.contains(column), "{name}: the query returns no {column}");
        }
        assert!(!properties["tactics"].as_array().unwrap().is_empty(), "{name}");
    }
    if !root().join("target/tools/kusto/node_modules").is_dir() {
        skip("kusto", "Microsoft's parser of queries is not installed; tests/peers/install.sh does it");
        return;
    }
    let mut check = Command::new("node");
    check.arg("tests/sentinel/check.cjs").arg(&file).arg("fixtures/sentinel/columns.txt");
    let output = check.current_dir(root()).output().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(printed.contains(&format!("{} queries, 0 errors", resources.len())), "{printed}");
}

/// Elastic shows a technique below its tactic.
#[test]
fn no_technique_of_a_rule_is_lost() {
    let Some(made) = made() else { return };
    let text = fs::read_to_string(made.join("elastic/rules.ndjson")).unwrap();
    for line in text.lines() {
        let rule: Value = serde_json::from_str(line).unwrap();
        let threat = rule["threat"].as_array().unwrap();
        let techniques = threat.iter().flat_map(|one| one["technique"].as_array().unwrap());
        assert!(techniques.count() > 0, "{}", rule["name"]);
    }
}

#[test]
fn an_address_without_a_country_is_no_other_country() {
    let Some(made) = made() else { return };
    let rules = made.join("sentinel/analytic-rules");
    let query = |rule: &str| fs::read_to_string(rules.join(format!("{rule}.yaml"))).unwrap();
    let countries = query("confluence_audit_login_from_two_countries");
    assert!(countries.contains("| where isnotempty(Country)"), "{countries}");
    let users = query("confluence_audit_login_spray");
    assert!(users.contains("| where isnotempty(AffectedObjectName)"), "{users}");
}

/// A rule that needs names is disabled until it has them.
#[test]
fn the_rule_for_searches_is_disabled() {
    let Some(made) = made() else { return };
    let name = "Confluence Audit Log Searched by Somebody Who Is Not an Auditor";
    for file in ["elastic/rules.ndjson", "opensearch/monitors.ndjson"] {
        let text = fs::read_to_string(made.join(file)).unwrap();
        let rules = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let disabled: Vec<Value> = rules.filter(|rule| rule["enabled"] == false).collect();
        assert!(disabled.len() == 1 && disabled[0]["name"] == name, "{file}: {disabled:?}");
    }
    let searches = fs::read_to_string(made.join("splunk/savedsearches.conf")).unwrap();
    let mut disabled = searches.split("\n\n").filter(|stanza| stanza.contains("\ndisabled = 1\n"));
    assert!(disabled.next().is_some_and(|stanza| stanza.contains(name)) && disabled.next().is_none());
    let template = fs::read_to_string(made.join("sentinel/azuredeploy.json")).unwrap();
    let template: Value = serde_json::from_str(&template).unwrap();
    let rules = template["resources"].as_array().unwrap().iter().filter(|one| one["kind"] == "Scheduled");
    let names: Vec<&Value> = rules.map(|rule| &rule["properties"]["displayName"]).collect();
    assert!(!names.contains(&&Value::from(name)) && names.len() > 30, "{names:?}");
}

/// A comparison with a field that is absent is null in ES|QL, and its negation, too: `coalesce` makes it true.
#[test]
fn negations_of_hunting_queries_hold_where_a_field_is_absent() {
    let Some(made) = made() else { return };
    let mut queries = BTreeSet::new();
    files(&made.join("elastic/hunting"), &mut queries);
    let mut negations = 0;
    for (name, query) in &queries {
        let query = str::from_utf8(query).unwrap();
        let query = &query[query.find("\nfrom ").expect(name)..];
        let count = query.matches("not ").count() + query.matches("!=").count();
        assert_eq!(count, query.matches("not coalesce(").count(), "{name}: {query}");
        negations += count;
    }
    assert!(negations >= 5, "{negations}");
}

/// A login in the middle of a burst is none after it: the burst is complete with the failure that reaches the count.
#[test]
fn a_login_is_after_a_burst_that_is_complete() {
    let Some(made) = made() else { return };
    let rule = "confluence_audit_login_burst_then_success";
    let query = fs::read_to_string(made.join(format!("sentinel/analytic-rules/{rule}.yaml"))).unwrap();
    assert!(query.contains("First = todatetime(Times[9])"), "{query}");
    assert!(query.contains("between (First .. (First + 15m))"), "{query}");
    let searches = fs::read_to_string(made.join("splunk/savedsearches.conf")).unwrap();
    let complete = "eval complete=if(step==1 AND number>=10,_time,null())";
    assert!(searches.contains(complete) && searches.contains("_time-first<=900"), "{searches}");
    let monitors = fs::read_to_string(made.join("opensearch/monitors.ndjson")).unwrap();
    let monitor = monitors.lines().find(|line| line.contains("Login After a Burst")).unwrap();
    assert!(monitor.contains(r#""at": {"max""#) && !monitor.contains(r#""at": {"min""#), "{monitor}");
}

#[test]
fn saved_searches_of_splunk_are_whole() {
    let Some(made) = made() else { return };
    let text = fs::read_to_string(made.join("splunk/savedsearches.conf")).unwrap();
    let macros = fs::read_to_string(made.join("splunk/macros.conf")).unwrap();
    assert!(macros.contains("[confluence_audit_index]\ndefinition = "), "{macros}");
    let mut names = BTreeSet::new();
    for stanza in text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
        let (name, keys) = stanza.trim().split_once('\n').unwrap();
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).expect(name);
        assert!(names.insert(name), "{name} occurs twice");
        assert!(
            keys.lines().all(|line| line.split_once(" = ").is_some_and(|(_, value)| !value.is_empty())),
            "{name}"
        );
        let search = keys.lines().find_map(|line| line.strip_prefix("search = ")).unwrap();
        let source = "`confluence_audit_index` sourcetype=\"confluence:audit\"";
        assert_eq!(search.matches("sourcetype").count(), search.matches(source).count(), "{name}");
        assert!(search.contains(source), "{name}");
        // What arrived late is found: the window is one of the time of indexing.
        assert!(keys.contains("dispatch.earliest_time = -30d\n"), "{name}");
        for (open, close) in [('(', ')'), ('[', ']')] {
            assert_eq!(search.matches(open).count(), search.matches(close).count(), "{search}");
        }
        assert!(search.matches('"').count().is_multiple_of(2), "{search}");
        for key in ["cron_schedule", "dispatch.index_earliest", "dispatch.index_latest", "alert.severity"] {
            assert!(keys.contains(&format!("{key} = ")), "{name}: no {key}");
        }
    }
    assert!(names.len() >= 24);
}
