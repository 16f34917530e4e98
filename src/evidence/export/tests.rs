use super::event::{Recognised, Recogniser};
use super::*;
use crate::evidence::row::{HAS_TIME, MEMBERS_DIFFER, NOTICE, OF_INDEX};
use crate::format::{Agent, Context, Event, EventBuffer, Format, FormatKind, Origin};
use crate::ledger::record_digest;
use crate::notice::{GAP, Notice};
use crate::record::{IdHasher, Parsed, Scratch, parse};
use serde_json::{Value, json};
use std::io::Write;

fn originals() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mapping");
    let lines = std::fs::read_to_string(folder.join("pairs.jsonl")).unwrap();
    lines.lines().map(str::to_owned).collect()
}

fn context() -> Context {
    let agent = Agent {
        id: "a".into(),
        ephemeral_id: "e".into(),
        name: "host".into(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    Context {
        tags: Some(vec!["one".into()]),
        namespace: "default".into(),
        site: None,
        agent,
        host: None,
        cloud: None,
        geo: None,
        preserve_original_event: true,
    }
}

/// The event of a record, its id, its digest and its time.
fn encoded(kind: FormatKind, original: &[u8]) -> (String, u128, [u8; 32], Option<i64>) {
    let mut scratch = Scratch::default();
    let content = &parse(original, &mut scratch);
    let id = IdHasher::new(None).id(content);
    let mut out = EventBuffer::new();
    let origin = Origin::File { path_json: "\"/a\"", offset: 7, unterminated: false };
    Format::new(kind, &context())
        .write(&Event { content, id, origin, self_poll: false, read_at_ms: 1_700_000_000_123 }, &mut out);
    let (digest, time) = match content {
        Parsed::Record(record) => (record_digest(record.original.as_bytes()), record.time_ms),
        Parsed::Unreadable { bytes, .. } => (record_digest(String::from_utf8_lossy(bytes).as_bytes()), None),
    };
    (String::from_utf8(out.bytes).unwrap(), id.0, digest, time)
}

#[track_caller]
fn recognise(item: &str) -> (Row, ExportFormat, Vec<String>) {
    match Recogniser::new(None).recognise(item.as_bytes()) {
        Recognised::Event { row, format, differing, .. } => (row, format, differing),
        other => panic!("{other:?}: {item}"),
    }
}

#[test]
fn events_of_all_formats_and_wrappers_are_recognised() {
    for original in originals() {
        for kind in FormatKind::ALL {
            let (event, id, digest, time) = encoded(kind, original.as_bytes());
            let quoted = Value::from(event.as_str());
            let mut wrapped =
                vec![event.clone(), format!("<13>1 2026-11-29T10:00:00Z host app - - - {event}")];
            if kind != FormatKind::Cef {
                wrapped = vec![
                    event.clone(),
                    format!("{{\"_index\":\"x\",\"_id\":\"y\",\"_source\":{event}}}"),
                    format!("{{\"event\":{event},\"time\":1.5,\"host\":\"h\"}}"),
                    format!("{{\"event\":{quoted}}}"),
                    format!(
                        "{{\"preview\":false,\"offset\":1,\"result\":{{\"_raw\":{quoted},\"_time\":\"x\"}}}}"
                    ),
                    format!("{{\"message\":{quoted}}}"),
                ];
            }
            for item in wrapped {
                let (row, format, differing) = recognise(&item);
                assert_eq!((row.id, format), (id, ExportFormat::Event(kind)), "{item}");
                assert_eq!(differing, [""; 0], "{item}");
                if let Some(_member) = format.original_member() {
                    assert!(row.has(HAS_DIGEST) && row.digest == digest, "{item}");
                } else {
                    assert!(!row.has(HAS_DIGEST));
                }
                assert_eq!(row.has(OF_INDEX), item.starts_with("{\"_index"));
                if kind != FormatKind::Cef {
                    assert_eq!(row.time(), time);
                }
            }
        }
        let (row, format, _) = recognise(&original);
        let (_, id, digest, _) = encoded(FormatKind::Ecs, original.as_bytes());
        assert_eq!((row.id, row.digest, format), (id, digest, ExportFormat::Original));
        assert!(row.has(HAS_TIME));
    }
}

#[test]
fn members_that_are_not_what_the_original_says_are_named() {
    let original = &originals()[0];
    let (event, ..) = encoded(FormatKind::Ecs, original.as_bytes());
    let event: Value = serde_json::from_str(&event).unwrap();
    // Written again by another program, with members that it adds.
    let mut again = event.clone();
    again["event"]["ingested"] = json!("2026-11-29T10:00:00Z");
    again["@timestamp"] = json!(again["@timestamp"].as_str().unwrap().replace('Z', "+00:00"));
    again["agent"]["name"] = json!("other");
    again["host"] = json!({"name": "x"});
    assert_eq!(recognise(&again.to_string()).2, [""; 0]);
    for (path, value) in [
        ("/user/full_name", json!("Mallory")),
        ("/event/action", json!("x")),
        ("/message", json!("x")),
        ("/@timestamp", json!("2020-01-01T00:00:00.000Z")),
        ("/event/kind", json!("pipeline_error")),
        ("/confluence/audit/type/level", Value::Null),
    ] {
        let mut altered = event.clone();
        *altered.pointer_mut(path).unwrap_or_else(|| panic!("{path}: {event}")) = value;
        let (row, _, differing) = recognise(&altered.to_string());
        assert_eq!(differing, [path[1..].replace('/', ".")]);
        assert!(row.has(MEMBERS_DIFFER));
    }
    let mut altered = event.clone();
    altered.as_object_mut().unwrap().remove("user");
    assert_eq!(recognise(&altered.to_string()).2, ["user"]);
    // Another version of the agent may write other members.
    altered["agent"]["version"] = json!("0.0.1");
    assert_eq!(recognise(&altered.to_string()).2, [""; 0]);
    // The original was changed, and nothing else.
    let mut altered = event.clone();
    altered["event"]["original"] = json!(format!("{original} "));
    let (row, ..) = recognise(&altered.to_string());
    assert_ne!(row.digest, record_digest(original.as_bytes()));
}

#[test]
fn notices_and_unreadable_records_are_recognised() {
    let notice = Notice::new(GAP, "wiki", "1", 1_700_000_000_000, "10 bytes \"are\" gone".into());
    for kind in FormatKind::ALL {
        let mut out = EventBuffer::new();
        Format::new(kind, &context()).write_notice(&notice, &mut out);
        let (row, ..) = recognise(std::str::from_utf8(&out.bytes).unwrap());
        assert_eq!(row.id, notice.id.0);
        assert!(row.has(NOTICE), "{kind:?}");
        assert_eq!(row.time(), (kind != FormatKind::Cef).then_some(notice.at_ms));
        let digest = record_digest(notice.message.as_bytes());
        let has_original = ExportFormat::Event(kind).original_member().is_some();
        assert_eq!(row.has(HAS_DIGEST).then_some(row.digest), has_original.then_some(digest), "{kind:?}");
    }
    for kind in [FormatKind::Ecs, FormatKind::Raw] {
        let (event, id, digest, _) = encoded(kind, b"{\"half\":\xff");
        let (row, _, differing) = recognise(&event);
        assert_eq!((row.id, row.digest), (id, digest));
        assert_eq!(differing, [""; 0]);
    }
}

#[test]
fn what_is_no_event_is_told() {
    for (item, expected) in [
        ("{\"index\":{\"_index\":\"x\"}}", Recognised::Wrapper),
        ("{\"preview\":false}", Recognised::Wrapper),
        ("{}", Recognised::Foreign),
        ("{\"event\":{\"id\":\"x\"}}", Recognised::Foreign),
        ("{\"event\":{\"event\":{\"event\":{\"event\":{\"event\":{\"event\":{}}}}}}}", Recognised::Foreign),
        ("{\"@timestamp\":\"2026-11-29T10:00:00Z\",\"message\":\"of others\"}", Recognised::Foreign),
        ("half a line", Recognised::Foreign),
        ("{\"event\":{\"id\":\"26b25be42b2fcb6a6a3bd5558a08336c\"},\"event\":{}}", Recognised::Foreign),
    ] {
        assert_eq!(Recogniser::new(None).recognise(item.as_bytes()), expected, "{item}");
    }
}

#[test]
fn files_are_read_compressed_rotated_and_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let events: Vec<String> =
        originals().iter().map(|line| encoded(FormatKind::Ecs, line.as_bytes()).0).collect();
    let text = |range: std::ops::Range<usize>| {
        events[range].iter().map(|event| format!("{event}\n")).collect::<String>()
    };
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text(0..2).as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    std::fs::write(path("out.2026-11-21.000001.gz"), &gz).unwrap();
    let zst = zstd::bulk::compress(text(2..3).as_bytes(), 1).unwrap();
    std::fs::write(path("out.2026-11-21.000002.zst"), &zst).unwrap();
    std::fs::write(path("out.2026-11-21.000003"), text(3..4)).unwrap();
    std::fs::write(path("out.2026-11-21.000003.gz"), &gz).unwrap();
    std::fs::write(path("out"), text(4..5) + "{\"event\":{\"id\"").unwrap();
    let files = files(&[path("out"), path("out"), path("out.2026-11-21.000003")]).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        ["out.2026-11-21.000001.gz", "out.2026-11-21.000002.zst", "out.2026-11-21.000003", "out"]
    );
    let (mut export, mut rows, mut read) = (Export::default(), Sorter::default(), 0);
    for file in &files {
        export.read(file, None, &mut rows, &mut |bytes| read += bytes).unwrap();
    }
    assert_eq!((export.events, export.originals, export.cut, export.foreign), (5, 5, 1, 0));
    assert_eq!(export.problems, [ExportProblem { file: 3, line: 2, problem: CUT }]);
    let lengths = files.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    assert_eq!(read, lengths - 4 * 4);
    let mut places: Vec<_> = rows
        .finish()
        .unwrap()
        .map(|row| row.unwrap())
        .map(|row| (row.origin, ExportPlace::of(&row)))
        .collect();
    places.sort_by_key(|(file, place)| (*file, place.to_number()));
    let line = ExportPlace::Line;
    assert_eq!(places, [(0, line(1)), (0, line(2)), (1, line(1)), (2, line(1)), (3, line(1))]);
    // A compressed file that is cut, as a stopped download leaves it.
    for (name, bytes) in [("cut.gz", &gz), ("cut.zst", &zst)] {
        std::fs::write(path(name), &bytes[..bytes.len() - 9]).unwrap();
        let mut export = Export::default();
        export.read(&path(name), None, &mut Sorter::default(), &mut |_| {}).unwrap();
        assert_eq!(export.cut, 1, "{name}");
    }
    let error =
        Export::default().read(&path("missing"), None, &mut Sorter::default(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().starts_with("cannot read the export `"), "{error}");
}
