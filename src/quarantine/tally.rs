//! Counts the events in quarantine without reading a file twice.

use super::{QuarantineFiles, list};
use crate::clock;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One file.
#[derive(Clone, Default)]
struct Counted {
    events: u64,
    /// Sink and source of its first event. All events of a file have the same.
    names: (String, String),
}

/// What is read of an event.
#[derive(Deserialize)]
struct Names {
    sink: String,
    source: String,
}

/// The files that were counted so far.
#[derive(Default)]
pub struct Tally {
    /// By path and inode. A file that a command has replaced has another inode.
    files: HashMap<(PathBuf, u64), Counted>,
    changed: Option<(i64, i64)>,
    /// Modification time of the directory at the last count. `None`: count again.
    pub failed: Vec<(PathBuf, io::Error)>,
}

impl Tally {
    /// The number of stored events. Duplicates are counted twice. Cheap if nothing has changed.
    pub fn count(&mut self, state_dir: &Path) -> io::Result<u64> {
        let changed = match state_dir.join(super::DIRECTORY).metadata() {
            Ok(metadata) => Some((metadata.mtime(), metadata.mtime_nsec())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if changed.is_none() || changed != self.changed {
            let mut found = HashMap::new();
            let QuarantineFiles { files, mut failed } = list(state_dir)?;
            for (path, _) in files {
                match self.counted(&path) {
                    Ok((ino, events)) => {
                        found.insert((path, ino), events);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => failed.push((path, error)),
                }
            }
            self.failed = failed;
            // Within the resolution of its timestamp, a changed directory may look unchanged.
            let settled = |(seconds, _): &(i64, i64)| clock::now_ms() > (seconds + 2) * 1000;
            // An unreadable file may become readable without a change of the directory.
            let is_complete = self.failed.is_empty();
            (self.files, self.changed) = (found, changed.filter(settled).filter(|_| is_complete));
        }
        Ok(self.files.values().map(|file| file.events).sum())
    }

    /// The number of events at the last count, by sink and source.
    pub fn by_sink(&self) -> HashMap<(String, String), u64> {
        let mut events = HashMap::new();
        for file in self.files.values() {
            *events.entry(file.names.clone()).or_default() += file.events;
        }
        events
    }

    /// The inode of a file and what it contains.
    fn counted(&self, path: &Path) -> io::Result<(u64, Counted)> {
        let file = File::open(path)?;
        let key = (path.to_owned(), file.metadata()?.ino());
        let events = match self.files.get(&key) {
            Some(counted) => counted.clone(),
            None => count(file)?,
        };
        Ok((key.1, events))
    }
}

fn count(file: File) -> io::Result<Counted> {
    let (mut file, mut first) = (BufReader::new(file), Vec::new());
    file.read_until(b'\n', &mut first)?;
    let names = serde_json::from_slice::<Names>(&first).map(|names| (names.sink, names.source));
    let names = names.unwrap_or_default();
    let (mut events, mut block) = (u64::from(first.ends_with(b"\n")), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(Counted { events, names }),
            bytes => events += memchr::memchr_iter(b'\n', &block[..bytes]).count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DIRECTORY, Entry, files, put};
    use super::*;

    #[test]
    fn stored_and_removed_events_are_counted() {
        let temp = tempfile::tempdir().unwrap();
        let mut tally = Tally::default();
        assert_eq!(tally.count(temp.path()).unwrap(), 0);
        put(temp.path(), 1, &[Entry::default(), Entry::default()]).unwrap();
        assert_eq!(tally.count(temp.path()).unwrap(), 2);
        put(temp.path(), 2, &[Entry::default()]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join(DIRECTORY).join("link.ndjson")).unwrap();
        assert_eq!(tally.count(temp.path()).unwrap(), 3);
        let other = Entry { sink: "siem".into(), source: "wiki".into(), ..Entry::default() };
        put(temp.path(), 3, &[other.clone(), other]).unwrap();
        assert_eq!(tally.count(temp.path()).unwrap(), 5);
        let names = |sink: &str, source: &str| (sink.to_owned(), source.to_owned());
        assert_eq!(tally.by_sink(), HashMap::from([(names("", ""), 3), (names("siem", "wiki"), 2)]));
        for (path, _) in files(temp.path()).unwrap() {
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(tally.count(temp.path()).unwrap(), 0);
        std::fs::remove_dir_all(temp.path().join(DIRECTORY)).unwrap();
        assert_eq!(tally.count(temp.path()).unwrap(), 0);
    }
}
