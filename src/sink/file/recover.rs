//! Opens an output where it was left, and finds out which events already stand in it.
//!
//! What was written after the checkpoint is kept: the source will tell these events again, unless their audit file is
//! gone by then, and those that already stand here are passed over by their ids. Only what is no whole event is cut off.

use super::compress_rotated::{reader, remove_parts};
use super::output::{Output, day, open, open_existing, parent, rotated_files};
use super::share::Sharing;
use crate::config::{Compression, FileSinkConfig};
use crate::position::{DeletedOutputs, SinkMark};
use crate::record::EventId;
use crate::sink::compress;
use crate::telemetry::systemd::Notify;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Ids that are held in memory until the source has caught up: some 3 GB of output. Of a state that is older than that
/// (put back from a backup, then) the rest is written twice, with the same ids.
const IDS_MAX: usize = 1_000_000;

/// While an output is read the service manager is told this often that the start goes on, and for how long it is to wait then:
/// what was read and is made durable at the end may be gigabytes.
const STARTING_TOLD: Duration = Duration::from_secs(10);
const STARTING_MAX: Duration = Duration::from_secs(300);

/// The newest ids. A source that never catches up, because a directory of it stays away, holds the mark back while its
/// positions move on: what it tells again after a crash is then the end of what stands after the mark.
#[derive(Default)]
struct Newest {
    ids: HashSet<EventId>,
    in_order: VecDeque<EventId>,
}

impl Newest {
    fn add(&mut self, id: EventId, most: usize) {
        if !self.ids.insert(id) {
            return;
        }
        self.in_order.push_back(id);
        if self.in_order.len() > most
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// The id of an event as it stands in the output; `None`: no whole event.
pub type IdOf<'a> = &'a dyn Fn(&[u8]) -> Option<EventId>;

/// Reads an output from the mark on.
struct Recovery<'a> {
    mark: &'a SinkMark,
    id_of: IdOf<'a>,
    newest: Newest,
    notify: Notify,
    told: Instant,
}

impl Output {
    /// Opens the output of one source. `mark` is what the checkpoint says of it. Returns the ids of the events that stand in
    /// it since then.
    pub fn open(
        sink: &str,
        source: &str,
        config: &FileSinkConfig,
        mark: Option<&SinkMark>,
        id_of: IdOf,
    ) -> io::Result<(Output, HashSet<EventId>)> {
        let path = config.path_for(source);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent(&path))?;
        let file = open(&path)?;
        let metadata = file.metadata()?;
        remove_parts(&path)?;
        let mut rotated = rotated_files(&path)?;
        let sharing = Sharing::new(config);
        sharing.apply(&file, &path);
        rotated.iter().for_each(|(_, rotated)| sharing.apply_to(rotated));
        // What a crash has left in both forms is read in the first.
        rotated.dedup_by_key(|(generation, _)| *generation);
        let mut generation = rotated.last().map_or(0, |(generation, _)| generation + 1);
        let mut ids = HashSet::new();
        let mut deleted = DeletedOutputs::default();
        if let Some(mark) = mark.filter(|mark| mark.path == path) {
            deleted = mark.deleted;
            let live_is_marked = is_of(&file, mark)?;
            generation = generation.max(mark.generation + u64::from(!live_is_marked));
            let mut recovery = Recovery::begin(mark, id_of);
            rotated.retain(|(generation, _)| *generation >= mark.generation);
            for (generation, rotated) in &rotated {
                let file = open_existing(rotated)?;
                match compress::of_name(rotated) {
                    Compression::None => recovery.take_tail(&file, rotated, true)?,
                    _ => recovery.take_compressed(&file, rotated, *generation)?,
                }
            }
            // After somebody else moved the output away this one may be ours or theirs: it is read, and not cut.
            let ours = live_is_marked || !rotated.is_empty();
            recovery.take_tail(&file, &path, ours)?;
            ids = recovery.newest.ids;
        }
        let length = end_of_last_line(&file)?;
        if !ids.is_empty() {
            tracing::info!(path = %path.display(), events = ids.len(), "events that were written after the checkpoint stand there already and are not written again");
        }
        let day = day(if length > 0 {
            metadata.mtime() * 1000
        } else {
            crate::clock::now_ms()
        });
        File::open(parent(&path))?.sync_all()?;
        let mut output = Output {
            sink: sink.to_owned(),
            path,
            config: config.clone(),
            file,
            generation,
            length,
            whole: length,
            taken: 0,
            renamed: false,
            sync_failed: None,
            day,
            rotated: Vec::new(),
            events: (length == 0).then_some(0),
            rotated_events: BTreeMap::new(),
            deleted,
            sharing,
        };
        output.rotate_if_full()?;
        Ok((output, ids))
    }
}

