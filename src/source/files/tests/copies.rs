//! Copies, truncated files and their copies, compressed files.

use super::{Checkpointed, Home, TestRun};
use crate::config::{FileLocation, FilesConfig, StartAt};
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn line(n: u32) -> String {
    format!("{{record {n:080}}}")
}

fn text(range: Range<u32>) -> String {
    range.map(|n| line(n) + "\n").collect()
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
}

fn append(path: &Path, content: &str) {
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(content, 1).unwrap()
}

/// As `gzip FILE` does.
fn gzip_file(path: &Path) -> PathBuf {
    let to = PathBuf::from(format!("{}.gz", path.display()));
    fs::write(&to, gzip(&fs::read(path).unwrap())).unwrap();
    fs::remove_file(path).unwrap();
    to
}

/// One live file. Its rotated copies match the pattern or not.
fn one_file(home: &Home, pattern: &str) -> (FilesConfig, PathBuf) {
    let mut config = home.config();
    let live = home.audit().join("audit.log");
    config.location = FileLocation::Files(vec![home.audit().join(pattern).to_str().unwrap().to_owned()]);
    (config, live)
}

/// Each record once, in any order.
#[track_caller]
fn each_once(known: &Checkpointed, range: Range<u32>) {
    is_exact(known, &range.collect::<Vec<_>>());
}

