//! What is known of a source that has files and an API: whose events the files bring, and which of their records the
//! agent made.

use super::encoder::LONG_RECORD_BYTES;
use crate::clock;
use crate::position::{ClusterNodes, IdChunk, Progress};
use crate::record::{EventId, Record};
use crate::source::api::self_activity::{SearchedBy, SharedSelfActivity, is_search};
use crate::source::dedup::{Dedup, FromFile};
use crate::source::nodes::{News, Nodes, RowNode};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Searches that wait until it is known whose they are. More do not wait.
const HELD_MAX: usize = 100;
/// Who made them is asked so often, with such pauses: a row may become visible late. After so long they go on without
/// an answer.
const ASKED_MAX: u32 = 3;
const ASKED_EVERY: Duration = Duration::from_secs(1);
const HELD_FOR: Duration = Duration::from_secs(60);
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Searches of long ago are not asked for: the agent of today may not have made them.
const ASKED_ABOUT_MS: i64 = 86_400_000;

/// Of one source.
pub struct Alongside {
    source: String,
    /// Of the newest event of the files.
    newest_ms: Option<i64>,
    /// Of the oldest and the newest event whose ids are known, whether a file or the API brought them.
    known_ms: Option<(i64, i64)>,
    /// Of the last record that has a time.
    last_ms: Option<i64>,
    nodes: Nodes,
    /// Take the events of nodes whose files are not read.
    all_nodes: bool,
    /// That no file has shown a node has been said.
    nodes_missed: bool,
    own: SharedSelfActivity,
    pub drop_self_polls: bool,
    held: Vec<HeldSearch>,
    /// What the checkpoint must not learn before those are delivered.
    withheld: Option<Progress>,
}

/// A record of a search of the audit log that may be the agent's own: a file has the user's key and not the name.
pub struct HeldSearch {
    pub body: Vec<u8>,
    pub id: EventId,
    pub time_ms: i64,
    pub from: FromFile,
    pub path_json: String,
    pub offset: u64,
    pub unterminated: bool,
    pub since: Instant,
    pub asked: u32,
    pub asked_at: Option<Instant>,
}

/// What becomes of a row of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVerdict {
    /// Another agent, or the other way of asking, brings it.
    Pass,
    /// `of_files`: a file should have brought it.
    Take { of_files: bool },
}

impl Alongside {
    /// `ids` are those of the checkpoint.
    pub fn new(
        source: &str,
        nodes: ClusterNodes,
        all_nodes: bool,
        ids: &[IdChunk],
        own: SharedSelfActivity,
        drop_self_polls: bool,
    ) -> Alongside {
        let oldest_ms = ids.iter().map(|chunk| chunk.oldest_ms).min();
        let newest_ms = ids.iter().map(|chunk| chunk.newest_ms).max();
        Alongside {
            source: source.to_owned(),
            newest_ms: None,
            known_ms: oldest_ms.zip(newest_ms),
            last_ms: None,
            nodes: Nodes::new(nodes),
            all_nodes,
            nodes_missed: false,
            own,
            drop_self_polls,
            held: Vec::new(),
            withheld: None,
        }
    }

    /// Of the newest event of the files.
    pub fn newest_ms(&self) -> Option<i64> {
        self.newest_ms
    }

    /// Times of the oldest and the newest event that can be compared with the API.
    pub fn known_ms(&self) -> Option<(i64, i64)> {
        self.known_ms
    }

    /// Whether a time range that files brought holds nothing else that is wanted. With files of several nodes it may be
    /// one node's alone.
    pub fn may_skip_ranges(&self) -> bool {
        !self.nodes.are_several()
    }

    /// Takes note of a record of a file that was delivered before and is read again.
    pub fn observe_replayed(&mut self, record: Option<&Record>, folder: usize, read_at_ms: i64) {
        if let Some(record) = record {
            let time_ms = record.time_ms.unwrap_or(read_at_ms).min(read_at_ms);
            self.nodes.observe_file(folder, record.node.text(), time_ms);
        }
    }

    /// Takes note of a record of a file. Returns its time, and where it came from; one that has no time is as old as
    /// the one before. It may be yet to come: the API shows the event then, and its id has to be known for so long.
    pub fn observe(
        &mut self,
        record: Option<&Record>,
        file: u32,
        folder: usize,
        read_at_ms: i64,
    ) -> (i64, FromFile) {
        self.last_ms = record.and_then(|record| record.time_ms).or(self.last_ms);
        let at_ms = self.last_ms.unwrap_or(read_at_ms);
        // A time that is yet to come is none.
        let time_ms = at_ms.min(read_at_ms);
        self.newest_ms = self.newest_ms.max(Some(time_ms));
        let (oldest_ms, newest_ms) = self.known_ms.unwrap_or((time_ms, time_ms));
        self.known_ms = Some((oldest_ms.min(time_ms), newest_ms.max(time_ms)));
        let node = match record {
            Some(record) => self.nodes.observe_file(folder, record.node.text(), time_ms),
            None => 0,
        };
        (at_ms, FromFile { key: file, node })
    }

