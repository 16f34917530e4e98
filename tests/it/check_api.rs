//! What `check` says of an audit API.

use std::fs;
use std::process::Command;

use confluence_audit_agent::clock;

use crate::simulator::sim::{
    ADMIN_EMAIL, ADMIN_TOKEN, Fault, Options, SCOPED_TOKEN, Sim, USER_TOKEN, WRONG_SCOPE_TOKEN,
};

const DAY_MS: i64 = 86_400_000;

/// Exit code and output of `check` with these lines of the source.
fn check(source: &str) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = dir.path().join("config.toml");
    let text = format!(
        "state_dir = {state:?}\n[[source]]\nname = \"wiki\"\nmode = \"api\"\n{source}\n[[sink]]\nname = \"out\"\ntype = \"stdout\"\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    command.arg("check").arg("--config").arg(&config);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let text = crate::rig::unwrap_lines(&printed);
    for secret in [ADMIN_TOKEN, USER_TOKEN, SCOPED_TOKEN, WRONG_SCOPE_TOKEN] {
        assert!(!text.contains(secret), "{text}");
    }
    (output.status.code().unwrap(), text)
}

fn data_center(sim: &Sim, token: &str, more: &str) -> String {
    let url = sim.url();
    format!("type = \"data_center\"\nurl = \"{url}\"\npersonal_access_token = \"{token}\"\n{more}")
}

fn cloud(sim: &Sim, token: &str, more: &str) -> String {
    let port = sim.port();
    format!(
        "type = \"cloud\"\nsite = \"http://127.0.0.1:{port}\"\ngateway = \"http://127.0.0.1:{port}\"\nuser = \"{ADMIN_EMAIL}\"\ntoken = \"{token}\"\n{more}"
    )
}

#[track_caller]
fn assert_line(text: &str, verdict: &str, what: &str) {
    let found = text.lines().any(|line| line.starts_with(verdict) && line.contains(what));
    assert!(found, "no `{verdict}` with `{what}` in:\n{text}");
}

#[test]
fn data_center_that_is_ready() {
    let mut options = Options::data_center();
    options.context_path = "/confluence".into();
    let sim = Sim::start(options).unwrap();
    sim.expire(ADMIN_TOKEN, Some(clock::now_ms() + 90 * DAY_MS));
    let (_, text) = check(&data_center(&sim, ADMIN_TOKEN, ""));
    assert_line(&text, "warning", "contains no event of the past year");
    // That search was itself audited.
    let (code, text) = check(&data_center(&sim, ADMIN_TOKEN, ""));
    assert_eq!(code, 0, "{text}");
    assert_line(&text, "ok", "`127.0.0.1` is 127.0.0.1");
    assert_line(&text, "warning", "without TLS");
    assert_line(&text, "ok", "clock agrees");
    assert_line(&text, "ok", "logged in as `auditor`");
    assert_line(&text, "ok", "returns events");
    assert_line(&text, "ok", "the token `audit` expires on");
    assert_line(&text, "ok", "coverage: ");
    assert_line(&text, "ok", "audit API only: what Confluence does not store");
    assert_eq!(sim.audit_request_count(), 2);
}

#[test]
fn a_token_that_expires_and_a_name_that_no_token_has() {
    let sim = Sim::data_center().unwrap();
    sim.expire(ADMIN_TOKEN, Some(clock::now_ms() + 6 * DAY_MS + DAY_MS / 2));
    let (code, text) = check(&data_center(&sim, ADMIN_TOKEN, ""));
    assert_eq!(code, 0, "{text}");
    assert_line(&text, "warning", "the token expires in 6 days");
    let (_, text) = check(&data_center(&sim, ADMIN_TOKEN, "token_name = \"other\""));
    assert_line(&text, "warning", "no token with the name `other`; it has audit");
    let (code, text) = check(&data_center(&sim, ADMIN_TOKEN, "token_expires = \"2026-01-01\""));
    assert_eq!(code, 75, "{text}");
    assert_line(&text, "failure", "the token expired on 2026-01-01");
}

