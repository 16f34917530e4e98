//! Exports: what a sink holds, as files. Reads the output of the file sink, answers and dumps of Elasticsearch and
//! OpenSearch, exports of Splunk, other lines of JSON or CEF, and Confluence's own records; also compressed.
//!
//! Reading order: `frame` (from bytes to items), `json` (members of an item), `event` (what event it is), `members`
//! (whether an event still says what its original says).

mod event;
mod export_format;
mod frame;
#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/targets/export.rs"]
pub(crate) mod fuzz;
mod json;
mod members;
#[cfg(test)]
mod tests;

pub(crate) use event::{ExportedNotice, Recogniser};
pub(crate) use export_format::ExportFormat;

use super::row::{HAS_DIGEST, Row};
use super::sort::Sorter;
use crate::config::Compression;
use crate::notice::{HEARTBEAT, LEDGER_SEALED};
use crate::sink::{compress, file};
use event::Recognised;
use frame::Items;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The agent writes a batch at once, but not in one step: this long the rest of a line may take.
const LINE_END_POLLS: u32 = 3;
const LINE_END_POLL: Duration = Duration::from_millis(100);
/// Events whose differing members are named.
const NAMED_EVENTS_MAX: usize = 10_000;
/// Events of the agent itself that are kept: one an hour for eleven years.
const NOTICES_MAX: usize = 100_000;
/// Events that say how old the first ones are.
const FIRST_EVENTS: u64 = 32;
/// Problems that are described.
const PROBLEMS_MAX: usize = 100;

/// Where an event is in its file. Ordered by file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportPlace {
    /// Number of the line, from 1.
    Line(u64),
    /// Number of the element of a list, from 1.
    Element(u64),
}

const IS_ELEMENT: u64 = 1 << 63;

impl ExportPlace {
    fn to_number(self) -> u64 {
        match self {
            ExportPlace::Line(line) => line,
            ExportPlace::Element(element) => element | IS_ELEMENT,
        }
    }

    pub(crate) fn of(row: &Row) -> ExportPlace {
        match row.place & IS_ELEMENT {
            0 => ExportPlace::Line(row.place),
            _ => ExportPlace::Element(row.place & !IS_ELEMENT),
        }
    }
}

/// What an export contains that cannot be compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExportProblem {
    /// Index of the file.
    pub file: usize,
    pub line: u64,
    pub problem: &'static str,
}

pub(crate) const CUT: &str = "the export ends in the middle of an event";
pub(crate) const FOREIGN: &str = "no event of this agent";

/// Where an event was found, as it is there.
pub(crate) struct FoundItem<'a> {
    pub bytes: &'a [u8],
    /// Offset in its file, in bytes.
    pub offset: u64,
}

/// What was read of an export.
#[derive(Debug, Default)]
pub(crate) struct Export {
    /// In the order in which they were read.
    pub files: Vec<PathBuf>,
    pub bytes: u64,
    pub events: u64,
    /// Newest time of the first events: what is older may have been deleted before.
    pub first_ms: Option<i64>,
    /// Number of events of each of [`ExportFormat::ALL`].
    pub formats: [u64; ExportFormat::ALL.len()],
    /// Events that hold their original, of those that can.
    pub originals: u64,
    /// Events of another version of the agent: their members are not compared with their originals.
    pub other_versions: u64,
    /// Items that are no events of this agent.
    pub foreign: u64,
    /// Files that end in the middle of an event.
    pub cut: u64,
    /// The first of them.
    pub problems: Vec<ExportProblem>,
    /// Events of the agent itself, signed checkpoints among them.
    pub notices: Vec<ExportedNotice>,
    /// Names of members that differ from the original, by file and place.
    differing: HashMap<(u16, u64), Vec<String>>,
}

/// A file of an export cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the export `{}`", path.display())]
pub(crate) struct ExportError {
    path: PathBuf,
    source: io::Error,
}

impl Export {
    /// Signed checkpoints of ledgers, which the agent has published as events.
    pub(crate) fn notes(&self) -> Vec<String> {
        let sealed = self.notices.iter().filter(|notice| notice.action == LEDGER_SEALED);
        sealed.filter_map(|notice| notice.original.clone()).collect()
    }

    /// The members of an exported event that are not what its original says.
    pub(crate) fn differing(&self, row: &Row) -> &[String] {
        self.differing.get(&(row.origin, row.place)).map_or(&[], Vec::as_slice)
    }