    /// What becomes of a row. `for_other_nodes`: the API is asked for nodes whose files are not read.
    /// `incomplete_to_ms`: ids that an API brought are forgotten up to then.
    pub fn judge_row(
        &mut self,
        record: &Record,
        read_at_ms: i64,
        for_other_nodes: bool,
        incomplete_to_ms: Option<i64>,
    ) -> RowVerdict {
        let time_ms = record.time_ms.unwrap_or(read_at_ms).min(read_at_ms);
        if !self.all_nodes && !self.nodes.are_known() {
            self.warn_no_node_known(record);
            return RowVerdict::Take { of_files: true };
        }
        match self.nodes.of_row(record.node.text(), time_ms) {
            RowNode::Files { since: true } if for_other_nodes => RowVerdict::Pass,
            RowNode::Files { .. } if !for_other_nodes => RowVerdict::Take { of_files: true },
            RowNode::Other if !self.all_nodes => RowVerdict::Pass,
            // The API that is asked for these has brought it.
            _ if self.all_nodes
                && !for_other_nodes
                && incomplete_to_ms.is_some_and(|to_ms| time_ms <= to_ms) =>
            {
                RowVerdict::Pass
            }
            _ => RowVerdict::Take { of_files: false },
        }
    }

    fn warn_no_node_known(&mut self, record: &Record) {
        if record.node.text().is_some() && !std::mem::replace(&mut self.nodes_missed, true) {
            tracing::warn!(
                source = self.source,
                "no audit file has shown yet which node of the cluster this is, so the events of all nodes are taken from the API"
            );
        }
    }

    fn log_news(&mut self) {
        let source = &self.source;
        for news in self.nodes.take_news() {
            match news {
                News::Changed { from, to } => tracing::info!(
                    source,
                    from,
                    to,
                    "the audit files carry the id of another cluster node than before"
                ),
                News::Unknown { .. } | News::Other { .. } if self.all_nodes => {}
                News::Unknown { id } => tracing::warn!(
                    source,
                    "the audit API has events of the cluster node `{id}`, which no audit file has shown. It may be this node under a \
                     new id, so they are delivered until a file or further events show whose id it is"
                ),
                News::Other { id } => tracing::info!(
                    source,
                    "`{id}` is another node of the cluster; its events are left to the agent there"
                ),
            }
        }
    }

    /// By whom a record's search was made, if it is one.
    pub fn searched_by(&self, record: &Record) -> SearchedBy {
        if is_search(record) {
            let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            own.searched_by(record)
        } else {
            SearchedBy::Other
        }
    }

    /// The API does not tell who made this search: those of the same user wait no more, unless a row tells after all.
    pub fn give_up(&self, record: &Record) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.author_not_reported(record);
    }

    /// Whether a search of an unknown user is worth waiting for.
    pub fn may_hold(&self, body: &[u8], time_ms: i64, read_at_ms: i64) -> bool {
        self.held.len() < HELD_MAX
            && body.len() <= LONG_RECORD_BYTES
            && time_ms >= read_at_ms.saturating_sub(ASKED_ABOUT_MS)
    }

    pub fn hold(&mut self, search: HeldSearch) {
        self.held.push(search);
    }

    pub fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    pub fn holds(&self, id: EventId) -> bool {
        self.held.iter().any(|held| held.id == id)
    }

    pub fn take_held(&mut self) -> Vec<HeldSearch> {
        std::mem::take(&mut self.held)
    }

    /// The time of a search whose author is to be asked for now; it counts as asked for then.
    pub fn next_author(&mut self, now: Instant) -> Option<i64> {
        let due = |held: &&mut HeldSearch| held.due().is_some_and(|at| at <= now);
        let held = self.held.iter_mut().find(due)?;
        held.asked += 1;
        held.asked_at = Some(now);
        Some(held.time_ms)
    }

    /// When to look at the searches that wait. `may_ask`: the API is there to be asked.
    pub fn held_due(&self, may_ask: bool) -> Option<Instant> {
        let due = |held: &HeldSearch| {
            let ask = held.due().filter(|_| may_ask);
            ask.map_or(held.ends(), |ask| ask.min(held.ends()))
        };
        self.held.iter().map(due).min()
    }

    /// Holds back what the checkpoint must not learn while a search waits.
    pub fn pass_progress(&mut self, mut progress: Progress) -> Progress {
        self.log_news();
        progress.nodes = self.nodes.changes();
        if let Some(mut withheld) = self.withheld.take() {
            withheld.merge(progress);
            progress = withheld;
        }
        if self.held.is_empty() {
            return progress;
        }
        self.withheld = Some(progress);
        Progress { withheld: true, ..Progress::default() }
    }
}

impl HeldSearch {
    /// When to ask by whom it was made; `None`: not any more.
    fn due(&self) -> Option<Instant> {
        (self.asked < ASKED_MAX).then(|| self.asked_at.map_or(self.since, |at| at + ASKED_EVERY))
    }

    fn ends(&self) -> Instant {
        match self.asked_at.filter(|_| self.asked >= ASKED_MAX) {
            Some(at) => at + LAST_ANSWER,
            None => self.since + HELD_FOR,
        }
    }

    /// Whether it has waited for long enough.
    pub fn is_over(&self) -> bool {
        clock::monotonic() >= self.ends()
    }
}

/// Whether a file brought the event of this row, and its id is forgotten.
pub fn is_forgotten(recent: &Dedup, record: &Record) -> bool {
    let ranges = !recent.skipped_ranges().is_empty();
    let at_ms = record.time_ms.filter(|_| ranges);
    at_ms.is_some_and(|at_ms| recent.is_forgotten(at_ms, crate::source::nodes::hash(record.node.text())))
}
