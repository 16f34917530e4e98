//! Recognises an event in an item of an export: in any format of the agent, and as Elasticsearch, OpenSearch and Splunk
//! wrap it. Pure.

use super::export_format::ExportFormat;
use super::json::{self, Members};
use super::members::MemberComparison;
use crate::evidence::row::{FROM_API, HAS_DIGEST, HAS_TIME, ID_FITS, MEMBERS_DIFFER, NOTICE, OF_INDEX, Row};
use crate::format::FormatKind;
use crate::ledger::record_digest;
use crate::record::twins::Twins;
use crate::record::{self, EventId, IdHasher, Parsed, Record, Scratch, Shape, time};
use std::borrow::Cow;

/// An event of the agent itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportedNotice {
    pub action: String,
    pub message: String,
    /// What it is about: of a sealed ledger the signed checkpoint.
    pub original: Option<String>,
    pub id: u128,
    pub time_ms: Option<i64>,
}

/// What an item is.
#[derive(Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and almost all are events")]
pub(super) enum Recognised {
    /// `differing`: members that are not what the original says. `notice`: an event of the agent itself.
    Event { row: Row, format: ExportFormat, differing: Vec<String>, notice: Option<ExportedNotice> },
    /// Part of the export's own form, such as the action lines of a bulk request.
    Wrapper,
    /// No event of this agent.
    Foreign,
}

/// Wrappers around wrappers: a hit with an event in its `message`.
const WRAPPERS_MAX: usize = 4;

/// Of one file of an export, or of files that follow each other.
pub(crate) struct Recogniser {
    ids: IdHasher,
    twins: Twins,
    scratch: Scratch,
    members: MemberComparison,
    /// Length of the originals so far.
    originals_bytes: u64,
}

impl Recogniser {
    /// `site`: the site of records without a `system`, as it is configured.
    pub(crate) fn new(site: Option<&str>) -> Recogniser {
        Recogniser {
            ids: IdHasher::new(site),
            twins: Twins::default(),
            scratch: Scratch::default(),
            members: MemberComparison::new(site),
            originals_bytes: 0,
        }
    }

    /// Events whose members were not compared, because another version of the agent has written them.
    pub(super) fn take_other_versions(&mut self) -> u64 {
        std::mem::take(&mut self.members.other_versions)
    }

    /// What is compared of an event; `None`: it is none.
    pub(crate) fn row(&mut self, item: &[u8]) -> Option<Row> {
        match self.recognise(item) {
            Recognised::Event { row, .. } => Some(row),
            Recognised::Wrapper | Recognised::Foreign => None,
        }
    }

    pub(super) fn recognise(&mut self, item: &[u8]) -> Recognised {
        self.unwrap(item, 0, WRAPPERS_MAX)
    }

    fn unwrap(&mut self, item: &[u8], flags: u8, wrappers: usize) -> Recognised {
        if let Some(start) = cef_start(item) {
            let cef = item[start..].trim_ascii_end();
            let flags = flags | if is_cef_notice(cef) { NOTICE } else { 0 };
            let id = FormatKind::Cef.id_of(cef);
            return id.map_or(Recognised::Foreign, |id| event(id, FormatKind::Cef, flags, None, None));
        }
        let members = match std::str::from_utf8(item).ok().and_then(Members::of) {
            Some(members) => members,
            None => return self.original(item, false),
        };
        let inner = |name: &str| members.get(name).filter(|_| wrappers > 0);
        if let Some(id) = members.text("event_id").as_deref().and_then(id_of) {
            return self.raw(item, id, &members, flags);
        }
        if let Some(ecs) = members.object("event").filter(|ecs| ecs.get("id").is_some()) {
            return self.ecs(&members, &ecs, flags);
        }
        if let Some(id) = members.text("event.id").as_deref().and_then(id_of) {
            let original = members.text("event.original");
            let flags = flags | original.map_or(0, |original| self.flags_of(&original, id));
            return flat_ecs(id, &members, flags);
        }
        if let Some(id) = members.text("EventId").as_deref().and_then(id_of) {
            let time = members.get("creationDate").and_then(|time| time.parse().ok());
            let is_own = members.text("category").as_deref() == Some(crate::NAME);
            let is_notice = is_own && is_notice(members.text("summary").as_deref());
            return event(id, FormatKind::Sentinel, flags | if is_notice { NOTICE } else { 0 }, None, time);
        }
        let metadata = members.object("metadata");
        let text = |name: &str| metadata.as_ref()?.text(name);
        if let Some(id) = text("uid").as_deref().and_then(id_of) {
            let time = members.get("time").and_then(|time| time.parse().ok());
            let (original, action) = (members.text("raw_data"), text("event_code"));
            if is_notice(action.as_deref()) {
                return notice(id, FormatKind::Ocsf, flags, (action, original, &members), time);
            }
            let digest = original.as_deref().map(|original| record_digest(original.as_bytes()));
            let flags = flags | original.map_or(0, |original| self.flags_of(&original, id));
            return event(id, FormatKind::Ocsf, flags, digest, time);
        }
        for (name, flag) in [("_source", OF_INDEX), ("fields", OF_INDEX), ("result", 0), ("event", 0)] {
            match inner(name) {
                Some(value) if value.starts_with('{') => {
                    return self.unwrap(value.as_bytes(), flags | flag, wrappers - 1);
                }
                _ => {}
            }
        }
        for name in ["_raw", "event", "message"] {
            if let Some(text) = inner(name).and_then(json::text)
                && (text.starts_with('{') || cef_start(text.as_bytes()).is_some())
            {
                return self.unwrap(text.as_bytes(), flags, wrappers - 1);
            }
        }
        let is_action = matches!(&members.0[..], [(name, _)] if name == "index" || name == "create");
        if is_action || members.get("preview").is_some() {
            return Recognised::Wrapper;
        }
        self.original(item, true)
    }

