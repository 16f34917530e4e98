//! A source over real directories, driven step by step: sweep, read, checkpoint, restart.

mod copies;

use super::record_splitter::RawRecord;
use super::{AuditFiles, ReadStatus};
use crate::clock;
use crate::config::home::HomeFound;
use crate::config::{FileLocation, FilesConfig, StartAt};
use crate::position::{FileEntry, Loss, Verification};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The content of the checkpoint, and the delivered lines.
#[derive(Default)]
struct Checkpointed {
    entries: BTreeMap<u32, FileEntry>,
    losses: Vec<Loss>,
    lines: Vec<String>,
}

struct TestRun<'a> {
    files: AuditFiles,
    known: &'a mut Checkpointed,
    now: Instant,
    now_ms: i64,
}

impl TestRun<'_> {
    fn start(config: FilesConfig, known: &mut Checkpointed) -> TestRun<'_> {
        let entries: Vec<FileEntry> = known.entries.values().cloned().collect();
        let next_key = known.entries.keys().max().map_or(0, |key| key + 1);
        let first_run = next_key == 0;
        TestRun {
            files: AuditFiles::new("wiki", config, entries, next_key, first_run),
            known,
            now: clock::monotonic(),
            now_ms: clock::now_ms(),
        }
    }

    /// One sweep a minute after the last one, and all reads that follow.
    fn sweep_and_read(&mut self) {
        self.sweep_and_read_after(Duration::from_secs(60));
    }

    fn sweep_and_read_after(&mut self, pause: Duration) {
        self.now += pause;
        self.now_ms += pause.as_millis() as i64;
        self.files.sweep(self.now, self.now_ms);
        self.checkpoint();
        while self.read_block() == ReadStatus::More {}
    }

    /// Reads one block and stores the progress.
    fn read_block(&mut self) -> ReadStatus {
        let lines = &mut self.known.lines;
        let status = self.files.read(self.now, self.now_ms, false, &mut |found| {
            if let (RawRecord::Line { body, .. }, false) = (&found.raw, found.already_delivered) {
                lines.push(String::from_utf8_lossy(body).into_owned());
            }
        });
        self.checkpoint();
        status
    }

    fn checkpoint(&mut self) {
        let progress = self.files.progress();
        for entry in progress.files {
            self.known.entries.insert(entry.key, entry);
        }
        for key in progress.forgotten_files {
            self.known.entries.remove(&key);
        }
        self.known.losses.extend(progress.losses);
    }

    #[track_caller]
    fn assert_healthy(&self) {
        assert_eq!(self.files.health(), None);
        assert!(self.files.all_at_end());
    }
}

/// A home with a directory of audit files.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        fs::create_dir_all(home.audit()).unwrap();
        home
    }

    fn audit(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("log/audit")
    }

    fn file(&self, number: u32) -> PathBuf {
        self.audit().join(format!("20260105.{number:05}.audit.log"))
    }

    fn append(&self, number: u32, lines: &str) {
        let mut file = fs::File::options().append(true).create(true).open(self.file(number)).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }

    fn config(&self) -> FilesConfig {
        FilesConfig::new(FileLocation::Home { dir: self.0.path().to_owned(), found: HomeFound::Setting })
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Runs in a thread that file modes apply to, even for root.
fn bound_by_modes(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let mut mine = capabilities(None).unwrap();
            mine.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
            set_capabilities(None, mine).unwrap();
            test();
        });
        done.join().unwrap();
    });
}

/// A volume was restored with new inodes and its files cannot be read for a while. They are continued and nothing is
/// lost.
#[test]
fn f13_restored_files_that_cannot_be_read_yet_go_on_later() {
    bound_by_modes(|| {
        let home = Home::new();
        home.append(0, "a\nb\n");
        home.append(1, "c\n");
        let mut known = Checkpointed::default();
        TestRun::start(home.config(), &mut known).sweep_and_read();
        assert_eq!(known.lines, ["a", "b", "c"]);
        for number in [0, 1] {
            let copy = home.audit().join("copy");
            fs::copy(home.file(number), &copy).unwrap();
            fs::rename(&copy, home.file(number)).unwrap();
            mode(&home.file(number), 0o000);
        }
        home_reads_on(&home, &mut known);
    });
}

