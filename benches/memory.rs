//! Peak memory by number of files and by length of a line.

use std::fs;

use crate::agent::Agent;
use crate::lines::Lines;
use crate::rig::{self, MIB, Result, Target, row, setting};

const MOST_MIB: f64 = 24.0;

pub fn measure() -> Result<()> {
    let bytes = setting("BENCH_BYTES", 1024 * MIB) / 10;
    for files in [10, 1_000] {
        let dir = rig::directory()?;
        rig::write_files(dir.path(), files, bytes)?;
        let taken = Agent::drain(dir.path())?;
        let what = format!("peak memory, {} MiB in {files} files", bytes / MIB);
        row(&what, taken.peak_rss_kib / 1024.0, "MiB", Target::AtMost(MOST_MIB));
    }
    for (content, piece) in [("text", "lorem ipsum dolor "), ("escapes", "\\\"\\u00fc\\n")] {
        let dir = rig::directory()?;
        let files = rig::write_files(dir.path(), 1, MIB)?;
        let line = long_line(16 * MIB as usize - 1024, piece);
        rig::append(&files[0], &line)?;
        let taken = Agent::drain(dir.path())?;
        let events = fs::read(crate::agent::output(dir.path()))?;
        let longest = events.split(|b| *b == b'\n').map(<[u8]>::len).max().unwrap_or(0);
        if longest + 1 < line.len() {
            return Err(format!("the longest event has {longest} bytes: the line is not in it").into());
        }
        let what = format!("peak memory, a line of 16 MiB - 1 KiB, {content}");
        row(&what, taken.peak_rss_kib / 1024.0, "MiB", Target::AtMost(MOST_MIB));
    }
    Ok(())
}

/// A line of about `bytes`, filled by its last changed value.
fn long_line(bytes: usize, piece: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(bytes);
    let mut lines = Lines::new(2);
    let key = b"\"changedValues\":[";
    let at = loop {
        line.clear();
        lines.write(&mut line);
        // Kinds without changed values have space for one.
        if let Some(at) = line.windows(key.len()).position(|w| w == key)
            && line[at + key.len()] == b']'
        {
            break at + key.len();
        }
    };
    let (before, after) = (b"{\"i18nKey\":\"Text\",\"key\":\"Text\",\"to\":\"", b"\"}");
    let room = bytes - line.len() - before.len() - after.len();
    let value = [before.as_slice(), piece.repeat(room / piece.len()).as_bytes(), after].concat();
    line.splice(at..at, value);
    line
}
