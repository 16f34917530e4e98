//! Encodes events in the format of each sink, and sends them in batches together with the progress they represent.

use super::commit::ToCommit;
use super::sink_pipeline::{LONG_RECORD_BYTES, SinkPipeline};
use crate::format::{Event, Taxonomy};
use crate::notice::Notice;
use crate::position::Progress;
use crate::record::{Parsed, Text};
use crate::sink::{EventSeverity, Label};
use std::sync::mpsc::Sender;

/// Of one source.
pub struct Encoder {
    stream: usize,
    pipelines: Vec<SinkPipeline>,
    commits: Sender<ToCommit>,
    /// Of the next batch.
    number: u64,
    /// Where a sink needs labels.
    taxonomy: Option<Taxonomy>,
    pub events: u64,
}

impl Encoder {
    pub fn new(stream: usize, pipelines: Vec<SinkPipeline>, commits: Sender<ToCommit>) -> Encoder {
        let needs_label = pipelines.iter().any(|pipeline| pipeline.needs_label);
        Encoder {
            stream,
            pipelines,
            commits,
            number: 0,
            taxonomy: needs_label.then(Taxonomy::default),
            events: 0,
        }
    }

    /// `record_bytes`: length of the original record.
    pub fn encode(&mut self, event: &Event<'_>, record_bytes: usize) {
        crate::failpoint::hit("encode");
        let time_ms = match event.content {
            Parsed::Record(record) => record.time_ms,
            Parsed::Unreadable { .. } => None,
        };
        let label = self.taxonomy.as_ref().map(|taxonomy| label(taxonomy, event.content));
        let head = (event.id, time_ms.unwrap_or(event.read_at_ms), label.unwrap_or_default());
        let long = record_bytes > LONG_RECORD_BYTES;
        for pipeline in &mut self.pipelines {
            pipeline.write(head, long, |format, out| format.write(event, out));
        }
        self.events += 1;
    }

    /// Encodes one of the agent's own events.
    pub fn encode_notice(&mut self, notice: &Notice) {
        let head = (notice.id, notice.at_ms, Label::new(EventSeverity::Info, notice.action));
        for pipeline in &mut self.pipelines {
            pipeline.write(head, false, |format, out| format.write_notice(notice, out));
        }
        self.events += 1;
    }

    /// Nothing more is replayed. Where events were still awaited, an empty batch lets the checkpoint store the length of
    /// the output, which it has not stored until now.
    pub fn clear_replayed(&mut self) {
        let awaited = self.pipelines.iter_mut().fold(false, |any, pipeline| pipeline.clear_replayed() | any);
        if awaited {
            self.send(Progress::default(), 0);
        }
    }

    /// Sends the encoded events to the sinks, and `progress` to the commit thread, which stores it once they are final.
    pub fn flush(&mut self, progress: Progress) {
        let waiting = self.pipelines.iter().map(SinkPipeline::waiting_bytes);
        let bytes = waiting.max().unwrap_or(0);
        if progress.is_empty() && bytes == 0 {
            return;
        }
        self.send(progress, bytes);
    }

    fn send(&mut self, progress: Progress, bytes: u64) {
        // If the commit thread has ended, the process is shutting down.
        let _ =
            self.commits.send(ToCommit::Sent { stream: self.stream, progress: Box::new(progress), bytes });
        for pipeline in &mut self.pipelines {
            pipeline.send(Some(self.number));
        }
        self.number += 1;
    }
}

fn label(taxonomy: &Taxonomy, content: &Parsed<'_>) -> Label {
    let Parsed::Record(record) = content else {
        return Label::new(EventSeverity::Warning, "");
    };
    let severity = match taxonomy.kind(record).outcome {
        Some("failure") => EventSeverity::Notice,
        _ => EventSeverity::Info,
    };
    let action = record.stable_action().map(Text::decoded);
    Label::new(severity, &action.unwrap_or_default())
}
