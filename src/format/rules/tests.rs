use super::super::event_kind::ActionClass;
use super::super::event_kind::Severity::High;
use super::super::taxonomy::{Taxonomy, actions};
use super::*;
use crate::record::{Parsed, Scratch, parse};
use serde_json::json;

const C: &str = "audit.logging.category.";

fn kind_of(line: &serde_json::Value) -> EventKind {
    let line = line.to_string();
    match parse(line.as_bytes(), &mut Scratch::default()) {
        Parsed::Record(record) => Taxonomy::default().kind(&record),
        Parsed::Unreadable { error, .. } => panic!("{error}"),
    }
}

fn of_key(action: &str, category: &str) -> EventKind {
    kind_of(&json!({"auditType": {"actionI18nKey": action, "categoryI18nKey": category}}))
}

fn of_label(summary: &str, category: &str) -> EventKind {
    kind_of(&json!({"creationDate": 1, "summary": summary, "category": category}))
}

/// "Expected event types" of ECS 8.11 for each category that is used. Independent of the list in the code.
const PUBLISHED: [(&str, &str); 4] = [
    ("authentication", "start, end, info"),
    ("configuration", "access, change, creation, deletion, info"),
    ("iam", "admin, change, creation, deletion, group, info, user"),
    ("package", "access, change, deletion, info, installation, start"),
];

fn assert_published(kind: &EventKind, action: &str) {
    assert!(!kind.types.is_empty(), "{action}");
    for category in kind.categories {
        let (_, types) = PUBLISHED.iter().find(|(name, _)| name == category).unwrap();
        for kind in kind.types {
            assert!(
                types.split(", ").any(|published| published == *kind),
                "{action}: {category} with {kind}"
            );
        }
    }
}

/// Each row of the table, and each verb in each category, is a combination that ECS allows.
#[test]
fn categories_and_types_are_those_of_ecs() {
    let mut count = 0;
    for action in actions() {
        for line in
            [json!({"auditType": {"actionI18nKey": action}}), json!({"creationDate": 1, "summary": action})]
        {
            assert_published(&kind_of(&line), action);
            count += 1;
        }
    }
    let verbs = "created removed updated moved copied enabled disabled locked unlocked reset viewed searched exported \
                 imported installed uninstalled login logout auth failed successful emptied purged backup export import \
                 restored archived reindexed turned.on turned.off logged.in";
    let nouns = [
        "user",
        "group",
        "password",
        "permission",
        "access",
        "plugin",
        "space",
        "auth",
        "token",
        "widget",
        "",
    ];
    let keys = [
        "permissions",
        "user.management",
        "auth",
        "plugins",
        "admin",
        "spaces",
        "pages",
        "import.export",
        "security",
        "other",
    ];
    let labels = [
        "Permissions",
        "Users and groups",
        "Authentication",
        "Apps",
        "Spaces",
        "Pages",
        "Security",
        "Public links",
        "Global administration",
        "Widgets",
        "",
    ];
    for verb in verbs.split_whitespace() {
        for noun in nouns {
            for end in ["", ".failed", ".completed", ".successful"] {
                let key = format!("com.example.{noun}.{verb}{end}");
                for category in keys {
                    let kind = of_key(&key, &format!("{C}{category}"));
                    assert_published(&kind, &format!("{key} in {category}"));
                    assert!(end != ".failed" || kind.outcome == Some("failure"), "{key}");
                    assert!(end != ".failed" || kind.severity != Info, "{key}");
                    count += 1;
                }
                let label = format!("{noun} {verb}{end}").replace('.', " ");
                for category in labels {
                    assert_published(&of_label(&label, category), &format!("{label} in {category}"));
                    count += 1;
                }
            }
        }
    }
    assert!(count > 20_000, "{count}");
}

