//! The commands `state show`, `state forget` and `state export`: the state of a stopped agent.

use std::io::{self, Write};
use std::path::Path;

use super::check::files::human_size;
use super::output::{OptionalOutput, print_error};
use super::{confirm, layout};
use crate::checkpoint::{
    self, ApiCursor, FileEntry, Forgotten, Loss, RecoveryStep, SinkMark, SourceState, StateImage, Store,
    StoreError,
};
use crate::exit;
use crate::position::AuditSettings;
use crate::quarantine::Tally;
use crate::source::files::compressed;
use crate::telemetry::chain;
use crate::telemetry::escape::{escape, escape_path};

/// Number of losses that are printed. `export` has all that are stored.
const LOSSES_SHOWN: usize = 10;

/// Prints the state of one source or of all, for people. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn show(state_dir: &Path, source: Option<&str>, out: &mut impl Write) -> io::Result<u8> {
    let (image, steps) = match read(state_dir) {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    if let Some(code) = unknown(&image, source) {
        return Ok(code);
    }
    show_image(state_dir, &image, steps, source, out)?;
    Ok(exit::OK)
}

fn show_image(
    state_dir: &Path,
    image: &StateImage,
    steps: Vec<RecoveryStep>,
    source: Option<&str>,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "state directory  {}", escape_path(state_dir))?;
    writeln!(out, "agent id         {}", escape(&image.agent_id))?;
    for step in steps {
        let step = step.to_string();
        writeln!(out, "damage           {}; the next start repairs it", escape(&step))?;
    }
    for copy in checkpoint::damaged_copies(state_dir).unwrap_or_default() {
        writeln!(
            out,
            "damaged copy     {} (copy of a damaged store; remove it when you do not need it)",
            escape_path(&copy)
        )?;
    }
    // Problems of the quarantine are reported by `quarantine list`.
    let quarantined = Tally::default().count(state_dir).unwrap_or_default();
    if quarantined > 0 {
        let events = counted(quarantined as usize, "event");
        writeln!(out, "quarantine       {events} that a server refuses; see `quarantine list`")?;
    }
    let mut is_stored = false;
    for (name, state) in image.sources.iter().filter(|(_, state)| !state.is_empty()) {
        if source.is_none_or(|source| source == name) {
            writeln!(out)?;
            show_source(name, state, out)?;
            is_stored = true;
        }
    }
    if !is_stored {
        writeln!(
            out,
            "
        nothing is stored: the next run starts from the beginning"
        )?;
    }
    Ok(())
}

fn show_source(name: &str, state: &SourceState, out: &mut impl Write) -> io::Result<()> {
    let (finished, open): (Vec<&FileEntry>, Vec<&FileEntry>) =
        state.files.iter().partition(|file| file.finished);
    writeln!(out, "source {}", escape(name))?;
    if state.api.is_none() || !state.files.is_empty() {
        let finished = counted(finished.len(), "file");
        writeln!(out, "  {finished} finished, {} open", open.len())?;
    }
    if let Some(cursor) = &state.api {
        writeln!(out, "  audit API: {}", reached(cursor))?;
    }
    if let Some(cursor) = &state.api_other_nodes {
        writeln!(out, "  audit API, other cluster nodes: {}", reached(cursor))?;
    }
    if let Some(ledger) = &state.ledger {
        let entries = counted((ledger.size - ledger.first) as usize, "event");
        writeln!(out, "  ledger: {entries}")?;
    }
    if let Some(way) = &state.active_input {
        let by = if way.api.is_some() { "audit API" } else { "audit files" };
        let (since, reason) = (time(way.since_ms), escape(&way.reason));
        let text = format!("events come by the {by} since {since}: {reason}");
        for line in layout::clauses(&text, 2) {
            writeln!(out, "  {}", line.trim_start())?;
        }
    }
    let nodes = state.nodes.as_ref().map_or(&[][..], |nodes| &nodes.of_files);
    for node in nodes.iter().filter(|node| node.until_ms.is_none()) {
        writeln!(out, "  cluster node {}", escape(&node.id))?;
    }
    if let Some(AuditSettings { coverage, .. }) =
        state.audit_settings.as_ref().filter(|settings| !settings.coverage.is_empty())
    {
        let levels: Vec<String> =
            coverage.iter().map(|(area, level)| format!("{} {}", escape(area), escape(level))).collect();
        writeln!(out, "  coverage: {}", levels.join(", "))?;
    }
    let open: Vec<_> = open.into_iter().map(open_row).collect();
    if !open.is_empty() {
        layout::table(["DELIVERED", "BYTES", "LEFT", "OPEN FILE"], &open, 2, out)?;
    }
    let outputs: Vec<_> = state.marks.iter().map(output_row).collect();
    if !outputs.is_empty() {
        layout::table(["BYTES", "ROTATED", "SINK", "OUTPUT"], &outputs, 2, out)?;
    }
    for mark in state.marks.iter().filter(|mark| mark.deleted.files > 0) {
        writeln!(
            out,
            "  sink {}: {} with {} deleted, over `rotated_files_max`",
            escape(&mark.sink),
            counted(mark.deleted.files as usize, "rotated file"),
            counted(mark.deleted.events as usize, "event")
        )?;
    }
    if state.losses_total > 0 {
        let total = counted(state.losses_total as usize, "loss").replace("losss", "losses");
        writeln!(out, "  {total} of {} bytes altogether", state.lost_bytes_total)?;
    }
    for loss in state.losses.iter().rev().take(LOSSES_SHOWN) {
        let Loss { from, to, .. } = loss;
        writeln!(out, "  {} bytes {from} to {to} of {}", time(loss.at_ms), escape_path(&loss.path))?;
        for line in layout::clauses(&escape(&loss.reason), 4) {
            writeln!(out, "    {}", line.trim_start())?;
        }
    }
    Ok(())
}

