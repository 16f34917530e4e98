//! A source over real directories, driven by hand: sweep, read, checkpoint, start anew.

mod copies;

use super::frame::Frame;
use super::{Files, Turn};
use crate::clock;
use crate::config::home::HomeFound;
use crate::config::{FileLocation, FilesConfig, StartAt};
use crate::position::{FileEntry, Loss};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a checkpoint would hold, and what was delivered.
#[derive(Default)]
struct Known {
    entries: BTreeMap<u32, FileEntry>,
    losses: Vec<Loss>,
    lines: Vec<String>,
}

struct Run<'a> {
    files: Files,
    known: &'a mut Known,
    now: Instant,
    now_ms: i64,
}

impl Run<'_> {
    fn start(config: FilesConfig, known: &mut Known) -> Run<'_> {
        let entries: Vec<FileEntry> = known.entries.values().cloned().collect();
        let next_key = known.entries.keys().max().map_or(0, |key| key + 1);
        let fresh = next_key == 0;
        Run {
            files: Files::new("wiki", config, entries, next_key, fresh),
            known,
            now: clock::monotonic(),
            now_ms: clock::now_ms(),
        }
    }

    /// A sweep and all reads that it gives rise to, some time after the last one.
    fn turn(&mut self) {
        self.turn_after(Duration::from_secs(60));
    }

    fn turn_after(&mut self, pause: Duration) {
        self.now += pause;
        self.now_ms += pause.as_millis() as i64;
        self.files.sweep(self.now, self.now_ms);
        self.checkpoint();
        while self.block() == Turn::More {}
    }

    /// One read, and what a checkpoint learns of it.
    fn block(&mut self) -> Turn {
        let lines = &mut self.known.lines;
        let turn = self.files.read(self.now, self.now_ms, false, &mut |found| {
            if let (Frame::Line { body, .. }, false) = (&found.frame, found.replayed) {
                lines.push(String::from_utf8_lossy(body).into_owned());
            }
        });
        self.checkpoint();
        turn
    }

    fn checkpoint(&mut self) {
        let progress = self.files.progress();
        for entry in progress.files {
            self.known.entries.insert(entry.key, entry);
        }
        for key in progress.forget {
            self.known.entries.remove(&key);
        }
        self.known.losses.extend(progress.losses);
    }

    #[track_caller]
    fn is_well(&self) {
        assert_eq!(self.files.health(), None);
        assert!(self.files.caught_up());
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
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(self.file(number))
            .unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }

    fn config(&self) -> FilesConfig {
        FilesConfig::new(FileLocation::Home {
            dir: self.0.path().to_owned(),
            found: HomeFound::Setting,
        })
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Runs in a thread for which modes count even if it is root's.
fn bound_by_modes(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let mut mine = capabilities(None).unwrap();
            mine.effective
                .remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
            set_capabilities(None, mine).unwrap();
            test();
        });
        done.join().unwrap();
    });
}

