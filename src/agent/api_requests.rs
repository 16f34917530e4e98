//! The thread that makes the requests of a source's API. A request may take a minute, and reading files must not wait
//! for it. So the reader thread sends the [`Api`] to this thread for each step and receives it back with the result.

use super::flow_control::FlowControl;
use super::threads::{EndedWith, ThreadEnded, spawn};
use crate::clock;
use crate::source::api::{Api, ApiStep, ApiTotal, Now};
use crate::telemetry::heartbeat;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedSender;

pub(super) struct ApiRequests {
    requests: Sender<Box<Api>>,
    responses: Receiver<(Box<Api>, ApiStep)>,
}

pub(super) fn now() -> Now {
    Now { monotonic: clock::monotonic(), ms: clock::now_ms() }
}

impl Steps {
    /// `None`: the source has been stopped.
    fn step(&self, api: &mut Api) -> Option<ApiStep> {
        crate::failpoint::hit("ask");
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.flow.stop_asked() => None,
                step = api.step(&now) => Some(step),
            }
        })
    }
}

impl ApiRequests {
    /// Starts the thread. Each response wakes the reader thread.
    pub(super) fn start(
        source: &str,
        flow: Arc<FlowControl>,
        ended: &UnboundedSender<ThreadEnded>,
    ) -> io::Result<ApiRequests> {
        // Cannot grow: a source has at most two APIs, and each is on one side of the channels only.
        let (requests, requested) = channel::<Box<Api>>();
        let (response, responses) = channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        spawn(format!("api {source}"), ended, move || {
            for mut api in requested {
                crate::failpoint::hit("ask");
                let step = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = flow.stop_requested() => None,
                        step = api.step(&now) => Some(step),
                    }
                });
                let Some(step) = step else { break };
                if response.send((api, step)).is_err() {
                    break;
                }
                flow.wake(false);
            }
            EndedWith::Api
        })?;
        Ok(ApiRequests { requests, responses })
    }

    /// Hands the API to the thread for its next step.
    pub(super) fn send(&self, api: Box<Api>) {
        // Fails only if the thread has ended, and that ends the process.
        let _ = self.requests.send(api);
    }

    pub(super) fn try_recv(&self) -> Option<(Box<Api>, ApiStep)> {
        self.responses.try_recv().ok()
    }
}

/// An API, and what the reader thread has to know while the request thread has it.
pub(super) struct PolledApi {
    /// `None` while the request thread has it.
    pub api: Option<Box<Api>>,
    /// When its next step is due.
    pub due: Instant,
    /// The time up to which it has been read, in milliseconds since 1970.
    pub cursor_ms: Option<i64>,
    /// Why the last step failed, if it did.
    pub problem: Option<String>,
    total: ApiTotal,
}

impl PolledApi {
    pub(super) fn new(api: Api) -> PolledApi {
        PolledApi {
            due: clock::monotonic(),
            cursor_ms: api.cursor_ms(),
            problem: None,
            total: api.total().clone(),
            api: Some(Box::new(api)),
        }
    }

    pub(super) fn returned(&mut self, api: Box<Api>, due: Option<Instant>) {
        self.due = due.unwrap_or_else(clock::monotonic);
        self.cursor_ms = api.cursor_ms();
        self.problem = api.health().map(str::to_owned);
        self.total = api.total().clone();
        self.api = Some(api);
    }

    /// Totals of this run, without the step in progress.
    pub(super) fn total(&self) -> &ApiTotal {
        &self.total
    }
}
