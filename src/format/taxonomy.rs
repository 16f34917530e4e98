//! Classifies actions by a table, and by the rules those that it does not contain.

use super::action_words::ActionWords;
use super::affected;
use super::event_kind::{
    AUTHENTICATION, ActionClass, Activity, CONFIGURATION, EventKind, IAM, IAM_CONFIGURATION, INFO, OTHER,
    PACKAGE, PACKAGE_CONFIGURATION, Severity,
};
use super::rules;
use crate::record::{Record, Text};
use ActionClass::{Account, Api, Authentication, Entity, Group, UserAccess, WebResources};
use Severity::{High, Info, Low, Medium};

/// A row: key of the action or label of Cloud, ECS categories, types and outcome, severity, OCSF activity.
struct Row(
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    Option<&'static str>,
    Severity,
    Activity,
);

/// The table in docs/MAPPING.md. Add a row for an action that the rules classify badly.
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
    Row("audit.logging.summary.plugin.installed", PACKAGE, &["installation"], None, High, (Entity, 1)),
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

/// The table, sorted for binary search.
#[derive(Clone, Debug)]
pub struct Taxonomy {
    rows: Vec<(&'static str, EventKind)>,
}

impl Default for Taxonomy {
    fn default() -> Self {
        let mut rows: Vec<(&str, EventKind)> = TABLE
            .iter()
            .map(|Row(action, categories, types, outcome, severity, activity)| {
                let kind = EventKind {
                    categories,
                    types,
                    outcome: *outcome,
                    status: outcome.or_else(|| rules::outcome(&ActionWords::of(action))),
                    severity: *severity,
                    activity: *activity,
                };
                (*action, kind)
            })
            .collect();
        rows.sort_unstable_by_key(|(action, _)| order(action));
        Taxonomy { rows }
    }
}

impl Taxonomy {
    /// The kind of a record: by its row, else by the rules.
    pub fn kind(&self, record: &Record) -> EventKind {
        let Some(action) = record.stable_action().map(Text::decoded) else {
            return EventKind {
                categories: &[],
                types: INFO,
                outcome: None,
                status: None,
                severity: Info,
                activity: (Api, OTHER),
            };
        };
        let mut kind = match self.rows.binary_search_by_key(&order(&action), |(row, _)| order(row)) {
            Ok(at) => self.rows[at].1,
            Err(_) => rules::kind(record, &action),
        };
        // An update of an account may activate or deactivate it.
        if kind.activity == (Account, OTHER)
            && let Some(is_active) = affected::new_active(record)
        {
            kind.activity.1 = if is_active { 2 } else { 5 };
            kind.severity = Medium;
        }
        kind
    }
}

/// Whether the action has a row.
pub(super) fn is_listed(action: &str) -> bool {
    TABLE.iter().any(|row| row.0 == action)
}

/// Lengths differ more often than the first characters, so they are compared first.
fn order(action: &str) -> (usize, &[u8]) {
    (action.len(), action.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_action_has_two_rows() {
        let rows = Taxonomy::default().rows;
        assert!(rows.windows(2).all(|pair| pair[0].0 != pair[1].0));
    }

    /// docs/FORMATS.md lists each key with its severity and OCSF activity, and no others.
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

    /// The label of Cloud is in the row after its key and is classified in the same way.
    #[test]
    fn labels_are_classified_like_their_keys() {
        for pair in TABLE.windows(2) {
            let (key, label) = (&pair[0], &pair[1]);
            if key.0.contains('.') && !label.0.contains('.') && label.0 != "User deactivated" {
                assert_eq!((key.1, key.2, key.4, key.5), (label.1, label.2, label.4, label.5), "{}", label.0);
            }
        }
    }
}
