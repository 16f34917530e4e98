//! The thread that makes the requests of a source's API. A request may take a minute, and files must not wait for it:
//! the API goes to the thread for each step, and comes back with what the step brought.

use super::flow_control::FlowControl;
use super::threads::{EndedWith, ThreadEnded, spawn};
use crate::clock;
use crate::source::api::{Api, ApiStep, ApiTotal, Now};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

pub(super) struct ApiRequests {
    requests: Sender<Box<Api>>,
    answers: Receiver<(Box<Api>, ApiStep)>,
}

pub(super) fn now() -> Now {
    Now { monotonic: clock::monotonic(), ms: clock::now_ms() }
}

impl ApiRequests {
    /// Each answer wakes the thread of the source.
    pub(super) fn start(
        source: &str,
        flow: Arc<FlowControl>,
        ended: &UnboundedSender<ThreadEnded>,
    ) -> io::Result<ApiRequests> {
        // Cannot grow: there is one `Api`, and it is either here, in one of the channels, or at work.
        let (requests, requested) = channel::<Box<Api>>();
        let (answer, answers) = channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        spawn(format!("api {source}"), ended, move || {
            for mut api in requested {
                crate::failpoint::hit("ask");
                let step = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = flow.stop_asked() => None,
                        step = api.step(&now) => Some(step),
                    }
                });
                let Some(step) = step else { break };
                if answer.send((api, step)).is_err() {
                    break;
                }
                flow.wake(false);
            }
            EndedWith::Api
        })?;
        Ok(ApiRequests { requests, answers })
    }

    /// Makes the API's next step.
    pub(super) fn send(&self, api: Box<Api>) {
        // A thread that is gone has ended the process, or is about to.
        let _ = self.requests.send(api);
    }

    pub(super) fn answer(&self) -> Option<(Box<Api>, ApiStep)> {
        self.answers.try_recv().ok()
    }
}

/// An API, and what is known of it while it is with the thread.
pub(super) struct PolledApi {
    /// `None` while it makes a step.
    pub api: Option<Box<Api>>,
    /// When its next step is due.
    pub due: Instant,
    /// How far it has been read.
    pub cursor_ms: Option<i64>,
    /// Why it did not do its work in the last step, if so.
    pub trouble: Option<String>,
    total: ApiTotal,
}

impl PolledApi {
    pub(super) fn new(api: Api) -> PolledApi {
        PolledApi {
            due: clock::monotonic(),
            cursor_ms: api.cursor_ms(),
            trouble: None,
            total: api.total().clone(),
            api: Some(Box::new(api)),
        }
    }

    pub(super) fn came_back(&mut self, api: Box<Api>, due: Option<Instant>) {
        self.due = due.unwrap_or_else(clock::monotonic);
        self.cursor_ms = api.cursor_ms();
        self.trouble = api.health().map(str::to_owned);
        self.total = api.total().clone();
        self.api = Some(api);
    }

    /// What this run got from it, but for a step that it makes now.
    pub(super) fn total(&self) -> &ApiTotal {
        &self.total
    }
}