fn is_of(file: &File, mark: &SinkMark) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()) == (mark.dev, mark.ino))
}

impl Recovery<'_> {
    fn begin<'a>(mark: &'a SinkMark, id_of: IdOf<'a>) -> Recovery<'a> {
        let mut recovery = Recovery {
            mark,
            id_of,
            newest: Newest::default(),
            notify: Notify::from_env(),
            told: crate::clock::monotonic(),
        };
        recovery.report(recovery.told);
        recovery
    }

    /// Whoever has started the agent waits for so long only.
    fn goes_on(&mut self) {
        let now = crate::clock::monotonic();
        if now.duration_since(self.told) >= STARTING_TOLD {
            self.report(now);
        }
    }

    fn report(&mut self, now: Instant) {
        self.told = now;
        self.notify.still_starting(STARTING_MAX);
    }

    /// Collects the ids of what stands in a file after the mark, the whole file if it is a later one. From the first line that
    /// is no whole event, torn by a kill or by a power cut, the file is cut.
    fn take_tail(&mut self, file: &File, path: &Path, may_cut: bool) -> io::Result<()> {
        let length = file.metadata()?.len();
        let mut at = if is_of(file, self.mark)? {
            self.mark.length.min(length)
        } else {
            0
        };
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        reader.seek(SeekFrom::Start(at))?;
        let mut line = Vec::new();
        while at < length {
            self.goes_on();
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
                    self.newest.add(id, IDS_MAX);
                    // After a sync that failed the system takes a page for clean that is not on the disk: written again, it is not.
                    file.write_all_at(&line, at)?;
                }
                None if !may_cut => {
                    if !may_be_event {
                        at += reader.skip_until(b'\n')? as u64;
                    }
                }
                None => {
                    tracing::info!(path = %path.display(), bytes = length - at, "what is no whole event was cut off the output");
                    file.set_len(at)?;
                    return file.sync_all();
                }
            }
            at += bytes as u64;
        }
        // What is kept counts as delivered from now on, so it must not depend on a page that is not on the disk.
        file.sync_all()
    }

    /// The same for one that was compressed, and so was whole and on the disk: a state from a backup is older than that.
    fn take_compressed(&mut self, file: &File, path: &Path, generation: u64) -> io::Result<()> {
        let mut reader = reader(file, path)?;
        if generation == self.mark.generation {
            io::copy(&mut (&mut reader).take(self.mark.length), &mut io::sink())?;
        }
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            self.goes_on();
            if let Some(id) = line.strip_suffix(b"\n").and_then(self.id_of) {
                self.newest.add(id, IDS_MAX);
            }
            line.clear();
        }
        Ok(())
    }
}

/// Passes over the next line, or over its beginning if that shows already that it is no event: how many bytes, and whether
/// it may be one. An event has an end and no NUL; what has not may be of any length and is never held in memory.
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

/// Where to go on: after what is there, on a line of its own.
pub(super) fn end_of_last_line(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last == [b'\n'] {
        return Ok(length);
    }
    file.write_all_at(b"\n", length)?;
    Ok(length + 1)
}

#[cfg(test)]
mod tests {
    use super::super::super::Batch;
    use super::*;

    fn id_of(event: &[u8]) -> Option<EventId> {
        let number = std::str::from_utf8(event)
            .ok()?
            .strip_prefix("event ")?
            .strip_suffix('!')?;
        number.parse().ok().map(EventId)
    }

    fn batch(numbers: std::ops::Range<u128>) -> Batch {
        let mut batch = Batch::default();
        for number in numbers {
            batch.bytes.extend(format!("event {number}!\n").into_bytes());
            batch.events.push(super::super::super::Written {
                end: batch.bytes.len() as u32,
                id: EventId(number),
                time_ms: 0,
            });
        }
        batch
    }

    fn reopen(config: &FileSinkConfig, mark: &SinkMark) -> (Output, Vec<u128>) {
        let (output, ids) = Output::open("local", "wiki", config, Some(mark), &id_of).unwrap();
        let mut ids: Vec<u128> = ids.into_iter().map(|id| id.0).collect();
        ids.sort();
        (output, ids)
    }

