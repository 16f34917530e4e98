//! What turns records into batches of events: parses each record once and writes it in every sink's format.

use super::alongside::{Alongside, HeldSearch, RowVerdict, is_forgotten};
use super::commit::ToCommit;
use super::flow_control::FlowControl;
use crate::clock;
use crate::format::{Event, EventBuffer, Format, Origin};
use crate::notice::Notice;
use crate::position::Progress;
use crate::record::twins::Twins;
use crate::record::{self, EventId, IdHasher, Parsed, Scratch};
use crate::sink::{Batch, BatchEvent, Inbox, Message};
use crate::source::api::page::Page;
use crate::source::api::self_activity::SearchedBy;
use crate::source::api::{Api, Now};
use crate::source::dedup::{Dedup, FromFile};
use crate::source::files::FileRecord;
use crate::source::files::frame::Frame;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

/// An event of a longer record is handed on in parts; what stands before it in the batch goes first.
pub const LONG_RECORD_BYTES: usize = 64 * 1024;

/// The lanes of one source, and what they share.
pub struct Encoder {
    stream: usize,
    lanes: Vec<SinkPipeline>,
    commits: Sender<ToCommit>,
    /// Of the next batch.
    number: u64,
    ids: IdHasher,
    /// Of each folder, for its present sequence.
    twins: Vec<(u32, Twins)>,
    /// What was delivered lately, if an API may bring it again.
    recent: Option<Dedup>,
    /// Of a source that has files and an API.
    alongside: Option<Alongside>,
    scratch: Scratch,
    pub read_at_ms: i64,
    pub events: u64,
    pub unreadable: u64,
    /// Records of files that made no event at once: an API had brought them, or they are searches of the audit log.
    pub known: u64,
    /// Of these, the agent's own searches that are left out.
    pub dropped: u64,
    /// From then on ids are wanted by another API of this source.
    pub wanted_ms: i64,
}

/// One sink of a source.
pub struct SinkPipeline {
    format: Format,
    out: EventBuffer,
    events: Vec<BatchEvent>,
    inbox: Inbox,
    flow: Arc<FlowControl>,
    /// Events that already stand in the output: they were written after the checkpoint and are told again now.
    already_in_output: HashSet<EventId>,
}

impl Encoder {
    /// `recent` for a source that has an API, `alongside` for one that has files as well.
    pub fn new(
        stream: usize,
        lanes: Vec<SinkPipeline>,
        ids: IdHasher,
        commits: Sender<ToCommit>,
        recent: Option<Dedup>,
        alongside: Option<Alongside>,
    ) -> Encoder {
        Encoder {
            stream,
            lanes,
            commits,
            number: 0,
            ids,
            twins: Vec::new(),
            recent,
            alongside,
            scratch: Scratch::default(),
            read_at_ms: 0,
            events: 0,
            unreadable: 0,
            known: 0,
            dropped: 0,
            wanted_ms: i64::MAX,
        }
    }

    /// Takes a record of an audit file.
    pub fn take(&mut self, found: FileRecord<'_>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.encode_record(found, &mut scratch);
        self.scratch = scratch;
    }

    fn encode_record(&mut self, found: FileRecord<'_>, scratch: &mut Scratch) {
        crate::failpoint::hit("decode");
        let (parsed, offset, body) = match found.frame {
            Frame::Line { body, offset } => (record::parse(body, scratch), offset, body),
            Frame::Malformed { head, offset, bytes, hash, reason } => {
                let malformed = Parsed::Unreadable {
                    error: reason.error(bytes, offset, hash),
                    bytes: head,
                    whole_hash: Some(u128::from(hash)),
                };
                (malformed, offset, &[][..])
            }
        };
        let id = self.ids.id(&parsed);
        while self.twins.len() <= found.folder {
            self.twins.push((found.sequence, Twins::default()));
        }
        let (sequence, twins) = &mut self.twins[found.folder];
        if *sequence != found.sequence {
            (*sequence, *twins) = (found.sequence, Twins::default());
        }
        let id = id.twin(twins.number(id, found.sequence_offset));
        let record = match &parsed {
            Parsed::Record(record) => Some(record),
            Parsed::Unreadable { .. } => None,
        };
        if found.replayed {
            if let Some(alongside) = &mut self.alongside {
                alongside.observe_replayed(record, found.folder, self.read_at_ms);
            }
            return;
        }
        let mut self_poll = false;
        let mut from = None;
        if let Some(alongside) = &mut self.alongside {
            let seen = alongside.observe(record, found.file, found.folder, self.read_at_ms);
            let (time_ms, of_file) = seen;
            from = Some(seen);
            match record.map_or(SearchedBy::Other, |record| alongside.searched_by(record)) {
                SearchedBy::Agent => self_poll = true,
                SearchedBy::Other => {}
                SearchedBy::Unknown => {
                    if alongside.may_hold(body, time_ms, self.read_at_ms) {
                        self.known += 1;
                        alongside.hold(HeldSearch {
                            body: body.to_vec(),
                            id,
                            time_ms,
                            from: of_file,
                            path_json: found.path_json.to_owned(),
                            offset,
                            unterminated: found.unterminated,
                            since: clock::monotonic(),
                            asked: 0,
                            asked_at: None,
                        });
                        return;
                    }
                }
            }
        }
        let origin = Origin::File { path_json: found.path_json, offset, unterminated: found.unterminated };
        let long = body.len() > LONG_RECORD_BYTES;
        self.deliver_of_file(&parsed, id, from, origin, self_poll, long);
    }

