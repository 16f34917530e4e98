//! The thread that makes progress durable: it hears what is final, moves the watermark of each stream, and commits.

use super::gate::Gate;
use crate::ack::Watermark;
use crate::checkpoint::{Commit, Store, StoreError};
use crate::clock;
use crate::position::{Progress, SinkMark};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

pub enum ToCommit {
    /// The next batch of a stream is on its way to its sinks.
    Sent {
        stream: usize,
        progress: Progress,
        bytes: u64,
    },
    /// A sink has a final outcome for each of a batch's events.
    Final {
        stream: usize,
        lane: usize,
        number: u64,
        mark: Option<SinkMark>,
    },
    /// Nothing more will come: commit what is final, close, and end.
    Finish,
}

/// How often an idle source says that its outputs are still as long as they were. An output that was written to long
/// after its mark counts as one that an old checkpoint does not speak for, so a mark must not grow old by idleness.
pub const MARK_AGE_MAX: Duration = Duration::from_secs(5 * 60);

pub struct Settings {
    pub interval: Duration,
    pub mark_age_max: Duration,
    pub unpersisted_bytes_max: u64,
}

/// A source on its way to the store.
pub struct Stream {
    name: String,
    gate: Arc<Gate>,
    watermark: Watermark<(Progress, u64), Option<SinkMark>>,
    ready: Progress,
    marks: Vec<Option<SinkMark>>,
    dirty: bool,
    unpersisted_bytes: u64,
    last: Option<Instant>,
    /// When the marks were last committed, or tried to.
    marked: Instant,
}

impl Stream {
    /// `marks` are those of the sinks, in order, as they have just been committed.
    pub fn new(name: &str, marks: Vec<Option<SinkMark>>, gate: Arc<Gate>) -> Stream {
        Stream {
            name: name.to_owned(),
            gate,
            watermark: Watermark::new(marks.len()),
            ready: Progress::default(),
            marks,
            dirty: false,
            unpersisted_bytes: 0,
            last: None,
            marked: clock::monotonic(),
        }
    }

    fn advance(&mut self) {
        for ((progress, bytes), marks) in self.watermark.advance() {
            self.ready.merge(progress);
            self.unpersisted_bytes += bytes;
            for (known, mark) in self.marks.iter_mut().zip(marks) {
                if mark.is_some() {
                    *known = mark;
                }
            }
            self.dirty = true;
        }
    }

    /// When to commit: at once after a pause, else an interval after the last time; marks also when they grow old.
    fn due(&self, settings: &Settings, now: Instant) -> Option<Instant> {
        if self.dirty {
            return Some(self.last.map_or(now, |last| last + settings.interval));
        }
        let marked = self.marks.iter().any(Option::is_some);
        marked.then(|| self.marked + settings.mark_age_max)
    }

    fn commit(&self) -> Commit {
        let Progress {
            files,
            forget,
            losses,
        } = self.ready.clone();
        let at_ms = clock::now_ms();
        let marks = self.marks.iter().flatten().cloned();
        Commit {
            source: self.name.clone(),
            files,
            forget,
            marks: marks.map(|mark| SinkMark { at_ms, ..mark }).collect(),
            losses,
        }
    }

    fn committed(&mut self) {
        self.ready = Progress::default();
        (self.dirty, self.unpersisted_bytes) = (false, 0);
        self.gate.pause(false);
    }
}

