//! Builds the stages, joins them, watches over them, and drains them in order. The only place that knows them all.
//!
//! Threads of one source: a reader, and one for each sink. One thread commits for all. This thread waits for signals
//! and for the end of any of them. Whatever ends unexpectedly ends the process: it is making progress, visibly
//! degraded, or gone.

mod alongside;
mod build;
mod commit;
mod encoder;
mod fallback;
mod flow_control;
mod poller;
mod reader;
mod service;
mod signals;
mod sinks;

pub use commit::ToCommit;
pub use encoder::{Encoder, SinkPipeline};
pub use flow_control::FlowControl;
pub use poller::process_step;
pub use reader::Read;

use crate::checkpoint::StoreError;
use crate::config::Config;
use crate::exit;
use crate::sink::{Inbox, Message, SinkError};
use crate::telemetry::heartbeat;
use crate::telemetry::log::LogGuard;
use service::Service;
use signals::{Meaning, Received};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

/// How long an abandoned stop waits for the last commit.
const LAST_COMMIT: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot open the output `{path}` of sink `{sink}`")]
    Output { sink: String, path: String, source: io::Error },
    #[error("cannot start")]
    Start(#[from] io::Error),
}

impl AgentError {
    pub fn exit_code(&self) -> u8 {
        match self {
            AgentError::Store(error) => error.exit_code(),
            AgentError::Output { .. } | AgentError::Start(_) => exit::TRY_AGAIN,
        }
    }
}

/// What a run has done, and how it ended.
pub struct Summary {
    pub sources: Vec<(String, Read)>,
    pub sinks: Vec<Delivered>,
    pub exit_code: u8,
}

/// What became of one source's events at one sink.
pub struct Delivered {
    pub sink: String,
    pub source: String,
    pub events: u64,
    /// Refused, and put into quarantine.
    pub quarantined: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// End when everything that is there now is delivered.
    pub once: bool,
    /// Change neither state nor sink; print instead.
    pub dry_run: bool,
}

/// The stages of a running agent.
struct Running {
    gates: Vec<Arc<FlowControl>>,
    sinks: Vec<SinkThread>,
    readers: Vec<(String, Option<Read>)>,
    commits: Sender<commit::ToCommit>,
    ended: UnboundedReceiver<ThreadEnded>,
    readers_left: usize,
    sinks_left: usize,
    mode: Mode,
    /// After an orderly end the next process is to go on.
    restart_wanted: bool,
    /// Nobody reads standard output any more.
    closed: bool,
    state_dir: PathBuf,
}

struct SinkThread {
    sink: String,
    source: String,
    inbox: Inbox,
    /// Events that are final, those in quarantine among them.
    delivered: Arc<AtomicU64>,
    quarantined: Arc<AtomicU64>,
}

impl SinkThread {
    fn delivered(self) -> Delivered {
        let quarantined = self.quarantined.load(Ordering::Relaxed);
        Delivered {
            sink: self.sink,
            source: self.source,
            events: self.delivered.load(Ordering::Relaxed).saturating_sub(quarantined),
            quarantined,
        }
    }
}

/// A thread has come to its end.
struct ThreadEnded {
    stage: String,
    what: EndedWith,
}

enum EndedWith {
    Reader {
        stream: usize,
        read: io::Result<Read>,
    },
    /// The API beside files: with its reader, or with a stop.
    Api,
    Sink(Result<(), SinkError>),
    /// Nobody reads standard output any more.
    StdoutClosed,
    Commit(Result<(), StoreError>),
    Panicked(String),
}

/// Runs until a signal stops it, or with `once` until everything is delivered. What the log holds back is
/// written every few seconds, and before the last line.
pub fn run(config: &Config, mode: Mode, log: &LogGuard) -> Result<Summary, AgentError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything is changed: from here on a stop is orderly.
        let received = signals::listen()?;
        let running = build::build(config, mode)?;
        Ok(running.supervise(config.shutdown_timeout, received, log).await)
    })
}

/// How a run comes to its end: by a signal, or by itself for another process to go on.
#[derive(Default)]
struct Stop {
    /// When what is not delivered by then is left to the next start.
    deadline: Option<Instant>,
    asked: bool,
}

