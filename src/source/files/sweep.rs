//! The look at the directories: which files are there, which are new, moved, gone.

use super::Files;
use super::directory::{self, Contents, Directory, LeftAlone, LeftAloneReason};
use super::identify::Candidate;
use super::identity::FileObservation;
use super::name::shown;
use super::places::{self, FoundDirectory};
use super::tracked::Tracked;
use super::trouble;
use crate::access;
use crate::config::{self as checked, audit_dir};
use rustix::fs::FileType;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

impl Files {
    /// Looks at every directory of the source and takes note of what is there.
    pub fn sweep(&mut self, now: Instant, now_ms: i64) {
        self.now_ms = now_ms;
        let found = self.look_through();
        let mut trouble = found.is_empty().then(|| self.nothing_there());
        self.leave_others(&found);
        let (mut audit_files, mut refused) = (0, None);
        let mut looked_at = Vec::new();
        let mut missing = Vec::new();
        self.unidentified.iter_mut().for_each(|file| file.listed = false);
        for Looked { path, opened } in found {
            let folder = self.folder(&path);
            match opened {
                Ok((directory, contents)) => {
                    self.report_links(&directory.links);
                    self.report_links(&contents.links);
                    self.folders[folder].open = Some(directory);
                    refused = refused.or(contents.refusal());
                    self.report_left_alone(contents.left);
                    audit_files += contents.files.len();
                    self.take_note(folder, contents.files, now_ms);
                    looked_at.push(folder);
                }
                Err(error) => {
                    self.folders[folder].open = None;
                    let again = match error.kind() {
                        io::ErrorKind::NotFound => {
                            format!("; looking again every {:?}", self.config.sweep_interval)
                        }
                        _ => String::new(),
                    };
                    trouble.get_or_insert(reason(&path, &error) + &again);
                    missing.push(path);
                }
            }
        }
        self.unidentified.retain(|file| file.listed);
        self.judge_view(&missing, now);
        self.care_for_vanished(&looked_at, now, now_ms);
        if !looked_at.is_empty() {
            self.fresh = false;
        }
        let nothing = audit_files == 0 && self.unidentified.is_empty();
        if trouble.is_none() && nothing && !self.tracked.iter().any(|t| t.listed) {
            trouble = Some(refused.unwrap_or_else(|| self.nothing_there()));
        }
        self.pin();
        match trouble {
            Some(what) => self.trouble(what),
            // A file that cannot be read keeps its own reason until it can.
            None => {
                let mut active = self.tracked.iter().filter(|t| t.is_active());
                let readable = self.unidentified.is_empty() && active.all(|t| t.retry.is_none());
                if readable && self.health.take().is_some() {
                    tracing::info!(source = self.source, "audit files can be read again");
                }
            }
        }
    }

    /// Opens and lists every directory of the source. A file counts once, however many names lead to it.
    fn look_through(&self) -> Vec<Looked> {
        let being_read = |seen: &FileObservation| self.is_being_read(seen);
        let known = |path: &Path| self.tracked.iter().any(|t| t.entry.path == path);
        look_through(&self.config.place, &being_read, &known)
    }

    /// What is open in directories that nothing leads to any more is read on; all else there waits for them to come back, or
    /// for its files to be found in another one.
    fn leave_others(&mut self, found: &[Looked]) {
        for (at, folder) in self.folders.iter_mut().enumerate() {
            folder.left = !found.iter().any(|looked| looked.path == folder.path);
            if !folder.left {
                continue;
            }
            folder.open = None;
            let closed = |t: &&mut Tracked| t.folder == at && !t.is_open();
            self.tracked
                .iter_mut()
                .filter(closed)
                .for_each(|t| t.listed = false);
        }
    }

    fn nothing_there(&self) -> String {
        match &self.config.place {
            checked::FileLocation::Files(patterns) => format!("no file matches `{}`", patterns.join("`, `")),
            checked::FileLocation::Home { dir, .. } => {
                format!(
                    "no audit file in `{}` yet; Confluence writes the first with its next event",
                    audit_dir(dir).display()
                )
            }
        }
    }

    fn report_links(&mut self, links: &[PathBuf]) {
        for link in links {
            if self.told.insert(link.clone()) {
                tracing::info!(
                    source = self.source,
                    path = shown(link),
                    "follows a symbolic link, which root or this user has made"
                );
            }
        }
    }

