//! Encodes events in every sink's format, and sends them in batches together with their progress.

use super::commit::NewBatch;
use super::ledger_entry::{self, RecordPlace};
use super::sink_pipeline::{LONG_RECORD_BYTES, SinkPipeline};
use crate::clock;
use crate::format::{Event, Taxonomy};
use crate::ledger::Entry;
use crate::metrics::{SourceMetrics, seconds};
use crate::notice::Notice;
use crate::position::{Loss, Progress};
use crate::record::{Parsed, Text};
use crate::sink::{EventSeverity, HeaderFields};
use std::collections::HashMap;
use std::sync::mpsc::Sender;

/// Of one source.
pub struct Encoder {
    pipelines: Vec<SinkPipeline>,
    new_batches: Sender<NewBatch>,
    /// Number of the next batch.
    number: u64,
    /// Only if a sink needs header fields.
    taxonomy: Option<Taxonomy>,
    /// Of the next batch.
    entries: Vec<Entry>,
    metrics: SourceMetrics,
    /// The next batch has more than events of the agent itself that nobody waits for.
    is_awaited: bool,
    counted: Counted,
    pub events: u64,
}

/// What the next batch adds to the metrics.
#[derive(Default)]
struct Counted {
    file_events: u64,
    api_events: u64,
    agent_events: u64,
    unreadable: u64,
    newest_ms: Option<i64>,
}

impl Encoder {
    pub fn new(
        pipelines: Vec<SinkPipeline>,
        new_batches: Sender<NewBatch>,
        metrics: SourceMetrics,
    ) -> Encoder {
        let needs_header = pipelines.iter().any(|pipeline| pipeline.needs_header);
        Encoder {
            pipelines,
            new_batches,
            number: 0,
            taxonomy: needs_header.then(Taxonomy::default),
            entries: Vec::new(),
            metrics,
            is_awaited: false,
            counted: Counted::default(),
            events: 0,
        }
    }

    /// Encodes an event for each sink. `record_bytes`: length of the source record.
    pub fn encode(&mut self, event: &Event<'_>, place: RecordPlace, record_bytes: usize) {
        crate::failpoint::hit("encode");
        let time_ms = ledger_entry::time_ms(event.content);
        let header_fields = self.taxonomy.as_ref().map(|taxonomy| header_fields(taxonomy, event.content));
        let head = (event.id, time_ms.unwrap_or(event.read_at_ms), header_fields.unwrap_or_default());
        let long = record_bytes > LONG_RECORD_BYTES;
        for pipeline in &mut self.pipelines {
            pipeline.write(head, long, |format, out| format.write(event, out));
        }
        self.entries.push(ledger_entry::of_event(event, place, true));
        self.is_awaited = true;
        match place {
            RecordPlace::File { .. } => self.counted.file_events += 1,
            RecordPlace::Api { .. } => self.counted.api_events += 1,
        };
        self.counted.unreadable += u64::from(matches!(event.content, Parsed::Unreadable { .. }));
        self.counted.newest_ms = self.counted.newest_ms.max(time_ms);
        self.events += 1;
    }

    /// Records an event that is not to be delivered.
    pub fn leave_out(&mut self, event: &Event<'_>, place: RecordPlace) {
        self.entries.push(ledger_entry::of_event(event, place, false));
        self.is_awaited = true;
    }

    /// Records a byte range of a file that will never be delivered.
    pub fn record_loss(&mut self, loss: &Loss) {
        let Loss { at_ms, file, from, to, .. } = *loss;
        self.is_awaited = true;
        self.entries.extend(ledger_entry::of_loss(at_ms, file, from, to));
    }

    /// The entries of the next batch for the ledger.
    pub fn take_entries(&mut self) -> Vec<Entry> {
        let next = Vec::with_capacity(self.entries.len());
        std::mem::replace(&mut self.entries, next)
    }

    /// Encodes an event about the agent itself.
    pub fn encode_notice(&mut self, notice: &Notice) {
        self.encode_for(notice, |_| true);
        self.is_awaited = true;
    }

