//! The classes of OCSF 1.8.0 that are used, with names and activities of the schema.

use super::super::event_kind::{ActionClass, OTHER, Severity};
use crate::notice;

/// A class of the schema.
pub(super) struct OcsfClass {
    pub uid: u16,
    pub name: &'static str,
    pub category_uid: u8,
    pub category: &'static str,
    /// Captions by `activity_id`, from 1.
    activities: &'static [&'static str],
}

const IAM: (u8, &str) = (3, "Identity & Access Management");
const APPLICATION: (u8, &str) = (6, "Application Activity");

/// For events that are not audit records: the agent's own events and unreadable records.
pub(super) const BASE: OcsfClass =
    OcsfClass { uid: 0, name: "Base Event", category_uid: 0, category: "Uncategorized", activities: &[] };

/// For the start, the stop and the heartbeat of the agent.
pub(super) const APPLICATION_LIFECYCLE: OcsfClass = OcsfClass {
    uid: 6002,
    name: "Application Lifecycle",
    category_uid: APPLICATION.0,
    category: APPLICATION.1,
    activities: &["Install", "Remove", "Start", "Stop", "Restart", "Enable", "Disable", "Update"],
};

/// Class and activity of an event of the agent itself.
pub(super) fn of_notice(action: &str) -> (OcsfClass, u8) {
    match action {
        notice::STARTED => (APPLICATION_LIFECYCLE, 3),
        notice::STOPPED => (APPLICATION_LIFECYCLE, 4),
        notice::HEARTBEAT => (APPLICATION_LIFECYCLE, OTHER),
        _ => (BASE, OTHER),
    }
}

pub(super) const fn class_of(class: ActionClass) -> OcsfClass {
    let (uid, name, (category_uid, category), activities): (_, _, _, &[&str]) = match class {
        ActionClass::Account => (
            3001,
            "Account Change",
            IAM,
            &[
                "Create",
                "Enable",
                "Password Change",
                "Password Reset",
                "Disable",
                "Delete",
                "Attach Policy",
                "Detach Policy",
                "Lock",
                "MFA Factor Enable",
                "MFA Factor Disable",
                "Unlock",
            ],
        ),
        ActionClass::Authentication => (3002, "Authentication", IAM, &["Logon", "Logoff"]),
        ActionClass::Entity => (
            3004,
            "Entity Management",
            IAM,
            &["Create", "Read", "Update", "Delete", "Move", "Enroll", "Unenroll", "Enable", "Disable"],
        ),
        ActionClass::UserAccess => {
            (3005, "User Access Management", IAM, &["Assign Privileges", "Revoke Privileges"])
        }
        ActionClass::Group => (
            3006,
            "Group Management",
            IAM,
            &["Assign Privileges", "Revoke Privileges", "Add User", "Remove User", "Delete", "Create"],
        ),
        ActionClass::WebResources => (
            6001,
            "Web Resources Activity",
            APPLICATION,
            &["Create", "Read", "Update", "Delete", "Search", "Import", "Export"],
        ),
        ActionClass::Api => (6003, "API Activity", APPLICATION, &["Create", "Read", "Update", "Delete"]),
    };
    OcsfClass { uid, name, category_uid, category, activities }
}

impl OcsfClass {
    /// The schema's caption of an activity.
    pub(super) fn activity(&self, id: u8) -> &'static str {
        match id {
            0 => "Unknown",
            OTHER => "Other",
            _ => self.activities.get(usize::from(id) - 1).copied().unwrap_or("Other"),
        }
    }
}

/// `severity_id` and its caption.
pub(super) fn severity(severity: Severity) -> (u64, &'static str) {
    match severity {
        Severity::Info => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
    }
}

/// `status_id` and its caption.
pub(super) fn status(outcome: Option<&str>) -> (u64, &'static str) {
    match outcome {
        Some("success") => (1, "Success"),
        Some(_) => (2, "Failure"),
        None => (0, "Unknown"),
    }
}
