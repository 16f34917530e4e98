//! Rotated files are compressed once the checkpoint is past them: what stands in them is durable and will not change then.
//! At every moment each of them is there whole, and a crash leaves nothing that the next start does not remove.

use super::output::{open_existing, parent, rotated_files};
use super::share::Sharing;
use crate::config::Compression;
use crate::sink::compress::{self, CompressedWriter};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// What a compressed file is called while it is written.
const PART: &str = ".part";
const BLOCK_BYTES: usize = 64 * 1024;

/// The thread that compresses the rotated files of one output.
pub struct Compressor {
    passed: Sender<u64>,
    thread: JoinHandle<()>,
}

impl Compressor {
    /// `None` where nothing is to be compressed.
    pub fn start(path: &Path, how: Compression, sharing: Sharing) -> io::Result<Option<Compressor>> {
        if how == Compression::None {
            return Ok(None);
        }
        let (passed, generations) = channel();
        let path = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("compress".into())
            .spawn(move || run(&path, how, &sharing, &generations))?;
        Ok(Some(Compressor { passed, thread }))
    }

    /// The checkpoint knows the output of this generation: those before it are not needed any more.
    pub fn passed(&self, generation: u64) {
        // Without the thread rotated files stay as they are.
        let _ = self.passed.send(generation);
    }

    /// Waits until all is compressed.
    pub fn finish(self) {
        drop(self.passed);
        if self.thread.join().is_err() {
            tracing::error!("compressing rotated outputs has failed; they stay as they are");
        }
    }
}

fn run(path: &Path, how: Compression, sharing: &Sharing, generations: &Receiver<u64>) {
    let mut done = 0;
    while let Ok(mut generation) = generations.recv() {
        generation = generations.try_iter().last().unwrap_or(generation);
        // What failed is tried again with the next rotation, not each second.
        if generation > done {
            done = generation;
            compress(path, how, sharing, generation);
        }
    }
}

/// Compresses the rotated files of the generations before this one.
fn compress(path: &Path, how: Compression, sharing: &Sharing, before: u64) {
    let files = rotated_files(path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "cannot compress rotated outputs; they stay as they are until the next rotation");
        Vec::new()
    });
    for (generation, rotated) in files {
        if generation >= before || compress::of_name(&rotated) != Compression::None {
            continue;
        }
        match compress_file(&rotated, how, sharing) {
            // It was over the number to keep.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %rotated.display(), %error, "cannot compress a rotated output; it stays as it is until the next rotation");
                return;
            }
            Ok(()) => {}
        }
    }
}

fn compress_file(rotated: &Path, how: Compression, sharing: &Sharing) -> io::Result<()> {
    let to = with_ending(rotated, how.ending());
    let part = with_ending(&to, PART);
    let written = write_part(rotated, &part, how, sharing).and_then(|()| {
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
        // It was over the number to keep, and removed meanwhile.
        remove(&to)?;
    }
    directory.sync_all()?;
    crate::failpoint::hit("compressed");
    Ok(())
}

fn write_part(rotated: &Path, part: &Path, how: Compression, sharing: &Sharing) -> io::Result<()> {
    let mut from = open_existing(rotated)?;
    remove(part)?;
    let to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)?;
    let mut encoder = CompressedWriter::new(to, how)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match from.read(&mut block)? {
            0 => break,
            bytes => encoder.write_all(&block[..bytes])?,
        }
    }
    let part_file = encoder.finish()?;
    sharing.apply(&part_file, part);
    part_file.sync_all()
}

/// Removes what a killed process was writing.
pub fn remove_parts(path: &Path) -> io::Result<()> {
    let ours = rotated_files(path)?;
    for entry in std::fs::read_dir(parent(path))? {
        let part = entry?.path();
        // `<rotated>.gz.part`: the rotated file is there as long as this is not whole.
        let compressed = part
            .extension()
            .is_some_and(|ending| ending == "part")
            .then(|| part.with_extension(""));
        let rotated = compressed
            .filter(|compressed| compress::of_name(compressed) != Compression::None)
            .map(|compressed| compressed.with_extension(""));
        if rotated.is_some_and(|name| ours.iter().any(|(_, rotated)| name == *rotated)) {
            // In nobody's way: the next compression writes it anew.
            if let Err(error) = remove(&part) {
                let path = part.display().to_string();
                tracing::warn!(path, %error, "a part of a compressed output cannot be removed; it is left alone");
            }
        }
    }
    Ok(())
}

/// What stands in a rotated file, compressed or not.
pub fn reader<'a>(file: &'a File, path: &Path) -> io::Result<BufReader<Box<dyn Read + 'a>>> {
    let decoded = compress::decoder(file, compress::of_name(path))?;
    Ok(BufReader::with_capacity(BLOCK_BYTES, decoded))
}

/// Whether it was there.
pub fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_behind_the_mark_is_compressed_whole() {
        for (how, ending) in [(Compression::Gzip, "gz"), (Compression::Zstd, "zst")] {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join("out");
            let rotated = |number: u64| format!("out.2026-11-21.{number:06}");
            let text = |number: u64| format!("event {number}!\n").repeat(20_000);
            for number in 0..3 {
                std::fs::write(temp.path().join(rotated(number)), text(number)).unwrap();
            }
            // Left by a kill, before and after the rename.
            std::fs::write(temp.path().join(rotated(1) + ".gz.part"), "half").unwrap();
            std::fs::write(temp.path().join(format!("{}.{ending}", rotated(0))), "older").unwrap();
            std::fs::write(temp.path().join("others.gz.part"), "theirs").unwrap();
            remove_parts(&path).unwrap();
            let compressor = Compressor::start(&path, how, Sharing::default())
                .unwrap()
                .unwrap();
            compressor.passed(2);
            compressor.finish();
            let expect = [
                "others.gz.part".to_owned(),
                format!("{}.{ending}", rotated(0)),
                format!("{}.{ending}", rotated(1)),
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
    fn what_cannot_be_compressed_stays_as_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let rotated = temp.path().join("out.2026-11-21.000001");
        std::fs::write(&rotated, "event 1!\n").unwrap();
        // In the way of the compressed file.
        std::fs::create_dir(temp.path().join("out.2026-11-21.000001.gz")).unwrap();
        let compressor = Compressor::start(&temp.path().join("out"), Compression::Gzip, Sharing::default())
            .unwrap()
            .unwrap();
        compressor.passed(2);
        compressor.finish();
        assert_eq!(
            names(temp.path()),
            ["out.2026-11-21.000001", "out.2026-11-21.000001.gz"]
        );
        assert_eq!(std::fs::read(&rotated).unwrap(), b"event 1!\n");
    }

    /// A file that was over the number to keep comes back in no form.
    #[test]
    fn what_is_removed_while_it_is_compressed_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let rotated = temp.path().join("out.2026-11-21.000001");
        assert!(compress_file(&rotated, Compression::Zstd, &Sharing::default()).is_err());
        assert!(names(temp.path()).is_empty());
    }
}
