//! The command `find`: what the ledger knows of an event.

use super::findings::{counted, number, time};
use super::lookup::{self, FoundEntry, Ledgers, StoredCheckpoint, checkpoints};
use crate::checkpoint::{self, StateImage};
use crate::cli::FindArgs;
use crate::evidence::ledgers::{LedgerError, LedgerPlace};
use crate::exit;
use crate::ledger::{
    Entry, EntryInput, EntryKind, LEGACY_ROW, NO_TIME, SELF_POLL, SOME_SINKS, UNREADABLE, Verifier,
};
use crate::quarantine::{QuarantineDirectory, QuarantineError};
use crate::record::EventId;
use crate::telemetry::escape::{escape, escape_path};
use serde_json::json;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Prints the entries of an event. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn find(args: &FindArgs, out: &mut impl Write) -> io::Result<u8> {
    let Ledgers { ledgers, keys, place } = match lookup::open(&args.location) {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let found = match lookup::entries(&ledgers, &args.id) {
        Ok(found) if found.is_empty() => return Ok(lookup::none(&args.id, &ledgers)),
        Ok(found) => found,
        Err(error) => return Ok(lookup::refuse(&error)),
    };
    let state = StateFacts::read(&place);
    for (at, found) in found.iter().enumerate() {
        let described = match Description::new(found, &keys, &state) {
            Ok(described) => described,
            Err(source) => {
                return Ok(lookup::refuse(&LedgerError::Read { path: found.ledger.dir.clone(), source }));
            }
        };
        if args.json {
            writeln!(out, "{}", described.json())?;
        } else {
            if at > 0 {
                writeln!(out)?;
            }
            described.print(out)?;
        }
    }
    Ok(exit::OK)
}

/// What else the state directory knows of the event.
#[derive(Default)]
struct StateFacts {
    image: Option<StateImage>,
    /// The sinks that refused an event which is still in quarantine, by its id.
    quarantined: HashMap<String, Vec<String>>,
}

impl StateFacts {
    /// What cannot be read is not known: `find` has an answer without it.
    fn read(place: &LedgerPlace) -> StateFacts {
        let LedgerPlace::State(state_dir) = place else {
            return StateFacts::default();
        };
        // Not the store itself: a running agent holds its lock, and an agent that starts meanwhile must get it.
        let image = checkpoint::read_backup(state_dir);
        StateFacts { image, quarantined: quarantined(state_dir).unwrap_or_default() }
    }

    fn path_of(&self, source: &str, file: u32) -> Option<&Path> {
        let state = self.image.as_ref()?.sources.get(source)?;
        state.files.iter().find(|known| known.key == file).map(|known| known.path.as_path())
    }
}

fn quarantined(state_dir: &Path) -> Result<HashMap<String, Vec<String>>, QuarantineError> {
    let mut sinks: HashMap<String, Vec<String>> = HashMap::new();
    let Some(directory) = QuarantineDirectory::open(state_dir)? else {
        return Ok(sinks);
    };
    for name in &directory.files()?.names {
        directory.read(name, &mut |line| -> Result<(), QuarantineError> {
            if let Ok(entry) = line.entry {
                sinks.entry(entry.id).or_default().push(entry.sink);
            }
            Ok(())
        })?;
    }
    Ok(sinks)
}

/// What is said of an entry.
struct Description<'a> {
    found: &'a FoundEntry<'a>,
    id: String,
    path: Option<PathBuf>,
    /// Sinks in whose quarantine the event is.
    refused_by: Vec<String>,
    checkpoint: Option<StoredCheckpoint>,
    signed_by: Option<String>,
}

