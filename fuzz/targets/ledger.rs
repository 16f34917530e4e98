//! The ledger: entries and summaries are read as they were written, changes are noticed, and no note or proof that was
//! changed is valid.

use super::blocks::{BlockSummary, SpanIndex, Spans};
use super::entry::{ENTRY_BYTES, Entry, EntryInput, EntryKind};
use super::note::{self, Checkpoint, Signature, Signer, Verifier};
use super::segments::{BLOCKS, path};
use super::{Checkpoints, LedgerReader, Limits, Proof, SharedLedger, check, sign_file, verify_file};
use crate::fuzz::input::{Input, memory_dir};
use crate::position::LedgerPosition;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const ORIGIN: &str = "confluence-audit-agent/7f3d/wiki";
/// Entries of the ledger that is tampered with, and how many of them each checkpoint covers.
const ENTRIES: u64 = 330;
const SIGNED: [u64; 3] = [10, 260, 320];

fn done<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

fn signer() -> Signer {
    Signer::new("confluence-audit-agent/7f3d", &[1; 32]).unwrap_or_else(|| panic!("no signer"))
}

/// Applies what is left of an input as changes of single bytes, cuts and insertions.
fn change(input: &mut Input, bytes: &mut Vec<u8>) {
    while !input.0.is_empty() {
        let at = (usize::from(input.byte()) << 8 | usize::from(input.byte())) % (bytes.len() + 1);
        match input.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.splice(at..at, input.bytes().iter().copied()).for_each(drop),
            2 => bytes.splice(at..(at + input.below(64)).min(bytes.len()), []).for_each(drop),
            _ if at < bytes.len() => bytes[at] = input.byte(),
            _ => {}
        }
    }
}

pub(crate) fn ledger_entry(data: &[u8]) {
    let mut index = SpanIndex::starting_at(0);
    let mut blocks = Vec::new();
    for block in data.chunks(2 * ENTRY_BYTES) {
        let entries: Vec<Entry> = block.chunks(ENTRY_BYTES).filter_map(entry).collect();
        let mut spans = Spans::default();
        entries.iter().for_each(|entry| spans.add(entry));
        let summary = BlockSummary { spans, hash: [7; 32] };
        let bytes = summary.to_bytes();
        assert_eq!((BlockSummary::spans_from(&bytes), BlockSummary::hash_from(&bytes)), (spans, [7; 32]));
        index.push(spans);
        blocks.push(entries);
    }
    // Each entry is found in its block.
    for (number, entry) in
        (0..).zip(&blocks).flat_map(|(number, block)| block.iter().map(move |e| (number, e)))
    {
        if entry.keys().next().is_none() {
            continue;
        }
        match entry.lookup() {
            Some(lookup) => assert!(index.candidates(lookup).any(|block| block == number), "{entry:?}"),
            None => assert!(index.untimed().any(|block| block == number), "{entry:?}"),
        }
    }
}

/// Only what an entry is written as is read as one.
fn entry(bytes: &[u8]) -> Option<Entry> {
    let entry = Entry::from_bytes(bytes)?;
    assert_eq!(entry.to_bytes(), bytes);
    Some(entry)
}

pub(crate) fn note(data: &[u8]) {
    let mut input = Input(data);
    let what = input.below(3);
    if what == 0 {
        return any_text(&String::from_utf8_lossy(input.0));
    }
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 260, root: [9; 32] };
    let is_report = what == 2;
    let note = if is_report { sign_file(b"report", &signer()) } else { signer().sign(&checkpoint) };
    let mut changed = note.clone().into_bytes();
    change(&mut input, &mut changed);
    let changed = String::from_utf8_lossy(&changed);
    let key = signer().verifier();
    let keys = [key.clone()];
    if is_report {
        assert!(key.open(&changed).is_none());
        assert!(verify_file(b"report.", &changed, &keys).is_err());
        assert!(verify_file(b"report", &note, &keys).is_ok());
    } else if let Some(opened) = key.open(&changed) {
        assert_eq!(opened, checkpoint, "{changed}");
    }
    assert!(verify_file(b"report", &changed, &keys).is_err() || is_report);
    // It is valid only if it begins with the text that was signed.
    let text = note.split("\n\n").next().unwrap_or_default();
    let is_valid = key.signature(&changed) == Signature::Valid;
    assert!(!is_valid || changed.starts_with(&format!("{text}\n\n")), "{changed}");
}

fn any_text(text: &str) {
    if let Some(verifier) = Verifier::parse(text) {
        assert_eq!(Verifier::parse(&verifier.to_string()).as_ref(), Some(&verifier));
        assert!(verifier.short().starts_with(verifier.name()));
    }
    let notes = note::split_notes(text);
    assert!(text.starts_with(&notes.concat()));
    if let Some(checkpoint) = Checkpoint::parse(text) {
        let begin = format!("{}\n{}\n", checkpoint.origin, checkpoint.size);
        assert!(text.starts_with(&begin), "{text}");
    }
    note::signers(text);
    assert_eq!(signer().verifier().signature(text), Signature::Missing);
    if let Some(cosigned) = signer().cosign(text) {
        assert_eq!(signer().verifier().signature(&cosigned), Signature::Valid, "{cosigned}");
    }
    if let Some(proof) = Proof::parse(text) {
        assert_eq!(Proof::parse(&proof.to_string()), Some(proof));
    }
}