#[test]
fn the_last_word_gives_the_type_and_the_category_key_the_category() {
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
        ("x.widget.copied", "pages", CONFIGURATION, "creation"),
        ("x.widget.changed", "security", CONFIGURATION, "change"),
        ("x.group.changed", "security", IAM, "change"),
        ("x.sudo.login", "security", AUTHENTICATION, "start"),
        ("x.widget.imported", "import.export", CONFIGURATION, "creation"),
        ("x.widget.searched", "other", &[], "access"),
        ("x.recreated", "other", &[], "info"),
        ("x.created.2", "other", &[], "creation"),
        ("x.created.report", "admin", CONFIGURATION, "info"),
        ("écreated", "other", &[], "info"),
        ("…", "other", &[], "info"),
    ] {
        let found = of_key(action, &format!("{C}{category}"));
        assert_eq!((found.categories, found.types), (categories, &[kind][..]), "{action} {category}");
        assert_eq!(found.outcome, None);
    }
    let searched = of_key("x.searched", "atlassian.audit.event.category.audit");
    assert_eq!(searched.categories, CONFIGURATION);
    // The text of Data Center records is in the site's language and is not used.
    let german =
        kind_of(&json!({"auditType": {"action": "Benutzer exportiert", "category": "Users and groups"}}));
    assert_eq!((german.categories, german.types, german.activity), (&[][..], INFO, (Api, OTHER)));
    let english = kind_of(
        &json!({"auditType": {"actionI18nKey": "x.widget.exported", "category": "Users and groups"}}),
    );
    assert_eq!((english.categories, english.types), (&[][..], &["access"][..]));
}

/// Security relevant actions, by keys that no list contains.
#[test]
fn f105_rules_know_what_matters_for_security() {
    let check = |action: &str, category: &str, types: &str, outcome, severity, activity: Activity| {
        let found = of_key(action, &format!("{C}{category}"));
        let about = format!("{action} in {category}: {found:?}");
        assert_eq!(found.types.join(", "), types, "{about}");
        assert_eq!((found.outcome, found.status), (outcome, outcome), "{about}");
        assert_eq!((found.severity, found.activity), (severity, activity), "{about}");
    };
    let (failure, success) = (Some("failure"), Some("success"));
    check("audit.logging.summary.site.export", "import.export", "access", None, Medium, (WebResources, 7));
    check(
        "audit.logging.summary.space.pdf.export",
        "import.export",
        "access",
        None,
        Medium,
        (WebResources, 7),
    );
    check("x.y.backup.exported", "nowhere", "access", None, Medium, (WebResources, 7));
    check("x.y.site.backup", "admin", "access", None, Medium, (WebResources, 7));
    check("x.space.export.html", "spaces", "access", None, Medium, (WebResources, 7));
    check("x.site.import", "admin", "creation", None, Medium, (WebResources, 6));
    check("plugin.import.failed", "plugins", "info", failure, Medium, (Entity, 1));
    check("x.user.password.reset", "user.management", "user, change", None, Medium, (Account, 4));
    check("x.user.password.reset", "security", "user, change", None, Medium, (Account, 4));
    check("user.password.reset.failed", "user.management", "info", failure, Medium, (Account, 4));
    check("x.counter.reset", "admin", "change", None, Medium, (Api, 3));
    check("x.y.auth.failed", "auth", "info", failure, Medium, (Authentication, 1));
    check("x.captcha.failed", "auth", "info", failure, Medium, (Authentication, 1));
    check("x.group.member.added", "user.management", "creation", None, Medium, (Group, 3));
    check("x.sudo.auth.successful", "security", "start", success, Medium, (Authentication, 1));
    check("x.user.login", "auth", "start", None, Info, (Authentication, 1));
    check("x.session.logout", "auth", "end", None, Info, (Authentication, 2));
    check("audit.logging.summary.space.trash.emptied", "spaces", "deletion", None, Medium, (WebResources, 4));
    check("x.page.history.purged", "pages", "deletion", None, Medium, (WebResources, 4));
    check("x.page.copied", "pages", "creation", None, Low, (WebResources, 1));
    check("x.page.moved", "pages", "change", None, Low, (WebResources, 3));
    check("x.plugin.moved", "plugins", "change", None, Medium, (Entity, 5));
    check("x.public.signup.turned.on", "admin", "change", None, Medium, (Entity, 8));
    check("x.feature.turned.off", "admin", "change", None, Medium, (Entity, 9));
    check("x.anonymous.view.enabled", "spaces", "change", None, Medium, (WebResources, 3));
    check("x.user.locked", "user.management", "user, change", None, Medium, (Account, 9));
    check("x.user.avatar.deleted", "user.management", "deletion", None, Medium, (Api, 4));
    check("x.page.permission.granted", "permissions", "creation", None, Medium, (UserAccess, 1));
    check("x.permission.revoked", "permissions", "deletion", None, Medium, (UserAccess, 2));
    check("x.thing.failed", "nowhere", "info", failure, Medium, (Api, OTHER));
    check("x.thing.reindexed", "admin", "info", None, Info, (Api, OTHER));
    // The row has precedence: ECS's integration has no outcome here.
    let sudo = of_key("audit.logging.summary.sudo.auth.successful", &format!("{C}auth"));
    assert_eq!((sudo.outcome, sudo.status), (None, success));
}

