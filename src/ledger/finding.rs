//! What can be wrong with a ledger.

use std::fmt;
use std::ops::Range;

/// A checkpoint of the ledger itself, or one that was given from elsewhere, by its number from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckpointName {
    Ledger(usize),
    Given(usize),
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointName::Ledger(number) => write!(out, "checkpoint {number}"),
            CheckpointName::Given(number) => write!(out, "given checkpoint {number}"),
        }
    }
}

/// What is wrong with a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerFinding {
    /// The text is no checkpoint.
    CheckpointUnreadable {
        checkpoint: CheckpointName,
    },
    CheckpointUnsigned {
        checkpoint: CheckpointName,
    },
    /// The signature of this key does not fit the text.
    CheckpointAltered {
        checkpoint: CheckpointName,
        key: String,
    },
    /// None of the given keys signed these checkpoints, but these did, as the notes say.
    WrongKey {
        first: CheckpointName,
        last: CheckpointName,
        signers: Vec<String>,
    },
    /// It is of another log.
    WrongOrigin {
        checkpoint: CheckpointName,
        origin: String,
    },
    /// It is signed and contradicts another signed checkpoint.
    Inconsistent {
        checkpoint: CheckpointName,
        with: CheckpointName,
    },
    /// The bytes are no entries. The other entries of their blocks cannot be verified either.
    EntriesUnreadable {
        entries: Range<u64>,
    },
    /// At least one of these entries is not what was signed.
    EntriesAltered {
        entries: Range<u64>,
    },
    /// A signed checkpoint covers them, and they are not there.
    EntriesMissing {
        entries: Range<u64>,
    },
}

impl fmt::Display for LedgerFinding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerFinding::CheckpointUnreadable { checkpoint } => write!(out, "{checkpoint} cannot be read"),
            LedgerFinding::CheckpointUnsigned { checkpoint } => write!(out, "{checkpoint} is not signed"),
            LedgerFinding::CheckpointAltered { checkpoint, key } => {
                write!(out, "{checkpoint} was changed after `{key}` had signed it")
            }
            LedgerFinding::WrongKey { first, last, signers } => {
                let signers: Vec<String> = signers.iter().map(|signer| format!("`{signer}`")).collect();
                let signers = signers.join(" and ");
                if first == last {
                    write!(out, "{first} is not signed by a given key, but by {signers}")
                } else {
                    write!(out, "{first} to {last} are not signed by a given key, but by {signers}")
                }
            }
            LedgerFinding::WrongOrigin { checkpoint, origin } => {
                write!(out, "{checkpoint} is of another log, `{origin}`")
            }
            LedgerFinding::Inconsistent { checkpoint, with } => {
                write!(out, "{checkpoint} contradicts {with}, although both are signed")
            }
            LedgerFinding::EntriesUnreadable { entries } => {
                write!(out, "{} cannot be read; nothing vouches for their blocks of 256", numbers(entries))
            }
            LedgerFinding::EntriesAltered { entries } => {
                write!(out, "{}: at least one was changed after it was signed", numbers(entries))
            }
            LedgerFinding::EntriesMissing { entries } => {
                write!(out, "{} are missing, although a checkpoint covers them", numbers(entries))
            }
        }
    }
}

fn numbers(entries: &Range<u64>) -> String {
    match entries.end - entries.start {
        1 => format!("entry {}", entries.start),
        _ => format!("entries {} to {}", entries.start, entries.end - 1),
    }
}
