//! `state show`, `state forget`, `state export`: what a stopped agent has stored.

use std::io::{self, Write};
use std::path::Path;

use crate::checkpoint::{self, FileEntry, Forgotten, Image, Loss, Rung, SourceState, Store, StoreError};
use crate::exit;
use crate::quarantine::Tally;
use crate::source::files::compressed;

/// The newest losses that are written out for people; `export` has all that are kept.
const LOSSES_SHOWN: usize = 10;

/// Prints for people what is stored, of one source or of all. The exit code.
///
/// # Errors
/// Only those of `out`.
pub fn show(state_dir: &Path, source: Option<&str>, out: &mut impl Write) -> io::Result<u8> {
    let (image, rungs) = match read(state_dir)? {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    if let Some(code) = unknown(&image, source)? {
        return Ok(code);
    }
    writeln!(out, "state directory  {}", shown(state_dir))?;
    writeln!(out, "agent id         {}", image.agent_id)?;
    for rung in rungs {
        writeln!(out, "damage           {rung}; the next start repairs it")?;
    }
    for evidence in checkpoint::evidence(state_dir).unwrap_or_default() {
        writeln!(
            out,
            "evidence         {} (copy of a damaged store, yours to remove)",
            shown(&evidence)
        )?;
    }
    // What is wrong there `quarantine list` says.
    let quarantined = Tally::default().count(state_dir).unwrap_or_default();
    if quarantined > 0 {
        let events = counted(quarantined as usize, "event");
        writeln!(
            out,
            "quarantine       {events} that a server refuses; see `quarantine list`"
        )?;
    }
    let mut any = false;
    for (name, state) in image.sources.iter().filter(|(_, state)| !state.is_empty()) {
        if source.is_none_or(|source| source == name) {
            writeln!(out)?;
            show_source(name, state, out)?;
            any = true;
        }
    }
    if !any {
        writeln!(out, "\nnothing is stored: the next run starts anew")?;
    }
    Ok(exit::OK)
}

fn show_source(name: &str, state: &SourceState, out: &mut impl Write) -> io::Result<()> {
    let (finished, open): (Vec<&FileEntry>, Vec<&FileEntry>) =
        state.files.iter().partition(|file| file.finished);
    writeln!(out, "source {}", printable(name))?;
    if state.api.is_none() || !state.files.is_empty() {
        let finished = counted(finished.len(), "file");
        writeln!(out, "  {finished} finished, {} open", open.len())?;
    }
    if let Some(cursor) = &state.api {
        let ids = state.ids.iter().map(|chunk| chunk.ids.len()).sum();
        writeln!(
            out,
            "  audit API: delivered up to {}, begun at {}, {} known",
            time(cursor.at_ms),
            time(cursor.start_ms),
            counted(ids, "id")
        )?;
    }
    if let Some(way) = &state.way {
        let by = if way.api.is_some() {
            "audit API"
        } else {
            "audit files"
        };
        let (since, why) = (time(way.since_ms), printable(&way.why));
        writeln!(out, "  events come by the {by} since {since}: {why}")?;
    }
    if let Some(node) = &state.node {
        writeln!(out, "  cluster node {}", printable(node))?;
    }
    if let Some(coverage) = &state.coverage {
        let levels: Vec<String> = coverage
            .iter()
            .map(|(area, level)| format!("{} {}", printable(area), printable(level)))
            .collect();
        writeln!(out, "  coverage: {}", levels.join(", "))?;
    }
    for file in open {
        let path = shown(&file.path);
        if compressed::of_name(&file.path.to_string_lossy()).is_some() {
            // How long its content is shows when it is read.
            writeln!(out, "  {path}: delivered to byte {} of its content", file.offset)?;
            continue;
        }
        let left = file.size.saturating_sub(file.offset);
        writeln!(
            out,
            "  {path}: delivered to byte {} of {}, {left} left",
            file.offset, file.size
        )?;
    }
    for mark in &state.marks {
        writeln!(
            out,
            "  sink {}: {} had {} bytes, rotated {} times",
            printable(&mark.sink),
            shown(&mark.path),
            mark.length,
            mark.generation
        )?;
    }
    if state.losses_total > 0 {
        let total = counted(state.losses_total as usize, "loss").replace("losss", "losses");
        writeln!(out, "  {total} of {} bytes altogether", state.lost_bytes_total)?;
    }
    for Loss {
        at_ms,
        path,
        from,
        to,
        reason,
    } in state.losses.iter().rev().take(LOSSES_SHOWN)
    {
        writeln!(
            out,
            "  lost {} {}: bytes {from} to {to}, {}",
            time(*at_ms),
            shown(path),
            printable(reason)
        )?;
    }
    Ok(())
}

/// Removes what is stored of one source or of all, and says what. The exit code.
///
/// # Errors
/// Only those of `out`.
pub fn forget(state_dir: &Path, source: Option<&str>, out: &mut impl Write) -> io::Result<u8> {
    // Looked at first: what is wrong with the request shall not change anything.
    let (image, _) = match read(state_dir)? {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    if let Some(code) = unknown(&image, source)? {
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
                writeln!(
                    out,
                    "source {}: forgot {}",
                    printable(&what.source),
                    listed(&what)
                )?;
            }
        }
        Err(error) => return refuse(&error),
    }
    Ok(exit::OK)
}