/// A signed ledger: its files with their names relative to its directory, and its position.
struct Signed {
    files: BTreeMap<PathBuf, Vec<u8>>,
    position: LedgerPosition,
    proof: String,
}

static SIGNED_LEDGER: LazyLock<Signed> = LazyLock::new(|| {
    let dir = done(tempfile::tempdir());
    let dir = dir.path();
    let (ledger, _) = done(SharedLedger::open(dir, &LedgerPosition::default(), Limits::NONE));
    let mut checkpoints = done(Checkpoints::open(dir, ORIGIN, signer()));
    let mut at = 0;
    let mut position = LedgerPosition::default();
    for size in SIGNED.into_iter().chain([ENTRIES]) {
        ledger.append(&(at..size).map(nth).collect::<Vec<_>>());
        if let Some(committed) = done(ledger.commit()) {
            position = committed;
        }
        if size < ENTRIES {
            done(checkpoints.sign(&position));
        }
        at = size;
    }
    let reader = done(LedgerReader::open(dir)).unwrap_or_else(|| panic!("no ledger"));
    let notes = done(reader.checkpoints());
    let proof = done(Proof::new(&reader, 100, &notes[1])).unwrap_or_else(|| panic!("no proof"));
    let mut files = BTreeMap::new();
    for name in [path(Path::new(""), 0), BLOCKS.into(), "checkpoint".into(), "checkpoints".into()] {
        if let Ok(bytes) = fs::read(dir.join(&name)) {
            files.insert(name, bytes);
        }
    }
    Signed { files, position, proof: proof.to_string() }
});

fn nth(n: u64) -> Entry {
    Entry {
        kind: EntryKind::Delivered,
        input: if n.is_multiple_of(3) { EntryInput::Api } else { EntryInput::File },
        flags: 0,
        file: 1,
        time_ms: 1000 + n as i64 / 3,
        id: u128::from(n) << 64 | 5,
        offset: n * 100,
        length: 100,
        digest: [n as u8; 32],
    }
}

pub(crate) fn proof(data: &[u8]) {
    let mut changed = SIGNED_LEDGER.proof.clone().into_bytes();
    let mut input = Input(data);
    match input.flag() {
        true => changed = input.0.to_vec(),
        false => change(&mut input, &mut changed),
    }
    let changed = String::from_utf8_lossy(&changed);
    let Some(proof) = Proof::parse(&changed) else {
        return;
    };
    assert_eq!(Proof::parse(&proof.to_string()).as_ref(), Some(&proof));
    // Whoever changes it cannot prove another entry.
    if let Ok(proven) = proof.verify(&[signer().verifier()]) {
        assert_eq!((proven.number, proven.entry), (100, nth(100)), "{changed}");
        assert_eq!(proven.checkpoint.size, SIGNED[1]);
    }
}

pub(crate) fn ledger_files(data: &[u8]) {
    let signed = &*SIGNED_LEDGER;
    let mut input = Input(data);
    let at = input.below(signed.files.len());
    let opens = input.flag();
    let dir = done(tempfile::Builder::new().prefix("fuzz-").tempdir_in(memory_dir()));
    done(fs::create_dir(dir.path().join(super::segments::ENTRIES)));
    let mut is_tampered = false;
    for (number, (name, bytes)) in signed.files.iter().enumerate() {
        let mut bytes = bytes.clone();
        if number == at {
            change(&mut input, &mut bytes);
            let covered = SIGNED[2] as usize * ENTRY_BYTES;
            let is_entries = *name == path(Path::new(""), 0);
            is_tampered = is_entries && bytes.get(..covered) != signed.files[name].get(..covered);
        }
        done(fs::write(dir.path().join(name), bytes));
    }
    let reader = done(LedgerReader::open(dir.path())).unwrap_or_else(|| panic!("no ledger"));
    let checked = done(check(&reader, &[signer().verifier()], &[], &mut |_| {}));
    assert!(checked.vouched <= SIGNED[2]);
    assert!(!is_tampered || !checked.findings.is_empty());
    for entry in reader.entries(0..u64::MAX) {
        if let (number, Some(entry)) = done(entry) {
            assert!(is_tampered || number >= SIGNED[2] || entry == nth(number));
        }
    }
    if opens {
        let (ledger, damage) = done(SharedLedger::open(dir.path(), &signed.position, Limits::NONE));
        assert!(damage.is_empty() || reader.size() < ENTRIES);
        ledger.append(&[nth(ENTRIES)]);
        let position = done(ledger.commit());
        assert_eq!(position.map(|position| position.size), Some(ENTRIES + 1));
    }
}
