//! Kibana, as its API is documented: saved objects and detection rules, and what it refuses. A cluster answers at the
//! same address, below another path.

use crate::rig::collector::{Item, Post, Protocol, Reply, Sent};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// The path of Kibana and of one of its spaces.
pub const PATH: &str = "/kibana/s/security";

#[derive(Default)]
pub struct Kibana {
    pub state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    /// By type and id.
    pub objects: BTreeMap<(String, String), Value>,
    /// By `rule_id`.
    pub rules: BTreeMap<String, Value>,
}

/// A reply with the error that Kibana would return.
type Answer = Result<Value, Reply>;

fn error(status: u16, message: &str) -> Reply {
    Reply::new(status, json!({"statusCode": status, "error": "Error", "message": message}).to_string())
}

/// The detection engine reports errors in another form.
fn rule_error(status: u16, message: &str) -> Reply {
    Reply::new(status, json!({"status_code": status, "message": message}).to_string())
}

impl Protocol for std::sync::Arc<Kibana> {
    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
        let Some(path) = post.path.strip_prefix(PATH) else {
            return Err(cluster(post));
        };
        Err(answer(&mut self.state.lock().unwrap(), post, path, "kbn-xsrf"))
    }

    fn reply(&self, _items: &[Item]) -> Reply {
        Reply::new(500, "")
    }
}

