//! What a comparison with the ledger finds, and how many events of which day it concerns. Pure.

use super::row::Row;
use std::collections::BTreeMap;

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FindingKind {
    /// It is not what was delivered.
    Altered,
    /// It was delivered and is not there.
    Missing,
    /// It is there and was not delivered.
    Extra,
    /// It is there more often than it was delivered.
    Doubled,
}

impl FindingKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            FindingKind::Altered => "altered",
            FindingKind::Missing => "missing",
            FindingKind::Extra => "extra",
            FindingKind::Doubled => "doubled",
        }
    }
}

/// An event that is not as the ledger says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub kind: FindingKind,
    /// Its entry in the ledger; `None`: it has none.
    pub entry: Option<Row>,
    /// What was found of it; `None`: nothing.
    pub found: Option<Row>,
}

impl Finding {
    pub(crate) fn id(&self) -> u128 {
        self.entry.or(self.found).map_or(0, |row| row.id)
    }

    /// The time of the event.
    pub(crate) fn time_ms(&self) -> Option<i64> {
        self.entry.as_ref().and_then(Row::time).or_else(|| self.found.as_ref().and_then(Row::time))
    }
}

/// How many events there are of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Entries of the ledger that are expected to be found.
    pub expected: u64,
    pub intact: u64,
    /// Found by id; the content cannot be checked.
    pub present: u64,
    pub altered: u64,
    pub missing: u64,
    pub extra: u64,
    pub doubled: u64,
    /// In quarantine, and not found.
    pub quarantined: u64,
    /// Found, and older than what the ledger keeps.
    pub too_old: u64,
    /// Found events of the agent itself that are not in the ledger: it was killed after it had delivered them.
    pub unconfirmed: u64,
}

impl Counts {
    pub(crate) fn of(&mut self, kind: FindingKind) -> &mut u64 {
        match kind {
            FindingKind::Altered => &mut self.altered,
            FindingKind::Missing => &mut self.missing,
            FindingKind::Extra => &mut self.extra,
            FindingKind::Doubled => &mut self.doubled,
        }
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.expected += other.expected;
        self.intact += other.intact;
        self.present += other.present;
        self.altered += other.altered;
        self.missing += other.missing;
        self.extra += other.extra;
        self.doubled += other.doubled;
        self.quarantined += other.quarantined;
        self.too_old += other.too_old;
        self.unconfirmed += other.unconfirmed;
    }

    pub(crate) fn findings(&self) -> u64 {
        self.altered + self.missing + self.extra + self.doubled
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Counts by day in UTC. Events without a time have a day of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Days(BTreeMap<Option<i64>, Counts>);

impl Days {
    pub(crate) fn at(&mut self, time_ms: Option<i64>) -> &mut Counts {
        self.0.entry(time_ms.map(|ms| ms.div_euclid(DAY_MS))).or_default()
    }

    /// Each day's date and counts; `-` for events without a time.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, &Counts)> {
        self.0.iter().map(|(day, counts)| (day.map_or_else(|| "-".to_owned(), date), counts))
    }

    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.0.values().for_each(|counts| total.add(counts));
        total
    }
}

fn date(day: i64) -> String {
    let time = day.checked_mul(DAY_MS).and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}
