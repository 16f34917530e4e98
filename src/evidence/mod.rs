//! What shows that events are complete and unchanged: exports of a sink, compared with the ledger.
//!
//! Reading order: `export` (what was exported, one event after the other), `row` (what is compared of an event), `sort`
//! (by id, in bounded memory), `compare` (ledger and export side by side), `finding` (what is wrong, and on which day).

pub(crate) mod compare;
pub(crate) mod export;
pub(crate) mod finding;
pub(crate) mod row;
pub(crate) mod sort;
