//! `--repair`: delivers what is missing in a sink, from the audit files that are still there.

use super::Reconciler;
use super::sources::each_file;
use crate::agent;
use crate::clock;
use crate::commands::verify::VerifyFailure;
use crate::config::{OnPoison, RemoteSinkConfig, SinkConfig, SinkKind, SourceConfig};
use crate::enrich::Enrichment;
use crate::evidence::export::{Export, FoundItem, Recogniser};
use crate::format::{Event, EventBuffer, Format, Origin, Taxonomy};
use crate::record::{EventId, Parsed, Scratch, parse};
use crate::sink::remote::{DeliverySettings, Refused};
use crate::sink::{self, Batch, BatchEvent, Message, Report, SinkError};
use crate::telemetry::chain;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use tokio::sync::mpsc::unbounded_channel;

/// How much is encoded before it is sent.
const ROUND_BYTES: usize = 8 << 20;
/// Length of a batch.
const BATCH_BYTES: usize = 1 << 20;

impl<W: Write> Reconciler<'_, W> {
    /// Delivers the events that the sink has not.
    pub(super) fn repair(&mut self, sink: &SinkConfig) -> Result<(), VerifyFailure> {
        let missing = std::mem::take(&mut self.missing);
        if missing.is_empty() {
            return Ok(());
        }
        let name = format!("sink {}", sink.name);
        let SinkKind::Remote(remote) = &sink.kind else {
            let text = "only the running agent may write to its output; nothing was repaired";
            self.output.not_checked(format!("{name}: {text}"));
            return Ok(());
        };
        let enrichment = Enrichment::gather(&self.config.enrich);
        let id = self.agent_id()?;
        let agent = agent::describe_agent(id, &enrichment);
        let mut repair = Repair { missing, delivered: 0, refused: 0, stopped: None };
        for source in &self.config.sources {
            let Some(files) = &source.files else { continue };
            let format = Format::new(sink.format, &agent::context(self.config, &agent, &enrichment, source));
            let mut encoder = RepairEncoder::new(format);
            let output = &mut self.output;
            each_file(
                files,
                || Recogniser::new(source.site.as_deref()),
                &mut |reason| output.failed(format!("{name}: {reason}")),
                &mut |recogniser, path, file| {
                    repair.read(path, file, recogniser, &mut encoder, (sink, remote, source))
                },
            )?;
            repair.send(&mut encoder, (sink, remote, source));
        }
        if let Some(result) = &mut self.result {
            result.missing = result.missing.saturating_sub(repair.delivered);
        }
        self.output.repaired(&name, &repair)?;
        Ok(())
    }

    /// As the ledger's checkpoints name it.
    fn agent_id(&self) -> Result<String, VerifyFailure> {
        let Some(ledger) = self.ledgers.first() else { return Ok(String::new()) };
        let notes = ledger.checkpoints()?;
        let origin = notes.last().and_then(|note| note.lines().next());
        Ok(origin.and_then(|origin| origin.split('/').nth(1)).unwrap_or_default().to_owned())
    }
}

/// What was repaired of a sink.
pub(super) struct Repair {
    /// Events that are not found yet.
    pub missing: HashSet<u128>,
    pub delivered: u64,
    pub refused: u64,
    /// Why the rest was not sent.
    pub stopped: Option<String>,
}

type Target<'a> = (&'a SinkConfig, &'a RemoteSinkConfig, &'a SourceConfig);

