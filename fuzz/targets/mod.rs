//! What is fuzzed. Each target takes any bytes and panics if the code under test breaks what it promises.
//!
//! The targets are compiled for tests and for fuzzing only (`--cfg fuzzing`). Those that need what a module keeps to
//! itself are modules of that module. `fuzz/run.sh` runs them with libFuzzer; `cargo test` replays `fuzz/corpus`.

pub(crate) mod input;
#[path = "../readers/mod.rs"]
pub(crate) mod readers;

pub(crate) mod answers;
pub mod corpus;
mod formats;
mod page;
mod record;
#[cfg(test)]
mod replay;
mod syslog;

/// A name and what is called with each input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 18] = [
    ("frame", crate::source::files::fuzz::frame),
    ("record", record::record),
    ("formats", formats::formats),
    ("syslog", syslog::syslog),
    ("page", page::page),
    ("api_answer", answers::api_answer),
    ("bulk_answer", answers::bulk_answer),
    ("hec_answer", crate::sink::splunk_hec::fuzz::hec_answer),
    ("output", crate::sink::file::fuzz::output),
    ("checkpoint", crate::checkpoint::fuzz::checkpoint),
    ("ledger_entry", crate::ledger::fuzz::ledger_entry),
    ("ledger_files", crate::ledger::fuzz::ledger_files),
    ("note", crate::ledger::fuzz::note),
    ("proof", crate::ledger::fuzz::proof),
    ("config", crate::config::fuzz::config),
    ("config_secrets", crate::commands::support_bundle::fuzz::config_secrets),
    ("export", crate::evidence::export::fuzz::export),
    ("documents", crate::commands::convert::fuzz::documents),
];