fn listed(what: &Forgotten) -> String {
    let counts = [
        (what.files, "file"),
        (usize::from(what.cursor), "audit API cursor"),
        (what.ids, "id"),
        (what.marks, "output length"),
        (what.losses, "ledger entry"),
    ];
    let some = counts.into_iter().filter(|(count, _)| *count > 0);
    let some: Vec<String> = some
        .map(|(count, noun)| counted(count, noun).replace("entrys", "entries"))
        .collect();
    some.join(", ")
}

/// Prints all that is stored as one JSON value. The exit code.
///
/// # Errors
/// Only those of `out`.
pub fn export(state_dir: &Path, out: &mut impl Write) -> io::Result<u8> {
    let (image, _) = match read(state_dir)? {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    serde_json::to_writer_pretty(&mut *out, &image)?;
    writeln!(out)?;
    Ok(exit::OK)
}

/// What is stored; of a directory that is not there, nothing. Or the exit code after a refusal.
fn read(state_dir: &Path) -> io::Result<Result<(Image, Vec<Rung>), u8>> {
    match checkpoint::read(state_dir) {
        Ok(Some(found)) => Ok(Ok(found)),
        Ok(None) => {
            writeln!(io::stderr(), "there is no state directory `{}`", shown(state_dir))?;
            Ok(Err(exit::CONFIG))
        }
        Err(error) => refuse(&error).map(Err),
    }
}

fn unknown(image: &Image, source: Option<&str>) -> io::Result<Option<u8>> {
    let Some(source) = source.filter(|source| !image.sources.contains_key(*source)) else {
        return Ok(None);
    };
    let known: Vec<String> = image
        .sources
        .keys()
        .map(|name| format!("`{}`", printable(name)))
        .collect();
    let known = if known.is_empty() {
        "no source".to_owned()
    } else {
        known.join(", ")
    };
    writeln!(
        io::stderr(),
        "nothing is stored of a source `{}`; there is {known}",
        printable(source)
    )?;
    Ok(Some(exit::CONFIG))
}

fn refuse(error: &StoreError) -> io::Result<u8> {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    if matches!(error, StoreError::Locked { .. }) {
        text.push_str("; stop the agent first");
    }
    writeln!(io::stderr(), "{text}")?;
    Ok(error.exit_code())
}

fn counted(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// What a name holds shall not steer the terminal it is printed on.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Commit, Evidence, Progress, SinkMark};

    fn entry(key: u32, path: &str, offset: u64, finished: bool) -> FileEntry {
        FileEntry {
            key,
            path: path.into(),
            prefix: Evidence::of(b"first"),
            frontier: Evidence::of(b"last"),
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
            generation: 4,
            length: 567,
        };
        let loss = Loss {
            at_ms: 0,
            path: "/a\u{1b}[2J".into(),
            from: 10,
            to: 40,
            reason: "gone".to_owned(),
        };
        let wiki = Commit {
            source: "wiki".to_owned(),
            progress: Progress {
                files: vec![entry(0, "/audit/1", 100, true), entry(1, "/audit/2", 60, false)],
                losses: vec![loss],
                ..Progress::default()
            },
            marks: vec![mark],
        };
        let docs = Commit {
            source: "docs".to_owned(),
            progress: Progress {
                files: vec![entry(0, "/docs/1", 5, false)],
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
    fn show_tells_what_is_stored_and_changes_nothing() {
        let dir = stored();
        let before = checkpoint::read(dir.path()).unwrap();
        let (code, text) = printed(|out| show(dir.path(), None, out));
        assert_eq!(code, exit::OK);
        for line in [
            "source docs\n  0 files finished, 1 open\n  /docs/1: delivered to byte 5 of 100, 95 left\n",
            "source wiki\n  1 file finished, 1 open\n  /audit/2: delivered to byte 60 of 100, 40 left\n",
            "  sink local: /out/events.ndjson had 567 bytes, rotated 4 times\n",
            "  1 loss of 30 bytes altogether\n",
            "/a\\u{1b}[2J: bytes 10 to 40, gone\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        let (_, text) = printed(|out| show(dir.path(), Some("docs"), out));
        assert!(text.contains("source docs") && !text.contains("source wiki"));
        assert_eq!(checkpoint::read(dir.path()).unwrap(), before);
    }

    #[test]
    fn export_is_json_that_reads_back() {
        let dir = stored();
        let (code, text) = printed(|out| export(dir.path(), out));
        assert_eq!(code, exit::OK);
        let image: Image = serde_json::from_str(&text).unwrap();
        assert_eq!(Some((image, Vec::new())), checkpoint::read(dir.path()).unwrap());
    }

    #[test]
    fn forget_removes_one_source_or_all_and_no_file_number_comes_back() {
        let dir = stored();
        let (code, text) = printed(|out| forget(dir.path(), Some("wiki"), out));
        assert_eq!(
            (code, text.as_str()),
            (
                0,
                "source wiki: forgot 2 files, 1 output length, 1 ledger entry\n"
            )
        );
        let (image, _) = checkpoint::read(dir.path()).unwrap().unwrap();
        assert!(image.sources["wiki"].is_empty() && !image.sources["docs"].is_empty());
        assert_eq!(image.sources["wiki"].next_key, 2);
        let (_, text) = printed(|out| forget(dir.path(), None, out));
        assert_eq!(text, "source docs: forgot 1 file\n");
        let (_, text) = printed(|out| show(dir.path(), None, out));
        assert!(text.contains("nothing is stored"), "{text}");
    }

    #[test]
    fn all_refuse_what_is_in_use_unknown_or_missing() {
        let dir = stored();
        assert_eq!(
            printed(|out| show(dir.path(), Some("nowhere"), out)),
            (exit::CONFIG, String::new())
        );
        assert_eq!(
            printed(|out| forget(dir.path(), Some("nowhere"), out)),
            (exit::CONFIG, String::new())
        );
        let missing = dir.path().join("missing");
        assert_eq!(printed(|out| export(&missing, out)).0, exit::CONFIG);
        assert!(!missing.exists());
        let _running = Store::open(dir.path()).unwrap();
        assert_eq!(
            printed(|out| show(dir.path(), None, out)),
            (exit::TRY_AGAIN, String::new())
        );
        assert_eq!(
            printed(|out| forget(dir.path(), None, out)),
            (exit::TRY_AGAIN, String::new())
        );
        assert_eq!(
            printed(|out| export(dir.path(), out)),
            (exit::TRY_AGAIN, String::new())
        );
    }
}
