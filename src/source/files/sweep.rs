//! Sweep: lists all directories of the source and updates what is known of their files.

use super::AuditFiles;
use super::directory::{self, Contents, OpenDirectory, SkipReason, SkippedEntry};
use super::discover::{self, FoundDirectory};
use super::failures;
use super::identify::Candidate;
use super::matching::FileObservation;
use super::name::display_path;
use super::tracked::TrackedFile;
use crate::access;
use crate::config::{FileLocation, audit_dir};
use rustix::fs::FileType;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

impl AuditFiles {
    /// Lists every directory of the source and updates the tracked files.
    pub fn sweep(&mut self, now: Instant, now_ms: i64) {
        self.now_ms = now_ms;
        let found = self.list_directories();
        let mut unhealthy = found.is_empty().then(|| self.no_files_message());
        self.close_orphaned_directories(&found);
        let (mut audit_files, mut refused) = (0, None);
        let mut listed_directories = Vec::new();
        let mut missing = Vec::new();
        self.unidentified.iter_mut().for_each(|file| file.listed = false);
        for ListedDirectory { path, opened } in found {
            let directory = self.directory_index(&path);
            match opened {
                Ok((opened, contents)) => {
                    self.report_links(&opened.links);
                    self.report_links(&contents.links);
                    self.directories[directory].open = Some(opened);
                    refused = refused.or(contents.refusal());
                    self.report_skipped(contents.skipped);
                    audit_files += contents.files.len();
                    self.update_directory(directory, contents.files, now_ms);
                    listed_directories.push(directory);
                }
                Err(error) => {
                    self.directories[directory].open = None;
                    let retry_hint = match error.kind() {
                        io::ErrorKind::NotFound => {
                            format!("; checked again every {:?}", self.config.sweep_interval)
                        }
                        _ => String::new(),
                    };
                    unhealthy.get_or_insert(unreadable_message(&path, &error) + &retry_hint);
                    missing.push(path);
                }
            }
        }
        self.unidentified.retain(|file| file.listed);
        self.check_mount_namespace(&missing, now);
        self.handle_vanished(&listed_directories, now, now_ms);
        if !listed_directories.is_empty() {
            self.first_run = false;
        }
        let nothing = audit_files == 0 && self.unidentified.is_empty();
        if unhealthy.is_none() && nothing && !self.tracked.iter().any(|t| t.listed) {
            unhealthy = Some(refused.unwrap_or_else(|| self.no_files_message()));
        }
        self.open_ahead();
        match unhealthy {
            Some(what) => self.set_unhealthy(what),
            // A file that cannot be read keeps the source unhealthy until it can be read.
            None => {
                let mut active = self.tracked.iter().filter(|t| t.is_active());
                let readable = self.unidentified.is_empty() && active.all(|t| t.retry.is_none());
                if readable && self.health.take().is_some() {
                    tracing::info!(source = self.source, "audit files can be read again");
                }
            }
        }
    }

    /// Opens and lists every directory of the source. A file with several names is listed once.
    fn list_directories(&self) -> Vec<ListedDirectory> {
        let being_read = |observed: &FileObservation| self.is_being_read(observed);
        let known = |path: &Path| self.tracked.iter().any(|t| t.entry.path == path);
        list_directories(&self.config.location, &being_read, &known)
    }

    /// Directories that are no longer configured: their open files are read on. Their other files are kept until the
    /// directory returns or the file is found elsewhere.
    fn close_orphaned_directories(&mut self, found: &[ListedDirectory]) {
        for (index, directory) in self.directories.iter_mut().enumerate() {
            directory.orphaned = !found.iter().any(|listed| listed.path == directory.path);
            if !directory.orphaned {
                continue;
            }
            directory.open = None;
            let closed = |t: &&mut TrackedFile| t.directory == index && !t.is_open();
            self.tracked.iter_mut().filter(closed).for_each(|t| t.listed = false);
        }
    }

    fn no_files_message(&self) -> String {
        match &self.config.location {
            FileLocation::Files(patterns) => format!("no file matches `{}`", patterns.join("`, `")),
            FileLocation::Home { dir, .. } => {
                format!(
                    "no audit file in `{}` yet; Confluence writes the first with its next event",
                    audit_dir(dir).display()
                )
            }
        }
    }

    fn report_links(&mut self, links: &[PathBuf]) {
        for link in links {
            if self.reported.insert(link.clone()) {
                tracing::info!(
                    source = self.source,
                    path = display_path(link),
                    "following a symbolic link that root or the agent's user created"
                );
            }
        }
    }

