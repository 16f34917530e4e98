//! Opens an output where it was left, and collects the ids of events that are already in it.
//!
//! Events that were written after the checkpoint are kept. The source replays them, unless their audit file
//! is gone by then, and the replays are skipped by their ids. The output ends at the first line that is not an event:
//! it and what follows is cut off. The source replays that too, because it is not checkpointed. It is not searched for
//! events, because a hole that a crash left may be huge. Events in it would be unsynced in any case.

use super::compress_rotated::{reader, remove_parts};
use super::open::{open, open_existing, terminate_last_line};
use super::output::{OutputFile, day};
use super::permissions::OutputPermissions;
use super::rotated_files::rotated_files;
use crate::config::{Compression, FileSinkConfig};
use crate::durable;
use crate::position::{DeletedOutputs, SinkMark};
use crate::record::EventId;
use crate::sink::compress;
use crate::telemetry::systemd::Notify;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Maximum number of ids in memory until the source has caught up, enough for 3 GB of output. With an older
/// state (restored from a backup), earlier events are written twice, with the same ids.
const IDS_MAX: usize = 1_000_000;

/// While the output is read, the start timeout of the service manager is extended at this interval, and by
/// this time. The final sync may have gigabytes to write.
const START_EXTENSION_INTERVAL: Duration = Duration::from_secs(10);
const START_EXTENSION: Duration = Duration::from_secs(300);

/// The newest ids. A source that never catches up, because one of its directories is missing, holds the mark
/// back while its positions advance. After a crash it replays only the last events after the mark.
#[derive(Default)]
struct NewestIds {
    ids: HashSet<EventId>,
    in_order: VecDeque<EventId>,
}

impl NewestIds {
    fn add(&mut self, id: EventId, max: usize) {
        if !self.ids.insert(id) {
            return;
        }
        self.in_order.push_back(id);
        if self.in_order.len() > max
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// Returns the id of an encoded event; `None` if the line is not a complete event.
pub(super) type IdOf<'a> = &'a dyn Fn(&[u8]) -> Option<EventId>;

/// Reads the events of an output after its mark.
struct Recovery<'a> {
    mark: &'a SinkMark,
    id_of: IdOf<'a>,
    newest_ids: NewestIds,
    notify: Notify,
    last_extension: Instant,
}

impl OutputFile {
    /// Opens the output of one source. `mark`: its state at the checkpoint. Returns the ids of the events
    /// that are in it after the mark.
    pub(crate) fn open(
        sink: &str,
        source: &str,
        config: &FileSinkConfig,
        mark: Option<&SinkMark>,
        id_of: IdOf,
    ) -> io::Result<(OutputFile, HashSet<EventId>)> {
        let path = config.path_for(source);
        durable::create_dir_all(durable::parent(&path), 0o700)?;
        let file = open(&path)?;
        let metadata = file.metadata()?;
        remove_parts(&path)?;
        let mut rotated = rotated_files(&path)?;
        let permissions = OutputPermissions::new(config);
        permissions.apply(&file, &path);
        rotated.iter().for_each(|(_, rotated)| permissions.apply_to(rotated));
        // If a crash has left a file in both forms, the uncompressed one is read.
        rotated.dedup_by_key(|(rotation, _)| *rotation);
        let mut rotation = rotated.last().map_or(0, |(rotation, _)| rotation + 1);
        let mut ids = HashSet::new();
        let mut deleted = DeletedOutputs::default();
        if let Some(mark) = mark.filter(|mark| mark.path == path) {
            deleted = mark.deleted;
            rotated.retain(|(rotation, _)| *rotation >= mark.rotation);
            // The inode alone does not tell: once the marked file is compressed and deleted, a later one may get it.
            let live_is_marked = rotated.is_empty() && is_same_file(&file, mark)?;
            rotation = rotation.max(mark.rotation + u64::from(!live_is_marked));
            let mut recovery = Recovery::begin(mark, id_of);
            for (rotation, rotated) in &rotated {
                let file = open_existing(rotated)?;
                match compress::of_name(rotated) {
                    Compression::None => {
                        let marked = *rotation == mark.rotation && is_same_file(&file, mark)?;
                        recovery.recover_after_mark(&file, rotated, marked, true)?;
                    }
                    _ => recovery.read_compressed(&file, rotated, *rotation)?,
                }
            }
            // If another program has moved the output, this file may be foreign. It is read, and not
            // changed.
            let is_own = live_is_marked || !rotated.is_empty();
            recovery.recover_after_mark(&file, &path, live_is_marked, is_own)?;
            ids = recovery.newest_ids.ids;
        }
        let length = terminate_last_line(&file)?;
        if !ids.is_empty() {
            tracing::info!(path = %path.display(), events = ids.len(), "the output contains events after the checkpoint; they are not written again");
        }
        let day = day(if length > 0 { metadata.mtime() * 1000 } else { crate::clock::now_ms() });
        durable::sync_dir(durable::parent(&path))?;
        let mut output = OutputFile {
            sink: sink.to_owned(),
            path,
            config: config.clone(),
            file,
            rotation,
            length,
            last_event_end: length,
            written_of_batch: 0,
            rotation_pending: false,
            sync_failed: None,
            day,
            rotated: Vec::new(),
            events: (length == 0).then_some(0),
            rotated_events: BTreeMap::new(),
            deleted,
            permissions,
        };
        output.rotate_if_full()?;
        Ok((output, ids))
    }
}

/// Whether this is the marked file. Its device may have another number after a boot; then it must have an end of an
/// event where the mark is.
fn is_same_file(file: &File, mark: &SinkMark) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if metadata.ino() != mark.ino || metadata.dev() == mark.dev || mark.length == 0 {
        return Ok(metadata.ino() == mark.ino);
    }
    let mut last = [0];
    Ok(metadata.len() >= mark.length
        && file.read_exact_at(&mut last, mark.length - 1).is_ok()
        && last == *b"\n")
}

