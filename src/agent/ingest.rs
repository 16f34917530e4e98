//! Turns records and rows of a source into events, and passes each event to the encoder once. The reader thread does so
//! for both inputs, so that there is one order of events and one set of ids.

use super::encoder::Encoder;
use super::held_searches::{HeldSearch, HeldSearches};
use super::ledger_entry::{self, RecordPlace};
use super::node_filter::NodeFilter;
use super::row_delivery::RowDelivery;
use super::sink_pipeline::SinkPipeline;
use crate::clock;
use crate::format::{Event, Origin};
use crate::ledger::SharedLedger;
use crate::notice::Notice;
use crate::position::{Loss, Progress};
use crate::record::twins::Twins;
use crate::record::{self, EventId, IdHasher, Parsed, Scratch};
use crate::source::api::page::Page;
use crate::source::api::self_activity::SearchedBy;
use crate::source::api::{Api, ApiStep, Now};
use crate::source::files::FileRecord;
use crate::source::files::record_splitter::RawRecord;
use std::time::Instant;

/// The ingest of one source.
pub struct Ingest {
    encoder: Encoder,
    ids: IdHasher,
    /// For each directory, the number of its current twin scope and the twins in it.
    twins: Vec<(u32, Twins)>,
    scratch: Scratch,
    ledger: SharedLedger,
    /// `Some` if the source has files and an API.
    node_filter: Option<NodeFilter>,
    pub held: HeldSearches,
    /// When the current block or page was read, in milliseconds since 1970.
    pub read_at_ms: i64,
    /// Records and rows that could not be parsed.
    pub unreadable: u64,
    /// File records without an event so far: they were delivered before, or are held or dropped searches.
    pub suppressed: u64,
    /// Of these, the agent's own searches that were dropped.
    pub dropped: u64,
}

impl Ingest {
    /// `node_filter` and `held` for a source that has files and an API.
    pub fn new(
        encoder: Encoder,
        ids: IdHasher,
        ledger: SharedLedger,
        node_filter: Option<NodeFilter>,
        held: HeldSearches,
    ) -> Ingest {
        Ingest {
            encoder,
            ids,
            twins: Vec::new(),
            scratch: Scratch::default(),
            ledger,
            node_filter,
            held,
            read_at_ms: 0,
            unreadable: 0,
            suppressed: 0,
            dropped: 0,
        }
    }

    pub fn events(&self) -> u64 {
        self.encoder.events
    }

    /// Ingests a record of an audit file.
    pub fn ingest_record(&mut self, found: FileRecord<'_>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.ingest_with(found, &mut scratch);
        self.scratch = scratch;
    }

    fn ingest_with(&mut self, found: FileRecord<'_>, scratch: &mut Scratch) {
        crate::failpoint::hit("decode");
        let (parsed, offset, length, body) = parse(&found, scratch);
        let place = RecordPlace::File { key: found.file_key, offset, length };
        let id = self.id(&parsed, &found);
        let record = match &parsed {
            Parsed::Record(record) => Some(record),
            Parsed::Unreadable { .. } => None,
        };
        let mut self_poll = false;
        if let Some(filter) = &mut self.node_filter {
            if found.already_delivered {
                return filter.observe_delivered(record, found.directory, self.read_at_ms);
            }
            let time_ms = filter.observe(record, found.directory, self.read_at_ms);
            let by = record.map_or(SearchedBy::Other, |record| self.held.searched_by(record));
            if by == SearchedBy::Unknown && self.held.may_hold(body, time_ms, self.read_at_ms) {
                self.suppressed += 1;
                return self.held.push(HeldSearch {
                    body: body.to_vec(),
                    id,
                    time_ms,
                    place,
                    path_json: found.path_json.to_owned(),
                    offset,
                    unterminated: found.unterminated,
                    since: clock::monotonic(),
                    requests: 0,
                    requested_at: None,
                });
            }
            self_poll = by == SearchedBy::Agent;
        }
        if found.already_delivered {
            return;
        }
        let event = Event {
            content: &parsed,
            id,
            origin: Origin::File { path_json: found.path_json, offset, unterminated: found.unterminated },
            self_poll,
            read_at_ms: self.read_at_ms,
        };
        self.deliver_from_file(&event, place, body.len());
    }

    fn id(&mut self, parsed: &Parsed<'_>, found: &FileRecord<'_>) -> EventId {
        let id = self.ids.id(parsed);
        while self.twins.len() <= found.directory {
            self.twins.push((found.twin_scope, Twins::default()));
        }
        let (twin_scope, twins) = &mut self.twins[found.directory];
        if *twin_scope != found.twin_scope {
            (*twin_scope, *twins) = (found.twin_scope, Twins::default());
        }
        id.twin(twins.number(id, found.twin_offset))
    }

    fn deliver_from_file(&mut self, event: &Event<'_>, place: RecordPlace, record_bytes: usize) {
        let is_new = match (ledger_entry::time_ms(event.content), &event.origin) {
            // With an API, a file that was cut or came back may hold it at another offset.
            (None, Origin::File { offset, .. }) if self.node_filter.is_none() => {
                self.ledger.mark_untimed_in_flight(event.id, *offset)
            }
            (time_ms, _) => self.ledger.mark_in_flight(event.id, time_ms),
        };
        if !is_new {
            // It was delivered: from the API, or from another file.
            self.suppressed += 1;
            return;
        }
        if event.self_poll && self.held.drop_self_polls {
            self.suppressed += 1;
            self.dropped += 1;
            self.encoder.leave_out(event, place);
            return;
        }
        if let (Parsed::Unreadable { error, .. }, Origin::File { path_json, offset, .. }) =
            (event.content, &event.origin)
        {
            self.unreadable += 1;
            let path = path_json.trim_matches('"');
            tracing::warn!(
                path,
                offset,
                error,
                "a record cannot be read; it is delivered as `pipeline_error`"
            );
        }
        self.encoder.encode(event, place, record_bytes);
    }

