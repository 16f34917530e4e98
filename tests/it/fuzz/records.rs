//! Records of the three shapes, built member by member from values that somebody has thought of to do harm.

use super::json::{HALF_PAIR, NO_UTF8};
use super::readers::json::Json;
use crate::rig::Random;

const PIECES: &[&str] = &[
    "a",
    "Page",
    "User",
    "Group",
    "Ünï",
    "😀",
    "\u{2028}",
    "\u{2029}",
    "\u{85}",
    "\u{b}",
    "\u{c}",
    "\u{1c}",
    "\u{1d}",
    "\u{1e}",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{1b}[2J",
    "\u{7f}",
    "\"",
    "\\",
    "\\n",
    "\\u0041",
    "|",
    "=",
    "CEF:0|Evil|P|1|sig|name|10|msg=forged",
    " externalId=0123",
    "<14>1 - - - - - ",
    "\"},{\"a\":1",
    "\u{f8ff}",
    "\u{f8fe}",
    "\u{feff}",
    "\u{202e}",
    "%00%ff",
    "://",
    "?username=a%40b",
    "&username=%22%5c%e2%80%a8",
    "; User: ",
    ":12e51e32-77ee-45ef-a643-55d4c7f6327c",
    "192.0.2.7, 10.0.0.1",
    "[2001:db8::1]:443",
    "null",
    "{}",
    "'",
    "<b>",
    "`",
    "$(x)",
    "\u{fffd}",
    "\u{10ffff}",
    "https://Wiki.Example:8443/confluence",
];

const NAMES: &[&str] = &[
    "name",
    "id",
    "type",
    "uri",
    "key",
    "i18nKey",
    "from",
    "to",
    "value",
    "nameI18nKey",
    "objectType",
    "oldValue",
    "newValue",
    "hiddenOldValue",
    "hiddenNewValue",
    "a",
    "abc",
    "adc",
    "",
    "event_id",
    "externalId",
    "EventId",
    "uid",
    "\u{f8ff}x",
    "\u{f8fe}x",
    "\u{fffd}x",
    "a\"b",
    "a\\",
    "\u{2028}",
    "\n",
];

const ACTIONS: &[&str] = &[
    "audit.logging.summary.user.created",
    "audit.logging.summary.user.renamed",
    "audit.logging.summary.user.updated",
    "audit.logging.summary.group.membership.added",
    "audit.logging.summary.group.created",
    "audit.logging.summary.global.permission.added",
    "audit.logging.summary.space.permission.removed",
    "audit.logging.summary.login.failed",
    "audit.logging.summary.page.deleted",
    "audit.logging.summary.plugin.installed",
    "atlassian.audit.event.action.audit.search",
    "x.page.created",
    "User added to group",
    "User deactivated",
    "Space permission added",
    "User renamed",
];

const CATEGORIES: &[&str] = &[
    "audit.logging.category.user.management",
    "audit.logging.category.permissions",
    "audit.logging.category.auth",
    "audit.logging.category.spaces",
    "audit.logging.category.plugins",
    "Users and groups",
    "Permissions",
];

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "17",
    "-1.5e3",
    "54000000",
    "1767322801",
    "1767322805054",
    "9223372036854775807",
    "9223372036854775808",
    "123456789012345678901234567890",
    "1e400",
    "0.1",
    "-1",
    "1E-7",
];

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len() as u64) as usize]
}

fn one_in(random: &mut Random, one_in: u64) -> bool {
    random.below(one_in) == 0
}

/// Text that somebody may have typed.
pub fn text(random: &mut Random) -> String {
    if one_in(random, 12) {
        return String::new();
    }
    if one_in(random, 4000) {
        let piece = pick(random, PIECES);
        let bytes = [300, 5000, 70_000][random.below(3) as usize];
        return piece.repeat(bytes / piece.len() + 1);
    }
    (0..=random.below(3)).map(|_| pick(random, PIECES)).collect()
}

fn number(random: &mut Random) -> Json {
    Json::Number(pick(random, NUMBERS).to_owned())
}

/// Any value; what is empty is as likely as what is not.
fn value(depth: u32, random: &mut Random) -> Json {
    match random.below(if depth < 5 { 12 } else { 8 }) {
        0 | 1 => Json::Null,
        2 => Json::Text(String::new()),
        3 => Json::Bool(one_in(random, 2)),
        4 => number(random),
        5 => Json::List(Vec::new()),
        6 => Json::Object(Vec::new()),
        7 => Json::Text(text(random)),
        8 | 9 => {
            let elements = random.below(4);
            Json::List((0..elements).map(|_| value(depth + 1, random)).collect())
        }
        _ => {
            let members = random.below(5);
            Json::Object(
                (0..members).map(|_| (pick(random, NAMES).to_owned(), value(depth + 1, random))).collect(),
            )
        }
    }
}

/// What a member holds: mostly what belongs there.
fn usually(usual: Json, random: &mut Random) -> Json {
    if one_in(random, 6) { value(1, random) } else { usual }
}

fn some_text(random: &mut Random) -> Json {
    Json::Text(text(random))
}

