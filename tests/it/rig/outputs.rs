//! What an agent that rotates its output has left.

use super::Host;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::PathBuf;

/// The rotated outputs of a host, oldest first, and then the one being written; all as they were before they were
/// compressed. While an agent rotates and compresses them, what is between two names may be left out.
pub fn outputs(host: &Host) -> Vec<Vec<u8>> {
    let live = host.output();
    // By rotation; where a crash left one in both forms both are whole.
    let mut rotated: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for path in output_paths(host) {
        let name = path.to_str().unwrap();
        let Some(rotation) = rotation(name).filter(|_| path != live) else {
            continue;
        };
        let mut content = Vec::new();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{error}"),
        };
        match name.rsplit_once('.').unwrap().1 {
            "gz" => flate2::read::GzDecoder::new(file).read_to_end(&mut content).unwrap(),
            "zst" => zstd::Decoder::new(file).unwrap().read_to_end(&mut content).unwrap(),
            _ => (&file).read_to_end(&mut content).unwrap(),
        };
        if let Some(other) = rotated.insert(rotation, content) {
            assert!(other == rotated[&rotation], "{name}");
        }
    }
    let mut all: Vec<Vec<u8>> = rotated.into_values().collect();
    // It is not there before the first event, nor in the middle of a rotation.
    all.push(match fs::read(live) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read.unwrap(),
    });
    all
}

/// The files in the directory of outputs.
pub fn output_paths(host: &Host) -> Vec<PathBuf> {
    let dir = fs::read_dir(host.output().parent().unwrap()).unwrap();
    dir.map(|entry| entry.unwrap().path()).collect()
}

/// The number in the name of a rotated output; none in other names.
pub fn rotation(name: &str) -> Option<u64> {
    let plain = name.trim_end_matches(".gz").trim_end_matches(".zst");
    plain.rsplit_once('.')?.1.parse().ok()
}
