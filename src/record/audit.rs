//! The members of a record, by shape.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::repeated::survey;
use super::{Author, MemberProblem, Record, Shape, Token, time, walk};

/// The members of a record that mean something.
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Member {
    AffectedObject,
    AffectedObjects,
    AssociatedObjects,
    AuditType,
    Author,
    Category,
    ChangedValues,
    CreationDate,
    Description,
    #[serde(rename = "event_id")]
    EventId,
    ExtraAttributes,
    Method,
    Node,
    RemoteAddress,
    Source,
    Summary,
    SuperAdmin,
    SysAdmin,
    System,
    Timestamp,
    Type,
    #[serde(other)]
    Other,
}

/// A record's members by [`Member`]; of two of one name the last stands.
struct Members<'a> {
    values: [&'a str; Member::Other as usize + 1],
    /// A name may stand twice, here or in a value that nobody else looks into.
    doubtful: bool,
}

impl<'a> Members<'a> {
    fn token(&self, member: Member) -> Token<'a> {
        Token::new(self.values[member as usize])
    }

    /// A member that belongs to another shape.
    fn foreign(&self, member: Member) -> bool {
        is_nested(self.values[member as usize])
    }
}

/// Whether names may stand in it.
fn is_nested(value: &str) -> bool {
    value.starts_with(['{', '[']) && value.len() > 2
}

impl Member {
    fn is_nested(self) -> bool {
        matches!(
            self,
            Member::AffectedObject
                | Member::AffectedObjects
                | Member::AssociatedObjects
                | Member::AuditType
                | Member::Author
                | Member::ChangedValues
                | Member::ExtraAttributes
                | Member::Timestamp
                | Member::Type
        )
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members {
                    values: [""; Member::Other as usize + 1],
                    doubtful: false,
                };
                while let Some(member) = map.next_key::<Member>()? {
                    let value = map.next_value::<&RawValue>()?.get();
                    let known = std::mem::replace(&mut members.values[member as usize], value);
                    members.doubtful |= !known.is_empty() || (is_nested(value) && !member.is_nested());
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Reads a record out of `text`; `original` is what it keeps as its original. Returns with it whether a name may stand
/// twice in it.
pub(super) fn read<'a>(
    text: &'a str,
    original: &'a str,
    problems: &mut Vec<MemberProblem>,
) -> Result<(Record<'a>, bool), String> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err("not a JSON object".to_owned());
    }
    if walk::is_too_deep(text) {
        return Err(format!("nested deeper than {} levels", walk::DEPTH_MAX));
    }
    let members: Members = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let mut check = Check {
        problems,
        doubtful: members.doubtful,
    };
    let texts = (text, original);
    let record = if !members.token(Member::CreationDate).is_missing() {
        // They come by an API, where nothing is in a hurry.
        check.doubtful |= survey(text).doubtful;
        cloud(&members, texts, &mut check)
    } else if members.token(Member::AuditType).is_object() {
        data_center(Shape::File, &members, texts, &mut check)
    } else if members.token(Member::Type).is_object() {
        data_center(Shape::Entity, &members, texts, &mut check)
    } else {
        return Err("no audit record: it has no `creationDate`, `auditType` or `type`".to_owned());
    };
    Ok((record, check.doubtful))
}

fn data_center<'a>(
    shape: Shape,
    members: &Members<'a>,
    (text, original): (&'a str, &'a str),
    check: &mut Check,
) -> Record<'a> {
    let (kind, names, other_kind) = match shape {
        Shape::File => (Member::AuditType, &FILE_TYPE_NAMES, Member::Type),
        _ => (Member::Type, &ENTITY_TYPE_NAMES, Member::AuditType),
    };
    let foreign = [other_kind, Member::AffectedObject, Member::AssociatedObjects];
    check.doubtful |= foreign.into_iter().any(|member| members.foreign(member));
    let kind = check.members(
        members.values[kind as usize],
        [
            "action",
            "actionI18nKey",
            "area",
            "category",
            "categoryI18nKey",
            "level",
        ],
    );
    let [action, action_key, area, category, category_key, level] =
        std::array::from_fn(|at| check.text(kind[at], names[at]));
    check.object(members.token(Member::Author), "author");
    let author = members.values[Member::Author as usize];
    let [id, name, kind, uri] = check.members(author, ["id", "name", "type", "uri"]);
    let time = members.token(Member::Timestamp);
    let epoch = check.members(
        members.values[Member::Timestamp as usize],
        ["epochSecond", "nano"],
    );
    let time_ms = time_ms(time, epoch);
    let mut has_clean_lists = true;
    for list in [
        Member::AffectedObjects,
        Member::ChangedValues,
        Member::ExtraAttributes,
    ] {
        let found = survey(members.values[list as usize]);
        check.doubtful |= found.doubtful;
        has_clean_lists &= found.clean || members.token(list).is_missing();
    }
    check.time(time_ms, time, "timestamp");
    Record {
        shape,
        original,
        text,
        has_escapes: true,
        time_ms,
        time,
        action,
        action_key,
        area,
        category,
        category_key,
        level,
        author: Author {
            id: check.text(id, "author.id"),
            name: check.text(name, "author.name"),
            kind: check.text(kind, "author.type"),
            uri: check.text(uri, "author.uri"),
            external_collaborator: None,
            guest: None,
        },
        method: check.text(members.token(Member::Method), "method"),
        node: check.text(members.token(Member::Node), "node"),
        source: check.text(members.token(Member::Source), "source"),
        system: check.text(members.token(Member::System), "system"),
        affected_objects: check.list(members.token(Member::AffectedObjects), "affectedObjects"),
        affected_object: Token::MISSING,
        changed_values: check.list(members.token(Member::ChangedValues), "changedValues"),
        extra_attributes: check.list(members.token(Member::ExtraAttributes), "extraAttributes"),
        has_clean_lists,
        has_event_id: !members.values[Member::EventId as usize].is_empty(),
        description: Token::MISSING,
        sys_admin: None,
        super_admin: None,
        problems: Vec::new(),
    }
}

