//! Standard output: for a person, a pipe or a container's log. Delivered is what the pipe has taken.

use super::{Message, Report, SinkError};
use std::io::{self, StdoutLock, Write};
use std::sync::mpsc::Receiver;

pub fn run(messages: Receiver<Message>, report: impl Fn(Report)) -> Result<(), SinkError> {
    let mut events = 0;
    // Held from the first part of an event to its last: two sources never mix within a line.
    let mut held: Option<StdoutLock<'static>> = None;
    while let Ok(Message::Batch(batch)) = messages.recv() {
        crate::failpoint::hit("before_send");
        let goes_on = held.is_some() && batch.bytes.is_empty();
        let mut stdout = held.take().unwrap_or_else(|| io::stdout().lock());
        stdout.write_all(&batch.bytes)?;
        stdout.flush()?;
        let end = batch.events.last().map_or(0, |event| event.end as usize);
        if end < batch.bytes.len() || goes_on {
            held = Some(stdout);
        }
        crate::failpoint::hit("after_send");
        events += batch.events.len() as u64;
        report(Report::Written(batch.bytes));
        if let Some(number) = batch.number {
            report(Report::Final {
                number,
                events: std::mem::take(&mut events),
                mark: None,
            });
        }
    }
    Ok(())
}
