//! A fuzz target for the writers of all formats: whatever a record holds, its event is one line that every reader of
//! the format reads in the same way, with the same id. Records are built by structure, see `records`; what is written
//! is judged by readers that share nothing with the agent.
//!
//! `FUZZ_SECONDS=…` is how long it goes on (30), `FUZZ_RECORDS=…` instead of it how many records are tried, and
//! `SEED=…` the first record's seed; the next one's is greater by one. A long run, with the checks of debug builds:
//! `CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true FUZZ_RECORDS=5000000 cargo test --release --test it f101_fuzz --
//! --nocapture`.

mod json;
#[allow(dead_code, reason = "the targets in fuzz/ use the rest")]
#[path = "../../../fuzz/readers/mod.rs"]
mod readers;
mod records;

use crate::rig::{Random, seed};
use confluence_audit_agent::clock;
use confluence_audit_agent::config::{Framing, SyslogConfig, Transport};
use confluence_audit_agent::format::{Agent, Context, Event, EventBuffer, Format, FormatKind, Origin};
use confluence_audit_agent::notice::{self, Notice};
use confluence_audit_agent::record::{EventId, IdHasher, Parsed, Scratch, parse};
use confluence_audit_agent::sink::syslog::message::MessageWriter;
use confluence_audit_agent::sink::{BatchEvent, HeaderFields};
use json::Style;
use readers::json::Json;
use readers::{cef, is_line_end};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Longer records are judged by their events alone: all else was seen on shorter ones.
const COMPARED_BYTES_MAX: usize = 64 * 1024;

#[test]
fn f101_fuzz() {
    let first = seed("f101_fuzz");
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let records = number("FUZZ_RECORDS");
    let seconds = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(30));
    let by = clock::monotonic() + seconds;
    let target = Target::new(first);
    let (mut tried, mut read, mut bad) = (0, 0, Vec::new());
    while records.map_or_else(|| clock::monotonic() < by, |records| tried < records) {
        let seed = first.wrapping_add(tried);
        match catch_unwind(AssertUnwindSafe(|| target.try_one(seed))) {
            Ok(is_record) => read += u64::from(is_record),
            Err(_) => bad.push(seed),
        }
        tried += 1;
        if tried.is_multiple_of(500_000) {
            eprintln!("f101_fuzz: {} of {tried} records bad so far", bad.len());
        }
        // Each failure has been reported in full.
        if bad.len() == 10 {
            break;
        }
    }
    eprintln!("f101_fuzz: {} of {tried} records bad, {read} of them of a known shape", bad.len());
    assert!(
        bad.is_empty(),
        "again with `SEED={} FUZZ_RECORDS=1 cargo test --test it f101_fuzz`; all: {bad:?}",
        bad[0]
    );
    assert!(read > tried / 2, "{read} of {tried}");
}

/// What the records go through.
struct Target {
    /// With different contexts, by name.
    formats: Vec<[Format; FormatKind::ALL.len()]>,
    /// Without originals: what these write is a function of what the record means.
    plain: [Format; FormatKind::ALL.len()],
    writer: MessageWriter,
}

impl Target {
    fn new(seed: u64) -> Target {
        let random = &mut Random::new(seed);
        let contexts = (0..4).map(|at| {
            let tags = (at > 1).then(|| vec![records::text(random), records::text(random)]);
            context(tags, (at % 2 == 1).then(|| records::text(random)), true)
        });
        let of = |context: Context| FormatKind::ALL.map(|name| Format::new(name, &context));
        let config = SyslogConfig::new("siem".to_owned(), 514, Transport::Tcp);
        Target {
            formats: contexts.map(of).collect(),
            plain: of(context(None, None, false)),
            writer: MessageWriter::new(&config, "node", 7, "wiki"),
        }
    }

