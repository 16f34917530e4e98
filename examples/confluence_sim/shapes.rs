//! The three shapes of an event, and their conversion.

use serde_json::{Map, Value, json};

use super::time::{iso, parse_iso};

const SYSTEM: &str = "https://wiki.example.com";
const NUMBER_KEY: &str = "com.example.sim.number";

/// One event in the API, and as a file line where there is one.
pub struct Shapes {
    pub time_ms: i64,
    pub node: String,
    pub api: String,
    pub line: Option<String>,
}

pub fn read(text: &str) -> Result<Shapes, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("no JSON: {e}"))?;
    let node = value["node"].as_str().unwrap_or_default().to_owned();
    let text = text.trim().to_owned();
    if let Some(time_ms) = value["creationDate"].as_i64() {
        return Ok(Shapes { time_ms, node, api: text, line: None });
    }
    if let Some(stamp) = value["timestamp"].as_str() {
        let time_ms = parse_iso(stamp).ok_or_else(|| format!("`{stamp}` is no instant"))?;
        let line = Some(line_of(&value, time_ms));
        return Ok(Shapes { time_ms, node, api: text, line });
    }
    let second = value["timestamp"]["epochSecond"].as_i64();
    let second = second.ok_or("neither a `timestamp` nor a `creationDate`: no audit record")?;
    let time_ms = second * 1_000 + value["timestamp"]["nano"].as_i64().unwrap_or(0) / 1_000_000;
    let api = entity_of(&value, time_ms);
    Ok(Shapes { time_ms, node, api, line: Some(text) })
}

/// The API entity of a file line.
pub fn entity_of(line: &Value, time_ms: i64) -> String {
    let mut entity = line.as_object().cloned().unwrap_or_default();
    let kind = entity.remove("auditType").unwrap_or_default();
    entity.remove("version");
    entity.insert("type".into(), pick(&kind, &["action", "actionI18nKey", "category", "categoryI18nKey"]));
    entity.insert("timestamp".into(), iso(time_ms).into());
    let system = line["system"].as_str().unwrap_or(SYSTEM).to_owned();
    if let Some(author) = entity.get_mut("author").and_then(Value::as_object_mut) {
        let login = author.get("name").and_then(Value::as_str).unwrap_or_default().replace(' ', ".");
        let person = author.get("id").and_then(Value::as_str).is_some_and(|id| !id.starts_with('-'));
        if person && !author.contains_key("uri") {
            let uri = format!("{system}/admin/users/viewuser.action?username={login}");
            author.insert("uri".into(), uri.into());
        }
        author.insert("avatarUri".into(), "".into());
    }
    Value::Object(entity).to_string()
}

/// The file line of an entity. Area and level are in the file only.
fn line_of(entity: &Value, time_ms: i64) -> String {
    let mut line = entity.as_object().cloned().unwrap_or_default();
    let mut kind = line.remove("type").unwrap_or_else(|| json!({}));
    let audit = kind["categoryI18nKey"] == "atlassian.audit.event.category.audit";
    kind["area"] = if audit { "AUDIT_LOG" } else { "GLOBAL_CONFIG_AND_ADMINISTRATION" }.into();
    kind["level"] = "BASE".into();
    line.insert("auditType".into(), kind);
    if let Some(author) = line.get_mut("author").and_then(Value::as_object_mut) {
        author.remove("uri");
        author.remove("avatarUri");
    }
    if let Some(objects) = line.get_mut("affectedObjects").and_then(Value::as_array_mut) {
        for object in objects.iter_mut().filter_map(Value::as_object_mut) {
            object.remove("uri");
        }
    }
    line.insert("timestamp".into(), stamp(time_ms));
    line.insert("version".into(), "1.0".into());
    Value::Object(line).to_string()
}

/// The record of an entity in `/rest/api/audit` before 7.5.
pub fn legacy_of(entity: &str, time_ms: i64) -> String {
    let entity: Value = serde_json::from_str(entity).unwrap_or_default();
    let object = |o: &Value| json!({"name": o["name"], "objectType": o["type"]});
    let objects: Vec<Value> =
        entity["affectedObjects"].as_array().into_iter().flatten().map(object).collect();
    let change = |c: &Value| {
        json!({
            "name": c["key"], "oldValue": text(&c["from"]), "newValue": text(&c["to"]),
            "hiddenOldValue": "", "hiddenNewValue": "",
        })
    };
    let changes: Vec<Value> = entity["changedValues"].as_array().into_iter().flatten().map(change).collect();
    let login =
        entity["author"]["uri"].as_str().and_then(|uri| uri.split("username=").nth(1)).unwrap_or_default();
    json!({
        "author": {
            "type": "user", "displayName": entity["author"]["name"], "username": login,
            "userKey": entity["author"]["id"], "operations": null,
        },
        "remoteAddress": text(&entity["source"]),
        "creationDate": time_ms,
        "summary": entity["type"]["action"],
        "description": "",
        "category": entity["type"]["category"],
        "sysAdmin": false,
        "superAdmin": false,
        "affectedObject": objects.first().cloned().unwrap_or_else(|| json!({"name": "", "objectType": ""})),
        "changedValues": changes,
        "associatedObjects": objects.iter().skip(1).collect::<Vec<_>>(),
    })
    .to_string()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn pick(from: &Value, members: &[&str]) -> Value {
    let member = |m: &&str| from.get(*m).map(|v| ((*m).to_owned(), v.clone()));
    Value::Object(members.iter().filter_map(member).collect::<Map<_, _>>())
}

pub fn with_node(json: &str, node: &str) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str(json) else {
        return json.to_owned();
    };
    object.insert("node".into(), node.into());
    Value::Object(object).to_string()
}

