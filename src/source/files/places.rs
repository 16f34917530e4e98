//! The directories that a source's configuration speaks of, as they exist now.

use super::directory::Directory;
use super::name;
use super::walk::Stopped;
use crate::config::{FileLocation, audit_dir};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

/// How deep `**` looks.
const DEPTH_MAX: usize = 32;

/// A directory in which audit files are looked for.
pub struct FoundDirectory {
    /// Without links, as far as it is known.
    pub path: PathBuf,
    /// Which names in it are those of audit files.
    pub names: Vec<glob::Pattern>,
    pub directory: io::Result<Directory>,
}

/// Opens each directory of the place once. Links on the way are followed or refused by one rule, wherever they are.
pub fn find(place: &FileLocation) -> Vec<FoundDirectory> {
    let mut found = Vec::new();
    match place {
        FileLocation::Home { dir, .. } => {
            let names = glob::Pattern::new("*.audit.log").unwrap_or_default();
            add(&mut found, &names, Directory::open(&audit_dir(dir)));
        }
        FileLocation::Files(patterns) => patterns.iter().for_each(|pattern| matching(pattern, &mut found)),
    }
    found
}

fn add(found: &mut Vec<FoundDirectory>, names: &glob::Pattern, opened: Result<Directory, Stopped>) {
    let (path, directory) = match opened {
        Ok(directory) => (directory.path.clone(), Ok(directory)),
        Err(Stopped { error, path, .. }) => (path, Err(error)),
    };
    match found.iter_mut().find(|known| known.path == path) {
        Some(known) if known.names.contains(names) => {}
        Some(known) => known.names.push(names.clone()),
        None => found.push(FoundDirectory {
            path,
            names: vec![names.clone()],
            directory,
        }),
    }
}

/// The last component of a pattern matches names, what stands before it directories; both may hold wildcards.
fn matching(pattern: &str, found: &mut Vec<FoundDirectory>) {
    let absolute = std::path::absolute(pattern).unwrap_or_else(|_| PathBuf::from(pattern));
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return;
    };
    let Ok(names) = glob::Pattern::new(&name.to_string_lossy()) else {
        return;
    };
    let parts: Vec<Component> = parent.components().collect();
    let plain = parts.iter().take_while(|part| !is_wild(part.as_os_str())).count();
    let written: PathBuf = parts[..plain].iter().collect();
    let opened = Directory::open(&written);
    if plain == parts.len() {
        return add(found, &names, opened);
    }
    let rest: Vec<&OsStr> = parts[plain..].iter().map(|part| part.as_os_str()).collect();
    let Ok(directory) = opened else {
        return add(found, &names, opened);
    };
    let (mut any, mut closed) = (false, None);
    below(directory, &rest, DEPTH_MAX, &mut |opened| match opened {
        // A wildcard matches directories that have nothing to do with it. If it finds nothing else, this may be why.
        Err(stopped) if stopped.on_the_way && stopped.error.kind() == io::ErrorKind::PermissionDenied => {
            closed.get_or_insert(stopped);
        }
        opened => {
            any = true;
            add(found, &names, opened);
        }
    });
    if let (false, Some(stopped)) = (any, closed) {
        add(found, &names, Err(stopped));
    }
}

fn is_wild(part: &OsStr) -> bool {
    part.to_string_lossy().contains(['*', '?', '['])
}

/// Directories below one that is open. What is not there or is no directory does not match; what is refused or cannot be
/// opened is given all the same, to be told of.
fn below(
    directory: Directory,
    rest: &[&OsStr],
    depth: usize,
    each: &mut dyn FnMut(Result<Directory, Stopped>),
) {
    let Some((part, rest)) = rest.split_first() else {
        return each(Ok(directory));
    };
    let path = &directory.path;
    let mut names = match directory.names() {
        Ok(names) => names,
        Err(error) => {
            return each(Err(Stopped {
                error,
                path: path.clone(),
                on_the_way: false,
            }));
        }
    };
    names.sort();
    if *part == "**" {
        // The directory itself, and those below it; links are not followed here, for they may lead up again.
        let again: Vec<&OsStr> = std::iter::once(*part).chain(rest.iter().copied()).collect();
        let is_directory = |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_dir());
        let inner = names.iter().map(|name| path.join(name)).filter(is_directory);
        for path in inner.take_while(|_| depth > 0) {
            into(&directory, &path, &again, depth - 1, each);
        }
        return match rest {
            [] => each(Ok(directory)),
            rest => into(&directory, path, rest, depth, each),
        };
    }
    let Ok(pattern) = glob::Pattern::new(&part.to_string_lossy()) else {
        return;
    };
    for name in names.iter().filter(|name| name::matches(&pattern, name)) {
        into(&directory, &path.join(name), rest, depth, each);
    }
}