    /// Whether the original has the form of the API, and whether the event's id is its own.
    fn flags_of(&mut self, original: &str, id: EventId) -> u8 {
        match record::parse(original.as_bytes(), &mut self.scratch) {
            Parsed::Record(record) => record_flags(&mut self.ids, &record, id),
            Parsed::Unreadable { .. } => 0,
        }
    }

    fn ecs(&mut self, members: &Members, ecs: &Members, flags: u8) -> Recognised {
        let Some(id) = ecs.text("id").as_deref().and_then(id_of) else {
            return Recognised::Foreign;
        };
        let time = members.text("@timestamp").and_then(|time| time::from_iso(&time));
        let (original, action) = (ecs.text("original"), ecs.text("action"));
        if is_notice(action.as_deref()) {
            return notice(id, FormatKind::Ecs, flags, (action, original, members), time);
        }
        let Some(original) = original else {
            return event(id, FormatKind::Ecs, flags, None, time);
        };
        let flags = flags | self.flags_of(&original, id);
        let differing = self.members.differing(members, ecs, &original, id);
        let mut recognised =
            event(id, FormatKind::Ecs, flags, Some(record_digest(original.as_bytes())), time);
        if let Recognised::Event { row, differing: named, .. } = &mut recognised
            && !differing.is_empty()
        {
            row.flags |= MEMBERS_DIFFER;
            *named = differing;
        }
        recognised
    }

    /// The record with its id as the first member; or an error with its original; or a notice.
    fn raw(&mut self, item: &[u8], id: EventId, members: &Members, flags: u8) -> Recognised {
        let is_unreadable =
            members.0.len() == 3 && members.get("error").is_some() && members.get("original").is_some();
        if let Some(original) = members.text("original").filter(|_| is_unreadable) {
            return event(id, FormatKind::Raw, flags, Some(record_digest(original.as_bytes())), None);
        }
        if let Some(agent) = members.object("agent").filter(|_| members.0.len() == 2) {
            let time = agent.text("time").and_then(|time| time::from_iso(&time));
            let texts = (agent.text("action"), agent.text("original"), &agent);
            return notice(id, FormatKind::Raw, flags, texts, time);
        }
        let Parsed::Record(record) = record::parse(item, &mut self.scratch) else {
            return event(id, FormatKind::Raw, flags, None, None);
        };
        let (time, flags) = (record.time_ms, flags | record_flags(&mut self.ids, &record, id));
        // After another program has written it, its bytes are no longer known.
        let digest = is_first(item, id).map(|rest| record_digest(&[b"{", rest].concat()));
        event(id, FormatKind::Raw, flags, digest, time)
    }

    /// `is_json`: only records count. Otherwise a line that cannot be read is a record among others.
    fn original(&mut self, item: &[u8], is_json: bool) -> Recognised {
        let parsed = record::parse(item, &mut self.scratch);
        let (digest, time) = match &parsed {
            Parsed::Record(record) => (record_digest(record.original.as_bytes()), record.time_ms),
            Parsed::Unreadable { .. } if is_json || self.originals_bytes == 0 => return Recognised::Foreign,
            Parsed::Unreadable { bytes, .. } => {
                (record_digest(String::from_utf8_lossy(bytes).as_bytes()), None)
            }
        };
        let id = self.ids.id(&parsed);
        let id = id.twin(self.twins.number(id, self.originals_bytes));
        self.originals_bytes += item.len() as u64 + 1;
        recognised(id, ExportFormat::Original, 0, Some(digest), time)
    }
}