/// The same record at another time, in any shape.
pub fn at(json: &str, time_ms: i64) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(json) else {
        return json.to_owned();
    };
    if value.get("creationDate").is_some() {
        value["creationDate"] = time_ms.into();
    } else if value["timestamp"].is_object() {
        value["timestamp"] = stamp(time_ms);
    } else {
        value["timestamp"] = iso(time_ms).into();
    }
    value.to_string()
}

/// The notation of a file line.
fn stamp(time_ms: i64) -> Value {
    json!({"epochSecond": time_ms.div_euclid(1_000), "nano": time_ms.rem_euclid(1_000) * 1_000_000})
}

/// A row with a number in the API of Data Center.
pub fn numbered_entity(number: u64, time_ms: i64) -> String {
    let person = number % 64;
    format!(
        r#"{{"timestamp":"{}","author":{{"name":"Person {person}","type":"user","id":"{}","uri":"{SYSTEM}/admin/users/viewuser.action?username=person{person}","avatarUri":""}},"type":{{"categoryI18nKey":"audit.logging.category.user.management","category":"Users and groups","actionI18nKey":"audit.logging.summary.group.membership.added","action":"User added to group"}},"affectedObjects":[{{"name":"wiki-editors","type":"Group","uri":"{SYSTEM}/x?membersOfGroupTerm=wiki-editors","id":"wiki-editors"}}],"changedValues":[],"source":"192.0.2.{}","system":"{SYSTEM}","method":"Browser","extraAttributes":[{{"nameI18nKey":"{NUMBER_KEY}","name":"Number","value":"{number}"}}]}}"#,
        iso(time_ms),
        user_key(person),
        number % 250,
    )
}

/// The same event in a file.
pub fn numbered_line(number: u64, time_ms: i64) -> String {
    let person = number % 64;
    format!(
        r#"{{"affectedObjects":[{{"id":"wiki-editors","name":"wiki-editors","type":"Group"}}],"auditType":{{"action":"User added to group","actionI18nKey":"audit.logging.summary.group.membership.added","area":"USER_MANAGEMENT","category":"Users and groups","categoryI18nKey":"audit.logging.category.user.management","level":"BASE"}},"author":{{"id":"{}","name":"Person {person}","type":"user"}},"changedValues":[],"extraAttributes":[{{"name":"Number","nameI18nKey":"{NUMBER_KEY}","value":"{number}"}}],"method":"Browser","source":"192.0.2.{}","system":"{SYSTEM}","timestamp":{{"epochSecond":{},"nano":{}}},"version":"1.0"}}"#,
        user_key(person),
        number % 250,
        time_ms.div_euclid(1_000),
        time_ms.rem_euclid(1_000) * 1_000_000,
    )
}

/// A row with a number in the API of Cloud. The number is in its `description`.
pub fn numbered_record(number: u64, time_ms: i64) -> String {
    let person = number % 64;
    format!(
        r#"{{"author":{{"type":"user","displayName":"Person {person}","operations":null,"username":"","userKey":"","accountId":"712020:{person:08x}","accountType":"atlassian","publicName":"Person {person}","externalCollaborator":false,"isExternalCollaborator":false,"isGuest":false}},"remoteAddress":"192.0.2.{}","creationDate":{time_ms},"summary":"User added to group","description":"{NUMBER_KEY} {number}","category":"Users and groups","sysAdmin":false,"superAdmin":false,"affectedObject":{{"name":"wiki-editors","objectType":"Group"}},"changedValues":[],"associatedObjects":[{{"name":"Person {person}","objectType":"User"}}]}}"#,
        number % 250,
    )
}

pub fn number_in(json: &str) -> Option<u64> {
    let after = &json[json.find(NUMBER_KEY)? + NUMBER_KEY.len()..];
    let at = after.find(|c: char| c.is_ascii_digit())?;
    let digits = &after[at..];
    digits[..digits.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

/// The user of a search of the audit log, and its result.
pub struct Search<'a> {
    pub login: &'a str,
    pub name: &'a str,
    pub user_key: &'a str,
    pub remote: &'a str,
    pub system: &'a str,
    /// Newest first.
    pub found: &'a [super::rows::Key],
}

/// The event by which Confluence audits a search of its audit log.
pub fn search_entity(search: &Search<'_>, time_ms: i64) -> String {
    let (ids, times) = match (search.found.last(), search.found.first()) {
        (Some(oldest), Some(newest)) => {
            (format!("{} - {}", oldest.1, newest.1), format!("{} - {}", iso(oldest.0), iso(newest.0)))
        }
        _ => (String::new(), String::new()),
    };
    let attribute = |name: &str, key: &str, value: &str| json!({"name": name, "nameI18nKey": format!("atlassian.audit.event.attribute.{key}"), "value": value});
    json!({
        "timestamp": iso(time_ms),
        "author": {
            "name": search.name, "type": "user", "id": search.user_key, "avatarUri": "",
            "uri": format!("{}/admin/users/viewuser.action?username={}", search.system, search.login),
        },
        "type": {
            "category": "Auditing", "categoryI18nKey": "atlassian.audit.event.category.audit",
            "action": "Audit Log search performed", "actionI18nKey": "atlassian.audit.event.action.audit.search",
        },
        "affectedObjects": [],
        "changedValues": [],
        "source": search.remote,
        "system": search.system,
        "method": "Browser",
        "extraAttributes": [
            attribute("ID Range", "id", &ids),
            attribute("Query", "query", ""),
            attribute("Results returned", "results", &search.found.len().to_string()),
            attribute("Timestamp Range", "timestamp", &times),
        ],
    })
    .to_string()
}

fn user_key(person: u64) -> String {
    format!("8a80cb819bd0{person:04x}019bd0{:010x}", person * 7_919)
}
