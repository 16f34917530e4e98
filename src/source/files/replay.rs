//! Tells the last records before the reading position again, for what depends on the records before.

use super::frame::Framer;
use super::tracked::Tracked;
use super::{FileRecord, Files, name, tail};
use std::io;

impl Files {
    /// Before the first record of a folder: tells the records just before it again, from the file itself and its predecessors.
    pub(super) fn replay(&mut self, at: usize, emit: &mut dyn FnMut(FileRecord<'_>)) -> io::Result<()> {
        let folder = self.tracked[at].folder;
        if self.folders[folder].begun {
            return Ok(());
        }
        let Some(directory) = &self.folders[folder].open else {
            return Ok(());
        };
        // Twice the window: lines count without their ends, so the same stretch is longer on the disk.
        let mut wanted = 2 * crate::record::twins::WINDOW_BYTES;
        let mut skipped_ranges = Vec::new();
        let mut before: Vec<usize> = (0..self.tracked.len())
            .filter(|&t| self.tracked[t].folder == folder && self.tracked[t].listed)
            .filter(|&t| self.tracked[t].entry.offset > 0)
            .collect();
        before.sort_by(|&a, &b| self.tracked[b].order.cmp(&self.tracked[a].order));
        for t in before {
            if wanted == 0 {
                break;
            }
            let Tracked { entry, path, .. } = &self.tracked[t];
            if self.tracked[t].compression.is_some() {
                // To go back in another one would mean to read it once more.
                let before = if t == at {
                    std::mem::take(&mut self.tracked[t].before)
                } else {
                    Vec::new()
                };
                let kept = before.len().min(wanted as usize);
                wanted -= kept as u64;
                skipped_ranges.push((t, before[before.len() - kept..].to_vec()));
                continue;
            }
            let found = directory
                .open_file(name::of(&entry.path))
                .and_then(|file| tail::bytes_before(&file, entry.offset, wanted as usize));
            let bytes = match found {
                Ok(bytes) => bytes.unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if t == at => return Err(error),
                // A predecessor's fault is no reason to leave this file unread.
                Err(error) => {
                    tracing::warn!(
                        source = self.source,
                        path,
                        %error,
                        "what was read last of this file cannot be looked at again; a record that is the same as one in it may get that one's id"
                    );
                    continue;
                }
            };
            wanted -= bytes.len() as u64;
            skipped_ranges.push((t, bytes));
        }
        self.folders[folder].begun = true;
        for (t, bytes) in skipped_ranges.into_iter().rev() {
            let entry = &self.tracked[t].entry;
            let from = entry.offset - bytes.len() as u64;
            let whole = if from == 0 {
                0
            } else {
                memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |at| at + 1)
            };
            let mut framer = Framer::new(from + whole as u64, b"", self.config.record_bytes_max);
            let path_json = &self.tracked[t].path_json;
            let sequence = self.folders[folder].sequence;
            let passed = &mut self.folders[folder].passed_bytes;
            for piece in bytes[whole..].chunks(64 * 1024) {
                framer.room(piece.len())[..piece.len()].copy_from_slice(piece);
                framer.filled(piece.len());
                while let Some(frame) = framer.next_frame() {
                    let bytes = frame.bytes();
                    emit(FileRecord {
                        frame,
                        file: entry.key,
                        path_json,
                        folder,
                        sequence,
                        at: *passed,
                        unterminated: false,
                        replayed: true,
                    });
                    *passed += bytes;
                }
            }
        }
        Ok(())
    }
}
