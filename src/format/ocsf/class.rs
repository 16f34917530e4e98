//! The classes of OCSF 1.8.0 that are used, with the names that the schema gives them and their activities.

use super::super::taxonomy::{ActionClass, OTHER, Severity};

/// What the schema says of a class.
pub struct Names {
    pub uid: u16,
    pub name: &'static str,
    pub category_uid: u8,
    pub category: &'static str,
    /// By `activity_id`, from 1.
    activities: &'static [&'static str],
}

const IAM: (u8, &str) = (3, "Identity & Access Management");
const APPLICATION: (u8, &str) = (6, "Application Activity");

/// For what is no audit record: the agent's own notices and what cannot be read.
pub const BASE: Names = Names {
    uid: 0,
    name: "Base Event",
    category_uid: 0,
    category: "Uncategorized",
    activities: &[],
};

pub const fn names(class: ActionClass) -> Names {
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
            &[
                "Create", "Read", "Update", "Delete", "Move", "Enroll", "Unenroll", "Enable", "Disable",
            ],
        ),
        ActionClass::UserAccess => (
            3005,
            "User Access Management",
            IAM,
            &["Assign Privileges", "Revoke Privileges"],
        ),
        ActionClass::Group => (
            3006,
            "Group Management",
            IAM,
            &[
                "Assign Privileges",
                "Revoke Privileges",
                "Add User",
                "Remove User",
                "Delete",
                "Create",
            ],
        ),
        ActionClass::WebResources => (
            6001,
            "Web Resources Activity",
            APPLICATION,
            &["Create", "Read", "Update", "Delete", "Search", "Import", "Export"],
        ),
        ActionClass::Api => (
            6003,
            "API Activity",
            APPLICATION,
            &["Create", "Read", "Update", "Delete"],
        ),
    };
    Names {
        uid,
        name,
        category_uid,
        category,
        activities,
    }
}

impl Names {
    /// The schema's caption of an activity.
    pub fn activity(&self, id: u8) -> &'static str {
        match id {
            0 => "Unknown",
            OTHER => "Other",
            _ => self
                .activities
                .get(usize::from(id) - 1)
                .copied()
                .unwrap_or("Other"),
        }
    }
}

/// `severity_id` and its caption.
pub fn severity(severity: Severity) -> (u64, &'static str) {
    match severity {
        Severity::Info => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
    }
}

/// `status_id` and its caption.
pub fn status(outcome: Option<&str>) -> (u64, &'static str) {
    match outcome {
        Some("success") => (1, "Success"),
        Some(_) => (2, "Failure"),
        None => (0, "Unknown"),
    }
}
