//! The status of sources with an audit API.

use super::*;
use crate::simulator::sim::{ADMIN_TOKEN, Row, Sim};
use confluence_audit_agent::clock;

const DAY_MS: i64 = 86_400_000;

/// A source with these inputs; the simulated Confluence audits none of its searches.
fn host(sim: &Sim, inputs: &str) -> Host {
    sim.configure(|options| options.searches_are_audited = false);
    let mut host = Host::new();
    let token = host.path("token");
    fs::write(&token, ADMIN_TOKEN).unwrap();
    host.source += &format!(
        "{inputs}url = {:?}\npersonal_access_token = {{ file = {token:?} }}\npoll_interval = \"1s\"\n",
        sim.url()
    );
    host.admin();
    host
}

#[test]
fn expiry_and_coverage_of_an_api_are_shown() {
    let sim = Sim::data_center().unwrap();
    let mut host = host(&sim, "mode = \"api\"\n");
    host.unset(&["rotate_grace", "sweep_interval"]);
    sim.expire(ADMIN_TOKEN, Some(clock::now_ms() + 5 * DAY_MS + DAY_MS / 2));
    sim.set_coverage("SECURITY", "OFF");
    sim.insert(Row::data_center(clock::now_ms(), 1));
    let mut agent = host.start();
    let found = until_status(&host, &mut agent, "the event is delivered", |status| {
        let source = &status["sources"][0];
        source["activity"]["events"].as_u64() >= Some(1) && source["health"] == "warning"
    });
    let source = &found["sources"][0];
    assert_eq!((source["input"].as_str(), source["fallback"].is_null()), (Some("api"), true));
    assert_eq!(source["coverage"]["SECURITY"], "off", "{source}");
    assert!(source["token_expires"].as_str().is_some_and(|time| time.ends_with('Z')), "{source}");
    assert_eq!((found["ready"].as_bool(), found["health"].as_str()), (Some(true), Some("warning")));
    let shown = status(&host, &[]);
    assert_eq!(shown.code, 0, "{}", shown.stdout);
    let text = shown.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["warning source wiki: reads the API, ", "the token expires in 5 days", "SECURITY off", "1 warning"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // `check` has the same words.
    let checked = host.check().stdout;
    assert!(checked.contains("the token expires in 5 days") && checked.contains("SECURITY off"), "{checked}");
}

#[test]
fn an_active_fallback_and_its_switches_are_shown() {
    let sim = Sim::data_center().unwrap();
    let mut host = host(&sim, "mode = \"auto\"\n");
    let home = host.home();
    host.source += &format!(
        "home = {home:?}\nprobe_interval = \"1s\"\nfile_lag_timeout = \"2s\"\nfile_error_timeout = \"1s\"\n\
         file_recovery_timeout = \"1s\"\n"
    );
    fs::remove_dir_all(host.audit()).unwrap();
    let mut agent = host.start();
    let found = until_status(&host, &mut agent, "the API is read", |status| {
        status["sources"][0]["fallback"]["active"] == true && status["sources"][0]["health"] == "warning"
    });
    let source = &found["sources"][0];
    assert_eq!((source["input"].as_str(), source["switches"].as_u64()), (Some("api"), Some(1)), "{source}");
    assert!(
        source["fallback"]["reason"].as_str().unwrap().contains("instead of the audit files"),
        "{source}"
    );
    let shown = status(&host, &[]);
    assert_eq!(shown.code, 0);
    assert!(shown.stdout.contains("warning  source wiki: reads the API, as fallback, "), "{}", shown.stdout);
    assert!(get(&socket(&host), "/").unwrap().body.contains("API, as fallback"));
    fs::create_dir_all(host.audit()).unwrap();
    host.audit_file(3, 5);
    let found = until_status(&host, &mut agent, "the files are read", |status| {
        status["sources"][0]["fallback"]["active"] == false && status["sources"][0]["health"] == "ok"
    });
    let changes = &found["sources"][0]["changes"];
    assert_eq!(found["sources"][0]["input"], "file");
    assert!(changes.as_array().unwrap().iter().all(|change| change["action"] == "agent.source.switched"));
    assert_eq!(changes.as_array().unwrap().len(), 2, "{changes}");
}
