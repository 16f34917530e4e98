use std::io::Cursor;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::*;

const LINE: &str = r#"{"auditType":{"action":"x"},"timestamp":{"epochSecond":1}}"#;
const ENTITY: &str = r#"{"timestamp":"1970-01-01T00:00:02Z","type":{"action":"y"}}"#;
const CLOUD: &str = r#"{"creationDate":3000,"summary":"z"}"#;

fn converted(inputs: &[PathBuf], stdin: &[u8]) -> Vec<Value> {
    let mut stdout = Vec::new();
    let mut stderr = Vec::new();
    let code = run(FormatKind::Ecs, None, inputs, &mut Cursor::new(stdin), &mut stdout, &mut stderr).unwrap();
    assert_eq!((code, stderr.as_slice()), (exit::OK, &b""[..]));
    let text = String::from_utf8(stdout).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The second of each event's time, or `!` for a pipeline error, and the original of each event.
fn shown(events: &[Value]) -> Vec<(String, String)> {
    let show = |event: &Value| {
        let failed = event["event"]["kind"] == "pipeline_error";
        let time = event["@timestamp"].as_str().unwrap();
        let second = if failed { "!" } else { &time[18..19] };
        (second.to_owned(), event["event"]["original"].as_str().unwrap().to_owned())
    };
    events.iter().map(show).collect()
}

fn check(input: &str, expected: &[(&str, &str)]) {
    let found = shown(&converted(&[], input.as_bytes()));
    let expected: Vec<_> = expected.iter().map(|(s, o)| ((*s).to_owned(), (*o).to_owned())).collect();
    assert_eq!(found, expected, "{input}");
}

#[test]
fn shapes_mixed_one_a_line() {
    check(
        &format!("\u{feff}{LINE}\r\n\n  \n{ENTITY}\n{CLOUD}\nnot json\n{LINE}"),
        &[("1", LINE), ("2", ENTITY), ("3", CLOUD), ("!", "not json"), ("1", LINE)],
    );
    check("", &[]);
    check("\n\r\n", &[]);
}

#[test]
fn answers_in_any_layout() {
    let answer = format!(r#"{{"entities":[{ENTITY},{ENTITY}],"pagingInfo":{{"lastPage":true}}}}"#);
    check(&answer, &[("2", ENTITY), ("2", ENTITY)]);
    let answer = format!(r#"{{"results":[{CLOUD}],"start":0}}"#);
    check(&format!("{LINE}\n{answer}\n{LINE}\n"), &[("1", LINE), ("3", CLOUD), ("1", LINE)]);
    check(r#"{"results":[],"size":0}"#, &[]);
    check(&format!("[{LINE},17]"), &[("1", LINE), ("!", "17")]);
    for text in [ENTITY, CLOUD, LINE] {
        let value: Value = serde_json::from_str(text).unwrap();
        let sorted = value.to_string();
        let second = &shown(&converted(&[], text.as_bytes()))[0].0;
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
        let one = pretty(&value);
        let page = pretty(&serde_json::json!({"entities": [value, value], "pagingInfo": {}}));
        check(
            &format!("{one}\n{page}\n{LINE}\n"),
            &[(second, &sorted), (second, &sorted), (second, &sorted), ("1", LINE)],
        );
    }
}

#[test]
fn torn_documents_swallow_nothing() {
    let torn = r#"{"auditType":{"action":"x","#;
    check(&format!("{torn}\n{LINE}\n{LINE}\n"), &[("!", torn), ("1", LINE), ("1", LINE)]);
    let in_string = r#"{"auditType":{"action":"x,"#;
    check(&format!("{in_string}\n{LINE}\n"), &[("!", in_string), ("1", LINE)]);
}

#[test]
fn places_of_named_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    std::fs::write(&path, format!("{LINE}\n{ENTITY}\nbad\n")).unwrap();
    let events = converted(&[path.clone(), PathBuf::from("-")], LINE.as_bytes());
    let log = |offset: usize| serde_json::json!({"file": {"path": path.to_str()}, "offset": offset});
    assert_eq!(events[0]["log"], log(0));
    assert_eq!(events[1]["log"], Value::Null);
    assert_eq!(events[2]["log"], log(LINE.len() + ENTITY.len() + 2));
    assert_eq!(events[3]["log"], Value::Null);
    let inputs: Vec<&Value> = events.iter().map(|event| &event["input"]["type"]).collect();
    assert_eq!(inputs, ["log", "api", "log", "log"]);
    let missing = folder.path().join("missing");
    let error = run(
        FormatKind::Ecs,
        None,
        std::slice::from_ref(&missing),
        &mut io::empty(),
        &mut io::sink(),
        &mut io::sink(),
    );
    assert_eq!(error.unwrap_err().to_string(), format!("failed to read `{}`", missing.display()));
}

#[test]
fn packed_files() {
    let folder = tempfile::tempdir().unwrap();
    // Two gzip members, as `cat a.gz b.gz` makes them.
    let mut packed = Vec::new();
    for text in [LINE, CLOUD] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(format!("{text}\n").as_bytes()).unwrap();
        packed.extend(encoder.finish().unwrap());
    }
    let path = folder.path().join("export");
    std::fs::write(&path, &packed).unwrap();
    let found = shown(&converted(&[path], &[]));
    assert_eq!(found.iter().map(|(second, _)| second.as_str()).collect::<String>(), "13");
    let mut stdout = Vec::new();
    let error = run(
        FormatKind::Ecs,
        None,
        &[],
        &mut Cursor::new(&packed[..packed.len() - 9]),
        &mut stdout,
        &mut io::sink(),
    );
    assert!(matches!(error, Err(Error::Read { .. })), "{error:?}");
}

/// A pipe returns as much as its writer wrote at once.
#[test]
fn packed_input_that_begins_with_a_single_byte() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(format!("{LINE}\n").as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let (first, rest) = packed.split_at(1);
    let (events, code, stderr) = limited(first.chain(rest));
    assert_eq!((code, stderr.as_str()), (exit::OK, ""));
    assert_eq!(shown(&events), [("1".to_owned(), LINE.to_owned())]);
}

#[test]
fn f35_twins_have_ids_of_their_own() {
    let input = format!("{LINE}\n{ENTITY}\n{LINE}\n[{LINE}]\n");
    let ids = |events: Vec<Value>| -> Vec<String> {
        events.iter().map(|event| event["event"]["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = ids(converted(&[], input.as_bytes()));
    let mut distinct = first.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 4);
    assert_eq!(ids(converted(&[], input.as_bytes())), first);
}

/// A closed pipe.
struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn broken_pipe_is_no_error() {
    for lines in [1, 1000] {
        let input = format!("{LINE}\n").repeat(lines);
        let code = run(FormatKind::Raw, None, &[], &mut Cursor::new(input), &mut ClosedPipe, &mut io::sink())
            .unwrap();
        assert_eq!(code, exit::OK);
    }
}

/// Events, exit code and stderr of a conversion.
fn limited(input: impl Read) -> (Vec<Value>, u8, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut input = input;
    let code = run(FormatKind::Ecs, None, &[], &mut input, &mut stdout, &mut stderr).unwrap();
    let events = String::from_utf8(stdout).unwrap();
    let events = events.lines().map(|line| serde_json::from_str(line).unwrap());
    (events.collect(), code, String::from_utf8(stderr).unwrap())
}

#[test]
fn f103_a_document_that_is_too_long_is_one_error_event() {
    let line = format!("{LINE}\n");
    let long = DOCUMENT_BYTES_MAX as u64 + 1;
    for (byte, error, code) in [
        (b'a', "a line longer than `record_bytes_max`: ", exit::DATA),
        (0, "a run of NUL bytes: ", exit::DATA),
    ] {
        let input = line.as_bytes().chain(io::repeat(byte).take(long));
        let (events, found, reported) = limited(input.chain(&b"\n"[..]).chain(line.as_bytes()));
        assert_eq!(found, code, "{reported}");
        assert_eq!(events.len(), 3);
        let message = events[1]["error"]["message"].as_str().unwrap();
        let place = format!("{long} bytes at offset {}, xxh3 ", line.len());
        assert!(message.starts_with(&format!("{error}{place}")), "{message}");
        assert_eq!(events[1]["event"]["original"].as_str().unwrap().len(), 1024);
        let place =
            format!("`-`: 1 line or response longer than 16 MiB, the first at offset {}; ", line.len());
        assert!(reported.starts_with(&place), "{reported}");
    }
    // A short run of NUL bytes is an unreadable record.
    let (events, code, reported) = limited(&b"\0\0\0\n"[..]);
    assert_eq!((events.len(), code, reported.as_str()), (1, exit::OK, ""));
}

/// A document that exceeds the limit is read line by line, and no line is lost.
#[test]
fn f103_a_document_that_does_not_end() {
    let blank = format!("[\n{}\n\r\n{LINE}\n", " ".repeat(DOCUMENT_BYTES_MAX));
    let (events, code, reported) = limited(blank.as_bytes());
    let shown = shown(&events);
    assert_eq!(shown, [("!".to_owned(), "[".to_owned()), ("1".to_owned(), LINE.to_owned())]);
    assert_eq!(code, exit::DATA);
    assert!(reported.contains(" 16 MiB, the first at offset 0; "), "{reported}");
    let row = format!("{},\n", LINE.replace("\"x\"", &format!("\"{}\"", "x".repeat(8000))));
    let rows = DOCUMENT_BYTES_MAX / row.len() + 10;
    let (events, code, reported) = limited(format!("[\n{}", row.repeat(rows)).as_bytes());
    assert_eq!((events.len(), code), (rows + 1, exit::DATA));
    assert!(
        reported.starts_with("`-`: 1 line or response longer than 16 MiB, the first at offset 0; "),
        "{reported}"
    );
}

#[test]
fn f104_each_row_has_an_event() {
    let rows = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
        rows.iter().map(|(s, o)| ((*s).to_owned(), (*o).to_owned())).collect()
    };
    for (answer, expected) in [
        (format!(r#"{{"results":[{CLOUD},{CLOUD}],"results":[]}}"#), rows(&[("3", CLOUD), ("3", CLOUD)])),
        (
            format!(r#"{{"results":[{CLOUD}],"entities":[{ENTITY}],"results":[{CLOUD}],"entities":null}}"#),
            rows(&[("3", CLOUD), ("2", ENTITY), ("3", CLOUD)]),
        ),
        (r#"{"results":[{},{}]}"#.to_owned(), rows(&[("!", "{}"), ("!", "{}")])),
        (
            r#"{"entities":[null,[],"", { } ,[ {} ]],"pagingInfo":{}}"#.to_owned(),
            rows(&[("!", "null"), ("!", "[]"), ("!", "\"\""), ("!", "{}"), ("!", "[{}]")]),
        ),
        ("[{},[]]".to_owned(), rows(&[("!", "{}"), ("!", "[]")])),
        (
            format!(r#"{{"results":"none","results":[{CLOUD}]}}"#),
            rows(&[("!", &format!(r#"{{"results":"none","results":[{CLOUD}]}}"#))]),
        ),
    ] {
        let (events, code, reported) = limited(answer.as_bytes());
        assert_eq!(shown(&events), expected, "{answer}");
        assert_eq!((code, reported.as_str()), (exit::OK, ""));
    }
    let broken = [br#"{"results":[{"creationDate":3000,"summary":"a"#, &b"\xff\"},{}]}"[..]].concat();
    let (events, ..) = limited(broken.as_slice());
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["event"]["action"], "a\u{fffd}");
}

/// A line is kept byte by byte, including blanks at its ends. API rows are kept without white space between
/// tokens.
#[test]
fn originals_are_what_was_read() {
    let line = format!("  {} \t", LINE.replace(':', " : "));
    let row = CLOUD.replace(',', " ,\t");
    let input = format!("{line}\r\n not json \n{row} \n[ {row} ]\n");
    let originals: Vec<String> =
        shown(&converted(&[], input.as_bytes())).into_iter().map(|(_, original)| original).collect();
    assert_eq!(originals, [line.as_str(), " not json ", CLOUD, CLOUD]);
}
