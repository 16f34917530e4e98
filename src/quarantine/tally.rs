//! How many events are in quarantine, without reading a file twice.

use super::{QuarantineFiles, look};
use crate::clock;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is known of the files that were counted.
#[derive(Default)]
pub struct Tally {
    /// By name and inode: a file that a command replaced has another.
    files: HashMap<(PathBuf, u64), u64>,
    changed: Option<(i64, i64)>,
    /// What could not be counted at the last look, and why.
    pub failed: Vec<(PathBuf, io::Error)>,
}

impl Tally {
    /// The events that are there, those that stand there twice counted twice. Cheap while nothing changes.
    pub fn count(&mut self, state_dir: &Path) -> io::Result<u64> {
        let changed = match state_dir.join(super::DIRECTORY).metadata() {
            Ok(metadata) => Some((metadata.mtime(), metadata.mtime_nsec())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if changed.is_none() || changed != self.changed {
            let mut found = HashMap::new();
            let QuarantineFiles { files, mut failed } = look(state_dir)?;
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
            // Within the grain of its time the directory may change again and look the same.
            let settled = |(seconds, _): &(i64, i64)| clock::now_ms() > (seconds + 2) * 1000;
            // What is broken may heal without a change of the directory.
            let whole = self.failed.is_empty();
            (self.files, self.changed) = (found, changed.filter(settled).filter(|_| whole));
        }
        Ok(self.files.values().sum())
    }

    /// The inode of a file and how many events it holds.
    fn counted(&self, path: &Path) -> io::Result<(u64, u64)> {
        let file = File::open(path)?;
        let key = (path.to_owned(), file.metadata()?.ino());
        let events = match self.files.get(&key) {
            Some(events) => *events,
            None => lines(file)?,
        };
        Ok((key.1, events))
    }
}

fn lines(mut file: File) -> io::Result<u64> {
    let (mut lines, mut block) = (0, vec![0; 64 * 1024]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(lines),
            bytes => lines += memchr::memchr_iter(b'\n', &block[..bytes]).count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DIRECTORY, Entry, files, put};
    use super::*;

    #[test]
    fn what_is_put_and_removed_is_counted() {
        let temp = tempfile::tempdir().unwrap();
        let mut tally = Tally::default();
        assert_eq!(tally.count(temp.path()).unwrap(), 0);
        put(temp.path(), 1, &[Entry::default(), Entry::default()]).unwrap();
        assert_eq!(tally.count(temp.path()).unwrap(), 2);
        put(temp.path(), 2, &[Entry::default()]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join(DIRECTORY).join("link.ndjson")).unwrap();
        assert_eq!(tally.count(temp.path()).unwrap(), 3);
        for (path, _) in files(temp.path()).unwrap() {
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(tally.count(temp.path()).unwrap(), 0);
        std::fs::remove_dir_all(temp.path().join(DIRECTORY)).unwrap();
        assert_eq!(tally.count(temp.path()).unwrap(), 0);
    }
}