/// Goes on behind a directory: over what is written without wildcards at once, for that need not be listed.
fn into(
    from: &Directory,
    path: &Path,
    rest: &[&OsStr],
    depth: usize,
    each: &mut dyn FnMut(Result<Directory, Stopped>),
) {
    let plain = rest.iter().take_while(|part| !is_wild(part)).count();
    let path: PathBuf = std::iter::once(path.as_os_str())
        .chain(rest[..plain].iter().copied())
        .collect();
    match Directory::open(&path) {
        Ok(mut directory) => {
            directory.links.splice(0..0, from.links.iter().cloned());
            below(directory, &rest[plain..], depth, each);
        }
        Err(stopped) => match stopped.error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
            _ => each(Err(stopped)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        (temp, root)
    }

    fn found(patterns: &[PathBuf]) -> Vec<(PathBuf, bool)> {
        let patterns = patterns
            .iter()
            .map(|pattern| pattern.to_str().unwrap().to_owned());
        let found = find(&FileLocation::Files(patterns.collect()));
        let opened = |found: FoundDirectory| (found.path, found.directory.is_ok());
        found.into_iter().map(opened).collect()
    }

    #[test]
    fn patterns_name_directories_and_files() {
        let (_temp, root) = root();
        for node in ["n1", "n2", "n1/deep/er"] {
            std::fs::create_dir_all(root.join(node).join("audit")).unwrap();
        }
        std::fs::write(root.join("n3"), "no directory").unwrap();
        let pattern = root.join("n*/audit/*.log");
        let both = [(root.join("n1/audit"), true), (root.join("n2/audit"), true)];
        assert_eq!(found(&[pattern.clone(), pattern]), both);
        assert_eq!(found(&[root.join("none*/*.log")]), []);
        assert_eq!(found(&[root.join("n1/../n2/audit/*.log")]), both[1..]);
        let deep = |pattern: &str| found(&[root.join(pattern)]).len();
        assert_eq!((deep("**/audit/*.log"), deep("n1/**/*.log")), (3, 5));
        let mut other = root.join("n2").into_os_string().into_encoded_bytes();
        other.push(0xff);
        let other = Path::new(OsStr::from_bytes(&other)).join("audit");
        std::fs::create_dir_all(&other).unwrap();
        assert_eq!(found(&[root.join("n2?/audit/*.log")]), [(other, true)]);
    }

    /// Links of the agent's own user. Those of others are in the tests of the real binary.
    #[test]
    fn f58_a_wildcard_does_not_lead_through_a_link() {
        let (_temp, root) = root();
        std::fs::create_dir_all(root.join("nodes/[1]/audit")).unwrap();
        std::fs::create_dir_all(root.join("open/audit")).unwrap();
        symlink(root.join("nodes"), root.join("current")).unwrap();
        let find = |pattern: &str| found(&[root.join(pattern)]);
        let real = || (root.join("nodes/[1]/audit"), true);
        for pattern in ["current/*/audit/*.log", "current/[[]1]/audit/*.log"] {
            assert_eq!(find(pattern), [real()], "{pattern}");
        }
        assert_eq!(find("current/*.log"), [(root.join("nodes"), true)]);
        // A second name for what is found anyway.
        symlink(root.join("nodes/[1]"), root.join("nodes/same")).unwrap();
        assert_eq!(find("nodes/*/audit/*.log"), [real()]);
        symlink(root.join("open"), root.join("nodes/other")).unwrap();
        assert_eq!(
            find("nodes/*/audit/*.log"),
            [real(), (root.join("open/audit"), true)]
        );
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(root.join("nodes"), everybody).unwrap();
        let refused = ["other", "same"].map(|name| (root.join("nodes").join(name).join("audit"), false));
        let [other, same] = refused;
        assert_eq!(find("nodes/*/audit/*.log"), [real(), other, same]);
    }
}
