//! `convert` on input that nobody would write by hand.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

/// Runs `convert` with no more memory than a record and its event take; returns its exit code, how many events it
/// wrote and what it said.
fn converted(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> (i32, usize, String) {
    let mut child = Command::new("prlimit")
        .arg(format!("--data={}", 96 << 20))
        .arg(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .arg("convert")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A process that has ended reads no more; its exit code shows it.
    let writes = thread::spawn(move || drop(write(&mut stdin)));
    let mut stdout = child.stdout.take().unwrap();
    let reads = thread::spawn(move || {
        let (mut events, mut part) = (0, vec![0; 1 << 16]);
        loop {
            match stdout.read(&mut part).unwrap() {
                0 => return events,
                read => events += part[..read].iter().filter(|byte| **byte == b'\n').count(),
            }
        }
    });
    let mut printed = String::new();
    child.stderr.take().unwrap().read_to_string(&mut printed).unwrap();
    let code = child.wait().unwrap().code().unwrap_or(-1);
    writes.join().unwrap();
    (code, reads.join().unwrap(), printed)
}

/// Fills what is written to with 256 MiB of one line.
fn one_line(out: &mut dyn Write) -> io::Result<()> {
    let part = vec![b'a'; 1 << 20];
    (0..256).try_for_each(|_| out.write_all(&part))
}

#[test]
fn f103_a_bomb_takes_constant_memory() {
    let (code, events, printed) = converted(|input| {
        let mut packed = GzEncoder::new(input, Compression::fast());
        one_line(&mut packed)?;
        packed.finish().map(drop)
    });
    assert_eq!((code, events), (65, 1), "{printed}");
    assert!(
        printed.starts_with("`-`: 1 line or response longer than 16 MiB, the first at offset 0; "),
        "{printed}"
    );
    // A string within a document that goes over lines.
    let (code, events, printed) = converted(|input| {
        input.write_all(b"{\"results\": [\n{\"a\": \"")?;
        one_line(input)?;
        input.write_all(b"\"}\n]}\n")
    });
    assert_eq!((code, events), (65, 3), "{printed}");
    // A document that never ends.
    let (code, events, printed) = converted(|input| {
        let line = format!("[\"{}\",\n", "x".repeat(1 << 20));
        (0..64).try_for_each(|_| input.write_all(line.as_bytes()))
    });
    assert_eq!((code, events), (65, 64), "{printed}");
    assert!(
        printed.starts_with("`-`: 4 lines or responses longer than 16 MiB, the first at offset 0; "),
        "{printed}"
    );
}
