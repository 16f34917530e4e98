//! Runs that end by themselves, on the fixture home: counts, offsets, twins, and what a dry run leaves alone.

use crate::rig::{Event, Host, Writer, append, copy_tree, file_name, judge};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn with_fixture_home() -> Host {
    let host = Host::new();
    copy_tree(&fixtures().join("confluence-home"), &host.home());
    copy_tree(&fixtures().join("damaged-home"), &host.home());
    host
}

/// What fixtures/README.md says of each file: events, pipeline errors, flawed ones.
fn expected_counts() -> BTreeMap<String, [usize; 3]> {
    let readme = fs::read_to_string(fixtures().join("README.md")).unwrap();
    let mut out = BTreeMap::new();
    for line in readme.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() == 8 && (cells[0].ends_with(".audit.log`") || cells[0].ends_with(".audit.log.gz`")) {
            let number = |at: usize| cells[at].parse().unwrap();
            out.insert(cells[0].trim_matches('`').to_owned(), [number(5), number(6), number(7)]);
        }
    }
    assert_eq!(out.len(), 11, "{out:?}");
    out
}

fn is_flawed(event: &Event) -> bool {
    !event.is_pipeline_error() && !event.text("/error/message").is_empty()
}

#[test]
fn a_home_is_delivered_once_and_then_what_is_new() {
    let host = with_fixture_home();
    let first = host.once_ok();
    let events = host.events();
    let mut counted: BTreeMap<String, [usize; 3]> =
        expected_counts().into_keys().map(|name| (name, [0; 3])).collect();
    for event in &events {
        let path = Path::new(event.text("/log/file/path"));
        let name = path.file_name().unwrap().to_str().unwrap();
        let counts = counted.get_mut(name).expect("a file of the table");
        counts[0] += 1;
        counts[1] += usize::from(event.is_pipeline_error());
        counts[2] += usize::from(is_flawed(event));
    }
    assert_eq!(counted, expected_counts());
    let ids: BTreeSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids.len(), events.len(), "every event has an id of its own");
    // The one without its line end waits until its file has been quiet for long enough.
    let ended = events.iter().filter(|event| !event.has_tag("unterminated"));
    let order: Vec<&str> = ended.map(|event| event.text("/log/file/path")).collect();
    assert_eq!(order.len(), events.len() - 1);
    assert!(order.is_sorted(), "file by file, oldest first");
    let total = format!("wiki: delivered {} events to local", events.len());
    first.logged(&total);

    let second = host.once();
    assert_eq!(second.code, 0);
    second.logged("wiki: nothing is new");
    assert_eq!(host.delivered(), events.len());

    let growing = host.audit().join("20260112.00001.audit.log");
    let line = fs::read(&growing).unwrap().split_inclusive(|&b| b == b'\n').next().unwrap().to_owned();
    append(&growing, &line);
    let third = host.once();
    third.logged("wiki: delivered 1 event to local");
    assert_eq!(host.delivered(), events.len() + 1);
}

fn content_of(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    if !path.ends_with("20260104.00000.audit.log.gz") {
        return bytes;
    }
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut content).unwrap();
    content
}

/// The bytes at `log.offset` are the record, whatever stands between records: BOM, CR, blank lines, NUL.
#[test]
fn f12_framing_golden() {
    let host = with_fixture_home();
    host.once_ok();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut covered: BTreeMap<String, u64> = BTreeMap::new();
    for event in host.events() {
        let path = event.text("/log/file/path").to_owned();
        let content = files.entry(path.clone()).or_insert_with(|| content_of(Path::new(&path)));
        let offset = event.json["log"]["offset"].as_u64().unwrap();
        let end = covered.entry(path.clone()).or_default();
        let between = &content[*end as usize..offset as usize];
        let blank = between.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(between);
        let is_nul_run = |bytes: &[u8]| bytes.iter().all(|&b| b == 0 || b == b'\n');
        assert!(
            blank.iter().all(u8::is_ascii_whitespace) || is_nul_run(blank),
            "{path}: {:?} before {offset} was skipped",
            String::from_utf8_lossy(between)
        );
        let rest = &content[offset as usize..];
        let original = event.original.as_deref().unwrap();
        let line = rest.split(|&b| b == b'\n').next().unwrap();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let nul = event.text("/error/message").contains("NUL");
        let text = String::from_utf8_lossy(line);
        assert!(
            text == original || nul && String::from_utf8_lossy(rest).starts_with(original),
            "{path} at {offset}: {original}"
        );
        *end = offset + if nul { original.len() } else { line.len() } as u64;
    }
    for (path, content) in &files {
        assert!(content[covered[path] as usize..].iter().all(u8::is_ascii_whitespace), "{path}");
    }
    assert_eq!(files.len(), 10);
}

fn ids(host: &Host) -> Vec<String> {
    host.events().into_iter().map(|event| event.id).collect()
}

/// Records alike byte for byte are different events, and a replay gives each the id that it had.
#[test]
fn f35_twins() {
    let home = fixtures().join("confluence-home/log/audit/20260112.00001.audit.log");
    let content = fs::read(home).unwrap();
    let lines: Vec<&[u8]> = content.split_inclusive(|&b| b == b'\n').take(3).collect();
    let (twin, other, bad) = (lines[0], lines[1], b"{bad}\n");
    let pieces: [&[u8]; 8] = [twin, twin, other, bad, twin, bad, other, twin];

    let host = Host::new();
    let path = host.audit().join(file_name(5, 0));
    append(&path, &pieces.concat());
    host.once_ok();
    let whole = ids(&host);
    assert_eq!(BTreeSet::from_iter(&whole).len(), pieces.len(), "{whole:?}");

    // Everything again, without memory.
    fs::remove_dir_all(host.state()).unwrap();
    fs::remove_file(host.output()).unwrap();
    host.once_ok();
    assert_eq!(ids(&host), whole);

    // One by one, with a restart after each, and a rotation in the middle.
    let host = Host::new();
    for (at, piece) in pieces.iter().enumerate() {
        let number = u32::from(at >= 4);
        append(&host.audit().join(file_name(5, number)), piece);
        host.once_ok();
    }
    assert_eq!(ids(&host), whole);
}

fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(bytes_of(&path));
        } else {
            out.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    out
}

#[test]
fn a_dry_run_prints_and_changes_nothing() {
    let host = with_fixture_home();
    let events: usize = expected_counts().values().map(|counts| counts[0]).sum();
    let first = host.once_with(&["--once", "--dry-run"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.stdout.lines().count(), events);
    assert!(!host.state().exists() && !host.output().exists());

    host.once_ok();
    let growing = host.audit().join("20260112.00001.audit.log");
    append(&growing, b"{bad}\n{bad}\n{bad}\n");
    let before = (bytes_of(&host.state()), bytes_of(&host.path("out")));
    for _ in 0..2 {
        let dry = host.once_with(&["--once", "--dry-run"]);
        assert_eq!(dry.code, 0, "{}", dry.stderr);
        assert_eq!(dry.stdout.matches("\"pipeline_error\"").count(), 3, "{}", dry.stdout);
        assert_eq!(dry.stdout.lines().count(), 3);
        dry.logged("would deliver 3 events");
    }
    assert!(before == (bytes_of(&host.state()), bytes_of(&host.path("out"))));
    host.once_ok();
    assert_eq!(host.delivered(), events + 3);
}

/// A dry run ends when it has printed what is there: whoever wants it to go on says so.
#[test]
fn f115_a_dry_run_ends_unless_it_is_to_follow() {
    let mut host = Host::new();
    let (mut writer, file) = host.audit_file(115, 3);
    let dry = host.once_with(&["--dry-run"]);
    assert_eq!((dry.code, dry.stdout.lines().count()), (0, 3), "{}", dry.stderr);
    dry.logged("wiki: would deliver 3 events to local");

    host.stdout = true;
    let printed = host.path("printed");
    let mut command = host.command(&[], &["--dry-run", "--follow"]);
    command.stdout(fs::File::create(&printed).unwrap());
    let mut agent = host.spawn(command);
    let lines = || fs::read(&printed).unwrap().split(|b| *b == b'\n').count() - 1;
    agent.until("what is there is printed", || lines() == 3);
    writer.append(&file, 2);
    agent.until("what comes is printed", || lines() == 5);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let printed = agent.stderr();
    assert!(printed.contains("nothing was delivered or stored"), "{printed}");
    assert!(printed.contains("wiki: would deliver 5 events to local"), "{printed}");
    for word in ["is delivered", "checkpointed", ": delivered"] {
        assert!(!printed.contains(word), "{word}: {printed}");
    }
    assert!(!host.state().exists() && !host.output().exists());
    for wrong in [&["--follow"][..], &["--dry-run", "--once", "--follow"]] {
        assert_eq!(host.once_with(wrong).code, 64);
    }
}

/// What is said again and again is summed up before the last word, not after it.
#[test]
fn the_summary_of_a_run_is_logged_after_the_repeats() {
    let host = Host::new();
    host.audit_file(116, 3);
    append(&host.audit().join(file_name(5, 0)), &b"{bad}\n".repeat(20));
    let once = host.once_ok();
    let at = |text: &str| {
        let found = once.stderr.find(text);
        found.unwrap_or_else(|| panic!("no {text:?} in {}", once.stderr))
    };
    assert!(at("again: a record cannot be read") < at("wiki: read 23 records"), "{}", once.stderr);

    let mut agent = host.start();
    append(&host.audit().join(file_name(5, 0)), &b"{bad}\n".repeat(20));
    agent.until("all is delivered", || host.delivered() == 43);
    assert_eq!(agent.stop(), 0);
    let printed = agent.stderr();
    let place = |text: &str| printed.find(text).unwrap_or_else(|| panic!("no {text:?} in {printed}"));
    assert!(place("again: a record cannot be read") < place("stopped: everything"), "{printed}");
}

/// What a host crash leaves behind stands at the end of the file until something more is written: what came before it
/// is delivered once, however often the agent starts.
#[test]
fn f11_a_nul_tail_repeats_nothing() {
    let host = Host::new();
    let (writer, file) = host.audit_file(11, 20);
    file.write(&[0; 3000]);
    for _ in 0..2 {
        host.once_ok();
        judge(&writer, &host.events()).is_exact();
    }
}

/// A disk that is away for a moment while its files are not read yet: they are read when it is back.
#[test]
fn f16_files_that_vanished_unread_are_read_when_they_are_back() {
    let mut host = Host::new();
    host.set("open_files_max", "1");
    let mut writer = Writer::new(&host.audit(), 16);
    let files: Vec<_> = (0..3).map(|number| writer.create(&file_name(5, number))).collect();
    writer.append(&files[0], 5);
    host.once_ok();
    writer.append(&files[1], 5);
    writer.append(&files[2], 5);
    // Away, with an empty directory in its place, as a mount point is.
    let away = host.path("away");
    std::fs::rename(host.audit(), &away).unwrap();
    std::fs::create_dir(host.audit()).unwrap();
    host.once();
    std::fs::remove_dir(host.audit()).unwrap();
    std::fs::rename(&away, host.audit()).unwrap();
    host.once_ok();
    judge(&writer, &host.events()).is_exact();
}
