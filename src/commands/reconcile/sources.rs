//! The audit files that are still there: compares them with the ledger, and reads records again.

use super::{Found, Reconciler};
use crate::commands::verify::VerifyFailure;
use crate::config::{FilesConfig, SourceConfig};
use crate::evidence::compare::Side;
use crate::evidence::export::{Export, Recogniser};
use crate::evidence::sort::Sorter;
use crate::source::files::directory::OpenDirectory;
use crate::source::files::matching::FileObservation;
use crate::source::files::name;
use crate::source::files::sweep::{ListedDirectory, list_directories, unreadable_message};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Opens the audit files of a source, directory by directory, in their order. `begin` is called before each directory.
/// `failed` is called with what cannot be read.
pub(super) fn each_file<S>(
    files: &FilesConfig,
    mut begin: impl FnMut() -> S,
    failed: &mut dyn FnMut(String),
    with: &mut dyn FnMut(&mut S, &Path, File) -> Result<(), VerifyFailure>,
) -> Result<(), VerifyFailure> {
    for ListedDirectory { path, opened } in list_directories(&files.location, &|_| false, &|_| false) {
        let (directory, contents) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                failed(unreadable_message(&path, &error));
                continue;
            }
        };
        let mut files: Vec<_> = contents.files.into_iter().map(|file| file.observed).collect();
        files.sort_by_key(FileObservation::order);
        let mut state = begin();
        for file in files {
            if let Some(opened) = open(&directory, &file.path, failed) {
                with(&mut state, &file.path, opened)?;
            }
        }
    }
    Ok(())
}

fn open(directory: &OpenDirectory, path: &Path, failed: &mut dyn FnMut(String)) -> Option<File> {
    match directory.open_file(name::file_name(path)) {
        Ok(file) => Some(file),
        // It was deleted meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            failed(format!("cannot read `{}`: {error}", path.display()));
            None
        }
    }
}

impl<W: Write> Reconciler<'_, W> {
    /// Compares the files of a source: each record must have been delivered.
    pub(super) fn files(&mut self, source: &SourceConfig) -> Result<(), VerifyFailure> {
        let Some(files) = &source.files else { return Ok(()) };
        let title = format!("files of source {}", source.name);
        let Some(at) = self.ledgers.iter().position(|ledger| ledger.source == source.name) else {
            self.output.not_checked(format!("{title}: there is no ledger of this source"));
            return Ok(());
        };
        let ledgers = &self.ledgers[at..at + 1];
        let entries = self.entries(ledgers)?;
        let (mut export, mut rows) = (Export::default(), Sorter::default());
        let output = &mut self.output;
        each_file(
            files,
            // Equal records of one directory are distinguished by their order in it.
            || Recogniser::new(source.site.as_deref()),
            &mut |reason| output.failed(format!("{title}: {reason}")),
            &mut |recogniser, path, file| {
                Ok(export.read_opened(path, file, recogniser, &mut rows, &mut |_| {})?)
            },
        )?;
        // Confluence is writing the last line.
        export.cut = 0;
        self.compare(
            title,
            ledgers,
            entries,
            Found { export, rows, side: Side::Files, kept_from_ms: i64::MIN },
        )
    }
}