impl Stop {
    /// Whether this signal is the first, which has the whole `shutdown_timeout` whatever came before it.
    fn is_asked_first(&mut self, shutdown_timeout: Duration) -> bool {
        if std::mem::replace(&mut self.asked, true) {
            return false;
        }
        self.deadline = Some(Instant::now() + shutdown_timeout);
        true
    }
}

impl Running {
    async fn supervise(
        mut self,
        shutdown_timeout: Duration,
        mut received: UnboundedReceiver<Received>,
        log: &LogGuard,
    ) -> Summary {
        let mut stop = Stop::default();
        let mut service = Service::from_env();
        let mut tick_at = Instant::now();
        let code = loop {
            let at = stop.deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                () = tokio::time::sleep_until(tick_at) => {
                    log.write_due();
                    tick_at = Instant::now() + service.tick(&self);
                }
                ended = self.ended.recv() => match ended.map(|ended| self.note(ended)) {
                    Some(None) if (self.restart_wanted || self.closed) && stop.deadline.is_none() => {
                        stop.deadline = Some(Instant::now() + shutdown_timeout);
                        self.gates.iter().for_each(|flow| flow.stop());
                    }
                    Some(None) => {}
                    Some(Some(code)) => break code,
                    None => break exit::INTERNAL,
                },
                Some(Received { name: signal, meaning }) = received.recv() => match meaning {
                    // Its name is in the message, or the second signal would count as the first one repeated.
                    Meaning::Nothing => tracing::warn!(
                        "{signal} changes nothing: no file is reopened and no configuration is read again; restart the agent for that"
                    ),
                    Meaning::Hangup if stop.asked => {}
                    Meaning::Stop | Meaning::Hangup => {
                        if !stop.is_asked_first(shutdown_timeout) {
                            break self.abandon("stopped a second time").await;
                        }
                        if self.mode.dry_run {
                            tracing::info!(signal, ?shutdown_timeout, "stopping: printing what has been read");
                        } else {
                            tracing::info!(signal, ?shutdown_timeout, "stopping: delivering what has been read");
                        }
                        service.stopping();
                        self.restart_wanted = false;
                        self.gates.iter().for_each(|flow| flow.stop());
                    }
                },
                () = tokio::time::sleep_until(at), if stop.deadline.is_some() => {
                    break self.abandon("the shutdown timeout is over").await;
                }
            }
        };
        log.write_rest();
        if stop.deadline.is_some() && code == exit::OK {
            if self.mode.dry_run {
                tracing::info!(
                    "stopped: everything that was read is printed; nothing was delivered or stored"
                );
            } else {
                tracing::info!("stopped: everything that was read is delivered and checkpointed");
            }
        }
        Summary {
            sources: self.readers.into_iter().map(|(name, read)| (name, read.unwrap_or_default())).collect(),
            sinks: self.sinks.into_iter().map(SinkThread::delivered).collect(),
            // What is there was not read to its end, perhaps.
            exit_code: match code {
                exit::OK if self.mode.once && stop.asked => exit::TRY_AGAIN,
                code => code,
            },
        }
    }

    /// Takes note of the end of a stage, ends the next one in order, and says the exit code when that was the last.
    fn note(&mut self, ended: ThreadEnded) -> Option<u8> {
        let stage = ended.stage;
        match ended.what {
            EndedWith::Reader { read: Err(error), .. } => {
                tracing::error!(stage, %error, "a source cannot be read; ending, to start again from the checkpoint");
                Some(exit::TRY_AGAIN)
            }
            EndedWith::Reader { stream, read: Ok(read) } => {
                if read.restart_wanted {
                    tracing::warn!(
                        stage,
                        trouble = read.trouble,
                        "the directory may be there and out of this process's sight; ending, for the next one to look"
                    );
                    self.restart_wanted = true;
                }
                self.readers[stream].1 = Some(read);
                self.readers_left -= 1;
                if self.readers_left == 0 {
                    self.sinks.iter().for_each(|sink| sink.inbox.send(Message::End));
                }
                self.finish_behind_all();
                None
            }
            EndedWith::Api => None,
            EndedWith::Sink(Ok(())) if self.readers_left == 0 => {
                self.sinks_left -= 1;
                self.finish_behind_all();
                None
            }
            EndedWith::StdoutClosed => {
                self.note_closed();
                None
            }
            // No failure: the others deliver what has been read, and what was not written here is for the next start.
            EndedWith::Sink(Err(SinkError::Closed)) => {
                self.note_closed();
                self.sinks_left -= 1;
                self.finish_behind_all();
                None
            }
            EndedWith::Commit(Ok(())) if self.readers_left == 0 && self.sinks_left == 0 => {
                Some(if self.restart_wanted || self.closed { exit::TRY_AGAIN } else { exit::OK })
            }
            EndedWith::Sink(Err(error @ SinkError::Poison { .. })) => {
                tracing::error!(stage, %error, "ending, for a person to look; each start tries it again");
                Some(exit::TRY_AGAIN)
            }
            EndedWith::Sink(Err(error)) => {
                tracing::error!(stage, %error, "a sink has failed; ending, to start again from the checkpoint");
                Some(exit::TRY_AGAIN)
            }
            EndedWith::Commit(Err(error)) => {
                tracing::error!(stage, %error, "positions cannot be stored; ending, to start again from the last one");
                Some(error.exit_code())
            }
            EndedWith::Panicked(reason) => {
                tracing::error!(
                    stage,
                    reason,
                    "a stage has failed; ending, to start again from the checkpoint"
                );
                Some(exit::INTERNAL)
            }
            EndedWith::Sink(Ok(())) | EndedWith::Commit(Ok(())) => {
                tracing::error!(stage, "a stage has ended that must not end");
                Some(exit::INTERNAL)
            }
        }
    }

    fn finish_behind_all(&self) {
        if self.readers_left == 0 && self.sinks_left == 0 {
            drop(self.commits.send(commit::ToCommit::Finish));
        }
    }

    fn note_closed(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            tracing::info!("standard output was closed by its reader; stopping");
        }
    }

    /// Commits what is final and leaves the rest to the next start.
    async fn abandon(&mut self, reason: &str) -> u8 {
        drop(self.commits.send(commit::ToCommit::Finish));
        let last_commit = async {
            while let Some(ended) = self.ended.recv().await {
                if let EndedWith::Commit(result) = ended.what {
                    return result.is_ok();
                }
            }
            false
        };
        let committed = tokio::time::timeout(LAST_COMMIT, last_commit).await.unwrap_or(false);
        if self.mode.dry_run {
            tracing::warn!(reason, "stopped before everything was printed");
        } else {
            tracing::warn!(
                reason,
                committed,
                "stopped before everything was delivered; the next start delivers it"
            );
        }
        exit::TRY_AGAIN
    }
}

