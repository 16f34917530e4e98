//! What the panels of the dashboards must show of given events, computed without a search engine.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const DAY_MS: i64 = 86_400_000;

/// Which events a panel's query must find. A query that is not here fails the test.
fn finds(query: &str, event: &Value) -> bool {
    let action = event["event"]["action"].as_str().unwrap_or("");
    let has = |path: &str, value: &str| values(event, path).contains(value);
    let is_login = has("event.category", "authentication");
    let begins = |prefix: &str| action.starts_with(prefix);
    match query {
        "NOT event.action:agent.*" => !begins("agent."),
        "event.action:agent.*" => begins("agent."),
        "event.category:iam" => has("event.category", "iam"),
        "event.category:authentication" => is_login,
        "event.category:authentication AND event.outcome:success" => {
            is_login && has("event.outcome", "success")
        }
        "event.category:authentication AND event.outcome:failure" => {
            is_login && has("event.outcome", "failure")
        }
        "event.outcome:failure" => has("event.outcome", "failure"),
        "event.kind:pipeline_error" => has("event.kind", "pipeline_error"),
        "event.kind:event AND _exists_:error.message" => {
            has("event.kind", "event") && !values(event, "error.message").is_empty()
        }
        _ => {
            let words =
                query.strip_prefix("event.action:").unwrap_or_else(|| panic!("an unknown query: {query}"));
            let words = words.trim_start_matches('(').trim_end_matches(')').split(" OR ");
            words.into_iter().any(|word| matches(word, action))
        }
    }
}

/// A word with `*` at its ends.
fn matches(word: &str, text: &str) -> bool {
    let middle = word.trim_matches('*');
    match (word.starts_with('*'), word.ends_with('*')) {
        (true, true) => text.contains(middle),
        (false, true) => text.starts_with(middle),
        (true, false) => text.ends_with(middle),
        (false, false) => text == middle,
    }
}

/// The different values of a field, in all objects of lists on its way.
fn values(event: &Value, path: &str) -> BTreeSet<String> {
    let mut found = vec![event];
    for name in path.split('.') {
        let members = found.into_iter().flat_map(|value| match value {
            Value::Array(items) => items.iter().collect(),
            value => vec![value],
        });
        found = members.filter_map(|value| value.get(name)).collect();
    }
    let leaves = found.into_iter().flat_map(|value| match value {
        Value::Array(items) => items.iter().collect(),
        value => vec![value],
    });
    leaves
        .filter_map(|value| match value {
            Value::String(text) if path.ends_with(".ip") => Some(canonical(text)),
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect()
}

/// An address as the server prints it.
fn canonical(address: &str) -> String {
    address
        .parse::<IpAddr>()
        .map_or_else(|_| address.to_owned(), |address| address.to_canonical().to_string())
}

/// Of buckets with equal counts the server takes the lower key first: of addresses by their bytes.
fn sort_key(field: &str, key: &str) -> Vec<u8> {
    match key.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if field.ends_with(".ip") => address.to_ipv6_mapped().octets().to_vec(),
        Ok(IpAddr::V6(address)) if field.ends_with(".ip") => address.octets().to_vec(),
        _ => key.as_bytes().to_vec(),
    }
}

fn time_ms(event: &Value) -> i64 {
    let time: jiff::Timestamp = event["@timestamp"].as_str().unwrap().parse().unwrap();
    time.as_millisecond()
}

/// Those that the server is asked for: a count is part of each answer.
pub fn metrics(aggs: &[Value]) -> impl Iterator<Item = &Value> {
    aggs.iter().filter(|agg| agg["schema"] == "metric" && agg["type"] != "count")
}

/// What a metric is called in a request.
pub fn name(metric: &Value) -> String {
    format!("metric {}", metric["id"].as_str().unwrap())
}

/// The outermost buckets, and the list without them.
pub fn split_buckets(aggs: &[Value]) -> Option<(Value, Vec<Value>)> {
    let at = aggs.iter().position(|agg| agg["schema"] != "metric")?;
    let mut rest = aggs.to_vec();
    let bucket = rest.remove(at);
    Some((bucket, rest))
}

/// What a panel shows: the number of events, its metrics, and its buckets with the same of each.
pub fn answer(events: &[Value], query: &str, aggs: &[Value]) -> Value {
    level(&events.iter().filter(|event| finds(query, event)).collect::<Vec<_>>(), aggs)
}

fn level(events: &[&Value], aggs: &[Value]) -> Value {
    let mut out = json!({"count": events.len()});
    for metric in metrics(aggs) {
        let field = metric["params"]["field"].as_str().unwrap();
        let all = events.iter().flat_map(|event| values(event, field));
        out[name(metric)] = match metric["type"].as_str().unwrap() {
            "cardinality" => json!(all.collect::<BTreeSet<String>>().len() as f64),
            "max" if field == "@timestamp" => {
                json!(events.iter().map(|event| time_ms(event)).max().map(|ms| ms as f64))
            }
            "max" => json!(all.map(|value| value.parse::<f64>().unwrap()).reduce(f64::max)),
            other => panic!("a metric of type {other}"),
        };
    }
    if let Some((bucket, rest)) = split_buckets(aggs) {
        let buckets = buckets(events, &bucket);
        out["buckets"] =
            buckets.into_iter().map(|(key, events)| json!([key, level(&events, &rest)])).collect();
    }
    out
}

fn buckets<'e>(events: &[&'e Value], bucket: &Value) -> Vec<(String, Vec<&'e Value>)> {
    let field = bucket["params"]["field"].as_str().unwrap();
    let mut all: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for event in events {
        let keys = match bucket["type"].as_str().unwrap() {
            "date_histogram" => BTreeSet::from([(time_ms(event).div_euclid(DAY_MS) * DAY_MS).to_string()]),
            "geohash_grid" => point(&event["source"]["geo"]["location"]).into_iter().collect(),
            _ => values(event, field),
        };
        keys.into_iter().for_each(|key| all.entry(key).or_default().push(event));
    }
    let mut all: Vec<_> = all.into_iter().collect();
    match bucket["type"].as_str().unwrap() {
        "date_histogram" => all.sort_by_key(|(key, _)| key.parse::<i64>().unwrap()),
        _ => all.sort_by_key(|(key, events)| (usize::MAX - events.len(), sort_key(field, key))),
    }
    all.truncate(bucket["params"]["size"].as_u64().map_or(usize::MAX, |size| size as usize));
    all
}

/// The only bucket: all points on the globe.
fn point(location: &Value) -> Option<String> {
    let [longitude, latitude] = ["lon", "lat"].map(|key| location[key].as_f64());
    longitude.and(latitude).map(|_| "*-30000.0".to_owned())
}