impl Recovery<'_> {
    fn begin<'a>(mark: &'a SinkMark, id_of: IdOf<'a>) -> Recovery<'a> {
        let mut recovery = Recovery {
            mark,
            id_of,
            newest_ids: NewestIds::default(),
            notify: Notify::from_env(),
            last_extension: crate::clock::monotonic(),
        };
        recovery.extend_start_timeout(recovery.last_extension);
        recovery
    }

    /// Extends the start timeout of the service manager, if the interval is over.
    fn extend_start_timeout_if_due(&mut self) {
        let now = crate::clock::monotonic();
        if now.duration_since(self.last_extension) >= START_EXTENSION_INTERVAL {
            self.extend_start_timeout(now);
        }
    }

    fn extend_start_timeout(&mut self, now: Instant) {
        self.last_extension = now;
        self.notify.still_starting(START_EXTENSION);
    }

    /// Collects the ids of the events after the mark, or of the whole file if it is not the marked one. Truncates
    /// the agent's own file at the first line that is not a complete event, left by a kill or a power cut.
    fn recover_after_mark(&mut self, file: &File, path: &Path, marked: bool, is_own: bool) -> io::Result<()> {
        let length = file.metadata()?.len();
        let mut at = if marked { self.mark.length.min(length) } else { 0 };
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        reader.seek(SeekFrom::Start(at))?;
        let mut line = Vec::new();
        while at < length {
            self.extend_start_timeout_if_due();
            let (bytes, may_be_event) = measure_line(&mut reader)?;
            if bytes == 0 {
                break;
            }
            line.clear();
            if may_be_event {
                line.resize(bytes, 0);
                file.read_exact_at(&mut line, at)?;
            }
            match line.strip_suffix(b"\n").and_then(self.id_of) {
                Some(id) => {
                    self.newest_ids.add(id, IDS_MAX);
                    // After a failed sync the kernel may consider a page clean that is not on the disk.
                    // Writing it again makes it dirty.
                    if is_own {
                        file.write_all_at(&line, at)?;
                    }
                }
                None if !is_own => {
                    if !may_be_event {
                        at += reader.skip_until(b'\n')? as u64;
                    }
                }
                None => {
                    tracing::info!(path = %path.display(), bytes = length - at, "an incomplete event at the end of the output was cut off");
                    file.set_len(at)?;
                    return file.sync_all();
                }
            }
            at += bytes as u64;
        }
        // The kept events count as delivered from now on, so they must be durable.
        file.sync_all()
    }

    /// Collects the ids of a compressed file. It is complete and durable. It is after the mark only if the
    /// state was restored from a backup.
    fn read_compressed(&mut self, file: &File, path: &Path, rotation: u64) -> io::Result<()> {
        let mut reader = reader(file, path)?;
        if rotation == self.mark.rotation {
            io::copy(&mut (&mut reader).take(self.mark.length), &mut io::sink())?;
        }
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            self.extend_start_timeout_if_due();
            if let Some(id) = line.strip_suffix(b"\n").and_then(self.id_of) {
                self.newest_ids.add(id, IDS_MAX);
            }
            line.clear();
        }
        Ok(())
    }
}

