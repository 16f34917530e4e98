//! What one core can do: the same event from the same line with serde_json's derives, borrowed in and serialised
//! into memory, and nothing else. The benchmark divides by this, and a test holds the two events to be equal.
//!
//! Included by `#[path]`, so it knows nothing of the agent.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The id of every event: making ids is not part of the limit.
pub const EVENT_ID: &str = "00000000000000000000000000000000";
pub const READ_AT: &str = "2026-01-02T03:04:05.678Z";
pub const PATH: &str = "/var/atlassian/application-data/confluence/log/audit/20260102.00000.audit.log";
pub const OFFSET: u64 = 123_456_789;
pub const AGENT: Agent = Agent {
    ephemeral_id: "3bcd4f83-81b7-45d2-b083-b19a7da7ad6f",
    id: "cdda426a-7e47-48c4-b2f5-b9f1ad5bf08a",
    name: "wiki-1",
    kind: "confluence-audit-agent",
    version: "0.1.0",
};
pub const HOST: Host = Host {
    architecture: "x86_64",
    containerized: false,
    hostname: "wiki-1",
    id: "cff3d165179d4aef9596ddbb263e3adb",
    ip: ["192.0.2.7"],
    mac: ["02-42-AC-17-00-07"],
    name: "wiki-1",
    os: HostOs {
        codename: "focal",
        family: "debian",
        kernel: "5.10.47",
        name: "Ubuntu",
        platform: "ubuntu",
        kind: "linux",
        version: "20.04.5 LTS (Focal Fossa)",
    },
};

/// A text that is borrowed unless it has escapes. `Option<Cow<str>>` alone would always be copied.
#[derive(Clone, Deserialize, Serialize, PartialEq)]
#[serde(transparent)]
struct Str<'a>(#[serde(borrow)] Cow<'a, str>);

type Text<'a> = Option<Str<'a>>;

fn is_empty(text: &Text) -> bool {
    text.as_ref().is_none_or(|text| text.0.is_empty())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(borrow)]
    affected_objects: Vec<AffectedObject<'a>>,
    audit_type: AuditType<'a>,
    author: Author<'a>,
    changed_values: Vec<ChangedValue<'a>>,
    extra_attributes: Vec<ExtraAttribute<'a>>,
    method: Text<'a>,
    node: Text<'a>,
    source: Text<'a>,
    system: Text<'a>,
    timestamp: Timestamp,
}

#[derive(Deserialize, Serialize)]
struct AffectedObject<'a> {
    #[serde(borrow, skip_serializing_if = "is_empty")]
    id: Text<'a>,
    #[serde(borrow, skip_serializing_if = "is_empty")]
    name: Text<'a>,
    #[serde(borrow, rename = "type", skip_serializing_if = "is_empty")]
    kind: Text<'a>,
    #[serde(borrow, skip_serializing_if = "is_empty")]
    uri: Text<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuditType<'a> {
    #[serde(borrow, skip_serializing_if = "is_empty")]
    action: Text<'a>,
    #[serde(borrow, rename = "actionI18nKey", skip_serializing_if = "is_empty")]
    action_key: Text<'a>,
    #[serde(borrow, skip_serializing_if = "is_empty")]
    area: Text<'a>,
    #[serde(borrow, skip_serializing_if = "is_empty")]
    category: Text<'a>,
    #[serde(borrow, rename = "categoryI18nKey", skip_serializing_if = "is_empty")]
    category_key: Text<'a>,
    #[serde(borrow, skip_serializing_if = "is_empty")]
    level: Text<'a>,
}

#[derive(Deserialize)]
struct Author<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    uri: Text<'a>,
}

#[derive(Deserialize, Serialize)]
struct ChangedValue<'a> {
    #[serde(borrow, skip_serializing_if = "is_empty")]
    from: Text<'a>,
    #[serde(borrow, rename = "i18nKey", skip_serializing_if = "is_empty")]
    i18n_key: Text<'a>,
    #[serde(borrow, skip_serializing_if = "is_empty")]
    key: Text<'a>,
    #[serde(borrow, skip_serializing_if = "is_empty")]
    to: Text<'a>,
}

#[derive(Deserialize, Serialize)]
struct ExtraAttribute<'a> {
    #[serde(borrow, skip_serializing_if = "is_empty")]
    name: Text<'a>,
    #[serde(borrow, rename = "nameI18nKey", skip_serializing_if = "is_empty")]
    name_key: Text<'a>,
    #[serde(borrow, skip_serializing_if = "is_empty")]
    value: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timestamp {
    epoch_second: i64,
    #[serde(default)]
    nano: i64,
}