/// Starts a thread whose end, whatever its manner, is told.
fn spawn(
    name: String,
    ended: &UnboundedSender<ThreadEnded>,
    work: impl FnOnce() -> EndedWith + Send + 'static,
) -> io::Result<()> {
    let (stage, ended) = (name.clone(), ended.clone());
    std::thread::Builder::new().name(name).spawn(move || {
        let what = catch_unwind(AssertUnwindSafe(|| heartbeat::stage(&stage, work)))
            .unwrap_or_else(|panic| EndedWith::Panicked(text(panic.as_ref())));
        // Nobody listens any more when the process is about to end.
        let _ = ended.send(ThreadEnded { stage, what });
    })?;
    Ok(())
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that was about to start anew has its whole time at the first signal, and is abandoned at the second.
    #[test]
    fn f52_the_first_signal_is_no_second_one() {
        let shutdown_timeout = Duration::from_secs(3600);
        let soon = Instant::now() + Duration::from_secs(1);
        for deadline in [None, Some(soon)] {
            let mut stop = Stop { deadline, ..Stop::default() };
            assert!(stop.is_asked_first(shutdown_timeout));
            assert!(stop.deadline.is_some_and(|at| at > soon));
            assert!(!stop.is_asked_first(shutdown_timeout));
        }
    }
}