fn cluster(post: &Post) -> Reply {
    match (post.method.as_str(), post.path.as_str()) {
        ("GET", "/") => Reply::new(
            200,
            r#"{"version": {"number": "8.17.1", "build_flavor": "default"}, "tagline": "You Know, for Search"}"#,
        ),
        ("PUT", _) => Reply::new(200, r#"{"acknowledged": true}"#),
        _ => Reply::new(404, r#"{"error": {"type": "resource_not_found_exception", "reason": "none"}}"#),
    }
}

/// The reply to a request below the address of Kibana, or of OpenSearch Dashboards, which was Kibana.
pub fn answer(state: &mut State, post: &Post, path: &str, xsrf: &str) -> Reply {
    match try_answer(state, post, path, xsrf) {
        Ok(Value::String(text)) => Reply::new(200, text),
        Ok(value) => Reply::new(200, value.to_string()),
        Err(reply) => reply,
    }
}

fn try_answer(state: &mut State, post: &Post, path: &str, xsrf: &str) -> Answer {
    if post.method != "GET" && post.header(xsrf).is_none() {
        return Err(error(400, &format!("Request must contain a {xsrf} header.")));
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let content_type = post.header("content-type").unwrap_or_default();
    if path != "/api/saved_objects/_import" && post.method != "GET" && content_type != "application/json" {
        return Err(error(415, "Unsupported Media Type"));
    }
    let body: Value = serde_json::from_slice(&post.body).unwrap_or_default();
    match (post.method.as_str(), path) {
        ("POST", "/api/saved_objects/_export") => export(state, &body),
        ("POST", "/api/saved_objects/_import") => {
            import(state, content_type, &post.body, query.contains("overwrite=true"))
        }
        (_, "/api/detection_engine/rules") if xsrf != "kbn-xsrf" => Err(error(404, "Not Found")),
        ("GET", "/api/detection_engine/rules") => {
            let id = query.strip_prefix("rule_id=").unwrap_or_default();
            let missing = || rule_error(404, &format!("rule_id: \"{id}\" not found"));
            state.rules.get(id).cloned().ok_or_else(missing)
        }
        ("POST", "/api/detection_engine/rules") => {
            let id = body["rule_id"].as_str().unwrap_or_default().to_owned();
            check_rule(&body).map_err(|message| error(400, &format!("[request body]: {message}")))?;
            if state.rules.contains_key(&id) {
                return Err(rule_error(409, &format!("rule_id: \"{id}\" already exists")));
            }
            state.rules.insert(id, body.clone());
            Ok(body)
        }
        ("PATCH", "/api/detection_engine/rules") => {
            let id = body["rule_id"].as_str().unwrap_or_default();
            let Some(rule) = state.rules.get_mut(id) else {
                return Err(rule_error(404, &format!("rule_id: \"{id}\" not found")));
            };
            let mut patched = rule.clone();
            for (name, value) in body.as_object().unwrap() {
                patched[name] = value.clone();
            }
            if patched["type"] != rule["type"] {
                return Err(rule_error(400, "the type of a rule cannot be changed"));
            }
            check_rule(&patched).map_err(|message| error(400, &format!("[request body]: {message}")))?;
            *rule = patched.clone();
            Ok(patched)
        }
        _ => Err(error(404, "Not Found")),
    }
}

fn key(object: &Value) -> (String, String) {
    let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    (text("type"), text("id"))
}

fn export(state: &State, body: &Value) -> Answer {
    let wanted: Vec<_> = body["objects"].as_array().into_iter().flatten().map(key).collect();
    if wanted.is_empty() {
        return Err(error(400, "either `type` or `objects` are required."));
    }
    let found: Option<Vec<&Value>> = wanted.iter().map(|key| state.objects.get(key)).collect();
    let found = found.ok_or_else(|| error(400, "Error fetching objects to export"))?;
    Ok(Value::String(found.iter().map(|object| format!("{object}\n")).collect()))
}

fn import(state: &mut State, content_type: &str, body: &[u8], overwrite: bool) -> Answer {
    let Some(boundary) = content_type.strip_prefix("multipart/form-data; boundary=") else {
        return Err(error(415, "Unsupported Media Type"));
    };
    let body = String::from_utf8(body.to_vec()).map_err(|_| error(400, "no UTF-8"))?;
    let part = body
        .strip_prefix(&format!("--{boundary}\r\n"))
        .and_then(|rest| rest.strip_suffix(&format!("\r\n--{boundary}--\r\n")))
        .ok_or_else(|| error(400, "Invalid multipart payload format"))?;
    let (head, text) = part.split_once("\r\n\r\n").ok_or_else(|| error(400, "Invalid multipart payload"))?;
    if !head.contains("name=\"file\"") {
        return Err(error(400, "[request body.file]: expected value of type [Stream]"));
    }
    if !head.contains(".ndjson\"") {
        return Err(error(400, "Invalid file extension"));
    }
    let objects: Result<Vec<Value>, _> =
        text.lines().filter(|line| !line.is_empty()).map(serde_json::from_str).collect();
    let objects = objects.map_err(|_| error(400, "Unexpected token in JSON"))?;
    let coming: Vec<_> = objects.iter().map(key).collect();
    let mut errors = Vec::new();
    for object in &objects {
        let known = ["dashboard", "index-pattern", "map", "search", "visualization"];
        let references = object["references"].as_array().cloned().unwrap_or_default();
        let is_missing = |reference: &Value| {
            !coming.contains(&key(reference)) && !state.objects.contains_key(&key(reference))
        };
        let reason = if !known.contains(&object["type"].as_str().unwrap_or_default()) {
            "unsupported_type"
        } else if references.iter().any(is_missing) {
            "missing_references"
        } else if state.objects.contains_key(&key(object)) && !overwrite {
            "conflict"
        } else {
            continue;
        };
        errors.push(json!({"id": object["id"], "type": object["type"], "error": {"type": reason}}));
    }
    if !errors.is_empty() {
        return Ok(json!({"success": false, "successCount": 0, "errors": errors}));
    }
    let count = objects.len();
    state.objects.extend(coming.into_iter().zip(objects));
    Ok(json!({"success": true, "successCount": count}))
}

/// Why Kibana refuses a rule.
pub fn check_rule(rule: &Value) -> Result<(), String> {
    let text = |name: &str| rule[name].as_str().filter(|text| !text.is_empty());
    for name in ["name", "description", "type", "severity", "rule_id"] {
        text(name).ok_or(format!("{name}: Required"))?;
    }
    let one_of = |name: &str, allowed: &[&str]| match allowed.contains(&text(name).unwrap_or_default()) {
        true => Ok(()),
        false => Err(format!("{name}: Invalid enum value. Expected {allowed:?}, received {}", rule[name])),
    };
    one_of("severity", &["low", "medium", "high", "critical"])?;
    let score = rule["risk_score"].as_u64().ok_or("risk_score: Required")?;
    if score > 100 {
        return Err("risk_score: Number must be less than or equal to 100".into());
    }
    text("query").ok_or("query: Required")?;
    match text("type").unwrap_or_default() {
        "query" => one_of("language", &["kuery", "lucene"])?,
        "threshold" => {
            one_of("language", &["kuery", "lucene"])?;
            check_threshold(&rule["threshold"])?;
        }
        "eql" => one_of("language", &["eql"])?,
        "esql" => {
            one_of("language", &["esql"])?;
            if !rule["index"].is_null() {
                return Err("index: an ES|QL rule names its indices in the query".into());
            }
        }
        other => return Err(format!("type: Invalid discriminator value {other}")),
    }
    for name in ["interval", "from"] {
        let value = text(name).unwrap_or("5m");
        let value = value.strip_prefix("now-").unwrap_or(value);
        let (count, unit) = value.split_at(value.len() - 1);
        if count.parse::<u32>().is_err() || !["s", "m", "h", "d"].contains(&unit) {
            return Err(format!("{name}: Failed to parse date-math expression"));
        }
    }
    for name in ["tags", "references", "false_positives", "index", "author"] {
        let is_list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
        if !rule[name].is_null() && !is_list(&rule[name]) {
            return Err(format!("{name}: Expected array of strings"));
        }
    }
    rule["threat"].as_array().into_iter().flatten().try_for_each(check_threat)
}

fn check_threshold(threshold: &Value) -> Result<(), String> {
    if !threshold["field"].is_array() && !threshold["field"].is_string() {
        return Err("threshold.field: Required".into());
    }
    if threshold["value"].as_u64().is_none_or(|value| value < 1) {
        return Err("threshold.value: Number must be greater than or equal to 1".into());
    }
    let cardinality = threshold["cardinality"].as_array().cloned().unwrap_or_default();
    match cardinality.iter().all(|one| one["field"].is_string() && one["value"].is_u64()) {
        true => Ok(()),
        false => Err("threshold.cardinality: Required".into()),
    }
}

fn check_threat(threat: &Value) -> Result<(), String> {
    let is_whole = |one: &Value| {
        ["id", "name", "reference"]
            .iter()
            .all(|name| one[*name].as_str().is_some_and(|text| !text.is_empty()))
    };
    let techniques = || threat["technique"].as_array().into_iter().flatten();
    let mut parts =
        techniques().chain(techniques().flat_map(|one| one["subtechnique"].as_array().into_iter().flatten()));
    if threat["framework"] != "MITRE ATT&CK" || !is_whole(&threat["tactic"]) || !parts.all(is_whole) {
        return Err("threat: Required".into());
    }
    Ok(())
}
