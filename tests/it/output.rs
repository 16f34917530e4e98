//! The output file as others see it: who may read it, and what becomes of old ones.

use crate::rig::{Host, Writer, file_name, outputs};
use std::process::Command;

fn state_show(host: &Host) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .args(["state", "show", "--state"])
        .arg(host.state())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The values of a field in the lines of a log that have this text.
fn fields<'a>(log: &'a str, text: &str, field: &str) -> Vec<&'a str> {
    let lines = log.lines().filter(|line| line.contains(text));
    lines
        .map(|line| {
            let (_, rest) = line
                .split_once(&format!(" {field}="))
                .unwrap_or_else(|| panic!("{line}"));
            rest.split(' ').next().unwrap()
        })
        .collect()
}

/// What is deleted may be the only copy: each file is named, with how much was in it and how old it was, and the sum is kept.
#[test]
fn f113_deleted_outputs_are_said_and_counted() {
    for compression in ["none", "gzip", "zstd"] {
        let mut host = Host::new();
        host.sink = format!(
            "rotate_bytes = \"20KiB\"\nrotate_daily = false\nkeep = 2\ncompression = \"{compression}\"\n"
        );
        let mut writer = Writer::new(&host.audit(), 113);
        let file = writer.create(&file_name(5, 0));
        let said = "a rotated output was deleted";
        let (mut files, mut events) = (0, 0);
        for _ in 0..3 {
            // Some were written by this process, some by the one before.
            writer.append(&file, 200);
            let once = host.once();
            assert_eq!(once.code, 0, "{}", once.stderr);
            let counts = fields(&once.stderr, said, "events");
            assert!(counts.len() >= 3, "{}", once.stderr);
            files += counts.len();
            events += counts
                .iter()
                .map(|count| count.parse::<usize>().unwrap())
                .sum::<usize>();
            for (path, age) in
                fields(&once.stderr, said, "path")
                    .into_iter()
                    .zip(fields(&once.stderr, said, "age"))
            {
                assert!(path.contains("/out/events.ndjson."), "{path}");
                assert!(!std::path::Path::new(path).exists(), "{path}");
                assert!(age.ends_with('s') || age.ends_with("min"), "{age}");
            }
            let left = outputs(&host);
            assert_eq!(left.len(), 3, "two and the one being written");
            let left: usize = left
                .iter()
                .map(|text| text.split(|b| *b == b'\n').count() - 1)
                .sum();
            assert_eq!(events + left, writer.count(), "{compression}: {}", once.stderr);
            let line = format!("sink local: {files} rotated files with {events} events deleted, over `keep`");
            let shown = state_show(&host);
            assert!(shown.contains(&line), "{line}: {shown}");
        }
    }
}
