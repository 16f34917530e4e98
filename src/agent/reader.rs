//! The thread of a source: reads, parses, and writes each record in every sink's format into that sink's batch.

use super::commit::ToCommit;
use super::gate::Gate;
use crate::clock;
use crate::format::{Format, Item, Origin, Out};
use crate::position::Progress;
use crate::record::twins::Twins;
use crate::record::{self, EventId, IdHasher, Parsed, Scratch};
use crate::sink::{Batch, Message};
use crate::source::files::frame::{Frame, Why};
use crate::source::files::wake::DirectoryWatch;
use crate::source::files::{FileTotal, Files, Found, Turn};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Without notification this is how late an event may be found.
const SWEEP_WITHOUT_NOTIFICATION: Duration = Duration::from_secs(1);
/// While lines keep coming they are taken together, this many milliseconds' worth; the first after a pause goes at once.
const COALESCE: Duration = Duration::from_millis(10);
/// An event of a longer line is handed on in parts; what stands before it in the batch goes first.
const LONG_LINE_BYTES: usize = 64 * 1024;

pub struct Reader {
    pub stream: usize,
    pub files: Files,
    pub gate: Arc<Gate>,
    pub commits: Sender<ToCommit>,
    pub watch: Option<DirectoryWatch>,
    pub live: UnboundedSender<Vec<PathBuf>>,
    pub sweep_interval: Duration,
    /// End when everything that is there now has been read.
    pub once: bool,
}

/// One sink of a source.
pub struct Lane {
    format: Format,
    out: Out,
    ends: Vec<u32>,
    messages: Sender<Message>,
    gate: Arc<Gate>,
    /// Events that already stand in the output: they were written after the checkpoint and are told again now.
    standing: HashSet<EventId>,
}

/// What a reader has done, for the summary of a run.
#[derive(Debug, Default)]
pub struct Read {
    pub files: Vec<FileTotal>,
    pub events: u64,
    pub unreadable: u64,
    pub trouble: Option<String>,
}

/// What turns records into batches of events.
pub struct Stage {
    lanes: Vec<Lane>,
    ids: IdHasher,
    twins: Vec<Twins>,
    scratch: Scratch,
    read_at_ms: i64,
    events: u64,
    unreadable: u64,
}

impl Lane {
    pub fn new(
        format: Format,
        messages: Sender<Message>,
        gate: Arc<Gate>,
        standing: HashSet<EventId>,
    ) -> Lane {
        let (to, holds) = (messages.clone(), gate.clone());
        let out = Out::with_hand_on(move |bytes| {
            holds.room_for_part();
            let part = std::mem::replace(bytes, holds.buffer());
            send(
                &to,
                &holds,
                Batch {
                    number: None,
                    bytes: part,
                    ends: Vec::new(),
                    behind: false,
                },
            );
        });
        Lane {
            format,
            out,
            ends: Vec::new(),
            messages,
            gate,
            standing,
        }
    }

    fn write(&mut self, item: &Item<'_>, long: bool) {
        if !self.standing.is_empty() && self.standing.remove(&item.id) {
            return;
        }
        if long && !self.out.bytes.is_empty() {
            self.send(None);
        }
        self.out.in_parts = long;
        self.format.write(item, &mut self.out);
        self.out.bytes.push(b'\n');
        self.ends.push(self.out.bytes.len() as u32);
    }

    fn send(&mut self, number: Option<u64>) {
        let bytes = std::mem::replace(&mut self.out.bytes, self.gate.buffer());
        send(
            &self.messages,
            &self.gate,
            Batch {
                number,
                bytes,
                ends: std::mem::take(&mut self.ends),
                behind: !self.standing.is_empty(),
            },
        );
    }
}

fn send(messages: &Sender<Message>, gate: &Gate, batch: Batch) {
    gate.sent(batch.bytes.len());
    // A sink that is gone has ended the process, or is about to.
    let _ = messages.send(Message::Batch(batch));
}