    /// `from`: the event's time, and the file, if an API may bring it as well.
    fn deliver_of_file(
        &mut self,
        parsed: &Parsed<'_>,
        id: EventId,
        from: Option<(i64, FromFile)>,
        origin: Origin<'_>,
        self_poll: bool,
        long: bool,
    ) {
        if let (Some(recent), Some((time_ms, file))) = (&mut self.recent, from)
            && !recent.insert(id, time_ms, Some(file))
        {
            // The API has brought it.
            self.known += 1;
            return;
        }
        if self_poll && self.alongside.as_ref().is_some_and(|a| a.drop_self_polls) {
            self.known += 1;
            self.dropped += 1;
            return;
        }
        if let (Parsed::Unreadable { error, .. }, Origin::File { path_json, offset, .. }) = (parsed, &origin)
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
        let item = Event { content: parsed, id, origin, self_poll, read_at_ms: self.read_at_ms };
        deliver(&mut self.lanes, &item, long);
        self.events += 1;
    }

    /// Delivers the searches of files that waited until it is known whose they are: those of which it is, and with
    /// `all` the others too.
    pub fn settle_held_searches(&mut self, all: bool) {
        let Some(alongside) = &mut self.alongside else {
            return;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        for held in alongside.take_held() {
            let parsed = record::parse(&held.body, &mut scratch);
            let by = match (&parsed, &self.alongside) {
                (Parsed::Record(record), Some(alongside)) => alongside.searched_by(record),
                _ => SearchedBy::Other,
            };
            if let (SearchedBy::Unknown, Some(alongside)) = (by, &mut self.alongside)
                && !all
            {
                if !held.is_over() {
                    alongside.hold(held);
                    continue;
                }
                if let Parsed::Record(record) = &parsed {
                    alongside.give_up(record);
                }
            }
            let origin = Origin::File {
                path_json: &held.path_json,
                offset: held.offset,
                unterminated: held.unterminated,
            };
            let from = Some((held.time_ms, held.from));
            self.deliver_of_file(&parsed, held.id, from, origin, by == SearchedBy::Agent, false);
        }
        self.scratch = scratch;
    }

    /// Whether searches of files wait until it is known whose they are.
    pub fn holds_searches(&self) -> bool {
        self.alongside.as_ref().is_some_and(Alongside::holds_any)
    }

    /// The time of a search whose author the API is to be asked for now.
    pub fn next_author(&mut self, now: Instant) -> Option<i64> {
        self.alongside.as_mut()?.next_author(now)
    }

    /// When to look at the searches that wait. `may_ask`: the API is there to be asked.
    pub fn held_due(&self, may_ask: bool) -> Option<Instant> {
        self.alongside.as_ref()?.held_due(may_ask)
    }

    /// Takes the rows of a page of an audit API that stood on none before. Returns how many of these were events of up to `before_ms`
    /// that files should have brought and nothing had. `read`: see `Encoder::prune_ids`.
    pub fn ingest_page(
        &mut self,
        page: Page,
        repeated: usize,
        read: bool,
        before_ms: i64,
        api: &mut Api,
        now: Now,
    ) -> u64 {
        self.read_at_ms = now.ms;
        // Oldest first, as far as a page goes.
        let rows = (repeated..page.len()).rev();
        let brought = rows.filter(|row| self.ingest_row(page.row(*row), before_ms, api)).count();
        api.page_read(page, now);
        self.prune_ids(api, read);
        brought as u64
    }

    fn ingest_row(&mut self, row: &[u8], before_ms: i64, api: &mut Api) -> bool {
        crate::failpoint::hit("decode");
        let row = &*record::without_blanks(row);
        let parsed = record::parse(row, &mut self.scratch);
        let (time_ms, self_poll, likeness) = match &parsed {
            Parsed::Record(record) => (record.time_ms, api.is_self_poll(record), api.likeness(record)),
            Parsed::Unreadable { .. } => (None, false, None),
        };
        let id = self.ids.id(&parsed);
        let Some(recent) = &mut self.recent else {
            return false;
        };
        // A row that cannot be read cannot be compared either.
        let mut of_files = false;
        if let (Parsed::Record(record), Some(alongside)) = (&parsed, &mut self.alongside) {
            let incomplete_to_ms = recent.incomplete_to_ms();
            let others = api.is_for_other_nodes();
            match alongside.judge_row(record, self.read_at_ms, others, incomplete_to_ms) {
                RowVerdict::Pass => {
                    api.pass_over_row(id, time_ms);
                    return false;
                }
                RowVerdict::Take { of_files: take } => of_files = take,
            }
            if is_forgotten(recent, record) {
                api.pass_over_row(id, time_ms);
                return false;
            }
        }
        let Some(id) = api.admit(id, likeness, time_ms, self_poll, recent) else {
            return false;
        };
        if let Parsed::Unreadable { error, .. } = &parsed {
            self.unreadable += 1;
            tracing::warn!(
                error,
                "a row of the audit API cannot be read; it is delivered as `pipeline_error`"
            );
        }
        let item =
            Event { content: &parsed, id, origin: Origin::Api, self_poll, read_at_ms: self.read_at_ms };
        deliver(&mut self.lanes, &item, row.len() > LONG_RECORD_BYTES);
        self.events += 1;
        let waits = |alongside: &Alongside| alongside.holds(id);
        of_files
            && !self_poll
            && !self.alongside.as_ref().is_some_and(waits)
            && time_ms.is_none_or(|time_ms| time_ms <= before_ms)
    }

    /// Forgets ids that are not met again. `read`: the files that are there have been read, so what they may yet bring is newer
    /// than what they have brought.
    fn prune_ids(&mut self, api: &mut Api, read: bool) {
        if let Some(recent) = &mut self.recent {
            let newest = |files: &Alongside| files.newest_ms().filter(|_| read).unwrap_or(i64::MIN);
            let newest_ms = self.alongside.as_ref().map(newest);
            api.prune(recent, newest_ms.map(|newest_ms| newest_ms.min(self.wanted_ms)));
        }
    }

    /// Times of the oldest and the newest event that can be compared with the API.
    pub fn known_ms(&self) -> Option<(i64, i64)> {
        self.alongside.as_ref()?.known_ms()
    }

    /// Stretches of time whose events the files have brought, and whose ids are not known any more.
    /// None where these may hold events of nodes that those files do not show.
    pub fn skipped_ranges(&self) -> &[(i64, i64)] {
        match &self.alongside {
            Some(alongside) if alongside.may_skip_ranges() => {
                self.recent.as_ref().map_or(&[], Dedup::skipped_ranges)
            }
            _ => &[],
        }
    }

    /// Up to then ids that came by an API are not all known.
    pub fn incomplete_to_ms(&self) -> Option<i64> {
        self.recent.as_ref()?.incomplete_to_ms()
    }

    /// An event of the agent's own.
    pub fn encode_notice(&mut self, notice: &Notice) {
        for lane in &mut self.lanes {
            lane.write(notice.id, notice.at_ms, false, |format, out| format.write_notice(notice, out));
        }
        self.events += 1;
    }

    /// Events that stand in an output and were not told again: what they were read from is gone.
    pub fn clear_replayed(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.already_in_output.clear());
    }