#[derive(Serialize)]
struct Event<'e> {
    #[serde(rename = "@timestamp")]
    timestamp: &'e str,
    agent: Agent,
    data_stream: DataStream,
    ecs: EcsVersion,
    host: Host,
    tags: [&'static str; 2],
    confluence: Confluence<'e>,
    event: EventFields<'e>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Group<'e>>,
    input: Input,
    log: Log,
    message: &'e str,
    related: Related<'e>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Service<'e>>,
    user: User<'e>,
}

#[derive(Serialize)]
pub struct Agent {
    pub ephemeral_id: &'static str,
    pub id: &'static str,
    pub name: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub version: &'static str,
}

#[derive(Serialize)]
struct DataStream {
    dataset: &'static str,
    namespace: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct EcsVersion {
    version: &'static str,
}

#[derive(Serialize)]
pub struct Host {
    pub architecture: &'static str,
    pub containerized: bool,
    pub hostname: &'static str,
    pub id: &'static str,
    pub ip: [&'static str; 1],
    pub mac: [&'static str; 1],
    pub name: &'static str,
    pub os: HostOs,
}

#[derive(Serialize)]
pub struct HostOs {
    pub codename: &'static str,
    pub family: &'static str,
    pub kernel: &'static str,
    pub name: &'static str,
    pub platform: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub version: &'static str,
}

#[derive(Serialize)]
struct Confluence<'e> {
    audit: Audit<'e>,
}

#[derive(Serialize)]
struct Audit<'e> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    affected_objects: &'e [AffectedObject<'e>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    changed_values: &'e [ChangedValue<'e>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    extra_attributes: &'e [ExtraAttribute<'e>],
    #[serde(skip_serializing_if = "Option::is_none")]
    author_type: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'e str>,
    #[serde(rename = "type")]
    kind: &'e AuditType<'e>,
}

#[derive(Serialize)]
struct EventFields<'e> {
    dataset: &'static str,
    module: &'static str,
    kind: &'static str,
    id: &'static str,
    created: &'static str,
    #[serde(rename = "type")]
    types: &'static [&'static str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    category: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'e str>,
    original: &'e str,
}

#[derive(Serialize)]
struct Input {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Log {
    file: LogFile,
    offset: u64,
}

#[derive(Serialize)]
struct LogFile {
    path: &'static str,
}

#[derive(Serialize)]
struct Related<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<[&'e str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<[&'e str; 1]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user: Vec<&'e str>,
}

#[derive(Serialize)]
struct Source<'e> {
    address: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<&'e str>,
}

#[derive(Serialize)]
struct Service<'e> {
    address: &'e str,
}

#[derive(Serialize, Default)]
struct User<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_name: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Group<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Box<User<'e>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Box<User<'e>>>,
}

#[derive(Serialize)]
struct Group<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
}

fn text<'e>(text: &'e Text) -> Option<&'e str> {
    text.as_ref().map(|text| text.0.as_ref()).filter(|text| !text.is_empty())
}

/// Appends the event of a file line. Lines that are not as Confluence writes them are left out.
pub fn line_to_event(line: &[u8], out: &mut Vec<u8>) {
    let Ok(original) = std::str::from_utf8(line) else {
        return;
    };
    let Ok(record) = serde_json::from_str::<Line>(original) else {
        return;
    };
    let timestamp = iso(&record.timestamp);
    let timestamp = std::str::from_utf8(&timestamp).unwrap_or_default();
    let system = text(&record.system);
    let host = system.and_then(host);
    let source = text(&record.source);
    let ip = source.filter(|source| source.parse::<IpAddr>().is_ok());
    let action = text(&record.audit_type.action_key);
    let (category, types, outcome) = kind(action.unwrap_or(""), text(&record.audit_type.category_key));
    let (user, group) = users(&record, action.unwrap_or(""));
    let message = message(&record);
    let target = user.target.as_ref().and_then(|target| target.name);
    let changes = user.changes.as_ref().and_then(|changes| changes.name);
    let mut names: Vec<&str> = Vec::new();
    for name in [user.name, target, changes].into_iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let event = Event {
        timestamp,
        agent: AGENT,
        data_stream: DataStream { dataset: "atlassian_confluence.audit", namespace: "default", kind: "logs" },
        ecs: EcsVersion { version: "8.11.0" },
        host: HOST,
        tags: ["preserve_original_event", "confluence-audit"],
        confluence: Confluence {
            audit: Audit {
                affected_objects: &record.affected_objects,
                changed_values: &record.changed_values,
                extra_attributes: &record.extra_attributes,
                author_type: text(&record.author.kind),
                method: text(&record.method),
                node: text(&record.node),
                site: host,
                kind: &record.audit_type,
            },
        },
        event: EventFields {
            dataset: "atlassian_confluence.audit",
            module: "atlassian_confluence",
            kind: "event",
            id: EVENT_ID,
            created: READ_AT,
            types,
            category,
            outcome,
            action,
            original,
        },
        group,
        input: Input { kind: "log" },
        log: Log { file: LogFile { path: PATH }, offset: OFFSET },
        message: &message,
        related: Related { hosts: host.map(|host| [host]), ip: ip.map(|ip| [ip]), user: names },
        source: source.map(|address| Source { address, ip }),
        service: system.map(|address| Service { address }),
        user,
    };
    let start = out.len();
    if serde_json::to_writer(&mut *out, &event).is_err() {
        out.truncate(start);
    }
}

