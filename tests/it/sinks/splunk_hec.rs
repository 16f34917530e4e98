//! The sink of type `splunk_hec`, against a collector that refuses what Splunk's refuses.

use super::*;
use crate::rig::collector::{Item, Post, Protocol, id_of};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub const HEC: Kind = Kind {
    name: "Splunk HEC",
    start: || Collector::start(Hec::default()),
    sink: |collector, token| {
        let url = collector.url();
        format!(
            "type = \"splunk_hec\"\nurl = \"{url}/splunk\"\ntoken = {{ file = {token:?} }}\nindex = \"audit\"\nsourcetype = \"confluence:audit\"\n"
        )
    },
    authorization: |token| format!("Splunk {token}"),
    knows_ids: false,
    names_events: false,
    refusal: "Invalid data format",
    event_bytes_max: usize::MAX,
};

/// The same with acknowledgement, which each request waits a second for: too slow for all cases of the table.
const ACKNOWLEDGED: Kind = Kind {
    sink: |collector, token| {
        (HEC.sink)(collector, token)
            + "acknowledge = true\nacknowledge_timeout = \"3s\"\ncompression = \"gzip\"\n"
    },
    ..HEC
};

/// A collector. Clones are the same one.
#[derive(Clone, Default)]
struct Hec(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The token has indexer acknowledgement.
    acknowledges: bool,
    /// Nothing is ever acknowledged.
    stuck: bool,
    next: u64,
    /// By id: how often it was asked for.
    asked: HashMap<u64, u32>,
    /// Where acknowledgements are given with a cookie: questions without it are answered by another indexer.
    sticky: bool,
}

fn splunk_reply(status: u16, code: u32, text: &str) -> Reply {
    Reply::new(status, format!("{{\"text\":\"{text}\",\"code\":{code}}}"))
}

fn refuses(code: u32, text: &str, at: usize) -> Reply {
    Reply::new(400, format!("{{\"text\":\"{text}\",\"code\":{code},\"invalid-event-number\":{at}}}"))
}

impl Hec {
    fn acknowledging() -> Hec {
        let hec = Hec::default();
        hec.0.lock().unwrap().acknowledges = true;
        hec
    }

    /// The event in an envelope.
    fn event(&self, at: usize, envelope: &Value) -> Result<Value, Reply> {
        let event = envelope.get("event").ok_or_else(|| refuses(12, "Event field is required", at))?;
        if event.as_str() == Some("") {
            return Err(refuses(13, "Event field cannot be blank", at));
        }
        let fields = envelope["fields"].as_object().into_iter().flatten();
        if fields.into_iter().any(|(_, value)| value.is_object()) {
            return Err(refuses(15, "Error in handling indexed fields", at));
        }
        if envelope.get("index").is_some_and(|index| index != "audit") {
            return Err(refuses(7, "Incorrect index", at));
        }
        assert!(envelope["time"].is_number(), "{envelope}");
        assert_eq!(envelope["sourcetype"], "confluence:audit");
        Ok(event.clone())
    }
}

