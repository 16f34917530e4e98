//! What somebody else does to the audit files.

use super::confluence::Confluence;
use crate::rig::append;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

impl Confluence {
    /// A name that no file has had.
    fn new_name(&mut self, word: &str) -> PathBuf {
        self.names += 1;
        self.audit.join(format!("{word}-{}.audit.log", self.names))
    }

    pub fn rename(&mut self, file: u8) {
        if let Some(path) = self.pick(file) {
            fs::rename(path, self.new_name("renamed")).unwrap();
        }
    }

    pub fn truncate(&mut self, file: u8, percent: u8) {
        if let Some(path) = self.pick(file) {
            let open = OpenOptions::new().write(true).open(path).unwrap();
            let size = open.metadata().unwrap().len();
            open.set_len(size * u64::from(percent) / 100).unwrap();
            (self.has_torn_records, self.is_touched) = (true, true);
        }
    }

    pub fn copy(&mut self, file: u8, then_truncate: bool) {
        if let Some(path) = self.pick(file) {
            fs::copy(&path, self.new_name("copy")).unwrap();
            if then_truncate {
                OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
            }
            self.is_touched = true;
            self.has_copies |= !then_truncate;
            // A copy may end within a line.
            self.has_torn_records |= self.unfinished.is_some();
        }
    }

    pub fn overwrite(&mut self, file: u8, events: u8) {
        if let Some(path) = self.pick(file) {
            self.is_touched = true;
            OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
            self.append_to(&path, events);
        }
    }

    fn append_to(&mut self, path: &Path, events: u8) {
        for _ in 0..events {
            let (number, row) = self.event(0);
            append(path, format!("{}\n", self.events[&number].line).as_bytes());
            self.insert(row);
        }
    }

    pub fn delete(&mut self, file: u8) {
        if let Some(path) = self.pick(file) {
            self.is_touched = true;
            fs::remove_file(path).unwrap();
        }
    }

    pub fn replace(&mut self, file: u8, events: u8, same_name: bool) {
        use std::os::unix::fs::MetadataExt;
        let Some(path) = self.pick(file) else { return };
        self.is_touched = true;
        let inode = path.metadata().unwrap().ino();
        fs::remove_file(&path).unwrap();
        let new = if same_name { path } else { self.new_name("replaced") };
        self.append_to(&new, events);
        self.inodes_reused += u64::from(new.metadata().is_ok_and(|file| file.ino() == inode));
    }

    /// Not while the same content is in another file too, or is being read: what of it is read at the same time from
    /// the original is delivered from both. docs/RELIABILITY.md has it.
    pub fn gzip(&mut self, file: u8, is_read: bool) {
        if self.has_copies || is_read {
            return;
        }
        let live = self.live();
        let Some(path) = self.pick(file).filter(|path| *path != live) else { return };
        // A restart does not decompress it only to count equal records in the files after it.
        self.is_touched = true;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&fs::read(&path).unwrap()).unwrap();
        let aside = self.root.join("compressed");
        fs::write(&aside, encoder.finish().unwrap()).unwrap();
        fs::rename(aside, format!("{}.gz", path.display())).unwrap();
        fs::remove_file(path).unwrap();
    }

    pub fn move_out(&mut self, file: u8) {
        let Some(path) = self.pick(file) else { return };
        let aside = self.root.join("aside");
        fs::create_dir_all(&aside).unwrap();
        self.is_touched = true;
        fs::rename(&path, aside.join(path.file_name().unwrap())).unwrap();
    }

    pub fn move_back(&mut self) {
        let Ok(entries) = fs::read_dir(self.root.join("aside")) else { return };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let to = self.audit.join(path.file_name().unwrap());
            // Another file may have got its name.
            let to = if to.exists() { self.new_name("back") } else { to };
            fs::rename(path, to).unwrap();
        }
    }

    pub fn directory_gone(&mut self) {
        if !self.is_away() {
            let away = self.root.join("log/away");
            fs::rename(&self.audit, &away).unwrap();
            self.audit = away;
        }
    }

    pub fn directory_back(&mut self) {
        if self.is_away() {
            let audit = self.root.join("log/audit");
            fs::rename(&self.audit, &audit).unwrap();
            self.audit = audit;
        }
    }
}