fn host(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    authority.split(':').next().filter(|host| !host.is_empty())
}

fn message(record: &Line) -> String {
    let who = text(&record.author.name).or(text(&record.author.id)).unwrap_or("Someone");
    let action = text(&record.audit_type.action).or(text(&record.audit_type.action_key));
    let mut message = String::with_capacity(128);
    message.push_str(who);
    message.push_str(": ");
    message.push_str(action.unwrap_or("unknown action"));
    for (at, object) in record.affected_objects.iter().take(3).enumerate() {
        message.push_str(if at == 0 { ": " } else { ", " });
        message.push_str(text(&object.kind).unwrap_or(""));
        message.push(' ');
        message.push_str(text(&object.name).unwrap_or(""));
    }
    if record.affected_objects.len() > 3 {
        message.push_str(" and more");
    }
    message
}

type Kind = (&'static [&'static str], &'static [&'static str], Option<&'static str>);

fn kind(action: &str, category_key: Option<&str>) -> Kind {
    match action.strip_prefix("audit.logging.summary.").unwrap_or(action) {
        "global.permission.added" | "space.permission.added" | "directory.added" => {
            (&["iam", "configuration"], &["creation"], None)
        }
        "global.permission.removed" | "space.permission.removed" => {
            (&["iam", "configuration"], &["deletion"], None)
        }
        "user.created" => (&["iam"], &["user", "creation"], None),
        "user.renamed" | "user.updated" => (&["iam"], &["user", "change"], None),
        "user.deleted" => (&["iam"], &["user", "deletion"], None),
        "user.password.changed" => (&["iam"], &["user", "change"], Some("success")),
        "group.membership.added" | "group.membership.removed" => (&["iam"], &["group", "change"], None),
        "group.created" => (&["iam"], &["group", "creation"], None),
        "group.deleted" => (&["iam"], &["group", "deletion"], None),
        "personal.access.tokens.audit.log.summary.token.created" => (&["iam"], &["admin", "creation"], None),
        "personal.access.tokens.audit.log.summary.token.deleted" => (&["iam"], &["admin", "deletion"], None),
        "atlassian.audit.event.action.audit.search" | "space.export" => {
            (&["configuration"], &["access"], None)
        }
        "atlassian.audit.event.action.audit.config.updated"
        | "global.settings.edited"
        | "space.config.updated" => (&["configuration"], &["change"], None),
        "space.created" | "page.created" | "space.import" => (&["configuration"], &["creation"], None),
        "space.removed" | "page.deleted" => (&["configuration"], &["deletion"], None),
        "plugin.enabled" | "plugin.disabled" => (&["package", "configuration"], &["change"], None),
        "plugin.installed" => (&["package"], &["installation"], None),
        "plugin.uninstalled" => (&["package", "configuration"], &["deletion"], None),
        "login.success" => (&["authentication"], &["start"], Some("success")),
        "login.failed" => (&["authentication"], &["info"], Some("failure")),
        "user.logout" | "sudo.logout" => (&["authentication"], &["end"], None),
        "sudo.auth.successful" => (&["authentication"], &["start"], None),
        other => by_rule(other, category_key.unwrap_or("")),
    }
}

