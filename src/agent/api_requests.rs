//! Sends the requests of a source's API. A request may take a minute, and reading files must not wait for it. So with
//! files, the reader thread sends the [`Api`] to another thread for each step and receives it back with the result.
//! Without files the reader thread makes the steps itself: one thread then allocates and frees the pages, which saves
//! memory.

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

pub(super) enum ApiRequests {
    Thread { requests: Sender<Box<Api>>, responses: Receiver<(Box<Api>, ApiStep)> },
    Inline { steps: Steps, response: Option<(Box<Api>, ApiStep)> },
}

/// Makes steps until the source stops.
pub(super) struct Steps {
    runtime: Runtime,
    flow: Arc<FlowControl>,
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
                () = self.flow.stop_requested() => None,
                step = api.step(&now) => Some(step),
            }
        })
    }
}

impl ApiRequests {
    pub(super) fn inline(flow: Arc<FlowControl>) -> io::Result<ApiRequests> {
        Ok(ApiRequests::Inline { steps: steps(flow)?, response: None })
    }

    /// Starts the thread. Each response wakes the reader thread.
    pub(super) fn thread(
        source: &str,
        flow: Arc<FlowControl>,
        ended: &UnboundedSender<ThreadEnded>,
    ) -> io::Result<ApiRequests> {
        // Cannot grow: a source has at most two APIs, and each is on one side of the channels only.
        let (requests, requested) = channel::<Box<Api>>();
        let (response, responses) = channel();
        let steps = steps(flow.clone())?;
        spawn(format!("api {source}"), ended, move || {
            for mut api in requested {
                let Some(step) = steps.step(&mut api) else { break };
                if response.send((api, step)).is_err() {
                    break;
                }
                flow.wake(false);
            }
            EndedWith::Api
        })?;
        Ok(ApiRequests::Thread { requests, responses })
    }

    /// Makes the API's next step.
    pub(super) fn send(&mut self, mut api: Box<Api>) {
        match self {
            // Fails only if the thread has ended, and that ends the process.
            ApiRequests::Thread { requests, .. } => drop(requests.send(api)),
            ApiRequests::Inline { steps, response } => {
                // A server may be slow. Each request has its own timeouts.
                heartbeat::waiting();
                *response = steps.step(&mut api).map(|step| (api, step));
                heartbeat::working();
                steps.flow.wake(false);
            }
        }
    }

    pub(super) fn try_recv(&mut self) -> Option<(Box<Api>, ApiStep)> {
        match self {
            ApiRequests::Thread { responses, .. } => responses.try_recv().ok(),
            ApiRequests::Inline { response, .. } => response.take(),
        }
    }
}

fn steps(flow: Arc<FlowControl>) -> io::Result<Steps> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(Steps { runtime, flow })
}

/// An API, and what the reader thread has to know while the request thread has it.
pub(super) struct PolledApi {
    /// `None` while the request thread has it.
    pub api: Option<Box<Api>>,
    /// When its next step is due.
    pub due: Instant,
    /// The time up to which it has been read, in milliseconds since 1970.
    pub cursor_ms: Option<i64>,
    /// It has returned again everything that an earlier process delivered and did not checkpoint.
    pub has_replayed: bool,
    /// Why the last step failed, if it did.
    pub problem: Option<String>,
    total: ApiTotal,
}

impl PolledApi {
    pub(super) fn new(api: Api) -> PolledApi {
        PolledApi {
            due: clock::monotonic(),
            cursor_ms: api.cursor_ms(),
            has_replayed: false,
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
