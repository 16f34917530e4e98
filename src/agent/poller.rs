//! The thread of a source that polls an audit API.

use super::encoder::Encoder;
use super::flow_control::FlowControl;
use super::reader::Read;
use crate::clock;
use crate::source::api::{Api, ApiStep, Now};
use crate::telemetry::heartbeat;
use std::io;
use std::sync::Arc;
use std::time::Duration;

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
    Now {
        monotonic: clock::monotonic(),
        ms: clock::now_ms(),
    }
}

impl Poller {
    /// Polls until stopped, or with `once` until nothing more is there.
    pub fn run(mut self, mut stage: Encoder) -> io::Result<Read> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
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
            let mut sleep_until = None;
            match step {
                None | Some(ApiStep::Again) => {}
                Some(ApiStep::Page { page, repeated }) => {
                    stage.ingest_page(page, repeated, true, i64::MAX, &mut self.api);
                }
                Some(ApiStep::Wait(until)) => sleep_until = Some(until),
            }
            self.flow.turn(self.api.health());
            for notice in self.api.take_notices() {
                stage.encode_notice(&notice);
            }
            stage.flush(self.api.progress());
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

/// Whether nothing more is to be had of an API now.
pub fn is_drained(api: &Api) -> bool {
    api.is_drained(ONCE_FAILURES_MAX)
}