impl<'a> Description<'a> {
    fn new(found: &'a FoundEntry<'a>, keys: &[Verifier], state: &StateFacts) -> io::Result<Description<'a>> {
        let mut covering = checkpoints(found.ledger)?;
        covering.retain(|stored| stored.checkpoint.size > found.number);
        let checkpoint = covering.into_iter().min_by_key(|stored| (stored.checkpoint.size, stored.number));
        let signed_by = checkpoint.as_ref().and_then(|stored| stored.signed_by(keys));
        let id = EventId(found.entry.id).to_string();
        let refused_by = state.quarantined.get(&id).cloned().unwrap_or_default();
        let Entry { input, flags, file, .. } = found.entry;
        let is_file = input == EntryInput::File && flags & LEGACY_ROW == 0;
        let path = state.path_of(&found.ledger.source, file).filter(|_| is_file).map(Path::to_owned);
        Ok(Description { found, id, path, refused_by, checkpoint, signed_by })
    }

    fn time(&self) -> Option<String> {
        let entry = &self.found.entry;
        (entry.flags & NO_TIME == 0).then(|| time(entry.time_ms))
    }

    fn outcome(&self) -> &'static str {
        let entry = &self.found.entry;
        match entry.kind {
            EntryKind::Delivered => "delivered",
            EntryKind::Quarantined => "quarantined",
            EntryKind::Loss if entry.flags & SELF_POLL != 0 => "left out",
            EntryKind::Loss => "lost",
            EntryKind::Agent => "event of the agent",
        }
    }

    fn outcome_text(&self) -> String {
        let text = match self.found.entry.kind {
            EntryKind::Delivered => "delivered to every sink of its source",
            EntryKind::Quarantined => "delivered, but a sink refused it",
            EntryKind::Loss if self.found.entry.flags & SELF_POLL != 0 => {
                "left out: a search of the audit log by the agent itself"
            }
            EntryKind::Loss => "lost: it cannot be delivered",
            EntryKind::Agent if self.found.entry.flags & SOME_SINKS != 0 => {
                "event of the agent itself, delivered to some sinks of its source"
            }
            EntryKind::Agent => "event of the agent itself, delivered to every sink of its source",
        };
        let mut text = text.to_owned();
        if !self.refused_by.is_empty() {
            let sinks: Vec<String> = self.refused_by.iter().map(|sink| escape(sink).into_owned()).collect();
            text.push_str(&format!("; in quarantine of sink {}", sinks.join(", ")));
        } else if self.found.entry.kind == EntryKind::Quarantined {
            text.push_str("; it is not in quarantine any more");
        }
        text
    }

    fn input_text(&self) -> String {
        let entry = &self.found.entry;
        match entry.input {
            EntryInput::File => {
                let file = match &self.path {
                    Some(path) => escape_path(path),
                    None => format!("number {}, whose path is not known any more", entry.file),
                };
                let last = (entry.offset + u64::from(entry.length)).saturating_sub(1);
                format!("audit file {file}, bytes {} to {last}", entry.offset)
            }
            EntryInput::Api if entry.flags & LEGACY_ROW != 0 => {
                "audit API of a Data Center before 7.5".to_owned()
            }
            EntryInput::Api => "audit API".to_owned(),
            EntryInput::Agent => "the agent itself".to_owned(),
        }
    }

    fn json(&self) -> serde_json::Value {
        let entry = &self.found.entry;
        let is_file = entry.input == EntryInput::File;
        let checkpoint = self.checkpoint.as_ref().map(|stored| {
            json!({
                "number": stored.number,
                "origin": stored.checkpoint.origin,
                "size": stored.checkpoint.size,
                "signed_by": self.signed_by,
            })
        });
        json!({
            "id": self.id,
            "time": self.time(),
            "source": self.found.ledger.source,
            "entry": self.found.number,
            "outcome": self.outcome(),
            "refused_by": self.refused_by,
            "input": match entry.input {
                EntryInput::File => "file",
                EntryInput::Api => "api",
                EntryInput::Agent => "agent",
            },
            "path": self.path.as_ref().map(|path| path.display().to_string()),
            "offset": is_file.then_some(entry.offset),
            "length": entry.length,
            "unreadable": entry.flags & UNREADABLE != 0,
            "sha256": hex(&entry.digest),
            "checkpoint": checkpoint,
        })
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let entry = &self.found.entry;
        let unreadable = if entry.flags & UNREADABLE != 0 { "; the record could not be parsed" } else { "" };
        writeln!(out, "event {}", self.id)?;
        writeln!(out, "  time        {}", self.time().as_deref().unwrap_or("the record has none"))?;
        writeln!(out, "  source      {}", escape(&self.found.ledger.source))?;
        writeln!(out, "  read from   {}{unreadable}", self.input_text())?;
        writeln!(out, "  outcome     {}", self.outcome_text())?;
        writeln!(out, "  original    SHA-256 {}", hex(&entry.digest))?;
        writeln!(out, "  entry       {}", number(self.found.number))?;
        let Some(stored) = &self.checkpoint else {
            return writeln!(out, "  checkpoint  none yet; the agent signs at intervals and when it stops");
        };
        let size = counted(stored.checkpoint.size, "entry", "entries");
        writeln!(out, "  checkpoint  {}, with {size}", stored.number)?;
        let by = self.signed_by.as_deref().unwrap_or("no key that is known here; see `verify --key`");
        writeln!(out, "  signed by   {}", escape(by))?;
        writeln!(out, "  origin      {}", escape(&stored.checkpoint.origin))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
