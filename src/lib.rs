//! Delivers every audit event of a Confluence to the security team's systems, once.
//!
//! Events flow one way, and the modules are listed in that order:
//!
//! ```text
//! source ──► record ──► format ──► sink ──► ack ──► checkpoint
//! ```
//!
//! Only [`agent`] sees all of them: it builds the stages, joins them, watches over them and drains them.
//! docs/ARCHITECTURE.md has the map and the invariants.

pub mod cli;
pub mod config;

pub mod ack;
pub mod checkpoint;
pub mod enrich;
pub mod failpoint;
pub mod format;
pub mod notice;
pub mod position;
pub mod record;
pub mod sink;
pub mod source;

pub mod access;
pub mod agent;
pub mod clock;
pub mod commands;
pub mod credential;
pub mod delay;
pub mod http;
pub mod quarantine;
pub mod secret;
pub mod telemetry;
pub mod tls;

/// Name of the package, the binary, the unit and the user.
pub const NAME: &str = "confluence-audit-agent";

/// `0.1.0 (3f9c2d1b7a40 2026-11-21)`: version, commit and its date, as far as the build knew them.
pub const VERSION: &str = env!("CONFLUENCE_AUDIT_AGENT_VERSION");

/// Exit codes, as `sysexits.h` numbers them.
pub mod exit {
    /// Everything asked for was done.
    pub const OK: u8 = 0;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// Data was not accepted. Of `run --once`: a destination refused events, and they are in quarantine. Of `convert`: some of the
    /// input was too long for a record, and became an event that says so.
    pub const DATA: u8 = 65;
    /// A defect of the agent: a stage ended that must not end.
    pub const INTERNAL: u8 = 70;
    /// Nothing is wrong with the request; the same call may succeed later.
    pub const TRY_AGAIN: u8 = 75;
    /// The configuration is wrong; starting again does not help.
    pub const CONFIG: u8 = 78;
}