#[test]
fn coverage_that_is_off() {
    let sim = Sim::data_center().unwrap();
    sim.set_coverage("SECURITY", "OFF");
    let (_, text) = check(&data_center(&sim, ADMIN_TOKEN, ""));
    assert_line(&text, "warning", "SECURITY off");
}

#[test]
fn a_clock_that_is_wrong() {
    let sim = Sim::data_center().unwrap();
    sim.set_clock_ms(clock::now_ms() - 600_000);
    let (_, text) = check(&data_center(&sim, ADMIN_TOKEN, ""));
    assert_line(&text, "warning", "s ahead of the server's");
}

#[test]
fn each_refusal_is_a_failure_with_its_remedy() {
    let sim = Sim::data_center().unwrap();
    for (token, fault, remedy) in [
        ("wrong", None, "make a new Personal Access Token"),
        (USER_TOKEN, None, "Confluence Administrator"),
        (ADMIN_TOKEN, Some(Fault::Captcha), "log in once with a browser"),
        (ADMIN_TOKEN, Some(Fault::LoginPage), "a single sign-on or a proxy asks for a login"),
        (
            ADMIN_TOKEN,
            Some(Fault::Redirect("https://sso.example.com/idp".into())),
            "`https://sso.example.com`",
        ),
        (ADMIN_TOKEN, Some(Fault::NotJson), ""),
        (ADMIN_TOKEN, Some(Fault::MissingMember("entities")), "no page of audit events"),
        (ADMIN_TOKEN, Some(Fault::MissingMember("pagingInfo")), "no page of audit events"),
    ] {
        sim.clear_faults();
        if let Some(fault) = fault {
            sim.fault(fault);
        }
        let (code, text) = check(&data_center(&sim, token, ""));
        assert_eq!(code, 75, "{text}");
        assert_line(&text, "failure", remedy);
    }
    let wrong_path = data_center(&sim, ADMIN_TOKEN, "").replace(&sim.url(), &format!("{}/other", sim.url()));
    let (code, text) = check(&wrong_path);
    assert_eq!(code, 75, "{text}");
    assert_line(&text, "failure", "context path");
    sim.disconnect();
    let (code, text) = check(&data_center(&sim, ADMIN_TOKEN, ""));
    assert_eq!(code, 75, "{text}");
    assert_line(&text, "failure", "nothing listens at that port");
}

#[test]
fn an_old_data_center() {
    let mut options = Options::data_center();
    options.older_than_7_5 = true;
    let sim = Sim::start(options).unwrap();
    let (code, text) = check(&data_center(&sim, ADMIN_TOKEN, ""));
    assert_eq!(code, 0, "{text}");
    assert_line(&text, "warning", "older than 7.5");
    sim.fault(Fault::MissingMember("results"));
    let (code, text) = check(&data_center(&sim, ADMIN_TOKEN, ""));
    assert_eq!(code, 75, "{text}");
    assert_line(&text, "failure", "no page of audit events");
    sim.clear_faults();
    let (code, text) = check(&data_center(&sim, USER_TOKEN, ""));
    assert_eq!(code, 75, "{text}");
    assert_line(&text, "failure", "Confluence Administrator");
}

#[test]
fn cloud_with_a_classic_and_with_a_scoped_token() {
    let sim = Sim::cloud().unwrap();
    let (code, text) = check(&cloud(&sim, ADMIN_TOKEN, ""));
    assert_eq!(code, 0, "{text}");
    assert_line(&text, "warning", "the audit API is readable");
    assert_line(&text, "warning", "`token_expires`");
    let (code, text) = check(&cloud(&sim, SCOPED_TOKEN, "scoped = true"));
    assert_eq!(code, 0, "{text}");
    let (code, text) = check(&cloud(&sim, SCOPED_TOKEN, ""));
    assert_eq!(code, 75, "{text}");
    assert_line(&text, "failure", "`scoped = true`");
    let (code, text) = check(&cloud(&sim, WRONG_SCOPE_TOKEN, "scoped = true"));
    assert_eq!(code, 75, "{text}");
    assert_line(&text, "failure", "`read:audit-log:confluence`");
}
