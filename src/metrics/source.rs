//! The metrics of a source.

use super::{Registrar, Seconds};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct SourceLabels {
    pub source: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InputLabels {
    source: String,
    input: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LossLabels {
    source: String,
    class: &'static str,
}

/// Why bytes of an audit file are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossClass {
    /// It was deleted before it was read.
    Deleted,
    /// It was truncated or rewritten before it was read.
    Rewritten,
    /// It is compressed and cannot be decompressed.
    Compressed,
    /// Its directory was away for longer than positions are kept.
    Forgotten,
}

impl LossClass {
    const ALL: [LossClass; 4] =
        [LossClass::Deleted, LossClass::Rewritten, LossClass::Compressed, LossClass::Forgotten];

    fn as_str(self) -> &'static str {
        match self {
            LossClass::Deleted => "deleted",
            LossClass::Rewritten => "rewritten",
            LossClass::Compressed => "compressed",
            LossClass::Forgotten => "forgotten",
        }
    }
}

pub(super) struct SourceFamilies {
    events: Family<InputLabels, Counter>,
    read_bytes: Family<SourceLabels, Counter>,
    last_event: Family<SourceLabels, Seconds>,
    last_success: Family<SourceLabels, Seconds>,
    backlog_bytes: Family<SourceLabels, Gauge>,
    backlog_files: Family<SourceLabels, Gauge>,
    lost_bytes: Family<LossLabels, Counter>,
    losses: Family<LossLabels, Counter>,
    unreadable_records: Family<SourceLabels, Counter>,
    healthy: Family<SourceLabels, Gauge>,
    fallback_active: Family<SourceLabels, Gauge>,
    switches: Family<SourceLabels, Counter>,
    ledger_entries: Family<SourceLabels, Gauge>,
    ledger_bytes: Family<SourceLabels, Gauge>,
    last_checkpoint: Family<SourceLabels, Seconds>,
}

/// Of one source.
#[derive(Clone, Debug, Default)]
pub struct SourceMetrics {
    labels: LossBase,
    pub file_events: Counter,
    pub api_events: Counter,
    pub agent_events: Counter,
    pub read_bytes: Counter,
    pub last_event: Seconds,
    pub last_success: Seconds,
    pub backlog_bytes: Gauge,
    pub backlog_files: Gauge,
    pub unreadable_records: Counter,
    pub healthy: Gauge,
    pub fallback_active: Gauge,
    pub switches: Counter,
    pub ledger_entries: Gauge,
    pub ledger_bytes: Gauge,
    pub last_checkpoint: Seconds,
}

/// What the losses of a source are counted with.
#[derive(Clone, Debug, Default)]
struct LossBase {
    source: String,
    bytes: Family<LossLabels, Counter>,
    losses: Family<LossLabels, Counter>,
}

impl LossBase {
    fn sum(&self, family: &Family<LossLabels, Counter>) -> u64 {
        let counts = LossClass::ALL.map(|class| {
            let labels = LossLabels { source: self.source.clone(), class: class.as_str() };
            family.get(&labels).map_or(0, |counter| counter.get())
        });
        counts.iter().sum()
    }
}

impl SourceMetrics {
    /// A range of a file will never be delivered. `bytes` is 0 if its length is not known.
    pub fn count_loss(&self, class: LossClass, bytes: u64) {
        let labels = LossLabels { source: self.labels.source.clone(), class: class.as_str() };
        self.labels.bytes.get_or_create(&labels).inc_by(bytes);
        self.labels.losses.get_or_create(&labels).inc();
    }

    /// How far reading is behind. Without a backlog it is not. `failing`: the source has a problem now.
    pub fn lag_ms(&self, failing: bool, started_ms: i64, now_ms: i64) -> i64 {
        let ms = |seconds: &Seconds| Some((seconds.get() * 1000.0) as i64).filter(|ms| *ms > 0);
        let since = match (failing, self.backlog_bytes.get() > 0) {
            (true, _) => ms(&self.last_success),
            (false, true) => ms(&self.last_event),
            (false, false) => return 0,
        };
        now_ms.saturating_sub(since.unwrap_or(started_ms)).max(0)
    }

