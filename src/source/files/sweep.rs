//! The look at the directories: which files are there, which are new, moved, gone.

use super::Files;
use super::compressed;
use super::directory::{self, Directory, Listed, Place};
use super::identify::Candidate;
use super::identity::Seen;
use super::tracked::Tracked;
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
        let places = group_by_dir(self.places());
        let mut trouble = places.is_empty().then(|| self.nothing_there());
        self.leave_others(&places);
        let mut audit_files = 0;
        let mut looked_at = Vec::new();
        let mut missing = Vec::new();
        self.unidentified.iter_mut().for_each(|file| file.listed = false);
        for place in places {
            let folder = self.folder(&place.0);
            match Directory::open(&place.0).and_then(|dir| Ok((dir.list()?, dir))) {
                Ok((listed, dir)) => {
                    self.folders[folder].open = Some(dir);
                    let files = self.audit_files(&place.1, listed);
                    audit_files += files.len();
                    self.take_note(folder, files, now_ms);
                    looked_at.push(folder);
                }
                Err(error) => {
                    self.folders[folder].open = None;
                    trouble.get_or_insert(reason(&place.0, &error, self.config.sweep_interval));
                    missing.push(place.0);
                }
            }
        }
        self.unidentified.retain(|file| file.listed);
        self.judge_view(&missing, now);
        self.care_for_vanished(&looked_at, now, now_ms);
        if !looked_at.is_empty() {
            self.fresh = false;
        }
        if trouble.is_none() && audit_files == 0 && !self.tracked.iter().any(|t| t.listed) {
            trouble = Some(self.nothing_there());
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

    fn places(&self) -> Vec<Place> {
        match &self.config.place {
            checked::Place::Files(patterns) => directory::places(patterns),
            // The home is the operator's word and may be a link; below it none is followed.
            checked::Place::Home { dir, .. } => {
                let home = dir.canonicalize().unwrap_or_else(|_| dir.clone());
                let names = glob::Pattern::new("*.audit.log").unwrap_or_default();
                vec![Place {
                    dir: audit_dir(&home),
                    names,
                }]
            }
        }
    }

    /// What is open in directories that nothing leads to any more is read on; all else there waits for them to come back, or
    /// for its files to be found in another one.
    fn leave_others(&mut self, places: &[(PathBuf, Vec<glob::Pattern>)]) {
        for (at, folder) in self.folders.iter_mut().enumerate() {
            folder.left = !places.iter().any(|(dir, _)| *dir == folder.path);
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
            checked::Place::Files(patterns) => format!("no file matches `{}`", patterns.join("`, `")),
            checked::Place::Home { dir, .. } => {
                format!(
                    "no audit file in `{}` yet; Confluence writes the first with its next event",
                    audit_dir(dir).display()
                )
            }
        }
    }

    /// Of what is listed, the files to read. Names are told once when they are left alone.
    fn audit_files(&mut self, names: &[glob::Pattern], listed: Vec<Listed>) -> Vec<Candidate> {
        let (mut files, mut foreign) = (Vec::new(), Vec::new());
        for Listed { name, seen, kind } in listed {
            // Something else may have compressed an audit file: it is one all the same.
            let stem = compressed::of_name(&name).map_or(name.as_str(), |(stem, _)| stem);
            let matches = |name| names.iter().any(|pattern| pattern.matches(name));
            let named = matches(&name) || matches(stem);
            if !named && !self.is_being_read(&seen) {
                // A pattern's directory may hold anything; a home's holds audit files and nothing else.
                let expected =
                    kind == FileType::Directory || matches!(self.config.place, checked::Place::Files(_));
                if !expected && self.told.insert(seen.path.clone()) {
                    foreign.push(name);
                }
            } else if kind == FileType::RegularFile {
                files.push(Candidate { seen, named });
            } else if self.told.insert(seen.path.clone()) {
                tracing::warn!(
                    source = self.source,
                    path = seen.path,
                    ?kind,
                    "not a regular file; left alone"
                );
            }
        }
        if !foreign.is_empty() {
            tracing::info!(
                source = self.source,
                names = foreign.join(", "),
                "not audit files; left alone"
            );
        }
        files
    }

    /// A file that is not finished is followed under whatever name it was given.
    fn is_being_read(&self, seen: &Seen) -> bool {
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
        let newest = files.last().map(|file| file.seen.path.clone());
        let mut others = Vec::new();
        for file in files {
            match known.get(&(file.seen.dev, file.seen.ino)) {
                Some(&at) if self.tracked[at].path == file.seen.path => {
                    self.tracked[at].still_there(&file.seen, now_ms)
                }
                // No other file gets the inode of one that is open.
                Some(&at) if self.tracked[at].tail.is_some() => self.go_on(at, folder, &file.seen, now_ms),
                _ => others.push(file),
            }
        }
        for file in others {
            let live = newest.as_ref() == Some(&file.seen.path);
            self.identify(folder, file, live, now_ms);
        }
    }
}

fn group_by_dir(places: Vec<Place>) -> Vec<(PathBuf, Vec<glob::Pattern>)> {
    let mut out: Vec<(PathBuf, Vec<glob::Pattern>)> = Vec::new();
    for place in places {
        match out.iter_mut().find(|(dir, _)| *dir == place.dir) {
            Some((_, names)) => names.push(place.names),
            None => out.push((place.dir, vec![place.names])),
        }
    }
    out
}

fn reason(dir: &Path, error: &io::Error, again: std::time::Duration) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "audit directory `{}` does not exist: Confluence makes it with its first event; if it stays away, the home is another one, \
             Confluence is older than 7.5, or it has no Data Center licence; looking again every {again:?}",
            dir.display()
        ),
        io::ErrorKind::PermissionDenied => access::why_denied(dir),
        _ => format!("cannot read audit directory `{}`: {error}", dir.display()),
    }
}