    /// Panics if anything is wrong; returns whether the record was one.
    fn try_one(&self, seed: u64) -> bool {
        let random = &mut Random::new(seed);
        let record = records::record(random);
        let style = Style {
            blanks: random.below(4) == 0,
            line_ends: random.below(4) == 0,
            escapes: random.below(3) == 0,
        };
        let mut line = Vec::new();
        json::write(&record, style, random, &mut line);
        let is_mutated = random.below(20) == 0;
        if is_mutated {
            mutate(&mut line, random);
        }
        let (id, is_record) = self.check(&line, random);
        if is_record && !is_mutated && line.len() < COMPARED_BYTES_MAX {
            let mut again = Vec::new();
            json::write(&record.reordered(random), style, random, &mut again);
            assert_eq!(id_of(&again), id, "{}", start_of(&again));
            self.compare(&record, id, random);
        }
        if random.below(50) == 0 {
            self.check_notice(random);
        }
        is_record
    }

    /// All formats of one line.
    fn check(&self, line: &[u8], random: &mut Random) -> (EventId, bool) {
        let formats = &self.formats[random.below(self.formats.len() as u64) as usize];
        let path_json = serde_json::Value::from(records::text(random)).to_string();
        let origin = match random.below(3) {
            0 => Origin::Api,
            kind => {
                Origin::File { path_json: &path_json, offset: random.below(1 << 40), unterminated: kind == 1 }
            }
        };
        let mut scratch = Scratch::default();
        let content = &parse(line, &mut scratch);
        let item = Event {
            content,
            id: IdHasher::new(None).id(content),
            origin,
            self_poll: random.below(5) == 0,
            read_at_ms: 1_767_323_045_678,
        };
        let read = String::from_utf8_lossy(line);
        for (name, format) in FormatKind::ALL.into_iter().zip(formats) {
            let mut out = EventBuffer::new();
            format.write(&item, &mut out);
            let event = self.check_event(name, &out.bytes, item.id, line, random);
            let original = match name {
                FormatKind::Ecs => event.get("event").and_then(|event| event.get("original")),
                FormatKind::Ocsf => event.get("raw_data"),
                _ => continue,
            };
            assert_eq!(original.and_then(Json::text), Some(&*read), "{name:?}: {}", start_of(line));
        }
        (item.id, matches!(content, Parsed::Record(_)))
    }

    /// One event: whole, one line, its id where the format has it, and as a message of syslog. Returns what JSON it is.
    fn check_event(
        &self,
        name: FormatKind,
        bytes: &[u8],
        id: EventId,
        line: &[u8],
        random: &mut Random,
    ) -> Json {
        let wrong = |what: &str| format!("{name:?}: {what}: {}\nof {}", start_of(bytes), start_of(line));
        let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{}", wrong(&error.to_string())));
        // A record may have tabs between its members, and `raw` leaves them.
        let control = text.chars().find(|c| *c < ' ' && (name != FormatKind::Raw || *c != '\t'));
        assert_eq!(control, None, "{}", wrong("a control character"));
        let (event, found) = if name == FormatKind::Cef {
            assert!(!text.contains(is_line_end), "{}", wrong("a line end"));
            let pairs = cef::read(text).unwrap_or_else(|error| panic!("{}", wrong(&error)));
            (Json::Null, pairs.last().map(|(_, value)| value.clone()))
        } else {
            let event = readers::json::read(text).unwrap_or_else(|error| panic!("{}", wrong(&error)));
            let place: &[&str] = match name {
                FormatKind::Ecs => &["event", "id"],
                FormatKind::Raw => &["event_id"],
                FormatKind::Sentinel => &["EventId"],
                _ => &["metadata", "uid"],
            };
            let found = place.iter().try_fold(&event, |json, name| json.get(name));
            let found = found.and_then(Json::text).map(str::to_owned);
            (event, found)
        };
        assert_eq!(found, Some(id.to_string()), "{}", wrong("the id"));
        assert_eq!(FormatKind::Ecs.id_of(bytes), Some(id), "{}", wrong("the id that is read again"));
        self.check_frames(bytes, id, &event, random);
        event
    }