impl Protocol for Hec {
    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
        if post.path != "/splunk/services/collector/event" {
            return Err(splunk_reply(404, 404, "The requested URL was not found on this server."));
        }
        if post.body.is_empty() {
            return Err(splunk_reply(400, 5, "No data"));
        }
        match post.header("x-splunk-request-channel") {
            None if self.0.lock().unwrap().acknowledges => {
                return Err(splunk_reply(400, 10, "Data channel is missing"));
            }
            Some(channel) if uuid::Uuid::parse_str(channel).is_err() => {
                return Err(splunk_reply(400, 11, "Invalid data channel"));
            }
            _ => {}
        }
        let mut sent = Vec::new();
        for (at, envelope) in
            serde_json::Deserializer::from_slice(&post.body).into_iter::<Value>().enumerate()
        {
            let envelope = envelope.map_err(|_| refuses(6, "Invalid data format", at))?;
            let event = self.event(at, &envelope)?;
            let id = id_of(&event.to_string());
            assert_eq!(envelope["fields"]["event_id"], id);
            sent.push(Sent { id, text: event.to_string() });
        }
        Ok(sent)
    }

    fn reply(&self, _items: &[Item]) -> Reply {
        let mut state = self.0.lock().unwrap();
        if !state.acknowledges {
            return splunk_reply(200, 0, "Success");
        }
        let id = state.next;
        state.next += 1;
        state.asked.insert(id, 0);
        Reply {
            headers: vec![("set-cookie", "indexer=7; Path=/".into())],
            ..Reply::new(200, format!("{{\"text\":\"Success\",\"code\":0,\"ackId\":{id}}}"))
        }
    }

    fn refusal(&self, at: usize) -> Reply {
        refuses(6, "Invalid data format", at)
    }

    fn keeps_events_before_refused(&self) -> bool {
        true
    }

    fn unauthorized_reply(&self) -> Reply {
        splunk_reply(403, 4, "Invalid token")
    }

    /// Acknowledges when asked for the second time.
    fn reply_to_other(&self, post: &Post) -> Option<Reply> {
        let channel = post.path.strip_prefix("/splunk/services/collector/ack?channel=")?;
        assert!(uuid::Uuid::parse_str(channel).is_ok());
        assert!(post.header("authorization").is_some_and(|value| value.starts_with("Splunk ")));
        let mut state = self.0.lock().unwrap();
        if !state.acknowledges {
            return Some(splunk_reply(400, 14, "ACK is disabled"));
        }
        let here = !state.sticky || post.header("cookie") == Some("indexer=7");
        let question: Value = serde_json::from_slice(&post.body).unwrap();
        let mut acks = serde_json::Map::new();
        for id in question["acks"].as_array().unwrap() {
            let stuck = state.stuck;
            let asked = state.asked.get_mut(&id.as_u64().unwrap());
            let safe = asked.is_some_and(|asked| {
                *asked += 1;
                *asked >= 2 && !stuck && here
            });
            acks.insert(id.to_string(), safe.into());
        }
        Some(Reply::new(200, serde_json::json!({ "acks": acks }).to_string()))
    }
}

#[test]
fn an_event_is_delivered_when_the_indexer_acknowledges_it() {
    let hec = Hec::acknowledging();
    let mut env = ACKNOWLEDGED.environment_with(Collector::start(hec.clone()));
    hec.0.lock().unwrap().stuck = true;
    env.write(30);
    let run = env.host.once_code(75);
    run.logged("no acknowledgement within 3s");
    let stored = env.collector.stored_count();
    assert!(stored >= 30, "{stored}");
    // Nothing of it counts as delivered: all of it is sent again, with the same ids.
    let remote = env.host.remote.take().unwrap();
    env.host.remote = Some(remote.replace("\"3s\"", "\"1h\""));
    {
        let mut state = hec.0.lock().unwrap();
        (state.stuck, state.sticky) = (false, true);
        state.asked.clear();
    }
    env.host.once_ok();
    whole(&env);
    assert_eq!(env.collector.stored_count(), stored + 30);
    assert!(hec.0.lock().unwrap().asked.values().all(|asked| *asked == 2));
    let posts = env.collector.posts();
    let events = posts.iter().filter(|post| post.path.ends_with("/event"));
    for post in events {
        assert_eq!(post.header("content-encoding"), Some("gzip"));
        assert!(post.wire_bytes * 3 < post.body.len());
    }
    let again = env.host.once();
    assert_eq!((again.code, env.collector.posts().len()), (0, posts.len()));
}

#[test]
fn a_token_and_the_key_acknowledge_must_agree() {
    let mut env = HEC.environment_with(Collector::start(Hec::acknowledging()));
    env.write(5);
    let run = env.host.once_code(75);
    run.logged("write `acknowledge = true`");
    let mut env = ACKNOWLEDGED.new_environment();
    env.write(5);
    let run = env.host.once_code(75);
    run.logged("`acknowledge = false`");
}

