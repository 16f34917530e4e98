//! Builds a [`Record`] from JSON members, by shape.

use super::json::object;
use super::member_checker::MemberChecker;
use super::members::{Member, RecordMembers};
use super::repeated_names::scan_value;
use super::{Author, MemberProblem, Record, Shape, Token, scan, time};

/// Reads a record from `text`; `original` is stored as its original. Also returns whether a member name may be
/// repeated.
pub(super) fn read<'a>(
    text: &'a str,
    original: &'a str,
    problems: &mut Vec<MemberProblem>,
) -> Result<(Record<'a>, bool), String> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err("not a JSON object".to_owned());
    }
    if scan::is_too_deep(text) {
        return Err(format!("nested deeper than {} levels", scan::DEPTH_MAX));
    }
    let members: RecordMembers = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let mut check = MemberChecker { problems, may_repeat_names: members.may_repeat_names };
    let texts = (text, original);
    let record = if !members.token(Member::CreationDate).is_missing() {
        // Records of an API are few, so the slower check is acceptable.
        check.may_repeat_names |= scan_value(text).may_repeat_names;
        cloud(&members, texts, &mut check)
    } else if members.token(Member::AuditType).is_object() {
        data_center(Shape::File, &members, texts, &mut check)
    } else if members.token(Member::Type).is_object() {
        data_center(Shape::Entity, &members, texts, &mut check)
    } else {
        return Err("no audit record: it has no `creationDate`, `auditType` or `type`".to_owned());
    };
    Ok((record, check.may_repeat_names))
}

fn data_center<'a>(
    shape: Shape,
    members: &RecordMembers<'a>,
    (text, original): (&'a str, &'a str),
    check: &mut MemberChecker,
) -> Record<'a> {
    let (kind, names, other_kind) = match shape {
        Shape::File => (Member::AuditType, &FILE_TYPE_NAMES, Member::Type),
        _ => (Member::Type, &ENTITY_TYPE_NAMES, Member::AuditType),
    };
    let foreign = [other_kind, Member::AffectedObject, Member::AssociatedObjects];
    check.may_repeat_names |= foreign.into_iter().any(|member| members.is_nested_foreign(member));
    let kind = check.members(
        members.values[kind as usize],
        ["action", "actionI18nKey", "area", "category", "categoryI18nKey", "level"],
    );
    let [action, action_key, area, category, category_key, level] =
        std::array::from_fn(|at| check.text(kind[at], names[at]));
    check.object(members.token(Member::Author), "author");
    let author = members.values[Member::Author as usize];
    let author = check.members(author, ["id", "name", "type", "uri"]);
    let time = members.token(Member::Timestamp);
    let epoch = check.members(members.values[Member::Timestamp as usize], ["epochSecond", "nano"]);
    let time_ms = time_ms(time, epoch);
    let mut has_clean_lists = true;
    for list in [Member::AffectedObjects, Member::ChangedValues, Member::ExtraAttributes] {
        let found = scan_value(members.values[list as usize]);
        check.may_repeat_names |= found.may_repeat_names;
        has_clean_lists &= found.is_clean || members.token(list).is_missing();
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
        author: data_center_author(author, check),
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

fn data_center_author<'a>([id, name, kind, uri]: [Token<'a>; 4], check: &mut MemberChecker) -> Author<'a> {
    Author {
        id: check.text(id, "author.id"),
        name: check.text(name, "author.name"),
        kind: check.text(kind, "author.type"),
        uri: check.text(uri, "author.uri"),
        external_collaborator: None,
        guest: None,
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

const ENTITY_TYPE_NAMES: [&str; 6] =
    ["type.action", "type.actionI18nKey", "type.area", "type.category", "type.categoryI18nKey", "type.level"];

fn time_ms(time: Token, [second, nano]: [Token; 2]) -> Option<i64> {
    if let Some(text) = time.text() {
        return time::from_iso(&text.decoded());
    }
    let nano = if nano.is_missing() { 0 } else { nano.integer()? };
    time::from_epoch(second.integer()?, nano)
}

fn cloud<'a>(
    members: &RecordMembers<'a>,
    (text, original): (&'a str, &'a str),
    check: &mut MemberChecker,
) -> Record<'a> {
    let author = check.object(members.token(Member::Author), "author");
    let [id, name, kind, external, guest] =
        object(author, ["accountId", "displayName", "type", "externalCollaborator", "isGuest"]);
    let time = members.token(Member::CreationDate);
    let time_ms = time.integer().and_then(time::from_epoch_ms);
    check.time(time_ms, time, "creationDate");
    let objects = check.list(members.token(Member::AssociatedObjects), "associatedObjects");
    check.elements(objects, &["name", "objectType"], "associatedObjects");
    let affected_object = check.object(members.token(Member::AffectedObject), "affectedObject");
    check.elements(affected_object, &["name", "objectType"], "affectedObject");
    let changed_values = check.list(members.token(Member::ChangedValues), "changedValues");
    // The changed values may have any type.
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