const FILE_TYPE_NAMES: [&str; 6] = [
    "auditType.action",
    "auditType.actionI18nKey",
    "auditType.area",
    "auditType.category",
    "auditType.categoryI18nKey",
    "auditType.level",
];

const ENTITY_TYPE_NAMES: [&str; 6] = [
    "type.action",
    "type.actionI18nKey",
    "type.area",
    "type.category",
    "type.categoryI18nKey",
    "type.level",
];

fn time_ms(time: Token, [second, nano]: [Token; 2]) -> Option<i64> {
    if let Some(text) = time.text() {
        return time::from_iso(&text.decoded());
    }
    let nano = if nano.is_missing() { 0 } else { nano.integer()? };
    time::from_epoch(second.integer()?, nano)
}

fn cloud<'a>(members: &Members<'a>, (text, original): (&'a str, &'a str), check: &mut Check) -> Record<'a> {
    let author = check.object(members.token(Member::Author), "author");
    let [id, name, kind, external, guest] = object(
        author,
        [
            "accountId",
            "displayName",
            "type",
            "externalCollaborator",
            "isGuest",
        ],
    );
    let time = members.token(Member::CreationDate);
    let time_ms = time.integer().and_then(time::from_epoch_ms);
    check.time(time_ms, time, "creationDate");
    let objects = check.list(members.token(Member::AssociatedObjects), "associatedObjects");
    check.elements(objects, &["name", "objectType"], "associatedObjects");
    let affected_object = check.object(members.token(Member::AffectedObject), "affectedObject");
    check.elements(affected_object, &["name", "objectType"], "affectedObject");
    let changed_values = check.list(members.token(Member::ChangedValues), "changedValues");
    // The values are kept whatever they are.
    check.elements(changed_values, &["name"], "changedValues");
    Record {
        shape: Shape::Cloud,
        original,
        text,
        has_escapes: true,
        time_ms,
        time,
        action: check.text(members.token(Member::Summary), "summary"),
        action_key: Token::MISSING,
        area: Token::MISSING,
        category: check.text(members.token(Member::Category), "category"),
        category_key: Token::MISSING,
        level: Token::MISSING,
        author: Author {
            id: check.text(id, "author.accountId"),
            name: check.text(name, "author.displayName"),
            kind: check.text(kind, "author.type"),
            uri: Token::MISSING,
            external_collaborator: check.boolean(external, "author.externalCollaborator"),
            guest: check.boolean(guest, "author.isGuest"),
        },
        method: Token::MISSING,
        node: Token::MISSING,
        source: check.text(members.token(Member::RemoteAddress), "remoteAddress"),
        system: Token::MISSING,
        affected_objects: objects,
        affected_object,
        changed_values,
        extra_attributes: Token::MISSING,
        has_clean_lists: false,
        has_event_id: !members.values[Member::EventId as usize].is_empty(),
        description: check.text(members.token(Member::Description), "description"),
        sys_admin: check.boolean(members.token(Member::SysAdmin), "sysAdmin"),
        super_admin: check.boolean(members.token(Member::SuperAdmin), "superAdmin"),
        problems: Vec::new(),
    }
}

