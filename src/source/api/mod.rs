//! Polls the audit API of Confluence Data Center or Cloud.
//!
//! The caller drives it. [`Api::step`] makes at most one request. [`Api::ingest_page`] passes on the rows of the page,
//! without those that were delivered before. [`Api::progress`] may be checkpointed once these rows are delivered.

pub(crate) mod audit_settings;
mod authors;
mod backfill_progress;
mod checks;
pub(crate) mod cloud_id;
mod cursor;
mod deferred;
mod endpoint;
mod expiry;
mod faults;
mod outage;
pub(crate) mod page;
mod page_size;
mod pages;
mod poll;
mod progress;
pub(crate) mod response;
mod rows;
mod schedule;
pub(crate) mod self_activity;
mod server_clock;
mod state;
mod step;
pub(crate) mod token;
pub(crate) mod version;
pub(crate) mod window;
mod window_failure;
pub(crate) mod window_reader;

pub use rows::{NewRow, RowHandler, RowVerdict};
pub use server_clock::Now;
pub use state::{Api, ApiStep, ApiTotal};