fn home_reads_on(home: &Home, known: &mut Checkpointed) {
    let mut run = TestRun::start(home.config(), known);
    run.sweep_and_read();
    assert!(run.files.health().unwrap().contains("cannot read `"));
    assert!(!run.files.all_at_end());
    run.sweep_and_read();
    for number in [0, 1] {
        mode(&home.file(number), 0o600);
    }
    home.append(1, "d\n");
    run.sweep_and_read();
    run.assert_healthy();
    assert_eq!(known.lines, ["a", "b", "c", "d"]);
    assert_eq!(known.losses, []);
    assert_eq!(known.entries.len(), 2);
}

/// A renamed open file is followed without being opened again, with any mode.
#[test]
fn f16_an_open_file_is_renamed_while_it_cannot_be_opened() {
    bound_by_modes(|| {
        let home = Home::new();
        home.append(0, "a\n{half");
        let mut known = Checkpointed::default();
        let mut run = TestRun::start(home.config(), &mut known);
        run.sweep_and_read();
        fs::rename(home.file(0), home.file(1)).unwrap();
        mode(&home.file(1), 0o200);
        run.sweep_and_read();
        run.sweep_and_read();
        home.append(1, " and half}\n");
        run.sweep_and_read();
        run.assert_healthy();
        assert_eq!(known.lines, ["a", "{half and half}"]);
        assert_eq!(known.losses, []);
    });
}

/// A file that could not be read and is deleted does not keep the source unhealthy.
#[test]
fn f16_a_file_that_goes_while_it_cannot_be_read_ends_the_trouble() {
    bound_by_modes(|| {
        let home = Home::new();
        home.append(0, "a\n");
        home.append(1, "b\n");
        mode(&home.file(0), 0o000);
        let mut known = Checkpointed::default();
        let mut run = TestRun::start(home.config(), &mut known);
        run.sweep_and_read();
        assert!(run.files.health().is_some());
        fs::remove_file(home.file(0)).unwrap();
        run.sweep_and_read();
        run.assert_healthy();
        assert_eq!(known.lines, ["b"]);
        assert_eq!(known.losses.len(), 1);
    });
}

/// Without a free descriptor a file waits. If that lasts, the source is unhealthy until the file can be read.
#[test]
fn f14_no_descriptor_for_long_is_trouble() {
    let home = Home::new();
    home.append(0, "a\n");
    let mut known = Checkpointed::default();
    let mut run = TestRun::start(home.config(), &mut known);
    run.sweep_and_read();
    run.assert_healthy();
    let mut until = run.now;
    for reported in [false, false, true] {
        let error = io::Error::from(rustix::io::Errno::MFILE);
        until = run.files.read_failed(0, run.now, error);
        let health = run.files.health();
        assert_eq!(health.is_some_and(|health| health.contains("LimitNOFILE")), reported);
    }
    assert!(until > run.now);
    run.sweep_and_read();
    run.sweep_and_read();
    run.assert_healthy();
}

/// A predecessor that cannot be read does not prevent the live file from being read.
#[test]
fn f16_an_unreadable_predecessor_does_not_stop_the_live_file() {
    bound_by_modes(|| {
        let home = Home::new();
        home.append(0, "a\n");
        home.append(1, "b\n");
        let mut known = Checkpointed::default();
        TestRun::start(home.config(), &mut known).sweep_and_read();
        mode(&home.file(0), 0o000);
        home.append(1, "c\n");
        let mut run = TestRun::start(home.config(), &mut known);
        run.sweep_and_read();
        run.assert_healthy();
        assert_eq!(known.lines, ["a", "b", "c"]);
    });
}

/// The home moved to another disk and path. Its files are continued, unread ones from their start. A different file
/// with a known name is read completely.
#[test]
fn f02_a_home_with_another_path_goes_on() {
    let (old, new) = (Home::new(), Home::new());
    old.append(0, "a\n");
    old.append(1, "b\n");
    old.append(2, "c\n");
    let mut known = Checkpointed::default();
    TestRun::start(old.config(), &mut known).sweep_and_read();
    for number in 0..2 {
        fs::copy(old.file(number), new.file(number)).unwrap();
    }
    new.append(1, "d\n");
    new.append(2, "x\ny\n");
    let mut run = TestRun::start(new.config(), &mut known);
    run.sweep_and_read();
    run.assert_healthy();
    let aged = Duration::from_secs(31 * 86_400);
    run.sweep_and_read_after(aged);
    assert_eq!(known.lines, ["a", "b", "c", "d", "x", "y"]);
    assert_eq!(known.losses, []);
    let paths: Vec<PathBuf> = known.entries.values().map(|entry| entry.path.clone()).collect();
    assert_eq!(paths, [new.file(0), new.file(1), new.file(2)], "the old third one is forgotten");
}