/// The named members of an object; of two of one name the last stands. Missing ones, too, of what is no object.
pub fn object<'a, const N: usize>(object: Token<'a>, names: [&str; N]) -> [Token<'a>; N] {
    let mut values = [Token::MISSING; N];
    if object.is_object() {
        let mut cursor = walk::Cursor::new(object.raw());
        cursor.enter();
        while cursor.more() {
            let key = cursor.key();
            match names.iter().position(|name| *name == key) {
                Some(at) => values[at] = cursor.token(),
                None => cursor.skip(),
            }
        }
    }
    values
}

/// Notes each member that is not what it should be.
struct Check<'p> {
    problems: &'p mut Vec<MemberProblem>,
    /// A name may stand twice in an object.
    doubtful: bool,
}

impl Check<'_> {
    fn note(&mut self, member: &str, wrong: &'static str) {
        self.problems.push(MemberProblem {
            member: member.to_owned(),
            wrong,
        });
    }

    /// Kept even if it is no text: the event id takes a number for its digits.
    fn text<'a>(&mut self, token: Token<'a>, member: &str) -> Token<'a> {
        if !token.is_missing() && token.text().is_none() {
            self.note(member, "is not a text");
        }
        token
    }

    fn boolean(&mut self, token: Token, member: &str) -> Option<bool> {
        let boolean = token.boolean();
        if !token.is_missing() && boolean.is_none() {
            self.note(member, "is not true or false");
        }
        boolean
    }

    /// The named members of an object; of two of one name the last stands.
    fn members<'a, const N: usize>(&mut self, raw: &'a str, names: [&str; N]) -> [Token<'a>; N] {
        let mut values = [""; N];
        let mut others = 0;
        if raw.starts_with('{') {
            let mut cursor = walk::Cursor::new(raw);
            cursor.enter();
            while cursor.more() {
                let key = cursor.key();
                let value = cursor.value();
                self.doubtful |= is_nested(value);
                match names.iter().position(|name| *name == key) {
                    Some(at) => {
                        self.doubtful |= !values[at].is_empty();
                        values[at] = value;
                    }
                    None => others += 1,
                }
            }
        } else {
            self.doubtful |= is_nested(raw);
        }
        self.doubtful |= others > 1;
        values.map(Token::new)
    }

    fn object<'a>(&mut self, token: Token<'a>, member: &str) -> Token<'a> {
        if token.is_missing() || token.is_object() {
            return token;
        }
        self.note(member, "is not an object");
        Token::MISSING
    }

    fn list<'a>(&mut self, token: Token<'a>, member: &str) -> Token<'a> {
        if token.is_missing() || token.is_list() {
            return token;
        }
        self.note(member, "is not a list");
        Token::MISSING
    }

    fn time(&mut self, time_ms: Option<i64>, token: Token, member: &str) {
        if time_ms.is_none() {
            self.note(
                member,
                if token.is_missing() {
                    "is missing"
                } else {
                    "is no time"
                },
            );
        }
    }

    /// Cloud's lists are mapped member by member: each must be a text.
    fn elements(&mut self, list: Token, names: &[&str], member: &str) {
        let mut wrong = [false; 2];
        let mut not_object = false;
        walk::for_each_element(list, |element| {
            not_object |= !element.is_object();
            for (at, name) in names.iter().enumerate() {
                let [value] = object(element, [name]);
                wrong[at] |= !value.is_missing() && value.text().is_none();
            }
        });
        if not_object {
            self.note(member, "holds something that is not an object");
        }
        for (name, wrong) in names.iter().zip(wrong) {
            if wrong {
                self.note(&format!("{member}.{name}"), "is not a text");
            }
        }
    }
}
