//! What kind of event an action is: `event.category`, `event.type` and `event.outcome` of ECS, the class and activity
//! of OCSF, and how much it asks for attention.

use std::borrow::Cow;

use crate::notice;
use crate::record::{Record, Text};
use Class::{Account, Api, Authentication, Entity, Group, UserAccess, WebResources};
use Severity::{High, Info, Low, Medium};

/// What is written of an event's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub categories: &'static [&'static str],
    pub types: &'static [&'static str],
    pub outcome: Option<&'static str>,
    pub severity: Severity,
    pub activity: Activity,
}

/// How much an event asks for attention. High is what takes something away for good, or changes who may do what
/// on the whole site and what is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
}

impl Severity {
    /// Of what the agent has to say itself.
    pub fn of_notice(action: &str) -> Severity {
        match action {
            notice::FILE_TAMPERED | notice::GAP => High,
            notice::TOKEN_EXPIRING => Medium,
            _ => Low,
        }
    }
}

/// A class of OCSF and the class's own `activity_id`.
pub type Activity = (Class, u8);

/// The classes of OCSF that audit events fall into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Account,
    Authentication,
    Entity,
    UserAccess,
    Group,
    WebResources,
    Api,
}

/// `activity_id` of what a class has no number for, and of what is not known.
pub const OTHER: u8 = 99;
pub const UNKNOWN: u8 = 0;

/// One row: the action's key or Cloud's label, its categories, types, outcome, severity and OCSF activity.
struct Row(
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    Option<&'static str>,
    Severity,
    Activity,
);

const AUTHENTICATION: &[&str] = &["authentication"];
const CONFIGURATION: &[&str] = &["configuration"];
const IAM: &[&str] = &["iam"];
const IAM_CONFIGURATION: &[&str] = &["iam", "configuration"];
const PACKAGE_CONFIGURATION: &[&str] = &["package", "configuration"];