#[track_caller]
fn is_exact(known: &Checkpointed, expect: &[u32]) {
    let number = |line: &String| line[8..].trim_matches('}').parse::<u32>();
    let mut numbers: Vec<u32> =
        known.lines.iter().map(|line| number(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    numbers.sort();
    let missing: Vec<_> = expect.iter().filter(|n| !numbers.contains(n)).collect();
    let twice: Vec<_> = numbers.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(
        numbers == expect && known.losses.is_empty(),
        "missing {missing:?}, twice {twice:?}, {} of {}, losses {:?}",
        numbers.len(),
        expect.len(),
        known.losses
    );
}

/// F86: a copy of a delivered file, sorted before or after it, while the agent runs or not, with the original present
/// or not, and lines that are added to the copy.
#[test]
fn f86_a_copy_is_not_delivered_again() {
    for (live, keep_original, name) in [
        (true, true, "old-1.audit.log"),
        (true, false, "20260106.00000.audit.log"),
        (false, true, "20260104.00000.audit.log"),
        (false, false, "old-1.audit.log"),
        (false, true, "20260106.00000.audit.log"),
    ] {
        for records in [1, 3, 20, 500] {
            if records < 20 && name.starts_with("20260106") {
                // Too short to distinguish a copy from a file with the same start.
                continue;
            }
            let home = Home::new();
            let mut known = Checkpointed::default();
            append(&home.file(0), &text(0..records));
            let copy = home.audit().join(name);
            let mut run = TestRun::start(home.config(), &mut known);
            run.sweep_and_read();
            let copied = || {
                fs::copy(home.file(0), &copy).unwrap();
                if !keep_original {
                    fs::remove_file(home.file(0)).unwrap();
                }
            };
            if live {
                copied();
                run.sweep_and_read();
            }
            run.assert_healthy();
            if !live {
                copied();
                run = TestRun::start(home.config(), &mut known);
                run.sweep_and_read();
                run.assert_healthy();
            }
            append(&copy, &text(records..records + 20));
            run.sweep_and_read();
            run.sweep_and_read();
            run.assert_healthy();
            each_once(&known, 0..records + 20);
            // All of that is checkpointed.
            TestRun::start(home.config(), &mut known).sweep_and_read();
            each_once(&known, 0..records + 20);
        }
    }
}

/// F86: the file was partly read when it was copied, and grows. The copy contains unread records too.
#[test]
fn f86_a_copy_of_a_file_that_is_partly_read() {
    for name in ["old-1.audit.log", "20260106.00000.audit.log"] {
        let home = Home::new();
        let mut config = home.config();
        config.read_bytes = 4096;
        let mut known = Checkpointed::default();
        append(&home.file(0), &text(0..300));
        let mut run = TestRun::start(config.clone(), &mut known);
        run.files.sweep(run.now, run.now_ms);
        for _ in 0..3 {
            run.read_block();
        }
        assert!((100..200).contains(&run.known.lines.len()));
        fs::copy(home.file(0), home.audit().join(name)).unwrap();
        append(&home.file(0), &text(300..310));
        let mut run = TestRun::start(config, &mut known);
        run.sweep_and_read();
        run.sweep_and_read();
        run.assert_healthy();
        each_once(&known, 0..310);
    }
}

/// F86: the copy is seen while it is being written, at any point within a line.
#[test]
fn f86_a_copy_that_is_being_made() {
    for keep_original in [true, false] {
        let home = Home::new();
        let mut known = Checkpointed::default();
        let content = text(0..400);
        append(&home.file(0), &content);
        let mut run = TestRun::start(home.config(), &mut known);
        run.sweep_and_read();
        let copy = home.audit().join("copy.audit.log");
        append(&copy, "");
        let (mut done, pause) = (0, Duration::from_millis(100));
        for len in [0, 10, 95, 700, 5_000, 5_003, 20_000] {
            append(&copy, &content[done..done + len]);
            done += len;
            // Written now by the agent's clock.
            run.now_ms = crate::clock::now_ms() - 100;
            run.sweep_and_read_after(pause);
        }
        if !keep_original {
            fs::remove_file(home.file(0)).unwrap();
        }
        append(&copy, &content[done..]);
        run.sweep_and_read_after(pause);
        append(&home.file(1), &text(400..410));
        run.sweep_and_read();
        run.sweep_and_read();
        run.assert_healthy();
        each_once(&known, 0..410);
    }
}

/// F86: a copy of the start, shorter than a fingerprint or cut within a line. The original is present and grows.
#[test]
fn f86_a_copy_of_the_beginning() {
    let content = text(0..200);
    for len in [92, 500, 1000, 1024, 9_000, 9_001] {
        for name in ["20260104.00000.audit.log", "old.audit.log"] {
            let home = Home::new();
            let mut known = Checkpointed::default();
            append(&home.file(0), &content);
            TestRun::start(home.config(), &mut known).sweep_and_read();
            write(&home.audit().join(name), &content[..len]);
            let mut run = TestRun::start(home.config(), &mut known);
            run.sweep_and_read();
            append(&home.file(0), &text(200..210));
            append(&home.audit().join("20260107.00000.audit.log"), &text(210..220));
            run.sweep_and_read();
            run.sweep_and_read();
            run.assert_healthy();
            each_once(&known, 0..220);
        }
    }
}

/// F86: a copy that ends within a line that is incomplete in the original too.
#[test]
fn f86_a_copy_with_half_a_line() {
    let home = Home::new();
    let mut known = Checkpointed::default();
    append(&home.file(0), &text(0..20));
    append(&home.file(0), &line(20)[..30]);
    let mut run = TestRun::start(home.config(), &mut known);
    run.sweep_and_read();
    fs::copy(home.file(0), home.audit().join("copy.audit.log")).unwrap();
    run.sweep_and_read();
    run.sweep_and_read();
    append(&home.file(0), &line(20)[30..]);
    append(&home.file(0), "\n");
    run.sweep_and_read();
    run.sweep_and_read();
    run.assert_healthy();
    each_once(&known, 0..21);
}

/// F86: files with the same start are not copies of each other. What only one contains is delivered.
#[test]
fn f86_files_that_begin_alike_lose_nothing() {
    for (head, live) in [(1, false), (1, true), (40, false), (40, true)] {
        let home = Home::new();
        let mut known = Checkpointed::default();
        append(&home.file(0), &(text(0..head) + &text(100..150)));
        let mut run = TestRun::start(home.config(), &mut known);
        run.sweep_and_read();
        append(&home.file(1), &(text(0..head) + &text(200..250)));
        if !live {
            run = TestRun::start(home.config(), &mut known);
        }
        run.sweep_and_read();
        append(&home.file(1), &text(250..260));
        run.sweep_and_read();
        run.assert_healthy();
        let mut lines = known.lines.clone();
        lines.sort();
        lines.dedup();
        let all = (0..head).chain(100..150).chain(200..260);
        assert_eq!(lines, all.map(line).collect::<Vec<_>>());
        assert_eq!(known.losses, []);
    }
}

/// F86, F87: three rotations by copying and truncating. The copies match the pattern or not, or are compressed at
/// once. Each copy contains what was written after the last read.
#[test]
fn f87_the_copy_of_a_truncated_file_is_read_on() {
    for (pattern, name) in [
        ("audit.log*", "audit.log."),
        ("audit.log", "audit.log."),
        ("audit.log", "old."),
        ("audit.log*", "audit.log.old-"),
    ] {
        for live in [true, false] {
            for unread in [0, 1, 300] {
                for compress in [false, true] {
                    let home = Home::new();
                    let (config, file) = one_file(&home, pattern);
                    let mut known = Checkpointed::default();
                    let mut run = TestRun::start(config.clone(), &mut known);
                    let mut n = 0;
                    for rotation in 0..3 {
                        append(&file, &text(n..n + 50));
                        run.sweep_and_read();
                        append(&file, &text(n + 50..n + 50 + unread));
                        n += 50 + unread;
                        let copy = home.audit().join(format!("{name}{rotation}"));
                        fs::copy(&file, &copy).unwrap();
                        File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
                        if compress {
                            gzip_file(&copy);
                        }
                        append(&file, &text(n..n + 10));
                        n += 10;
                        if !live {
                            run = TestRun::start(config.clone(), run.known);
                        }
                        run.sweep_and_read();
                        run.sweep_and_read();
                    }
                    run.assert_healthy();
                    let rewritten_files = run.files.take_rewritten().len();
                    assert_eq!(rewritten_files, if live { 3 } else { 1 });
                    println!("{pattern} {name} live {live} unread {unread} compressed {compress}");
                    each_once(&known, 0..n);
                }
            }
        }
    }
}

/// F87: a truncated file that was never read is read from its copy. Without a copy it is reported as lost.
#[test]
fn f87_an_unread_file_is_truncated() {
    for copied in [true, false] {
        let home = Home::new();
        let (config, file) = one_file(&home, "audit.log");
        let mut known = Checkpointed::default();
        append(&file, &text(0..50));
        {
            let mut run = TestRun::start(config.clone(), &mut known);
            run.files.sweep(run.now, run.now_ms);
            run.checkpoint();
        }
        if copied {
            fs::copy(&file, home.audit().join("old")).unwrap();
        }
        write(&file, &text(50..80));
        let mut run = TestRun::start(config, &mut known);
        run.sweep_and_read();
        run.sweep_and_read();
        run.assert_healthy();
        if copied {
            each_once(&known, 0..80);
        } else {
            assert_eq!(known.lines, (50..80).map(line).collect::<Vec<_>>());
            assert_eq!(known.losses.len(), 1);
        }
    }
}

/// F88: a file is compressed before it was read, partly or completely, or afterwards, while the agent runs or not.
#[test]
fn f88_a_compressed_file_is_read_where_it_was_left() {
    for (read, whole) in [(false, true), (true, false), (true, true)] {
        for live in [true, false] {
            let home = Home::new();
            let mut config = home.config();
            config.read_bytes = 4096;
            let mut known = Checkpointed::default();
            append(&home.file(0), &text(0..300));
            let mut run = TestRun::start(config.clone(), &mut known);
            if read && whole {
                run.sweep_and_read();
            } else {
                run.files.sweep(run.now, run.now_ms);
                for _ in 0..if read { 3 } else { 0 } {
                    run.read_block();
                }
                run.checkpoint();
            }
            if !live {
                run = TestRun::start(config.clone(), &mut known);
            }
            gzip_file(&home.file(0));
            append(&home.file(1), &text(300..310));
            run.sweep_and_read();
            run.sweep_and_read();
            run.assert_healthy();
            assert_eq!(run.known.losses, []);
            run = TestRun::start(config, &mut known);
            run.sweep_and_read();
            run.assert_healthy();
            each_once(&known, 0..310);
        }
    }
}

/// F88: a restart in the middle of a compressed file continues there. A compressed copy next to its original is not
/// delivered again.
#[test]
fn f88_a_restart_within_a_compressed_file() {
    let home = Home::new();
    let mut config = home.config();
    config.read_bytes = 4096;
    let mut known = Checkpointed::default();
    let packed = home.audit().join("20260104.00000.audit.log.zst");
    fs::write(&packed, zstd(text(0..300).as_bytes())).unwrap();
    for _ in 0..5 {
        let mut run = TestRun::start(config.clone(), &mut known);
        run.files.sweep(run.now, run.now_ms);
        for _ in 0..3 {
            run.read_block();
        }
        run.checkpoint();
    }
    append(&home.file(0), &text(300..400));
    let mut run = TestRun::start(config.clone(), &mut known);
    run.sweep_and_read();
    fs::write(format!("{}.gz", home.file(0).display()), gzip(text(0..0).as_bytes())).unwrap();
    fs::write(format!("{}.gz", home.file(0).display()), gzip(&fs::read(home.file(0)).unwrap())).unwrap();
    run.sweep_and_read();
    run.assert_healthy();
    fs::remove_file(&packed).unwrap();
    run.sweep_and_read();
    run.assert_healthy();
    each_once(&known, 0..400);
}

/// F88: a compressed file that is being written is retried. Its original may be deleted meanwhile.
#[test]
fn f88_a_compressed_file_that_is_being_written() {
    let home = Home::new();
    let mut known = Checkpointed::default();
    append(&home.file(0), &text(0..300));
    let packed = PathBuf::from(format!("{}.gz", home.file(0).display()));
    let whole = gzip(&fs::read(home.file(0)).unwrap());
    fs::remove_file(home.file(0)).unwrap();
    append(&home.file(1), &text(300..310));
    let mut run = TestRun::start(home.config(), &mut known);
    run.now_ms = crate::clock::now_ms();
    for end in [0, 1, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(&packed, &whole[..end]).unwrap();
        run.now_ms = crate::clock::now_ms();
        run.sweep_and_read_after(Duration::from_secs(40));
        run.sweep_and_read_after(Duration::from_secs(5));
        assert!(!run.files.all_at_end() && run.files.nothing_left_to_read(), "{end}");
        assert_eq!(run.known.losses, []);
    }
    fs::write(&packed, &whole).unwrap();
    run.sweep_and_read();
    run.assert_healthy();
    each_once(&known, 0..310);
}

/// F88: a modification time ahead of the clock keeps no incomplete or unsupported file waiting.
#[test]
fn f88_a_file_from_the_future_is_given_up_in_time() {
    let whole = gzip(text(0..300).as_bytes());
    for (ending, bytes) in [("gz", &whole[..whole.len() - 20]), ("bz2", b"BZh9 something")] {
        let home = Home::new();
        let mut known = Checkpointed::default();
        append(&home.file(1), &text(300..310));
        let packed = PathBuf::from(format!("{}.{ending}", home.file(0).display()));
        fs::write(&packed, bytes).unwrap();
        let ahead = std::time::UNIX_EPOCH + Duration::from_millis(crate::clock::now_ms() as u64 + 86_400_000);
        fs::File::options().write(true).open(&packed).unwrap().set_modified(ahead).unwrap();
        let mut run = TestRun::start(home.config(), &mut known);
        run.now_ms = crate::clock::now_ms();
        run.sweep_and_read();
        run.sweep_and_read_after(Duration::from_secs(61));
        run.sweep_and_read_after(Duration::from_secs(5));
        assert!(run.files.all_at_end(), "{ending}");
        assert_eq!(run.known.losses.len(), 1, "{ending}");
    }
}

/// F88: an unreadable compressed file is recorded as lost once, unless nothing is lost.
#[test]
fn f88_what_cannot_be_read_is_reported_once() {
    let content = text(0..300);
    let whole = gzip(content.as_bytes());
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0x55;
    let cases: [(&str, &[u8]); 4] = [
        ("gz", &damaged),
        ("gz", &whole[..whole.len() - 20]),
        ("bz2", b"BZh9 something"),
        ("zst", b"no stream at all"),
    ];
    for (ending, bytes) in cases {
        for read in [false, true] {
            let home = Home::new();
            let mut known = Checkpointed::default();
            if read {
                append(&home.file(0), &content);
                TestRun::start(home.config(), &mut known).sweep_and_read();
                append(&home.file(1), &text(300..310));
                TestRun::start(home.config(), &mut known).sweep_and_read();
                assert!(known.entries[&0].finished);
                fs::remove_file(home.file(0)).unwrap();
            } else {
                append(&home.file(1), &text(300..310));
            }
            fs::write(format!("{}.{ending}", home.file(0).display()), bytes).unwrap();
            for _ in 0..2 {
                let mut run = TestRun::start(home.config(), &mut known);
                for _ in 0..4 {
                    run.sweep_and_read();
                }
                run.assert_healthy();
            }
            let lost = known.losses.len();
            assert_eq!(lost, usize::from(!read), "{ending}, read before: {read}: {:?}", known.losses);
            let mut lines = known.lines.clone();
            lines.sort();
            let before = lines.len();
            lines.dedup();
            // A damaged stream may return other content before the damage is detected.
            let repeated = before - lines.len();
            assert!(repeated == 0 || bytes == damaged, "{ending}: {repeated} of {before}");
        }
    }
}

/// F88: content skipped by `start_at = "end"` is not read when it is compressed later.
#[test]
fn f88_the_end_is_where_it_was_although_it_was_compressed() {
    let home = Home::new();
    let mut config = home.config();
    config.start_at = StartAt::End;
    let mut known = Checkpointed::default();
    append(&home.file(0), &text(0..30));
    fs::write(home.audit().join("20260101.00000.audit.log.gz"), gzip(text(50..90).as_bytes())).unwrap();
    append(&home.file(1), &text(30..40));
    TestRun::start(config.clone(), &mut known).sweep_and_read();
    gzip_file(&home.file(0));
    gzip_file(&home.file(1));
    append(&home.file(2), &text(90..95));
    let mut run = TestRun::start(config, &mut known);
    run.sweep_and_read();
    run.sweep_and_read();
    run.assert_healthy();
    each_once(&known, 90..95);
}

/// F88: an unread compressed file that is deleted is reported.
#[test]
fn f88_a_compressed_file_that_is_deleted_unread() {
    let home = Home::new();
    let mut known = Checkpointed::default();
    let packed = home.audit().join("20260104.00000.audit.log.gz");
    fs::write(&packed, gzip(text(0..300).as_bytes())).unwrap();
    append(&home.file(0), &text(300..310));
    {
        let mut run = TestRun::start(home.config(), &mut known);
        run.files.sweep(run.now, run.now_ms);
        run.checkpoint();
    }
    fs::remove_file(&packed).unwrap();
    let mut run = TestRun::start(home.config(), &mut known);
    run.sweep_and_read();
    run.sweep_and_read();
    run.assert_healthy();
    assert_eq!(known.lines, (300..310).map(line).collect::<Vec<_>>());
    assert_eq!(known.losses.len(), 1);
}
