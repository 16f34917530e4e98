//! The command `verify`: whether an export is what the ledger says was delivered.

mod print;

use super::findings::DescribedFinding;
use super::output::complain;
use super::progress::Progress;
use crate::cli::{LedgerLocation, VerifyArgs};
use crate::config;
use crate::evidence::compare::{Scope, Side};
use crate::evidence::export::{self, Export, ExportError, ExportPlace};
use crate::evidence::finding::{Days, Finding};
use crate::evidence::ledgers::{self, LedgerError, LedgerPlace, LoadedEntries, SourceLedger};
use crate::evidence::live::{CompareError, compare_live};
use crate::evidence::sort::Sorter;
use crate::exit;
use crate::ledger::{EntryKind, Verifier, key};
use crate::telemetry::chain;
use print::Output;
use std::io::{self, Write};

/// What is compared of a ledger is 80 bytes an entry.
const ENTRY_BYTES: u64 = 80;

/// Why `verify` ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum VerifyFailure {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("failed to sort in a temporary file")]
    Temporary(#[source] io::Error),
    /// Standard output.
    #[error(transparent)]
    Output(#[from] io::Error),
}

impl From<CompareError> for VerifyFailure {
    fn from(error: CompareError) -> VerifyFailure {
        match error {
            CompareError::Ledger(error) => VerifyFailure::Ledger(error),
            CompareError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                VerifyFailure::Output(error)
            }
            CompareError::Io(error) => VerifyFailure::Temporary(error),
        }
    }
}

/// What `verify` has found out.
#[derive(Default)]
pub(super) struct Verified {
    /// `None`: there was no export to compare.
    export: Option<(Export, Days)>,
    damaged_entries: u64,
}

/// Verifies ledgers, and exports against them. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn verify(args: &VerifyArgs, out: &mut impl Write) -> io::Result<u8> {
    let keys = match keys(&args.key) {
        Ok(keys) => keys,
        Err(code) => return Ok(code),
    };
    let place = match place(&args.location) {
        Ok(place) => place,
        Err(errors) => {
            complain(&errors.to_string());
            return Ok(errors.exit_code());
        }
    };
    match verify_all(args, &place, keys, out) {
        Ok(code) => Ok(code),
        Err(VerifyFailure::Output(error)) => Err(error),
        Err(error) => {
            complain(&chain(&error));
            Ok(exit::TRY_AGAIN)
        }
    }
}

/// The keys on the command line. `Err`: the exit code after an error was printed.
pub(super) fn keys(texts: &[String]) -> Result<Vec<Verifier>, u8> {
    let parse = |text: &String| {
        Verifier::parse(text).ok_or_else(|| {
            complain(&format!("`{text}` is no verifier key; `ledger key` prints it: `name+id+key`"));
            exit::USAGE
        })
    };
    texts.iter().map(parse).collect()
}

/// Where the ledgers are.
pub(super) fn place(location: &LedgerLocation) -> Result<LedgerPlace, config::ConfigErrors> {
    Ok(match location {
        LedgerLocation { tiles: Some(dir), .. } => LedgerPlace::Tiles(dir.clone()),
        LedgerLocation { ledger: Some(dir), .. } => LedgerPlace::Ledger(dir.clone()),
        LedgerLocation { state, .. } => LedgerPlace::State(config::state_dir(state)?),
    })
}

fn verify_all(
    args: &VerifyArgs,
    place: &LedgerPlace,
    mut keys: Vec<Verifier>,
    out: &mut impl Write,
) -> Result<u8, VerifyFailure> {
    let ledgers = place.open(args.location.source.as_deref())?;
    if let LedgerPlace::State(state_dir) = place
        && keys.is_empty()
    {
        let failed = |source| LedgerError::Read { path: state_dir.join("ledger"), source };
        keys = key::published(state_dir).map_err(failed)?;
    }
    let mut output = Output::new(args.json, out);
    output.ledgers(&ledgers, &keys, place)?;
    let mut verified = Verified::default();
    if !args.export.is_empty() {
        verified.export = Some(verify_export(args, &ledgers, &mut verified.damaged_entries, &mut output)?);
    }
    output.end(&verified)
}

fn verify_export(
    args: &VerifyArgs,
    ledgers: &[SourceLedger],
    damaged: &mut u64,
    output: &mut Output<impl Write>,
) -> Result<(Export, Days), VerifyFailure> {
    // The ledger first: what is delivered meanwhile is in the export and not in the ledger yet, never the other way round.
    let (entries, loaded) = load(ledgers)?;
    *damaged = loaded.damaged;
    let files = export::files(&args.export)?;
    let bytes = files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    let mut progress = Progress::new("reading the export", bytes);
    let (mut export, mut rows) = (Export::default(), Sorter::default());
    for file in &files {
        export.read(file, args.site.as_deref(), &mut rows, &mut |bytes| progress.add(bytes))?;
    }
    progress.finish();
    let scope = Scope {
        side: Side::Sink,
        times: args.times.range(),
        dropped_before_ms: loaded.dropped_before_ms,
        is_quarantined: &|entry| entry.kind == EntryKind::Quarantined as u8,
    };
    let entries = entries.finish().map_err(VerifyFailure::Temporary)?;
    let rows = rows.finish().map_err(VerifyFailure::Temporary)?;
    let days = compare_live(ledgers, entries, rows, &scope, |finding| {
        output.finding(describe(finding, ledgers, &export))
    })?;
    Ok((export, days))
}

/// The entries of ledgers as rows.
pub(super) fn load(ledgers: &[SourceLedger]) -> Result<(Sorter, LoadedEntries), LedgerError> {
    let entries: u64 = ledgers.iter().map(|ledger| ledger.kept().end - ledger.kept().start).sum();
    let mut progress = Progress::new("reading the ledger", entries * ENTRY_BYTES);
    let mut rows = Sorter::default();
    let loaded = ledgers::load(ledgers, &mut rows, &mut |entries| progress.add(entries * ENTRY_BYTES))?;
    progress.finish();
    Ok((rows, loaded))
}

/// Adds where a finding is.
pub(super) fn describe(finding: &Finding, ledgers: &[SourceLedger], export: &Export) -> DescribedFinding {
    let mut described = DescribedFinding::new(finding);
    let ledger = finding.entry.and_then(|entry| ledgers.get(usize::from(entry.origin)));
    described.source = ledger.map(|ledger| ledger.source.clone());
    let Some(row) = &finding.found else { return described };
    if let Some(file) = export.files.get(usize::from(row.origin)) {
        described.place = Some(match ExportPlace::of(row) {
            ExportPlace::Line(line) => format!("{}:{line}", file.display()),
            ExportPlace::Element(element) => format!("{}#{element}", file.display()),
        });
    }
    described.members = export.differing(row).to_vec();
    // The members were compared with the original in the event, which is not the one that was delivered.
    if let Some(entry) = &finding.entry
        && entry.digest != row.digest
        && let Some(member) =
            export::ExportFormat::ALL.get(usize::from(row.kind)).and_then(|format| format.original_member())
        && row.has(crate::evidence::row::HAS_DIGEST)
    {
        described.members.insert(0, member.to_owned());
    }
    described
}
