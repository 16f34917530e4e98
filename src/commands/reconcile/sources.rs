//! Compares the audit files that are still there with the ledger: each record must have been delivered.

use super::{Found, Reconciler};
use crate::commands::verify::VerifyFailure;
use crate::config::SourceConfig;
use crate::evidence::compare::Side;
use crate::evidence::export::{Export, Recogniser};
use crate::evidence::sort::Sorter;
use crate::source::files::name;
use crate::source::files::sweep::{ListedDirectory, list_directories, unreadable_message};
use std::io::Write;

impl<W: Write> Reconciler<'_, W> {
    /// Compares the files of a source.
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
        for ListedDirectory { path, opened } in list_directories(&files.location, &|_| false, &|_| false) {
            let (directory, contents) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    self.output.failed(format!("{title}: {}", unreadable_message(&path, &error)));
                    continue;
                }
            };
            let mut files: Vec<_> = contents.files.into_iter().map(|file| file.observed).collect();
            files.sort_by_key(|file| file.order());
            // Equal records of one directory are told apart by their order in it.
            let mut recogniser = Recogniser::new(source.site.as_deref());
            for file in files {
                match directory.open_file(name::file_name(&file.path)) {
                    Ok(opened) => {
                        export.read_opened(&file.path, opened, &mut recogniser, &mut rows, &mut |_| {})?;
                    }
                    // It was deleted meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        self.output
                            .failed(format!("{title}: cannot read `{}`: {error}", file.path.display()));
                    }
                }
            }
        }
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