/// A configured symbolic link has another target from one sweep to the next.
#[test]
fn f02_a_link_to_the_home_is_pointed_elsewhere() {
    let (old, new, links) = (Home::new(), Home::new(), Home::new());
    let link = links.0.path().join("current");
    symlink(old.0.path(), &link).unwrap();
    let mut config = old.config();
    config.location = FileLocation::Home { dir: link.clone(), found: HomeFound::Setting };
    old.append(0, "a\n{half");
    let mut known = Checkpointed::default();
    let mut run = TestRun::start(config, &mut known);
    run.sweep_and_read();
    fs::rename(old.file(0), new.file(0)).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(new.0.path(), &link).unwrap();
    new.append(0, " and half}\n");
    run.sweep_and_read();
    run.assert_healthy();
    assert_eq!(known.lines, ["a", "{half and half}"]);
    assert_eq!(known.losses, []);
}

/// Unread content of a directory that is no longer configured is reported when its entry is forgotten.
#[test]
fn f02_a_directory_that_is_left_is_forgotten_in_time() {
    let (old, new) = (Home::new(), Home::new());
    old.append(0, "a\n");
    old.append(1, "b\n");
    let mut known = Checkpointed::default();
    TestRun::start(old.config(), &mut known).sweep_and_read();
    known.entries.values_mut().for_each(|entry| entry.size += 10);
    new.append(5, "c\n");
    let mut run = TestRun::start(new.config(), &mut known);
    run.sweep_and_read_after(Duration::from_secs(29 * 86_400));
    assert_eq!(run.known.entries.len(), 3);
    // A disk that is mounted late may change the target of the home.
    let away = new.0.path().join("away");
    fs::rename(new.audit(), &away).unwrap();
    run.sweep_and_read_after(Duration::from_secs(2 * 86_400));
    assert_eq!(run.known.entries.len(), 3);
    assert_eq!(run.known.losses, []);
    fs::rename(&away, new.audit()).unwrap();
    run.sweep_and_read();
    assert_eq!(run.known.entries.len(), 1);
    let lost: Vec<u64> = run.known.losses.iter().map(|loss| loss.to - loss.from).collect();
    assert_eq!(lost, [10], "of the one that was not finished");
    run.assert_healthy();
}

/// `start_at = "end"`: the live file cannot be opened at the first start, nor at the start of the next one.
#[test]
fn the_end_is_where_it_was_at_the_first_start() {
    bound_by_modes(|| {
        let home = Home::new();
        let mut config = home.config();
        config.start_at = StartAt::End;
        home.append(0, "old\n");
        home.append(1, "old\n{begun");
        mode(&home.file(1), 0o200);
        let mut known = Checkpointed::default();
        TestRun::start(config.clone(), &mut known).sweep_and_read();
        home.append(1, " and ended}\nnew\n");
        TestRun::start(config.clone(), &mut known).sweep_and_read();
        assert_eq!(known.lines, [""; 0]);
        mode(&home.file(1), 0o600);
        let mut run = TestRun::start(config, &mut known);
        run.sweep_and_read();
        run.assert_healthy();
        assert_eq!(known.lines, ["{begun and ended}", "new"]);
    });
}

/// Only the newest file grows; what is before it is skipped and finished.
#[test]
fn the_file_that_grows_is_read_from_the_end_on() {
    let home = Home::new();
    let mut config = home.config();
    config.start_at = StartAt::End;
    home.append(0, "old\n");
    home.append(1, "live\n");
    let mut known = Checkpointed::default();
    TestRun::start(config.clone(), &mut known).sweep_and_read();
    let found: Vec<_> = known.entries.values().map(|entry| (entry.offset, entry.finished)).collect();
    assert_eq!(found, [(4, true), (5, false)]);
    home.append(1, "new\n");
    TestRun::start(config, &mut known).sweep_and_read();
    assert_eq!(known.lines, ["new"]);
}