    /// Delivers held searches whose author is known now or that have expired. With `all`, delivers each.
    pub fn release_held_searches(&mut self, all: bool) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for search in self.held.take() {
            let parsed = record::parse(&search.body, &mut scratch);
            let by = match &parsed {
                Parsed::Record(record) => self.held.searched_by(record),
                Parsed::Unreadable { .. } => SearchedBy::Other,
            };
            if by == SearchedBy::Unknown && !all {
                if !search.has_expired() {
                    self.held.push(search);
                    continue;
                }
                if let Parsed::Record(record) = &parsed {
                    self.held.give_up(record);
                }
            }
            let event = Event {
                content: &parsed,
                id: search.id,
                origin: Origin::File {
                    path_json: &search.path_json,
                    offset: search.offset,
                    unterminated: search.unterminated,
                },
                self_poll: by == SearchedBy::Agent,
                read_at_ms: self.read_at_ms,
            };
            self.deliver_from_file(&event, search.place, search.body.len());
        }
        self.scratch = scratch;
    }

    /// Processes the result of an API step and flushes. Returns when the next step is due (`None`: at once), and how
    /// many events of the page up to `before_ms` are missing in the files.
    pub fn process_step(
        &mut self,
        step: ApiStep,
        before_ms: i64,
        now: Now,
        api: &mut Api,
    ) -> (Option<Instant>, u64) {
        let (due, missing) = match step {
            ApiStep::Again => (None, 0),
            ApiStep::Wait(until) => (Some(until), 0),
            ApiStep::Page { page, repeated } => {
                (None, self.ingest_page((page, repeated), before_ms, now, api))
            }
        };
        for notice in api.take_notices() {
            self.encoder.encode_notice(&notice);
        }
        self.flush(api.progress());
        (due, missing)
    }

    /// Ingests the rows of a page that were not on the page before. Returns how many are missing in the files.
    fn ingest_page(
        &mut self,
        (page, repeated): (Page, usize),
        before_ms: i64,
        now: Now,
        api: &mut Api,
    ) -> u64 {
        self.read_at_ms = now.ms;
        let mut rows = RowDelivery {
            encoder: &mut self.encoder,
            node_filter: self.node_filter.as_mut(),
            held: &self.held,
            for_other_nodes: api.is_for_other_nodes(),
            read_at_ms: now.ms,
            before_ms,
            unreadable: &mut self.unreadable,
            missing: 0,
        };
        api.ingest_page(page, repeated, now, &mut self.ids, &self.ledger, &mut rows);
        rows.missing
    }

    /// Times of the oldest and the newest event whose ids can be compared with the API.
    pub fn known_ms(&self) -> Option<(i64, i64)> {
        self.node_filter.as_ref()?.known_ms()
    }

    pub fn encode_notice(&mut self, notice: &Notice) {
        self.encoder.encode_notice(notice);
    }

    /// See [`Encoder::encode_for`].
    pub fn encode_for(&mut self, notice: &Notice, gets_it: impl Fn(&SinkPipeline) -> bool) {
        self.encoder.encode_for(notice, gets_it);
    }

    pub fn pipelines(&self) -> &[SinkPipeline] {
        self.encoder.pipelines()
    }

    /// Records a byte range of a file that will never be delivered.
    pub fn record_loss(&mut self, loss: &Loss) {
        self.encoder.record_loss(loss);
    }

    /// The replay is over: what is in an output and was not replayed is delivered all the same.
    pub fn end_replay(&mut self) {
        let ledger = &self.ledger;
        self.encoder.end_replay(|entry| ledger.mark_entry_in_flight(entry));
    }

    /// Sends the batch to the sinks, and the progress to the commit thread.
    pub fn flush(&mut self, mut progress: Progress) {
        if self.held.has_too_many_pending() {
            self.release_held_searches(true);
        }
        progress.entries = self.encoder.take_entries();
        if let Some(filter) = &mut self.node_filter {
            progress.nodes = filter.take_changes();
        }
        self.encoder.flush(self.held.pass_progress(progress));
    }
}

/// The record, its offset and its length with its line end, and its bytes.
fn parse<'a>(found: &FileRecord<'a>, scratch: &'a mut Scratch) -> (Parsed<'a>, u64, u32, &'a [u8]) {
    match &found.raw {
        RawRecord::Line { body, offset, end } => {
            (record::parse(body, scratch), *offset, (end - offset) as u32, body)
        }
        RawRecord::Malformed { head, offset, bytes, hash, reason } => {
            let malformed = Parsed::Unreadable {
                error: reason.error(*bytes, *offset, *hash),
                bytes: head,
                whole_hash: Some(u128::from(*hash)),
            };
            (malformed, *offset, u32::try_from(*bytes).unwrap_or(u32::MAX), &[])
        }
    }
}
