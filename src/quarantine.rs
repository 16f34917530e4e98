//! The quarantine: events that their server refuses, stored until a person sends them again or drops them.
//!
//! Each write creates one file in the directory `quarantine` below the state directory. The file is complete
//! and durable before its events count as final, and the agent never changes it. So the agent and the
//! commands need no lock between them. Commands replace a file by a smaller one, or remove it.

mod directory;
mod tally;

pub use directory::{DirectoryListing, QuarantineDirectory, QuarantineError, QuarantineLine};
pub use tally::Tally;

use crate::sink::EventSeverity;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Name of the directory below the state directory.
pub const DIRECTORY: &str = "quarantine";
/// Maximum size. A larger quarantine means that the sink accepts nothing, so the sink is held back as if its
/// server were down.
const BYTES_MAX: u64 = 1 << 30;
const SUFFIX: &str = ".ndjson";
/// Prefix of the agent's temporary files.
const TEMPORARY: &str = ".new-";

/// One event: a line of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: String,
    pub sink: String,
    pub source: String,
    /// The format of the event.
    pub format: String,
    /// Time of the event in milliseconds since 1970.
    pub time_ms: i64,
    /// What the sink puts into a header, where it does.
    #[serde(default)]
    pub severity: EventSeverity,
    #[serde(default)]
    pub action: String,
    /// Time of the quarantine in milliseconds since 1970.
    pub at_ms: i64,
    /// The reason of the refusal, with the server's message.
    pub reason: String,
    /// The encoded event as it was sent.
    pub event: String,
}

/// Stores entries. They are durable when the function returns.
pub fn put(state_dir: &Path, at_ms: i64, entries: &[Entry]) -> io::Result<()> {
    let Some(first) = entries.first() else {
        return Ok(());
    };
    let dir = state_dir.join(DIRECTORY);
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // The process that created the directory may have been killed before its name was durable.
    File::open(state_dir)?.sync_all()?;
    let bytes: u64 = files(state_dir)?.iter().map(|(_, bytes)| bytes).sum();
    if bytes > BYTES_MAX {
        return Err(io::Error::other(format!(
            "`{}` contains {bytes} bytes; send the events again or drop them",
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
    // After a clock rollback the name may exist already; no file is overwritten.
    while let Err(error) = file.persist_noclobber(&path) {
        if error.error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error.error);
        }
        number += 1;
        (file, path) = (error.file, dir.join(format!("{name}-{number}{SUFFIX}")));
    }
    File::open(&dir)?.sync_all()
}

/// The files of the quarantine, and those that cannot be examined.
#[derive(Debug, Default)]
pub struct QuarantineFiles {
    /// Paths and sizes in bytes, oldest first.
    pub files: Vec<(PathBuf, u64)>,
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// Paths and sizes in bytes of the readable files, oldest first.
pub fn files(state_dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    list(state_dir).map(|found| found.files)
}

/// Lists the files. A file that cannot be examined does not hide others.
pub fn list(state_dir: &Path) -> io::Result<QuarantineFiles> {
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

/// Removes temporary files of a killed agent. The caller must hold the lock of the state directory. Returns
/// the files that could not be removed.
pub fn remove_temporary(state_dir: &Path) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let mut failed = Vec::new();
    for entry in entries(state_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY)
            && let Err(error) = fs::remove_file(entry.path())
        {
            failed.push((entry.path(), error));
        }
    }
    Ok(failed)
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
    fn entries_are_stored_for_the_agents_user_only() {
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
            ..Entry::default()
        };
        put(temp.path(), 2, &[]).unwrap();
        put(temp.path(), 2, &[entry.clone(), entry.clone()]).unwrap();
        put(temp.path(), 3, std::slice::from_ref(&entry)).unwrap();
        // Stored after a clock rollback.
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
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
            })
            .collect();
        let (one, two) = (vec![entry.clone()], vec![entry.clone(), entry.clone()]);
        assert_eq!(read, [one.clone(), two, one]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&temp.path().join(DIRECTORY)), 0o700);
        assert_eq!(mode(&files[0].0), 0o600);
    }
}
