//! The sink of type `sentinel`, against a login host and an ingestion endpoint that refuse what Azure's refuse.

use super::*;
use crate::rig::collector::{Item, Post, Protocol, id_of};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

const RULE: &str = "dcr-0123456789abcdef0123456789abcdef";
const STREAM: &str = "Custom-ConfluenceAuditLogs_CL";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "99999999-2222-3333-4444-555555555555";
const AUDIENCE: &str = "https://monitor.azure.com";

pub const SENTINEL: Kind = Kind {
    name: "Sentinel",
    start: || Collector::start(Azure::default()),
    sink: |collector, token| with_format(collector, token, "format = \"ecs\"\n"),
    authorization: |token| format!("Bearer token-of-{token}"),
    knows_ids: false,
    names_events: false,
    refusal: "no such field",
    event_bytes_max: 1 << 20,
};

/// In the format that it has without the key.
const USUAL: Kind = Kind { sink: |collector, token| with_format(collector, token, ""), ..SENTINEL };

fn with_format(collector: &Collector, token: &std::path::Path, format: &str) -> String {
    let url = collector.url();
    format!(
        "type = \"sentinel\"\nendpoint = \"{url}\"\ndcr_immutable_id = \"{RULE}\"\ntenant_id = \"{TENANT}\"\nclient_id = \"{CLIENT}\"\nclient_secret = {{ file = {token:?} }}\nlogin_host = \"{url}\"\n{format}"
    )
}

/// Entra ID, the metadata service, and an ingestion endpoint. Clones are the same.
#[derive(Clone)]
struct Azure(Arc<Mutex<State>>);

struct State {
    /// What tokens last.
    seconds: u64,
    /// The only secret that is taken, if not any.
    secret: Option<String>,
    has_role: bool,
    tokens: usize,
}

impl Default for Azure {
    fn default() -> Azure {
        Azure(Arc::new(Mutex::new(State { seconds: 3599, secret: None, has_role: true, tokens: 0 })))
    }
}

fn entra_reply(status: u16, error: &str, text: &str) -> Reply {
    let text = format!("{text} Trace ID: 1 Correlation ID: 2 Timestamp: 3");
    Reply::new(status, json!({"error": error, "error_description": text}).to_string())
}

fn azure(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, json!({"error": {"code": code, "message": message}}).to_string())
}

