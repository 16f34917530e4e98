//! Decides which rows of a page are delivered, and under which id.

use super::page::{Page, Route};
use super::self_activity;
use super::server_clock::Now;
use super::state::Api;
use crate::config::Product;
use crate::ledger::SharedLedger;
use crate::record::{self, EventId, IdHasher, Parsed, Record, Scratch, Token};

/// A row that was not delivered before.
pub struct NewRow<'a> {
    pub content: &'a Parsed<'a>,
    pub id: EventId,
    /// It records one of the agent's own searches.
    pub self_poll: bool,
    /// The event is expected in the files as well.
    pub expected_in_files: bool,
    /// The row as received, without insignificant whitespace.
    pub text: &'a [u8],
    /// Of a row of the legacy API: see [`Api::cross_route_id`].
    pub legacy_cross_route_id: Option<EventId>,
}

/// Whether a row that was not delivered before is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVerdict {
    /// Another agent, or the other `Api` of the source, delivers it.
    Skip,
    /// `expected_in_files`: the event is expected in the files as well.
    Deliver { expected_in_files: bool },
}

/// Receives the rows of a page.
pub trait RowHandler {
    /// Decides about a row before deduplication.
    fn judge(&mut self, record: &Record) -> RowVerdict;

    fn deliver(&mut self, row: NewRow<'_>);

    /// Takes note of the agent's own search, which is not to be delivered.
    fn leave_out(&mut self, row: NewRow<'_>);
}

impl Api {
    /// Passes on the rows of a page, oldest first, without the first `repeated` ones, which were on the previous page,
    /// and without those that were delivered before. Then advances to the next page.
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
        let (mut time_ms, mut self_poll, mut cross_route_id, mut expected_in_files) =
            (None, false, None, false);
        // A row that cannot be parsed has no time or node to judge by, so it is delivered.
        if let Parsed::Record(record) = content {
            time_ms = record.time_ms;
            match rows.judge(record) {
                RowVerdict::Skip => {
                    self.count_row(id, time_ms);
                    self.total.repeated += 1;
                    return;
                }
                RowVerdict::Deliver { expected_in_files: expected } => expected_in_files = expected,
            }
            self_poll = self.is_self_poll(record);
            cross_route_id = self.cross_route_id(record);
        }
        let Some((id, cross_route_id)) = self.deduplicate(id, cross_route_id, time_ms, ledger) else {
            return;
        };
        let legacy_cross_route_id = cross_route_id.filter(|_| self.endpoint.route == Route::Legacy);
        let row = NewRow { content, id, self_poll, expected_in_files, text, legacy_cross_route_id };
        if self_poll && self.config.drop_self_polls {
            self.total.dropped += 1;
            rows.leave_out(row);
        } else {
            rows.deliver(row);
        }
    }

    /// The id under which a row is delivered, and its cross-route id among its twins. `None`: it was delivered before.
    fn deduplicate(
        &mut self,
        id: EventId,
        cross_route_id: Option<EventId>,
        time_ms: Option<i64>,
        ledger: &SharedLedger,
    ) -> Option<(EventId, Option<EventId>)> {
        let id = self.count_row(id, time_ms)?;
        let window = &mut self.poll.reader.as_mut()?.window;
        let cross_route_id = cross_route_id.map(|cross_route_id| window.twin(cross_route_id));
        let is_legacy = self.endpoint.route == Route::Legacy;
        let came_by_legacy = cross_route_id.zip(time_ms).filter(|_| !is_legacy);
        let came_by_legacy = came_by_legacy
            .is_some_and(|(cross_route_id, ms)| ledger.contains_cross_route(cross_route_id, ms));
        if came_by_legacy || !ledger.mark_in_flight(id, time_ms) {
            self.total.repeated += 1;
            return None;
        }
        if let Some(cross_route_id) = cross_route_id.filter(|_| is_legacy) {
            ledger.mark_cross_route_in_flight(cross_route_id);
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
                "a row became visible later than `overlap`; the poll for late rows has found it"
            );
        }
        Some((id, cross_route_id))
    }

    /// An id from the fields that both routes of Data Center return. The legacy route returns fewer fields, so the
    /// event ids differ. After an upgrade, this id of legacy rows shows which events were delivered.
    fn cross_route_id(&self, record: &Record) -> Option<EventId> {
        if self.config.product != Product::DataCenter {
            return None;
        }
        let text = |token: &Token| token.text().map(|text| text.decoded().into_owned());
        let (time_ms, action) = (record.time_ms?, text(&record.action)?);
        // A JSON array of strings is never the canonical form of a record, so it cannot collide with an event id.
        let alike = serde_json::json!(["alike", time_ms.to_string(), action, text(&record.author.name)]);
        Some(EventId::of(alike.to_string().as_bytes()))
    }

    /// Counts a row, delivered or not. Returns its id among its twins.
    fn count_row(&mut self, id: EventId, time_ms: Option<i64>) -> Option<EventId> {
        self.total.rows += 1;
        Some(self.poll.reader.as_mut()?.window.row(id, time_ms))
    }

    /// Whether a record is one of the agent's own searches.
    pub fn is_self_poll(&mut self, record: &Record) -> bool {
        self_activity::is_search(record) && self.checks.self_activity().is_own_search(record)
    }
}
