//! Encodes the events of one source for one sink, and collects them into batches.

use super::flow_control::FlowControl;
use super::unfinished::Unfinished;
use crate::format::{EventBuffer, Format};
use crate::ledger::Entry;
use crate::notice::Notice;
use crate::record::EventId;
use crate::sink::{Batch, BatchEvent, HeaderFields, Inbox, Message};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An event of a longer record is sent in parts; the events before it in the batch are sent first.
pub(super) const LONG_RECORD_BYTES: usize = 64 * 1024;

pub struct SinkPipeline {
    format: Format,
    out: EventBuffer,
    events: Vec<BatchEvent>,
    inbox: Inbox,
    flow: Arc<FlowControl>,
    /// Events that the output contains after the checkpoint. Their records are replayed and must not be written again.
    already_in_output: HashMap<EventId, Entry>,
    /// The sink puts severity and action into a header.
    pub needs_header: bool,
    /// The sink gets the events about the life of the agent: see [`super::lifecycle`].
    pub heartbeat: bool,
    pub unfinished: Unfinished,
    /// Number of events in the batches that were sent.
    pub sent_events: Arc<AtomicU64>,
}

impl SinkPipeline {
    pub fn new(
        format: Format,
        inbox: Inbox,
        flow: Arc<FlowControl>,
        already_in_output: HashMap<EventId, Entry>,
    ) -> SinkPipeline {
        let (to, capacity) = (inbox.clone(), flow.clone());
        let out = EventBuffer::with_flush(move |bytes| {
            to.send(Message::Flush);
            capacity.wait_until_drained();
            let part = std::mem::replace(bytes, capacity.buffer());
            let batch = Batch { number: None, bytes: part, events: Vec::new(), keep_output_position: false };
            send(&to, &capacity, batch);
        });
        SinkPipeline {
            format,
            out,
            events: Vec::new(),
            inbox,
            flow,
            already_in_output,
            needs_header: false,
            heartbeat: false,
            unfinished: Unfinished::default(),
            sent_events: Arc::default(),
        }
    }

    /// Writes an event in the sink's format, unless the output has it already: then its entry is returned. `long`: it
    /// may be sent in parts.
    pub fn write(
        &mut self,
        (id, time_ms, header_fields): (EventId, i64, HeaderFields),
        long: bool,
        write: impl FnOnce(&Format, &mut EventBuffer),
    ) -> Option<Entry> {
        if !self.already_in_output.is_empty()
            && let Some(entry) = self.already_in_output.remove(&id)
        {
            return Some(entry);
        }
        if long && !self.out.bytes.is_empty() {
            self.send(None);
        }
        self.out.in_parts = long;
        write(&self.format, &mut self.out);
        self.out.bytes.push(b'\n');
        self.events.push(BatchEvent { end: self.out.bytes.len() as u32, id, time_ms, header_fields });
        None
    }

    /// Bytes of the current batch.
    pub fn pending_bytes(&self) -> u64 {
        self.out.bytes.len() as u64
    }

    /// Sends the current batch. `number`: see [`Batch::number`].
    pub fn send(&mut self, number: Option<u64>) {
        self.sent_events.fetch_add(self.events.len() as u64, Ordering::Relaxed);
        let batch = Batch {
            number,
            bytes: std::mem::replace(&mut self.out.bytes, self.flow.buffer()),
            events: std::mem::take(&mut self.events),
            keep_output_position: !self.already_in_output.is_empty(),
        };
        send(&self.inbox, &self.flow, batch);
    }

    /// Keeps an event about the agent itself for the status of the source.
    pub fn record(&self, notice: &Notice) {
        self.flow.health.record(notice);
    }

    /// Whether the output contains events that were not replayed yet.
    pub fn awaits_replay(&self) -> bool {
        !self.already_in_output.is_empty()
    }

    /// The events of the output that were not replayed, because their records no longer exist. They are not awaited any
    /// more.
    pub fn take_unreplayed(&mut self) -> HashMap<EventId, Entry> {
        std::mem::take(&mut self.already_in_output)
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
    fn a_long_event_makes_the_sink_send_what_it_holds() {
        let flow = Arc::new(FlowControl::new(1024));
        let (messages, inbox) = channel();
        // In flight in an earlier batch.
        flow.sent(7);
        let of_pipeline = flow.clone();
        let writes = std::thread::spawn(move || {
            let (format, inbox) = (Format::Raw(Raw), Inbox::Thread(messages));
            let mut pipeline = SinkPipeline::new(format, inbox, of_pipeline, HashMap::new());
            let event = (EventId(1), 0, HeaderFields::default());
            pipeline.write(event, true, |_, out| out.put_long(&"x".repeat(400_000)));
            pipeline.send(Some(0));
        });
        let next = || match inbox.recv_timeout(Duration::from_secs(60)) {
            Ok(Message::Batch(batch)) => batch,
            _ => panic!("nothing is sent"),
        };
        assert!(matches!(inbox.recv_timeout(Duration::from_secs(60)), Ok(Message::Flush)));
        flow.written(vec![b'x'; 7]);
        let part = next();
        assert_eq!((part.number, part.events.len()), (None, 0));
        let tail = next();
        assert_eq!((tail.number, tail.events.len()), (Some(0), 1));
        assert_eq!(part.bytes.len() + tail.bytes.len(), 400_001);
        writes.join().unwrap();
    }
}