#[test]
fn f109_labels_of_cloud_have_rules() {
    let check =
        |label: &str, category: &str, categories: &[&str], types: &str, severity, activity: Activity| {
            let found = of_label(label, category);
            let about = format!("{label} in {category}: {found:?}");
            assert_eq!((found.categories, found.types.join(", ")), (categories, types.to_owned()), "{about}");
            assert_eq!((found.severity, found.activity), (severity, activity), "{about}");
        };
    check("User reactivated", "Users and groups", IAM, "user, change", Medium, (Account, 2));
    check("User reactivated", "", IAM, "user, change", Medium, (Account, 2));
    check("User suspended", "Users and groups", IAM, "user, change", Medium, (Account, 5));
    check("User removed from space", "Users and groups", IAM, "deletion", Medium, (Api, 4));
    check("Public links enabled", "Public links", CONFIGURATION, "change", Medium, (Entity, 8));
    check(
        "Public links turned off for the space",
        "Public links",
        CONFIGURATION,
        "change",
        Medium,
        (Entity, 9),
    );
    check("Content restriction removed", "Permissions", IAM_CONFIGURATION, "deletion", Medium, (Api, 4));
    check("Page archived", "Pages", CONFIGURATION, "change", Low, (WebResources, 3));
    check("Page moved to trash", "Page", CONFIGURATION, "change", Low, (WebResources, 3));
    check("Space exported to XML", "Spaces", CONFIGURATION, "access", Medium, (WebResources, 7));
    check("App installed", "Apps", PACKAGE_CONFIGURATION, "info", Medium, (Entity, 1));
    check("User logged in", "Security", AUTHENTICATION, "start", Info, (Authentication, 1));
    check("Login failed", "Security", AUTHENTICATION, "info", Medium, (Authentication, 1));
    check("Password changed for user", "Users and groups", IAM, "user, change", Medium, (Account, 3));
    check("Site backup", "Import/export", CONFIGURATION, "access", Medium, (WebResources, 7));
    check("Widget exported", "Widgets", &[], "access", Medium, (WebResources, 7));
    check("Widget reindexed", "Widgets", &[], "info", Info, (Api, OTHER));
}

#[test]
fn a_deactivated_account_is_disabled() {
    let updated = |from: &str, to: &str| {
        let cloud = json!({"creationDate": 1, "summary": "User details updated", "category": "Users and groups",
            "changedValues": [{"name": "Active", "oldValue": from, "newValue": to}]});
        let file = json!({"auditType": {"actionI18nKey": "audit.logging.summary.user.updated"},
            "changedValues": [{"i18nKey": "Email", "from": "a", "to": "b"}, {"i18nKey": "Active", "from": from, "to": to}]});
        let [cloud, file] = [kind_of(&cloud), kind_of(&file)];
        assert_eq!((cloud.activity, cloud.severity), (file.activity, file.severity));
        assert_eq!(cloud.types, ["user", "change"]);
        (cloud.activity, cloud.severity)
    };
    assert_eq!(updated("Yes", "No"), ((ActionClass::Account, 5), Medium));
    assert_eq!(updated("No", "Yes"), ((ActionClass::Account, 2), Medium));
    assert_eq!(updated("true", "FALSE"), ((ActionClass::Account, 5), Medium));
    // The first values of a profile have no previous ones.
    for (from, to) in [("", "Yes"), ("Yes", ""), ("Yes", "Yes"), ("Yes", "maybe")] {
        assert_eq!(updated(from, to), ((ActionClass::Account, OTHER), Low), "{from} {to}");
    }
    assert_eq!(of_label("User deleted", "").severity, High);
}