/// The table of docs/MAPPING.md. Add a row for an action that the rules below do not tell well.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row("audit.logging.summary.global.permission.added", IAM_CONFIGURATION, &["creation"], None, High, (UserAccess, 1)),
    Row("Global permission added", IAM_CONFIGURATION, &["creation"], None, High, (UserAccess, 1)),
    Row("audit.logging.summary.global.permission.removed", IAM_CONFIGURATION, &["deletion"], None, High, (UserAccess, 2)),
    Row("Global permission removed", IAM_CONFIGURATION, &["deletion"], None, High, (UserAccess, 2)),
    Row("audit.logging.summary.space.permission.added", IAM_CONFIGURATION, &["creation"], None, Medium, (UserAccess, 1)),
    Row("Space permission added", IAM_CONFIGURATION, &["creation"], None, Medium, (UserAccess, 1)),
    Row("audit.logging.summary.space.permission.removed", IAM_CONFIGURATION, &["deletion"], None, Medium, (UserAccess, 2)),
    Row("Space permission removed", IAM_CONFIGURATION, &["deletion"], None, Medium, (UserAccess, 2)),
    Row("audit.logging.summary.user.created", IAM, &["user", "creation"], None, Medium, (Account, 1)),
    Row("User created", IAM, &["user", "creation"], None, Medium, (Account, 1)),
    Row("audit.logging.summary.user.renamed", IAM, &["user", "change"], None, Low, (Account, 99)),
    Row("User renamed", IAM, &["user", "change"], None, Low, (Account, 99)),
    Row("audit.logging.summary.user.updated", IAM, &["user", "change"], None, Low, (Account, 99)),
    Row("User details updated", IAM, &["user", "change"], None, Low, (Account, 99)),
    Row("audit.logging.summary.user.deleted", IAM, &["user", "deletion"], None, High, (Account, 6)),
    Row("User deleted", IAM, &["user", "deletion"], None, High, (Account, 6)),
    Row("User deactivated", IAM, &["user", "change"], None, Medium, (Account, 5)),
    Row("audit.logging.summary.user.password.changed", IAM, &["user", "change"], Some("success"), Medium, (Account, 3)),
    Row("audit.logging.summary.group.membership.added", IAM, &["group", "change"], None, Medium, (Group, 3)),
    Row("User added to group", IAM, &["group", "change"], None, Medium, (Group, 3)),
    Row("audit.logging.summary.group.membership.removed", IAM, &["group", "change"], None, Medium, (Group, 4)),
    Row("User removed from group", IAM, &["group", "change"], None, Medium, (Group, 4)),
    Row("audit.logging.summary.group.created", IAM, &["group", "creation"], None, Low, (Group, 6)),
    Row("Group created", IAM, &["group", "creation"], None, Low, (Group, 6)),
    Row("audit.logging.summary.group.deleted", IAM, &["group", "deletion"], None, High, (Group, 5)),
    Row("Group deleted", IAM, &["group", "deletion"], None, High, (Group, 5)),
    Row("audit.logging.summary.directory.added", IAM_CONFIGURATION, &["creation"], None, High, (Entity, 1)),
    Row("personal.access.tokens.audit.log.summary.token.created", IAM, &["admin", "creation"], None, Medium, (Entity, 1)),
    Row("personal.access.tokens.audit.log.summary.token.deleted", IAM, &["admin", "deletion"], None, Low, (Entity, 4)),
    Row("atlassian.audit.event.action.audit.config.updated", CONFIGURATION, &["change"], None, High, (Entity, 3)),
    Row("Audit Log configuration updated", CONFIGURATION, &["change"], None, High, (Entity, 3)),
    Row("atlassian.audit.event.action.audit.search", CONFIGURATION, &["access"], None, Info, (Api, 2)),
    Row("audit.logging.summary.global.settings.edited", CONFIGURATION, &["change"], None, High, (Entity, 3)),
    Row("Global settings changed", CONFIGURATION, &["change"], None, High, (Entity, 3)),
    Row("audit.logging.summary.space.config.updated", CONFIGURATION, &["change"], None, Low, (WebResources, 3)),
    Row("Space configuration updated", CONFIGURATION, &["change"], None, Low, (WebResources, 3)),
    Row("audit.logging.summary.space.created", CONFIGURATION, &["creation"], None, Info, (WebResources, 1)),
    Row("Space created", CONFIGURATION, &["creation"], None, Info, (WebResources, 1)),
    Row("audit.logging.summary.page.created", CONFIGURATION, &["creation"], None, Info, (WebResources, 1)),
    Row("audit.logging.summary.space.removed", CONFIGURATION, &["deletion"], None, High, (WebResources, 4)),
    Row("Space deleted", CONFIGURATION, &["deletion"], None, High, (WebResources, 4)),
    Row("audit.logging.summary.page.deleted", CONFIGURATION, &["deletion"], None, Medium, (WebResources, 4)),
    Row("audit.logging.summary.space.import", CONFIGURATION, &["creation"], None, Medium, (WebResources, 6)),
    Row("Space import", CONFIGURATION, &["creation"], None, Medium, (WebResources, 6)),
    Row("audit.logging.summary.space.export", CONFIGURATION, &["access"], None, Medium, (WebResources, 7)),
    Row("Space export", CONFIGURATION, &["access"], None, Medium, (WebResources, 7)),
    Row("audit.logging.summary.plugin.enabled", PACKAGE_CONFIGURATION, &["change"], None, Medium, (Entity, 8)),
    Row("audit.logging.summary.plugin.installed", PACKAGE_CONFIGURATION, &["installation"], None, High, (Entity, 1)),
    Row("audit.logging.summary.plugin.uninstalled", PACKAGE_CONFIGURATION, &["deletion"], None, Medium, (Entity, 4)),
    Row("audit.logging.summary.plugin.disabled", PACKAGE_CONFIGURATION, &["change"], None, Medium, (Entity, 9)),
    Row("audit.logging.summary.login.success", AUTHENTICATION, &["start"], Some("success"), Info, (Authentication, 1)),
    Row("audit.logging.summary.login.failed", AUTHENTICATION, &["info"], Some("failure"), Medium, (Authentication, 1)),
    Row("audit.logging.summary.user.logout", AUTHENTICATION, &["end"], None, Info, (Authentication, 2)),
    Row("audit.logging.summary.sudo.logout", AUTHENTICATION, &["end"], None, Info, (Authentication, 2)),
    Row("audit.logging.summary.sudo.auth.successful", AUTHENTICATION, &["start"], None, Medium, (Authentication, 1)),
];

