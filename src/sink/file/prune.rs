//! Deletes rotated files beyond `rotated_files_max`, and reports it: they may be the only copy of their
//! events.

use super::open::open_existing;
use super::rotated_files::rotated_files;

use super::compress_rotated;
use crate::clock;
use crate::config::Compression;
use crate::position::DeletedOutputs;
use crate::sink::compress;
use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A rotated file to be deleted.
pub(super) struct ExcessFile {
    /// Its name without the suffix of compression.
    path: PathBuf,
    /// Number of its events, if this process has written all of them.
    events: Option<u64>,
}

/// The rotated files beyond the newest `keep`. `events`: the known number of events by rotation.
pub(super) fn excess_files(
    path: &Path,
    keep: usize,
    events: &BTreeMap<u64, u64>,
) -> io::Result<Vec<ExcessFile>> {
    let mut files: Vec<ExcessFile> = rotated_files(path)?
        .into_iter()
        .map(|(rotation, path)| ExcessFile {
            path: match compress::of_name(&path) {
                Compression::None => path,
                _ => path.with_extension(""),
            },
            events: events.get(&rotation).copied(),
        })
        .collect();
    files.dedup_by(|one, other| one.path == other.path);
    files.truncate(files.len().saturating_sub(keep));
    Ok(files)
}

/// Deletes the files and logs each with the number of its events.
pub(super) fn delete(files: &[ExcessFile]) -> DeletedOutputs {
    let mut deleted = DeletedOutputs::default();
    for file in files {
        if let Some(events) = delete_one(file) {
            deleted.add(DeletedOutputs { files: 1, events });
        }
    }
    deleted
}

/// Deletes one file. Returns the number of its events, or `None` if it was not deleted.
fn delete_one(file: &ExcessFile) -> Option<u64> {
    // Compressed or not: its compression may be running.
    let forms = [Compression::None, Compression::Gzip, Compression::Zstd];
    let forms = forms.map(|compression| compress_rotated::with_suffix(&file.path, compression.suffix()));
    let existing = forms.iter().find(|path| path.exists())?;
    let age = existing.metadata().map(|found| rounded_age(clock::now_ms() / 1000 - found.mtime()));
    let counted = file.events.map_or_else(|| count(existing), Ok);
    let mut was_there = false;
    for path in &forms {
        match compress_rotated::remove(path) {
            Ok(found) => was_there |= found,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a rotated file beyond `rotated_files_max` cannot be removed; it is retried after the next rotation");
                // The next rotation retries it and counts its events then.
                return None;
            }
        }
    }
    if !was_there {
        return None;
    }
    let events = counted.as_ref().map_or_else(|_| "unknown".to_owned(), u64::to_string);
    tracing::info!(
        path = %existing.display(),
        events,
        age = age.as_deref().unwrap_or("unknown"),
        "a rotated file was deleted because there are more than `rotated_files_max`; its events are kept only where another program has read them"
    );
    Some(counted.unwrap_or(0))
}

/// The number of events in a rotated file: one per line.
fn count(path: &Path) -> io::Result<u64> {
    let file = open_existing(path)?;
    let mut reader = compress_rotated::reader(&file, path)?;
    let mut events = 0;
    loop {
        let block = reader.fill_buf()?;
        let bytes = block.len();
        if bytes == 0 {
            return Ok(events);
        }
        events += memchr::memchr_iter(b'\n', block).count() as u64;
        reader.consume(bytes);
    }
}

/// A duration in its largest unit, for people.
fn rounded_age(age_s: i64) -> String {
    match age_s.max(0) {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7_200 => format!("{}min", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f113_ages() {
        let table =
            [(-5, "0s"), (119, "119s"), (120, "2min"), (7_200, "2h"), (172_799, "47h"), (864_000, "10d")];
        for (age_s, expect) in table {
            assert_eq!(rounded_age(age_s), expect);
        }
    }

    /// Events that an earlier process has written are counted from the file, compressed or not.
    #[test]
    fn f113_events_of_files_that_an_earlier_process_wrote() {
        use crate::sink::compress::CompressedWriter;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("out");
        let name =
            |number: u64, suffix: &str| temp.path().join(format!("out.2026-11-21.{number:06}{suffix}"));
        for (number, compression) in [(0, Compression::None), (1, Compression::Gzip), (2, Compression::Zstd)]
        {
            let mut encoder = CompressedWriter::new(
                std::fs::File::create(name(number, compression.suffix())).unwrap(),
                compression,
            )
            .unwrap();
            encoder.write_all(&b"event\n".repeat(10 + number as usize)).unwrap();
            encoder.finish().unwrap();
        }
        // A crash has left this file in both forms.
        std::fs::write(name(1, ""), b"event\n".repeat(11)).unwrap();
        std::fs::write(name(3, ""), "event\n").unwrap();
        let known = BTreeMap::from([(2, 12)]);
        let excess = excess_files(&path, 1, &known).unwrap();
        let expect = DeletedOutputs { files: 3, events: 10 + 11 + 12 };
        assert_eq!(delete(&excess), expect);
        assert_eq!(delete(&excess), DeletedOutputs::default(), "once");
        assert_eq!(rotated_files(&path).unwrap(), [(3, name(3, ""))]);
    }
}