/// Twins of one event that are recognised by their ids.
const TWINS_MAX: u32 = 64;

fn record_flags(ids: &mut IdHasher, record: &Record, id: EventId) -> u8 {
    let first = ids.record_id(record);
    let fits = (0..TWINS_MAX).any(|number| first.twin(number) == id);
    let is_from_api = record.shape != Shape::File;
    (if fits { ID_FITS } else { 0 }) | (if is_from_api { FROM_API } else { 0 })
}

fn event(
    id: EventId,
    format: FormatKind,
    flags: u8,
    digest: Option<[u8; 32]>,
    time_ms: Option<i64>,
) -> Recognised {
    recognised(id, ExportFormat::Event(format), flags, digest, time_ms)
}

fn recognised(
    id: EventId,
    format: ExportFormat,
    mut flags: u8,
    digest: Option<[u8; 32]>,
    time_ms: Option<i64>,
) -> Recognised {
    flags |= if digest.is_some() { HAS_DIGEST } else { 0 };
    flags |= if time_ms.is_some() { HAS_TIME } else { 0 };
    let row = Row {
        id: id.0,
        time_ms: time_ms.unwrap_or_default(),
        flags,
        kind: format.code(),
        digest: digest.unwrap_or_default(),
        ..Row::default()
    };
    Recognised::Event { row, format, differing: Vec::new(), notice: None }
}

/// An ECS event with the paths of its members as their names, as `fields` of a hit or a row of Splunk has them.
fn flat_ecs(id: EventId, members: &Members, flags: u8) -> Recognised {
    let time = members.text("@timestamp").and_then(|time| time::from_iso(&time));
    let original = members.text("event.original");
    let action = members.text("event.action");
    if is_notice(action.as_deref()) {
        return notice(id, FormatKind::Ecs, flags, (action, original, members), time);
    }
    let digest = original.map(|original| record_digest(original.as_bytes()));
    event(id, FormatKind::Ecs, flags, digest, time)
}

/// Whether it is an event of the agent itself. That it is one according to the ledger too is compared later.
fn is_notice(action: Option<&str>) -> bool {
    action.is_some_and(|action| action.starts_with("agent."))
}

/// A CEF event of the agent itself has its action as its signature and as its name.
fn is_cef_notice(cef: &[u8]) -> bool {
    let mut header = cef.split(|byte| *byte == b'|').skip(4);
    let (action, name) = (header.next(), header.next());
    action == name && action.is_some_and(|action| action.starts_with(b"agent."))
}

/// An event of the agent itself. The ledger has the digest of what it is about, else of its message.
fn notice(
    id: EventId,
    format: FormatKind,
    flags: u8,
    (action, original, members): (Option<Cow<str>>, Option<Cow<str>>, &Members),
    time_ms: Option<i64>,
) -> Recognised {
    let message = members.text("message");
    let digest = original.as_ref().or(message.as_ref()).map(|text| record_digest(text.as_bytes()));
    let mut recognised = event(id, format, flags | NOTICE, digest, time_ms);
    if let Recognised::Event { notice, .. } = &mut recognised {
        *notice = Some(ExportedNotice {
            action: action.unwrap_or_default().into_owned(),
            message: message.unwrap_or_default().into_owned(),
            original: original.map(Cow::into_owned),
            id: id.0,
            time_ms,
        });
    }
    recognised
}

/// What follows the id, if the event begins with it as format `raw` writes it.
fn is_first(item: &[u8], id: EventId) -> Option<&[u8]> {
    let rest = item.strip_prefix(b"{\"event_id\":\"")?.strip_prefix(&id.hex())?;
    rest.strip_prefix(b"\",").map(<[u8]>::trim_ascii_end)
}

/// Where a CEF event begins: at once, or after the header of a syslog message.
fn cef_start(item: &[u8]) -> Option<usize> {
    if item.first() == Some(&b'{') {
        return None;
    }
    memchr::memmem::find(&item[..item.len().min(1024)], b"CEF:")
}

fn id_of(text: &str) -> Option<EventId> {
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_id).map(EventId)
}
