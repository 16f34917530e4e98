//! Limits the number of open files: those that are read next stay open.

use super::AuditFiles;
use super::compressed::FileCompression;
use super::file_reader::FileReader;
use super::tracked::TrackedFile;

impl AuditFiles {
    /// Whether another file may be opened. At the limit it closes a file that was read to its end: the rotated one
    /// that has been quiet longest, or else a growing one, because there may be more directories than files that may be
    /// open.
    pub(super) fn ensure_open_slot(&mut self) -> bool {
        if self.open_count() < self.config.open_files_max {
            return true;
        }
        let at_its_end = |t: &TrackedFile| {
            let Some(reader) = &t.reader else { return false };
            let read =
                reader.splitter.unterminated_bytes() == 0 && reader.splitter.boundary() == t.entry.size;
            t.listed && read && t.retry.is_none() && t.compression.is_none()
        };
        let idle: Vec<usize> =
            (0..self.tracked.len()).filter(|&index| at_its_end(&self.tracked[index])).collect();
        let (mut rotated, mut growing): (Vec<usize>, Vec<usize>) =
            idle.into_iter().partition(|&index| self.has_successor(index));
        rotated.retain(|&index| self.tracked[index].quiet_since.is_some());
        rotated.sort_by_key(|&index| self.tracked[index].quiet_since);
        // Close the last growing file: closing the first would reopen every file in each round.
        growing.reverse();
        for index in rotated.into_iter().chain(growing) {
            let tracked = &mut self.tracked[index];
            // A deleted file is reachable only by this descriptor, so it stays open.
            let named = |reader: &mut FileReader| {
                reader.check(&tracked.entry.path).is_ok_and(|check| check.link_count > 0)
            };
            if tracked.reader.as_mut().is_some_and(named) {
                tracked.save_position();
                tracked.reader = None;
                return true;
            }
        }
        false
    }

    /// Opens the files that are read next, so that a deletion does not lose them.
    pub(super) fn open_ahead(&mut self) {
        for index in self.reading_order() {
            if self.open_count() >= self.config.open_files_max {
                break;
            }
            if !self.tracked[index].is_open()
                && self.tracked[index].incomplete.is_none()
                && self.tracked[index].retry.is_none()
                && self.directories[self.tracked[index].directory].twin_window_loaded
            {
                // A failure is reported when the file is read.
                let _ = match self.tracked[index].compression {
                    None => self.open(index).map(drop),
                    Some(FileCompression::Unsupported) => Ok(()),
                    Some(_) => self.begin_scan(index).map(|scan| self.tracked[index].scan = scan),
                };
            }
        }
    }

    fn open_count(&self) -> usize {
        self.tracked.iter().filter(|t| t.is_open()).count()
    }
}
