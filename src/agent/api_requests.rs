//! Sends the requests of a source's API. A request may take a minute, and files must not wait for it: with files, the API
//! object moves to a thread of its own for each step and returns with the response. Without files the reader thread sends
//! the requests itself: pages are then allocated and freed by one thread, which keeps memory small.

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
    Thread { requests: Sender<Box<Api>>, answers: Receiver<(Box<Api>, ApiStep)> },
    Inline { steps: Steps, answer: Option<(Box<Api>, ApiStep)> },
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
                () = self.flow.stop_asked() => None,
                step = api.step(&now) => Some(step),
            }
        })
    }
}

impl ApiRequests {
    pub(super) fn inline(flow: Arc<FlowControl>) -> io::Result<ApiRequests> {
        Ok(ApiRequests::Inline { steps: steps(flow)?, answer: None })
    }

    /// Each response wakes the reader thread of the source.
    pub(super) fn thread(
        source: &str,
        flow: Arc<FlowControl>,
        ended: &UnboundedSender<ThreadEnded>,
    ) -> io::Result<ApiRequests> {
        // Cannot grow: a source has at most two APIs, and each is on one side of the channels only.
        let (requests, requested) = channel::<Box<Api>>();
        let (answer, answers) = channel();
        let steps = steps(flow.clone())?;
        spawn(format!("api {source}"), ended, move || {
            for mut api in requested {
                let Some(step) = steps.step(&mut api) else { break };
                if answer.send((api, step)).is_err() {
                    break;
                }
                flow.wake(false);
            }
            EndedWith::Api
        })?;
        Ok(ApiRequests::Thread { requests, answers })
    }

    /// Makes the API's next step.
    pub(super) fn send(&mut self, mut api: Box<Api>) {
        match self {
            // If the thread has ended, the process is shutting down.
            ApiRequests::Thread { requests, .. } => drop(requests.send(api)),
            ApiRequests::Inline { steps, answer } => {
                // A server may be slow. Each request has its own timeouts.
                heartbeat::waiting();
                *answer = steps.step(&mut api).map(|step| (api, step));
                heartbeat::working();
                steps.flow.wake(false);
            }
        }
    }

    pub(super) fn answer(&mut self) -> Option<(Box<Api>, ApiStep)> {
        match self {
            ApiRequests::Thread { answers, .. } => answers.try_recv().ok(),
            ApiRequests::Inline { answer, .. } => answer.take(),
        }
    }
}

fn steps(flow: Arc<FlowControl>) -> io::Result<Steps> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(Steps { runtime, flow })
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