/// A volume was put back with new inodes, and for a while its files may not be read: they go on where they were, and nothing
/// is told as lost.
#[test]
fn f13_restored_files_that_cannot_be_read_yet_go_on_later() {
    bound_by_modes(|| {
        let home = Home::new();
        home.append(0, "a\nb\n");
        home.append(1, "c\n");
        let mut known = Known::default();
        Run::start(home.config(), &mut known).turn();
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

fn home_reads_on(home: &Home, known: &mut Known) {
    let mut run = Run::start(home.config(), known);
    run.turn();
    assert!(run.files.health().unwrap().contains("cannot read `"));
    assert!(!run.files.caught_up());
    run.turn();
    for number in [0, 1] {
        mode(&home.file(number), 0o600);
    }
    home.append(1, "d\n");
    run.turn();
    run.is_well();
    assert_eq!(known.lines, ["a", "b", "c", "d"]);
    assert_eq!(known.losses, []);
    assert_eq!(known.entries.len(), 2);
}

/// A file that is open is followed under another name without being opened again, whatever its mode.
#[test]
fn f16_an_open_file_is_renamed_while_it_cannot_be_opened() {
    bound_by_modes(|| {
        let home = Home::new();
        home.append(0, "a\n{half");
        let mut known = Known::default();
        let mut run = Run::start(home.config(), &mut known);
        run.turn();
        fs::rename(home.file(0), home.file(1)).unwrap();
        mode(&home.file(1), 0o200);
        run.turn();
        run.turn();
        home.append(1, " and half}\n");
        run.turn();
        run.is_well();
        assert_eq!(known.lines, ["a", "{half and half}"]);
        assert_eq!(known.losses, []);
    });
}

/// What could not be read and is gone does not keep the source in trouble.
#[test]
fn f16_a_file_that_goes_while_it_cannot_be_read_ends_the_trouble() {
    bound_by_modes(|| {
        let home = Home::new();
        home.append(0, "a\n");
        home.append(1, "b\n");
        mode(&home.file(0), 0o000);
        let mut known = Known::default();
        let mut run = Run::start(home.config(), &mut known);
        run.turn();
        assert!(run.files.health().is_some());
        fs::remove_file(home.file(0)).unwrap();
        run.turn();
        run.is_well();
        assert_eq!(known.lines, ["b"]);
        assert_eq!(known.losses.len(), 1);
    });
}

/// Without a free descriptor a file waits; for long, that is trouble, until it can be read.
#[test]
fn f14_no_descriptor_for_long_is_trouble() {
    let home = Home::new();
    home.append(0, "a\n");
    let mut known = Known::default();
    let mut run = Run::start(home.config(), &mut known);
    run.turn();
    run.is_well();
    let mut until = run.now;
    for told in [false, false, true] {
        let error = io::Error::from(rustix::io::Errno::MFILE);
        until = run.files.read_failed(0, run.now, error);
        let health = run.files.health();
        assert_eq!(health.is_some_and(|health| health.contains("LimitNOFILE")), told);
    }
    assert!(until > run.now);
    run.turn();
    run.turn();
    run.is_well();
}

/// A predecessor that cannot be read does not keep the live file from being read.
#[test]
fn f16_an_unreadable_predecessor_does_not_stop_the_live_file() {
    bound_by_modes(|| {
        let home = Home::new();
        home.append(0, "a\n");
        home.append(1, "b\n");
        let mut known = Known::default();
        Run::start(home.config(), &mut known).turn();
        mode(&home.file(0), 0o000);
        home.append(1, "c\n");
        let mut run = Run::start(home.config(), &mut known);
        run.turn();
        run.is_well();
        assert_eq!(known.lines, ["a", "b", "c"]);
    });
}

/// The home is on another disk, under another path: its files go on where they were, the unread ones from their beginning,
/// and what is another file under a known name is read whole.
#[test]
fn f02_a_home_with_another_path_goes_on() {
    let (old, new) = (Home::new(), Home::new());
    old.append(0, "a\n");
    old.append(1, "b\n");
    old.append(2, "c\n");
    let mut known = Known::default();
    Run::start(old.config(), &mut known).turn();
    for number in 0..2 {
        fs::copy(old.file(number), new.file(number)).unwrap();
    }
    new.append(1, "d\n");
    new.append(2, "x\ny\n");
    let mut run = Run::start(new.config(), &mut known);
    run.turn();
    run.is_well();
    let aged = Duration::from_secs(31 * 86_400);
    run.turn_after(aged);
    assert_eq!(known.lines, ["a", "b", "c", "d", "x", "y"]);
    assert_eq!(known.losses, []);
    let paths: Vec<PathBuf> = known.entries.values().map(|entry| entry.path.clone()).collect();
    assert_eq!(
        paths,
        [new.file(0), new.file(1), new.file(2)],
        "the old third one is forgotten"
    );
}

/// A link that the operator named leads elsewhere from one sweep to the next.
#[test]
fn f02_a_link_to_the_home_is_pointed_elsewhere() {
    let (old, new, links) = (Home::new(), Home::new(), Home::new());
    let link = links.0.path().join("current");
    symlink(old.0.path(), &link).unwrap();
    let mut config = old.config();
    config.place = FileLocation::Home {
        dir: link.clone(),
        found: HomeFound::Setting,
    };
    old.append(0, "a\n{half");
    let mut known = Known::default();
    let mut run = Run::start(config, &mut known);
    run.turn();
    fs::rename(old.file(0), new.file(0)).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(new.0.path(), &link).unwrap();
    new.append(0, " and half}\n");
    run.turn();
    run.is_well();
    assert_eq!(known.lines, ["a", "{half and half}"]);
    assert_eq!(known.losses, []);
}

/// What was left unread in a directory that is not looked at any more is told when it is forgotten.
#[test]
fn f02_a_directory_that_is_left_is_forgotten_in_time() {
    let (old, new) = (Home::new(), Home::new());
    old.append(0, "a\n");
    old.append(1, "b\n");
    let mut known = Known::default();
    Run::start(old.config(), &mut known).turn();
    known.entries.values_mut().for_each(|entry| entry.size += 10);
    new.append(5, "c\n");
    let mut run = Run::start(new.config(), &mut known);
    run.turn_after(Duration::from_secs(29 * 86_400));
    assert_eq!(run.known.entries.len(), 3);
    // A disk that is mounted late may change where the home leads.
    let away = new.0.path().join("away");
    fs::rename(new.audit(), &away).unwrap();
    run.turn_after(Duration::from_secs(2 * 86_400));
    assert_eq!(run.known.entries.len(), 3);
    assert_eq!(run.known.losses, []);
    fs::rename(&away, new.audit()).unwrap();
    run.turn();
    assert_eq!(run.known.entries.len(), 1);
    let lost: Vec<u64> = run.known.losses.iter().map(|loss| loss.to - loss.from).collect();
    assert_eq!(lost, [10], "of the one that was not finished");
    run.is_well();
}

/// `start_at = "end"`: the live file cannot be opened at the first start, nor when the next one begins.
#[test]
fn the_end_is_where_it_was_at_the_first_start() {
    bound_by_modes(|| {
        let home = Home::new();
        let mut config = home.config();
        config.start_at = StartAt::End;
        home.append(0, "old\n");
        home.append(1, "old\n{begun");
        mode(&home.file(1), 0o200);
        let mut known = Known::default();
        Run::start(config.clone(), &mut known).turn();
        home.append(1, " and ended}\nnew\n");
        Run::start(config.clone(), &mut known).turn();
        assert_eq!(known.lines, [""; 0]);
        mode(&home.file(1), 0o600);
        let mut run = Run::start(config, &mut known);
        run.turn();
        run.is_well();
        assert_eq!(known.lines, ["{begun and ended}", "new"]);
    });
}

/// F85: files that were listed and not read are on another device, as copies under the same names: nothing is told as lost.
/// One of them was replaced by another file of its name, and that is told.
#[test]
fn f85_unread_files_on_another_device_are_not_lost() {
    let home = Home::new();
    let mut known = Known::default();
    home.append(0, "a\nb\n");
    home.append(1, "c\n");
    home.append(2, "");
    {
        // Listed, and stopped before anything was read.
        let mut run = Run::start(home.config(), &mut known);
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
    let mut run = Run::start(home.config(), &mut known);
    run.turn();
    run.is_well();
    assert_eq!(known.lines, ["a", "b", "c", "d"]);
    assert_eq!(known.losses, []);
    assert_eq!(known.entries.len(), 3);
}

/// F85: what was not read and is another file under its name now is told as lost, whatever its inode.
#[test]
fn f85_an_unread_file_that_was_replaced_is_told() {
    for same_inode in [false, true] {
        let home = Home::new();
        let mut known = Known::default();
        home.append(0, "a\nb\n");
        {
            let mut run = Run::start(home.config(), &mut known);
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
        let mut run = Run::start(home.config(), &mut known);
        run.turn();
        run.is_well();
        let tampered = run.files.take_tampered().len();
        assert_eq!(known.lines, ["c", "d"]);
        assert_eq!(known.losses.len() + tampered, 1, "same inode: {same_inode}");
    }
}

fn set_modified(path: &Path, time: std::time::SystemTime) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// Writes other bytes of the same length into the middle of a file, and sets its time back if `hidden`.
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

/// An edit of the same length in the middle of a finished file, with its time set back: found within a day, told once. Over restarts,
/// and with a file that was read in several runs.
#[test]
fn f92_a_hidden_edit_is_found_within_a_day() {
    let home = Home::new();
    let mut known = Known::default();
    home.append(0, &lines(3_000));
    Run::start(home.config(), &mut known).turn();
    home.append(0, &lines(3_000));
    home.append(1, "a\n");
    let mut run = Run::start(home.config(), &mut known);
    run.turn();
    edit(&home.file(0), true);
    run.turn_after(Duration::from_secs(23 * 3_600));
    assert_eq!(run.files.take_tampered().len(), 0, "not yet");
    assert_eq!(run.known.lines.len(), 6_001);
    let now_ms = run.now_ms;
    let mut run = Run::start(home.config(), &mut known);
    run.now_ms = now_ms;
    run.turn_after(Duration::from_secs(2 * 3_600));
    let tampered = run.files.take_tampered();
    assert_eq!(tampered.len(), 1);
    assert_eq!(tampered[0].path, home.file(0).to_str().unwrap());
    // It has been read from its beginning, and what it holds now is what is compared from now on.
    for _ in 0..3 {
        run.turn_after(Duration::from_secs(25 * 3_600));
    }
    assert_eq!(run.files.take_tampered().len(), 0);
    assert_eq!(run.known.lines.len(), 12_001);
    assert_eq!(run.known.losses, []);
    run.is_well();
}

/// A file whose time, inode or length has changed is compared at the next look, and not read again if it is the same.
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
            let mut known = Known::default();
            home.append(0, &lines(1_000));
            home.append(1, "a\n");
            Run::start(home.config(), &mut known).turn();
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
            let mut run = Run::start(home.config(), &mut known);
            run.turn();
            assert_eq!(run.files.take_tampered().len(), usize::from(edited), "{how}");
            run.turn();
            run.is_well();
            let late = usize::from(how == "length");
            let count = if edited { 2_001 + 2 * late } else { 1_001 + late };
            assert!(
                known.lines.len().abs_diff(count) <= late,
                "{how} {edited}: {}",
                known.lines.len()
            );
            assert_eq!(known.losses, []);
        }
    }
}

/// A daily comparison goes in steps with pauses, and reading goes before it.
#[test]
fn f92_the_daily_comparison_gives_way() {
    let home = Home::new();
    let mut known = Known::default();
    home.append(0, &lines(200_000));
    home.append(1, "a\n");
    let mut run = Run::start(home.config(), &mut known);
    run.turn();
    run.turn_after(Duration::from_secs(25 * 3_600));
    let mut steps = 0;
    let mut ends = false;
    while !ends {
        let (now, now_ms) = (run.now, run.now_ms);
        home.append(1, "b\n");
        let before = run.known.lines.len();
        run.turn_after(Duration::ZERO);
        assert_eq!(run.known.lines.len(), before + 1, "a line is read before");
        match run.files.read(now, now_ms, false, &mut |_| {}) {
            Turn::Until(at) => assert!(at > run.now),
            turn => ends = turn == Turn::Idle,
        }
        run.now += Duration::from_secs(1);
        steps += 1;
        assert!(steps < 100);
    }
    assert!(steps > 4, "{steps} steps for some 5 MB");
}
