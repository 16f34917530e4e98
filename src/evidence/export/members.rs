//! Compares the members of an ECS event with its original: encodes the original again, and names what differs. Pure.

use super::json::Members;
use crate::format::{Agent, Context, Event, EventBuffer, Format, FormatKind, Origin};
use crate::record::{EventId, Parsed, Scratch, parse, time};
use serde_json::Value;

/// What depends on the configuration, on the host or on where the record was read, and not on the record.
const NOT_OF_THE_RECORD: [&str; 9] =
    ["agent", "cloud", "data_stream", "ecs", "host", "input", "log", "observer", "tags"];
const NOT_OF_THE_RECORD_INSIDE: [&str; 3] = ["confluence.audit.site", "event.created", "related.hosts"];
/// Differing members that are named of an event.
const NAMED_MAX: usize = 8;

pub(super) struct MemberComparison {
    ecs: Format,
    scratch: Scratch,
    encoded: EventBuffer,
    /// Events that another version of the agent has written. Their members are not compared.
    pub other_versions: u64,
}

impl MemberComparison {
    pub(super) fn new(site: Option<&str>) -> MemberComparison {
        let agent = Agent {
            id: String::new(),
            ephemeral_id: String::new(),
            name: String::new(),
            version: String::new(),
        };
        let context = Context {
            tags: None,
            namespace: String::new(),
            site: site.map(str::to_owned),
            agent,
            host: None,
            cloud: None,
            geo: None,
            preserve_original_event: false,
        };
        MemberComparison {
            ecs: Format::new(FormatKind::Ecs, &context),
            scratch: Scratch::default(),
            encoded: EventBuffer::new(),
            other_versions: 0,
        }
    }

    /// The paths of members that the event has otherwise than its original. Members that others have added do not
    /// count. Nothing is compared of an event that another version of the agent has written.
    pub(super) fn differing(
        &mut self,
        event: &Members,
        ecs: &Members,
        original: &str,
        id: EventId,
    ) -> Vec<String> {
        let version = event.object("agent").and_then(|agent| agent.text("version"));
        if version.is_some_and(|version| version != env!("CARGO_PKG_VERSION")) {
            self.other_versions += 1;
            return Vec::new();
        }
        let content = parse(original.as_bytes(), &mut self.scratch);
        if let Parsed::Unreadable { .. } = content {
            let is_error = ecs.text("kind").as_deref() == Some("pipeline_error");
            return if is_error { Vec::new() } else { vec!["event.kind".to_owned()] };
        }
        let created = ecs.text("created").and_then(|created| time::from_iso(&created));
        self.encoded.bytes.clear();
        let event_again = Event {
            content: &content,
            id,
            origin: Origin::Api,
            self_poll: false,
            read_at_ms: created.unwrap_or_default(),
        };
        self.ecs.write(&event_again, &mut self.encoded);
        let mut differing = Vec::new();
        let encoded = std::str::from_utf8(&self.encoded.bytes).ok().and_then(Members::of);
        for (name, expected) in encoded.iter().flat_map(|encoded| &encoded.0) {
            if NOT_OF_THE_RECORD.contains(&name.as_ref()) {
                continue;
            }
            let found = event.get(name);
            if found != Some(expected.get()) && !(name == "event" && same_but_original(found, expected.get()))
            {
                compare(name, expected.get(), found, &mut differing);
            }
        }
        differing
    }
}

/// `expected` ends where the original of `found` begins: the quick way for events that nobody has written again.
fn same_but_original(found: Option<&str>, expected: &str) -> bool {
    let begin = expected.strip_suffix('}').unwrap_or(expected);
    let rest = found.and_then(|found| found.strip_prefix(begin));
    // The original is the last member.
    rest.is_some_and(|rest| {
        rest.strip_prefix(",\"original\":").and_then(|rest| rest.strip_suffix('}')).is_some_and(|original| {
            original.starts_with('"')
                && crate::record::scan::string_end(original.as_bytes(), 0) == original.len()
        })
    })
}

fn compare(path: &str, expected: &str, found: Option<&str>, differing: &mut Vec<String>) {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    compare_values(path, &value(expected), found.map(value).as_ref(), differing);
}

fn compare_values(path: &str, expected: &Value, found: Option<&Value>, differing: &mut Vec<String>) {
    if NOT_OF_THE_RECORD_INSIDE.contains(&path) || differing.len() >= NAMED_MAX || Some(expected) == found {
        return;
    }
    match (expected, found) {
        (Value::Object(expected), Some(Value::Object(found))) => {
            for (name, expected) in expected {
                compare_values(&format!("{path}.{name}"), expected, found.get(name), differing);
            }
        }
        // An index may hold a list of one value as the value.
        (Value::Array(list), Some(found)) if list.len() == 1 && list[0] == *found => {}
        // A time that an index has written again.
        (Value::String(text), Some(Value::String(found))) if same_time(text, found) => {}
        _ => differing.push(path.to_owned()),
    }
}

fn same_time(one: &str, other: &str) -> bool {
    let one = time::from_iso(one);
    one.is_some() && one == time::from_iso(other)
}
