//! The rows of a page: which of them are delivered, and by which id.

use super::page::{Page, Route};
use super::self_activity;
use super::server_clock::Now;
use super::state::Api;
use crate::config::Product;
use crate::record::{self, EventId, IdHasher, Parsed, Record, Scratch, Token};
use crate::source::dedup::Dedup;

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
    fn judge(&mut self, _record: &Record, _dedup: &Dedup) -> RowVerdict {
        RowVerdict::Deliver { of_files: false }
    }

    fn deliver(&mut self, row: AdmittedRow<'_>);
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
        dedup: &mut Dedup,
        rows: &mut dyn RowHandler,
    ) {
        let mut scratch = Scratch::default();
        for row in (repeated..page.len()).rev() {
            crate::failpoint::hit("decode");
            let row = &*record::without_blanks(page.row(row));
            let content = record::parse(row, &mut scratch);
            self.ingest_row((&content, row), ids.id(&content), dedup, rows);
        }
        self.page_read(page, now);
    }

    fn ingest_row(
        &mut self,
        (content, text): (&Parsed<'_>, &[u8]),
        id: EventId,
        dedup: &mut Dedup,
        rows: &mut dyn RowHandler,
    ) {
        let (mut time_ms, mut self_poll, mut likeness, mut of_files) = (None, false, None, false);
        // A row that cannot be read cannot be compared either.
        if let Parsed::Record(record) = content {
            time_ms = record.time_ms;
            match rows.judge(record, dedup) {
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
        if let Some(id) = self.admit(id, likeness, time_ms, self_poll, dedup) {
            rows.deliver(AdmittedRow { content, id, self_poll, of_files, text });
        }
    }

    /// The id to deliver a row by; `None`: it was delivered before, or is not wanted.
    fn admit(
        &mut self,
        id: EventId,
        likeness: Option<EventId>,
        time_ms: Option<i64>,
        self_poll: bool,
        dedup: &mut Dedup,
    ) -> Option<EventId> {
        let id = self.count(id, time_ms)?;
        let window = &mut self.poll.reading.as_mut()?.window;
        let likeness = likeness.map(|likeness| window.twin(likeness));
        let at_ms = time_ms.map_or(window.to_ms, |time_ms| time_ms.min(window.to_ms));
        if !dedup.insert(id, at_ms, None) {
            self.total.repeated += 1;
            return None;
        }
        if let Some(likeness) = likeness {
            if self.endpoint.route == Route::Legacy {
                dedup.insert(likeness, at_ms, None);
            } else if dedup.contains(likeness) {
                self.total.repeated += 1;
                return None;
            }
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
        if self_poll && self.config.drop_self_polls {
            self.total.dropped += 1;
            return None;
        }
        Some(id)
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
