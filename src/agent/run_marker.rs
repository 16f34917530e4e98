//! A file in the state directory that exists while the agent runs. If it is there at a start, the last run did not stop
//! in order; its content may say why.

use crate::durable;
use crate::telemetry::escape::escape_path;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "running";
/// The checkpoint store removes temporary files that begin so.
const TEMPORARY: &str = ".new-";
/// A longer content is not the agent's.
const BYTES_MAX: u64 = 64 * 1024;

/// How a run has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunEnd {
    /// `none` (there was no run), `clean`, `incomplete`, `error`, `watchdog` or `killed`.
    pub how: &'static str,
    pub reason: Option<String>,
}

/// Why the run is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Failure {
    /// Not everything was delivered when it stopped.
    Incomplete,
    Error,
    /// A stage makes no progress, and systemd is about to end the process.
    Watchdog,
}

impl Failure {
    fn as_str(self) -> &'static str {
        match self {
            Failure::Incomplete => "incomplete",
            Failure::Error => "error",
            Failure::Watchdog => "watchdog",
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    failure: Option<Failure>,
    reason: Option<String>,
}

#[derive(Clone)]
pub(super) struct RunMarker {
    dir: PathBuf,
}

impl RunMarker {
    pub(super) fn new(dir: &Path) -> RunMarker {
        RunMarker { dir: dir.to_owned() }
    }

    /// How the last run ended. `is_first`: there was none in this directory.
    pub(super) fn last_run(&self, is_first: bool) -> RunEnd {
        match read(&self.dir.join(NAME)) {
            Ok(None) if is_first => RunEnd { how: "none", reason: None },
            Ok(None) => RunEnd { how: "clean", reason: None },
            Ok(Some(Content { failure: Some(failure), reason })) => RunEnd { how: failure.as_str(), reason },
            Ok(Some(Content { failure: None, .. })) | Err(_) => RunEnd { how: "killed", reason: None },
        }
    }

    /// The run has begun.
    pub(super) fn begin(&self) {
        self.write(&Content::default());
        self.sync();
    }

    /// The run is about to end for this reason.
    pub(super) fn set_failure(&self, failure: Failure, reason: &str) {
        self.write(&Content { failure: Some(failure), reason: Some(reason.to_owned()) });
    }

    /// What was about to end the run has passed.
    pub(super) fn clear_failure(&self) {
        self.write(&Content::default());
    }

    /// The run ends in order.
    pub(super) fn end(&self) {
        match std::fs::remove_file(self.dir.join(NAME)) {
            Ok(()) => self.sync(),
            Err(error) => self.warn(&error),
        }
    }

    /// Otherwise a power cut could make it a run that never began, or never ended. The content may be lost: what cannot
    /// be read is a run that was killed.
    fn sync(&self) {
        if let Err(error) = durable::sync_dir(&self.dir) {
            self.warn(&error);
        }
    }

    fn write(&self, content: &Content) {
        let written = (|| {
            let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.dir)?;
            serde_json::to_writer(&mut file, content)?;
            file.write_all(b"\n")?;
            file.persist(self.dir.join(NAME)).map_err(|error| error.error).map(drop)
        })();
        if let Err(error) = written {
            self.warn(&error);
        }
    }

    fn warn(&self, error: &io::Error) {
        let path = self.dir.join(NAME);
        tracing::warn!(path = %escape_path(&path), %error, "how this run ends cannot be stored; the next `agent.started` may name another end");
    }
}

/// `None`: it does not exist.
fn read(path: &Path) -> io::Result<Option<Content>> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.is_file() || found.len() > BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some(serde_json::from_slice(&std::fs::read(path)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_knows_how_the_last_one_ended() {
        let dir = tempfile::tempdir().unwrap();
        let marker = RunMarker::new(dir.path());
        let end = |how, reason: Option<&str>| RunEnd { how, reason: reason.map(str::to_owned) };
        assert_eq!(marker.last_run(true), end("none", None));
        marker.begin();
        assert_eq!(marker.last_run(false), end("killed", None));
        marker.end();
        assert_eq!(marker.last_run(false), end("clean", None));
        marker.begin();
        marker.set_failure(Failure::Watchdog, "sink a");
        assert_eq!(marker.last_run(false), end("watchdog", Some("sink a")));
        marker.clear_failure();
        assert_eq!(marker.last_run(false), end("killed", None));
        std::fs::write(dir.path().join(NAME), "no JSON").unwrap();
        assert_eq!(marker.last_run(false), end("killed", None));
    }
}