    /// Encodes an event about the agent itself for the sinks that `gets_it` selects. A stop does not wait until it is
    /// delivered.
    pub fn encode_for(&mut self, notice: &Notice, gets_it: impl Fn(&SinkPipeline) -> bool) {
        let head = (notice.id, notice.at_ms, HeaderFields::new(EventSeverity::Info, notice.action));
        if let Some(pipeline) = self.pipelines.first() {
            pipeline.record(notice);
        }
        let (mut in_output, mut sinks) = (None, 0);
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| gets_it(pipeline)) {
            in_output =
                in_output.or(pipeline.write(head, false, |format, out| format.write_notice(notice, out)));
            sinks += 1;
        }
        if sinks > 0 {
            let to_all = sinks == self.pipelines.len();
            // The message may have been another one before a kill.
            self.entries.push(in_output.unwrap_or_else(|| ledger_entry::of_notice(notice, to_all)));
            self.counted.agent_events += 1;
            self.events += 1;
        }
    }

    pub fn pipelines(&self) -> &[SinkPipeline] {
        &self.pipelines
    }

    /// Whether an output contains events that were not replayed yet.
    pub fn awaits_replay(&self) -> bool {
        self.pipelines.iter().any(SinkPipeline::awaits_replay)
    }

    /// The replay is over: see [`SinkPipeline::take_unreplayed`]. Those of the events that `admit` are recorded in the
    /// ledger. If events were still awaited, the batch lets the checkpoint store the length of the output, which it did
    /// not store during the replay.
    pub fn end_replay(&mut self, admit: impl Fn(&Entry) -> bool) {
        let unreplayed = self.pipelines.iter_mut().map(SinkPipeline::take_unreplayed);
        let unreplayed: Vec<Entry> = unreplayed.flat_map(HashMap::into_values).collect();
        if unreplayed.is_empty() {
            return;
        }
        tracing::info!(
            events = unreplayed.len(),
            "the output contains events whose records no longer exist; they count as delivered"
        );
        self.is_awaited = true;
        let entries = unreplayed.into_iter().filter(|entry| admit(entry)).collect();
        self.send(Progress { entries, ..Progress::default() }, 0);
    }

    /// Sends the batch to the sinks, and `progress` to the commit thread, which stores it once the batch is final.
    pub fn flush(&mut self, mut progress: Progress) {
        let pending = self.pipelines.iter().map(SinkPipeline::pending_bytes);
        let bytes = pending.max().unwrap_or(0);
        if progress.is_empty() && bytes == 0 {
            // What was left out is passed on later, with positions.
            self.is_awaited = false;
            return;
        }
        let entries = std::mem::take(&mut progress.entries);
        self.is_awaited |= !progress.is_empty();
        progress.entries = entries;
        self.send(progress, bytes);
    }

    fn send(&mut self, progress: Progress, bytes: u64) {
        self.count();
        // Fails only if the commit thread has ended, and that ends the process.
        let _ = self.new_batches.send(NewBatch { progress, bytes });
        let is_awaited = std::mem::take(&mut self.is_awaited);
        for pipeline in &mut self.pipelines {
            pipeline.unfinished.sent(self.number, is_awaited);
            pipeline.send(Some(self.number));
        }
        self.number += 1;
    }

    /// Adds what was encoded since the last batch to the metrics.
    fn count(&mut self) {
        let Counted { file_events, api_events, agent_events, unreadable, newest_ms } =
            std::mem::take(&mut self.counted);
        self.metrics.file_events.inc_by(file_events);
        self.metrics.api_events.inc_by(api_events);
        self.metrics.agent_events.inc_by(agent_events);
        self.metrics.unreadable_records.inc_by(unreadable);
        // A time in the future would hide that no event follows.
        let newest = newest_ms.map(|newest_ms| seconds(newest_ms.min(clock::now_ms())));
        if let Some(newest) = newest.filter(|newest| *newest > self.metrics.last_event.get()) {
            self.metrics.last_event.set(newest);
        }
    }
}

/// Severity and action, for sinks that put them into a header.
pub(crate) fn header_fields(taxonomy: &Taxonomy, content: &Parsed<'_>) -> HeaderFields {
    let Parsed::Record(record) = content else {
        return HeaderFields::new(EventSeverity::Warning, "");
    };
    let severity = match taxonomy.kind(record).outcome {
        Some("failure") => EventSeverity::Notice,
        _ => EventSeverity::Info,
    };
    let action = record.stable_action().map(Text::decoded);
    HeaderFields::new(severity, &action.unwrap_or_default())
}