impl Repair {
    fn read(
        &mut self,
        path: &Path,
        file: std::fs::File,
        recogniser: &mut Recogniser,
        encoder: &mut RepairEncoder,
        target: Target,
    ) -> Result<(), VerifyFailure> {
        if self.missing.is_empty() || self.stopped.is_some() {
            return Ok(());
        }
        let path_json = serde_json::Value::from(path.to_string_lossy()).to_string();
        Export::default().read_each(path, file, recogniser, &mut |row, item| {
            if self.missing.remove(&row.id) {
                encoder.encode(EventId(row.id), item, &path_json);
                if encoder.bytes >= ROUND_BYTES {
                    self.send(encoder, target);
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Sends what was encoded.
    fn send(&mut self, encoder: &mut RepairEncoder, (sink, remote, source): Target) {
        encoder.end_batch();
        let batches = std::mem::take(&mut encoder.batches);
        encoder.bytes = 0;
        if batches.is_empty() || self.stopped.is_some() {
            return;
        }
        let settings = DeliverySettings {
            sink: sink.name.clone(),
            source: source.name.clone(),
            batch: remote.batch,
            concurrency: remote.concurrency,
            on_poison: OnPoison::Quarantine,
            once: true,
            quarantine_unproven: true,
        };
        let counts: Vec<u64> = batches.iter().map(|batch| batch.events.len() as u64).collect();
        let (messages, receiver) = unbounded_channel();
        for batch in batches {
            // The receiver exists, so the message is not lost.
            let _ = messages.send(Message::Batch(batch));
        }
        let _ = messages.send(Message::End);
        let (finals, refused) = (RefCell::new(Vec::new()), Cell::new(0));
        let report = |report: Report| {
            if let Report::Final { number, .. } = report {
                finals.borrow_mut().push(number as usize);
            }
        };
        // What is refused stays missing; the agent has it in quarantine if it was refused there before.
        let keep = |events: &[Refused]| {
            refused.set(refused.get() + events.len() as u64);
            Ok(())
        };
        let result = sink::deliver(remote.destination.clone(), settings, receiver, &report, &keep);
        let sent: u64 = finals.into_inner().iter().filter_map(|number| counts.get(*number)).sum();
        self.refused += refused.get();
        self.delivered += sent.saturating_sub(refused.get());
        self.stopped = match result {
            Ok(()) => None,
            Err(SinkError::GaveUp { reason }) => Some(reason),
            Err(error) => Some(chain(&error)),
        };
    }
}

/// Encodes records again.
struct RepairEncoder {
    format: Format,
    taxonomy: Taxonomy,
    scratch: Scratch,
    out: EventBuffer,
    events: Vec<BatchEvent>,
    batches: Vec<Batch>,
    /// Of all batches.
    bytes: usize,
}

impl RepairEncoder {
    fn new(format: Format) -> RepairEncoder {
        RepairEncoder {
            format,
            taxonomy: Taxonomy::default(),
            scratch: Scratch::default(),
            out: EventBuffer::new(),
            events: Vec::new(),
            batches: Vec::new(),
            bytes: 0,
        }
    }

    fn encode(&mut self, id: EventId, item: &FoundItem, path_json: &str) {
        let content = parse(item.bytes, &mut self.scratch);
        let now_ms = clock::now_ms();
        let time_ms = match &content {
            Parsed::Record(record) => record.time_ms,
            Parsed::Unreadable { .. } => None,
        };
        let origin = Origin::File { path_json, offset: item.offset, unterminated: false };
        let event = Event { content: &content, id, origin, self_poll: false, read_at_ms: now_ms };
        let before = self.out.bytes.len();
        self.format.write(&event, &mut self.out);
        self.out.bytes.push(b'\n');
        self.bytes += self.out.bytes.len() - before;
        self.events.push(BatchEvent {
            end: self.out.bytes.len() as u32,
            id,
            time_ms: time_ms.unwrap_or(now_ms),
            header_fields: agent::header_fields(&self.taxonomy, &content),
        });
        if self.out.bytes.len() >= BATCH_BYTES {
            self.end_batch();
        }
    }

    fn end_batch(&mut self) {
        if !self.events.is_empty() {
            self.batches.push(Batch {
                number: Some(self.batches.len() as u64),
                bytes: std::mem::take(&mut self.out.bytes),
                events: std::mem::take(&mut self.events),
                keep_output_position: false,
            });
        }
    }
}
