//! Expands a source's configured home or patterns to the directories that exist now.

use super::directory::OpenDirectory;
use super::name;
use super::path_resolver::ResolveError;
use crate::config::{FileLocation, audit_dir};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Levels that `**` descends.
const DEPTH_MAX: usize = 32;

/// A directory to search for audit files.
pub(super) struct FoundDirectory {
    /// Without symbolic links, as far as it could be resolved.
    pub path: PathBuf,
    /// Patterns that audit file names match.
    pub names: Vec<glob::Pattern>,
    pub directory: io::Result<OpenDirectory>,
}

/// Opens each directory of `location` once. The rules for symbolic links are the same for each component of a path.
pub(super) fn find(location: &FileLocation) -> Vec<FoundDirectory> {
    let mut found = Vec::new();
    match location {
        FileLocation::Home { dir, .. } => {
            let names = glob::Pattern::new("*.audit.log").unwrap_or_default();
            add(&mut found, &names, OpenDirectory::open(&audit_dir(dir)));
        }
        FileLocation::Files(patterns) => {
            patterns.iter().for_each(|pattern| expand_pattern(pattern, &mut found))
        }
    }
    found
}

fn add(found: &mut Vec<FoundDirectory>, names: &glob::Pattern, opened: Result<OpenDirectory, ResolveError>) {
    let (path, directory) = match opened {
        Ok(directory) => (directory.path.clone(), Ok(directory)),
        Err(ResolveError { error, path, .. }) => (path, Err(error)),
    };
    match found.iter_mut().find(|known| known.path == path) {
        Some(known) if known.names.contains(names) => {}
        Some(known) => known.names.push(names.clone()),
        None => found.push(FoundDirectory { path, names: vec![names.clone()], directory }),
    }
}

/// The last component of a pattern matches file names, the components before it directories. All may contain
/// wildcards.
fn expand_pattern(pattern: &str, found: &mut Vec<FoundDirectory>) {
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
    let opened = OpenDirectory::open(&written);
    if plain == parts.len() {
        return add(found, &names, opened);
    }
    let rest: Vec<&OsStr> = parts[plain..].iter().map(|part| part.as_os_str()).collect();
    let Ok(directory) = opened else {
        return add(found, &names, opened);
    };
    let (mut any, mut closed) = (false, None);
    descend(directory, &rest, DEPTH_MAX, &mut |opened| match opened {
        // A wildcard may match unrelated directories that cannot be read. Report one only if nothing else matches.
        Err(error) if error.is_intermediate && error.error.kind() == io::ErrorKind::PermissionDenied => {
            closed.get_or_insert(error);
        }
        opened => {
            any = true;
            add(found, &names, opened);
        }
    });
    if let (false, Some(error)) = (any, closed) {
        add(found, &names, Err(error));
    }
}

fn is_wild(part: &OsStr) -> bool {
    part.to_string_lossy().contains(['*', '?', '['])
}

/// Calls `each` with every directory below `directory` that matches `rest`. What does not exist or is not a directory
/// does not match. What is refused or cannot be opened is passed as an error.
fn descend(
    directory: OpenDirectory,
    rest: &[&OsStr],
    depth: usize,
    each: &mut dyn FnMut(Result<OpenDirectory, ResolveError>),
) {
    let Some((part, rest)) = rest.split_first() else {
        return each(Ok(directory));
    };
    let path = &directory.path;
    let mut names = match directory.names() {
        Ok(names) => names,
        Err(error) => {
            return each(Err(ResolveError { error, path: path.clone(), is_intermediate: false }));
        }
    };
    names.sort();
    if *part == "**" {
        // Includes the directory itself. Links are not followed here: they may form a cycle.
        let again: Vec<&OsStr> = std::iter::once(*part).chain(rest.iter().copied()).collect();
        let is_directory = |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_dir());
        let inner = names.iter().map(|name| path.join(name)).filter(is_directory);
        for path in inner.take_while(|_| depth > 0) {
            open_and_descend(&directory, &path, &again, depth - 1, each);
        }
        return match rest {
            [] => each(Ok(directory)),
            rest => open_and_descend(&directory, path, rest, depth, each),
        };
    }
    let Ok(pattern) = glob::Pattern::new(&part.to_string_lossy()) else {
        return;
    };
    for name in names.iter().filter(|name| name::matches(&pattern, name)) {
        open_and_descend(&directory, &path.join(name), rest, depth, each);
    }
}

/// Opens the components up to the next wildcard at once, without listing directories, and continues below.
fn open_and_descend(
    from: &OpenDirectory,
    path: &Path,
    rest: &[&OsStr],
    depth: usize,
    each: &mut dyn FnMut(Result<OpenDirectory, ResolveError>),
) {
    let plain = rest.iter().take_while(|part| !is_wild(part)).count();
    let path: PathBuf = std::iter::once(path.as_os_str()).chain(rest[..plain].iter().copied()).collect();
    match OpenDirectory::open(&path) {
        Ok(mut directory) => {
            directory.links.splice(0..0, from.links.iter().cloned());
            descend(directory, &rest[plain..], depth, each);
        }
        Err(error) => match error.error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
            _ => each(Err(error)),
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
        let patterns = patterns.iter().map(|pattern| pattern.to_str().unwrap().to_owned());
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

    /// Covers links of the agent's own user. Links of other users are in the tests of the real binary.
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
        // A second name for a directory that is found anyway.
        symlink(root.join("nodes/[1]"), root.join("nodes/same")).unwrap();
        assert_eq!(find("nodes/*/audit/*.log"), [real()]);
        symlink(root.join("open"), root.join("nodes/other")).unwrap();
        assert_eq!(find("nodes/*/audit/*.log"), [real(), (root.join("open/audit"), true)]);
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(root.join("nodes"), everybody).unwrap();
        let refused = ["other", "same"].map(|name| (root.join("nodes").join(name).join("audit"), false));
        let [other, same] = refused;
        assert_eq!(find("nodes/*/audit/*.log"), [real(), other, same]);
    }
}