    /// Sends what was read to the sinks, and what that means for the position to the checkpoint.
    pub fn flush(&mut self, mut progress: Progress) {
        if let Some(recent) = &mut self.recent {
            if recent.is_over_full() {
                recent.forget_of_files();
            }
            (progress.ids, progress.forget_ids) = recent.changes();
        }
        if let Some(alongside) = &mut self.alongside {
            progress = alongside.pass_progress(progress);
        }
        let bytes = self.lanes.iter().map(|lane| lane.out.bytes.len() as u64).max();
        let bytes = bytes.unwrap_or(0);
        if progress.is_empty() && bytes == 0 {
            return;
        }
        // A commit thread that is gone has ended the process, or is about to.
        let _ =
            self.commits.send(ToCommit::Sent { stream: self.stream, progress: Box::new(progress), bytes });
        for lane in &mut self.lanes {
            lane.send(Some(self.number));
        }
        self.number += 1;
    }
}

fn deliver(lanes: &mut [SinkPipeline], item: &Event<'_>, long: bool) {
    crate::failpoint::hit("encode");
    let time_ms = match item.content {
        Parsed::Record(record) => record.time_ms,
        Parsed::Unreadable { .. } => None,
    };
    let time_ms = time_ms.unwrap_or(item.read_at_ms);
    for lane in lanes {
        lane.write(item.id, time_ms, long, |format, out| format.write(item, out));
    }
}