/// Runs until told to finish. Without a store nothing is made durable: a dry run.
pub fn run(
    mut store: Option<Store>,
    mut streams: Vec<Stream>,
    settings: Settings,
    messages: Receiver<ToCommit>,
) -> Result<(), StoreError> {
    let mut full = None;
    loop {
        let now = clock::monotonic();
        let due = streams
            .iter()
            .filter_map(|stream| stream.due(&settings, now))
            .min();
        let message = match due {
            None => messages.recv().unwrap_or(ToCommit::Finish),
            Some(at) => match messages.recv_timeout(at.saturating_duration_since(now)) {
                Ok(message) => message,
                Err(RecvTimeoutError::Disconnected) => ToCommit::Finish,
                Err(RecvTimeoutError::Timeout) => {
                    commit_due(&mut store, &mut streams, &settings, &mut full)?;
                    continue;
                }
            },
        };
        match message {
            ToCommit::Sent {
                stream,
                progress,
                bytes,
            } => {
                streams[stream].watermark.sent((progress, bytes));
                streams[stream].advance();
            }
            ToCommit::Final {
                stream,
                lane,
                number,
                mark,
            } => {
                crate::failpoint::hit("after_ack");
                streams[stream].watermark.done(lane, number, mark);
                streams[stream].advance();
            }
            ToCommit::Finish => break,
        }
    }
    for stream in &mut streams {
        stream.last = None;
    }
    commit_due(&mut store, &mut streams, &settings, &mut full)?;
    if let Some(path) = full {
        return Err(StoreError::StorageFull { path });
    }
    store.map_or(Ok(()), Store::close)
}

fn commit_due(
    store: &mut Option<Store>,
    streams: &mut [Stream],
    settings: &Settings,
    full: &mut Option<PathBuf>,
) -> Result<(), StoreError> {
    let now = clock::monotonic();
    let due = |stream: &Stream| stream.due(settings, now).is_some_and(|at| at <= now);
    let commits: Vec<Commit> = streams
        .iter()
        .filter(|stream| due(stream))
        .map(Stream::commit)
        .collect();
    if commits.is_empty() {
        return Ok(());
    }
    let result = store.as_mut().map_or(Ok(()), |store| store.commit(&commits));
    for stream in streams
        .iter_mut()
        .filter(|stream| stream.due(settings, now).is_some_and(|at| at <= now))
    {
        (stream.last, stream.marked) = (Some(now), now);
        match &result {
            Ok(()) => stream.committed(),
            Err(_) => stream
                .gate
                .pause(stream.unpersisted_bytes > settings.unpersisted_bytes_max),
        }
    }
    match result {
        Ok(()) => {
            if full.take().is_some() {
                tracing::info!("positions are stored again");
            }
            Ok(())
        }
        Err(StoreError::StorageFull { path }) => {
            if full.replace(path.clone()).is_none() {
                tracing::error!(
                    path = %path.display(), unpersisted_bytes_max = settings.unpersisted_bytes_max,
                    "no space left to store positions; delivery goes on for a while, then reading pauses until there is room"
                );
            }
            Ok(())
        }
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// A source that is idle for hours and then killed has a young mark all the same.
    #[test]
    fn f72_a_mark_does_not_grow_old_by_idleness() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("state");
        let long_ago = SinkMark {
            sink: "local".into(),
            path: "/out".into(),
            dev: 1,
            ino: 2,
            at_ms: 1,
            generation: 3,
            length: 4,
        };
        let store = Store::open(&dir).unwrap().store;
        let stream = Stream::new("wiki", vec![Some(long_ago.clone())], Arc::default());
        let settings = Settings {
            interval: Duration::from_secs(1),
            mark_age_max: Duration::ZERO,
            unpersisted_bytes_max: 0,
        };
        let (send, messages) = channel();
        let commits = std::thread::spawn(move || run(Some(store), vec![stream], settings, messages));
        let log = || std::fs::read(dir.join("db/db")).unwrap();
        let before = log();
        let by = clock::monotonic() + Duration::from_secs(30);
        while log() == before {
            assert!(clock::monotonic() < by, "nothing was committed");
            std::thread::yield_now();
        }
        send.send(ToCommit::Finish).unwrap();
        commits.join().unwrap().unwrap();
        let state = Store::open(&dir).unwrap().store.load("wiki").unwrap();
        let at_ms = state.marks[0].at_ms;
        assert!(clock::now_ms() - at_ms < 60_000, "{at_ms}");
        assert_eq!(state.marks, [SinkMark { at_ms, ..long_ago }]);
    }
}
