//! Compresses rotated files once the checkpoint is past them: their content is durable and does not change
//! any more. At each moment there is a complete copy of each file. What a crash leaves behind is removed by
//! the next start.

use super::open::open_existing;
use super::permissions::OutputPermissions;
use super::rotated_files::rotated_files;
use crate::config::Compression;
use crate::durable::parent;
use crate::sink::compress::{self, CompressedWriter};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Suffix of a compressed file while it is written.
const PART: &str = ".part";
const BLOCK_BYTES: usize = 64 * 1024;

/// The thread that compresses the rotated files of one output.
pub(super) struct Compressor {
    checkpointed: Sender<u64>,
    thread: JoinHandle<()>,
}

impl Compressor {
    /// `None` if compression is off.
    pub(super) fn start(
        path: &Path,
        compression: Compression,
        permissions: OutputPermissions,
    ) -> io::Result<Option<Compressor>> {
        if compression == Compression::None {
            return Ok(None);
        }
        // No limit: writing must not wait for compression. One number for each commit, until the thread takes them all.
        let (checkpointed, rotations) = channel();
        let path = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("compress".into())
            .spawn(move || run(&path, compression, &permissions, &rotations))?;
        Ok(Some(Compressor { checkpointed, thread }))
    }

    /// The checkpoint contains this rotation of the output, so older rotated files may be compressed.
    pub(super) fn checkpointed(&self, rotation: u64) {
        // If the thread is gone, rotated files stay uncompressed.
        let _ = self.checkpointed.send(rotation);
    }

    /// Waits until all files are compressed.
    pub(super) fn finish(self) {
        drop(self.checkpointed);
        if self.thread.join().is_err() {
            tracing::error!("compression of rotated files panicked; they stay uncompressed");
        }
    }
}

fn run(path: &Path, compression: Compression, permissions: &OutputPermissions, rotations: &Receiver<u64>) {
    let mut done = 0;
    while let Ok(mut rotation) = rotations.recv() {
        rotation = rotations.try_iter().last().unwrap_or(rotation);
        // A failed compression is retried after the next rotation.
        if rotation > done {
            done = rotation;
            compress(path, compression, permissions, rotation);
        }
    }
}

/// Compresses the rotated files of the rotations before this one.
fn compress(path: &Path, compression: Compression, permissions: &OutputPermissions, before: u64) {
    let files = rotated_files(path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "compression of rotated files failed; they stay uncompressed until the next rotation");
        Vec::new()
    });
    for (rotation, rotated) in files {
        if rotation >= before || compress::of_name(&rotated) != Compression::None {
            continue;
        }
        match compress_file(&rotated, compression, permissions) {
            // The file was pruned meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %rotated.display(), %error, "compression of a rotated file failed; it stays uncompressed; free space if the disk is full, and it is retried after the next rotation");
                return;
            }
            Ok(()) => {}
        }
    }
}

fn compress_file(
    rotated: &Path,
    compression: Compression,
    permissions: &OutputPermissions,
) -> io::Result<()> {
    let to = with_suffix(rotated, compression.suffix());
    let part = with_suffix(&to, PART);
    let written = write_part(rotated, &part, compression, permissions).and_then(|()| {
        crate::failpoint::hit("compress_written");
        std::fs::rename(&part, &to)
    });
    if let Err(error) = written {
        remove(&part)?;
        return Err(error);
    }
    let directory = File::open(parent(rotated))?;
    directory.sync_all()?;
    crate::failpoint::hit("compress_renamed");
    if !remove(rotated)? {
        // The file was pruned meanwhile, so its compressed form must go too.
        remove(&to)?;
    }
    directory.sync_all()?;
    crate::failpoint::hit("compressed");
    Ok(())
}

fn write_part(
    rotated: &Path,
    part: &Path,
    compression: Compression,
    permissions: &OutputPermissions,
) -> io::Result<()> {
    let mut from = open_existing(rotated)?;
    remove(part)?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    let mut encoder = CompressedWriter::new(to, compression)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match from.read(&mut block)? {
            0 => break,
            bytes => encoder.write_all(&block[..bytes])?,
        }
    }
    let part_file = encoder.finish()?;
    permissions.apply(&part_file, part);
    part_file.sync_all()
}

