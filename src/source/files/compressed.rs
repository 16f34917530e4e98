//! Compressed audit files: recognised by their extension, read as a stream in constant memory.

use super::record_splitter::FINGERPRINT_BYTES;
use flate2::bufread::MultiGzDecoder;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::ffi::OsStrExt;

/// A decoder needs as much memory as the stream's window: 8 MiB cover each level of `zstd` up to 19.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const BLOCK_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileCompression {
    Gzip,
    Zstd,
    /// Recognised by its extension, but not readable by the agent.
    Unsupported,
}

/// Extensions of compressed files.
const ENDINGS: [(&str, FileCompression); 9] = [
    (".gz", FileCompression::Gzip),
    (".zst", FileCompression::Zstd),
    (".bz2", FileCompression::Unsupported),
    (".xz", FileCompression::Unsupported),
    (".lzma", FileCompression::Unsupported),
    (".lz4", FileCompression::Unsupported),
    (".zip", FileCompression::Unsupported),
    (".7z", FileCompression::Unsupported),
    (".Z", FileCompression::Unsupported),
];

/// The compression of a file by its name or path, and the name without the extension. `None` if it is not compressed.
pub(crate) fn split_extension<N: AsRef<OsStr> + ?Sized>(name: &N) -> Option<(&OsStr, FileCompression)> {
    let name = name.as_ref().as_bytes();
    ENDINGS
        .iter()
        .find_map(|(ending, how)| Some((name.strip_suffix(ending.as_bytes())?, *how)))
        .filter(|(stem, _)| !stem.is_empty() && !stem.ends_with(b"/"))
        .map(|(stem, how)| (OsStr::from_bytes(stem), how))
}

/// Why a stream cannot be read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StreamFault {
    /// It ends early: it is still being written, or was left incomplete.
    Incomplete,
    /// It is corrupt: no reader gets further.
    Damaged,
}

/// Classifies a decoder's error. `None` if the file itself could not be read.
pub(crate) fn stream_fault(error: &io::Error) -> Option<StreamFault> {
    if error.raw_os_error().is_some() {
        return None;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Some(StreamFault::Incomplete),
        _ => Some(StreamFault::Damaged),
    }
}

/// The decompressed content of a file.
pub(crate) struct Decompressor {
    file: File,
    how: FileCompression,
    decoder: Box<dyn Read + Send>,
    /// Bytes of content read so far.
    offset: u64,
    /// Error to return by the next read.
    failed: Option<io::Error>,
}

impl Decompressor {
    pub(crate) fn open(file: File, how: FileCompression) -> io::Result<Decompressor> {
        let mut from = file.try_clone()?;
        from.rewind()?;
        // Nothing was written yet.
        if from.metadata()?.len() == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from = BufReader::with_capacity(BLOCK_BYTES, from);
        let decoder: Box<dyn Read + Send> = match how {
            FileCompression::Gzip => Box::new(MultiGzDecoder::new(from)),
            FileCompression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(from)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
            FileCompression::Unsupported => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Decompressor { file, how, decoder, offset: 0, failed: None })
    }

    /// Starts again at the beginning of the file.
    pub(crate) fn reopened(self) -> io::Result<Decompressor> {
        Decompressor::open(self.file, self.how)
    }

    /// The first bytes of the content, at most [`FINGERPRINT_BYTES`].
    pub(crate) fn head(mut self) -> io::Result<Vec<u8>> {
        let mut head = vec![0; FINGERPRINT_BYTES];
        let read = self.read(&mut head)?;
        head.truncate(read);
        Ok(head)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills the buffer as far as there is content; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match self.decoder.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Return what was decoded before the error.
                Err(error) if filled > 0 => {
                    self.failed = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn endings_are_taken_off_whole_names() {
        assert_eq!(
            split_extension("a.audit.log.gz"),
            Some((OsStr::new("a.audit.log"), FileCompression::Gzip))
        );
        let zstd = Some((OsStr::new("/x/a.log"), FileCompression::Zstd));
        assert_eq!(split_extension("/x/a.log.zst"), zstd);
        let unsupported = Some((OsStr::new("a.log"), FileCompression::Unsupported));
        assert_eq!(split_extension("a.log.xz"), unsupported);
        let latin1 = OsStr::from_bytes(b"\xe4.log");
        let gzip = Some((latin1, FileCompression::Gzip));
        assert_eq!(split_extension(OsStr::from_bytes(b"\xe4.log.gz")), gzip);
        for name in ["a.audit.log", ".gz", "/x/.gz", "gz", ""] {
            assert_eq!(split_extension(name), None, "{name}");
        }
    }

    fn packed(how: FileCompression, content: &[u8]) -> Vec<u8> {
        match how {
            FileCompression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            _ => zstd::bulk::compress(content, 1).unwrap(),
        }
    }

    fn unpacked(how: FileCompression, bytes: &[u8]) -> (Vec<u8>, Option<StreamFault>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut content = Vec::new();
        let mut stream = match Decompressor::open(file, how) {
            Ok(stream) => stream,
            Err(error) => return (content, stream_fault(&error)),
        };
        loop {
            let mut block = [0; 1000];
            match stream.read(&mut block) {
                Ok(0) => return (content, None),
                Ok(bytes) => content.extend(&block[..bytes]),
                Err(error) => return (content, Some(stream_fault(&error).unwrap())),
            }
        }
    }

    /// F88: a stream that was cut is incomplete wherever it ends and returns what it has. A corrupt one is reported
    /// as damaged.
    #[test]
    fn f88_a_stream_is_complete_incomplete_or_damaged() {
        let content: Vec<u8> = (0..5_000u32).flat_map(|n| format!("{{{n}}}\n").into_bytes()).collect();
        for how in [FileCompression::Gzip, FileCompression::Zstd] {
            let whole = packed(how, &content);
            assert_eq!(unpacked(how, &whole), (content.clone(), None));
            // Concatenated streams are read as one.
            let twice = [whole.clone(), whole.clone()].concat();
            assert_eq!(unpacked(how, &twice), (content.repeat(2), None));
            for cut in (0..whole.len()).step_by(97) {
                let (begun, stream_fault) = unpacked(how, &whole[..cut]);
                assert_eq!(stream_fault, Some(StreamFault::Incomplete), "{how:?} at {cut}");
                assert!(content.starts_with(&begun));
            }
            if how == FileCompression::Gzip {
                let mut damaged = whole.clone();
                damaged[whole.len() / 2] ^= 0x5a;
                assert_eq!(unpacked(how, &damaged).1, Some(StreamFault::Damaged));
            }
            assert_eq!(unpacked(how, b"{\"plain\":1}\n").1, Some(StreamFault::Damaged), "{how:?}");
        }
    }
}