    /// Bytes that are lost, of all classes.
    pub fn lost_bytes(&self) -> u64 {
        self.labels.sum(&self.labels.bytes)
    }

    /// Number of lost ranges, of all classes.
    pub fn losses(&self) -> u64 {
        self.labels.sum(&self.labels.losses)
    }
}

impl SourceFamilies {
    pub(super) fn register(all: &mut Registrar<'_>) -> SourceFamilies {
        SourceFamilies {
            events: all.plain("source_events", "Events that were read, by input; `agent`: the agent's own"),
            read_bytes: all.bytes("source_read", "Bytes of audit files that were read, decompressed"),
            last_event: all
                .seconds("source_last_event_timestamp", "Unix time of the newest event that was read"),
            last_success: all
                .seconds("source_last_success_timestamp", "Unix time of the last pass without a problem"),
            backlog_bytes: all.bytes("source_backlog", "Bytes of audit files that are not read yet"),
            backlog_files: all
                .plain("source_backlog_files", "Audit files that are not read to their end yet"),
            lost_bytes: all.bytes("source_lost", "Bytes of audit files that will never be delivered"),
            losses: all.plain("source_losses", "Ranges of audit files that will never be delivered"),
            unreadable_records: all.plain("source_unreadable_records", "Records that cannot be parsed"),
            healthy: all.plain("source_healthy", "1 if the last pass of the source had no problem"),
            fallback_active: all
                .plain("source_fallback_active", "1 while the API is read because the files fail"),
            switches: all.plain("source_switches", "Switches between files and API"),
            ledger_entries: all.plain("ledger_entries", "Entries of the ledger since it was created"),
            ledger_bytes: all.bytes("ledger_size", "Size of the entries that the ledger keeps"),
            last_checkpoint: all
                .seconds("ledger_last_checkpoint_timestamp", "Unix time of the last published checkpoint"),
        }
    }

    pub(super) fn of(&self, source: &str) -> SourceMetrics {
        let labels = SourceLabels { source: source.to_owned() };
        let events =
            |input| self.events.get_or_create(&InputLabels { source: source.to_owned(), input }).clone();
        for class in LossClass::ALL.map(LossClass::as_str) {
            // A counter that begins with its first loss shows no increase.
            let labels = LossLabels { source: source.to_owned(), class };
            drop(self.lost_bytes.get_or_create(&labels));
            drop(self.losses.get_or_create(&labels));
        }
        SourceMetrics {
            labels: LossBase {
                source: source.to_owned(),
                bytes: self.lost_bytes.clone(),
                losses: self.losses.clone(),
            },
            file_events: events("file"),
            api_events: events("api"),
            agent_events: events("agent"),
            read_bytes: self.read_bytes.get_or_create(&labels).clone(),
            last_event: self.last_event.get_or_create(&labels).clone(),
            last_success: self.last_success.get_or_create(&labels).clone(),
            backlog_bytes: self.backlog_bytes.get_or_create(&labels).clone(),
            backlog_files: self.backlog_files.get_or_create(&labels).clone(),
            unreadable_records: self.unreadable_records.get_or_create(&labels).clone(),
            healthy: self.healthy.get_or_create(&labels).clone(),
            fallback_active: self.fallback_active.get_or_create(&labels).clone(),
            switches: self.switches.get_or_create(&labels).clone(),
            ledger_entries: self.ledger_entries.get_or_create(&labels).clone(),
            ledger_bytes: self.ledger_bytes.get_or_create(&labels).clone(),
            last_checkpoint: self.last_checkpoint.get_or_create(&labels).clone(),
        }
    }
}