/// The actions of the table.
#[cfg(test)]
pub fn actions() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.0)
}

/// The table, ordered so that it can be searched.
#[derive(Clone, Debug)]
pub struct Taxonomy {
    rows: Vec<(&'static str, Kind)>,
}

impl Taxonomy {
    pub fn new() -> Self {
        let mut rows: Vec<(&str, Kind)> = TABLE
            .iter()
            .map(|Row(action, categories, types, outcome, severity, activity)| {
                let kind = Kind {
                    categories,
                    types,
                    outcome: *outcome,
                    severity: *severity,
                    activity: *activity,
                };
                (*action, kind)
            })
            .collect();
        rows.sort_unstable_by_key(|(action, _)| order(action));
        Taxonomy { rows }
    }

    /// The kind of a record: by the table, else by the rules.
    pub fn kind(&self, record: &Record) -> Kind {
        let Some(action) = record.stable_action().map(Text::decoded) else {
            return Kind {
                categories: &[],
                types: INFO,
                outcome: None,
                severity: Info,
                activity: (Api, UNKNOWN),
            };
        };
        if let Ok(at) = self
            .rows
            .binary_search_by_key(&order(&action), |(row, _)| order(row))
        {
            return self.rows[at].1;
        }
        let category_key = record.category_key.text().map(Text::decoded);
        by_rule(&action, category_key.unwrap_or(Cow::Borrowed("")).as_ref())
    }
}

/// Lengths differ more often than first letters do.
fn order(action: &str) -> (usize, &[u8]) {
    (action.len(), action.as_bytes())
}

const INFO: &[&str] = &["info"];

fn by_rule(action: &str, category_key: &str) -> Kind {
    let categories: &[&str] = match category_key {
        "audit.logging.category.permissions" => IAM_CONFIGURATION,
        "audit.logging.category.user.management" => IAM,
        "audit.logging.category.auth" => AUTHENTICATION,
        "audit.logging.category.plugins" => PACKAGE_CONFIGURATION,
        "audit.logging.category.admin"
        | "audit.logging.category.spaces"
        | "audit.logging.category.import.export"
        | "atlassian.audit.event.category.audit" => CONFIGURATION,
        _ => &[],
    };
    let last_word = action
        .rsplit(|letter: char| !letter.is_alphabetic())
        .find(|word| !word.is_empty());
    let types: &[&str] = match last_word.unwrap_or("").to_lowercase().as_str() {
        "created" | "added" | "installed" | "imported" => &["creation"],
        "removed" | "deleted" | "uninstalled" => &["deletion"],
        "updated" | "edited" | "changed" | "renamed" | "enabled" | "disabled" | "archived" | "restored" => {
            &["change"]
        }
        "searched" | "viewed" | "exported" | "downloaded" => &["access"],
        _ => INFO,
    };
    let (severity, activity) = by_type(categories, types[0], category_key);
    let allowed = categories
        .iter()
        .all(|category| allowed_types(category).contains(&types[0]));
    Kind {
        categories,
        types: if allowed { types } else { INFO },
        outcome: None,
        severity,
        activity,
    }
}

/// What follows from the action's last word where ECS has no say in it.
fn by_type(categories: &[&str], kind: &str, category_key: &str) -> (Severity, Activity) {
    let is = |category: &str| categories.contains(&category);
    let class = match category_key {
        "audit.logging.category.spaces" | "audit.logging.category.import.export" => WebResources,
        _ if is("authentication") => Authentication,
        _ if is("package") => Entity,
        _ => Api,
    };
    // The numbers of creation, access, change and deletion are the same in these three classes.
    let activity = match kind {
        _ if class == Authentication => OTHER,
        "creation" => 1,
        "access" => 2,
        "change" => 3,
        "deletion" => 4,
        _ => OTHER,
    };
    let of_whole_site = matches!(
        category_key,
        "audit.logging.category.admin" | "atlassian.audit.event.category.audit"
    );
    let severity = match kind {
        "deletion" => Medium,
        "creation" | "change" if is("iam") || is("package") || of_whole_site => Medium,
        "creation" | "change" if is("configuration") => Low,
        _ => Info,
    };
    (severity, (class, activity))
}

/// Which types ECS 8.11 allows for a category.
fn allowed_types(category: &str) -> &'static [&'static str] {
    match category {
        "authentication" => &["start", "end", "info"],
        "configuration" => &["access", "change", "creation", "deletion", "info"],
        "iam" => &["admin", "change", "creation", "deletion", "group", "info", "user"],
        "package" => &["access", "change", "deletion", "info", "installation", "start"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_action_stands_twice() {
        let rows = Taxonomy::new().rows;
        assert!(rows.windows(2).all(|pair| pair[0].0 != pair[1].0));
    }

    /// docs/FORMATS.md has each key with the severity and the OCSF activity that it gets, and no others.
    #[test]
    fn severities_and_activities_are_documented() {
        let document = include_str!("../../docs/FORMATS.md");
        let mut documented = Vec::new();
        for line in document.lines() {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, actions, severity, class, activity, _] = columns[..] else {
                continue;
            };
            let Some(class) = class.get(..4).and_then(|uid| uid.parse::<u16>().ok()) else {
                continue;
            };
            let activity: u8 = activity.split(' ').next().and_then(|id| id.parse().ok()).unwrap();
            for action in actions.split(", ") {
                let action = action.trim_matches(['`', '*']);
                let action = match action.strip_prefix("s.") {
                    Some(key) => format!("audit.logging.summary.{key}"),
                    None => action.to_owned(),
                };
                documented.push((action, severity.to_owned(), class, activity));
            }
        }
        let uid = |class| match class {
            Account => 3001,
            Authentication => 3002,
            Entity => 3004,
            UserAccess => 3005,
            Group => 3006,
            WebResources => 6001,
            Api => 6003,
        };
        let word = |severity| match severity {
            Info => "informational",
            Low => "low",
            Medium => "medium",
            High => "high",
        };
        let mut expected: Vec<_> = TABLE
            .iter()
            .filter(|row| row.0.contains('.') || row.0 == "User deactivated")
            .map(|row| {
                let (class, activity) = row.5;
                (row.0.to_owned(), word(row.4).to_owned(), uid(class), activity)
            })
            .collect();
        documented.sort();
        expected.sort();
        assert_eq!(documented, expected);
    }

    /// Cloud's label stands behind the key it goes with, and is the same kind of event.
    #[test]
    fn labels_are_what_their_keys_are() {
        for pair in TABLE.windows(2) {
            let (key, label) = (&pair[0], &pair[1]);
            if key.0.contains('.') && !label.0.contains('.') && label.0 != "User deactivated" {
                assert_eq!(
                    (key.1, key.2, key.4, key.5),
                    (label.1, label.2, label.4, label.5),
                    "{}",
                    label.0
                );
            }
        }
    }

    #[test]
    fn rules() {
        const C: &str = "audit.logging.category.";
        for (action, category, categories, kind) in [
            ("x.widget.created", "permissions", IAM_CONFIGURATION, "creation"),
            ("x.widget.Removed", "user.management", IAM, "deletion"),
            ("Widget RENAMED!", "user.management", IAM, "change"),
            ("x.widget.viewed", "user.management", IAM, "info"),
            ("x.widget.created", "auth", AUTHENTICATION, "info"),
            ("x.widget.installed", "plugins", PACKAGE_CONFIGURATION, "info"),
            ("x.widget.downloaded", "plugins", PACKAGE_CONFIGURATION, "access"),
            ("x.widget.archived", "admin", CONFIGURATION, "change"),
            ("x.widget.exported", "spaces", CONFIGURATION, "access"),
            ("x.widget.imported", "import.export", CONFIGURATION, "creation"),
            ("x.widget.searched", "other", &[], "access"),
            ("x.recreated", "other", &[], "info"),
            ("x.created.2", "other", &[], "creation"),
            ("écreated", "other", &[], "info"),
            ("…", "other", &[], "info"),
        ] {
            let found = by_rule(action, &format!("{C}{category}"));
            assert_eq!(
                (found.categories, found.types),
                (categories, &[kind][..]),
                "{action} {category}"
            );
            assert_eq!(found.outcome, None);
        }
        assert_eq!(
            by_rule("x.searched", "atlassian.audit.event.category.audit").categories,
            CONFIGURATION
        );
    }
}
