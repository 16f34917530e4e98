//! What the last `reconcile` of each sink has found, in a small file in the state directory. The running agent reads it
//! for its metrics.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const FILE: &str = "reconcile.json";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastReconcile {
    /// In milliseconds since 1970.
    pub at_ms: i64,
    pub missing: u64,
    pub altered: u64,
}

/// By the name of the sink.
pub(crate) type LastReconciles = BTreeMap<String, LastReconcile>;

/// Empty if there was no `reconcile`, or if the file cannot be read.
pub(crate) fn read(state_dir: &Path) -> LastReconciles {
    let text = fs::read(state_dir.join(FILE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Stores the results of these sinks. Those of other sinks are kept.
pub(crate) fn store(state_dir: &Path, results: LastReconciles) -> io::Result<()> {
    if results.is_empty() {
        return Ok(());
    }
    let mut all = read(state_dir);
    all.extend(results);
    // Root may run the command; then the agent's user must be able to read the file. The directory is private.
    let mut file = tempfile::Builder::new()
        .prefix(".reconcile-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(state_dir)?;
    serde_json::to_writer(file.as_file_mut(), &all)?;
    file.as_file_mut().flush()?;
    file.persist(state_dir.join(FILE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_other_sinks_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_empty());
        let result = |missing| LastReconcile { at_ms: 1, missing, altered: 0 };
        let one = |name: &str, missing| LastReconciles::from([(name.to_owned(), result(missing))]);
        store(dir.path(), one("a", 1)).unwrap();
        store(dir.path(), one("b", 2)).unwrap();
        store(dir.path(), one("a", 3)).unwrap();
        assert_eq!(read(dir.path()).into_values().collect::<Vec<_>>(), [result(3), result(2)]);
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(read(dir.path()).is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
