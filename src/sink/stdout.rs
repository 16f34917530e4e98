//! The sink of type `stdout`: for a person, a pipe or a container's log. An event is delivered once it is
//! written to the pipe.

use super::{Message, Report, SinkError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::io::{self, StdoutLock, Write};
use std::sync::mpsc::Receiver;

pub(crate) fn run(messages: Receiver<Message>, report: impl Fn(Report)) -> Result<(), SinkError> {
    let mut times = Vec::new();
    // Locked from the first part of an event to its last, so that lines of two sources never mix.
    let mut lock: Option<StdoutLock<'static>> = None;
    while let Ok(message) = messages.recv() {
        let batch = match message {
            Message::Batch(batch) => batch,
            Message::Flush | Message::Committed { .. } | Message::Synced(_) => continue,
            Message::End => break,
        };
        crate::failpoint::hit("before_send");
        let mut stdout = lock.take().unwrap_or_else(|| io::stdout().lock());
        stdout.write_all(&batch.bytes).and_then(|()| stdout.flush()).map_err(sink_error)?;
        let end = batch.events.last().map_or(0, |event| event.end as usize);
        if end < batch.bytes.len() {
            lock = Some(stdout);
        }
        crate::failpoint::hit("after_send");
        times.extend(batch.events.iter().map(|event| event.time_ms));
        report(Report::Written(batch.bytes));
        if let Some(number) = batch.number {
            let events = times.len() as u64;
            report(Report::Acknowledged(std::mem::take(&mut times)));
            report(Report::Final { number, events, mark: None });
        }
    }
    Ok(())
}

fn sink_error(error: io::Error) -> SinkError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => SinkError::Closed,
        _ => error.into(),
    }
}

/// Blocks until the reader of the pipe has closed it. So `run … | head` ends with `head` instead of with the
/// next event. Returns `false` if standard output is not a pipe.
pub(crate) fn wait_closed() -> io::Result<bool> {
    let stdout = io::stdout();
    if !FileType::from_raw_mode(rustix::fs::fstat(&stdout)?.st_mode).is_fifo() {
        return Ok(false);
    }
    loop {
        // No events are requested: `poll` reports errors without being asked.
        let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut pipe, None) {
            Ok(_) if pipe[0].revents().contains(PollFlags::ERR) => return Ok(true),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether standard output is `/dev/null`. The runtime opens that for a process that was started with a
/// closed standard output.
pub(crate) fn is_null() -> bool {
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::fstat(io::stdout()).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == null
    })
}
