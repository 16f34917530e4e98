//! Classifies actions that have no row in `taxonomy.rs`. The rules are in docs/MAPPING.md section 3 and
//! docs/FORMATS.md section 1.

use super::action_words::{ActionWords, Verb, has_word};
use super::event_kind::ActionClass::{Account, Api, Authentication, Entity, Group, UserAccess, WebResources};
use super::event_kind::Severity::{Info, Low, Medium};
use super::event_kind::{
    AUTHENTICATION, Activity, CONFIGURATION, EventKind, IAM, IAM_CONFIGURATION, INFO, OTHER,
    PACKAGE_CONFIGURATION, Severity,
};
use crate::record::{Record, Shape, Text};

/// The subject area of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Permissions,
    Users,
    Logins,
    Apps,
    /// Spaces, pages, and their export and import.
    Content,
    /// The whole site.
    Site,
    /// The action tells the area more precisely.
    Security,
    Unknown,
}

impl Area {
    /// Data Center has a category key. Its category text is in the site's language and is not used. Cloud has
    /// English labels only.
    fn of(record: &Record, action: &str) -> Area {
        if record.shape == Shape::Cloud {
            let label = record.category.text().map(Text::decoded);
            return match label.as_deref().map_or(Area::Unknown, by_label) {
                Area::Unknown => by_label(action),
                area => area,
            };
        }
        let key = record.category_key.text().map(Text::decoded);
        key.as_deref().map_or(Area::Unknown, by_key)
    }

    /// Refines the area by the action. A login is recognised by the action if the area has no key.
    fn refined_by(self, words: &ActionWords, action: &str, shape: Shape) -> Area {
        let is_login = matches!(words.verb, Some(Verb::LogIn | Verb::LogOut));
        match self {
            Area::Security if is_login => Area::Logins,
            Area::Users | Area::Unknown if is_login && shape == Shape::Cloud => Area::Logins,
            Area::Security => match by_label(action) {
                area @ (Area::Permissions | Area::Users) => area,
                _ => Area::Security,
            },
            area => area,
        }
    }

    fn categories(self) -> &'static [&'static str] {
        match self {
            Area::Permissions => IAM_CONFIGURATION,
            Area::Users => IAM,
            Area::Logins => AUTHENTICATION,
            Area::Apps => PACKAGE_CONFIGURATION,
            Area::Content | Area::Site | Area::Security => CONFIGURATION,
            Area::Unknown => &[],
        }
    }
}

fn by_key(key: &str) -> Area {
    match key {
        "audit.logging.category.permissions" => Area::Permissions,
        "audit.logging.category.user.management" => Area::Users,
        "audit.logging.category.auth" => Area::Logins,
        "audit.logging.category.plugins" => Area::Apps,
        "audit.logging.category.spaces"
        | "audit.logging.category.pages"
        | "audit.logging.category.import.export" => Area::Content,
        "audit.logging.category.admin" | "atlassian.audit.event.category.audit" => Area::Site,
        "audit.logging.category.security" => Area::Security,
        _ => Area::Unknown,
    }
}

/// The first area with a word in the label.
fn by_label(label: &str) -> Area {
    const WORDS: [(Area, &str); 7] = [
        (Area::Permissions, "access permission permissions privilege privileges restriction restrictions"),
        (Area::Logins, "auth authentication login logins logon logout session sessions"),
        (
            Area::Users,
            "account accounts group groups guest guests member members membership password user users",
        ),
        (Area::Apps, "addon addons app apps extension extensions marketplace plugin plugins"),
        (
            Area::Content,
            "attachment attachments backup blog blogs comment comments content database databases \
             export exports folder folders import imports page pages space spaces template templates \
             trash whiteboard whiteboards",
        ),
        (Area::Security, "security"),
        (
            Area::Site,
            "admin administration audit auditing automation configuration global license link links \
             organization setting settings site system",
        ),
    ];
    let found = WORDS.iter().find(|(_, wanted)| has_word(label, wanted));
    found.map_or(Area::Unknown, |(area, _)| *area)
}

/// The kind of a record whose action has no row.
pub(super) fn kind(record: &Record, action: &str) -> EventKind {
    by_rule(action, Area::of(record, action), record.shape)
}

fn by_rule(action: &str, area: Area, shape: Shape) -> EventKind {
    let words = ActionWords::of(action);
    let area = area.refined_by(&words, action, shape);
    let categories = area.categories();
    let activity = activity(action, &words, area);
    let types = match words.verb {
        // A failed action changed nothing.
        _ if words.succeeded == Some(false) => INFO,
        _ if area == Area::Users && matches!(activity, (Account, 2..=5 | 9 | 12)) => &["user", "change"],
        verb => types_of_verb(verb),
    };
    let allowed =
        categories.iter().all(|category| types.iter().all(|kind| allowed_types(category).contains(kind)));
    let outcome = outcome(&words);
    EventKind {
        categories,
        types: if allowed { types } else { INFO },
        outcome,
        status: outcome,
        severity: severity(action, &words, area, activity),
        activity,
    }
}

pub(super) fn outcome(words: &ActionWords) -> Option<&'static str> {
    words.succeeded.map(|succeeded| if succeeded { "success" } else { "failure" })
}

