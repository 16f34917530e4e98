//! The kinds of events of the generator: the shapes of Confluence Data Center with generated values.

pub struct Kind {
    pub action: &'static str,
    pub action_key: &'static str,
    pub area: &'static str,
    pub category: &'static str,
    pub category_key: &'static str,
    pub level: &'static str,
    pub objects: &'static [Object],
    /// Key, i18n key, existing sides, kind of value.
    pub changes: &'static [(&'static str, &'static str, Side, Value)],
    /// The changes are repeated, as for a settings page that is saved as a whole.
    pub repeats: bool,
    /// Name, i18n key, kind of value.
    pub attributes: &'static [(&'static str, &'static str, Value)],
}

#[derive(Clone, Copy)]
pub enum Object {
    User,
    Group,
    Space,
    Page,
    App,
}

#[derive(Clone, Copy)]
pub enum Side {
    From,
    To,
    Both,
}

#[derive(Clone, Copy)]
pub enum Value {
    Person,
    Login,
    Group,
    Space,
    Permission,
    YesNo,
    Number,
    Email,
    Text,
}

use Object::*;
use Side::*;
use Value::{Email, Login, Number, Permission, Person, Text, YesNo};

const AUTH: (&str, &str) = ("Authentication", "audit.logging.category.auth");
const PERMS: (&str, &str) = ("Permissions", "audit.logging.category.permissions");
const USERS: (&str, &str) = ("Users and groups", "audit.logging.category.user.management");
const APPS: (&str, &str) = ("Apps", "audit.logging.category.plugins");
const ADMIN: (&str, &str) = ("Global administration", "audit.logging.category.admin");
const SPACES: (&str, &str) = ("Spaces", "audit.logging.category.spaces");
const TRANSFER: (&str, &str) = ("Import/Export", "audit.logging.category.import.export");
const AUDIT: (&str, &str) = ("Auditing", "atlassian.audit.event.category.audit");
const PAGES: (&str, &str) = ("Pages", "audit.logging.category.pages");

const fn kind(
    action: &'static str,
    action_key: &'static str,
    (category, category_key): (&'static str, &'static str),
    (area, level): (&'static str, &'static str),
    objects: &'static [Object],
) -> Kind {
    Kind {
        action,
        action_key,
        area,
        category,
        category_key,
        level,
        objects,
        changes: &[],
        repeats: false,
        attributes: &[],
    }
}

const CLIENT: &[(&str, &str, Value)] = &[
    ("User agent", "com.example.attribute.user.agent", Text),
    ("Session", "com.example.attribute.session", Number),
];

