//! Rotated files over the number to keep are deleted, and that is reported: they may be the only copy of their events.

use super::output::{open_existing, rotated_files};

use super::compress_rotated;
use crate::clock;
use crate::config::Compression;
use crate::position::DeletedOutputs;
use crate::sink::compress;
use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A rotated file that is not to be kept.
pub struct Surplus {
    /// Its name before it was compressed.
    path: PathBuf,
    /// How many events are in it, if this process has written all of them.
    events: Option<u64>,
}

/// The rotated files over the number to keep. `events` says by generation how many are in them.
pub fn surplus(path: &Path, keep: usize, events: &BTreeMap<u64, u64>) -> io::Result<Vec<Surplus>> {
    let mut files: Vec<Surplus> = rotated_files(path)?
        .into_iter()
        .map(|(generation, path)| Surplus {
            path: match compress::of_name(&path) {
                Compression::None => path,
                _ => path.with_extension(""),
            },
            events: events.get(&generation).copied(),
        })
        .collect();
    files.dedup_by(|one, other| one.path == other.path);
    files.truncate(files.len().saturating_sub(keep));
    Ok(files)
}

/// Deletes them, and says what was in each.
pub fn delete(surplus: &[Surplus]) -> DeletedOutputs {
    let mut deleted = DeletedOutputs::default();
    for file in surplus {
        if let Some(events) = delete_one(file) {
            deleted.add(DeletedOutputs { files: 1, events });
        }
    }
    deleted
}

/// How many events were in it; `None`: it is not deleted.
fn delete_one(file: &Surplus) -> Option<u64> {
    // In each form: it may be compressed at this moment.
    let forms = [Compression::None, Compression::Gzip, Compression::Zstd];
    let forms = forms.map(|form| compress_rotated::with_ending(&file.path, form.ending()));
    let there = forms.iter().find(|path| path.exists())?;
    let age = there
        .metadata()
        .map(|found| text(clock::now_ms() / 1000 - found.mtime()));
    let counted = file.events.map_or_else(|| count(there), Ok);
    let mut was_there = false;
    for path in &forms {
        match compress_rotated::remove(path) {
            Ok(found) => was_there |= found,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove a rotated output that is over the number to keep");
                // The next rotation tries it again, and counts it then.
                return None;
            }
        }
    }
    if !was_there {
        return None;
    }
    let events = counted
        .as_ref()
        .map_or_else(|_| "unknown".to_owned(), u64::to_string);
    tracing::info!(
        path = %there.display(),
        events,
        age = age.as_deref().unwrap_or("unknown"),
        "a rotated output was deleted, because there are more than `rotated_files_max`; a copy of its events is only where something has read it"
    );
    Some(counted.unwrap_or(0))
}

/// The events in a rotated file: its lines.
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

/// A time span for a person: its largest unit alone.
fn text(age_s: i64) -> String {
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
        let table = [
            (-5, "0s"),
            (119, "119s"),
            (120, "2min"),
            (7_200, "2h"),
            (172_799, "47h"),
            (864_000, "10d"),
        ];
        for (age_s, expect) in table {
            assert_eq!(text(age_s), expect);
        }
    }

    /// What an earlier process wrote is counted from the file, whichever form it has.
    #[test]
    fn f113_events_of_files_that_an_earlier_process_wrote() {
        use crate::sink::compress::CompressedWriter;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("out");
        let name =
            |number: u64, ending: &str| temp.path().join(format!("out.2026-11-21.{number:06}{ending}"));
        for (number, how) in [
            (0, Compression::None),
            (1, Compression::Gzip),
            (2, Compression::Zstd),
        ] {
            let mut encoder =
                CompressedWriter::new(std::fs::File::create(name(number, how.ending())).unwrap(), how)
                    .unwrap();
            encoder
                .write_all(&b"event\n".repeat(10 + number as usize))
                .unwrap();
            encoder.finish().unwrap();
        }
        // A crash has left this one in both forms.
        std::fs::write(name(1, ""), b"event\n".repeat(11)).unwrap();
        std::fs::write(name(3, ""), "event\n").unwrap();
        let known = BTreeMap::from([(2, 12)]);
        let surplus = surplus(&path, 1, &known).unwrap();
        let expect = DeletedOutputs {
            files: 3,
            events: 10 + 11 + 12,
        };
        assert_eq!(delete(&surplus), expect);
        assert_eq!(delete(&surplus), DeletedOutputs::default(), "once");
        assert_eq!(rotated_files(&path).unwrap(), [(3, name(3, ""))]);
    }
}
