//! The rows of a page: which of them are delivered, and by which id.

use super::Api;
use super::page::Route;
use super::self_activity;
use crate::config::Product;
use crate::record::{EventId, Record, Token};
use crate::source::dedup::Dedup;
use std::time::Duration;

impl Api {
    /// The id to deliver a row by; `None`: it was delivered before, or is not wanted.
    /// `likeness` is what [`Api::likeness`] gave.
    pub fn admit(
        &mut self,
        id: EventId,
        likeness: Option<EventId>,
        time_ms: Option<i64>,
        self_poll: bool,
        recent: &mut Dedup,
    ) -> Option<EventId> {
        let id = self.count(id, time_ms)?;
        let window = &mut self.reading.as_mut()?.window;
        let likeness = likeness.map(|likeness| window.twin(likeness));
        let at_ms = time_ms.map_or(window.to_ms, |time_ms| time_ms.min(window.to_ms));
        if !recent.insert(id, at_ms, None) {
            self.total.repeated += 1;
            return None;
        }
        if let Some(likeness) = likeness {
            if self.endpoint.route == Route::Legacy {
                recent.insert(likeness, at_ms, None);
            } else if recent.contains(likeness) {
                self.total.repeated += 1;
                return None;
            }
        }
        let overlap_ms = self.config.overlap.as_millis() as i64;
        // The cursor may have been set back since it was saved.
        let cursors = self.saved_cursor.zip(self.windows.cursor);
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
    pub fn likeness(&self, record: &Record) -> Option<EventId> {
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
        Some(self.reading.as_mut()?.window.row(id, time_ms))
    }

    /// Passes a row over whose event a file has brought, or another agent brings.
    pub fn pass_over_row(&mut self, id: EventId, time_ms: Option<i64>) {
        self.count(id, time_ms);
        self.total.repeated += 1;
    }

    /// Whether a record was made by this agent's own question.
    pub fn is_self_poll(&mut self, record: &Record) -> bool {
        self_activity::is_search(record) && self.own().asked(record)
    }

    /// Ids are kept for as long as the longest look back: what became visible since the last reconciling read, and
    /// was late by as much.
    pub(super) fn kept(&self) -> Duration {
        (2 * self.config.late_rows_interval).max(self.config.overlap)
    }

    /// Forgets ids that are not met again.
    /// `wanted_ms`: from then on others want them as well: of files those that come back may bring everything since
    /// their newest event.
    pub fn prune(&mut self, recent: &mut Dedup, wanted_ms: Option<i64>) {
        let (kept, hold_ms) = (self.kept().as_millis() as i64, self.hold_ms());
        let Some(cursor) = &mut self.windows.cursor else {
            return;
        };
        let before_ms = wanted_ms.unwrap_or(i64::MAX).min(cursor.at_ms).min(hold_ms).saturating_sub(kept);
        let incomplete_to_ms = recent.prune(before_ms);
        let known_from_ms = incomplete_to_ms.map_or(before_ms, |to_ms| to_ms + 1);
        cursor.ids_from_ms = cursor.ids_from_ms.max(known_from_ms);
    }
}
