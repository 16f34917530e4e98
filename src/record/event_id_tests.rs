use super::super::{Scratch, parse};
use super::*;

fn id_of(line: &str) -> EventId {
    let mut scratch = Scratch::default();
    IdHasher::new(None).id(&parse(line.as_bytes(), &mut scratch))
}

/// Each of these members of a list's element counts, and no other does.
#[track_caller]
fn assert_members(line: &dyn Fn(&str) -> String, members: &[&str]) {
    let mut ids = vec![id_of(&line("")), id_of(&line(r#"{"other":"v"}"#))];
    assert_eq!(ids[0], ids[1], "an element without a member that counts is none");
    for member in members {
        ids.push(id_of(&line(&format!(r#"{{"{member}":"v","other":"w"}}"#))));
        ids.push(id_of(&line(&format!(r#"{{"{member}":"x"}}"#))));
    }
    ids.remove(0);
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{members:?}");
}

fn data_center(list: &'static str) -> impl Fn(&str) -> String {
    move |element| format!(r#"{{"auditType":{{"action":"a"}},"{list}":[{element}]}}"#)
}

fn cloud(list: &'static str) -> impl Fn(&str) -> String {
    move |element| format!(r#"{{"creationDate":1,"summary":"s","{list}":[{element}]}}"#)
}

#[test]
fn the_members_of_lists_that_make_an_event_another() {
    assert_members(&data_center("affectedObjects"), &["type", "id", "name"]);
    assert_members(&data_center("changedValues"), &["key", "from", "to"]);
    assert_members(&data_center("changedValues"), &["i18nKey", "from", "to"]);
    assert_members(&data_center("extraAttributes"), &["name", "value"]);
    assert_members(&data_center("extraAttributes"), &["nameI18nKey", "value"]);
    assert_members(&cloud("associatedObjects"), &["objectType", "name"]);
    let changed = ["name", "oldValue", "newValue", "hiddenOldValue", "hiddenNewValue"];
    assert_members(&cloud("changedValues"), &changed);
    let object = |element: &str| {
        let element = if element.is_empty() { "{}" } else { element };
        format!(r#"{{"creationDate":1,"summary":"s","affectedObject":{element}}}"#)
    };
    assert_members(&object, &["objectType", "name"]);
}

/// The translated name of a file line and the stable name of an API entity would be two events.
#[test]
fn a_stable_name_takes_precedence_over_the_translated_one() {
    for (list, stable, translated) in
        [("changedValues", "i18nKey", "key"), ("extraAttributes", "nameI18nKey", "name")]
    {
        let line = data_center(list);
        let element = |stable_name: &str, name: &str| {
            id_of(&line(&format!(r#"{{"{translated}":"{name}","{stable}":"{stable_name}"}}"#)))
        };
        assert_eq!(element("s", "Name"), element("s", "Nom"));
        assert_eq!(element("s", "Name"), id_of(&line(&format!(r#"{{"{stable}":"s"}}"#))));
        assert_ne!(element("s", "Name"), element("t", "Name"));
        assert_ne!(element("", "Name"), element("", "Nom"));
    }
}

/// The form of a value, which never changes: a kind, then the text or its hash.
#[test]
fn values_in_the_canonical_form() {
    let of = |raw: &str, has_escapes: bool| {
        let mut canonical = Vec::new();
        put(&mut canonical, Token::new(raw), has_escapes);
        canonical
    };
    let whole = |text: &str| [&[1][..], &(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let hashed = |text: &str| [&[2][..], blake3::hash(text.as_bytes()).as_bytes()].concat();
    for has_escapes in [false, true] {
        for missing in ["", "null", "\"\"", "[]", "{}"] {
            assert_eq!(of(missing, has_escapes), [0], "{missing:?}");
        }
        assert_eq!(of("17", has_escapes), whole("17"));
        assert_eq!(of("true", has_escapes), whole("true"));
        assert_eq!(of("[1]", has_escapes), [vec![3], whole("[1]")].concat());
        assert_eq!(of(r#"{"a":1}"#, has_escapes), [vec![3], whole(r#"{"a":1}"#)].concat());
        for length in [1, TEXT_MAX - 1, TEXT_MAX] {
            let text = "x".repeat(length);
            assert_eq!(of(&format!("\"{text}\""), has_escapes), whole(&text), "{length}");
        }
        for length in [TEXT_MAX + 1, 65_535, 65_536, 100_000] {
            let text = "x".repeat(length);
            assert_eq!(of(&format!("\"{text}\""), has_escapes), hashed(&text), "{length}");
        }
    }
    // The decoded length decides.
    for length in [1, TEXT_MAX / 2, TEXT_MAX - 1, TEXT_MAX] {
        let (escaped, text) = ("\\n".repeat(length), "\n".repeat(length));
        assert_eq!(of(&format!("\"{escaped}\""), true), whole(&text), "{length}");
        assert_eq!(
            of(&format!("\"{escaped}yy\""), true).len(),
            if length + 2 > TEXT_MAX { 33 } else { length + 5 }
        );
    }
    let (escaped, text) = ("\\n".repeat(TEXT_MAX + 1), "\n".repeat(TEXT_MAX + 1));
    assert_eq!(of(&format!("\"{escaped}\""), true), hashed(&text));
}

/// Within a run of elements their order does not matter. A list that is longer than a run has an id of its own.
#[test]
fn elements_of_a_long_list_are_sorted_in_runs() {
    let element = |text: &str| [b"V\x01", &(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    // With its four bytes of frame, 256 of them are exactly a run.
    let text = |n: usize| format!("{n:01020}");
    let canonical = |texts: &[String]| {
        let list: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
        let mut hasher = IdHasher::new(None);
        hasher.multiset(Token::new(&format!("[{}]", list.join(","))), false, |_| None);
        hasher.canonical
    };
    let joined = |texts: &[String]| texts.iter().flat_map(|text| element(text)).collect::<Vec<u8>>();
    let hashed = |run: &[u8]| [b"H", &blake3::hash(run).as_bytes()[..]].concat();
    let reversed = |count: usize| (0..count).rev().map(text).collect::<Vec<_>>();
    let sorted = |count: usize| (0..count).map(text).collect::<Vec<_>>();
    assert_eq!(joined(&sorted(256)).len(), RUN_BYTES_MAX);
    assert_eq!(canonical(&[]), b".");
    assert_eq!(canonical(&reversed(9)), [joined(&sorted(9)), b".".to_vec()].concat());
    assert_eq!(canonical(&reversed(256)), [joined(&sorted(256)), b".".to_vec()].concat());
    assert_eq!(canonical(&reversed(257)), [hashed(&joined(&sorted(257))), b".".to_vec()].concat());
    // The elements of the first run stay before those of the second one.
    let mut two = reversed(260)[..257].to_vec();
    let first = joined(&(3..260).map(text).collect::<Vec<_>>());
    two.extend(reversed(3));
    assert_eq!(canonical(&two), [hashed(&first), joined(&sorted(3)), b".".to_vec()].concat());
    // A value that is no list is one element.
    let mut hasher = IdHasher::new(None);
    hasher.multiset(Token::new("\"one\""), false, |_| None);
    assert_eq!(hasher.canonical, [element("one"), b".".to_vec()].concat());
}

/// The host of the last `system` is remembered, unless the text is long.
#[test]
fn the_site_is_the_host_of_the_system() {
    let mut hasher = IdHasher::new(Some("site"));
    let mut site_of = |url: &str| {
        hasher.canonical.clear();
        let raw = format!("\"{url}\"");
        hasher.site(Token::new(&raw).text());
        (String::from_utf8_lossy(&hasher.canonical[3..]).into_owned(), hasher.last_system.0.len())
    };
    let url = |host: &str, length: usize| format!("https://{host}/{}", "x".repeat(length - 9 - host.len()));
    let host = |host: &str| host.to_owned();
    assert_eq!(site_of(&url("one.example", 100)), (host("one.example"), 100));
    assert_eq!(site_of(&url("one.example", 100)), (host("one.example"), 100));
    assert_eq!(site_of(&url("two.example", TEXT_MAX + 1)), (host("two.example"), 100));
    assert_eq!(site_of(&url("two.example", TEXT_MAX)), (host("two.example"), TEXT_MAX));
    assert_eq!(site_of(&url("one.example", 100)), (host("one.example"), 100));
}
