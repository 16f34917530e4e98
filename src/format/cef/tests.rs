use serde_json::{Value, json};

use super::super::tests::{context, written};
use super::super::{Format, FormatKind, Origin};

/// The value of a key, or nothing.
fn value<'e>(event: &'e str, key: &str) -> Option<&'e str> {
    let start = event.find(&format!(" {key}="))? + key.len() + 2;
    let rest = &event[start..];
    // A value ends at a blank that is followed by a key and `=`.
    let mut end = rest.len();
    for (at, _) in rest.match_indices(' ') {
        let word = rest[at + 1..].split(['=', ' ']).next().unwrap_or("");
        if rest[at + 1 + word.len()..].starts_with('=') && !word.ends_with('\\') {
            end = at;
            break;
        }
    }
    Some(&rest[..end])
}

fn event(line: &Value) -> String {
    let format = Format::new(FormatKind::Cef, &context());
    String::from_utf8(written(&format, line.to_string().as_bytes(), Origin::Api)).unwrap()
}

fn line(action: &str, category: &str, objects: Value, changes: Value) -> Value {
    json!({
        "auditType": {"action": "a", "actionI18nKey": action, "categoryI18nKey": format!("audit.logging.category.{category}")},
        "author": {"id": "k-1", "name": "Rita", "type": "user"},
        "affectedObjects": objects, "changedValues": changes,
    })
}

#[test]
fn f107_the_person_that_something_was_done_to_is_named() {
    let tom = json!({"type": "User", "name": "Tom Example", "id": "k-2", "uri": "https://w/x?username=tom"});
    let space = json!({"type": "Space", "name": "HQ", "id": "1"});
    let rename = json!([{"i18nKey": "audit.logging.changed.value.username", "key": "Username", "from": "tom", "to": "tom2"}]);
    const S: &str = "audit.logging.summary.";
    for (action, category, objects, changes, name, id) in [
        (
            format!("{S}space.permission.added"),
            "permissions",
            json!([tom, space]),
            json!([]),
            Some("tom"),
            Some("k-2"),
        ),
        (
            format!("{S}global.permission.removed"),
            "permissions",
            json!([tom]),
            json!([]),
            Some("tom"),
            Some("k-2"),
        ),
        (
            "x.page.permission.granted".into(),
            "permissions",
            json!([space, tom]),
            json!([]),
            Some("tom"),
            Some("k-2"),
        ),
        (
            "x.restriction.added".into(),
            "permissions",
            json!([space, tom]),
            json!([]),
            Some("tom"),
            Some("k-2"),
        ),
        // To everybody and to a group.
        (
            format!("{S}space.permission.added"),
            "permissions",
            json!([{"type": "User", "name": "Anonymous"}, space]),
            json!([]),
            Some("Anonymous"),
            None,
        ),
        (
            format!("{S}space.permission.added"),
            "permissions",
            json!([{"type": "Group", "name": "g"}, space]),
            json!([]),
            None,
            None,
        ),
        (
            format!("{S}user.renamed"),
            "user.management",
            json!([tom]),
            rename.clone(),
            Some("tom"),
            Some("k-2"),
        ),
        (format!("{S}user.renamed"), "user.management", json!([tom]), json!([]), Some("tom"), Some("k-2")),
        (
            format!("{S}user.password.reset"),
            "user.management",
            json!([tom]),
            json!([]),
            Some("tom"),
            Some("k-2"),
        ),
        (
            "x.user.password.reset.failed".into(),
            "user.management",
            json!([tom]),
            json!([]),
            Some("tom"),
            Some("k-2"),
        ),
        ("x.user.avatar.moved".into(), "security", json!([tom]), json!([]), Some("tom"), Some("k-2")),
        // A user who is only mentioned with a space is not the target.
        (format!("{S}space.created"), "spaces", json!([space, tom]), json!([]), None, None),
    ] {
        let event = event(&line(&action, category, objects, changes));
        assert_eq!((value(&event, "duser"), value(&event, "duid")), (name, id), "{event}");
        assert_eq!(value(&event, "suid"), Some("k-1"), "{event}");
    }
    // A failed login is about the user who tries to log in.
    let failed = event(&line("x.sso.auth.failed", "auth", json!([tom]), json!([])));
    assert_eq!((value(&failed, "suser"), value(&failed, "suid")), (Some("tom"), Some("k-2")), "{failed}");
    assert_eq!((value(&failed, "outcome"), value(&failed, "duser")), (Some("failure"), None), "{failed}");
}

#[test]
fn f108_an_object_is_named_once() {
    let page = json!({"name": "Plans", "objectType": "Page"});
    let cloud = json!({"creationDate": 1, "summary": "Page archived", "category": "Page", "affectedObject": page,
        "associatedObjects": [page, {"name": "HQ", "objectType": "Space"}, page]});
    assert_eq!(value(&event(&cloud), "cs3"), Some("Page Plans, Space HQ"));
    assert_eq!(value(&event(&cloud), "msg"), Some("Someone: Page archived: Page Plans, Space HQ"));
    // The same text with another JSON escape.
    let escaped = cloud.to_string().replacen("Plans", "Pl\\u0061ns", 1);
    let format = Format::new(FormatKind::Cef, &context());
    let event = |line: &str| String::from_utf8(written(&format, line.as_bytes(), Origin::Api)).unwrap();
    assert_eq!(value(&event(&escaped), "cs3"), Some("Page Plans, Space HQ"));
    assert_eq!(value(&event(&escaped), "msg"), Some("Someone: Page archived: Page Plans, Space HQ"));
    let file = json!({"auditType": {"action": "x"}, "affectedObjects": [
        {"type": "Group", "name": "g", "id": "1"}, {"type": "Group", "name": "g", "id": "1"}, {"type": "Group", "name": "g", "id": "2"}]});
    assert_eq!(value(&event(&file.to_string()), "cs3"), Some("Group g, Group g"));
}
