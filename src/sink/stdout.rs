//! Standard output: for a person, a pipe or a container's log. Delivered is what the pipe has taken.

use super::{Message, Report};
use std::io::{self, Write};
use std::sync::mpsc::Receiver;

pub fn run(messages: Receiver<Message>, report: impl Fn(Report)) -> io::Result<()> {
    let mut events = 0;
    while let Ok(Message::Batch(batch)) = messages.recv() {
        crate::failpoint::hit("before_send");
        // One lock for a batch: two sources never mix within a line.
        let mut stdout = io::stdout().lock();
        stdout.write_all(&batch.bytes)?;
        stdout.flush()?;
        drop(stdout);
        crate::failpoint::hit("after_send");
        events += batch.ends.len() as u64;
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
