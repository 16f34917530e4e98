//! An audit API that is polled: Data Center's or Cloud's.
//!
//! A source is driven from outside: [`Api::step`] makes at most one request; [`Api::ingest_page`] hands on the rows of
//! the page that it brought, but for those that were delivered before. [`Api::progress`] is what a checkpoint may say
//! once those rows are delivered.

pub(crate) mod answer;
mod authors;
mod backfill_progress;
pub(crate) mod cloud_id;
pub(crate) mod coverage;
mod cursor;
mod deferred;
mod endpoint;
mod expiry;
mod faults;
pub(crate) mod page;
mod page_size;
mod pages;
mod poll;
mod progress;
mod rows;
mod schedule;
pub(crate) mod self_activity;
mod server_clock;
mod set_aside;
mod state;
mod step;
pub(crate) mod token;
mod trouble;
pub(crate) mod version;
mod watch;
pub(crate) mod window;
pub(crate) mod window_reader;

pub use rows::{AdmittedRow, RowHandler, RowVerdict};
pub use server_clock::Now;
pub use state::{Api, ApiStep, ApiTotal};
