//! `convert`: records in, events out. Keeps no state.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;

use crate::enrich::host;
use crate::format::{Agent, Context, Format, Item, Name, Origin, Out};
use crate::record::{self, IdHasher, Parsed, Scratch, Shape, Token, walk};
use crate::{clock, exit};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to write to standard output")]
    Write(#[source] io::Error),
}

/// Reads `inputs` in order, `-` or none at all being `stdin`, and writes one event a line to `stdout`. Each may be
/// gzipped and may hold records one a line, and whole API answers in any layout. Returns the exit code.
pub fn run(
    format: Name,
    site: Option<&str>,
    inputs: &[PathBuf],
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
) -> Result<u8, Error> {
    let host = host::gather();
    let context = Context {
        tags: None,
        namespace: "default".to_owned(),
        site: site.map(str::to_owned),
        // Both ids belong to an agent that keeps state; events that are converted come from none.
        agent: Agent {
            id: String::new(),
            ephemeral_id: String::new(),
            name: host.name.clone().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        host: Some(host),
        preserve_original: true,
    };
    let mut writer = EventWriter {
        format: Format::new(format, &context),
        ids: IdHasher::new(site),
        twins: HashMap::new(),
        read_at_ms: clock::now_ms(),
        out: Out::new(),
        stdout: BufWriter::with_capacity(64 * 1024, stdout),
    };
    let standard_input = [PathBuf::from("-")];
    let inputs = if inputs.is_empty() {
        &standard_input
    } else {
        inputs
    };
    let result = inputs
        .iter()
        .try_for_each(|path| convert(path, stdin, &mut writer))
        .and_then(|()| writer.stdout.flush().map_err(Error::Write));
    match result {
        // Whoever read the events has had enough.
        Err(Error::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            // What is buffered must not be tried again when the writer is dropped.
            let _ = writer.stdout.into_parts();
            Ok(exit::OK)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(exit::OK),
    }
}

fn convert(path: &Path, stdin: &mut dyn Read, writer: &mut EventWriter) -> Result<(), Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    if path == Path::new("-") {
        return Documents::new(stdin, failed)?.convert(None, writer);
    }
    let absolute = std::path::absolute(path).map_err(failed)?;
    let path_json = serde_json::Value::from(absolute.to_string_lossy()).to_string();
    let file = File::open(path).map_err(failed)?;
    Documents::new(file, failed)?.convert(Some(&path_json), writer)
}

/// An answer that is laid out over many lines is put together up to this size; an answer of 1000 events, the most
/// that Confluence gives, has some 2 MiB.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One input, taken apart into JSON documents: lines as a rule, several lines where a document is laid out so.
struct Documents<'r, F> {
    input: Box<dyn BufRead + 'r>,
    failed: F,
    /// Where the next line starts, in bytes of what has been unpacked.
    offset: u64,
}

impl<'r, F: Fn(io::Error) -> Error> Documents<'r, F> {
    fn new(input: impl Read + 'r, failed: F) -> Result<Self, Error> {
        let mut input = BufReader::with_capacity(64 * 1024, input);
        let is_gzip = input.fill_buf().map_err(&failed)?.starts_with(&[0x1f, 0x8b]);
        let input: Box<dyn BufRead + 'r> = if is_gzip {
            Box::new(BufReader::new(MultiGzDecoder::new(input)))
        } else {
            Box::new(input)
        };
        Ok(Documents {
            input,
            failed,
            offset: 0,
        })
    }

    fn convert(&mut self, path_json: Option<&str>, writer: &mut EventWriter) -> Result<(), Error> {
        let mut line = Vec::new();
        // The lines of a document that has not ended yet, and where each begins.
        let mut document = Vec::new();
        let mut lines = Vec::new();
        let mut depth = 0;
        loop {
            line.clear();
            let length = self.input.read_until(b'\n', &mut line).map_err(&self.failed)?;
            if length == 0 {
                break;
            }
            let mut start = self.offset;
            self.offset += length as u64;
            let mut body = line.trim_ascii_end();
            if start == 0
                && let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf")
            {
                body = rest;
                start = 3;
            }
            if body.is_empty() {
                continue;
            }
            if document.is_empty() {
                if !opens_document(body) {
                    writer.document(
                        body,
                        Place {
                            path_json,
                            offset: start,
                        },
                    )?;
                    continue;
                }
                depth = 0;
            }
            lines.push((start, document.len()));
            document.extend_from_slice(body);
            document.push(b'\n');
            depth += depth_change(body).unwrap_or(0);
            if depth <= 0 {
                writer.document(
                    document.trim_ascii_end(),
                    Place {
                        path_json,
                        offset: lines[0].0,
                    },
                )?;
                document.clear();
                lines.clear();
            } else if document.len() > DOCUMENT_BYTES_MAX {
                self.single_lines(&document, &lines, path_json, writer)?;
                document.clear();
                lines.clear();
            }
        }
        self.single_lines(&document, &lines, path_json, writer)
    }

    /// The document never ended: its lines are what they are.
    fn single_lines(
        &self,
        document: &[u8],
        lines: &[(u64, usize)],
        path_json: Option<&str>,
        writer: &mut EventWriter,
    ) -> Result<(), Error> {
        for (at, (offset, start)) in lines.iter().enumerate() {
            let end = lines.get(at + 1).map_or(document.len(), |(_, next)| *next);
            writer.document(
                document[*start..end].trim_ascii_end(),
                Place {
                    path_json,
                    offset: *offset,
                },
            )?;
        }
        Ok(())
    }
}

