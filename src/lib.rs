//! Delivers every audit event of a Confluence site to log management systems, from its audit files or its audit API:
//! exactly once to a file, at least once with the same event id to a server.
//!
//! Events flow in one direction through the stages:
//!
//! ```text
//! source ──► record ──► format ──► sink ──► ack ──► ledger ──► checkpoint
//! ```
//!
//! Read the modules in this order:
//!
//! | module | content |
//! |---|---|
//! | [`config`] | the settings, checked; [`cli`] and [`commands`] are the command line |
//! | [`position`] | the types that describe progress; they are passed from [`source`] and [`sink`] to the checkpoint |
//! | [`source`] | reads audit files (`files`) and the audit API (`api`), and switches between them (`failover`) |
//! | [`record`] | parses one audit record and computes its event id |
//! | [`mod@format`] | writes an event as ECS, CEF, OCSF and others; [`enrich`] adds facts about host and network |
//! | [`sink`] | delivers batches of events; [`quarantine`] keeps the events that a server refuses |
//! | [`ack`] | the watermark: up to which batch every sink has delivered |
//! | [`ledger`] | records every event that was delivered; it recognises those that are read again |
//! | [`checkpoint`] | stores the progress; a restart continues from it |
//! | `evidence` | compares what a sink holds with the ledger |
//! | [`agent`] | starts a thread per stage, connects them, supervises them and shuts them down |
//!
//! The other modules are shared: [`http`], [`tls`], [`credential`] and [`secret`] for connections, [`delay`] for
//! back-off, [`access`] for file permissions, [`durable`] for new directories, [`notice`] for the agent's own events,
//! [`telemetry`] for its log, [`clock`] and [`failpoint`] for tests.
//!
//! Only [`agent`] and [`commands`] depend on all stages. docs/ARCHITECTURE.md has the diagram and the invariants.

// The documentation is for maintainers: it is built with private items.
#![allow(rustdoc::private_intra_doc_links)]
// `pub` is what the binary, the tests and the benchmarks use; all else is `pub(crate)`.
#![cfg_attr(not(test), warn(unreachable_pub))]

pub mod cli;
pub mod config;

pub(crate) mod ack;
mod admin;
pub mod checkpoint;
pub(crate) mod enrich;
pub(crate) mod evidence;
pub(crate) mod failpoint;
pub mod format;
pub mod ledger;
pub mod metrics;
pub mod notice;
pub mod position;
pub mod record;
pub mod sink;
pub mod source;
pub(crate) mod status;

pub(crate) mod access;
pub mod agent;
pub mod clock;
pub mod commands;
pub(crate) mod credential;
pub mod delay;
pub(crate) mod durable;
pub(crate) mod http;
pub mod quarantine;
pub mod secret;
pub mod telemetry;
pub(crate) mod tls;

#[cfg(any(test, fuzzing))]
#[path = "../fuzz/targets/mod.rs"]
pub mod fuzz;

#[cfg(test)]
#[path = "../tests/it/rig/skip.rs"]
mod skip;

/// Name of the package, the binary, the unit and the user.
pub const NAME: &str = "confluence-audit-agent";

/// Version, commit and its date, as far as the build knew them: `0.1.0 (3f9c2d1b7a40 2026-11-21)`.
pub const VERSION: &str = env!("CONFLUENCE_AUDIT_AGENT_VERSION");

/// Exit codes, as `sysexits.h` numbers them.
pub mod exit {
    /// Success.
    pub const OK: u8 = 0;
    /// `verify` and `reconcile`: something is missing, or not what was delivered. `find` and `prove`: no such event.
    pub const FINDINGS: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// Data was refused. `run --once`: a destination refused events, and they are in quarantine. `convert`: input
    /// that is too long for a record became an error event.
    pub const DATA: u8 = 65;
    /// A defect of the agent: a stage ended unexpectedly.
    pub const INTERNAL: u8 = 70;
    /// A temporary failure: the same command may succeed later.
    pub const TRY_AGAIN: u8 = 75;
    /// The configuration is wrong: a restart does not help.
    pub const CONFIG: u8 = 78;
}
