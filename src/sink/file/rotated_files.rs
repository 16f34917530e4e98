//! Names of rotated files, and the search for them.

use crate::durable::parent;
use crate::sink::compress;
use std::io;
use std::path::{Path, PathBuf};

/// `events.ndjson` of rotation 17 becomes `events.ndjson.2026-11-21.000017`.
pub(super) fn rotated_name(path: &Path, now_ms: i64, rotation: u64) -> PathBuf {
    let date = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default().strftime("%Y-%m-%d").to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{date}.{rotation:06}"));
    name.into()
}

/// The rotated files of `path` with their rotations, oldest first. If a crash has left a file in both
/// forms, the compressed one comes second.
pub(super) fn rotated_files(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let Some(base) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(Vec::new());
    };
    let list = |error| with_context("cannot list the rotated outputs".to_owned(), error);
    let mut out = Vec::new();
    for entry in std::fs::read_dir(parent(path)).map_err(list)? {
        let path = entry.map_err(list)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(rotation) = name.and_then(|name| rotation_of(name, base)) {
            out.push((rotation, path));
        }
    }
    out.sort();
    Ok(out)
}

/// All files of the output `path`, oldest first: the rotated ones, and the one that is written. If a crash has left a
/// file in both forms, the uncompressed one.
pub(crate) fn outputs(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = rotated_files(path)?;
    files.dedup_by_key(|(rotation, _)| *rotation);
    Ok(files.into_iter().map(|(_, file)| file).chain([path.to_owned()]).collect())
}

/// Whether older files of the output were deleted: the oldest one that is there was not the first.
pub(crate) fn is_pruned(path: &Path) -> io::Result<bool> {
    Ok(rotated_files(path)?.first().is_some_and(|(rotation, _)| *rotation > 0))
}

fn rotation_of(name: &str, base: &str) -> Option<u64> {
    let suffix = compress::of_name(Path::new(name)).suffix();
    let (date, number) =
        name.strip_suffix(suffix)?.strip_prefix(base)?.strip_prefix('.')?.rsplit_once('.')?;
    let dated = date.len() == 10 && date.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    number.parse().ok().filter(|_| dated && number.len() >= 6)
}

pub(super) fn with_context(context: String, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{context}: {error}"))
}
