//! Why a state directory cannot be used, and what was given up to use it all the same.

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
    /// Nothing was touched; the same call succeeds once there is room.
    #[error("no space left to write `{}`", path.display())]
    StorageFull { path: PathBuf },
    /// Nothing was touched.
    #[error(
        "`{}` was written by a newer release (state version {found}, this release knows {}): \
         install that release again, or give another state directory",
        path.display(),
        super::VERSION
    )]
    Newer { path: PathBuf, found: u32 },
    #[error("`{}` is not safe to use: {problem}", path.display())]
    Insecure { path: PathBuf, problem: String },
    /// The running store has failed its checks. Opening it again recovers.
    #[error("the checkpoint store in `{}` is damaged: {problem}", dir.display())]
    Damaged { dir: PathBuf, problem: String },
    /// Not a fault of the configuration: the same call by another user succeeds.
    #[error("{0}")]
    Denied(String),
    #[error("failed to {action} `{}`", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" ({pid})")).unwrap_or_default()
}

impl StoreError {
    /// The exit code of a process that cannot go on because of this error. Never that of a wrong configuration:
    /// whatever keeps a
    /// directory from being used, its disk, its owner or the release that is installed, can change while the
    /// configuration stays.
    pub fn exit_code(&self) -> u8 {
        exit::TRY_AGAIN
    }

    /// An error of the file system, sorted: a full disk is a state of its own.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> StoreError {
        let path = path.into();
        if is_full(&source) {
            return StoreError::StorageFull { path };
        }
        if source.kind() == io::ErrorKind::PermissionDenied {
            return StoreError::Denied(access::why_denied_own(action, &path));
        }
        StoreError::Io { action, path, source }
    }
}

/// Whether an error says that there is no room, by the disk's size or by a quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A step of the recovery recovery that was taken while opening. Each one has been logged as an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoveryStep {
    /// The store would not open; a copy of it lies in `copy`.
    KeptDamagedCopy { copy: PathBuf, problem: String },
    /// It opened without its snapshot, which is derived from its log.
    WithoutSnapshot,
    /// It opened without its configuration file, which holds constants.
    WithoutConf,
    /// It did not open at all: a new one was begun.
    Replaced,
    /// It opened and held nothing.
    OpenedEmpty,
    /// `count` values failed their checksums and were dropped.
    ValuesDropped { count: usize },
    /// A source was taken from the side file, where it was `commits` commits old.
    SourceFromBackup { source: String, commits: u64 },
    /// A source's values did not belong together and the side file does not know it: lengths of outputs dropped.
    MarksDropped { source: String },
    /// A file beside the store could not be read and was written anew.
    FileReplaced { path: PathBuf, problem: String },
}

impl fmt::Display for RecoveryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryStep::KeptDamagedCopy { copy, problem } => {
                write!(
                    f,
                    "the store did not open ({problem}); copied to `{}`",
                    copy.display()
                )
            }
            RecoveryStep::WithoutSnapshot => f.write_str("the store was rebuilt from its log"),
            RecoveryStep::WithoutConf => f.write_str("the store was opened without its configuration file"),
            RecoveryStep::Replaced => f.write_str("the store could not be rebuilt; a new one was begun"),
            RecoveryStep::OpenedEmpty => f.write_str("the store opened empty"),
            RecoveryStep::ValuesDropped { count } => write!(f, "{count} damaged values were dropped"),
            RecoveryStep::SourceFromBackup { source, commits } => {
                write!(
                    f,
                    "source `{source}` goes on from the side file (commit {commits})"
                )
            }
            RecoveryStep::MarksDropped { source } => {
                write!(
                    f,
                    "source `{source}` has lost the committed lengths of its outputs"
                )
            }
            RecoveryStep::FileReplaced { path, problem } => {
                write!(f, "`{}` was written anew: {problem}", path.display())
            }
        }
    }
}