    /// Reports each skipped name once. An audit file that cannot be examined keeps the source unhealthy.
    fn report_skipped(&mut self, left: Vec<SkippedEntry>) {
        let mut foreign = Vec::new();
        for SkippedEntry { path, reason } in left {
            let source = &self.source;
            match reason {
                SkipReason::StatFailed { error, has_audit_name: true } => {
                    self.note_unidentified(&path, (0, 0));
                    self.set_unhealthy(match error.kind() {
                        io::ErrorKind::PermissionDenied => access::denied_message(&path),
                        _ => failures::cannot_read(&path, &error),
                    });
                    continue;
                }
                // A pattern's directory may contain anything. A home's audit directory contains only audit files.
                SkipReason::NotAuditFile(kind)
                    if kind == FileType::Directory
                        || matches!(self.config.location, FileLocation::Files(_)) =>
                {
                    continue;
                }
                _ if !self.reported.insert(path.clone()) => continue,
                SkipReason::NotAuditFile(_) => foreign.push(path.file_name().unwrap_or_default().to_owned()),
                SkipReason::NotRegular(kind) => {
                    tracing::warn!(source, path = display_path(&path), ?kind, "not a regular file; skipped")
                }
                SkipReason::Refused(error) => tracing::error!(source, "{error}; skipped"),
                SkipReason::StatFailed { error, .. } => {
                    let path = display_path(&path);
                    tracing::warn!(source, path, %error, "cannot be examined; skipped, and all other files are read")
                }
                SkipReason::OtherName(other) => tracing::info!(
                    source,
                    path = display_path(&path),
                    other = display_path(&other),
                    "another name of an audit file; the file is read under the other name"
                ),
            }
        }
        if !foreign.is_empty() {
            let names: Vec<String> = foreign.iter().map(|name| display_path(Path::new(name))).collect();
            tracing::info!(source = self.source, names = names.join(", "), "not audit files; skipped");
        }
    }

    /// Whether a file is unfinished, and is therefore followed under any name.
    fn is_being_read(&self, observed: &FileObservation) -> bool {
        let open = self.tracked.iter().filter(|t| !t.entry.finished);
        open.map(|t| (t.entry.dev, t.entry.ino)).any(|inode| inode == (observed.dev, observed.ino))
    }

    fn update_directory(&mut self, directory: usize, mut files: Vec<Candidate>, now_ms: i64) {
        files.sort_by_key(|file| file.observed.order());
        for tracked in self.tracked.iter_mut().filter(|t| t.directory == directory) {
            tracked.listed = false;
        }
        // Most files are unchanged: same inode and same name as at the last sweep.
        let known: HashMap<(u64, u64), usize> = self
            .tracked
            .iter()
            .enumerate()
            .filter(|(_, t)| t.directory == directory)
            .map(|(index, t)| ((t.entry.dev, t.entry.ino), index))
            .collect();
        let growing = files
            .iter()
            .rfind(|file| !file.observed.order().is_in_future(now_ms))
            .or(files.last())
            .map(|file| file.observed.path.clone());
        let mut others = Vec::new();
        for file in files {
            match known.get(&(file.observed.dev, file.observed.ino)) {
                Some(&index) if self.tracked[index].entry.path == file.observed.path => {
                    self.tracked[index].refresh(&file.observed, now_ms)
                }
                // The inode of an open file cannot be reused, so this is a rename.
                Some(&index) if self.tracked[index].reader.is_some() => {
                    self.resume_entry(index, directory, &file.observed, now_ms)
                }
                _ => others.push(file),
            }
        }
        for file in others {
            let growing = growing.as_ref() == Some(&file.observed.path);
            self.identify(directory, file, growing, now_ms);
        }
    }
}

/// A directory of a source and its contents.
pub(crate) struct ListedDirectory {
    /// Without symbolic links, as far as it could be resolved.
    pub path: PathBuf,
    pub opened: io::Result<(OpenDirectory, Contents)>,
}

/// Opens and lists every directory of `location`. `being_read` returns whether a file is followed under any name,
/// `known` whether a path is that of a tracked file.
pub(crate) fn list_directories(
    location: &FileLocation,
    being_read: &dyn Fn(&FileObservation) -> bool,
    known: &dyn Fn(&Path) -> bool,
) -> Vec<ListedDirectory> {
    let list = |FoundDirectory { path, names, directory }: FoundDirectory| ListedDirectory {
        path,
        opened: directory
            .and_then(|directory| Ok((directory.contents(&names, being_read)?, directory)))
            .map(|(contents, directory)| (directory, contents)),
    };
    let mut listed: Vec<ListedDirectory> = discover::find(location).into_iter().map(list).collect();
    let opened = listed.iter().filter_map(|directory| directory.opened.as_ref().ok());
    let best = directory::preferred_names(opened.map(|(_, contents)| contents), known);
    for (_, contents) in listed.iter_mut().filter_map(|directory| directory.opened.as_mut().ok()) {
        contents.skip_other_names(&best);
    }
    listed
}

/// Error message for a directory that cannot be opened or listed.
pub(crate) fn unreadable_message(dir: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "audit directory `{}` does not exist: Confluence creates it with its first event; if it stays missing, \
             this is not its home, Confluence is older than 7.5, or it has no Data Center licence",
            display_path(dir)
        ),
        io::ErrorKind::PermissionDenied => access::denied_message(dir),
        _ => format!("cannot read audit directory `{}`: {error}", display_path(dir)),
    }
}