impl SinkPipeline {
    pub fn new(
        format: Format,
        inbox: Inbox,
        flow: Arc<FlowControl>,
        already_in_output: HashSet<EventId>,
    ) -> SinkPipeline {
        let (to, holds) = (inbox.clone(), flow.clone());
        let out = EventBuffer::with_flush(move |bytes| {
            // What waits to be sent together with more is told that this one waits for it.
            send(&to, &holds, Batch::default());
            holds.wait_for_capacity();
            let part = std::mem::replace(bytes, holds.buffer());
            let batch = Batch { number: None, bytes: part, events: Vec::new(), replaying: false };
            send(&to, &holds, batch);
        });
        SinkPipeline { format, out, events: Vec::new(), inbox, flow, already_in_output }
    }

    fn write(
        &mut self,
        id: EventId,
        time_ms: i64,
        long: bool,
        write: impl FnOnce(&Format, &mut EventBuffer),
    ) {
        if !self.already_in_output.is_empty() && self.already_in_output.remove(&id) {
            return;
        }
        if long && !self.out.bytes.is_empty() {
            self.send(None);
        }
        self.out.in_parts = long;
        write(&self.format, &mut self.out);
        self.out.bytes.push(b'\n');
        let end = self.out.bytes.len() as u32;
        self.events.push(BatchEvent { end, id, time_ms });
    }

    fn send(&mut self, number: Option<u64>) {
        let batch = Batch {
            number,
            bytes: std::mem::replace(&mut self.out.bytes, self.flow.buffer()),
            events: std::mem::take(&mut self.events),
            replaying: !self.already_in_output.is_empty(),
        };
        send(&self.inbox, &self.flow, batch);
    }
}

fn send(inbox: &Inbox, flow: &FlowControl, batch: Batch) {
    flow.sent(batch.bytes.len());
    inbox.send(Message::Batch(batch));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Raw;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn what_a_long_event_waits_for_is_told_to_hurry() {
        let flow = Arc::new(FlowControl::new(1024));
        let (messages, inbox) = channel();
        // On its way in an earlier batch.
        flow.sent(7);
        let of_lane = flow.clone();
        let writes = std::thread::spawn(move || {
            let (format, inbox) = (Format::Raw(Raw), Inbox::Thread(messages));
            let mut lane = SinkPipeline::new(format, inbox, of_lane, HashSet::new());
            lane.write(EventId(1), 0, true, |_, out| out.put_long(&"x".repeat(400_000)));
            lane.send(Some(0));
        });
        let next = || match inbox.recv_timeout(Duration::from_secs(60)) {
            Ok(Message::Batch(batch)) => batch,
            _ => panic!("nothing is sent"),
        };
        let hurry = next();
        assert_eq!((hurry.number, hurry.bytes.len()), (None, 0));
        flow.written(vec![b'x'; 7]);
        let part = next();
        assert_eq!((part.number, part.events.len()), (None, 0));
        let tail = next();
        assert_eq!((tail.number, tail.events.len()), (Some(0), 1));
        assert_eq!(part.bytes.len() + tail.bytes.len(), 400_001);
        writes.join().unwrap();
    }
}
