//! Audit files that something else has compressed: told by their names, read as a stream, in constant memory.

use super::frame::FINGERPRINT_BYTES;
use flate2::bufread::MultiGzDecoder;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::ffi::OsStrExt;

/// A decoder needs as much memory as a stream's window is long: 8 MiB suffice for each level of `zstd` up to 19.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const BLOCK_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
    /// Known by its name, but not read here.
    Unsupported,
}

/// Endings of compressed files.
const ENDINGS: [(&str, Compression); 9] = [
    (".gz", Compression::Gzip),
    (".zst", Compression::Zstd),
    (".bz2", Compression::Unsupported),
    (".xz", Compression::Unsupported),
    (".lzma", Compression::Unsupported),
    (".lz4", Compression::Unsupported),
    (".zip", Compression::Unsupported),
    (".7z", Compression::Unsupported),
    (".Z", Compression::Unsupported),
];

/// How the file of this name or path is compressed, if it is, and the name without the ending.
pub fn of_name<N: AsRef<OsStr> + ?Sized>(name: &N) -> Option<(&OsStr, Compression)> {
    let name = name.as_ref().as_bytes();
    ENDINGS
        .iter()
        .find_map(|(ending, how)| Some((name.strip_suffix(ending.as_bytes())?, *how)))
        .filter(|(stem, _)| !stem.is_empty() && !stem.ends_with(b"/"))
        .map(|(stem, how)| (OsStr::from_bytes(stem), how))
}

/// What is wrong with a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It ends too early: it is being written, or was left like that.
    CutOff,
    /// No reader will get further.
    Damaged,
}

/// What an error of a decoder says of its stream; none if the file itself could not be read.
pub fn flaw(error: &io::Error) -> Option<Flaw> {
    if error.raw_os_error().is_some() {
        return None;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Some(Flaw::CutOff),
        _ => Some(Flaw::Damaged),
    }
}

/// The content of a compressed file, from its beginning on.
pub struct Decompressor {
    file: File,
    how: Compression,
    decoder: Box<dyn Read + Send>,
    /// Bytes of content read so far.
    at: u64,
    /// What comes after that.
    failed: Option<io::Error>,
}

impl Decompressor {
    pub fn open(file: File, how: Compression) -> io::Result<Decompressor> {
        let mut from = file.try_clone()?;
        from.rewind()?;
        // Its first bytes are not there yet.
        if from.metadata()?.len() == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from = BufReader::with_capacity(BLOCK_BYTES, from);
        let decoder: Box<dyn Read + Send> = match how {
            Compression::Gzip => Box::new(MultiGzDecoder::new(from)),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(from)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
            Compression::Unsupported => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Decompressor {
            file,
            how,
            decoder,
            at: 0,
            failed: None,
        })
    }

    /// From the beginning once more.
    pub fn again(self) -> io::Result<Decompressor> {
        Decompressor::open(self.file, self.how)
    }

    /// The first bytes of the content, as many as a fingerprint takes if there are so many.
    pub fn head(mut self) -> io::Result<Vec<u8>> {
        let mut head = vec![0; FINGERPRINT_BYTES];
        let read = self.read(&mut head)?;
        head.truncate(read);
        Ok(head)
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn at(&self) -> u64 {
        self.at
    }

    /// Fills the buffer, if there is so much; 0 is the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match self.decoder.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What came before the fault is content.
                Err(error) if filled > 0 => {
                    self.failed = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.at += filled as u64;
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
            of_name("a.audit.log.gz"),
            Some((OsStr::new("a.audit.log"), Compression::Gzip))
        );
        let zstd = Some((OsStr::new("/x/a.log"), Compression::Zstd));
        assert_eq!(of_name("/x/a.log.zst"), zstd);
        let unsupported = Some((OsStr::new("a.log"), Compression::Unsupported));
        assert_eq!(of_name("a.log.xz"), unsupported);
        let latin1 = OsStr::from_bytes(b"\xe4.log");
        let gzip = Some((latin1, Compression::Gzip));
        assert_eq!(of_name(OsStr::from_bytes(b"\xe4.log.gz")), gzip);
        for name in ["a.audit.log", ".gz", "/x/.gz", "gz", ""] {
            assert_eq!(of_name(name), None, "{name}");
        }
    }

    fn packed(how: Compression, content: &[u8]) -> Vec<u8> {
        match how {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            _ => zstd::bulk::compress(content, 1).unwrap(),
        }
    }

    fn unpacked(how: Compression, bytes: &[u8]) -> (Vec<u8>, Option<Flaw>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut content = Vec::new();
        let mut stream = match Decompressor::open(file, how) {
            Ok(stream) => stream,
            Err(error) => return (content, flaw(&error)),
        };
        loop {
            let mut block = [0; 1000];
            match stream.read(&mut block) {
                Ok(0) => return (content, None),
                Ok(bytes) => content.extend(&block[..bytes]),
                Err(error) => return (content, Some(flaw(&error).unwrap())),
            }
        }
    }

    /// F88: a stream that is not whole yet is cut off wherever it ends, and gives what is there; one that is damaged says so.
    #[test]
    fn f88_a_stream_is_whole_cut_off_or_damaged() {
        let content: Vec<u8> = (0..5_000u32)
            .flat_map(|n| format!("{{{n}}}\n").into_bytes())
            .collect();
        for how in [Compression::Gzip, Compression::Zstd] {
            let whole = packed(how, &content);
            assert_eq!(unpacked(how, &whole), (content.clone(), None));
            // Several streams one after the other are one.
            let twice = [whole.clone(), whole.clone()].concat();
            assert_eq!(unpacked(how, &twice), (content.repeat(2), None));
            for cut in (0..whole.len()).step_by(97) {
                let (begun, flaw) = unpacked(how, &whole[..cut]);
                assert_eq!(flaw, Some(Flaw::CutOff), "{how:?} at {cut}");
                assert!(content.starts_with(&begun));
            }
            if how == Compression::Gzip {
                let mut damaged = whole.clone();
                damaged[whole.len() / 2] ^= 0x5a;
                assert_eq!(unpacked(how, &damaged).1, Some(Flaw::Damaged));
            }
            assert_eq!(
                unpacked(how, b"{\"plain\":1}\n").1,
                Some(Flaw::Damaged),
                "{how:?}"
            );
        }
    }
}
