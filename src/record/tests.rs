use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn id_of(line: &str, site: Option<&str>) -> EventId {
    let mut scratch = Scratch::default();
    IdHasher::new(site).id(&parse(line.as_bytes(), &mut scratch))
}

fn check(line: impl AsRef<[u8]>, test: impl FnOnce(&Record)) {
    let mut scratch = Scratch::default();
    match parse(line.as_ref(), &mut scratch) {
        Parsed::Record(record) => test(&record),
        Parsed::Unreadable { error, .. } => panic!("{error}"),
    }
}

fn error_of(line: impl AsRef<[u8]>) -> String {
    let mut scratch = Scratch::default();
    match parse(line.as_ref(), &mut scratch) {
        Parsed::Record(record) => panic!("{record:?}"),
        Parsed::Unreadable { error, .. } => error,
    }
}

fn problems(record: &Record) -> String {
    record.problems.iter().map(MemberProblem::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn shapes_are_recognised_by_content() {
    for (line, shape) in [
        (r#"{"auditType":{"action":"x"},"type":{"action":"x"}}"#, Shape::File),
        (r#"{"auditType":{"action":""},"type":{"action":"x"}}"#, Shape::Entity),
        (r#"{"auditType":"x","type":{"action":"x"}}"#, Shape::Entity),
        (r#"{"auditType":{"action":"x"},"creationDate":1}"#, Shape::Cloud),
        (r#"{"auditType":{"action":"x"},"creationDate":""}"#, Shape::File),
        (r#"{"auditType":{"action":"x"},"auditType":null,"creationDate":0}"#, Shape::Cloud),
        (r#" { "auditType" : { "level" : 1 } } "#, Shape::File),
    ] {
        check(line, |record| assert_eq!(record.shape, shape, "{line}"));
    }
    for line in ["", "[]", "null", "17", "\"x\"", "{}", r#"{"type":"x"}"#, r#"{"auditType":{"a":[{}]}}"#] {
        error_of(line);
    }
    assert!(error_of("{\"auditType\":{\"action\":\"x\"}} x").starts_with("not JSON"));
    assert!(error_of([0; 4096]).starts_with("not a JSON object"));
}

#[test]
fn last_of_two_members_wins() {
    let line = r#"{"method":"a","auditType":{"action":"1","action":"2"},"m\u0065thod":"b","author":{"id":"1"},"author":{"name":"n"}}"#;
    check(line, |record| {
        assert_eq!(record.method.raw(), "\"b\"");
        assert_eq!(record.action.raw(), "\"2\"");
        assert!(record.author.id.is_missing());
        assert_eq!(record.author.name.raw(), "\"n\"");
    });
}

#[test]
fn f10_utf8_families() {
    for (name, bytes) in [
        ("overlong", &b"\xc0\xaf"[..]),
        ("lone surrogate", b"\xed\xa0\x80"),
        ("truncated", b"\xe2\x82"),
        ("never valid", b"\xff"),
    ] {
        let line = [
            br#"{"auditType":{"action":"x"},"timestamp":{"epochSecond":1},"author":{"name":"a"#,
            bytes,
            br#"b"},"method":"m"}"#,
        ]
        .concat();
        check(&line, |record| {
            let text = record.author.name.text().unwrap().decoded();
            assert!(text.starts_with("a\u{fffd}") && text.ends_with('b'), "{name}: {text}");
            assert_eq!(record.method.raw(), "\"m\"");
            assert_eq!(problems(record), "`author.name` has invalid UTF-8", "{name}");
            assert!(record.original.contains('\u{fffd}'));
        });
    }
    let outside = [br#"{"auditType":{"action":"x"}"#, &b"\xff}"[..]].concat();
    assert!(error_of(&outside).starts_with("not JSON"));
}

#[test]
fn half_a_surrogate_pair_is_replaced() {
    let line = r#"{"auditType":{"action":"\ud83d\ude00 \\ud800"},"timestamp":{"epochSecond":1},"method":"a\uD800b","node":"\udc00\ud83d\ude00"}"#;
    check(line, |record| {
        assert_eq!(record.action.raw(), r#""\ud83d\ude00 \\ud800""#);
        assert_eq!(record.action.text().unwrap().decoded(), "😀 \\ud800");
        assert_eq!(record.method.text().unwrap().decoded(), "a\u{fffd}b");
        assert_eq!(record.node.text().unwrap().decoded(), "\u{fffd}😀");
        assert_eq!(record.original, line);
        assert_eq!(problems(record), "`method` has half a surrogate pair; `node` has half a surrogate pair");
    });
}

#[test]
fn f32_depth_100k() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let bomb = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let line = format!(r#"{{"auditType":{{"action":"x"}},"affectedObjects":[{bomb}]}}"#);
        assert_eq!(error_of(&line), "nested deeper than 128 levels");
        error_of(bomb);
        // Unclosed brackets, and unclosed brackets within a string.
        error_of(open.repeat(100_000));
    }
    let flat = format!(
        r#"{{"auditType":{{"action":"{}"}},"changedValues":[{}{{}}],"timestamp":{{"epochSecond":1}}}}"#,
        "[".repeat(1000),
        r#"{"key":"k"},"#.repeat(1000)
    );
    check(flat, |record| assert!(record.problems.is_empty()));
}

#[test]
fn f33_bad_timestamp() {
    for (time, expected) in [
        (r#""timestamp":"yesterday""#, "`timestamp` is no time"),
        (r#""timestamp":1637624567"#, "`timestamp` is no time"),
        (r#""timestamp":{"epochSecond":"1637624567"}"#, "`timestamp` is no time"),
        (r#""timestamp":{"epochSecond":1.5}"#, "`timestamp` is no time"),
        (r#""timestamp":{"epochSecond":99999999999999999999}"#, "`timestamp` is no time"),
        (r#""timestamp":{"epochSecond":1,"nano":-1}"#, "`timestamp` is no time"),
        (r#""timestamp":{"nano":1}"#, "`timestamp` is no time"),
        (r#""timestamp":{}"#, "`timestamp` is missing"),
        (r#""method":"m""#, "`timestamp` is missing"),
        (r#""creationDate":"2021-11-23T00:39:37Z""#, "`creationDate` is no time"),
    ] {
        check(format!(r#"{{"auditType":{{"action":"x"}},{time}}}"#), |record| {
            assert_eq!(record.time_ms, None);
            assert_eq!(problems(record), expected);
        });
    }
    check(r#"{"type":{"action":"x"},"timestamp":{"epochSecond":-1,"nano":1000000}}"#, |record| {
        assert_eq!(record.time_ms, Some(-999));
    });
}

#[test]
fn wrong_types_are_reported() {
    let line = r#"{"auditType":{"action":1,"level":true},"timestamp":{"epochSecond":1},"author":{"id":-2,"name":["x"]},
        "affectedObjects":"x","changedValues":[1,{"key":5}],"extraAttributes":{"a":1},"source":{"a":1},"system":null,"node":[]}"#;
    check(line, |record| {
        assert_eq!(
            problems(record),
            "`auditType.action` is not a text; `auditType.level` is not a text; `author.id` is not a text; \
             `author.name` is not a text; `source` is not a text; `affectedObjects` is not a list; \
             `extraAttributes` is not a list"
        );
        assert_eq!(record.changed_values.raw(), r#"[1,{"key":5}]"#);
    });
    let line = r#"{"creationDate":1,"author":"x","sysAdmin":"yes","affectedObject":{"name":{"a":1}},"changedValues":[{"name":"n","newValue":5}]}"#;
    check(line, |record| {
        assert_eq!(
            problems(record),
            "`author` is not an object; `affectedObject.name` is not a text; `sysAdmin` is not true or false"
        );
    });
}

#[test]
fn compact_takes_white_space_only() {
    let json = "{ \"a b\" :\t[ 1 ,\r\n \"x\\\" \\\\\" , { } ] }";
    assert_eq!(compact(json), r#"{"a b":[1,"x\" \\",{}]}"#);
}

/// File lines and API entities of the same events: equal ids for each event, different ids otherwise.
#[test]
fn f35_pairs_have_one_id() {
    let pairs = include_str!("../../fixtures/mapping/pairs.jsonl");
    let ids: Vec<EventId> = pairs.lines().map(|line| id_of(line, None)).collect();
    assert!(ids.len() >= 8 && ids.len().is_multiple_of(2));
    for (at, pair) in ids.chunks(2).enumerate() {
        assert_eq!(pair[0], pair[1], "pair {at}");
        assert!(!ids[..2 * at].contains(&pair[0]), "pair {at} is like another");
    }
    let mut scratch = Scratch::default();
    for (at, line) in pairs.lines().enumerate() {
        let Parsed::Record(record) = parse(line.as_bytes(), &mut scratch) else { panic!("{line}") };
        let shape = if at % 2 == 0 { Shape::File } else { Shape::Entity };
        assert_eq!((record.shape, problems(&record).as_str()), (shape, ""));
    }
}

/// A user or object was renamed between the file line and the API answer. The author's name does not count, because
/// there is an id. An object's name counts, because many objects have no id.
#[test]
fn f35_renamed_meanwhile() {
    let line = |author: &str, object: &str| {
        let line = json!({
            "auditType": {"action": "x"}, "author": {"id": "8a80cb81", "name": author},
            "affectedObjects": [{"type": "Group", "id": "g1", "name": object}],
        });
        id_of(&line.to_string(), None)
    };
    assert_eq!(line("Ada King", "editors"), line("Ada Lovelace", "editors"));
    assert_ne!(line("Ada King", "editors"), line("Ada King", "writers"));
}

#[test]
fn f35_twins_and_known_values() {
    let line = r#"{"auditType":{"action":"x"},"timestamp":{"epochSecond":1}}"#;
    let id = id_of(line, Some("wiki"));
    // Ids must not change between versions of the agent: a changed id makes every sink accept events again.
    assert_eq!(id.to_string(), "3db7ef0800d4de3795fbced65b47db40");
    assert_eq!(id.twin(1).to_string(), "476d742f92e3c8e3b8763099166e61d3");
    assert_eq!(id.twin(0), id);
    assert_ne!(id.twin(1), id.twin(2));
    assert_eq!(id.hex(), id.to_string().as_bytes());
    assert_ne!(id, id_of(line, Some("other")));
    // A record's own site takes precedence over the configured one.
    let own = r#"{"auditType":{"action":"x"},"timestamp":{"epochSecond":1},"system":"https://WIKI:8090/x"}"#;
    assert_eq!(id_of(own, Some("other")), id);
    assert_eq!(id_of("rubbish\r\n", None), id_of("rubbish", None));
    assert_ne!(id_of("rubbish", None), id_of("rubbisch", None));
}

/// An event in both shapes.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    ms: i64,
    action_key: String,
    category_key: String,
    author: String,
    source: String,
    method: String,
    node: String,
    lists: [Vec<[String; 3]>; 3],
}

fn models() -> impl Strategy<Value = Model> {
    let text =
        || prop_oneof![Just(String::new()), "[a-zA-Z/\"\\\\üλ😀\\x00-\\x1f]{1,12}", "[a-z]{1020,1030}"];
    let list = || prop::collection::vec([text(), text(), text()], 0..5);
    let texts = prop::array::uniform6(text());
    (0_i64..4_000_000_000_000, texts, [list(), list(), list()]).prop_map(|(ms, texts, lists)| {
        let [action_key, category_key, author, source, method, node] = texts;
        Model { ms, action_key, category_key, author, source, method, node, lists }
    })
}

impl Model {
    /// `noise` varies everything that must not affect the id.
    fn render(&self, file: bool, noise: &mut Noise) -> String {
        let time = if file {
            json!({"epochSecond": self.ms.div_euclid(1000), "nano": self.ms.rem_euclid(1000) * 1_000_000 + noise.below(1_000_000) as i64})
        } else {
            json!(String::from_utf8_lossy(&time::iso(self.ms)))
        };
        let mut kind = json!({"actionI18nKey": self.action_key, "categoryI18nKey": self.category_key, "category": noise.word()});
        kind["action"] = if self.action_key.is_empty() { json!("Text") } else { json!(noise.word()) };
        let names = [["type", "id", "name"], ["i18nKey", "from", "to"], ["nameI18nKey", "value", "other"]];
        let lists: Vec<Vec<Value>> = names
            .iter()
            .zip(&self.lists)
            .map(|(names, elements)| {
                let mut list: Vec<Value> = elements
                    .iter()
                    .map(|element| {
                        let mut object = serde_json::Map::new();
                        for (name, text) in names.iter().zip(element) {
                            match noise.below(3) {
                                0 if text.is_empty() => {}
                                1 if text.is_empty() => drop(object.insert((*name).to_owned(), Value::Null)),
                                _ => drop(object.insert((*name).to_owned(), json!(text))),
                            }
                        }
                        // The translated name next to a stable one depends on the site's language, which may change.
                        let translated = [("i18nKey", "key"), ("nameI18nKey", "name")];
                        if let Some((_, name)) = translated.iter().find(|(stable, _)| *stable == names[0])
                            && !element[0].is_empty()
                        {
                            object.insert((*name).to_owned(), json!(noise.word()));
                        }
                        if names[0] == "type" && !file {
                            object.insert("uri".to_owned(), json!(noise.word()));
                        }
                        Value::Object(object)
                    })
                    .collect();
                for at in (1..list.len()).rev() {
                    list.swap(at, noise.below(at as u64 + 1) as usize);
                }
                list
            })
            .collect();
        let mut record = json!({
            "timestamp": time,
            "author": {"id": self.author, "name": noise.word()},
            "source": self.source, "method": self.method, "node": self.node, "system": "http://wiki.example:8090",
            "affectedObjects": lists[0], "changedValues": lists[1], "extraAttributes": lists[2],
        });
        if file {
            record["version"] = json!("1.0");
            kind["area"] = json!(noise.word());
            kind["level"] = json!(noise.word());
        } else {
            record["author"]["uri"] = json!(noise.word());
            record["author"]["avatarUri"] = json!(noise.word());
        }
        record[if file { "auditType" } else { "type" }] = kind;
        let mut json = String::new();
        noise.write(&record, &mut json);
        json
    }

    /// The lists without elements that have no relevant member, sorted.
    fn canonical(&self) -> Model {
        let mut model = self.clone();
        for (at, list) in model.lists.iter_mut().enumerate() {
            for element in list.iter_mut().filter(|_| at == 2) {
                element[2].clear();
            }
            list.retain(|element| element.iter().any(|text| !text.is_empty()));
            list.sort();
        }
        model
    }
}

/// xorshift64: chooses what must not affect the id.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn word(&mut self) -> String {
        format!("w{}", self.below(1000))
    }

    fn space(&mut self, json: &mut String) {
        json.push_str(["", "", " ", "\t"][self.below(4) as usize]);
    }

    fn write(&mut self, value: &Value, json: &mut String) {
        self.space(json);
        match value {
            Value::Object(object) => {
                let mut members: Vec<_> = object.iter().collect();
                for at in (1..members.len()).rev() {
                    members.swap(at, self.below(at as u64 + 1) as usize);
                }
                json.push('{');
                for (at, (key, value)) in members.into_iter().enumerate() {
                    json.push_str(if at > 0 { "," } else { "" });
                    self.string(key, json);
                    self.space(json);
                    json.push(':');
                    self.write(value, json);
                }
                json.push('}');
            }
            Value::Array(list) => {
                json.push('[');
                for (at, value) in list.iter().enumerate() {
                    json.push_str(if at > 0 { "," } else { "" });
                    self.write(value, json);
                }
                self.space(json);
                json.push(']');
            }
            Value::String(text) => self.string(text, json),
            other => json.push_str(&other.to_string()),
        }
        self.space(json);
    }

    fn string(&mut self, text: &str, json: &mut String) {
        json.push('"');
        for character in text.chars() {
            if character == '/' && self.below(2) == 0 {
                json.push_str("\\/");
            } else if self.below(20) == 0 {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    json.push_str(&format!("\\u{unit:04X}"));
                }
            } else {
                let escaped = Value::from(character.to_string()).to_string();
                json.push_str(&escaped[1..escaped.len() - 1]);
            }
        }
        json.push('"');
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn f35_id_stability(model in models(), other in models(), seed in 1_u64..) {
        let noise = &mut Noise(seed);
        let id = id_of(&model.render(true, noise), None);
        prop_assert_eq!(id_of(&model.render(false, noise), None), id);
        prop_assert_eq!(id_of(&model.render(noise.below(2) == 0, noise), None), id);
        if model.canonical() != other.canonical() {
            prop_assert_ne!(id_of(&other.render(true, noise), None), id);
        }
        // Every relevant value affects the id.
        for at in 0..9 {
            let mut changed = model.clone();
            match at {
                0 => changed.ms += 1,
                1 => changed.action_key.push('x'),
                2 => changed.category_key.push('x'),
                3 => changed.author.push('x'),
                4 => changed.source.push('x'),
                5 => changed.method.push('x'),
                6 => changed.node.push('x'),
                7 => changed.lists[0].push(["x".into(), "".into(), "".into()]),
                _ => changed.lists[2].push(["".into(), "x".into(), "".into()]),
            }
            prop_assert_ne!(id_of(&changed.render(true, noise), None), id, "{}", at);
        }
    }

    /// A value in a neighbouring field is a different event.
    #[test]
    fn f35_fields_do_not_run_together(a in "[a-z]{0,3}", b in "[a-z]{0,3}", at in 0_usize..6) {
        let line = |texts: [&str; 2]| {
            let both = format!("{}{}", texts[0], texts[1]);
            let (first, second) = both.split_at(at.min(both.len()));
            format!(r#"{{"auditType":{{"action":"x"}},"source":"{first}","method":"{second}"}}"#)
        };
        let straight = format!(r#"{{"auditType":{{"action":"x"}},"source":"{a}","method":"{b}"}}"#);
        let moved = line([&a, &b]);
        prop_assert_eq!(id_of(&straight, None) == id_of(&moved, None), straight == moved);
    }

    #[test]
    fn any_bytes_are_parsed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut scratch = Scratch::default();
        parse(&bytes, &mut scratch);
    }
}

/// A list longer than one run: memory stays small, and the id is still deterministic.
#[test]
fn f32_million_elements() {
    let line = |last: &str| {
        let elements = r#"{"key":"k","to":"v"},"#.repeat(200_000);
        format!(r#"{{"auditType":{{"action":"x"}},"changedValues":[{elements}{{"key":"{last}"}}]}}"#)
    };
    let mut hasher = IdHasher::new(None);
    let mut scratch = Scratch::default();
    let one = line("a");
    let id = hasher.id(&parse(one.as_bytes(), &mut scratch));
    assert_ne!(id, id_of(&line("b"), None));
    assert_eq!(id, id_of(&line("a"), None));
}
