//! What turns records into batches of events: parses each record once and writes it in every sink's format.

use super::commit::ToCommit;
use super::gate::Gate;
use super::poller::now;
use crate::clock;
use crate::format::{Format, Item, Origin, Out};
use crate::notice::Notice;
use crate::position::{IdChunk, Progress};
use crate::record::twins::Twins;
use crate::record::{self, EventId, IdHasher, Parsed, Record, Scratch};
use crate::sink::{Batch, Inbox, Message, Written};
use crate::source::api::Api;
use crate::source::api::page::Page;
use crate::source::files::Found;
use crate::source::files::frame::{Frame, Why};
use crate::source::recent::Recent;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// An event of a longer record is handed on in parts; what stands before it in the batch goes first.
const LONG_RECORD_BYTES: usize = 64 * 1024;

/// The lanes of one source, and what they share.
pub struct Stage {
    stream: usize,
    lanes: Vec<Lane>,
    commits: Sender<ToCommit>,
    /// Of the next batch.
    number: u64,
    ids: IdHasher,
    /// Of each folder, for its present sequence.
    twins: Vec<(u32, Twins)>,
    /// What was delivered lately, if an API may bring it again.
    recent: Option<Recent>,
    /// Beside an API: what the files have told.
    files: Option<OfFiles>,
    scratch: Scratch,
    pub read_at_ms: i64,
    pub events: u64,
    pub unreadable: u64,
    /// Records of files that an API had brought already.
    pub known: u64,
}

/// What is known from the files of a source that has an API as well.
#[derive(Default)]
pub struct OfFiles {
    /// Of the newest event.
    newest_ms: Option<i64>,
    /// Of the oldest and the newest event whose ids are known, from whichever way in.
    known_ms: Option<(i64, i64)>,
    /// The cluster node that writes them: the API shows the events of all nodes.
    node: Option<String>,
    /// Take the events of all nodes nevertheless.
    all_nodes: bool,
    node_changed: bool,
    /// That the node is not known has been said.
    node_missed: bool,
    /// Of the last record that has a time.
    last_ms: Option<i64>,
}

/// One sink of a source.
pub struct Lane {
    format: Format,
    out: Out,
    events: Vec<Written>,
    inbox: Inbox,
    gate: Arc<Gate>,
    /// Events that already stand in the output: they were written after the checkpoint and are told again now.
    standing: HashSet<EventId>,
}

impl Stage {
    /// `recent` for a source that has an API, `files` for one that has files as well.
    pub fn new(
        stream: usize,
        lanes: Vec<Lane>,
        ids: IdHasher,
        commits: Sender<ToCommit>,
        recent: Option<Recent>,
        files: Option<OfFiles>,
    ) -> Stage {
        Stage {
            stream,
            lanes,
            commits,
            number: 0,
            ids,
            twins: Vec::new(),
            recent,
            files,
            scratch: Scratch::default(),
            read_at_ms: 0,
            events: 0,
            unreadable: 0,
            known: 0,
        }
    }

