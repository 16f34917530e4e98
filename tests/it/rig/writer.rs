//! Writes audit files of numbered records and rotates them in each way that was seen.

pub use crate::generator::lines::{Random, check};

use super::agent::append;
use crate::generator::lines::Lines;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Confluence's name for the n-th file of a day in January 2026; every other one in the form with a dash.
pub fn file_name(day: u32, number: u32) -> String {
    let separator = if number.is_multiple_of(2) { '.' } else { '-' };
    format!("202601{day:02}{separator}{number:05}.audit.log")
}

/// Makes records with sequence numbers from 0 up, and remembers which file each went to.
pub struct Writer {
    dir: PathBuf,
    lines: Lines,
    /// Of each record, by its sequence number, the number of its file.
    pub written: Vec<usize>,
    files: usize,
}

/// One audit file as its writer sees it: what is truncated or made again is another one.
pub struct LogFile {
    pub path: PathBuf,
    pub number: usize,
    held: Option<File>,
}

impl Writer {
    pub fn new(dir: &Path, seed: u64) -> Writer {
        Writer { dir: dir.to_owned(), lines: Lines::numbered(seed), written: Vec::new(), files: 0 }
    }

    /// An empty file.
    pub fn create(&mut self, name: &str) -> LogFile {
        let path = self.dir.join(name);
        File::create_new(&path).unwrap();
        self.files += 1;
        LogFile { path, number: self.files - 1, held: None }
    }

    /// The next record, with its LF, which the caller writes to the file.
    pub fn record(&mut self, file: &LogFile) -> Vec<u8> {
        let mut line = Vec::new();
        self.lines.write(&mut line);
        self.written.push(file.number);
        line
    }

    /// Appends so many records in one write.
    pub fn append(&mut self, file: &LogFile, records: usize) {
        let mut bytes = Vec::new();
        for _ in 0..records {
            self.lines.write(&mut bytes);
            self.written.push(file.number);
        }
        file.write(&bytes);
    }

    /// Renames the file and makes an empty one in its place, as logrotate does by default.
    pub fn rename_and_create(&mut self, file: &mut LogFile, to: &str) -> LogFile {
        let (from, to) = (file.path.clone(), self.dir.join(to));
        fs::rename(&from, &to).unwrap();
        file.path = to;
        self.create(from.file_name().unwrap().to_str().unwrap())
    }

    /// Copies the file and truncates it: its descriptors stay good and its records are gone.
    pub fn copy_and_truncate(&mut self, file: &mut LogFile, to: &Path) {
        fs::copy(&file.path, to).unwrap();
        self.truncate(file);
    }

    pub fn truncate(&mut self, file: &mut LogFile) {
        let open = OpenOptions::new().write(true).open(&file.path).unwrap();
        open.set_len(0).unwrap();
        file.number = self.files;
        self.files += 1;
    }

    /// Deletes the file and makes an empty one under its name.
    pub fn delete_and_create(&mut self, file: &LogFile) -> LogFile {
        fs::remove_file(&file.path).unwrap();
        self.create(file.path.file_name().unwrap().to_str().unwrap())
    }

    pub fn count(&self) -> usize {
        self.written.len()
    }
}

impl LogFile {
    /// A file that something else made, with the records of the file of this number.
    pub fn of(path: &Path, number: usize) -> LogFile {
        LogFile { path: path.to_owned(), number, held: None }
    }

    /// Keeps a descriptor from now on, as a writer that does not notice what is done to its file.
    pub fn keep_open(&mut self) {
        self.held = Some(OpenOptions::new().append(true).open(&self.path).unwrap());
    }

    /// Writes to the file what the caller has made.
    pub fn write(&self, bytes: &[u8]) {
        match self.held.as_ref() {
            Some(mut held) => held.write_all(bytes).unwrap(),
            None => append(&self.path, bytes),
        }
    }
}
