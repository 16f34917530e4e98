//! How bodies and rotated files are made smaller.

use crate::config::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::io::{self, Read, Write};
use std::path::Path;

/// Events are alike, so even the fastest level makes them a tenth; what more would save costs Confluence its CPU.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

impl Compression {
    /// As `Content-Encoding` has it.
    pub fn encoding(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }

    /// What names of compressed files end with.
    pub fn ending(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }
}

/// How the file of this name is compressed.
pub fn of_name(path: &Path) -> Compression {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Compression::Gzip,
        Some("zst") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Compresses what is written to it, in constant memory.
pub enum CompressedWriter<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> CompressedWriter<W> {
    pub fn new(to: W, how: Compression) -> io::Result<CompressedWriter<W>> {
        Ok(match how {
            Compression::None => CompressedWriter::None(to),
            Compression::Gzip => {
                CompressedWriter::Gzip(GzEncoder::new(to, flate2::Compression::new(GZIP_LEVEL)))
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(to, ZSTD_LEVEL)?;
                // Nobody else looks whether the disk gives back what it got.
                encoder.include_checksum(true)?;
                CompressedWriter::Zstd(encoder)
            }
        })
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            CompressedWriter::None(to) => to.write_all(bytes),
            CompressedWriter::Gzip(encoder) => encoder.write_all(bytes),
            CompressedWriter::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// Writes the end.
    pub fn finish(self) -> io::Result<W> {
        match self {
            CompressedWriter::None(to) => Ok(to),
            CompressedWriter::Gzip(encoder) => encoder.finish(),
            CompressedWriter::Zstd(encoder) => encoder.finish(),
        }
    }
}

pub fn decoder<'a>(from: impl Read + 'a, how: Compression) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match how {
        Compression::None => Box::new(from),
        Compression::Gzip => Box::new(MultiGzDecoder::new(from)),
        Compression::Zstd => Box::new(zstd::Decoder::new(from)?),
    })
}

pub fn compress(bytes: Vec<u8>, how: Compression) -> io::Result<Vec<u8>> {
    match how {
        Compression::None => Ok(bytes),
        Compression::Gzip => {
            let room = Vec::with_capacity(bytes.len() / 8);
            let mut encoder = GzEncoder::new(room, flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(&bytes)?;
            encoder.finish()
        }
        Compression::Zstd => zstd::bulk::compress(&bytes, ZSTD_LEVEL),
    }
}
