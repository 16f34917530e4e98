//! Errors of the state directory, and the steps that repair it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::access;
use crate::exit;

/// Why the store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another process{} uses the state directory `{}`", process(*pid), dir.display())]
    Locked { dir: PathBuf, pid: Option<u32> },
    /// Nothing was changed. The same call succeeds once there is space.
    #[error("no space left to write `{}`", path.display())]
    StorageFull { path: PathBuf },
    /// Nothing was changed.
    #[error(
        "`{}` was written by a newer release (state version {found}, this release knows {}): \
         install that release again, or give another state directory",
        path.display(),
        super::VERSION
    )]
    Newer { path: PathBuf, found: u32 },
    #[error("`{}` is not safe to use: {problem}", path.display())]
    Insecure { path: PathBuf, problem: String },
    /// A check failed while the store was in use. Opening it again repairs it.
    #[error("the checkpoint store in `{}` is damaged: {problem}", dir.display())]
    Damaged { dir: PathBuf, problem: String },
    /// Not a configuration error: the same call succeeds as another user.
    #[error("{0}")]
    Denied(String),
    #[error("failed to {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" ({pid})")).unwrap_or_default()
}

impl StoreError {
    /// Exit code of a process that fails with this error. It is never that of a wrong configuration: the disk, the
    /// owner or the installed release can change while the configuration stays the same.
    pub fn exit_code(&self) -> u8 {
        exit::TRY_AGAIN
    }

    /// Converts a file system error. A full disk and missing permission are variants of their own.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> StoreError {
        let path = path.into();
        if is_full(&source) {
            return StoreError::StorageFull { path };
        }
        if source.kind() == io::ErrorKind::PermissionDenied {
            return StoreError::Denied(access::denied_message_own(action, &path));
        }
        StoreError::Io { action, path, source }
    }
}

/// Whether an error means that the disk or a quota is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A step that was necessary to open the store. Each one was logged as an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoveryStep {
    /// The store was damaged. A copy of it is in `copy`.
    KeptDamagedCopy { copy: PathBuf, problem: String },
    /// It opened after its snapshot was removed, which is derived from its log.
    WithoutSnapshot,
    /// It opened after sled's configuration file was removed, which contains constants.
    WithoutConf,
    /// It did not open at all. A new store was created.
    Replaced,
    /// It opened, and was empty though it had been used.
    OpenedEmpty,
    /// `count` damaged values were removed.
    ValuesDropped { count: usize },
    /// The source was replaced by its state in the backup file, as of its commit number `commits`.
    SourceFromBackup { source: String, commits: u64 },
    /// The source's values were inconsistent and the backup file does not contain it. The lengths of its outputs were
    /// dropped.
    MarksDropped { source: String },
    /// `meta.json` or `checkpoint.json` was damaged and was written again.
    FileReplaced { path: PathBuf, problem: String },
}

impl fmt::Display for RecoveryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryStep::KeptDamagedCopy { copy, problem } => {
                write!(
                    f,
                    "the checkpoint store is damaged ({problem}); a copy is kept as `{}`",
                    copy.display()
                )
            }
            RecoveryStep::WithoutSnapshot => f.write_str("the checkpoint store was rebuilt from its log"),
            RecoveryStep::WithoutConf => {
                f.write_str("the checkpoint store was opened after its configuration file was removed")
            }
            RecoveryStep::Replaced => {
                f.write_str("the checkpoint store could not be repaired; a new one was created")
            }
            RecoveryStep::OpenedEmpty => f.write_str("the checkpoint store was empty"),
            RecoveryStep::ValuesDropped { count } => {
                write!(f, "{count} damaged values were removed from the checkpoint store")
            }
            RecoveryStep::SourceFromBackup { source, commits } => {
                write!(f, "source `{source}` continues from the backup file (commit {commits})")
            }
            RecoveryStep::MarksDropped { source } => {
                write!(f, "the committed output lengths of source `{source}` were dropped")
            }
            RecoveryStep::FileReplaced { path, problem } => {
                write!(f, "`{}` was damaged and was written again: {problem}", path.display())
            }
        }
    }
}