fn open_row(file: &FileEntry) -> [String; 4] {
    // The length of compressed content is known only after reading it.
    let is_plain = compressed::split_extension(&file.path).is_none();
    let of_plain = |bytes: u64| {
        if is_plain { bytes.to_string() } else { "-".to_owned() }
    };
    [
        file.offset.to_string(),
        of_plain(file.size),
        of_plain(file.size.saturating_sub(file.offset)),
        escape_path(&file.path).to_string(),
    ]
}

fn output_row(mark: &SinkMark) -> [String; 4] {
    [
        mark.length.to_string(),
        mark.rotation.to_string(),
        escape(&mark.sink).into_owned(),
        escape_path(&mark.path).to_string(),
    ]
}

/// Removes the state of one source or of all, and prints what was removed. First prints what will be
/// delivered again, and without `agreed` asks for confirmation. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn forget(
    state_dir: &Path,
    source: Option<&str>,
    agreed: bool,
    out: &mut OptionalOutput<impl Write>,
) -> io::Result<u8> {
    // Checked first: a wrong request must not change anything.
    let (image, _) = match read(state_dir) {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    if let Some(code) = unknown(&image, source) {
        return Ok(code);
    }
    let mut is_stored = false;
    for (name, state) in &image.sources {
        if source.is_none_or(|source| source == name) && !state.is_empty() {
            is_stored = true;
            for line in delivered_again(name, state) {
                writeln!(out, "{line}")?;
            }
        }
    }
    if is_stored
        && !agreed
        && let Some(code) = confirm::declined("Forget it?", "nothing was forgotten", out)?
    {
        return Ok(code);
    }
    let forgotten = Store::open(state_dir).and_then(|opened| {
        let mut store = opened.store;
        let forgotten = store.forget(source)?;
        store.close()?;
        Ok(forgotten)
    });
    match forgotten {
        Ok(forgotten) if forgotten.is_empty() => writeln!(out, "nothing is stored")?,
        Ok(forgotten) => {
            for what in forgotten {
                writeln!(out, "source {}: forgot {}", escape(&what.source), description(&what))?;
            }
        }
        Err(error) => return Ok(refuse(&error)),
    }
    Ok(exit::OK)
}

/// What the next run delivers again after the state is removed, one line per input.
fn delivered_again(name: &str, state: &SourceState) -> Vec<String> {
    let name = escape(name);
    let mut lines = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    for file in state.files.iter().filter(|file| file.offset > 0) {
        if let Ok(metadata) = file.path.metadata() {
            files += 1;
            bytes += file.offset.min(metadata.len());
        }
    }
    if !state.files.is_empty() {
        let (files, bytes) = (counted(files, "file"), human_size(bytes));
        lines.push(format!("source {name}: {bytes} of {files} that are still there will be delivered again"));
    }
    if let Some(cursor) = &state.api {
        let (from, to) = (time(cursor.start_ms), time(cursor.at_ms));
        lines.push(format!(
            "source {name}: the audit API is read again from `start` on; {from} to {to} was delivered"
        ));
    }
    lines
}

fn description(what: &Forgotten) -> String {
    let counts = [
        (what.files, "file"),
        (usize::from(what.cursor), "audit API cursor"),
        (what.entries as usize, "ledger entry"),
        (what.marks, "output length"),
        (what.losses, "loss"),
    ];
    let some = counts.into_iter().filter(|(count, _)| *count > 0);
    let some: Vec<String> = some
        .map(|(count, noun)| counted(count, noun).replace("entrys", "entries").replace("losss", "losses"))
        .collect();
    some.join(", ")
}

/// Prints the whole state as one JSON value. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn export(state_dir: &Path, out: &mut impl Write) -> io::Result<u8> {
    let (image, _) = match read(state_dir) {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    serde_json::to_writer_pretty(&mut *out, &image)?;
    writeln!(out)?;
    Ok(exit::OK)
}

/// Reads the state. `Err`: the exit code after an error was printed.
fn read(state_dir: &Path) -> Result<(StateImage, Vec<RecoveryStep>), u8> {
    match checkpoint::read(state_dir) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => {
            print_error(&format!("there is no state directory `{}`", state_dir.display()));
            // A starting agent creates it, or a disk may be mounted later.
            Err(exit::TRY_AGAIN)
        }
        Err(error) => Err(refuse(&error)),
    }
}

