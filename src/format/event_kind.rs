//! The classification of an event: `event.category`, `event.type` and `event.outcome` of ECS, class and activity of
//! OCSF, and the severity.

use crate::notice;

pub(super) const AUTHENTICATION: &[&str] = &["authentication"];
pub(super) const CONFIGURATION: &[&str] = &["configuration"];
pub(super) const IAM: &[&str] = &["iam"];
pub(super) const IAM_CONFIGURATION: &[&str] = &["iam", "configuration"];
pub(super) const PACKAGE: &[&str] = &["package"];
pub(super) const PACKAGE_CONFIGURATION: &[&str] = &["package", "configuration"];
pub(super) const INFO: &[&str] = &["info"];

/// The classification of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKind {
    pub categories: &'static [&'static str],
    pub types: &'static [&'static str],
    pub outcome: Option<&'static str>,
    /// The outcome in formats other than ECS. In ECS some rows have no outcome.
    pub status: Option<&'static str>,
    pub severity: Severity,
    pub activity: Activity,
}

/// The severity of an event. High: permanent deletions, and changes of global permissions or of the audit
/// configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
}

impl Severity {
    /// The severity of the agent's own events.
    pub fn of_notice(action: &str) -> Severity {
        match action {
            notice::FILE_TAMPERED
            | notice::GAP
            | notice::COVERAGE_LOWERED
            | notice::DENYLIST_CHANGED
            | notice::LEDGER_DAMAGED
            | notice::LEDGER_RESTARTED => Severity::High,
            notice::TOKEN_EXPIRING | notice::RETENTION_CHANGED => Severity::Medium,
            notice::HEARTBEAT => Severity::Info,
            _ => Severity::Low,
        }
    }
}

/// An OCSF class and an `activity_id` of that class.
pub(super) type Activity = (ActionClass, u8);

/// The OCSF classes of audit events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionClass {
    Account,
    Authentication,
    Entity,
    UserAccess,
    Group,
    WebResources,
    Api,
}

/// The `activity_id` of an action for which the class has none.
pub(super) const OTHER: u8 = 99;
