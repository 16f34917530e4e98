//! Makes the names of directories durable: until its parent is synced, a power cut may take a new one away, with all
//! that is in it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Creates a directory and its missing parents with this mode. Their names are durable when the function returns.
pub(crate) fn create_dir_all(path: &Path, mode: u32) -> io::Result<()> {
    // Without the root.
    let named = || path.ancestors().filter(|dir| dir.parent().is_some());
    let missing = named().take_while(|dir| !dir.exists()).count();
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    // A process that was killed may have created those that exist. Not all of them are this user's to sync.
    for (index, dir) in named().enumerate() {
        let synced = sync_dir(parent(dir));
        if index < missing {
            synced?;
        }
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory that has the name of this file or directory.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn missing_directories_are_created_with_the_mode() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b/c");
        for _ in 0..2 {
            create_dir_all(&path, 0o700).unwrap();
        }
        for dir in path.ancestors().take(3) {
            assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", dir.display());
        }
        std::fs::write(path.join("file"), "").unwrap();
        assert!(create_dir_all(&path.join("file/d"), 0o700).is_err());
    }

    #[test]
    fn a_name_without_a_directory_is_in_the_current_one() {
        assert_eq!(parent(Path::new("a")), Path::new("."));
        assert_eq!(parent(Path::new("/a")), Path::new("/"));
        assert_eq!(parent(Path::new("/")), Path::new("."));
    }
}
