//! What shows that events are complete and unchanged: exports of a sink, compared with the ledger.
//!
//! Reading order: `export` (what was exported, one event after the other), `ledgers` (their entries), `row` (what is
//! compared of an event), `sort` (by id, in bounded memory), `compare` (both side by side), `live` (while the agent
//! runs), `finding` (what is wrong, and on which day).

pub(crate) mod compare;
#[cfg(test)]
mod compare_tests;
pub(crate) mod export;
pub(crate) mod finding;
pub(crate) mod last_reconcile;
pub(crate) mod ledgers;
pub(crate) mod live;
pub(crate) mod row;
pub(crate) mod sort;
