//! `convert`: records in, events out. Keeps no state.

mod documents;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::enrich::host;
use crate::format::{Agent, Context, Format, Item, Name, Origin, Out};
use crate::record::twins::Twins;
use crate::record::{self, IdHasher, Parsed, Scratch, Shape, Token, walk};
use crate::{clock, exit};
use documents::{Documents, Place};

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
        // Where an address is now says nothing of records that may be old; and no metadata service has to do with a conversion.
        cloud: None,
        geo: None,
        preserve_original: true,
    };
    let mut writer = EventWriter {
        format: Format::new(format, &context),
        ids: IdHasher::new(site),
        twins: Twins::default(),
        base: 0,
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
    let (input, path_json): (Box<dyn Read + '_>, _) = if path == Path::new("-") {
        (Box::new(stdin), None)
    } else {
        let absolute = std::path::absolute(path).map_err(failed)?;
        let path_json = serde_json::Value::from(absolute.to_string_lossy()).to_string();
        (Box::new(File::open(path).map_err(failed)?), Some(path_json))
    };
    let mut documents = Documents::new(input).map_err(failed)?;
    while let Some((document, offset)) = documents.next().map_err(failed)? {
        writer.document(
            document,
            Place {
                path_json: path_json.as_deref(),
                offset,
            },
        )?;
    }
    writer.base += documents.bytes_read();
    Ok(())
}

struct EventWriter<'w> {
    format: Format,
    ids: IdHasher,
    twins: Twins,
    /// The bytes of the inputs before this one: twins are counted over all, as if they were one.
    base: u64,
    read_at_ms: i64,
    out: Out,
    stdout: BufWriter<&'w mut dyn Write>,
}

impl EventWriter<'_> {
    /// Writes the events of a document: one record, or an answer that holds many.
    fn document(&mut self, bytes: &[u8], place: Place) -> Result<(), Error> {
        let at = self.base + place.offset;
        let mut scratch = Scratch::default();
        let parsed = record::parse(bytes, &mut scratch);
        match &parsed {
            Parsed::Record(record) if record.shape == Shape::File && !bytes.contains(&b'\n') => {
                self.event(&parsed, Some(place), at)
            }
            Parsed::Record(record) => {
                let place = Some(place).filter(|_| record.shape == Shape::File);
                self.compacted(record.original, place, at)
            }
            Parsed::Unreadable { .. } => {
                let records = std::str::from_utf8(bytes).ok().and_then(records_of_answer);
                let Some(records) = records else {
                    return self.event(&parsed, Some(place), at);
                };
                let mut cursor = walk::Cursor::new(records.raw());
                cursor.enter();
                while cursor.more() {
                    let at = at + cursor.place() as u64;
                    self.compacted(cursor.value(), None, at)?;
                }
                Ok(())
            }
        }
    }

    /// Writes the event of a record as an API gave it: of its white space nothing is kept.
    fn compacted(&mut self, record: &str, place: Option<Place>, at: u64) -> Result<(), Error> {
        let compact = record::compact(record);
        let mut scratch = Scratch::default();
        self.event(&record::parse(compact.as_bytes(), &mut scratch), place, at)
    }

    fn event(&mut self, parsed: &Parsed, place: Option<Place>, at: u64) -> Result<(), Error> {
        let id = self.ids.id(parsed);
        let id = id.twin(self.twins.number(id, at));
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
            self_poll: false,
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