    /// Reads a file into rows. `read` is called with the number of bytes that were read from the disk.
    pub(crate) fn read(
        &mut self,
        path: &Path,
        site: Option<&str>,
        rows: &mut Sorter,
        read: &mut dyn FnMut(u64),
    ) -> Result<(), ExportError> {
        let failed = |source| ExportError { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        self.read_opened(path, file, &mut Recogniser::new(site), rows, read)
    }

    /// As [`Export::read`]. Records of files that follow each other need one recogniser.
    pub(crate) fn read_opened(
        &mut self,
        path: &Path,
        file: File,
        recogniser: &mut Recogniser,
        rows: &mut Sorter,
        read: &mut dyn FnMut(u64),
    ) -> Result<(), ExportError> {
        let failed = |source| ExportError { path: path.to_owned(), source };
        self.files.push(path.to_owned());
        let from = decompressed(file, read).map_err(failed)?;
        self.read_items(from, recogniser, &mut |row, _| rows.push(row)).map_err(failed)
    }

    /// As [`Export::read_opened`], and calls `found` with each event.
    pub(crate) fn read_each(
        &mut self,
        path: &Path,
        file: File,
        recogniser: &mut Recogniser,
        found: &mut dyn FnMut(&Row, &FoundItem) -> io::Result<()>,
    ) -> Result<(), ExportError> {
        let failed = |source| ExportError { path: path.to_owned(), source };
        self.files.push(path.to_owned());
        let mut read = |_| {};
        let from = decompressed(file, &mut read).map_err(failed)?;
        self.read_items(from, recogniser, found).map_err(failed)
    }

    /// Reads items from anywhere. `found` is called with each event.
    pub(crate) fn read_items(
        &mut self,
        from: impl Read,
        recogniser: &mut Recogniser,
        found: &mut dyn FnMut(&Row, &FoundItem) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = self.files.len().saturating_sub(1);
        let mut items = Items::new(from);
        while let Some(item) = items.next()? {
            self.bytes += item.bytes.len() as u64;
            let line = item.line;
            if item.is_cut {
                self.cut += 1;
                self.add_problem(file, line, CUT);
                continue;
            }
            match recogniser.recognise(item.bytes) {
                Recognised::Event { mut row, format, differing, notice } => {
                    // There are many heartbeats, and a report has no use for them.
                    let notice = notice.filter(|notice| notice.action != HEARTBEAT);
                    self.notices.extend(notice.filter(|_| self.notices.len() < NOTICES_MAX));
                    let place = item.element.map_or(ExportPlace::Line(line), ExportPlace::Element);
                    (row.origin, row.place) = (file as u16, place.to_number());
                    self.add(&row, format, differing);
                    found(&row, &FoundItem { bytes: item.bytes, offset: item.offset })?;
                }
                Recognised::Wrapper => {}
                Recognised::Foreign => {
                    self.foreign += 1;
                    self.add_problem(file, line, FOREIGN);
                }
            }
        }
        self.other_versions += recogniser.take_other_versions();
        Ok(())
    }

    fn add(&mut self, row: &Row, format: ExportFormat, differing: Vec<String>) {
        if self.events < FIRST_EVENTS {
            self.first_ms = self.first_ms.max(row.time());
        }
        self.events += 1;
        self.originals += u64::from(row.has(HAS_DIGEST));
        self.formats[usize::from(format.code())] += 1;
        if !differing.is_empty() && self.differing.len() < NAMED_EVENTS_MAX {
            self.differing.insert((row.origin, row.place), differing);
        }
    }

    fn add_problem(&mut self, file: usize, line: u64, problem: &'static str) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(ExportProblem { file, line, problem });
        }
    }
}

/// The files that paths name: a directory stands for the files in it, and an output of the file sink for its rotated
/// files too. Each file once, in the order of its output's rotation.
pub(crate) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ExportError> {
    let (mut files, mut known) = (Vec::new(), BTreeSet::new());
    for path in paths {
        let failed = |source| ExportError { path: path.clone(), source };
        let found = if path.is_dir() {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(path).map_err(failed)? {
                names.push(entry.map_err(failed)?.path());
            }
            names.retain(|name| name.is_file());
            names.sort();
            names
        } else {
            file::outputs(path).map_err(failed)?
        };
        for file in found {
            // What does not exist is reported when it is read.
            let identity = file.canonicalize().unwrap_or_else(|_| file.clone());
            if known.insert(identity) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// The content of a file, compressed or not: it says which.
fn decompressed<'a>(mut file: File, read: &'a mut dyn FnMut(u64)) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0; 4];
    let mut known = 0;
    while known < magic.len() {
        match file.read(&mut magic[known..])? {
            0 => break,
            count => known += count,
        }
    }
    let magic = &magic[..known];
    let compression = match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::None,
    };
    let from = io::Cursor::new(magic.to_owned()).chain(Counted { file, read });
    match compression {
        Compression::None => Ok(Box::new(UntilLineEnd { from, last: b'\n' })),
        compression => compress::decoder(BufReader::with_capacity(256 << 10, from), compression),
    }
}

/// Counts what is read.
struct Counted<'a> {
    file: File,
    read: &'a mut dyn FnMut(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        (self.read)(count as u64);
        Ok(count)
    }
}

/// At the end of a file that is being written, waits a moment for the rest of its last line.
struct UntilLineEnd<R> {
    from: R,
    last: u8,
}

impl<R: Read> Read for UntilLineEnd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for poll in 0.. {
            let count = self.from.read(buffer)?;
            if let Some(last) = buffer[..count].last() {
                self.last = *last;
                return Ok(count);
            }
            if buffer.is_empty() || self.last == b'\n' || poll == LINE_END_POLLS {
                break;
            }
            std::thread::sleep(LINE_END_POLL);
        }
        Ok(0)
    }
}