/// The inode of an audit file that was deleted may be that of any file.
#[test]
fn a_file_of_another_name_with_a_known_inode_is_not_an_audit_file() {
    for before in ["", "read\n"] {
        let home = Home::new();
        home.append(0, before);
        let mut known = Checkpointed::default();
        TestRun::start(home.config(), &mut known).sweep_and_read();
        known.lines.clear();
        let other = home.audit().join("notes.txt");
        fs::rename(home.file(0), &other).unwrap();
        fs::write(&other, "something else\n").unwrap();
        let mut run = TestRun::start(home.config(), &mut known);
        run.sweep_and_read();
        run.sweep_and_read();
        assert_eq!(known.lines, [""; 0], "{before:?}");
        assert!(known.entries.values().all(|entry| entry.path != other), "{before:?}");
    }
}

/// F85: listed but unread files moved to another device as copies with the same names. Nothing is lost. One was
/// replaced by a different file, and that is reported.
#[test]
fn f85_unread_files_on_another_device_are_not_lost() {
    let home = Home::new();
    let mut known = Checkpointed::default();
    home.append(0, "a\nb\n");
    home.append(1, "c\n");
    home.append(2, "");
    {
        // Listed, and stopped before anything was read.
        let mut run = TestRun::start(home.config(), &mut known);
        run.files.sweep(run.now, run.now_ms);
        run.checkpoint();
    }
    assert!(known.entries.values().all(|entry| entry.offset == 0));
    for entry in known.entries.values_mut() {
        entry.dev += 1;
    }
    for number in 0..3 {
        let copy = home.audit().join("copy");
        fs::copy(home.file(number), &copy).unwrap();
        fs::rename(&copy, home.file(number)).unwrap();
    }
    home.append(2, "d\n");
    let mut run = TestRun::start(home.config(), &mut known);
    run.sweep_and_read();
    run.assert_healthy();
    assert_eq!(known.lines, ["a", "b", "c", "d"]);
    assert_eq!(known.losses, []);
    assert_eq!(known.entries.len(), 3);
}

/// F85: an unread file that was replaced by a different file is reported as lost, also if the inode is the same.
#[test]
fn f85_an_unread_file_that_was_replaced_is_reported() {
    for same_inode in [false, true] {
        let home = Home::new();
        let mut known = Checkpointed::default();
        home.append(0, "a\nb\n");
        {
            let mut run = TestRun::start(home.config(), &mut known);
            run.files.sweep(run.now, run.now_ms);
            run.checkpoint();
        }
        let other = home.audit().join("other");
        fs::write(&other, "c\nd\n").unwrap();
        if same_inode {
            fs::copy(&other, home.file(0)).unwrap();
            fs::remove_file(&other).unwrap();
        } else {
            fs::rename(&other, home.file(0)).unwrap();
        }
        let mut run = TestRun::start(home.config(), &mut known);
        run.sweep_and_read();
        run.assert_healthy();
        let rewritten_files = run.files.take_rewritten().len();
        assert_eq!(known.lines, ["c", "d"]);
        assert_eq!(known.losses.len() + rewritten_files, 1, "same inode: {same_inode}");
    }
}

fn set_modified(path: &Path, time: std::time::SystemTime) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// Overwrites the middle of a file with other bytes of the same length, and resets its modification time if `hidden`.
fn edit(path: &Path, hidden: bool) {
    use std::os::unix::fs::FileExt;
    let before = fs::metadata(path).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(b"forged", before.len() / 2).unwrap();
    if hidden {
        set_modified(path, before.modified().unwrap());
    }
    assert_eq!(fs::metadata(path).unwrap().len(), before.len());
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{line {n:020}}}\n")).collect()
}

/// An edit in the middle of a finished file, with the same length and modification time, is found within a day and
/// reported once. Covers restarts and a file that was read in several runs.
#[test]
fn f92_a_hidden_edit_is_found_within_a_day() {
    let home = Home::new();
    let mut known = Checkpointed::default();
    home.append(0, &lines(3_000));
    TestRun::start(home.config(), &mut known).sweep_and_read();
    home.append(0, &lines(3_000));
    home.append(1, "a\n");
    let mut run = TestRun::start(home.config(), &mut known);
    run.sweep_and_read();
    edit(&home.file(0), true);
    run.sweep_and_read_after(Duration::from_secs(23 * 3_600));
    assert_eq!(run.files.take_rewritten().len(), 0, "not yet");
    assert_eq!(run.known.lines.len(), 6_001);
    let now_ms = run.now_ms;
    let mut run = TestRun::start(home.config(), &mut known);
    run.now_ms = now_ms;
    run.sweep_and_read_after(Duration::from_secs(2 * 3_600));
    let rewritten_files = run.files.take_rewritten();
    assert_eq!(rewritten_files.len(), 1);
    assert_eq!(rewritten_files[0].path, home.file(0).to_str().unwrap());
    // It was read from its start. Later comparisons use its current content.
    for _ in 0..3 {
        run.sweep_and_read_after(Duration::from_secs(25 * 3_600));
    }
    assert_eq!(run.files.take_rewritten().len(), 0);
    assert_eq!(run.known.lines.len(), 12_001);
    assert_eq!(run.known.losses, []);
    run.assert_healthy();
}

