//! The thread of a source that reads audit files.

use super::encoder::Encoder;
use super::fallback::Fallback;
use super::flow_control::FlowControl;
use crate::clock;
use crate::notice::{FILE_TAMPERED, GAP, Notice};
use crate::position::Loss;
use crate::source::api::ApiTotal;
use crate::source::files::wake::DirectoryWatch;
use crate::source::files::{AuditFiles, FileTotal, ReadStatus};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Without notification this is how late an event may be found.
const SWEEP_WITHOUT_NOTIFICATION: Duration = Duration::from_secs(1);
/// While lines keep coming they are taken together, this many milliseconds' worth. The first look after a write is at once; only
/// when it follows another one that found something within this time the next one waits.
const COALESCE: Duration = Duration::from_millis(10);

pub struct Reader {
    pub source: String,
    pub files: AuditFiles,
    pub flow: Arc<FlowControl>,
    pub watch: Option<DirectoryWatch>,
    pub live: UnboundedSender<Vec<PathBuf>>,
    pub sweep_interval: Duration,
    /// End when everything that is there now has been read.
    pub once: bool,
    /// The API, where there is one as well.
    pub fallback: Option<Fallback>,
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
    pub restart_wanted: bool,
}

impl Reader {
    /// Reads until stopped, or with `once` until nothing more is there.
    pub fn run(mut self, mut stage: Encoder) -> Read {
        let mut live = Vec::new();
        let mut next_sweep = clock::monotonic();
        let mut last_event: Option<Instant> = None;
        let mut known = 0;
        let mut restart_wanted = false;
        let (mut found, mut hurried) = (false, false);
        while !self.flow.stopped() {
            let now = clock::monotonic();
            if self.flow.take_sweep() || now >= next_sweep {
                self.files.sweep(now, clock::now_ms());
                next_sweep = now + self.follow(&mut live);
                self.flush(&mut stage);
            }
            if !self.flow.has_capacity(next_sweep) {
                continue;
            }
            let now = clock::monotonic();
            let before = stage.events;
            stage.read_at_ms = clock::now_ms();
            let (now_ms, once) = (stage.read_at_ms, self.once);
            let turn = self.files.read(now, now_ms, once, &mut |found| stage.take(found));
            let came = stage.events - before;
            let growing = came > 0 || stage.known > known;
            known = stage.known;
            self.flush(&mut stage);
            // While a file is open and has more, its rest is a backlog and no hole.
            let read = turn != ReadStatus::More && self.files.caught_up();
            let look =
                self.fallback.as_mut().map(|fallback| fallback.turn(&self.files, read, growing, &mut stage));
            let until = look.map_or(next_sweep, |look| look.min(next_sweep));
            self.flow.turn(self.health());
            match turn {
                ReadStatus::More if came > 0 => (last_event, found) = (Some(now), true),
                ReadStatus::More => {}
                ReadStatus::Idle | ReadStatus::IdleUntil(_)
                    if self.once && self.drained() && !stage.holds_searches() =>
                {
                    break;
                }
                ReadStatus::Idle if self.files.view_is_stale(now) => {
                    restart_wanted = true;
                    break;
                }
                ReadStatus::Idle
                    if last_event.is_some_and(|last| now.duration_since(last) < 2 * COALESCE) =>
                {
                    if std::mem::take(&mut found) && hurried {
                        self.flow.rest(now + COALESCE);
                        hurried = false;
                    } else {
                        hurried = true;
                        self.flow.sleep(until.min(now + COALESCE));
                    }
                }
                ReadStatus::Idle => {
                    let told_again = self.fallback.as_ref().is_none_or(Fallback::has_replayed);
                    if self.files.caught_up() && told_again && !stage.holds_searches() {
                        stage.clear_replayed();
                    }
                    self.flow.sleep(until);
                }
                ReadStatus::IdleUntil(at) => self.flow.sleep(at.min(until)),
            }
        }
        stage.settle_held_searches(true);
        self.flush(&mut stage);
        let mut api = self.fallback.as_ref().and_then(Fallback::total);
        if let Some(api) = &mut api {
            api.dropped += stage.dropped;
        }
        let api_trouble = self.fallback.as_ref().and_then(Fallback::api_trouble);
        Read {
            files: self.files.totals(),
            api,
            events: stage.events,
            unreadable: stage.unreadable,
            trouble: self.health().or(api_trouble).map(str::to_owned),
            restart_wanted,
        }
    }

    /// Why events do not come in, if so.
    fn health(&self) -> Option<&str> {
        match &self.fallback {
            Some(fallback) => fallback.health(&self.files),
            None => self.files.health(),
        }
    }

    /// Sends on what was read. What is lost is an event too.
    fn flush(&mut self, stage: &mut Encoder) {
        for tampered in self.files.take_tampered() {
            let (path, at_ms) = (&tampered.path, clock::now_ms());
            let copy = tampered.copy.as_ref().map_or_else(String::new, |copy| {
                format!("what was read of it is in `{copy}`, of which the rest is read; ")
            });
            let message = format!(
                "the audit file `{path}` was truncated or rewritten: it had been read to byte {}, holds other bytes before it now, \
                 and has {}; {copy}it is read from its beginning",
                tampered.offset, tampered.size
            );
            let occasion = format!("{path} {} {}", tampered.epoch, tampered.offset);
            stage.encode_notice(&Notice::new(FILE_TAMPERED, &self.source, &occasion, at_ms, message));
        }
        let progress = self.files.progress();
        for loss in &progress.losses {
            let Loss { at_ms, path, from, to, reason } = loss;
            let path = path.display();
            let message = if to > from {
                format!("bytes {from} to {to} of the audit file `{path}` were not delivered: {reason}")
            } else {
                format!(
                    "what follows byte {from} of the audit file `{path}` was not delivered, if anything did: {reason}"
                )
            };
            let filled =
                if self.fallback.is_some() { "; the audit API is asked for what it held" } else { "" };
            let message = message + filled;
            let occasion = format!("{path} {from} {to} {at_ms}");
            stage.encode_notice(&Notice::new(GAP, &self.source, &occasion, *at_ms, message));
        }
        stage.flush(progress);
    }

    /// Whether nothing more is to be had now.
    fn drained(&self) -> bool {
        let read = self.files.is_drained() && !self.files.rest_waits();
        let asked = self.fallback.as_ref().is_none_or(Fallback::settled);
        asked && (read || self.files.health().is_some())
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
        if watched { self.sweep_interval } else { self.sweep_interval.min(SWEEP_WITHOUT_NOTIFICATION) }
    }
}