    /// Takes a record of an audit file.
    pub fn take(&mut self, found: Found<'_>) {
        crate::failpoint::hit("decode");
        let (parsed, offset, long) = match found.frame {
            Frame::Line { body, offset } => (
                record::parse(body, &mut self.scratch),
                offset,
                body.len() > LONG_RECORD_BYTES,
            ),
            Frame::Malformed {
                prefix,
                offset,
                bytes,
                hash,
                why,
            } => {
                let what = match why {
                    Why::TooLong => "a line longer than `record_bytes_max`",
                    Why::Nul => "a run of NUL bytes",
                };
                let malformed = Parsed::Unreadable {
                    error: format!("{what}: {bytes} bytes at offset {offset}, xxh3 {hash:016x}"),
                    bytes: prefix,
                    whole_hash: Some(u128::from(hash)),
                };
                (malformed, offset, false)
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
        let id = id.twin(twins.number(id, found.at));
        if found.replayed {
            return;
        }
        if let (Some(recent), Some(files)) = (&mut self.recent, &mut self.files) {
            let record = match &parsed {
                Parsed::Record(record) => Some(record),
                Parsed::Unreadable { .. } => None,
            };
            let time_ms = files.saw(record, self.read_at_ms);
            if !recent.insert(id, time_ms, Some(found.file)) {
                // The API has brought it.
                self.known += 1;
                return;
            }
        }
        if let Parsed::Unreadable { error, .. } = &parsed {
            self.unreadable += 1;
            let path = found.path_json.trim_matches('"');
            tracing::warn!(
                path,
                offset,
                error,
                "a record cannot be read; it is delivered as `pipeline_error`"
            );
        }
        let item = Item {
            content: &parsed,
            id,
            origin: Origin::File {
                path_json: found.path_json,
                offset,
                unterminated: found.unterminated,
            },
            self_poll: false,
            read_at_ms: self.read_at_ms,
        };
        deliver(&mut self.lanes, &item, long);
        self.events += 1;
    }

    /// Takes the rows of a page of an audit API that stood on none before. Returns how many of these were events of up to `before_ms`
    /// that nothing had brought. `read`: see [`Stage::prune_ids`].
    pub fn take_page(
        &mut self,
        page: Page,
        repeated: usize,
        read: bool,
        before_ms: i64,
        api: &mut Api,
    ) -> u64 {
        self.read_at_ms = clock::now_ms();
        // Oldest first, as far as a page goes.
        let rows = (repeated..page.len()).rev();
        let brought = rows
            .filter(|row| self.take_row(page.row(*row), before_ms, api))
            .count();
        api.page_read(page, now());
        self.prune_ids(api, read);
        brought as u64
    }

    fn take_row(&mut self, row: &[u8], before_ms: i64, api: &mut Api) -> bool {
        crate::failpoint::hit("decode");
        let parsed = record::parse(row, &mut self.scratch);
        let (time_ms, self_poll, likeness) = match &parsed {
            Parsed::Record(record) => (record.time_ms, api.is_self_poll(record), api.likeness(record)),
            Parsed::Unreadable { .. } => (None, false, None),
        };
        let id = self.ids.id(&parsed);
        if let (Parsed::Record(record), Some(files)) = (&parsed, &mut self.files)
            && files.is_of_another_node(record)
        {
            api.count(id, time_ms);
            return false;
        }
        let Some(recent) = &mut self.recent else {
            return false;
        };
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
        let item = Item {
            content: &parsed,
            id,
            origin: Origin::Api,
            self_poll,
            read_at_ms: self.read_at_ms,
        };
        deliver(&mut self.lanes, &item, row.len() > LONG_RECORD_BYTES);
        self.events += 1;
        !self_poll && time_ms.is_none_or(|time_ms| time_ms <= before_ms)
    }

    /// Forgets ids that are not met again. `read`: the files that are there have been read, so what they may yet bring is newer
    /// than what they have brought.
    fn prune_ids(&mut self, api: &mut Api, read: bool) {
        if let Some(recent) = &mut self.recent {
            let newest = |files: &OfFiles| files.newest_ms.filter(|_| read).unwrap_or(i64::MIN);
            api.prune(recent, self.files.as_ref().map(newest));
        }
    }

    /// Times of the oldest and the newest event that can be compared with the API.
    pub fn known_ms(&self) -> Option<(i64, i64)> {
        self.files.as_ref()?.known_ms
    }

    /// Stretches of time whose events the files have brought, and whose ids are not known any more.
    pub fn passed_over(&self) -> &[(i64, i64)] {
        self.recent.as_ref().map_or(&[], Recent::stretches)
    }

    /// An event of the agent's own.
    pub fn tell(&mut self, notice: &Notice) {
        for lane in &mut self.lanes {
            lane.write(notice.id, notice.at_ms, false, |format, out| {
                format.write_notice(notice, out)
            });
        }
        self.events += 1;
    }

    /// Events that stand in an output and were not told again: what they were read from is gone.
    pub fn forget_standing(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.standing.clear());
    }

    /// Sends what was read to the sinks, and what that means for the position to the checkpoint.
    pub fn hand_over(&mut self, mut progress: Progress) {
        if let Some(recent) = &mut self.recent {
            if recent.is_over_full() {
                recent.forget_of_files();
            }
            (progress.ids, progress.forget_ids) = recent.changes();
            if let Some(files) = self.files.as_mut().filter(|files| files.node_changed) {
                files.node_changed = false;
                progress.node = files.node.clone();
            }
        }
        let bytes = self.lanes.iter().map(|lane| lane.out.bytes.len() as u64).max();
        let bytes = bytes.unwrap_or(0);
        if progress.is_empty() && bytes == 0 {
            return;
        }
        // A commit thread that is gone has ended the process, or is about to.
        let _ = self.commits.send(ToCommit::Sent {
            stream: self.stream,
            progress,
            bytes,
        });
        for lane in &mut self.lanes {
            lane.send(Some(self.number));
        }
        self.number += 1;
    }
}

impl OfFiles {
    /// `ids` are those of the checkpoint.
    pub fn new(node: Option<String>, all_nodes: bool, ids: &[IdChunk]) -> OfFiles {
        let oldest_ms = ids.iter().map(|chunk| chunk.oldest_ms).min();
        let newest_ms = ids.iter().map(|chunk| chunk.newest_ms).max();
        OfFiles {
            node,
            all_nodes,
            known_ms: oldest_ms.zip(newest_ms),
            ..OfFiles::default()
        }
    }

