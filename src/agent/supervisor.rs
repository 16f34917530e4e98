//! Waits for signals and for the end of any thread, and shuts the other threads down in order.

use super::commit;
use super::running::{Running, SinkThread};
use super::service::Service;
use super::signals::{Meaning, Received};
use super::summary::Summary;
use super::threads::{EndedWith, ThreadEnded};
use crate::exit;
use crate::sink::{Message, SinkError};
use crate::telemetry::log::LogGuard;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

/// How long an abandoned stop waits for the last commit.
const LAST_COMMIT: Duration = Duration::from_secs(1);

/// An orderly stop: after a signal, or because the next process has to continue.
#[derive(Default)]
struct Stop {
    /// Events that are not delivered by then are left to the next start.
    deadline: Option<Instant>,
    signalled: bool,
}

impl Stop {
    /// Whether this signal is the first. The first one sets the deadline to a full `shutdown_timeout` from now, even if
    /// a stop without a signal has begun before.
    fn is_first_signal(&mut self, shutdown_timeout: Duration) -> bool {
        if std::mem::replace(&mut self.signalled, true) {
            return false;
        }
        self.deadline = Some(Instant::now() + shutdown_timeout);
        true
    }
}

impl Running {
    pub(super) async fn supervise(
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
                    (self.on_tick)();
                    tick_at = Instant::now() + service.tick(&self);
                }
                ended = self.ended.recv() => match ended.map(|ended| self.handle_ended(ended)) {
                    Some(None) if (self.restart_wanted || self.stdout_closed) && stop.deadline.is_none() => {
                        stop.deadline = Some(Instant::now() + shutdown_timeout);
                        self.flows.iter().for_each(|flow| flow.stop());
                    }
                    Some(None) => {}
                    Some(Some(code)) => break code,
                    None => break exit::INTERNAL,
                },
                Some(Received { name: signal, meaning }) = received.recv() => match meaning {
                    // The name is part of the message text, or the log would suppress a second signal as a repeat.
                    Meaning::Nothing => tracing::warn!(
                        "{signal} changes nothing: no file is reopened and no configuration is read again; restart the agent for that"
                    ),
                    Meaning::Hangup if stop.signalled => {}
                    Meaning::Stop | Meaning::Hangup => {
                        if !stop.is_first_signal(shutdown_timeout) {
                            break self.abandon("stopped a second time").await;
                        }
                        if self.mode.dry_run {
                            tracing::info!(signal, ?shutdown_timeout, "stopping: printing what has been read");
                        } else {
                            tracing::info!(signal, ?shutdown_timeout, "stopping: delivering what has been read");
                        }
                        service.stopping();
                        self.restart_wanted = false;
                        self.flows.iter().for_each(|flow| flow.stop());
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
            sources: self
                .readers
                .into_iter()
                .map(|(name, total)| (name, total.unwrap_or_default()))
                .collect(),
            sinks: self.sinks.into_iter().map(SinkThread::delivered).collect(),
            // A run that was interrupted may not have read everything.
            exit_code: match code {
                exit::OK if self.mode.once && stop.signalled => exit::TRY_AGAIN,
                code => code,
            },
        }
    }

    /// Handles the end of a thread: asks the next stage to end, and returns the exit code if this was the last one.
    fn handle_ended(&mut self, ended: ThreadEnded) -> Option<u8> {
        let stage = ended.stage;
        match ended.what {
            EndedWith::Reader { source_index, total } => {
                if total.restart_wanted {
                    tracing::warn!(
                        stage,
                        problem = total.problem,
                        "the directory may exist outside this process's mount namespace; ending, so that a new process can see it"
                    );
                    self.restart_wanted = true;
                }
                self.readers[source_index].1 = Some(total);
                self.readers_left -= 1;
                if self.readers_left == 0 {
                    self.sinks.iter().for_each(|sink| sink.inbox.send(Message::End));
                }
                self.finish_commits_when_drained();
                None
            }
            EndedWith::Api => None,
            EndedWith::Sink(Ok(())) if self.readers_left == 0 => {
                self.sinks_left -= 1;
                self.finish_commits_when_drained();
                None
            }
            EndedWith::StdoutClosed => {
                self.handle_stdout_closed();
                None
            }
            // Not a failure: the other sinks deliver what has been read. This sink gets the rest after the next start.
            EndedWith::Sink(Err(SinkError::Closed)) => {
                self.handle_stdout_closed();
                self.sinks_left -= 1;
                self.finish_commits_when_drained();
                None
            }
            EndedWith::Commit(Ok(())) if self.readers_left == 0 && self.sinks_left == 0 => {
                Some(if self.restart_wanted || self.stdout_closed { exit::TRY_AGAIN } else { exit::OK })
            }
            EndedWith::Sink(Err(error @ SinkError::Poison { .. })) => {
                tracing::error!(stage, %error, "ending, because an operator must act; each start sends the event again");
                Some(exit::TRY_AGAIN)
            }
            EndedWith::Sink(Err(error)) => {
                tracing::error!(stage, %error, "a sink has failed; ending, to restart from the checkpoint");
                Some(exit::TRY_AGAIN)
            }
            EndedWith::Commit(Err(error)) => {
                tracing::error!(stage, %error, "positions cannot be stored; ending, to restart from the last checkpoint");
                Some(error.exit_code())
            }
            EndedWith::Panicked(reason) => {
                tracing::error!(
                    stage,
                    reason,
                    "a stage has panicked; ending, to restart from the checkpoint"
                );
                Some(exit::INTERNAL)
            }
            EndedWith::Sink(Ok(())) | EndedWith::Commit(Ok(())) => {
                tracing::error!(stage, "a stage has ended that must not end");
                Some(exit::INTERNAL)
            }
        }
    }

    fn finish_commits_when_drained(&self) {
        if self.readers_left == 0 && self.sinks_left == 0 {
            drop(self.commits.send(commit::CommitMessage::Finish));
        }
    }

    fn handle_stdout_closed(&mut self) {
        if !std::mem::replace(&mut self.stdout_closed, true) {
            tracing::info!("standard output was closed by its reader; stopping");
        }
    }

    /// Commits what is final. The next start delivers the rest.
    async fn abandon(&mut self, reason: &str) -> u8 {
        drop(self.commits.send(commit::CommitMessage::Finish));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The first signal sets a full deadline even if a restart was pending. Only the second one abandons the stop.
    #[test]
    fn f52_the_first_signal_is_no_second_one() {
        let shutdown_timeout = Duration::from_secs(3600);
        let soon = Instant::now() + Duration::from_secs(1);
        for deadline in [None, Some(soon)] {
            let mut stop = Stop { deadline, ..Stop::default() };
            assert!(stop.is_first_signal(shutdown_timeout));
            assert!(stop.deadline.is_some_and(|at| at > soon));
            assert!(!stop.is_first_signal(shutdown_timeout));
        }
    }
}
