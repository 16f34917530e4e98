//! The thread of a source that reads audit files.

use super::gate::Gate;
use super::stage::Stage;
use crate::clock;
use crate::source::api::ApiTotal;
use crate::source::files::wake::DirectoryWatch;
use crate::source::files::{FileTotal, Files, Turn};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Without notification this is how late an event may be found.
const SWEEP_WITHOUT_NOTIFICATION: Duration = Duration::from_secs(1);
/// While lines keep coming they are taken together, this many milliseconds' worth; the first after a pause goes at once.
const COALESCE: Duration = Duration::from_millis(10);

pub struct Reader {
    pub files: Files,
    pub gate: Arc<Gate>,
    pub watch: Option<DirectoryWatch>,
    pub live: UnboundedSender<Vec<PathBuf>>,
    pub sweep_interval: Duration,
    /// End when everything that is there now has been read.
    pub once: bool,
}

/// What a reader has done, for the summary of a run.
#[derive(Debug, Default)]
pub struct Read {
    pub files: Vec<FileTotal>,
    pub api: Option<ApiTotal>,
    pub events: u64,
    pub unreadable: u64,
    pub trouble: Option<String>,
    /// There is more to be had, for another process.
    pub start_anew: bool,
}

impl Reader {
    /// Reads until stopped, or with `once` until nothing more is there.
    pub fn run(mut self, mut stage: Stage) -> Read {
        let mut live = Vec::new();
        let mut next_sweep = clock::monotonic();
        let mut last_event: Option<Instant> = None;
        let mut start_anew = false;
        while !self.gate.stopped() {
            let now = clock::monotonic();
            if self.gate.take_sweep() || now >= next_sweep {
                self.files.sweep(now, clock::now_ms());
                next_sweep = now + self.follow(&mut live);
                stage.hand_over(self.files.progress());
            }
            if !self.gate.room(next_sweep) {
                continue;
            }
            let now = clock::monotonic();
            let before = stage.events;
            stage.read_at_ms = clock::now_ms();
            let (now_ms, once) = (stage.read_at_ms, self.once);
            let turn = self.files.read(now, now_ms, once, &mut |found| stage.take(found));
            self.gate.turn(self.files.health());
            let came = stage.events - before;
            stage.hand_over(self.files.progress());
            match turn {
                Turn::More if came > 0 => last_event = Some(now),
                Turn::More => {}
                Turn::Idle | Turn::Until(_) if self.once && self.drained() => break,
                Turn::Idle if self.files.view_is_stale(now) => {
                    start_anew = true;
                    break;
                }
                Turn::Idle if last_event.is_some_and(|last| now.duration_since(last) < 2 * COALESCE) => {
                    self.gate.rest(now + COALESCE);
                }
                Turn::Idle => {
                    if self.files.caught_up() {
                        stage.forget_standing();
                    }
                    self.gate.sleep(next_sweep);
                }
                Turn::Until(at) => self.gate.sleep(at.min(next_sweep)),
            }
        }
        Read {
            files: self.files.totals(),
            events: stage.events,
            unreadable: stage.unreadable,
            trouble: self.files.health().map(str::to_owned),
            start_anew,
            ..Read::default()
        }
    }

    /// Whether nothing more is to be had now.
    fn drained(&self) -> bool {
        let read = self.files.caught_up() && !self.files.rest_waits();
        read || self.files.health().is_some()
    }

    /// Watches what the sweep found; returns how long until the next one.
    fn follow(&mut self, live: &mut Vec<PathBuf>) -> Duration {
        let Some(watch) = &mut self.watch else {
            return self.sweep_interval.min(SWEEP_WITHOUT_NOTIFICATION);
        };
        let watched = watch.set(self.files.watched());
        let now_live = self.files.live();
        if watched && now_live != *live {
            // Nobody to tell means that the process is about to end.
            let _ = self.live.send(now_live.clone());
            *live = now_live;
        }
        if watched {
            self.sweep_interval
        } else {
            self.sweep_interval.min(SWEEP_WITHOUT_NOTIFICATION)
        }
    }
}
