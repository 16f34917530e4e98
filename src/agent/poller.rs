//! The thread of a source that polls an audit API.

use super::encoder::Encoder;
use super::flow_control::FlowControl;
use super::reader::Read;
use crate::clock;
use crate::source::api::{Api, ApiStep, Now};
use crate::telemetry::heartbeat;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// With `once`, faults that pass by themselves are waited for so often.
const ONCE_FAILURES_MAX: u32 = 3;

/// A sink that is behind is waited for; a stop is heard at once.
const ROOM_LOOKED_FOR: Duration = Duration::from_secs(1);

pub struct Poller {
    pub api: Api,
    pub flow: Arc<FlowControl>,
    /// End when the present has been reached.
    pub once: bool,
}

pub fn now() -> Now {
    Now { monotonic: clock::monotonic(), ms: clock::now_ms() }
}

impl Poller {
    /// Polls until stopped, or with `once` until nothing more is there.
    pub fn run(mut self, mut stage: Encoder) -> io::Result<Read> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        while !self.flow.stopped() {
            if !self.flow.has_capacity(clock::monotonic() + ROOM_LOOKED_FOR) {
                continue;
            }
            // A server may be slow; each request has time limits of its own.
            heartbeat::waiting();
            let step = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = self.flow.stop_asked() => None,
                    step = self.api.step(&now) => Some(step),
                }
            });
            heartbeat::working();
            let step = step.unwrap_or(ApiStep::Again);
            let sleep_until = process_step(step, &mut self.api, &mut stage, now());
            self.flow.turn(self.api.health());
            match sleep_until {
                Some(_) if self.once && is_drained(&self.api) => break,
                Some(until) => {
                    if self.api.caught_up() {
                        stage.clear_replayed();
                    }
                    self.flow.sleep(until);
                }
                None => {}
            }
        }
        Ok(Read {
            api: Some(self.api.total().clone()),
            events: stage.events,
            unreadable: stage.unreadable,
            trouble: self.api.health().map(str::to_owned),
            ..Read::default()
        })
    }
}

/// Sends what a step has brought to the sinks, and the cursor that it means to the checkpoint. Returns the time before which
/// there is nothing to do.
pub fn process_step(step: ApiStep, api: &mut Api, encoder: &mut Encoder, now: Now) -> Option<Instant> {
    let wait_until = match step {
        ApiStep::Again => None,
        ApiStep::Wait(until) => Some(until),
        ApiStep::Page { page, repeated } => {
            encoder.ingest_page(page, repeated, true, i64::MAX, api, now);
            None
        }
    };
    for notice in api.take_notices() {
        encoder.encode_notice(&notice);
    }
    encoder.flush(api.progress());
    wait_until
}

/// Whether nothing more is to be had of an API now.
pub fn is_drained(api: &Api) -> bool {
    api.is_drained(ONCE_FAILURES_MAX)
}
