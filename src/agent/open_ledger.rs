//! Opens the ledger of a source, as the checkpoint says it was, and the key that signs it. Lost
//! entries, a checkpoint that does not fit and a missing key do not stop delivery: they are logged and delivered as
//! events. Files that cannot be opened or written do: without them nobody knows what was delivered.

use super::build_context::{AgentError, BuildContext};
use crate::checkpoint::{SourceState, StoreError};
use crate::ledger::{
    Checkpoints, Damage, Limits, SharedLedger, SignError, Signer, begin_new_log, key, key_name, ledger_dir,
    origin, signed_size,
};
use crate::notice::{LEDGER_DAMAGED, LEDGER_RESTARTED};
use crate::position::LedgerPosition;
use crate::telemetry::chain;
use std::cell::RefCell;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The action of an event, and its message.
pub(super) type LedgerProblem = (&'static str, String);

/// A ledger, where it is, and what is wrong with it.
pub(super) struct OpenedLedger {
    pub ledger: SharedLedger,
    pub dir: PathBuf,
    /// What is to be delivered as events.
    pub problems: Vec<LedgerProblem>,
    /// What the last commit has returned, until the checkpoint store has it.
    position_to_store: RefCell<Option<LedgerPosition>>,
}

pub(super) fn open(
    common: &BuildContext,
    source: &str,
    state: &SourceState,
) -> Result<OpenedLedger, AgentError> {
    let dir = ledger_dir(&common.config.state_dir, source);
    let failed = |error| AgentError::Store(StoreError::io("open the ledger in", &dir, error));
    let position = state.ledger.clone().unwrap_or_default();
    let position_to_store = RefCell::default();
    if common.mode.dry_run {
        let ledger = SharedLedger::open_read_only(&dir, &position).map_err(failed)?;
        return Ok(OpenedLedger { ledger, dir, problems: Vec::new(), position_to_store });
    }
    let mut problems = Vec::new();
    let has_positions = state.api.is_some() || state.files.iter().any(|file| file.offset > 0);
    if has_positions && state.ledger.is_none() {
        if !dir.exists() {
            return Err(AgentError::NoLedger { source_name: source.to_owned() });
        }
        let message = format!(
            "the checkpoint store has lost the size of the ledger of source `{source}`. A new log begins. Events that were \
             delivered before are delivered again if they are read again"
        );
        problems.push((LEDGER_DAMAGED, message));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
    // Before the ledger is cut back: a longer one that was signed is evidence.
    let checkpoints = open_checkpoints(common, source, &dir, state.ledger.as_ref(), &mut problems);
    let config = &common.config.ledger;
    let limits = Limits { retention: config.retention, bytes_max: config.bytes_max };
    let (ledger, missing) = SharedLedger::open(&dir, &position, limits).map_err(failed)?;
    if !missing.is_empty() {
        problems.push((LEDGER_DAMAGED, describe(source, &missing)));
    }
    if let Some(checkpoints) = checkpoints {
        ledger.sign_with(checkpoints);
    }
    for (action, message) in &problems {
        match *action {
            LEDGER_RESTARTED => tracing::warn!(source, "{message}"),
            _ => tracing::error!(source, "{message}"),
        }
    }
    Ok(OpenedLedger { ledger, dir, problems, position_to_store })
}

impl OpenedLedger {
    /// Makes the ledger durable. Returns what the checkpoint is to know before the first event is delivered.
    pub(super) fn commit(&self) -> Result<Option<LedgerPosition>, AgentError> {
        let position = self.ledger.commit().map_err(|error| StoreError::io("write", &self.dir, error))?;
        self.position_to_store.borrow_mut().clone_from(&position);
        Ok(position)
    }

    /// The checkpoint knows what the last commit has returned.
    pub(super) fn mark_stored(&self) -> Result<(), AgentError> {
        match self.position_to_store.take() {
            Some(position) => {
                let stored = self.ledger.set_stored(position);
                stored.map_err(|error| StoreError::io("remove old segments in", &self.dir, error).into())
            }
            None => Ok(()),
        }
    }
}

/// Opens the signed checkpoints of the ledger in `dir`, of which the checkpoint store knows `position`. If the ledger
/// is not a continuation of what was signed, it is kept and a new log begins.
fn open_checkpoints(
    common: &BuildContext,
    source: &str,
    dir: &Path,
    position: Option<&LedgerPosition>,
    problems: &mut Vec<LedgerProblem>,
) -> Option<Checkpoints> {
    let entries = position.map_or(0, |position| position.size);
    let mut begin = |reason: String| match begin_new_log(dir, entries) {
        Ok(kept) => {
            let message = format!(
                "{reason}: a new log of the ledger of source `{source}` begins; the old one is kept in `{}`",
                kept.display()
            );
            problems.push((LEDGER_RESTARTED, message));
            true
        }
        Err(error) => {
            let message = format!(
                "{reason}, and no new log of the ledger of source `{source}` can begin: {error}. Nothing is signed; \
                 free space or correct the permissions of `{}`, and restart the agent",
                dir.display()
            );
            problems.push((LEDGER_DAMAGED, message));
            false
        }
    };
    match signed_size(dir) {
        Ok(Some(signed)) if signed > entries => {
            let reason = match position {
                None => "the stored position is gone (by `state forget`?)".to_owned(),
                Some(_) => format!(
                    "the checkpoint store knows {entries} ledger entries and {signed} were signed, so the state is older than \
                     the ledger (restored from a backup?)"
                ),
            };
            if !begin(reason) {
                return None;
            }
        }
        _ => {}
    }
    let open = || {
        let origin = origin(dir, &common.agent.id).map_err(|error| read_failed(dir, error))?;
        let signer = signer(common).map_err(|error| read_failed(dir, error))?;
        Checkpoints::open(dir, &origin, signer)
    };
    let opened = match open() {
        Err(SignError::Inconsistent(reason)) => {
            if !begin(reason) {
                return None;
            }
            open()
        }
        opened => opened,
    };
    match opened {
        Ok(checkpoints) => Some(checkpoints),
        Err(error) => {
            let message = format!(
                "the ledger of source `{source}` cannot be signed: {}. Delivery continues; correct the cause and restart the agent",
                chain(&error)
            );
            problems.push((LEDGER_DAMAGED, message));
            None
        }
    }
}

fn read_failed(dir: &Path, source: io::Error) -> SignError {
    SignError::Io { verb: "open the key for", path: dir.to_owned(), source }
}

/// The configured key, or the one in the state directory.
fn signer(common: &BuildContext) -> io::Result<Signer> {
    let (state_dir, name) = (&common.config.state_dir, key_name(&common.agent.id));
    let signer = match &common.config.ledger.signing_key {
        None => key::open_or_create(state_dir, &name)?,
        Some(reference) => key::configured(reference, &name)?,
    };
    key::publish(state_dir, &signer.verifier())?;
    Ok(signer)
}

fn describe(source: &str, missing: &[Damage]) -> String {
    let ranges: Vec<String> = missing
        .iter()
        .map(|Damage { missing }| format!("{} to {}", missing.start, missing.end - 1))
        .collect();
    format!(
        "the ledger of source `{source}` has lost its entries {}: it cannot show any more that these events were delivered. \
         Delivery continues",
        ranges.join(", ")
    )
}