/// Removes files that a killed process has left half written.
pub(super) fn remove_parts(path: &Path) -> io::Result<()> {
    let own_files = rotated_files(path)?;
    for entry in std::fs::read_dir(parent(path))? {
        let part = entry?.path();
        // `<rotated>.gz.part`: the rotated file exists until the compressed one is complete.
        let compressed =
            part.extension().is_some_and(|suffix| suffix == "part").then(|| part.with_extension(""));
        let rotated = compressed
            .filter(|compressed| compress::of_name(compressed) != Compression::None)
            .map(|compressed| compressed.with_extension(""));
        if rotated.is_some_and(|name| own_files.iter().any(|(_, rotated)| name == *rotated)) {
            // It does no harm: the next compression overwrites it.
            if let Err(error) = remove(&part) {
                let path = part.display().to_string();
                tracing::warn!(path, %error, "an incomplete compressed file cannot be removed; it is ignored");
            }
        }
    }
    Ok(())
}

/// Reads the content of a rotated file, compressed or not.
pub(super) fn reader<'a>(file: &'a File, path: &Path) -> io::Result<BufReader<Box<dyn Read + 'a>>> {
    let decoded = compress::decoder(file, compress::of_name(path))?;
    Ok(BufReader::with_capacity(BLOCK_BYTES, decoded))
}

/// Removes a file. Returns whether it existed.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn rotated_files_before_the_checkpoint_are_compressed() {
        for (compression, suffix) in [(Compression::Gzip, "gz"), (Compression::Zstd, "zst")] {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join("out");
            let rotated = |number: u64| format!("out.2026-11-21.{number:06}");
            let text = |number: u64| format!("event {number}!\n").repeat(20_000);
            for number in 0..3 {
                std::fs::write(temp.path().join(rotated(number)), text(number)).unwrap();
            }
            // Left over from a kill, before and after the rename.
            std::fs::write(temp.path().join(rotated(1) + ".gz.part"), "half").unwrap();
            std::fs::write(temp.path().join(format!("{}.{suffix}", rotated(0))), "older").unwrap();
            std::fs::write(temp.path().join("others.gz.part"), "theirs").unwrap();
            remove_parts(&path).unwrap();
            let compressor =
                Compressor::start(&path, compression, OutputPermissions::default()).unwrap().unwrap();
            compressor.checkpointed(2);
            compressor.finish();
            let expect = [
                "others.gz.part".to_owned(),
                format!("{}.{suffix}", rotated(0)),
                format!("{}.{suffix}", rotated(1)),
                rotated(2),
            ];
            assert_eq!(names(temp.path()), expect);
            for number in 0..2 {
                let path = temp.path().join(&expect[1 + number]);
                let file = File::open(&path).unwrap();
                assert!(file.metadata().unwrap().len() < 10_000);
                let mut found = String::new();
                reader(&file, &path).unwrap().read_to_string(&mut found).unwrap();
                assert_eq!(found, text(number as u64));
            }
        }
    }

    #[test]
    fn a_failed_compression_leaves_the_rotated_file() {
        let temp = tempfile::tempdir().unwrap();
        let rotated = temp.path().join("out.2026-11-21.000001");
        std::fs::write(&rotated, "event 1!\n").unwrap();
        // A directory with the name of the compressed file.
        std::fs::create_dir(temp.path().join("out.2026-11-21.000001.gz")).unwrap();
        let compressor =
            Compressor::start(&temp.path().join("out"), Compression::Gzip, OutputPermissions::default())
                .unwrap()
                .unwrap();
        compressor.checkpointed(2);
        compressor.finish();
        assert_eq!(names(temp.path()), ["out.2026-11-21.000001", "out.2026-11-21.000001.gz"]);
        assert_eq!(std::fs::read(&rotated).unwrap(), b"event 1!\n");
    }

    /// A pruned file does not reappear, neither compressed nor uncompressed.
    #[test]
    fn a_file_removed_during_compression_stays_removed() {
        let temp = tempfile::tempdir().unwrap();
        let rotated = temp.path().join("out.2026-11-21.000001");
        assert!(compress_file(&rotated, Compression::Zstd, &OutputPermissions::default()).is_err());
        assert!(names(temp.path()).is_empty());
    }
}