/// A file whose time, inode or length changed is checked at the next sweep, and not read again if its content is the
/// same.
#[test]
fn f92_what_has_changed_is_compared_at_once() {
    let copy_of = |path: &Path| {
        let copy = path.with_extension("copy");
        fs::copy(path, &copy).unwrap();
        copy
    };
    for edited in [false, true] {
        for how in ["time", "inode", "length"] {
            let home = Home::new();
            let mut known = Checkpointed::default();
            home.append(0, &lines(1_000));
            home.append(1, "a\n");
            TestRun::start(home.config(), &mut known).sweep_and_read();
            match how {
                "time" => set_modified(
                    &home.file(0),
                    std::time::UNIX_EPOCH + Duration::from_millis(clock::now_ms() as u64),
                ),
                "inode" => fs::rename(copy_of(&home.file(0)), home.file(0)).unwrap(),
                _ => home.append(0, "late\n"),
            }
            if edited {
                edit(&home.file(0), false);
            }
            let mut run = TestRun::start(home.config(), &mut known);
            run.sweep_and_read();
            assert_eq!(run.files.take_rewritten().len(), usize::from(edited), "{how}");
            run.sweep_and_read();
            run.assert_healthy();
            let late = usize::from(how == "length");
            let count = if edited { 2_001 + 2 * late } else { 1_001 + late };
            assert!(known.lines.len().abs_diff(count) <= late, "{how} {edited}: {}", known.lines.len());
            assert_eq!(known.losses, []);
        }
    }
}

/// The daily verification runs in steps with pauses, and reading has priority.
#[test]
fn f92_the_daily_verification_yields_to_reading() {
    let home = Home::new();
    let mut known = Checkpointed::default();
    home.append(0, &lines(200_000));
    home.append(1, "a\n");
    let mut run = TestRun::start(home.config(), &mut known);
    run.sweep_and_read();
    run.sweep_and_read_after(Duration::from_secs(25 * 3_600));
    let mut steps = 0;
    let mut ends = false;
    while !ends {
        let (now, now_ms) = (run.now, run.now_ms);
        home.append(1, "b\n");
        let before = run.known.lines.len();
        run.sweep_and_read_after(Duration::ZERO);
        assert_eq!(run.known.lines.len(), before + 1, "a line is read before");
        match run.files.read(now, now_ms, false, &mut |_| {}) {
            ReadStatus::IdleUntil(at) => assert!(at > run.now),
            turn => ends = turn == ReadStatus::Idle,
        }
        run.now += Duration::from_secs(1);
        steps += 1;
        assert!(steps < 100);
    }
    assert!(steps > 4, "{steps} steps for some 5 MB");
}

#[test]
fn the_time_of_a_verification_is_stored_as_a_number() {
    for (verification, stored) in
        [(Verification::Never, "0"), (Verification::Requested, "-1"), (Verification::At(7), "7")]
    {
        assert_eq!(serde_json::to_string(&verification).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Verification>(stored).unwrap(), verification);
    }
}

/// What an earlier process may have delivered was read again, although the files never stop growing.
#[test]
fn f21_the_replay_ends_under_load() {
    let home = Home::new();
    home.append(0, "a\n");
    home.append(1, "b\nhalf a li");
    let mut known = Checkpointed::default();
    let mut run = TestRun::start(home.config(), &mut known);
    run.files.sweep(run.now, run.now_ms);
    assert!(!run.files.has_replayed());
    home.append(1, "ne\n");
    while !run.files.has_replayed() {
        home.append(1, "more\n");
        assert_eq!(run.read_block(), ReadStatus::More, "it is not at its end");
    }
    assert_eq!(run.known.lines[..3], ["a", "b", "half a line"]);
    home.append(1, "later\n");
    assert!(run.files.has_replayed(), "what is written later is no replay");
}
