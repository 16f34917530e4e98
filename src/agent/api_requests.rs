//! The thread that sends the requests of a source's API. A request may take a minute, and the files must not wait for
//! it. The API object moves to this thread for each step and returns with the response.

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
    /// Each response wakes the reader thread of the source.
    pub(super) fn start(
        source: &str,
        flow: Arc<FlowControl>,
        ended: &UnboundedSender<ThreadEnded>,
    ) -> io::Result<ApiRequests> {
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
        // If the thread has ended, the process is shutting down.
        let _ = self.requests.send(api);
    }

    pub(super) fn answer(&self) -> Option<(Box<Api>, ApiStep)> {
        self.answers.try_recv().ok()
    }
}

/// An API, and what the reader needs to know while a request is in flight.
pub(super) struct PolledApi {
    /// `None` while it makes a step.
    pub api: Option<Box<Api>>,
    /// When its next step is due.
    pub due: Instant,
    /// How far it has been read.
    pub cursor_ms: Option<i64>,
    /// Why the last step failed, if it did.
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

    /// Totals of this run, without the step in flight.
    pub(super) fn total(&self) -> &ApiTotal {
        &self.total
    }
}
