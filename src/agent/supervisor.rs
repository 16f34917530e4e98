//! Waits for signals and for the end of any thread, and shuts the other threads down in order.

use super::commit;
use super::lifecycle::RESTART;
use super::run_marker::Failure;
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

/// The reason of a stop after standard output was closed.
const STDOUT_CLOSED: &str = "standard output was closed by its reader";

/// How long an abandoned stop waits for the last commit.
const LAST_COMMIT: Duration = Duration::from_secs(1);

/// How long a stop waits for events of the agent itself, if nothing else is left.
const OWN_EVENTS_WAIT: Duration = Duration::from_secs(2);
/// How long the last commit may take then.
const OWN_EVENTS_COMMIT: Duration = Duration::from_secs(10);
/// How often that is checked, while it stops.
const OWN_EVENTS_CHECK: Duration = Duration::from_millis(100);

/// An orderly stop: after a signal, or because the next process has to continue.
#[derive(Default)]
struct Stop {
    /// Events that are not delivered by then are left to the next start.
    deadline: Option<Instant>,
    signalled: bool,
    /// When it began, if it has.
    begun: Option<Instant>,
}

impl Stop {
    /// Whether this signal is the first. The first one sets the deadline to a full `shutdown_timeout` from now, even if
    /// a stop without a signal has begun before.
    fn is_first_signal(&mut self, shutdown_timeout: Duration) -> bool {
        if std::mem::replace(&mut self.signalled, true) {
            return false;
        }
        self.begin(shutdown_timeout);
        true
    }

    fn begin(&mut self, shutdown_timeout: Duration) {
        let now = Instant::now();
        self.deadline = Some(now + shutdown_timeout);
        self.begun.get_or_insert(now);
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
                        stop.begin(shutdown_timeout);
                        let reason = if self.stdout_closed { STDOUT_CLOSED } else { RESTART };
                        self.flows.iter().for_each(|flow| flow.stop(reason));
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
                        self.flows.iter().for_each(|flow| flow.stop(&signal));
                    }
                },
                () = tokio::time::sleep(OWN_EVENTS_CHECK), if stop.begun.is_some() && self.readers_left == 0 => {
                    if self.sinks_left > 0 && self.waits_for_own_events_only(stop.begun) {
                        break self.finish_without_own_events().await;
                    }
                }
                () = tokio::time::sleep_until(at), if stop.deadline.is_some() => {
                    break self.abandon("the shutdown timeout is over").await;
                }
            }
        };
        log.write_rest();
        self.mark_end(code);
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

    /// Notes why the run fails.
    fn fail(&mut self, stage: &str, reason: &dyn std::fmt::Display) {
        self.failure = Some((Failure::Error, format!("{stage}: {reason}")));
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
                self.fail(&stage, &error);
                tracing::error!(stage, %error, "ending, because an operator must act; each start sends the event again");
                Some(exit::TRY_AGAIN)
            }
            EndedWith::Sink(Err(error)) => {
                self.fail(&stage, &error);
                tracing::error!(stage, %error, "a sink has failed; ending, to restart from the checkpoint");
                Some(exit::TRY_AGAIN)
            }
            EndedWith::Commit(Err(error)) => {
                self.fail(&stage, &error);
                tracing::error!(stage, %error, "positions cannot be stored; ending, to restart from the last checkpoint");
                Some(error.exit_code())
            }
            EndedWith::Panicked(reason) => {
                self.fail(&stage, &reason);
                tracing::error!(
                    stage,
                    reason,
                    "a stage has panicked; ending, to restart from the checkpoint"
                );
                Some(exit::INTERNAL)
            }
            EndedWith::Sink(Ok(())) | EndedWith::Commit(Ok(())) => {
                self.fail(&stage, &"it has ended");
                tracing::error!(stage, "a stage has ended that must not end");
                Some(exit::INTERNAL)
            }
        }
    }

    /// Whether nothing is left but events of the agent itself which are not going to be accepted soon.
    fn waits_for_own_events_only(&self, stop_begun: Option<Instant>) -> bool {
        let waited = stop_begun.is_some_and(|begun| begun.elapsed() >= OWN_EVENTS_WAIT);
        let mut left = self.sinks.iter().map(|sink| &sink.unfinished).filter(|sink| sink.others() > 0);
        // All other sinks have ended, so none is at work.
        left.clone().count() == self.sinks_left
            && left.all(|sink| !sink.has_awaited() && (waited || sink.is_failing()))
    }

    /// Commits what is final, which is all that was read.
    async fn finish_without_own_events(&mut self) -> u8 {
        match self.commit_within(OWN_EVENTS_COMMIT).await {
            true if self.restart_wanted || self.stdout_closed => exit::TRY_AGAIN,
            true => {
                tracing::debug!("an event about the agent was not delivered; the stop does not wait for it");
                exit::OK
            }
            false => {
                let reason = "the last positions could not be stored";
                self.failure = Some((Failure::Incomplete, reason.to_owned()));
                tracing::warn!("stopped, but {reason}; the next start delivers the last events again");
                exit::TRY_AGAIN
            }
        }
    }

    /// Leaves a note for the next run.
    fn mark_end(&self, code: u8) {
        let Some(marker) = &self.run_marker else { return };
        match &self.failure {
            Some((failure, reason)) => marker.set_failure(*failure, reason),
            None if [exit::OK, exit::TRY_AGAIN].contains(&code) => marker.end(),
            None => marker.set_failure(Failure::Error, "see the log"),
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

    /// Commits what is final. `false`: it could not, or not soon enough.
    async fn commit_within(&mut self, limit: Duration) -> bool {
        drop(self.commits.send(commit::CommitMessage::Finish));
        let last_commit = async {
            while let Some(ended) = self.ended.recv().await {
                if let EndedWith::Commit(result) = ended.what {
                    return result.is_ok();
                }
            }
            false
        };
        tokio::time::timeout(limit, last_commit).await.unwrap_or(false)
    }

    /// Commits what is final. The next start delivers the rest.
    async fn abandon(&mut self, reason: &str) -> u8 {
        let committed = self.commit_within(LAST_COMMIT).await;
        self.failure = Some((Failure::Incomplete, reason.to_owned()));
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
