//! Judges what was delivered against what was written: conservation, integrity, order, repetition.

use super::writer::{Writer, check};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// One delivered event, in ECS or raw.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    /// The record as it was in the file; none in an event that has no original.
    pub original: Option<String>,
    pub json: Value,
}

impl Event {
    /// The text at a JSON pointer, or nothing.
    pub fn text(&self, pointer: &str) -> &str {
        self.json.pointer(pointer).and_then(Value::as_str).unwrap_or("")
    }

    pub fn has_tag(&self, tag: &str) -> bool {
        let tags = self.json["tags"].as_array();
        tags.is_some_and(|tags| tags.iter().any(|found| found == tag))
    }

    pub fn is_pipeline_error(&self) -> bool {
        self.text("/event/kind") == "pipeline_error"
    }

    /// Whether the agent reports this of itself.
    pub fn is_notice(&self) -> bool {
        self.text("/event/action").starts_with("agent.") || self.text("/agent/action").starts_with("agent.")
    }

    /// The record's sequence number if every byte of it arrived.
    pub fn seq(&self) -> Option<u64> {
        check(self.original.as_ref()?.as_bytes())
    }
}

/// The events in the bytes of an output; a last line without its end is not yet one. Without the checkpoints of the
/// ledger, which any daemon delivers at its stop.
#[track_caller]
pub fn events(output: &[u8]) -> Vec<Event> {
    let is_checkpoint = |event: &Event| {
        let action = |pointer| event.text(pointer) == "agent.ledger.sealed";
        action("/event/action") || action("/agent/action")
    };
    all_events(output).into_iter().filter(|event| !is_checkpoint(event)).collect()
}

/// As [`events`], with the checkpoints of the ledger.
#[track_caller]
pub fn all_events(output: &[u8]) -> Vec<Event> {
    let whole = memchr::memrchr(b'\n', output).map_or(0, |at| at + 1);
    let lines = output[..whole].split(|&byte| byte == b'\n');
    lines.filter(|line| !line.is_empty()).map(event).collect()
}

#[track_caller]
fn event(line: &[u8]) -> Event {
    let json: Value = serde_json::from_slice(line)
        .unwrap_or_else(|error| panic!("{error} in the event {}", String::from_utf8_lossy(line)));
    if let Some(id) = json.get("event_id") {
        let id = id.as_str().expect("an id is text").to_owned();
        // Raw: the record follows the id.
        let head = format!("{{\"event_id\":\"{id}\",");
        let rest = line.strip_prefix(head.as_bytes()).expect("the id is first");
        let original = format!("{{{}", String::from_utf8_lossy(rest));
        return Event { id, original: Some(original), json };
    }
    let text = |pointer| json.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Event { id: text("/event/id").expect("every event has an id"), original: text("/event/original"), json }
}

/// What the oracle found; empty lists are the verdict that everything is right.
#[derive(Debug, Default)]
pub struct Judged {
    /// Sequence numbers that were written and did not arrive.
    pub missing: Vec<u64>,
    /// Events whose record is no record of the writer, or not whole.
    pub damaged: Vec<String>,
    /// First deliveries that are not in their file's order: the number before and the number.
    pub disorder: Vec<(u64, u64)>,
    /// Sequence numbers that arrived more than once, with the same event id each time.
    pub repeated: Vec<u64>,
    /// Sequence numbers that arrived under several ids, or shared an id with another.
    pub id_conflicts: Vec<u64>,
}

pub fn judge(writer: &Writer, events: &[Event]) -> Judged {
    let mut judged = Judged::default();
    let mut id_of: HashMap<u64, &str> = HashMap::new();
    let mut ids = HashSet::new();
    let mut last_of_file: HashMap<usize, u64> = HashMap::new();
    for event in events.iter().filter(|event| !event.is_notice()) {
        let Some(seq) = event.seq().filter(|&seq| (seq as usize) < writer.written.len()) else {
            judged.damaged.push(event.json.to_string());
            continue;
        };
        if let Some(id) = id_of.get(&seq) {
            if *id == event.id {
                judged.repeated.push(seq);
            } else {
                judged.id_conflicts.push(seq);
            }
            continue;
        }
        id_of.insert(seq, &event.id);
        if !ids.insert(&event.id) {
            judged.id_conflicts.push(seq);
        }
        if let Some(before) = last_of_file.insert(writer.written[seq as usize], seq)
            && before > seq
        {
            judged.disorder.push((before, seq));
        }
    }
    judged.missing = (0..writer.written.len() as u64).filter(|seq| !id_of.contains_key(seq)).collect();
    judged
}

impl Judged {
    /// Nothing lost, nothing damaged, everything in order. Repetitions are for the test to judge.
    #[track_caller]
    pub fn is_whole(&self) -> &Judged {
        let fine = self.missing.is_empty()
            && self.damaged.is_empty()
            && self.disorder.is_empty()
            && self.id_conflicts.is_empty();
        assert!(fine, "the oracle found {}", self.summary());
        self
    }

    /// As [`Judged::is_whole`], and nothing twice.
    #[track_caller]
    pub fn is_exact(&self) {
        self.is_whole();
        assert!(self.repeated.is_empty(), "the oracle found {}", self.summary());
    }

    pub fn summary(&self) -> String {
        fn some<T: std::fmt::Debug>(all: &[T]) -> String {
            format!("{} {:?}", all.len(), &all[..all.len().min(10)])
        }
        format!(
            "missing: {}; damaged: {}; out of order: {}; repeated: {}; id conflicts: {}",
            some(&self.missing),
            some(&self.damaged),
            some(&self.disorder),
            some(&self.repeated),
            some(&self.id_conflicts)
        )
    }
}