impl Azure {
    fn login(&self, post: &Post) -> Reply {
        let mut state = self.0.lock().unwrap();
        let form: HashMap<String, String> = url::form_urlencoded::parse(&post.body).into_owned().collect();
        assert_eq!(post.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(
            (&form["grant_type"][..], &form["scope"][..]),
            ("client_credentials", "https://monitor.azure.com/.default")
        );
        if form["client_id"] != CLIENT {
            return entra_reply(
                400,
                "unauthorized_client",
                "AADSTS700016: Application was not found in the directory.",
            );
        }
        let secret = &form["client_secret"];
        if state.secret.as_ref().is_some_and(|good| good != secret) {
            return entra_reply(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.");
        }
        state.tokens += 1;
        let token = format!("token-of-{secret}");
        Reply::new(
            200,
            json!({"token_type": "Bearer", "expires_in": state.seconds, "access_token": token}).to_string(),
        )
    }

    fn metadata(&self, post: &Post) -> Reply {
        let url = url::Url::parse("http://x").unwrap().join(&post.path).unwrap();
        let asked: HashMap<_, _> = url.query_pairs().into_owned().collect();
        if post.header("metadata") != Some("true")
            || asked["resource"] != AUDIENCE
            || asked["api-version"] != "2018-02-01"
        {
            return Reply::new(400, json!({"error": "invalid_request"}).to_string());
        }
        self.0.lock().unwrap().tokens += 1;
        Reply::new(200, json!({"expires_in": "86399", "access_token": "token-of-machine"}).to_string())
    }
}

impl Protocol for Azure {
    fn reply_to_other(&self, post: &Post) -> Option<Reply> {
        if post.path == format!("/{TENANT}/oauth2/v2.0/token") {
            return Some(self.login(post));
        }
        post.path.starts_with("/metadata/identity/oauth2/token?").then(|| self.metadata(post))
    }

    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
        let path = post.path.strip_suffix("?api-version=2023-01-01");
        let rest =
            path.and_then(|path| path.strip_prefix(&format!("/dataCollectionRules/{RULE}/streams/")[..]));
        let Some(stream) = rest else {
            return Err(azure(404, "NotFound", "Data collection rule with immutable Id not found."));
        };
        if !self.0.lock().unwrap().has_role {
            return Err(azure(
                403,
                "OperationFailed",
                "The authentication token provided does not have access to ingest data.",
            ));
        }
        if stream != STREAM {
            return Err(azure(
                400,
                "InvalidStream",
                "The stream was not configured in the data collection rule.",
            ));
        }
        if post.header("content-type") != Some("application/json") {
            return Err(azure(415, "UnsupportedMediaType", "application/json is wanted"));
        }
        if post.body.len() >= 1 << 20 {
            return Err(azure(413, "ContentLengthLimitExceeded", "The maximum size is 1 MB."));
        }
        let Ok(records) = serde_json::from_slice::<Vec<Value>>(&post.body) else {
            return Err(azure(400, "InvalidPayload", "The body is no JSON array."));
        };
        if records.is_empty() {
            return Err(azure(500, "InternalServerError", "An empty array."));
        }
        let sent = records.iter().map(|record| Sent {
            id: record["EventId"].as_str().map_or_else(|| id_of(&record.to_string()), str::to_owned),
            text: record.to_string(),
        });
        Ok(sent.collect())
    }

    fn reply(&self, _items: &[Item]) -> Reply {
        Reply::new(204, "")
    }
}

#[test]
fn records_are_sent_in_the_format_of_microsofts_rule() {
    let mut env = USUAL.new_environment();
    env.write(30);
    env.host.once_ok();
    assert_eq!((env.collector.distinct(), env.collector.stored_count()), (30, 30));
    for sent in env.collector.stored() {
        let record: Value = serde_json::from_str(&sent.text).unwrap();
        for member in ["creationDate", "author", "summary", "category", "EventId"] {
            assert!(!record[member].is_null(), "{record}");
        }
    }
    let posts = env.collector.posts();
    let sent = posts.iter().filter(|post| post.path.starts_with("/data"));
    for post in sent {
        assert_eq!(post.header("content-encoding"), Some("gzip"));
        assert_eq!(post.header("content-type"), Some("application/json"));
        assert!(post.wire_bytes * 3 < post.body.len());
    }
}

/// Requests are cut below Azure's limit by themselves, never by a refusal.
#[test]
fn a_batch_is_below_azures_limit() {
    let mut env = SENTINEL.new_environment();
    let remote = env.host.remote.take().unwrap();
    // However slowly they are read.
    let remote = remote.replace("batch_wait = \"100ms\"", "batch_wait = \"10m\"");
    env.host.remote =
        Some(remote.replace("batch_events = 20", "batch_events = 100000\nbatch_bytes = \"1048574B\""));
    env.write(3000);
    let run = env.host.once_ok();
    exact(&env);
    let posts = env.collector.posts();
    let sizes: Vec<usize> =
        posts.iter().filter(|post| post.path.starts_with("/data")).map(|post| post.body.len()).collect();
    assert!(
        sizes.iter().all(|size| *size < 1 << 20) && sizes.iter().any(|size| *size > 900_000),
        "{sizes:?}"
    );
    assert!(!run.stderr.contains("refused as too large"), "{}", run.stderr);
}

#[test]
fn a_token_is_used_for_many_requests_and_renewed_before_it_ends() {
    let azure = Azure::default();
    azure.0.lock().unwrap().seconds = 5;
    let mut env = SENTINEL.environment_with(Collector::start(azure.clone()));
    env.collector.require_authorization(Some("Bearer token-of-first"));
    let mut agent = env.host.start();
    let begun = confluence_audit_agent::clock::monotonic();
    env.write(20);
    env.until_all_arrived(&mut agent);
    let tokens = || azure.0.lock().unwrap().tokens;
    let mut requests = 1;
    while tokens() < 2 || requests < 5 {
        env.write(1);
        env.until_all_arrived(&mut agent);
        requests += 1;
    }
    // Each token is used for four seconds, whatever is sent meanwhile.
    let renewed = tokens() - 1;
    let took = begun.elapsed();
    assert!(took.as_secs_f64() > 3.9 * renewed as f64, "{renewed} renewed in {took:?}, {requests} requests");
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    exact(&env);
}

#[test]
fn a_token_that_is_revoked_is_replaced_at_once() {
    let azure = Azure::default();
    let mut env = SENTINEL.environment_with(Collector::start(azure.clone()));
    env.collector.script([Do::Take, Do::Refuse(Reply::new(401, "")), Do::Take]);
    env.write(60);
    let run = env.host.once_ok();
    exact(&env);
    assert_eq!(azure.0.lock().unwrap().tokens, 2);
    assert!(!run.stderr.contains("events are not accepted"), "{}", run.stderr);
}

#[test]
fn a_machine_has_an_identity_of_its_own() {
    let azure = Azure::default();
    let mut env = SENTINEL.environment_with(Collector::start(azure.clone()));
    env.collector.require_authorization(Some("Bearer token-of-machine"));
    let lines = env.host.remote.take().unwrap();
    let is_kept =
        |line: &&str| !["tenant_id", "client_id", "client_secret"].iter().any(|key| line.starts_with(key));
    let lines: Vec<&str> = lines.lines().filter(is_kept).collect();
    env.host.remote = Some(lines.join("\n") + "\nmanaged_identity = true\n");
    env.write(30);
    let mut command = env.host.command(&[], &["--once"]);
    command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", env.collector.url());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    exact(&env);
    assert_eq!(azure.0.lock().unwrap().tokens, 1);
}

#[test]
fn old_events_are_warned_of_once() {
    let mut env = USUAL.new_environment();
    // The writer's events are of its own time, long ago.
    env.write(100);
    let run = env.host.once_ok();
    assert_eq!(run.stderr.matches("older than two days").count(), 1, "{}", run.stderr);
}

#[test]
fn a_wrong_stream_is_no_events_fault() {
    let mut env = SENTINEL.new_environment();
    env.host.remote.as_mut().unwrap().push_str("stream = \"Custom-Other\"\n");
    env.write(50);
    let run = env.host.once_code(75);
    run.logged("correct `stream`");
    assert_eq!(env.host.quarantined().len(), 0);
}

#[test]
fn check_tells_application_rule_stream_and_role_apart() {
    let azure = Azure::default();
    let mut env = SENTINEL.environment_with(Collector::start(azure.clone()));
    let good = env.host.remote.clone().unwrap();
    let mut check = |lines: &str, expect: &str| {
        env.host.remote = Some(lines.into());
        let printed = env.host.check();
        let about = printed.stdout.lines().rfind(|line| line.contains("sink local"));
        assert!(about.unwrap().contains(expect), "{}", printed.stdout);
        assert_eq!(env.collector.stored_count(), 0);
        printed.code
    };
    assert_eq!(check(&good, "the application may write to it"), 0);
    assert_eq!(check(&good.replace(CLIENT, TENANT), "correct `client_id`"), 75);
    assert_eq!(check(&good.replace(RULE, "dcr-1"), "correct `dcr_immutable_id`"), 75);
    let other = format!("{good}stream = \"Custom-Other\"\n");
    assert_eq!(check(&other, "correct `stream`"), 75);
    azure.0.lock().unwrap().has_role = false;
    assert_eq!(check(&good, "Monitoring Metrics Publisher"), 75);
    azure.0.lock().unwrap().secret = Some("another".into());
    assert_eq!(check(&good, "to its value, not to its id"), 75);
    let posts = env.collector.posts();
    assert!(posts.iter().all(|post| post.body != b"[]"));
}

#[test]
fn f57_sentinel_secret_and_token_show_nowhere() {
    assert_output_has_no_secret(&SENTINEL);
}
