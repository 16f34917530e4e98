//! Starts threads whose end is reported to the supervisor.

use super::summary::SourceTotal;
use crate::checkpoint::StoreError;
use crate::sink::SinkError;
use crate::telemetry::heartbeat;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::mpsc::UnboundedSender;

/// A thread has ended.
pub(super) struct ThreadEnded {
    pub stage: String,
    pub what: EndedWith,
}

pub(super) enum EndedWith {
    Reader {
        source_index: usize,
        total: SourceTotal,
    },
    /// The request thread of an API. It ends with its reader or at a stop.
    Api,
    Sink(Result<(), SinkError>),
    /// The reader of standard output has closed it.
    StdoutClosed,
    Commit(Result<(), StoreError>),
    Panicked(String),
}

/// Starts a thread. Its end is reported, also after a panic.
pub(super) fn spawn(
    name: String,
    ended: &UnboundedSender<ThreadEnded>,
    work: impl FnOnce() -> EndedWith + Send + 'static,
) -> io::Result<()> {
    let (stage, ended) = (name.clone(), ended.clone());
    std::thread::Builder::new().name(name).spawn(move || {
        let what = catch_unwind(AssertUnwindSafe(|| heartbeat::stage(&stage, work)))
            .unwrap_or_else(|panic| EndedWith::Panicked(text(panic.as_ref())));
        // Fails only if the supervisor has ended, because the process is about to end.
        let _ = ended.send(ThreadEnded { stage, what });
    })?;
    Ok(())
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}