/// `event.type` of ECS.
fn types_of_verb(verb: Option<Verb>) -> &'static [&'static str] {
    match verb {
        Some(Verb::Create | Verb::Import) => &["creation"],
        Some(Verb::Delete) => &["deletion"],
        Some(
            Verb::Update
            | Verb::Move
            | Verb::Enable
            | Verb::Disable
            | Verb::Lock
            | Verb::Unlock
            | Verb::Reset,
        ) => &["change"],
        Some(Verb::Read | Verb::Search | Verb::Export) => &["access"],
        Some(Verb::LogIn) => &["start"],
        Some(Verb::LogOut) => &["end"],
        None => INFO,
    }
}

/// The types that ECS 8.11 allows for a category.
fn allowed_types(category: &str) -> &'static [&'static str] {
    match category {
        "authentication" => &["start", "end", "info"],
        "configuration" => &["access", "change", "creation", "deletion", "info"],
        "iam" => &["admin", "change", "creation", "deletion", "group", "info", "user"],
        "package" => &["access", "change", "deletion", "info", "installation", "start"],
        _ => &[],
    }
}

const ACCOUNT: &str = "account accounts guest guests user users";

/// The class and activity of OCSF.
fn activity(action: &str, words: &ActionWords, area: Area) -> Activity {
    let Some(verb) = words.verb else {
        return match (area, words.succeeded) {
            // A failure in this area is a failed login.
            (Area::Logins, Some(false)) => (Authentication, 1),
            (Area::Logins, _) => (Authentication, OTHER),
            (Area::Apps, _) => (Entity, OTHER),
            (Area::Content, _) => (WebResources, OTHER),
            _ => (Api, OTHER),
        };
    };
    let is_direct_object = !words.has_preposition;
    match verb {
        Verb::LogIn => return (Authentication, 1),
        Verb::LogOut => return (Authentication, 2),
        Verb::Update if words.has_noun("password passwords") => return (Account, 3),
        Verb::Reset if words.has_noun("password passwords") => return (Account, 4),
        _ => {}
    }
    if area == Area::Users && words.is_membership(action) {
        match verb {
            Verb::Create => return (Group, 3),
            Verb::Delete => return (Group, 4),
            _ => {}
        }
    }
    if area == Area::Users && words.has_noun(ACCOUNT) {
        match verb {
            Verb::Create if is_direct_object => return (Account, 1),
            Verb::Delete if is_direct_object => return (Account, 6),
            Verb::Enable => return (Account, 2),
            Verb::Disable => return (Account, 5),
            Verb::Lock => return (Account, 9),
            Verb::Unlock => return (Account, 12),
            Verb::Update | Verb::Move | Verb::Reset => return (Account, OTHER),
            _ => {}
        }
    }
    if area == Area::Users && is_direct_object && words.has_noun("group groups") {
        match verb {
            Verb::Create => return (Group, 6),
            Verb::Delete => return (Group, 5),
            _ => {}
        }
    }
    if area == Area::Permissions && words.has_noun("access permission permissions privileges") {
        match verb {
            Verb::Create => return (UserAccess, 1),
            Verb::Delete => return (UserAccess, 2),
            _ => {}
        }
    }
    match area {
        Area::Logins => match words.succeeded {
            Some(false) => (Authentication, 1),
            _ => (Authentication, OTHER),
        },
        Area::Apps => (Entity, entity_activity(verb)),
        Area::Content => (WebResources, resource_activity(verb)),
        _ => match verb {
            // Other classes have no activity for these.
            Verb::Export | Verb::Import => (WebResources, resource_activity(verb)),
            Verb::Enable | Verb::Disable => (Entity, entity_activity(verb)),
            Verb::Search => (Api, 2),
            verb => (Api, resource_activity(verb)),
        },
    }
}

/// `activity_id` of Entity Management.
fn entity_activity(verb: Verb) -> u8 {
    match verb {
        Verb::Search | Verb::Export => 2,
        Verb::Import => 1,
        Verb::Move => 5,
        Verb::Enable => 8,
        Verb::Disable => 9,
        verb => resource_activity(verb),
    }
}

/// `activity_id` of Web Resources Activity. Up to deletion, also of API Activity.
fn resource_activity(verb: Verb) -> u8 {
    match verb {
        Verb::Create => 1,
        Verb::Read => 2,
        Verb::Update
        | Verb::Move
        | Verb::Enable
        | Verb::Disable
        | Verb::Lock
        | Verb::Unlock
        | Verb::Reset => 3,
        Verb::Delete => 4,
        Verb::Search => 5,
        Verb::Import => 6,
        Verb::Export => 7,
        Verb::LogIn | Verb::LogOut => OTHER,
    }
}

fn severity(action: &str, words: &ActionWords, area: Area, activity: Activity) -> Severity {
    let changes = match words.verb {
        _ if words.succeeded == Some(false) => return Medium,
        None | Some(Verb::Read | Verb::Search | Verb::LogOut) => return Info,
        Some(Verb::LogIn) if has_word(action, "sudo websudo") => return Medium,
        Some(Verb::LogIn) => return Info,
        // Exports, imports and deletions.
        Some(Verb::Export | Verb::Import | Verb::Delete) => return Medium,
        Some(_) => !matches!(area, Area::Content | Area::Unknown),
    };
    // Accounts and public access are relevant in every area.
    let is_relevant = changes || activity.0 == Account || has_word(action, "anonymous public");
    if is_relevant { Medium } else { Low }
}

#[cfg(test)]
mod tests;
