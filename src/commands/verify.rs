//! The command `verify`: whether an export is what the ledger says was delivered.

mod print;

use super::findings::DescribedFinding;
use super::output::print_error;
use super::progress::Progress;
use crate::cli::{LedgerLocation, VerifyArgs};
use crate::config;
use crate::evidence::compare::{Scope, Side};
use crate::evidence::export::{self, Export, ExportError, ExportFormat, ExportPlace};
use crate::evidence::finding::{Days, Finding, FindingKind};
use crate::evidence::ledgers::{LedgerError, LedgerPlace, LoadedEntries, SourceLedger};
use crate::evidence::live::{CompareError, compare_live};
use crate::evidence::sort::Sorter;
use crate::exit;
use crate::ledger::{self, EntryKind, LedgerCheck, Verifier, key};
use crate::telemetry::chain;
use print::Output;
pub(super) use print::{no_keys, print_unchecked, unchecked, unchecked_of};
use std::io::{self, Write};
use std::path::PathBuf;

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
    #[error("cannot read the quarantine: {0}")]
    Quarantine(String),
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

/// Verifies ledgers, and exports against them. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn verify(args: &VerifyArgs, out: &mut impl Write) -> io::Result<u8> {
    let (keys, place) = match keys_and_place(&args.key, &args.location) {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    match verify_all(args, &place, keys, out) {
        Ok(code) => Ok(code),
        Err(VerifyFailure::Output(error)) => Err(error),
        Err(error) => {
            print_error(&chain(&error));
            Ok(exit::TRY_AGAIN)
        }
    }
}

/// The given keys, and where the ledgers are. What is wrong is printed, and its exit code returned.
pub(super) fn keys_and_place(
    texts: &[String],
    location: &LedgerLocation,
) -> Result<(Vec<Verifier>, LedgerPlace), u8> {
    let place = || {
        place(location).map_err(|errors| {
            print_error(&errors.to_string());
            errors.exit_code()
        })
    };
    Ok((keys(texts)?, place()?))
}

/// The keys on the command line. `Err`: the exit code after an error was printed.
pub(super) fn keys(texts: &[String]) -> Result<Vec<Verifier>, u8> {
    let parse = |text: &String| {
        Verifier::parse(text).ok_or_else(|| {
            print_error(&format!("`{text}` is no verifier key; `ledger key` prints it: `name+id+key`"));
            exit::USAGE
        })
    };
    texts.iter().map(parse).collect()
}

/// Without a key on the command line, those in the state directory.
pub(super) fn add_published(place: &LedgerPlace, keys: &mut Vec<Verifier>) -> Result<(), VerifyFailure> {
    if let LedgerPlace::State(state_dir) = place
        && keys.is_empty()
    {
        let failed = |source| LedgerError::Read { path: state_dir.join("ledger"), source };
        *keys = key::published(state_dir).map_err(failed)?;
    }
    Ok(())
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
    add_published(place, &mut keys)?;
    let mut output = Output::new(args.json, out);
    if keys.is_empty() {
        output.no_keys(place.path());
    }
    let compared = match args.export.is_empty() {
        true => None,
        false => Some(verify_export(args, &ledgers, &mut output)?),
    };
    let notes = compared.as_ref().map_or_else(Vec::new, |(export, _)| export.notes());
    for ledger in &ledgers {
        let (given, of_other_logs) = notes_of(ledger, ledgers.len() == 1, &notes)?;
        let check = check_ledger(ledger, &keys, &given)?;
        output.ledger(ledger, &check, given.len(), of_other_logs)?;
    }
    output.end(compared.as_ref())
}

/// The published checkpoints of a ledger, and the number of those of its earlier logs.
pub(super) fn notes_of(
    ledger: &SourceLedger,
    is_only_one: bool,
    notes: &[String],
) -> Result<(Vec<String>, usize), VerifyFailure> {
    let own = ledger.checkpoints()?;
    let origin = |note: &str| note.lines().next().unwrap_or_default().to_owned();
    let own = own.last().map(|note| origin(note));
    let directory = ledger.dir.file_name().unwrap_or_default().to_string_lossy();
    // `confluence-audit-agent/<agent>/<source>`, from the second log on with its number.
    let source = |origin: &str| origin.split('/').nth(2).unwrap_or_default().to_owned();
    let own_source = own.as_deref().map_or_else(|| directory.into_owned(), source);
    let of_source = notes.iter().filter(|note| is_only_one || source(&origin(note)) == own_source);
    let (given, others): (Vec<&String>, Vec<&String>) =
        of_source.partition(|note| own.as_ref().is_none_or(|own| *own == origin(note)));
    Ok((given.into_iter().cloned().collect(), others.len()))
}

pub(super) fn check_ledger(
    ledger: &SourceLedger,
    keys: &[Verifier],
    given: &[String],
) -> Result<LedgerCheck, VerifyFailure> {
    let kept = ledger.kept();
    let mut progress = Progress::new("hashing the ledger", (kept.end - kept.start) * ENTRY_BYTES);
    let mut last = kept.start;
    let checked = ledger::check(&ledger.reader, keys, given, &mut |entry| {
        progress.add(entry.saturating_sub(last) * ENTRY_BYTES);
        last = last.max(entry);
    });
    progress.finish();
    Ok(checked.map_err(|source| LedgerError::Read { path: ledger.dir.clone(), source })?)
}

fn verify_export(
    args: &VerifyArgs,
    ledgers: &[SourceLedger],
    output: &mut Output<impl Write>,
) -> Result<(Export, Days), VerifyFailure> {
    // The ledger first: what is delivered meanwhile is in the export and not in the ledger yet, never the other way
    // round.
    let (entries, loaded) = load(ledgers)?;
    let (export, rows) = read_export(&args.export, args.site.as_deref())?;
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

/// Reads the files of an export into rows.
pub(super) fn read_export(paths: &[PathBuf], site: Option<&str>) -> Result<(Export, Sorter), ExportError> {
    let files = export::files(paths)?;
    let bytes = files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    let mut progress = Progress::new("reading the export", bytes);
    let (mut export, mut rows) = (Export::default(), Sorter::default());
    for file in &files {
        export.read(file, site, &mut rows, &mut |bytes| progress.add(bytes))?;
    }
    progress.finish();
    Ok((export, rows))
}

/// The entries of ledgers as rows.
pub(super) fn load(ledgers: &[SourceLedger]) -> Result<(Sorter, LoadedEntries), LedgerError> {
    let entries: u64 = ledgers.iter().map(|ledger| ledger.kept().end - ledger.kept().start).sum();
    let mut progress = Progress::new("reading the ledger", entries * ENTRY_BYTES);
    let mut rows = Sorter::default();
    let loaded = crate::evidence::ledgers::load(ledgers, &mut rows, &mut |entries| {
        progress.add(entries * ENTRY_BYTES)
    })?;
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
    let format = ExportFormat::ALL.get(usize::from(row.kind));
    if finding.kind == FindingKind::Altered
        && finding.entry.is_some_and(|entry| entry.digest != row.digest)
        && let Some(member) = format.and_then(|format| format.original_member())
    {
        described.members.insert(0, member.to_owned());
    }
    described
}
