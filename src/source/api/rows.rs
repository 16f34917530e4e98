//! The rows of a page: which of them are delivered, and by which id.

use super::page::{Page, Route};
use super::self_activity;
use super::server_clock::Now;
use super::state::Api;
use crate::config::Product;
use crate::ledger::SharedLedger;
use crate::record::{self, EventId, IdHasher, Parsed, Record, Scratch, Token};

/// A row that is to be delivered.
pub struct AdmittedRow<'a> {
    pub content: &'a Parsed<'a>,
    pub id: EventId,
    /// Made by this agent's own search.
    pub self_poll: bool,
    /// A file should have brought it.
    pub of_files: bool,
    /// As it came, without the blanks between its parts.
    pub text: &'a [u8],
    /// It came by the old API of Data Center: what it has in common with the row of the newer one.
    pub legacy_likeness: Option<EventId>,
}

/// What becomes of a row that was not delivered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVerdict {
    /// Another agent, or the other API of the source, delivers it.
    Skip,
    /// `of_files`: a file should have brought it.
    Deliver { of_files: bool },
}

/// Where the rows of a page go.
pub trait RowHandler {
    fn judge(&mut self, record: &Record) -> RowVerdict;

    fn deliver(&mut self, row: AdmittedRow<'_>);

    /// Takes note of the agent's own search, which is not to be delivered.
    fn leave_out(&mut self, row: AdmittedRow<'_>);
}

impl Api {
    /// Hands on the rows of a page, oldest first, but for the first `repeated` ones, which were on the page before, and
    /// for those that were delivered before. Moves on behind the page.
    pub fn ingest_page(
        &mut self,
        page: Page,
        repeated: usize,
        now: Now,
        ids: &mut IdHasher,
        ledger: &SharedLedger,
        rows: &mut dyn RowHandler,
    ) {
        let mut scratch = Scratch::default();
        for row in (repeated..page.len()).rev() {
            crate::failpoint::hit("decode");
            let row = &*record::without_blanks(page.row(row));
            let content = record::parse(row, &mut scratch);
            self.ingest_row((&content, row), ids.id(&content), ledger, rows);
        }
        self.page_read(page, now);
    }

    fn ingest_row(
        &mut self,
        (content, text): (&Parsed<'_>, &[u8]),
        id: EventId,
        ledger: &SharedLedger,
        rows: &mut dyn RowHandler,
    ) {
        let (mut time_ms, mut self_poll, mut likeness, mut of_files) = (None, false, None, false);
        // A row that cannot be read cannot be compared either.
        if let Parsed::Record(record) = content {
            time_ms = record.time_ms;
            match rows.judge(record) {
                RowVerdict::Skip => {
                    self.count(id, time_ms);
                    self.total.repeated += 1;
                    return;
                }
                RowVerdict::Deliver { of_files: expected } => of_files = expected,
            }
            self_poll = self.is_self_poll(record);
            likeness = self.likeness(record);
        }
        let Some((id, likeness)) = self.admit(id, likeness, time_ms, ledger) else {
            return;
        };
        let legacy_likeness = likeness.filter(|_| self.endpoint.route == Route::Legacy);
        let row = AdmittedRow { content, id, self_poll, of_files, text, legacy_likeness };
        if self_poll && self.config.drop_self_polls {
            self.total.dropped += 1;
            rows.leave_out(row);
        } else {
            rows.deliver(row);
        }
    }

    /// The id to deliver a row by, and its likeness among its twins; `None`: it was delivered before.
    fn admit(
        &mut self,
        id: EventId,
        likeness: Option<EventId>,
        time_ms: Option<i64>,
        ledger: &SharedLedger,
    ) -> Option<(EventId, Option<EventId>)> {
        let id = self.count(id, time_ms)?;
        let window = &mut self.poll.reading.as_mut()?.window;
        let likeness = likeness.map(|likeness| window.twin(likeness));
        let is_legacy = self.endpoint.route == Route::Legacy;
        let came_by_legacy = likeness.zip(time_ms).filter(|_| !is_legacy);
        let came_by_legacy = came_by_legacy.is_some_and(|(likeness, ms)| ledger.contains_like(likeness, ms));
        if came_by_legacy || !ledger.admit(id, time_ms) {
            self.total.repeated += 1;
            return None;
        }
        if let Some(likeness) = likeness.filter(|_| is_legacy) {
            ledger.admit_like(likeness);
        }
        let overlap_ms = self.config.overlap.as_millis() as i64;
        // The cursor may have been set back since it was saved.
        let cursors = self.cursor.saved.zip(self.cursor.windows.cursor);
        let late_before_ms = cursors.map(|(saved, cursor)| saved.at_ms.min(cursor.at_ms) - overlap_ms);
        if time_ms.zip(late_before_ms).is_some_and(|(time, before)| time < before) {
            self.total.late += 1;
            tracing::info!(
                source = self.source,
                late = self.total.late,
                "a row became visible later than `overlap`; the reconciling read has found it"
            );
        }
        Some((id, likeness))
    }

    /// What a row has in common with the row of the same event in the other API of Data Center, which tells less and
    /// has another id. Kept of the rows of the old one, it shows after an upgrade which events have been delivered by
    /// it.
    fn likeness(&self, record: &Record) -> Option<EventId> {
        if self.config.product != Product::DataCenter {
            return None;
        }
        let text = |token: &Token| token.text().map(|text| text.decoded().into_owned());
        let (time_ms, action) = (record.time_ms?, text(&record.action)?);
        // No record's canonical form is a JSON list of texts.
        let alike = serde_json::json!(["alike", time_ms.to_string(), action, text(&record.author.name)]);
        Some(EventId::of(alike.to_string().as_bytes()))
    }

    /// Takes note of a row, whether or not it is wanted. Returns its id among its twins.
    fn count(&mut self, id: EventId, time_ms: Option<i64>) -> Option<EventId> {
        self.total.rows += 1;
        Some(self.poll.reading.as_mut()?.window.row(id, time_ms))
    }

    /// Whether a record was made by this agent's own search.
    pub fn is_self_poll(&mut self, record: &Record) -> bool {
        self_activity::is_search(record) && self.watch.self_activity().asked(record)
    }
}