#[test]
fn a_wrong_index_is_no_events_fault() {
    let mut env = HEC.new_environment();
    let remote = env.host.remote.take().unwrap();
    env.host.remote = Some(remote.replace("\"audit\"", "\"secret\""));
    env.write(50);
    let run = env.host.once_code(75);
    run.logged("correct `index`");
    assert_eq!(env.host.quarantined().len(), 0);
}

/// Splunk has the events before a refused one: they come twice, and each of them no more often.
#[test]
fn a_refused_event_repeats_those_before_it_once_at_most() {
    let mut env = HEC.new_environment();
    env.collector.refuse(|sent| [13, 17].contains(&(number(sent) % 20)));
    env.write(100);
    env.host.once_code(65);
    assert_eq!((env.host.quarantined().len(), env.collector.distinct()), (10, 90));
    let mut times = HashMap::new();
    for sent in env.collector.stored() {
        *times.entry(sent.id).or_insert(0) += 1;
    }
    assert!(times.values().all(|times| *times <= 2), "{times:?}");
}

#[test]
fn raw_records_can_be_sent() {
    struct Raw;
    impl Protocol for Raw {
        fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
            let envelopes = serde_json::Deserializer::from_slice(&post.body).into_iter::<Value>();
            let sent = |envelope: Value| Sent {
                id: envelope["event"]["event_id"].as_str().unwrap().into(),
                text: envelope.to_string(),
            };
            Ok(envelopes.map(|envelope| sent(envelope.unwrap())).collect())
        }
        fn reply(&self, _items: &[Item]) -> Reply {
            splunk_reply(200, 0, "Success")
        }
    }
    let mut env = HEC.environment_with(Collector::start(Raw));
    env.host
        .remote
        .as_mut()
        .unwrap()
        .push_str("format = \"raw\"\nhost = \"wiki\"\nsource = \"a \\\"b\\\"\"\n");
    env.write(3);
    env.host.once_ok();
    for sent in env.collector.stored() {
        let envelope: Value = serde_json::from_str(&sent.text).unwrap();
        assert_eq!((&envelope["host"], &envelope["source"]), (&"wiki".into(), &"a \"b\"".into()));
        assert_eq!(envelope["fields"]["event_id"], sent.id);
        // The record says it in seconds and nanoseconds.
        let stamp = &envelope["event"]["timestamp"];
        let ms = stamp["epochSecond"].as_i64().unwrap() * 1000 + stamp["nano"].as_i64().unwrap() / 1_000_000;
        assert!((envelope["time"].as_f64().unwrap() * 1000.0 - ms as f64).abs() < 0.5, "{envelope}");
    }
}

#[test]
fn check_tells_token_and_acknowledgement_apart() {
    let check = |env: &Environment| {
        let printed = env.host.check();
        assert_eq!(env.collector.stored_count(), 0);
        (printed.code, printed.stdout)
    };
    let env = HEC.new_environment();
    let (code, printed) = check(&env);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("responds and accepts the token"), "{printed}");
    env.collector.require_authorization(Some("Splunk second"));
    let (code, printed) = check(&env);
    assert_eq!(code, 75, "{printed}");
    assert!(printed.contains("Splunk does not know the token"), "{printed}");
    assert!(!printed.contains("are accepted"), "{printed}");
    let (code, printed) = check(&ACKNOWLEDGED.new_environment());
    assert_eq!(code, 75, "{printed}");
    assert!(printed.contains("the token has no indexer acknowledgement"), "{printed}");
    let (code, printed) = check(&ACKNOWLEDGED.environment_with(Collector::start(Hec::acknowledging())));
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("the token has indexer acknowledgement"), "{printed}");
}

#[test]
fn f57_splunk_token_shows_nowhere() {
    assert_output_has_no_secret(&HEC);
}
