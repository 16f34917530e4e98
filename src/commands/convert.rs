//! The command `convert`: encodes records as events. Has no state.

mod documents;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/documents.rs"]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::config::HostFields;
use crate::enrich::host;
use crate::format::{Agent, Context, Event, EventBuffer, Format, FormatKind, Origin};
use crate::record::twins::Twins;
use crate::record::{self, IdHasher, Parsed, Scratch, Shape};
use crate::source::api::page::{rows_of_list, rows_of_response};
use crate::telemetry::escape::escape_path;
use crate::{clock, exit};
use documents::{DOCUMENT_BYTES_MAX, Document, each_document};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to write to standard output")]
    Write(#[source] io::Error),
}

/// Reads `inputs` in order; `-` or an empty list is `stdin`. Writes one event per line to `stdout`. An input
/// may be gzipped, and may contain one record per line and whole API responses in any layout. Lines and
/// responses that are too long are reported to `stderr`. Returns the exit code.
pub fn run(
    format: FormatKind,
    site: Option<&str>,
    inputs: &[PathBuf],
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<u8, Error> {
    let host = host::gather(HostFields::All);
    let context = Context {
        tags: None,
        namespace: "default".to_owned(),
        site: site.map(str::to_owned),
        // These ids belong to an agent with state.
        agent: Agent {
            id: String::new(),
            ephemeral_id: String::new(),
            name: host.name.clone().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        host: Some(host),
        // The present location of an address does not apply to old records, and the cloud instance is
        // unrelated to a conversion.
        cloud: None,
        geo: None,
        preserve_original_event: true,
    };
    let mut writer = EventWriter {
        format: Format::new(format, &context),
        ids: IdHasher::new(site),
        twins: Twins::default(),
        scratch: Scratch::default(),
        base: 0,
        read_at_ms: clock::now_ms(),
        out: EventBuffer::new(),
        stdout: BufWriter::with_capacity(64 * 1024, stdout),
        too_long: None,
    };
    let standard_input = [PathBuf::from("-")];
    let inputs = if inputs.is_empty() { &standard_input } else { inputs };
    let mut code = exit::OK;
    let result = inputs
        .iter()
        .try_for_each(|path| {
            let result = convert(path, stdin, &mut writer);
            if let Some(too_long) = writer.too_long.take() {
                code = exit::DATA;
                // Without stderr the exit code still reports it.
                let _ = writeln!(stderr, "`{}`: {too_long}", escape_path(path));
            }
            result
        })
        .and_then(|()| writer.stdout.flush().map_err(Error::Write));
    match result {
        // The reader has closed the pipe.
        Err(Error::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            // Buffered output must not be written again when the writer is dropped.
            let _ = writer.stdout.into_parts();
            Ok(exit::OK)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(code),
    }
}

fn convert(path: &Path, stdin: &mut dyn Read, writer: &mut EventWriter) -> Result<(), Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let (input, path_json): (Box<dyn Read + '_>, _) = if path == Path::new("-") {
        (Box::new(stdin), None)
    } else {
        let absolute = std::path::absolute(path).map_err(failed)?;
        let path_json = serde_json::Value::from(absolute.to_string_lossy()).to_string();
        (Box::new(File::open(path).map_err(failed)?), Some(path_json))
    };
    let read = each_document(input, |document| {
        writer.document(document, path_json.as_deref()).map_err(ConvertFailure::Write)
    });
    match read {
        Ok(bytes) => writer.base += bytes,
        Err(ConvertFailure::Read(error)) => return Err(failed(error)),
        Err(ConvertFailure::Write(error)) => return Err(Error::Write(error)),
    }
    Ok(())
}

/// An unreadable input, or an output that cannot be written.
enum ConvertFailure {
    Read(io::Error),
    Write(io::Error),
}

impl From<io::Error> for ConvertFailure {
    fn from(error: io::Error) -> Self {
        ConvertFailure::Read(error)
    }
}

/// Lines and responses of an input that are too long.
struct TooLong {
    count: u64,
    /// Offset of the first one.
    offset: u64,
}

impl fmt::Display for TooLong {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let what = if self.count == 1 { "line or response" } else { "lines or responses" };
        write!(
            out,
            "{} {what} longer than {} MiB, the first at offset {}; a line that is too long becomes one error event, \
             a response that is too long is read line by line",
            self.count,
            DOCUMENT_BYTES_MAX >> 20,
            self.offset,
        )
    }
}

struct EventWriter<'w> {
    format: Format,
    ids: IdHasher,
    twins: Twins,
    scratch: Scratch,
    /// Size of all inputs before this one: twins are counted across inputs.
    base: u64,
    read_at_ms: i64,
    out: EventBuffer,
    stdout: BufWriter<&'w mut dyn Write>,
    too_long: Option<TooLong>,
}