    /// Returns the record's time; one that has none is as old as the one before. It may be yet to come: the API shows the event then,
    /// and its id has to be known for so long.
    fn saw(&mut self, record: Option<&Record>, read_at_ms: i64) -> i64 {
        self.last_ms = record.and_then(|record| record.time_ms).or(self.last_ms);
        let at_ms = self.last_ms.unwrap_or(read_at_ms);
        // A time that is yet to come is none.
        let time_ms = at_ms.min(read_at_ms);
        self.newest_ms = self.newest_ms.max(Some(time_ms));
        let (oldest_ms, newest_ms) = self.known_ms.unwrap_or((time_ms, time_ms));
        self.known_ms = Some((oldest_ms.min(time_ms), newest_ms.max(time_ms)));
        if let Some(node) = record.and_then(|record| record.node.text())
            && !self.node.as_deref().is_some_and(|known| node.is(known))
        {
            self.node = Some(node.decoded().into_owned());
            self.node_changed = true;
        }
        at_ms
    }

    fn is_of_another_node(&mut self, record: &Record) -> bool {
        match (&self.node, record.node.text()) {
            (None, Some(_)) if !self.all_nodes => {
                if !std::mem::replace(&mut self.node_missed, true) {
                    tracing::warn!(
                        "no audit file has told yet which node of the cluster this is, so the events of all nodes are taken from the API"
                    );
                }
                false
            }
            (Some(own), Some(node)) => !self.all_nodes && !node.is(own),
            _ => false,
        }
    }
}

fn deliver(lanes: &mut [Lane], item: &Item<'_>, long: bool) {
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

impl Lane {
    pub fn new(format: Format, inbox: Inbox, gate: Arc<Gate>, standing: HashSet<EventId>) -> Lane {
        let (to, holds) = (inbox.clone(), gate.clone());
        let out = Out::with_hand_on(move |bytes| {
            // What waits to be sent together with more is told that this one waits for it.
            send(&to, &holds, Batch::default());
            holds.room_for_part();
            let part = std::mem::replace(bytes, holds.buffer());
            let batch = Batch {
                number: None,
                bytes: part,
                events: Vec::new(),
                behind: false,
            };
            send(&to, &holds, batch);
        });
        Lane {
            format,
            out,
            events: Vec::new(),
            inbox,
            gate,
            standing,
        }
    }

    fn write(&mut self, id: EventId, time_ms: i64, long: bool, write: impl FnOnce(&Format, &mut Out)) {
        if !self.standing.is_empty() && self.standing.remove(&id) {
            return;
        }
        if long && !self.out.bytes.is_empty() {
            self.send(None);
        }
        self.out.in_parts = long;
        write(&self.format, &mut self.out);
        self.out.bytes.push(b'\n');
        let end = self.out.bytes.len() as u32;
        self.events.push(Written { end, id, time_ms });
    }

    fn send(&mut self, number: Option<u64>) {
        let batch = Batch {
            number,
            bytes: std::mem::replace(&mut self.out.bytes, self.gate.buffer()),
            events: std::mem::take(&mut self.events),
            behind: !self.standing.is_empty(),
        };
        send(&self.inbox, &self.gate, batch);
    }
}

fn send(inbox: &Inbox, gate: &Gate, batch: Batch) {
    gate.sent(batch.bytes.len());
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
        let gate = Arc::new(Gate::new(1024));
        let (messages, inbox) = channel();
        // On its way in an earlier batch.
        gate.sent(7);
        let of_lane = gate.clone();
        let writes = std::thread::spawn(move || {
            let (format, inbox) = (Format::Raw(Raw), Inbox::Thread(messages));
            let mut lane = Lane::new(format, inbox, of_lane, HashSet::new());
            lane.write(EventId(1), 0, true, |_, out| out.put_long(&"x".repeat(400_000)));
            lane.send(Some(0));
        });
        let next = || match inbox.recv_timeout(Duration::from_secs(60)) {
            Ok(Message::Batch(batch)) => batch,
            _ => panic!("nothing is sent"),
        };
        let hurry = next();
        assert_eq!((hurry.number, hurry.bytes.len()), (None, 0));
        gate.written(vec![b'x'; 7]);
        let part = next();
        assert_eq!((part.number, part.events.len()), (None, 0));
        let tail = next();
        assert_eq!((tail.number, tail.events.len()), (Some(0), 1));
        assert_eq!(part.bytes.len() + tail.bytes.len(), 400_001);
        writes.join().unwrap();
    }
}
