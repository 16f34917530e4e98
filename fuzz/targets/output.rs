//! An output of the file sink after a crash: whole events stay, in order and with their ids, the rest is cut off, and
//! what was committed is not touched.

use super::OutputFile;
use crate::config::FileSinkConfig;
use crate::format::FormatKind;
use crate::fuzz::input::{Input, memory_dir};
use crate::position::{DeletedOutputs, SinkMark};
use crate::record::EventId;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub(crate) fn output(data: &[u8]) {
    let mut input = Input(data);
    let committed: Vec<u8> = (0..input.below(4)).flat_map(|number| event(200 + number as u8)).collect();
    let tail = tail(&mut input);
    let dir = done(tempfile::Builder::new().prefix("fuzz-").tempdir_in(memory_dir()));
    let config = FileSinkConfig::new(dir.path().join("out"));
    done(fs::write(&config.path, [&committed[..], &tail].concat()));
    let metadata = done(fs::metadata(&config.path));
    let mark = SinkMark {
        sink: "local".to_owned(),
        path: config.path.clone(),
        dev: metadata.dev(),
        ino: metadata.ino(),
        rotation: 0,
        length: committed.len() as u64,
        deleted: DeletedOutputs::default(),
    };
    let (mut kept, mut ids) = (committed, HashSet::new());
    for line in tail.split_inclusive(|byte| *byte == b'\n') {
        let Some(id) = line.strip_suffix(b"\n").and_then(id_of).filter(|_| !line.contains(&0)) else {
            break;
        };
        kept.extend_from_slice(line);
        ids.insert(id);
    }
    for _ in 0..2 {
        let (_, found) = done(OutputFile::open("local", "wiki", &config, Some(&mark), &id_of));
        assert_eq!(found, ids, "{}", tail.escape_ascii());
        assert_eq!(done(fs::read(&config.path)), kept, "{}", tail.escape_ascii());
    }
}

/// Events, parts of events, and single bytes.
fn tail(input: &mut Input) -> Vec<u8> {
    let mut tail = Vec::new();
    while !input.0.is_empty() {
        match input.byte() {
            number @ 0..100 => tail.extend(event(number)),
            number @ 100..160 => tail.extend(&event(number)[..usize::from(input.byte()) % 50]),
            _ => tail.push(input.byte()),
        }
    }
    tail
}

fn event(number: u8) -> Vec<u8> {
    let id = EventId(u128::from(number));
    let event = match number % 3 {
        0 => format!("{{\"event_id\":\"{id}\",\"a\":1}}\n"),
        1 => format!("{{\"event\":{{\"id\":\"{id}\"}}}}\n"),
        _ => format!("CEF:0|Atlassian|Confluence|1|a|b|1|rt=1 externalId={id}\n"),
    };
    event.into_bytes()
}

fn id_of(event: &[u8]) -> Option<EventId> {
    FormatKind::Ecs.id_of(event)
}

fn done<T>(result: std::io::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