/// An object of some of these members, some of them more than once, and some that nobody knows.
fn object(members: Vec<(&str, Json)>, random: &mut Random) -> Json {
    let mut all = Vec::new();
    for (name, usual) in members {
        if one_in(random, 8) {
            continue;
        }
        if one_in(random, 10) {
            all.push((name.to_owned(), value(1, random)));
        }
        all.push((name.to_owned(), usually(usual, random)));
        if one_in(random, 20) {
            all.push((name.to_owned(), value(1, random)));
        }
    }
    while one_in(random, 8) {
        all.push((pick(random, NAMES).to_owned(), value(1, random)));
    }
    for at in (1..all.len()).rev() {
        all.swap(at, random.below(at as u64 + 1) as usize);
    }
    Json::Object(all)
}

fn list(random: &mut Random, element: impl Fn(&mut Random) -> Json) -> Json {
    let elements = random.below(5);
    let mut all: Vec<Json> = (0..elements).map(|_| element(random)).collect();
    if one_in(random, 5) {
        all.push(value(1, random));
    }
    Json::List(all)
}

fn kind_of_object(random: &mut Random) -> Json {
    Json::Text(pick(random, &["User", "Group", "Space", "Page", "App"]).to_owned())
}

fn affected(type_name: &'static str) -> impl Fn(&mut Random) -> Json {
    move |random| {
        let members = vec![
            ("name", some_text(random)),
            ("id", some_text(random)),
            (type_name, kind_of_object(random)),
            ("uri", some_text(random)),
        ];
        object(members, random)
    }
}

fn action(random: &mut Random) -> Json {
    match one_in(random, 4) {
        true => some_text(random),
        false => Json::Text(pick(random, ACTIONS).to_owned()),
    }
}

fn category(random: &mut Random) -> Json {
    match one_in(random, 4) {
        true => some_text(random),
        false => Json::Text(pick(random, CATEGORIES).to_owned()),
    }
}

fn data_center(kind_name: &'static str, random: &mut Random) -> Json {
    let kind = vec![
        ("action", action(random)),
        ("actionI18nKey", action(random)),
        ("area", some_text(random)),
        ("category", category(random)),
        ("categoryI18nKey", category(random)),
        ("level", some_text(random)),
    ];
    let author = vec![
        ("id", some_text(random)),
        ("name", some_text(random)),
        ("type", some_text(random)),
        ("uri", some_text(random)),
    ];
    let time = match kind_name {
        "type" => Json::Text("2026-01-02T03:04:05.678Z".to_owned()),
        _ => {
            let members = vec![("epochSecond", number(random)), ("nano", number(random))];
            object(members, random)
        }
    };
    let members = vec![
        ("affectedObjects", list(random, affected("type"))),
        (kind_name, object(kind, random)),
        ("author", object(author, random)),
        (
            "changedValues",
            list(random, |random| {
                let key =
                    Json::Text(pick(random, &["Type", "User", "Group", "Email", "Username"]).to_owned());
                let members = vec![
                    ("key", key.clone()),
                    ("i18nKey", key),
                    ("from", some_text(random)),
                    ("to", some_text(random)),
                ];
                object(members, random)
            }),
        ),
        (
            "extraAttributes",
            list(random, |random| {
                let members = vec![
                    ("name", some_text(random)),
                    ("nameI18nKey", some_text(random)),
                    ("value", some_text(random)),
                ];
                object(members, random)
            }),
        ),
        ("method", some_text(random)),
        ("node", some_text(random)),
        ("source", some_text(random)),
        ("system", some_text(random)),
        ("timestamp", time),
        ("version", Json::Text("1.0".to_owned())),
    ];
    object(members, random)
}

fn cloud(random: &mut Random) -> Json {
    let author = vec![
        ("accountId", some_text(random)),
        ("displayName", some_text(random)),
        ("type", some_text(random)),
        ("externalCollaborator", Json::Bool(true)),
        ("isGuest", Json::Bool(false)),
        ("username", some_text(random)),
    ];
    let one = affected("objectType")(random);
    let members = vec![
        ("author", object(author, random)),
        ("remoteAddress", some_text(random)),
        ("creationDate", number(random)),
        ("summary", action(random)),
        ("description", some_text(random)),
        ("category", category(random)),
        ("sysAdmin", Json::Bool(true)),
        ("superAdmin", Json::Bool(false)),
        ("affectedObject", one),
        ("associatedObjects", list(random, affected("objectType"))),
        (
            "changedValues",
            list(random, |random| {
                let members = vec![
                    ("name", some_text(random)),
                    ("oldValue", some_text(random)),
                    ("newValue", some_text(random)),
                    ("hiddenOldValue", some_text(random)),
                    ("hiddenNewValue", some_text(random)),
                ];
                object(members, random)
            }),
        ),
    ];
    object(members, random)
}

/// A record, of whichever shape.
pub fn record(random: &mut Random) -> Json {
    match random.below(20) {
        0..10 => data_center("auditType", random),
        10..14 => data_center("type", random),
        14..19 => cloud(random),
        _ => value(0, random),
    }
}

/// Whether a text stands for bytes that are no text.
pub fn is_broken(json: &Json) -> bool {
    let broken = |text: &str| text.contains([HALF_PAIR, NO_UTF8]);
    match json {
        Json::Text(text) => broken(text),
        Json::List(elements) => elements.iter().any(is_broken),
        Json::Object(members) => members.iter().any(|(name, value)| broken(name) || is_broken(value)),
        _ => false,
    }
}
