//! Replays the last records before the read position, to rebuild state that depends on them (twin counts).

use super::record_splitter::RecordSplitter;
use super::tracked::TrackedFile;
use super::{AuditFiles, FileRecord, file_reader, name};
use crate::record::twins;
use std::io;

/// The last bytes before the offset of the file with this index in `tracked`.
type BytesBefore = (usize, Vec<u8>);

impl AuditFiles {
    /// Before the first record of a directory's twin scope: emits the preceding records again, from the file and its
    /// predecessors.
    pub(super) fn load_twin_window(
        &mut self,
        index: usize,
        emit: &mut dyn FnMut(FileRecord<'_>),
    ) -> io::Result<()> {
        let directory = self.tracked[index].directory;
        if self.directories[directory].twin_window_loaded {
            return Ok(());
        }
        let Some(to_replay) = self.twin_window_bytes(index)? else {
            return Ok(());
        };
        self.directories[directory].twin_window_loaded = true;
        for (index, bytes) in to_replay.into_iter().rev() {
            self.emit_twin_window(index, &bytes, emit);
        }
        Ok(())
    }

    /// The bytes before the read position, of the latest file first. `None` if the directory is not open.
    fn twin_window_bytes(&mut self, index: usize) -> io::Result<Option<Vec<BytesBefore>>> {
        let directory = self.tracked[index].directory;
        let Some(opened) = &self.directories[directory].open else {
            return Ok(None);
        };
        // Twice the window: it counts records without line ends, so the same range is longer on disk.
        let mut wanted = 2 * twins::WINDOW_BYTES as usize;
        let mut to_replay = Vec::new();
        let mut read_files: Vec<usize> = (0..self.tracked.len())
            .filter(|&other| self.tracked[other].directory == directory && self.tracked[other].listed)
            .filter(|&other| self.tracked[other].entry.offset > 0)
            .collect();
        read_files.sort_by(|&a, &b| self.tracked[b].order.cmp(&self.tracked[a].order));
        for other in read_files {
            if wanted == 0 {
                break;
            }
            let TrackedFile { entry, path, .. } = &self.tracked[other];
            if self.tracked[other].compression.is_some() {
                // A compressed predecessor would have to be decompressed again, so it is left out.
                if other == index {
                    let mut bytes = std::mem::take(&mut self.tracked[other].bytes_before);
                    bytes.drain(..bytes.len().saturating_sub(wanted));
                    wanted -= bytes.len();
                    to_replay.push((other, bytes));
                }
                continue;
            }
            let found = opened.open_file(name::file_name(&entry.path)).and_then(|file| {
                // Other content was not delivered. It would count as a twin of itself when it is read.
                let head_end = u64::from(entry.head_fingerprint.len);
                let is_known = file_reader::has_fingerprint(&file, head_end, entry.head_fingerprint)?
                    && file_reader::has_fingerprint(&file, entry.offset, entry.tail_fingerprint)?;
                let bytes =
                    if is_known { file_reader::bytes_before(&file, entry.offset, wanted)? } else { None };
                Ok(bytes.unwrap_or_default())
            });
            let bytes = match found {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if other == index => return Err(error),
                // A predecessor that cannot be read must not stop this file.
                Err(error) => {
                    tracing::warn!(
                        source = self.source,
                        path,
                        %error,
                        "the last records of this file cannot be read again; an identical record in a later file may \
                         get the same id"
                    );
                    continue;
                }
            };
            wanted -= bytes.len();
            to_replay.push((other, bytes));
        }
        Ok(Some(to_replay))
    }

    /// Emits the complete records in `bytes`, the last ones before a file's offset.
    fn emit_twin_window(&mut self, index: usize, bytes: &[u8], emit: &mut dyn FnMut(FileRecord<'_>)) {
        let TrackedFile { entry, path_json, directory, .. } = &self.tracked[index];
        let from = entry.offset - bytes.len() as u64;
        let first_record = if from == 0 {
            0
        } else {
            memchr::memchr(b'\n', bytes).map_or(bytes.len(), |line_end| line_end + 1)
        };
        let mut splitter = RecordSplitter::new(from + first_record as u64, b"", self.config.record_bytes_max);
        let twin_scope = self.directories[*directory].twin_scope;
        let emitted = &mut self.directories[*directory].emitted_bytes;
        for piece in bytes[first_record..].chunks(64 * 1024) {
            splitter.spare_space(piece.len())[..piece.len()].copy_from_slice(piece);
            splitter.advance(piece.len());
            while let Some(raw) = splitter.next_record() {
                let bytes = raw.bytes();
                emit(FileRecord {
                    raw,
                    file_key: entry.key,
                    path_json,
                    directory: *directory,
                    twin_scope,
                    twin_offset: *emitted,
                    unterminated: false,
                    already_delivered: true,
                });
                *emitted += bytes;
            }
        }
    }
}