fn by_rule(action: &str, category_key: &str) -> Kind {
    let categories: &[&str] = match category_key {
        "audit.logging.category.permissions" => &["iam", "configuration"],
        "audit.logging.category.user.management" => &["iam"],
        "audit.logging.category.auth" => &["authentication"],
        "audit.logging.category.plugins" => &["package", "configuration"],
        "audit.logging.category.admin"
        | "audit.logging.category.spaces"
        | "audit.logging.category.import.export"
        | "atlassian.audit.event.category.audit" => &["configuration"],
        _ => &[],
    };
    let word = action.rsplit(|c: char| !c.is_alphabetic()).find(|word| !word.is_empty()).unwrap_or("");
    let has = |category| categories.contains(&category);
    let types: &[&str] = match word {
        "created" | "added" | "installed" | "imported" if !has("authentication") && !has("package") => {
            &["creation"]
        }
        "removed" | "deleted" | "uninstalled" if !has("authentication") => &["deletion"],
        "updated" | "edited" | "changed" | "renamed" | "enabled" | "disabled" | "archived" | "restored"
            if !has("authentication") =>
        {
            &["change"]
        }
        "searched" | "viewed" | "exported" | "downloaded" if !has("authentication") && !has("iam") => {
            &["access"]
        }
        _ => &["info"],
    };
    (categories, types, None)
}

fn login<'e>(uri: &'e Text) -> Option<&'e str> {
    text(uri)?.split_once('?')?.1.rsplit('&').next()?.strip_prefix("username=")
}

fn users<'e>(record: &'e Line, action: &str) -> (User<'e>, Option<Group<'e>>) {
    let author = &record.author;
    let mut user = User {
        id: text(&author.id),
        full_name: text(&author.name),
        name: login(&author.uri),
        ..User::default()
    };
    let mut group = None;
    let category = text(&record.audit_type.category_key).unwrap_or("");
    if category != "audit.logging.category.user.management"
        && category != "audit.logging.category.auth"
        && text(&record.audit_type.category) != Some("Users and groups")
    {
        return (user, None);
    }
    let action = action.strip_prefix("audit.logging.summary.").unwrap_or("");
    for object in &record.affected_objects {
        let (id, name) = (text(&object.id), text(&object.name));
        match (text(&object.kind), action) {
            (Some("Group"), "group.created" | "group.deleted") => group = Some(Group { id, name }),
            (Some("Group"), "group.membership.added" | "group.membership.removed") => {
                user.target.get_or_insert_default().group = Some(Group { id, name });
            }
            (Some("User"), "user.created" | "user.deleted" | "user.updated" | "user.password.changed") => {
                let target = user.target.get_or_insert_default();
                (target.full_name, target.id, target.name) = (name, id, login(&object.uri));
            }
            (Some("User"), "group.membership.added" | "group.membership.removed") => {
                let target = user.target.get_or_insert_default();
                (target.name, target.id) = (name, id);
            }
            (Some("User"), "login.success" | "login.failed") => {
                (user.full_name, user.id) = (name, id);
                user.name = login(&object.uri).or(user.name);
            }
            _ => {}
        }
    }
    for value in &record.changed_values {
        let (from, to) = (text(&value.from), text(&value.to));
        let key = text(&value.i18n_key).unwrap_or("");
        let is_edited = matches!(action, "user.created" | "user.updated");
        let is_rename = action == "user.renamed" && key == "audit.logging.changed.value.username";
        if is_rename || (is_edited && matches!(key, "Username" | "Email" | "Display name")) {
            let changes = user.changes.get_or_insert_default();
            let target = user.target.get_or_insert_default();
            match key {
                "Email" => (changes.email, target.email) = (to, from.or(to)),
                "Display name" => (changes.full_name, target.full_name) = (to, from.or(to)),
                "Username" => (changes.name, target.name) = (to, from.or(to)),
                _ => (changes.name, target.name) = (to, from),
            }
        }
    }
    (user, group)
}

/// By arithmetic, as quick as it can be done, so that the limit is one.
fn iso(timestamp: &Timestamp) -> [u8; 24] {
    let days = timestamp.epoch_second.div_euclid(86_400) + 719_468;
    let of_day = timestamp.epoch_second.rem_euclid(86_400);
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, of_day / 3600),
        (14..16, of_day / 60 % 60),
        (17..19, of_day % 60),
        (20..23, timestamp.nano / 1_000_000),
    ];
    for (range, mut number) in parts {
        for digit in text[range].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    text
}
