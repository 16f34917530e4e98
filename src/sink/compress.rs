//! How bodies and rotated files are made smaller.

use crate::config::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

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