/// Whether a document begins here that goes on in the next line. A line that is merely torn rarely ends so.
fn opens_document(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), Some(b'{' | b'['))
        && matches!(line.last(), Some(b'{' | b'[' | b','))
        && depth_change(line).is_some_and(|change| change > 0)
}

/// How many more brackets a line opens than it closes; `None` if it ends within a string.
fn depth_change(line: &[u8]) -> Option<i64> {
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        match byte {
            b'"' => {
                at = walk::string_end(line, at);
                if at == line.len() && line.last() != Some(&b'"') {
                    return None;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    Some(depth)
}

#[derive(Clone, Copy)]
struct Place<'a> {
    path_json: Option<&'a str>,
    offset: u64,
}

struct EventWriter<'w> {
    format: Format,
    ids: IdHasher,
    /// How many events of an id there have been.
    twins: HashMap<u128, u32>,
    read_at_ms: i64,
    out: Out,
    stdout: BufWriter<&'w mut dyn Write>,
}

impl EventWriter<'_> {
    /// Writes the events of a document: one record, or an answer that holds many.
    fn document(&mut self, bytes: &[u8], place: Place) -> Result<(), Error> {
        let mut scratch = Scratch::default();
        let parsed = record::parse(bytes, &mut scratch);
        match &parsed {
            Parsed::Record(record) => {
                if record.shape == Shape::File && !bytes.contains(&b'\n') {
                    return self.event(&parsed, Some(place));
                }
                let is_file = record.shape == Shape::File;
                self.compacted(record.original, is_file.then_some(place))
            }
            Parsed::Unreadable { .. } => {
                let records = std::str::from_utf8(bytes).ok().and_then(records_of_answer);
                let Some(records) = records else {
                    return self.event(&parsed, Some(place));
                };
                let mut cursor = walk::Cursor::new(records.raw());
                cursor.enter();
                while cursor.more() {
                    self.compacted(cursor.value(), None)?;
                }
                Ok(())
            }
        }
    }

    fn compacted(&mut self, record: &str, place: Option<Place>) -> Result<(), Error> {
        let compact = record::compact(record);
        let mut scratch = Scratch::default();
        let parsed = record::parse(compact.as_bytes(), &mut scratch);
        self.event(&parsed, place)
    }

    fn event(&mut self, parsed: &Parsed, place: Option<Place>) -> Result<(), Error> {
        let id = self.ids.id(parsed);
        let twin = self.twins.entry(id.0).or_insert(0);
        let id = id.twin(*twin);
        *twin += 1;
        let origin = match place {
            Some(Place {
                path_json: Some(path_json),
                offset,
            }) => Origin::File {
                path_json,
                offset,
                unterminated: false,
            },
            _ => Origin::Api,
        };
        let item = Item {
            content: parsed,
            id,
            origin,
            read_at_ms: self.read_at_ms,
        };
        self.out.bytes.clear();
        self.format.write(&item, &mut self.out);
        self.out.bytes.push(b'\n');
        self.stdout.write_all(&self.out.bytes).map_err(Error::Write)
    }
}

/// The list of records in an API's answer, or a list of records.
fn records_of_answer(json: &str) -> Option<Token<'_>> {
    if walk::is_too_deep(json) {
        return None;
    }
    let json: &RawValue = serde_json::from_str(json).ok()?;
    let token = Token::new(json.get());
    if token.is_list() {
        return Some(token);
    }
    let (mut list, mut cursor) = (None, walk::Cursor::new(token.raw()));
    cursor.enter();
    while cursor.more() {
        let is_list_of_records = matches!(cursor.key().as_ref(), "entities" | "results");
        let value = cursor.value();
        // A page without events is an answer, too.
        if is_list_of_records && value.starts_with('[') {
            list = Some(value);
        }
    }
    list.map(|list| {
        if list.len() > 2 {
            Token::new(list)
        } else {
            Token::MISSING
        }
    })
}