    #[test]
    fn f72_what_stands_after_the_mark_is_told_and_what_is_torn_is_cut() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, ids) = Output::open("local", "wiki", &config, None, &id_of).unwrap();
        assert!(ids.is_empty());
        let mark = output.write(&batch(0..3)).unwrap();
        output.write(&batch(3..5)).unwrap();
        let whole = std::fs::read(&config.path).unwrap();
        for torn in [&b""[..], b"event 5", b"\0\0\0\n", b"event 5!"] {
            std::fs::write(&config.path, [&whole, torn].concat()).unwrap();
            let (output, ids) = reopen(&config, &mark);
            assert_eq!(ids, [3, 4], "{torn:?}");
            assert_eq!(
                (output.generation, output.length),
                (0, whole.len() as u64),
                "{torn:?}"
            );
            assert_eq!(std::fs::read(&config.path).unwrap(), whole, "{torn:?}");
        }
    }

    /// Who reads this tail into memory, or to its end, does not come back.
    #[test]
    fn f72_a_torn_tail_of_any_length_is_cut_in_little_memory() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, _) = Output::open("local", "wiki", &config, None, &id_of).unwrap();
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
    fn of_too_many_ids_the_newest_are_known() {
        let mut newest = Newest::default();
        for number in [1, 2, 2, 3, 2, 4] {
            newest.add(EventId(number), 2);
        }
        assert_eq!(newest.ids, HashSet::from([EventId(3), EventId(4)]));
    }

    #[test]
    fn a_line_is_measured_and_what_cannot_be_an_event_is_not_kept() {
        let mut reader = BufReader::with_capacity(4, &b"event 1!\n\nev\0ent\nhalf"[..]);
        for expect in [
            (9, true),
            (1, true),
            (3, false),
            (4, true),
            (4, false),
            (0, false),
        ] {
            assert_eq!(measure_line(&mut reader).unwrap(), expect);
        }
    }

    /// An output that is not ours to cut: what stands behind a line that is no event counts all the same.
    #[test]
    fn lines_of_others_are_passed_over() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        let (mut output, _) = Output::open("local", "wiki", &config, None, &id_of).unwrap();
        let mark = output.write(&batch(0..1)).unwrap();
        std::fs::rename(&config.path, temp.path().join("elsewhere")).unwrap();
        let theirs = b"theirs\nth\0eirs\nevent 7!\nhalf";
        std::fs::write(&config.path, theirs).unwrap();
        let (_, ids) = reopen(&config, &mark);
        assert_eq!(ids, [7]);
        assert_eq!(
            std::fs::read(&config.path).unwrap(),
            [theirs.as_slice(), b"\n"].concat()
        );
    }

    #[test]
    fn a_rotated_output_is_never_made() {
        let temp = tempfile::tempdir().unwrap();
        let gone = temp.path().join("out.2026-11-21.000001");
        assert_eq!(open_existing(&gone).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!gone.exists());
    }

    #[test]
    fn rotated_outputs_do_not_stay_open_without_bound() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = FileSinkConfig::new(temp.path().join("out"));
        (config.rotate_bytes, config.rotated_files_max) = (10, 1_000);
        let (mut output, _) = Output::open("local", "wiki", &config, None, &id_of).unwrap();
        output.write(&batch(0..100)).unwrap();
        assert!(output.generation > 40);
        assert!(output.rotated.len() <= super::super::output::ROTATED_OPEN_MAX);
        output.sync().unwrap().run().unwrap();
        assert_eq!(
            rotated_files(&config.path).unwrap().len() as u64,
            output.generation
        );
    }

    #[test]
    fn f72_rotations_that_the_checkpoint_does_not_know_are_kept() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = FileSinkConfig::new(temp.path().join("out"));
        config.rotate_bytes = 30;
        let (mut output, _) = Output::open("local", "wiki", &config, None, &id_of).unwrap();
        let mark = output.write(&batch(0..2)).unwrap();
        output.write(&batch(2..9)).unwrap();
        assert_eq!(output.generation, 2);
        let files = |path: &Path| rotated_files(path).unwrap().len();
        assert_eq!(files(&config.path), 2);
        let (output, ids) = reopen(&config, &mark);
        assert_eq!(ids, [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((output.generation, files(&config.path)), (2, 2));
        // Without a mark nothing is known and nothing is touched.
        let (output, ids) = Output::open("local", "wiki", &config, None, &id_of).unwrap();
        assert_eq!((output.generation, ids.len()), (2, 0));
    }

    /// Else all that stands in rotated files would be written twice.
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
        let (mut output, _) = Output::open("local", "wiki", &config, None, &id_of).unwrap();
        let mark = output.write(&batch(0..4)).unwrap();
        config.rotate_bytes = 30;
        for generation in [1, 1] {
            let (output, ids) = reopen(&config, &mark);
            assert!(ids.is_empty());
            assert_eq!((output.generation, output.length), (generation, 0));
        }
    }

    #[test]
    fn without_a_mark_a_torn_line_of_somebody_else_gets_its_end() {
        let temp = tempfile::tempdir().unwrap();
        let config = FileSinkConfig::new(temp.path().join("out"));
        std::fs::write(&config.path, "half").unwrap();
        let (output, _) = Output::open("local", "wiki", &config, None, &id_of).unwrap();
        assert_eq!(output.length, 5);
        assert_eq!(std::fs::read(&config.path).unwrap(), b"half\n");
    }
}
