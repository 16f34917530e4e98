//! Opens directories and files such that nobody can swap a link in: component by component, no link followed,
//! regular files only, never blocking.

use super::identity::Seen;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Where a source looks for files: one directory, and which names in it are audit files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Absolute; opening it follows no link.
    pub dir: PathBuf,
    pub names: glob::Pattern,
}

pub struct Directory {
    fd: OwnedFd,
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
}

/// What stands in a directory under one name.
pub struct Listed {
    pub name: String,
    pub seen: Seen,
    pub kind: FileType,
}

impl Directory {
    pub fn open(path: &Path) -> io::Result<Directory> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let mut fd = rustix::fs::open("/", flags, Mode::empty())?;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::ParentDir => return Err(link(Errno::NOTDIR, path)),
                _ => continue,
            };
            // Search permission is enough on the way; only the directory itself must be listed.
            let on_the_way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fd = rustix::fs::openat(&fd, name, on_the_way, Mode::empty()).map_err(|e| link(e, path))?;
        }
        let fd = rustix::fs::openat(&fd, ".", flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Directory {
            fd,
            path: path.to_owned(),
            dev: stat.st_dev,
            ino: stat.st_ino,
        })
    }

    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let mut out = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => out.push(Listed {
                    name: name.to_owned(),
                    seen: seen(&stat, self.path.join(name).to_string_lossy().into_owned()),
                    kind: FileType::from_raw_mode(stat.st_mode),
                }),
                // Deleted since the listing was read.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(out)
    }

    /// Opens a regular file of this directory for reading.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(|e| link(e, &self.path.join(name)))?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "is not a regular file",
            ));
        }
        Ok(File::from(fd))
    }
}

fn link(errno: Errno, path: &Path) -> io::Error {
    match errno {
        Errno::LOOP | Errno::NOTDIR => io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "`{}` goes through a symbolic link or is no directory; links are not followed here, name the real path",
                path.display()
            ),
        ),
        other => other.into(),
    }
}

/// What `fstat` tells of an open file now, and by how many names it can be reached.
pub fn look(file: impl AsFd, path: &str) -> io::Result<(Seen, u64)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((seen(&stat, path.to_owned()), stat.st_nlink as u64))
}

fn seen(stat: &rustix::fs::Stat, path: String) -> Seen {
    Seen {
        path,
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: stat.st_size as u64,
        mtime_ms: stat.st_mtime * 1000 + stat.st_mtime_nsec as i64 / 1_000_000,
    }
}

/// The places a list of file patterns speaks of, as they exist now. The last component of a pattern matches names,
/// what stands before it directories; both may hold wildcards.
pub fn places(patterns: &[String]) -> Vec<Place> {
    let mut out: Vec<Place> = Vec::new();
    for pattern in patterns {
        let absolute = std::path::absolute(pattern).unwrap_or_else(|_| PathBuf::from(pattern));
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            continue;
        };
        let Ok(names) = glob::Pattern::new(&name.to_string_lossy()) else {
            continue;
        };
        for dir in directories(parent) {
            let place = Place {
                dir,
                names: names.clone(),
            };
            if !out.contains(&place) {
                out.push(place);
            }
        }
    }
    out
}

/// What the operator wrote may lead through links: up to the first wildcard the real path counts. What a wildcard finds may be
/// no link, for others may put one there; it is given all the same, to be refused aloud, unless it leads to what was found too.
fn directories(pattern: &Path) -> Vec<PathBuf> {
    let is_plain = |part: &Component| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let written: PathBuf = pattern.components().take_while(is_plain).collect();
    let real = written.canonicalize().unwrap_or_else(|_| written.clone());
    let (Ok(rest), Some(real_text)) = (pattern.strip_prefix(&written), real.to_str()) else {
        return vec![real];
    };
    if rest.as_os_str().is_empty() {
        return vec![real];
    }
    let pattern = Path::new(&glob::Pattern::escape(real_text)).join(rest);
    let found = pattern.to_str().map(glob::glob);
    let mut found: Vec<PathBuf> = match found {
        Some(Ok(paths)) => paths.filter_map(Result::ok).collect(),
        _ => return Vec::new(),
    };
    let all = found.clone();
    found.retain(|dir| {
        dir.canonicalize()
            .map_or(true, |real| real == *dir || !all.contains(&real))
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn f58_symlink_parent_and_final_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/audit")).unwrap();
        std::fs::write(root.join("real/audit/a"), "x").unwrap();
        symlink(root.join("real"), root.join("linked")).unwrap();
        symlink(root.join("real/audit/a"), root.join("real/audit/b")).unwrap();

        let text = |error: io::Error| error.to_string();
        assert!(
            Directory::open(&root.join("linked/audit"))
                .map_err(text)
                .err()
                .unwrap()
                .contains("symbolic link")
        );
        let dir = Directory::open(&root.join("real/audit")).unwrap();
        assert!(dir.open_file("a").is_ok());
        assert!(
            dir.open_file("b")
                .map_err(text)
                .err()
                .unwrap()
                .contains("symbolic link")
        );
        assert_eq!(dir.list().unwrap().len(), 2);
    }

    #[test]
    fn patterns_name_directories_and_files() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        for node in ["n1", "n2"] {
            std::fs::create_dir_all(root.join(node).join("audit")).unwrap();
        }
        let pattern = format!("{}/n*/audit/*.log", root.display());
        let dirs: Vec<_> = places(&[pattern.clone(), pattern])
            .into_iter()
            .map(|p| p.dir)
            .collect();
        assert_eq!(dirs, [root.join("n1/audit"), root.join("n2/audit")]);
        assert_eq!(places(&[format!("{}/none*/*.log", root.display())]), []);
    }

    /// A link in front of the wildcards was written by the operator. One that a wildcard finds may have been put there.
    #[test]
    fn f58_a_wildcard_does_not_lead_through_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("nodes/[1]/audit")).unwrap();
        std::fs::create_dir_all(root.join("secret/audit")).unwrap();
        symlink(root.join("nodes"), root.join("current")).unwrap();
        let found = |pattern: &str| {
            let pattern = root.join(pattern).to_str().unwrap().to_owned();
            let places = places(&[pattern]).into_iter();
            places
                .map(|place| (place.dir.clone(), Directory::open(&place.dir).is_ok()))
                .collect::<Vec<_>>()
        };
        let real = || (root.join("nodes/[1]/audit"), true);
        for pattern in ["current/*/audit/*.log", "current/[[]1]/audit/*.log"] {
            assert_eq!(found(pattern), [real()], "{pattern}");
        }
        assert_eq!(found("current/*.log"), [(root.join("nodes"), true)]);
        // A second name for what is found anyway.
        symlink(root.join("nodes/[1]"), root.join("nodes/same")).unwrap();
        assert_eq!(found("nodes/*/audit/*.log"), [real()]);
        symlink(root.join("secret"), root.join("nodes/swapped")).unwrap();
        let refused = (root.join("nodes/swapped/audit"), false);
        assert_eq!(found("nodes/*/audit/*.log"), [real(), refused]);
        assert!(Directory::open(&root.join("nodes/../secret")).is_err());
    }
}