/// What is stored, also while an agent runs: then as of its last backup. The error says why nothing is known.
pub(super) fn describe(state_dir: &Path) -> Result<String, String> {
    let mut out = Vec::new();
    let (image, steps) = match checkpoint::read(state_dir) {
        Ok(Some(found)) => found,
        Ok(None) => return Err(format!("there is no state directory `{}`", escape_path(state_dir))),
        Err(error) => match checkpoint::read_backup(state_dir) {
            Some(image) => {
                out.extend_from_slice(b"An agent runs. This is what it has stored last.\n");
                (image, Vec::new())
            }
            None => return Err(chain(&error)),
        },
    };
    show_image(state_dir, &image, steps, None, &mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn unknown(image: &StateImage, source: Option<&str>) -> Option<u8> {
    let source = source.filter(|source| !image.sources.contains_key(*source))?;
    let known: Vec<String> = image.sources.keys().map(|name| format!("`{name}`")).collect();
    let known = if known.is_empty() { "no source".to_owned() } else { known.join(", ") };
    print_error(&format!("no state is stored for a source `{source}`; there is {known}"));
    Some(exit::CONFIG)
}

fn refuse(error: &StoreError) -> u8 {
    let mut text = chain(error);
    if matches!(error, StoreError::Locked { .. }) {
        text.push_str("; stop the agent first");
    }
    print_error(&text);
    error.exit_code()
}

fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// How far an API has been read.
fn reached(cursor: &ApiCursor) -> String {
    let start = time(cursor.start_ms);
    if cursor.answered {
        format!("delivered up to {}, begun at {start}", time(cursor.at_ms))
    } else {
        format!("has not responded yet, to be read from {start}")
    }
}

fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Commit, Fingerprint, Progress, SinkMark};
    use crate::position::{DeletedOutputs, LedgerPosition};

    fn entry(key: u32, path: &str, offset: u64, finished: bool) -> FileEntry {
        FileEntry {
            key,
            path: path.into(),
            head_fingerprint: Fingerprint::of(b"first"),
            tail_fingerprint: Fingerprint::of(b"last"),
            offset,
            size: 100,
            finished,
            ..FileEntry::default()
        }
    }

    fn stored() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap().store;
        let mark = SinkMark {
            sink: "local".to_owned(),
            path: "/out/events.ndjson".into(),
            dev: 1,
            ino: 2,
            rotation: 4,
            length: 567,
            deleted: DeletedOutputs { files: 3, events: 1 },
        };
        let loss = Loss {
            at_ms: 0,
            path: "/a\u{1b}[2J".into(),
            from: 10,
            to: 40,
            reason: "gone".to_owned(),
            file: 0,
        };
        let wiki = Commit {
            source: "wiki".to_owned(),
            progress: Progress {
                files: vec![entry(0, "/audit/1", 100, true), entry(1, "/audit/2", 60, false)],
                losses: vec![loss],
                ..Progress::default()
            },
            marks: vec![mark],
            ledger: Some(LedgerPosition {
                size: 5,
                edge: vec![[1; 32], [2; 32]],
                ..LedgerPosition::default()
            }),
        };
        let docs = Commit {
            source: "docs".to_owned(),
            progress: Progress {
                files: vec![entry(0, "/docs/1", 5, false), entry(1, "/docs/2.gz", 700, false)],
                ..Progress::default()
            },
            ..Commit::default()
        };
        store.commit(&[wiki, docs]).unwrap();
        store.close().unwrap();
        dir
    }

    fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<u8>) -> (u8, String) {
        let mut out = Vec::new();
        let code = print(&mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn show_prints_the_state_and_changes_nothing() {
        let dir = stored();
        let before = checkpoint::read(dir.path()).unwrap();
        let (code, text) = printed(|out| show(dir.path(), None, out));
        assert_eq!(code, exit::OK);
        for line in [
            "source docs\n  0 files finished, 2 open\n  DELIVERED  BYTES  LEFT  OPEN FILE\n          5    100    95  /docs/1\n        700      -     -  /docs/2.gz\n",
            "source wiki\n  1 file finished, 1 open\n  ledger: 5 events\n  DELIVERED  BYTES  LEFT  OPEN FILE\n         60    100    40  /audit/2\n",
            "  BYTES  ROTATED  SINK   OUTPUT\n    567        4  local  /out/events.ndjson\n",
            "  sink local: 3 rotated files with 1 event deleted, over `rotated_files_max`\n",
            "  1 loss of 30 bytes altogether\n",
            "bytes 10 to 40 of /a\\u{1b}[2J\n    gone\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        let (_, text) = printed(|out| show(dir.path(), Some("docs"), out));
        assert!(text.contains("source docs") && !text.contains("source wiki"));
        assert_eq!(checkpoint::read(dir.path()).unwrap(), before);
    }

    #[test]
    fn export_can_be_parsed() {
        let dir = stored();
        let (code, text) = printed(|out| export(dir.path(), out));
        assert_eq!(code, exit::OK);
        let image: StateImage = serde_json::from_str(&text).unwrap();
        assert_eq!(Some((image, Vec::new())), checkpoint::read(dir.path()).unwrap());
    }

    #[test]
    fn forget_removes_one_source_or_all_and_no_file_key_is_reused() {
        let dir = stored();
        let (code, text) =
            printed(|out| forget(dir.path(), Some("wiki"), true, &mut OptionalOutput::new(out)));
        assert_eq!(
            (code, text.as_str()),
            (
                0,
                "source wiki: 0 B of 0 files that are still there will be delivered again\n\
                 source wiki: forgot 2 files, 5 ledger entries, 1 output length, 1 loss\n"
            )
        );
        let (image, _) = checkpoint::read(dir.path()).unwrap().unwrap();
        assert!(image.sources["wiki"].is_empty() && !image.sources["docs"].is_empty());
        assert_eq!(image.sources["wiki"].next_key, 2);
        let (_, text) = printed(|out| forget(dir.path(), None, true, &mut OptionalOutput::new(out)));
        assert!(text.ends_with("\nsource docs: forgot 2 files\n"), "{text}");
        let (_, text) = printed(|out| show(dir.path(), None, out));
        assert!(text.contains("nothing is stored"), "{text}");
    }

    #[test]
    fn unknown_missing_and_locked_states_are_refused() {
        let dir = stored();
        assert_eq!(printed(|out| show(dir.path(), Some("nowhere"), out)), (exit::CONFIG, String::new()));
        assert_eq!(
            printed(|out| forget(dir.path(), Some("nowhere"), true, &mut OptionalOutput::new(out))),
            (exit::CONFIG, String::new())
        );
        let missing = dir.path().join("missing");
        assert_eq!(printed(|out| export(&missing, out)).0, exit::TRY_AGAIN);
        assert!(!missing.exists());
        let _running = Store::open(dir.path()).unwrap();
        assert_eq!(printed(|out| show(dir.path(), None, out)), (exit::TRY_AGAIN, String::new()));
        assert_eq!(
            printed(|out| forget(dir.path(), None, true, &mut OptionalOutput::new(out))),
            (exit::TRY_AGAIN, String::new())
        );
        assert_eq!(printed(|out| export(dir.path(), out)), (exit::TRY_AGAIN, String::new()));
    }
}
