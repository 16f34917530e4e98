//! Writes audit files as a node of Confluence Data Center does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::time::iso;

/// The documentation has a dash before the number; observed files have a dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameForm {
    Dot,
    Dash,
}

/// The directory `log/audit` of one node, and the lines to be appended.
#[derive(Debug, Clone)]
pub struct AuditFiles {
    pub dir: PathBuf,
    pub form: NameForm,
    /// A file that has reached this size is followed by a new one.
    pub rotate_bytes: u64,
    /// Lines are buffered until there are this many.
    pub batch_lines: usize,
    /// The last line of each batch stays incomplete until the next batch.
    pub tear: bool,
    /// Maximum number of files; older ones are deleted at rotation.
    pub files_max: usize,
    /// Milliseconds that the time zone of the names is ahead of UTC.
    pub zone_ms: i64,
    /// The modification times are those of the simulated clock.
    pub dated: bool,
    /// Nothing is written. Events during this time never reach a file.
    pub silent: bool,
    /// Nothing is written yet. Events during this time are written with the next batch.
    pub stalled: bool,
    /// The error of the last write. Confluence continues, and so does the simulator.
    pub failure: Option<String>,
    /// Not yet written.
    pub held: Vec<u8>,
    pub held_lines: usize,
    /// Date and number in the name of the live file.
    pub current: Option<(String, u32)>,
}

impl AuditFiles {
    /// Below the local home, in `log/audit` as in Confluence.
    pub fn under(home: &Path) -> AuditFiles {
        AuditFiles {
            dir: home.join("log/audit"),
            form: NameForm::Dot,
            rotate_bytes: 100 << 20,
            batch_lines: 1,
            tear: false,
            files_max: 100,
            zone_ms: 0,
            dated: false,
            silent: false,
            stalled: false,
            failure: None,
            held: Vec::new(),
            held_lines: 0,
            current: None,
        }
    }

    pub fn append(&mut self, now_ms: i64, lines: &[&str]) {
        if self.silent {
            return;
        }
        for line in lines {
            self.held.extend_from_slice(line.as_bytes());
            self.held.push(b'\n');
        }
        self.held_lines += lines.len();
        if self.held_lines >= self.batch_lines && !self.stalled {
            self.flush(now_ms);
        }
    }

    /// Writes the buffered lines, without the second half of the last one if lines are torn.
    pub fn flush(&mut self, now_ms: i64) {
        let last_line = self.held[..self.held.len().saturating_sub(1)].iter().rposition(|b| *b == b'\n');
        let start = last_line.map_or(0, |at| at + 1);
        let keep = if self.tear { (self.held.len() - start) / 2 } else { 0 };
        let bytes = self.held.len() - keep;
        match self.write(now_ms, bytes) {
            Ok(()) => {
                self.held.drain(..bytes);
                self.held_lines = usize::from(keep > 0);
                self.failure = None;
            }
            // A failed write is lost, as in Confluence.
            Err(error) => {
                self.held.clear();
                self.held_lines = 0;
                self.current = None;
                self.failure = Some(error.to_string());
            }
        }
    }

    /// The next batch begins a new file.
    pub fn rotate(&mut self, now_ms: i64) {
        self.finish_line(now_ms);
        if let Some((_, number)) = &mut self.current {
            *number += 1;
        }
    }

    /// The file of the next batch, unless it is full or of yesterday.
    pub fn live(&self) -> Option<PathBuf> {
        let (date, number) = self.current.as_ref()?;
        Some(self.dir.join(self.name(date, *number)))
    }

    fn name(&self, date: &str, number: u32) -> String {
        let separator = if self.form == NameForm::Dot { '.' } else { '-' };
        format!("{date}{separator}{number:05}.audit.log")
    }

    /// A line is never split across two files.
    fn finish_line(&mut self, now_ms: i64) {
        if !self.held.is_empty() {
            let torn = std::mem::replace(&mut self.tear, false);
            self.flush(now_ms);
            self.tear = torn;
        }
    }

    fn write(&mut self, now_ms: i64, bytes: usize) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let path = self.place(now_ms)?;
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(&self.held[..bytes])?;
        if self.dated {
            file.set_modified(UNIX_EPOCH + Duration::from_millis(now_ms.unsigned_abs()))?;
        }
        Ok(())
    }

    /// Selects the file: a new one each day and at the size limit, otherwise the newest of today.
    fn place(&mut self, now_ms: i64) -> io::Result<PathBuf> {
        let date: String = iso(now_ms + self.zone_ms)[..10].replace('-', "");
        let (day, mut number) = match self.current.take() {
            Some(current) => current,
            None => (date.clone(), self.newest(&date)?),
        };
        // The second half of a line follows the first one in the same file, whatever the day.
        let whole = self.held_lines == 0 || !self.ends_torn(&day, number);
        let full = |path: PathBuf| path.metadata().is_ok_and(|meta| meta.len() >= self.rotate_bytes);
        let place = if whole && day != date {
            (date, 0)
        } else {
            if whole && full(self.dir.join(self.name(&day, number))) {
                number += 1;
            }
            (day, number)
        };
        let path = self.dir.join(self.name(&place.0, place.1));
        self.current = Some(place);
        if !path.exists() {
            self.expire()?;
        }
        Ok(path)
    }

    fn ends_torn(&self, day: &str, number: u32) -> bool {
        let last_byte = |path| {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::End(-1))?;
            let mut byte = [0];
            file.read_exact(&mut byte)?;
            io::Result::Ok(byte[0])
        };
        last_byte(self.dir.join(self.name(day, number))).is_ok_and(|byte| byte != b'\n')
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".audit.log")).collect();
        names.sort();
        Ok(names)
    }

    fn newest(&self, date: &str) -> io::Result<u32> {
        let of_today = |name: &String| name.strip_prefix(date)?.get(1..6)?.parse::<u32>().ok();
        Ok(self.names()?.iter().filter_map(of_today).max().unwrap_or(0))
    }

    /// Deletes the oldest file if there are too many, as Confluence does.
    fn expire(&self) -> io::Result<()> {
        let names = self.names()?;
        let surplus = (names.len() + 1).saturating_sub(self.files_max);
        for name in &names[..surplus.min(names.len())] {
            fs::remove_file(self.dir.join(name))?;
        }
        Ok(())
    }
}