    /// What is not read is told once by its name, but an audit file that cannot be looked at as long as that lasts.
    fn report_left_alone(&mut self, left: Vec<LeftAlone>) {
        let mut foreign = Vec::new();
        for LeftAlone { path, reason } in left {
            let source = &self.source;
            match reason {
                LeftAloneReason::Failed { error, named: true } => {
                    self.note_unidentified(&path, (0, 0));
                    self.trouble(match error.kind() {
                        io::ErrorKind::PermissionDenied => access::denied_message(&path),
                        _ => trouble::cannot_read(&path, &error),
                    });
                    continue;
                }
                // A pattern's directory may hold anything; a home's holds audit files and nothing else.
                LeftAloneReason::Foreign(kind)
                    if kind == FileType::Directory
                        || matches!(self.config.place, checked::FileLocation::Files(_)) =>
                {
                    continue;
                }
                _ if !self.told.insert(path.clone()) => continue,
                LeftAloneReason::Foreign(_) => foreign.push(path.file_name().unwrap_or_default().to_owned()),
                LeftAloneReason::NotRegular(kind) => {
                    tracing::warn!(
                        source,
                        path = shown(&path),
                        ?kind,
                        "not a regular file; left alone"
                    )
                }
                LeftAloneReason::Refused(error) => tracing::error!(source, "{error}; left alone"),
                LeftAloneReason::Failed { error, .. } => {
                    let path = shown(&path);
                    tracing::warn!(source, path, %error, "cannot be looked at; left alone, and all else is read")
                }
                LeftAloneReason::Same(other) => tracing::info!(
                    source,
                    path = shown(&path),
                    other = shown(&other),
                    "another name of an audit file, which is read under the other one"
                ),
            }
        }
        if !foreign.is_empty() {
            let names: Vec<String> = foreign.iter().map(|name| shown(Path::new(name))).collect();
            tracing::info!(
                source = self.source,
                names = names.join(", "),
                "not audit files; left alone"
            );
        }
    }

    /// A file that is not finished is followed under whatever name it was given.
    fn is_being_read(&self, seen: &FileObservation) -> bool {
        let open = self.tracked.iter().filter(|t| !t.entry.finished);
        open.map(|t| (t.entry.dev, t.entry.ino))
            .any(|inode| inode == (seen.dev, seen.ino))
    }

    fn take_note(&mut self, folder: usize, mut files: Vec<Candidate>, now_ms: i64) {
        files.sort_by_key(|file| file.seen.order());
        for tracked in self.tracked.iter_mut().filter(|t| t.folder == folder) {
            tracked.listed = false;
        }
        // Most files are what they were at the last look: same inode, same name.
        let known: HashMap<(u64, u64), usize> = self
            .tracked
            .iter()
            .enumerate()
            .filter(|(_, t)| t.folder == folder)
            .map(|(at, t)| ((t.entry.dev, t.entry.ino), at))
            .collect();
        let live = files
            .iter()
            .rfind(|file| !file.seen.order().is_ahead(now_ms))
            .or(files.last())
            .map(|file| file.seen.path.clone());
        let mut others = Vec::new();
        for file in files {
            match known.get(&(file.seen.dev, file.seen.ino)) {
                Some(&at) if self.tracked[at].entry.path == file.seen.path => {
                    self.tracked[at].still_there(&file.seen, now_ms)
                }
                // No other file gets the inode of one that is open.
                Some(&at) if self.tracked[at].tail.is_some() => self.go_on(at, folder, &file.seen, now_ms),
                _ => others.push(file),
            }
        }
        for file in others {
            let live = live.as_ref() == Some(&file.seen.path);
            self.identify(folder, file, live, now_ms);
        }
    }
}

/// A directory of a source and what is in it.
pub struct Looked {
    /// Without links, as far as it is known.
    pub path: PathBuf,
    pub opened: io::Result<(Directory, Contents)>,
}

/// Opens and lists every directory of a place. `being_read` says of a file that it is followed whatever its name is now,
/// `known` of a path that a file is known by it.
pub fn look_through(
    place: &checked::FileLocation,
    being_read: &dyn Fn(&FileObservation) -> bool,
    known: &dyn Fn(&Path) -> bool,
) -> Vec<Looked> {
    let list = |FoundDirectory {
                    path,
                    names,
                    directory,
                }: FoundDirectory| Looked {
        path,
        opened: directory
            .and_then(|directory| Ok((directory.contents(&names, being_read)?, directory)))
            .map(|(contents, directory)| (directory, contents)),
    };
    let mut looked: Vec<Looked> = places::find(place).into_iter().map(list).collect();
    let opened = looked.iter().filter_map(|looked| looked.opened.as_ref().ok());
    let best = directory::best_names(opened.map(|(_, contents)| contents), known);
    for (_, contents) in looked.iter_mut().filter_map(|looked| looked.opened.as_mut().ok()) {
        contents.keep(&best);
    }
    looked
}

/// Why a directory is not read, in one sentence.
pub fn reason(dir: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "audit directory `{}` does not exist: Confluence makes it with its first event; if it stays away, the home is another one, \
             Confluence is older than 7.5, or it has no Data Center licence",
            shown(dir)
        ),
        io::ErrorKind::PermissionDenied => access::denied_message(dir),
        _ => format!("cannot read audit directory `{}`: {error}", shown(dir)),
    }
}
