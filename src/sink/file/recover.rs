//! Brings an output back to what the checkpoint says of it.

use super::output::{Output, day, open, parent, rotated_files};
use crate::config::FileSinkConfig;
use crate::position::SinkMark;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;

/// An output that went on for longer than this after the checkpoint was not written in the moments before a crash:
/// the checkpoint is an old one, put back from a backup. Then nothing is cut, and events stand there twice instead.
const CUT_AGE_MAX_MS: i64 = 10 * 60 * 1000;

impl Output {
    /// Opens the output of one source. `mark` is what the checkpoint says of it.
    pub fn open(
        sink: &str,
        source: &str,
        config: &FileSinkConfig,
        mark: Option<&SinkMark>,
    ) -> io::Result<Output> {
        let path = config.path_for(source);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent(&path))?;
        let mark = mark.filter(|mark| mark.path == path);
        if let Some(mark) = mark {
            undo_rotations(&path, mark)?;
        }
        let file = open(&path)?;
        let metadata = file.metadata()?;
        let newest = rotated_files(&path)
            .last()
            .map_or(0, |(generation, _)| generation + 1);
        let (generation, length) = match mark {
            Some(mark) if is_marked(&file, mark)? => {
                cut(&file, &path, mark)?;
                (mark.generation, mark.length)
            }
            Some(mark) => (newest.max(mark.generation + 1), append_to(&file)?),
            None => (newest, append_to(&file)?),
        };
        let day = day(if length > 0 {
            metadata.mtime() * 1000
        } else {
            crate::clock::now_ms()
        });
        File::open(parent(&path))?.sync_all()?;
        Ok(Output {
            sink: sink.to_owned(),
            path,
            config: config.clone(),
            file,
            generation,
            length,
            whole: length,
            taken: 0,
            day,
            rotated: Vec::new(),
        })
    }
}

/// Takes back the rotations that the checkpoint does not know of. All that was written since stands in files with a
/// greater generation, and will be written again.
fn undo_rotations(path: &Path, mark: &SinkMark) -> io::Result<()> {
    let mut later = rotated_files(path);
    later.retain(|(generation, rotated)| {
        *generation > mark.generation || (*generation == mark.generation && is_inode_of(rotated, mark))
    });
    if later.is_empty() || is_old(path, mark) {
        return Ok(());
    }
    remove_if_there(path)?;
    while let Some((generation, rotated)) = later.pop() {
        if generation == mark.generation {
            std::fs::rename(&rotated, path)?;
        } else {
            remove_if_there(&rotated)?;
        }
    }
    Ok(())
}

fn is_inode_of(path: &Path, mark: &SinkMark) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (mark.dev, mark.ino))
}

fn is_marked(file: &File, mark: &SinkMark) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()) == (mark.dev, mark.ino)
        && metadata.len() >= mark.length
        && (metadata.len() == mark.length || metadata.mtime() * 1000 - mark.at_ms <= CUT_AGE_MAX_MS))
}

fn cut(file: &File, path: &Path, mark: &SinkMark) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length > mark.length {
        tracing::info!(
            path = %path.display(), bytes = length - mark.length,
            "output cut back to the checkpoint; these events are written again"
        );
        file.set_len(mark.length)?;
    }
    file.sync_all()
}

/// Where to go on in a file that no checkpoint speaks for: after what is there, on a line of its own.
fn append_to(file: &File) -> io::Result<u64> {
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

fn is_old(path: &Path, mark: &SinkMark) -> bool {
    let written_ms = path
        .symlink_metadata()
        .map_or(mark.at_ms, |metadata| metadata.mtime() * 1000);
    let old = written_ms - mark.at_ms > CUT_AGE_MAX_MS;
    if old {
        tracing::warn!(
            path = %path.display(),
            "the checkpoint is much older than the output; nothing is cut, so events since then will stand there twice, with the same id"
        );
    }
    old
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
