//! Compression of request bodies and rotated files.

use crate::config::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::io::{self, Read, Write};
use std::path::Path;

/// Audit events are repetitive: the fastest level already reduces them to a tenth. Higher levels take CPU
/// time from Confluence.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

impl Compression {
    /// Value of `Content-Encoding`; `None` if the body is not compressed.
    pub fn encoding(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }

    /// Suffix of a compressed file's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }
}

/// The compression of a file, by its name.
pub(crate) fn of_name(path: &Path) -> Compression {
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("gz") => Compression::Gzip,
        Some("zst") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Compresses what is written to it, in constant memory.
pub(crate) enum CompressedWriter<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> CompressedWriter<W> {
    pub(crate) fn new(to: W, compression: Compression) -> io::Result<CompressedWriter<W>> {
        Ok(match compression {
            Compression::None => CompressedWriter::None(to),
            Compression::Gzip => {
                CompressedWriter::Gzip(GzEncoder::new(to, flate2::Compression::new(GZIP_LEVEL)))
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(to, ZSTD_LEVEL)?;
                // Zstandard has no checksum by default, and nothing else detects corruption of the file.
                encoder.include_checksum(true)?;
                CompressedWriter::Zstd(encoder)
            }
        })
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            CompressedWriter::None(to) => to.write_all(bytes),
            CompressedWriter::Gzip(encoder) => encoder.write_all(bytes),
            CompressedWriter::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// Writes the trailer and returns the inner writer.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            CompressedWriter::None(to) => Ok(to),
            CompressedWriter::Gzip(encoder) => encoder.finish(),
            CompressedWriter::Zstd(encoder) => encoder.finish(),
        }
    }
}

pub(crate) fn decoder<'a>(from: impl Read + 'a, compression: Compression) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(from),
        Compression::Gzip => Box::new(MultiGzDecoder::new(from)),
        Compression::Zstd => Box::new(zstd::Decoder::new(from)?),
    })
}

pub(crate) fn compress(bytes: Vec<u8>, compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(bytes),
        Compression::Gzip => {
            let buffer = Vec::with_capacity(bytes.len() / 8);
            let mut encoder = GzEncoder::new(buffer, flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(&bytes)?;
            encoder.finish()
        }
        Compression::Zstd => zstd::bulk::compress(&bytes, ZSTD_LEVEL),
    }
}