/// Skips the next line, or its beginning if that shows that it is not an event. Returns its length in bytes,
/// and whether it may be an event. An event has an LF and no NUL. Other lines may be of any length and are
/// not held in memory.
fn measure_line(reader: &mut impl BufRead) -> io::Result<(usize, bool)> {
    let mut bytes = 0;
    loop {
        let block = reader.fill_buf()?;
        let stop = memchr::memchr2(b'\n', 0, block);
        let passed = stop.map_or(block.len(), |at| at + 1);
        let ended = stop.map(|at| block[at] == b'\n');
        reader.consume(passed);
        bytes += passed;
        match ended {
            Some(whole) => return Ok((bytes, whole)),
            None if passed == 0 => return Ok((bytes, false)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Batch;
    use super::*;
    use crate::sink::compress::CompressedWriter;

    fn id_of(event: &[u8]) -> Option<EventId> {
        let number = std::str::from_utf8(event).ok()?.strip_prefix("event ")?.strip_suffix('!')?;
        number.parse().ok().map(EventId)
    }

    fn batch(numbers: std::ops::Range<u128>) -> Batch {
        let mut batch = Batch::default();
        for number in numbers {
            batch.bytes.extend(format!("event {number}!\n").into_bytes());
            batch.events.push(super::super::super::BatchEvent {
                end: batch.bytes.len() as u32,
                id: EventId(number),
                time_ms: 0,
                header_fields: Default::default(),
            });
        }
        batch
    }

    fn reopen(config: &FileSinkConfig, mark: &SinkMark) -> (OutputFile, Vec<u128>) {
        let (output, ids) = OutputFile::open("local", "wiki", config, Some(mark), &id_of).unwrap();
        let mut ids: Vec<u128> = ids.into_iter().map(|id| id.0).collect();
        ids.sort();
        (output, ids)
    }

    #[test]
    fn f72_events_after_the_mark_are_reported_and_a_torn_one_is_cut() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, ids) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        assert!(ids.is_empty());
        let mark = output.write(&batch(0..3)).unwrap();
        output.write(&batch(3..5)).unwrap();
        let whole = std::fs::read(&config.path).unwrap();
        for torn in [&b""[..], b"event 5", b"\0\0\0\n", b"event 5!"] {
            std::fs::write(&config.path, [&whole, torn].concat()).unwrap();
            let (output, ids) = reopen(&config, &mark);
            assert_eq!(ids, [3, 4], "{torn:?}");
            assert_eq!((output.rotation, output.length), (0, whole.len() as u64), "{torn:?}");
            assert_eq!(std::fs::read(&config.path).unwrap(), whole, "{torn:?}");
        }
    }

    /// Reading this tail to its end, or into memory, would never return.
    #[test]
    fn f72_a_torn_tail_of_any_length_is_cut_in_little_memory() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let mark = output.write(&batch(0..1)).unwrap();
        output.write(&batch(1..3)).unwrap();
        let whole = std::fs::read(&config.path).unwrap();
        output.file.set_len(1 << 40).unwrap();
        let (output, ids) = reopen(&config, &mark);
        assert_eq!(ids, [1, 2]);
        assert_eq!(output.length, whole.len() as u64);
        assert_eq!(std::fs::read(&config.path).unwrap(), whole);
    }

    #[test]
    fn the_newest_ids_are_kept() {
        let mut newest_ids = NewestIds::default();
        for number in [1, 2, 2, 3, 2, 4] {
            newest_ids.add(EventId(number), 2);
        }
        assert_eq!(newest_ids.ids, HashSet::from([EventId(3), EventId(4)]));
    }

    #[test]
    fn lines_are_measured_and_impossible_events_are_skipped() {
        let mut reader = BufReader::with_capacity(4, &b"event 1!\n\nev\0ent\nhalf"[..]);
        for expect in [(9, true), (1, true), (3, false), (4, true), (4, false), (0, false)] {
            assert_eq!(measure_line(&mut reader).unwrap(), expect);
        }
    }

    /// A foreign output is not truncated: events after a line that is not an event count as well.
    #[test]
    fn foreign_lines_are_skipped() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let mark = output.write(&batch(0..1)).unwrap();
        std::fs::rename(&config.path, temp.path().join("elsewhere")).unwrap();
        let theirs = b"theirs\nevent 6!\nth\0eirs\nevent 7!\nhalf";
        std::fs::write(&config.path, theirs).unwrap();
        let (_, ids) = reopen(&config, &mark);
        assert_eq!(ids, [6, 7]);
        assert_eq!(std::fs::read(&config.path).unwrap(), [theirs.as_slice(), b"\n"].concat());
    }

    #[test]
    fn a_missing_rotated_file_is_not_created() {
        let temp = tempfile::tempdir().unwrap();
        let gone = temp.path().join("out.2026-11-21.000001");
        assert_eq!(open_existing(&gone).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!gone.exists());
    }

    #[test]
    fn the_number_of_open_rotated_files_is_bounded() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = FileSinkConfig::new(temp.path().join("out"));
        (config.rotate_bytes, config.rotated_files_max) = (10, 1_000);
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        output.write(&batch(0..100)).unwrap();
        assert!(output.rotation > 40);
        assert!(output.rotated.len() <= super::super::output::ROTATED_OPEN_MAX);
        output.sync().unwrap().run().unwrap();
        assert_eq!(rotated_files(&config.path).unwrap().len() as u64, output.rotation);
    }

    #[test]
    fn f72_rotations_that_the_checkpoint_does_not_know_are_kept() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = FileSinkConfig::new(temp.path().join("out"));
        config.rotate_bytes = 30;
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let mark = output.write(&batch(0..2)).unwrap();
        output.write(&batch(2..9)).unwrap();
        assert_eq!(output.rotation, 2);
        let files = |path: &Path| rotated_files(path).unwrap().len();
        assert_eq!(files(&config.path), 2);
        let (output, ids) = reopen(&config, &mark);
        assert_eq!(ids, [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((output.rotation, files(&config.path)), (2, 2));
        // Without a mark nothing is read and nothing is changed.
        let (output, ids) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        assert_eq!((output.rotation, ids.len()), (2, 0));
    }

    /// An older state was restored. The marked file was compressed and deleted, and a later file got its inode.
    #[test]
    fn f72_the_inode_of_a_deleted_output_marks_no_later_one() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = FileSinkConfig::new(temp.path().join("out"));
        config.rotate_bytes = 30;
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let mut mark = output.write(&batch(0..2)).unwrap();
        output.write(&batch(2..8)).unwrap();
        assert_eq!((mark.rotation, output.rotation), (0, 2));
        let (first, second) = match &rotated_files(&config.path).unwrap()[..] {
            [(0, first), (1, second)] => (first.clone(), second.clone()),
            other => panic!("{other:?}"),
        };
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        for reused in [inode(&config.path), inode(&second)] {
            mark.ino = reused;
            assert_ne!(mark.ino, inode(&first));
            assert_eq!(
                reopen(&config, &mark).1,
                Vec::from_iter(0..8),
                "a file that was not compressed is read whole"
            );
        }
    }

    /// Otherwise the events of rotated files would be written twice.
    #[test]
    fn f72_rotated_outputs_that_cannot_be_listed_are_not_missing() {
        let temp = tempfile::tempdir().unwrap();
        assert!(rotated_files(&temp.path().join("out")).unwrap().is_empty());
        let no_directory = temp.path().join("file/out");
        std::fs::write(temp.path().join("file"), "").unwrap();
        let error = rotated_files(&no_directory).unwrap_err().to_string();
        assert!(error.starts_with("cannot list the rotated outputs: "), "{error}");
    }

    #[test]
    fn f72_a_crash_before_the_rotation_makes_no_file_longer() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let mark = output.write(&batch(0..4)).unwrap();
        config.rotate_bytes = 30;
        for rotation in [1, 1] {
            let (output, ids) = reopen(&config, &mark);
            assert!(ids.is_empty());
            assert_eq!((output.rotation, output.length), (rotation, 0));
        }
    }

    #[test]
    fn without_a_mark_a_foreign_incomplete_line_gets_its_end() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        std::fs::write(&config.path, "half").unwrap();
        let (output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        assert_eq!(output.length, 5);
        assert_eq!(std::fs::read(&config.path).unwrap(), b"half\n");
    }

    fn compressed(path: &Path) -> std::path::PathBuf {
        let name = Path::new(&format!("{}.gz", path.display())).to_owned();
        let mut writer = CompressedWriter::new(File::create(&name).unwrap(), Compression::Gzip).unwrap();
        writer.write_all(&std::fs::read(path).unwrap()).unwrap();
        writer.finish().unwrap();
        name
    }

    /// An older state was restored: the mark is in a file that is compressed by now.
    #[test]
    fn events_after_the_mark_are_read_from_compressed_files() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = FileSinkConfig::new(temp.path().join("out"));
        config.rotate_bytes = 30;
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let first = output.write(&batch(0..2)).unwrap();
        output.write(&batch(2..4)).unwrap();
        let second = output.write(&batch(4..5)).unwrap();
        output.write(&batch(5..9)).unwrap();
        assert_eq!((first.rotation, second.rotation, output.rotation), (0, 1, 2));
        for (rotation, rotated) in rotated_files(&config.path).unwrap() {
            if rotation == 0 {
                let foreign = [std::fs::read(&rotated).unwrap(), b"theirs\nevent 77!".to_vec()].concat();
                std::fs::write(&rotated, foreign).unwrap();
            }
            let gz = compressed(&rotated);
            // A crash may leave both forms. The uncompressed one is read.
            assert_eq!(reopen(&config, &first).1, Vec::from_iter(2..9), "{}", gz.display());
            std::fs::remove_file(&rotated).unwrap();
        }
        // What is no event is skipped: a compressed file is not changed.
        assert_eq!(reopen(&config, &first).1, Vec::from_iter(2..9));
        assert_eq!(reopen(&config, &second).1, Vec::from_iter(5..9));
    }

    #[test]
    fn a_mark_of_another_path_is_ignored() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let mut mark = output.write(&batch(0..1)).unwrap();
        output.write(&batch(1..3)).unwrap();
        mark.deleted = DeletedOutputs { files: 3, events: 40 };
        let (output, ids) = reopen(&config, &mark);
        assert_eq!((ids, output.deleted), (vec![1, 2], mark.deleted));
        mark.path = temp.path().join("other");
        let (output, ids) = reopen(&config, &mark);
        assert_eq!((ids, output.deleted), (vec![], DeletedOutputs::default()));
    }

    /// A rotation has a number once, also if all rotated files were removed.
    #[test]
    fn the_rotation_goes_on_from_the_mark() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let mut mark = output.write(&batch(0..1)).unwrap();
        mark.rotation = 5;
        assert_eq!(reopen(&config, &mark).0.rotation, 5);
        std::fs::rename(&config.path, temp.path().join("elsewhere")).unwrap();
        assert_eq!(reopen(&config, &mark).0.rotation, 6);
    }

    #[test]
    fn an_output_continues_on_the_day_of_its_last_event() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let open = || OutputFile::open("local", "wiki", &config, None, &id_of).unwrap().0;
        let old = std::time::UNIX_EPOCH + Duration::from_secs(30 * 86_400 + 5);
        let set_old = || File::options().write(true).open(&config.path).unwrap().set_modified(old).unwrap();
        open();
        set_old();
        let (output, today) = (open(), day(crate::clock::now_ms()));
        assert!((today - 1..=today).contains(&output.day), "an empty output has no day of its own");
        assert_eq!(output.events, Some(0));
        std::fs::write(&config.path, "event 1!\n").unwrap();
        set_old();
        let output = open();
        assert_eq!((output.day, output.events, output.length), (30, None, 9));
    }

    /// A file that became shorter than the mark has no events after it.
    #[test]
    fn an_output_that_is_shorter_than_its_mark_is_left_as_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let mark = output.write(&batch(0..3)).unwrap();
        output.file.set_len(9).unwrap();
        let (output, ids) = reopen(&config, &mark);
        assert_eq!((ids, output.length), (vec![], 9));
        assert_eq!(std::fs::read(&config.path).unwrap(), b"event 0!\n");
    }

    /// Also if more events follow: they are replayed, and would be unsynced in any case.
    #[test]
    fn the_output_ends_at_the_first_line_that_is_no_event() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, _) = OutputFile::open("local", "wiki", &config, None, &id_of).unwrap();
        let mark = output.write(&batch(0..1)).unwrap();
        for foreign in ["event\n", "eve\0nt 2!\n"] {
            std::fs::write(&config.path, format!("event 0!\nevent 1!\n{foreign}event 3!\n")).unwrap();
            assert_eq!(reopen(&config, &mark).1, [1]);
            assert_eq!(std::fs::read(&config.path).unwrap(), b"event 0!\nevent 1!\n");
        }
    }

    #[test]
    fn the_start_timeout_is_extended_at_intervals() {
        let mark = SinkMark {
            sink: "local".into(),
            path: "out".into(),
            dev: 1,
            ino: 1,
            rotation: 0,
            length: 0,
            deleted: DeletedOutputs::default(),
        };
        let begun = crate::clock::monotonic();
        let mut recovery = Recovery::begin(&mark, &id_of);
        assert!(recovery.last_extension >= begun);
        for (ago, extended) in [(START_EXTENSION_INTERVAL, true), (Duration::ZERO, false)] {
            let last = crate::clock::monotonic() - ago;
            recovery.last_extension = last;
            recovery.extend_start_timeout_if_due();
            assert_eq!(recovery.last_extension != last, extended, "{ago:?}");
        }
    }
}
