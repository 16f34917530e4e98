//! The health of a source and its sinks, as the threads of the source report it. The service manager and the admin
//! endpoint read it.

use crate::clock;
use crate::notice::{LEDGER_SEALED, Notice};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many of the last events about the agent itself are kept.
const CHANGES_MAX: usize = 10;

/// What is wrong, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    pub since_ms: i64,
}

/// The health of a source.
#[derive(Clone, Default)]
pub struct Health {
    /// It has finished at least one pass without a problem.
    pub was_healthy: bool,
    /// Why it does not read events.
    pub problem: Option<Problem>,
    /// Its sinks, by pipeline. Without an entry, a sink never had a problem.
    pub sinks: BTreeMap<usize, SinkHealth>,
    /// A note for the status of a source that works, such as an active fallback.
    pub note: Option<String>,
    /// The last events about the agent itself, oldest first: switches, gaps, coverage.
    pub changes: VecDeque<Change>,
}

#[derive(Clone, Default)]
pub struct SinkHealth {
    /// Why it does not accept events.
    pub problem: Option<Problem>,
    /// The last problem of this run, over or not.
    pub last: Option<Problem>,
}

/// An event about the agent itself.
#[derive(Clone)]
pub struct Change {
    pub at_ms: i64,
    pub action: &'static str,
    pub message: String,
}

impl Health {
    /// The problems of the source and its sinks in one text.
    pub fn problems(&self) -> Option<String> {
        let sinks = self.sinks.values().filter_map(|sink| sink.problem.as_ref());
        let messages = self.problem.iter().chain(sinks).map(|problem| problem.message.clone());
        messages.reduce(|all, one| format!("{all}; {one}"))
    }
}

/// Where the threads of a source report its health.
#[derive(Default)]
pub struct HealthRecord(Mutex<Health>);

impl HealthRecord {
    /// A pass of the reader has ended. `problem`: why events are not delivered at the moment, if so.
    pub fn report_pass(&self, problem: Option<&str>) {
        let mut health = self.lock();
        health.was_healthy |= problem.is_none();
        update(&mut health.problem, problem);
    }

    /// The sink `pipeline` does not accept events at the moment, or does again (`None`).
    pub fn set_sink_problem(&self, pipeline: usize, problem: Option<&str>) {
        let mut health = self.lock();
        let sink = health.sinks.entry(pipeline).or_default();
        update(&mut sink.problem, problem);
        if sink.problem.is_some() {
            sink.last.clone_from(&sink.problem);
        }
    }

    /// Sets [`Health::note`].
    pub fn set_note(&self, note: Option<String>) {
        self.lock().note = note;
    }

    /// Keeps an event about the agent itself. The regular checkpoints of the ledger have a place of their own, and that
    /// the agent runs needs none.
    pub fn record(&self, notice: &Notice) {
        if notice.action == LEDGER_SEALED || notice.is_lifecycle() {
            return;
        }
        let mut health = self.lock();
        if health.changes.len() == CHANGES_MAX {
            health.changes.pop_front();
        }
        let Notice { at_ms, action, message, .. } = notice;
        health.changes.push_back(Change { at_ms: *at_ms, action, message: message.clone() });
    }

    pub fn get(&self) -> Health {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        // A poisoned lock does no harm: every change keeps the state consistent, and a panic ends the process anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A problem lasts from its first message on, also if the message changes.
fn update(problem: &mut Option<Problem>, message: Option<&str>) {
    match (&mut *problem, message) {
        (Some(problem), Some(message)) if problem.message != message => {
            message.clone_into(&mut problem.message)
        }
        (Some(_), Some(_)) | (None, None) => {}
        (Some(_), None) => *problem = None,
        (None, Some(message)) => {
            *problem = Some(Problem { message: message.to_owned(), since_ms: clock::now_ms() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_lasts_from_its_first_message_on() {
        let record = HealthRecord::default();
        record.set_sink_problem(1, Some("refused"));
        let first = record.get().sinks[&1].problem.clone().unwrap();
        record.set_sink_problem(1, Some("timeout"));
        let second = record.get().sinks[&1].problem.clone().unwrap();
        assert_eq!((second.message.as_str(), second.since_ms), ("timeout", first.since_ms));
        record.report_pass(Some("missing"));
        assert_eq!(record.get().problems().unwrap(), "missing; timeout");
        record.set_sink_problem(1, None);
        record.report_pass(None);
        let health = record.get();
        assert_eq!((health.problems(), health.was_healthy), (None, true));
        assert_eq!(health.sinks[&1].last.as_ref(), Some(&second));
    }

    #[test]
    fn the_last_changes_are_kept() {
        let record = HealthRecord::default();
        for at_ms in 0..25 {
            record.record(&Notice::new(crate::notice::GAP, "wiki", "", at_ms, String::new()));
            record.record(&Notice::new(LEDGER_SEALED, "wiki", "", at_ms, String::new()));
        }
        let times: Vec<i64> = record.get().changes.iter().map(|change| change.at_ms).collect();
        assert_eq!(times, (15..25).collect::<Vec<i64>>());
    }
}
