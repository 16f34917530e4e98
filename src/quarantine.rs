//! Events that their server refuses, kept safe until a person sends them again or drops them.
//!
//! One file for each time that events were set aside, in `quarantine` below the state directory: written whole, on the disk
//! before the event counts as done, and never changed by the agent. So no lock is needed between it and the commands, which
//! replace a file by one with fewer events, or remove it.

mod directory;
mod tally;

pub use directory::{Directory, Files, QuarantineError, QuarantineLine};
pub use tally::Tally;

use serde::{Deserialize, Serialize};
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Below the state directory.
pub const DIRECTORY: &str = "quarantine";
/// More than this is no quarantine but a sink that takes nothing: it is held back then, as when a server is down.
const BYTES_MAX: u64 = 1 << 30;
const SUFFIX: &str = ".ndjson";
/// What the agent's temporary files begin with.
const TEMPORARY: &str = ".new-";

/// One event, a line of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: String,
    pub sink: String,
    pub source: String,
    /// In which the event is written.
    pub format: String,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: i64,
    /// When it was set aside.
    pub at_ms: i64,
    /// What the server said.
    pub reason: String,
    /// As it was sent.
    pub event: String,
}

/// Keeps these. They are on the disk when it returns.
pub fn put(state_dir: &Path, at_ms: i64, entries: &[Entry]) -> io::Result<()> {
    let Some(first) = entries.first() else {
        return Ok(());
    };
    let dir = state_dir.join(DIRECTORY);
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // Whoever made it may have been killed before its name was on the disk.
    File::open(state_dir)?.sync_all()?;
    let bytes: u64 = files(state_dir)?.iter().map(|(_, bytes)| bytes).sum();
    if bytes > BYTES_MAX {
        return Err(io::Error::other(format!(
            "`{}` holds {bytes} bytes; send them again or drop them",
            dir.display()
        )));
    }
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(&dir)?;
    let mut out = BufWriter::new(file.as_file_mut());
    for entry in entries {
        serde_json::to_writer(&mut out, entry)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    drop(out);
    file.as_file().sync_all()?;
    let name = format!("{at_ms}-{}-{}-{}", first.sink, first.source, first.id);
    let mut number = 1;
    let mut path = dir.join(format!("{name}{SUFFIX}"));
    // A clock that went back must not put one file in another's place.
    while let Err(error) = file.persist_noclobber(&path) {
        if error.error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error.error);
        }
        number += 1;
        (file, path) = (error.file, dir.join(format!("{name}-{number}{SUFFIX}")));
    }
    File::open(&dir)?.sync_all()
}

/// What of the quarantine can be looked at, and what cannot.
#[derive(Debug, Default)]
pub struct QuarantineFiles {
    /// The files and their sizes, oldest first.
    pub files: Vec<(PathBuf, u64)>,
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// The files and their sizes, oldest first, without those that cannot be looked at.
pub fn files(state_dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    look(state_dir).map(|found| found.files)
}

/// Looks at each entry; one that is broken hides no other.
pub fn look(state_dir: &Path) -> io::Result<QuarantineFiles> {
    let mut found = QuarantineFiles::default();
    for entry in entries(state_dir)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => found.files.push((entry.path(), metadata.len())),
            Ok(_) => {}
            // A command has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.failed.push((entry.path(), error)),
        }
    }
    found.files.sort();
    Ok(found)
}

/// Removes what a killed agent was writing. For the one that has the state directory's lock. Returns what could not be removed.
pub fn remove_temporary(state_dir: &Path) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let mut left = Vec::new();
    for entry in entries(state_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY)
            && let Err(error) = fs::remove_file(entry.path())
        {
            left.push((entry.path(), error));
        }
    }
    Ok(left)
}

fn entries(state_dir: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    let entries = match fs::read_dir(state_dir.join(DIRECTORY)) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(entries.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_there_for_the_agents_user_alone() {
        let temp = tempfile::tempdir().unwrap();
        assert!(files(temp.path()).unwrap().is_empty());
        let entry = Entry {
            id: "0a".into(),
            sink: "elastic".into(),
            source: "wiki".into(),
            format: "ecs".into(),
            time_ms: 1,
            at_ms: 2,
            reason: "status 400".into(),
            event: "{\"a\":\"ä\"}".into(),
        };
        put(temp.path(), 2, &[]).unwrap();
        put(temp.path(), 2, &[entry.clone(), entry.clone()]).unwrap();
        put(temp.path(), 3, std::slice::from_ref(&entry)).unwrap();
        // Put by a clock that went back.
        put(temp.path(), 2, std::slice::from_ref(&entry)).unwrap();
        let killed = temp.path().join(DIRECTORY).join(".new-x");
        fs::write(&killed, "{").unwrap();
        remove_temporary(temp.path()).unwrap();
        assert!(!killed.exists());
        let files = files(temp.path()).unwrap();
        let read: Vec<Vec<Entry>> = files
            .iter()
            .map(|(path, _)| {
                let text = fs::read_to_string(path).unwrap();
                text.lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect()
            })
            .collect();
        let (one, two) = (vec![entry.clone()], vec![entry.clone(), entry.clone()]);
        assert_eq!(read, [one.clone(), two, one]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&temp.path().join(DIRECTORY)), 0o700);
        assert_eq!(mode(&files[0].0), 0o600);
    }
}