impl EventWriter<'_> {
    /// Writes the events of a document: one record, or a response with many.
    fn document(&mut self, document: Document, path_json: Option<&str>) -> io::Result<()> {
        match document {
            Document::Whole(bytes, offset) => self.whole(bytes, path_json, offset),
            Document::Malformed { prefix, offset, bytes, hash, error } => {
                if bytes > DOCUMENT_BYTES_MAX as u64 {
                    self.count_too_long(offset);
                }
                let malformed =
                    Parsed::Unreadable { error, bytes: prefix, whole_hash: Some(u128::from(hash)) };
                self.event(&malformed, origin(path_json, offset), self.base + offset)
            }
            Document::TooLong(offset) => {
                self.count_too_long(offset);
                Ok(())
            }
        }
    }

    fn count_too_long(&mut self, offset: u64) {
        let found = self.too_long.get_or_insert(TooLong { count: 0, offset });
        found.count += 1;
    }

    fn whole(&mut self, bytes: &[u8], path_json: Option<&str>, offset: u64) -> io::Result<()> {
        let at = self.base + offset;
        let mut scratch = std::mem::take(&mut self.scratch);
        let parsed = record::parse(bytes, &mut scratch);
        let written = match &parsed {
            // A line as it is in a file.
            Parsed::Record(record) if record.shape == Shape::File && !bytes.contains(&b'\n') => {
                self.event(&parsed, origin(path_json, offset), at)
            }
            Parsed::Record(record) => {
                let path_json = path_json.filter(|_| record.shape == Shape::File);
                self.row(bytes, origin(path_json, offset), at)
            }
            Parsed::Unreadable { .. } => {
                let answer = String::from_utf8_lossy(bytes);
                match rows(answer.as_bytes()) {
                    Some(rows) => rows.into_iter().try_for_each(|row| {
                        let at = at + row.start as u64;
                        self.row(&answer.as_bytes()[row], Origin::Api, at)
                    }),
                    None => self.event(&parsed, origin(path_json, offset), at),
                }
            }
        };
        self.scratch = scratch;
        written
    }

    /// Writes the event of an API record. White space of the record is not kept.
    fn row(&mut self, row: &[u8], origin: Origin, at: u64) -> io::Result<()> {
        let mut scratch = Scratch::default();
        let row = record::without_blanks(row);
        self.event(&record::parse(&row, &mut scratch), origin, at)
    }

    fn event(&mut self, parsed: &Parsed, origin: Origin, at: u64) -> io::Result<()> {
        let id = self.ids.id(parsed);
        let id = id.twin(self.twins.number(id, at));
        let event = Event { content: parsed, id, origin, self_poll: false, read_at_ms: self.read_at_ms };
        self.out.bytes.clear();
        self.format.write(&event, &mut self.out);
        self.out.bytes.push(b'\n');
        self.stdout.write_all(&self.out.bytes)
    }
}

fn origin(path_json: Option<&str>, offset: u64) -> Origin<'_> {
    match path_json {
        Some(path_json) => Origin::File { path_json, offset, unterminated: false },
        None => Origin::Api,
    }
}

/// The positions of the rows in an API response or a list. Each row becomes an event, whatever it is.
fn rows(answer: &[u8]) -> Option<Vec<Range<usize>>> {
    match answer.trim_ascii_start().first() {
        Some(b'{') => rows_of_response(answer),
        Some(b'[') => rows_of_list(answer),
        _ => None,
    }
}