pub const KINDS: &[Kind] = &[
    Kind {
        attributes: CLIENT,
        ..kind(
            "User login successful",
            "audit.logging.summary.login.success",
            AUTH,
            ("SECURITY", "FULL"),
            &[User],
        )
    },
    Kind {
        attributes: CLIENT,
        ..kind(
            "User login failed",
            "audit.logging.summary.login.failed",
            AUTH,
            ("SECURITY", "ADVANCED"),
            &[User],
        )
    },
    Kind {
        changes: &[
            ("Group", "Group", To, Value::Group),
            ("Type", "Type", To, Permission),
            ("Space", "Space", To, Value::Space),
        ],
        ..kind(
            "Space permission added",
            "audit.logging.summary.space.permission.added",
            PERMS,
            ("PERMISSIONS", "BASE"),
            &[Group, Space],
        )
    },
    Kind {
        changes: &[("Type", "Type", From, Permission), ("User", "User", From, Login)],
        ..kind(
            "Space permission removed",
            "audit.logging.summary.space.permission.removed",
            PERMS,
            ("PERMISSIONS", "BASE"),
            &[User, Space],
        )
    },
    Kind {
        attributes: &[("Restriction", "com.example.attribute.restriction", Permission)],
        ..kind(
            "Page restriction added",
            "audit.logging.summary.page.restriction.added",
            PERMS,
            ("PERMISSIONS", "ADVANCED"),
            &[Page, Space, User],
        )
    },
    kind(
        "User added to group",
        "audit.logging.summary.group.membership.added",
        USERS,
        ("USER_MANAGEMENT", "BASE"),
        &[Group, User],
    ),
    Kind {
        changes: &[
            ("Display name", "Display name", Both, Person),
            ("Email", "Email", Both, Email),
            ("Username", "Username", To, Login),
            ("Active", "Active", To, YesNo),
        ],
        ..kind(
            "User created",
            "audit.logging.summary.user.created",
            USERS,
            ("USER_MANAGEMENT", "BASE"),
            &[User],
        )
    },
    kind(
        "App enabled",
        "audit.logging.summary.plugin.enabled",
        APPS,
        ("GLOBAL_CONFIG_AND_ADMINISTRATION", "BASE"),
        &[App],
    ),
    Kind {
        attributes: &[
            ("Query", "atlassian.audit.event.attribute.query", Text),
            ("Results returned", "atlassian.audit.event.attribute.results", Number),
            ("ID Range", "atlassian.audit.event.attribute.id", Number),
            ("Timestamp Range", "atlassian.audit.event.attribute.timestamp", Number),
        ],
        ..kind(
            "Audit Log search performed",
            "atlassian.audit.event.action.audit.search",
            AUDIT,
            ("AUDIT_LOG", "BASE"),
            &[],
        )
    },
    Kind {
        attributes: &[
            ("Format", "com.example.attribute.export.format", Permission),
            ("Scope", "com.example.attribute.export.scope", Text),
            ("With comments", "com.example.attribute.export.comments", YesNo),
        ],
        ..kind(
            "Space export",
            "audit.logging.summary.space.export",
            TRANSFER,
            ("LOCAL_CONFIG_AND_ADMINISTRATION", "BASE"),
            &[Space],
        )
    },
    Kind {
        changes: &[
            ("Site title", "audit.logging.changed.value.site.title", Both, Text),
            ("Attachment limit", "audit.logging.changed.value.attachment.limit", Both, Number),
            ("Public signup", "audit.logging.changed.value.public.signup", Both, YesNo),
        ],
        repeats: true,
        ..kind(
            "Global settings changed",
            "audit.logging.summary.global.settings.edited",
            ADMIN,
            ("GLOBAL_CONFIG_AND_ADMINISTRATION", "BASE"),
            &[],
        )
    },
    Kind {
        changes: &[
            ("Retention", "atlassian.audit.event.change.retention", Both, Number),
            ("Coverage", "atlassian.audit.event.change.coverage", Both, Permission),
        ],
        ..kind(
            "Audit Log configuration updated",
            "atlassian.audit.event.action.audit.config.updated",
            AUDIT,
            ("AUDIT_LOG", "BASE"),
            &[],
        )
    },
    Kind {
        attributes: &[
            ("Token name", "personal.access.tokens.audit.log.attribute.name", Text),
            ("Token id", "personal.access.tokens.audit.log.attribute.id", Number),
        ],
        ..kind(
            "Personal access token created",
            "personal.access.tokens.audit.log.summary.token.created",
            ("Personal access tokens", "personal.access.tokens.audit.log.category"),
            ("SECURITY", "BASE"),
            &[User],
        )
    },
    Kind {
        attributes: CLIENT,
        ..kind(
            "Page viewed",
            "audit.logging.summary.page.viewed",
            PAGES,
            ("END_USER_ACTIVITY", "FULL"),
            &[Page, Space],
        )
    },
    Kind {
        changes: &[
            ("Theme", "audit.logging.changed.value.theme", Both, Text),
            ("Home page", "audit.logging.changed.value.home.page", Both, Text),
            ("Logo", "audit.logging.changed.value.logo", Both, Text),
        ],
        repeats: true,
        ..kind(
            "Space configuration updated",
            "audit.logging.summary.space.config.updated",
            SPACES,
            ("LOCAL_CONFIG_AND_ADMINISTRATION", "BASE"),
            &[Space],
        )
    },
];