    fn check_frames(&self, event: &[u8], id: EventId, json: &Json, random: &mut Random) {
        let mut frames = Vec::new();
        for framing in [Framing::OctetCounting, Framing::Newline] {
            let written = BatchEvent { end: 0, id, time_ms: 0, header_fields: HeaderFields::default() };
            self.writer.frame(framing, &written, event, &mut frames);
        }
        let text = String::from_utf8(frames).unwrap();
        let (length, rest) = text.split_once(' ').unwrap();
        let (first, second) = rest.split_at(length.parse().unwrap());
        assert_eq!(second, format!("{first}\n"));
        assert!(!first.contains(is_line_end), "{first}");
        let start = first.find("\"] ").unwrap() + 3;
        // What is not escaped is the same byte for byte; now and then it is read again.
        if *json != Json::Null && random.below(4) == 0 {
            assert_eq!(readers::json::read(&first[start..]).as_ref(), Ok(json));
        }
    }

    /// A record and what is left of it without repeated names are the same event, in a format by chance.
    fn compare(&self, record: &Json, id: EventId, random: &mut Random) {
        let mut lines = [Vec::new(), Vec::new()];
        json::write(record, Style::default(), random, &mut lines[0]);
        json::write(&record.without_repeated(), Style::default(), random, &mut lines[1]);
        let ids = [id_of(&lines[0]), id_of(&lines[1])];
        assert_eq!(ids, [id; 2], "{}", start_of(&lines[0]));
        // What is broken is reported, wherever it is.
        if records::is_broken(record) {
            return;
        }
        let at = random.below(self.plain.len() as u64) as usize;
        let [repeated, plain] = [&lines[0], &lines[1]].map(|line| {
            let mut scratch = Scratch::default();
            let mut out = EventBuffer::new();
            let item = Event {
                content: &parse(line, &mut scratch),
                id,
                origin: Origin::Api,
                self_poll: false,
                read_at_ms: 0,
            };
            self.plain[at].write(&item, &mut out);
            out.bytes
        });
        let name = FormatKind::ALL[at];
        assert_eq!(start_of(&repeated), start_of(&plain), "{name:?}: {}", start_of(&lines[0]));
    }

    fn check_notice(&self, random: &mut Random) {
        let notice =
            Notice::new(notice::GAP, "wiki", "once", 0, records::text(random).replace(json::NO_UTF8, ""));
        for (name, format) in FormatKind::ALL.into_iter().zip(&self.formats[0]) {
            let mut out = EventBuffer::new();
            format.write_notice(&notice, &mut out);
            self.check_event(name, &out.bytes, notice.id, notice.message.as_bytes(), random);
        }
    }
}

fn context(tags: Option<Vec<String>>, site: Option<String>, preserve_original_event: bool) -> Context {
    Context {
        tags,
        namespace: "default".to_owned(),
        site,
        agent: Agent {
            id: "a".to_owned(),
            ephemeral_id: "b".to_owned(),
            name: "c".to_owned(),
            version: "0.1.0".to_owned(),
        },
        host: None,
        cloud: None,
        geo: None,
        preserve_original_event,
    }
}

fn id_of(line: &[u8]) -> EventId {
    IdHasher::new(None).id(&parse(line, &mut Scratch::default()))
}

fn mutate(line: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(line.len() as u64 + 1) as usize;
        match random.below(3) {
            0 => line.truncate(at),
            1 => line.insert(at, b"\"\\{}[],: \xff0n\0"[random.below(13) as usize]),
            _ if at < line.len() => drop(line.remove(at)),
            _ => {}
        }
    }
    line.retain(|byte| *byte != b'\n');
}

/// For a message: the beginning of what may be long.
fn start_of(bytes: &[u8]) -> String {
    let end = bytes.len().min(100_000);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