impl Reader {
    /// Reads until stopped, or with `once` until nothing more is there.
    pub fn run(mut self, mut stage: Stage) -> Read {
        let mut live = Vec::new();
        let mut next_sweep = clock::monotonic();
        let mut last_event: Option<Instant> = None;
        let mut number = 0;
        while !self.gate.stopped() {
            let now = clock::monotonic();
            if self.gate.take_sweep() || now >= next_sweep {
                self.files.sweep(now, clock::now_ms());
                next_sweep = now + self.follow(&mut live);
                self.hand_over(&mut stage, &mut number);
            }
            if !self.gate.room(next_sweep) {
                continue;
            }
            let now = clock::monotonic();
            let before = stage.events;
            stage.read_at_ms = clock::now_ms();
            let (now_ms, once) = (stage.read_at_ms, self.once);
            let turn = self.files.read(now, now_ms, once, &mut |found| stage.take(found));
            let came = stage.events - before;
            self.hand_over(&mut stage, &mut number);
            match turn {
                Turn::More if came > 0 => last_event = Some(now),
                Turn::More => {}
                Turn::Idle | Turn::Until(_) if self.once && self.drained() => break,
                Turn::Idle if last_event.is_some_and(|last| now.duration_since(last) < 2 * COALESCE) => {
                    self.gate.rest(now + COALESCE);
                }
                Turn::Idle => {
                    if self.files.caught_up() {
                        // Events that stand in an output and were not told again: their file is gone.
                        stage.lanes.iter_mut().for_each(|lane| lane.standing.clear());
                    }
                    self.gate.sleep(next_sweep);
                }
                Turn::Until(at) => self.gate.sleep(at.min(next_sweep)),
            }
        }
        Read {
            files: self.files.totals(),
            events: stage.events,
            unreadable: stage.unreadable,
            trouble: self.files.health().map(str::to_owned),
        }
    }

    /// Whether nothing more is to be had now.
    fn drained(&self) -> bool {
        let read = self.files.caught_up() && !self.files.rest_waits();
        read || self.files.health().is_some()
    }

    /// Watches what the sweep found; returns how long until the next one.
    fn follow(&mut self, live: &mut Vec<PathBuf>) -> Duration {
        let Some(watch) = &mut self.watch else {
            return self.sweep_interval.min(SWEEP_WITHOUT_NOTIFICATION);
        };
        let watched = watch.set(self.files.watched());
        let now_live = self.files.live();
        if watched && now_live != *live {
            // Nobody to tell means that the process is about to end.
            let _ = self.live.send(now_live.clone());
            *live = now_live;
        }
        if watched {
            self.sweep_interval
        } else {
            self.sweep_interval.min(SWEEP_WITHOUT_NOTIFICATION)
        }
    }

    /// Sends what was read to the sinks, and what that means for the position to the checkpoint.
    fn hand_over(&mut self, stage: &mut Stage, number: &mut u64) {
        let progress: Progress = self.files.progress();
        let bytes = stage
            .lanes
            .iter()
            .map(|lane| lane.out.bytes.len() as u64)
            .max()
            .unwrap_or(0);
        if progress.is_empty() && bytes == 0 {
            return;
        }
        let sent = ToCommit::Sent {
            stream: self.stream,
            progress,
            bytes,
        };
        // A commit thread that is gone has ended the process, or is about to.
        let _ = self.commits.send(sent);
        for lane in &mut stage.lanes {
            lane.send(Some(*number));
        }
        *number += 1;
    }
}

impl Stage {
    pub fn new(lanes: Vec<Lane>, ids: IdHasher) -> Stage {
        Stage {
            lanes,
            ids,
            twins: Vec::new(),
            scratch: Scratch::default(),
            read_at_ms: 0,
            events: 0,
            unreadable: 0,
        }
    }

    fn take(&mut self, found: Found<'_>) {
        crate::failpoint::hit("decode");
        let malformed;
        let (parsed, offset, long) = match found.frame {
            Frame::Line { body, offset } => (
                record::parse(body, &mut self.scratch),
                offset,
                body.len() > LONG_LINE_BYTES,
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
                malformed = format!("{what}: {bytes} bytes at offset {offset}, xxh3 {hash:016x}");
                (
                    Parsed::Unreadable {
                        error: malformed,
                        bytes: prefix,
                        whole_hash: Some(u128::from(hash)),
                    },
                    offset,
                    false,
                )
            }
        };
        let id = self.ids.id(&parsed);
        while self.twins.len() <= found.folder {
            self.twins.push(Twins::default());
        }
        let id = id.twin(self.twins[found.folder].number(id, found.at));
        if found.replayed {
            return;
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
        self.events += 1;
        crate::failpoint::hit("encode");
        let origin = Origin::File {
            path_json: found.path_json,
            offset,
            unterminated: found.unterminated,
        };
        let item = Item {
            content: &parsed,
            id,
            origin,
            read_at_ms: self.read_at_ms,
        };
        for lane in &mut self.lanes {
            lane.write(&item, long);
        }
    }
}
