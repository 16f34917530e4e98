//! Passes the rows of an API page to the encoder, and counts the events that are missing in the files.

use super::encoder::Encoder;
use super::held_searches::HeldSearches;
use super::ledger_entry::RecordPlace;
use super::node_filter::NodeFilter;
use crate::format::{Event, Origin};
use crate::record::{Parsed, Record};
use crate::source::api::{NewRow, RowHandler, RowVerdict};

pub(super) struct RowDelivery<'a> {
    pub encoder: &'a mut Encoder,
    pub node_filter: Option<&'a mut NodeFilter>,
    pub held: &'a HeldSearches,
    pub for_other_nodes: bool,
    pub read_at_ms: i64,
    /// An event that is expected in the files counts as missing if it is not newer than this.
    pub before_ms: i64,
    pub unreadable: &'a mut u64,
    pub missing: u64,
}

impl RowHandler for RowDelivery<'_> {
    fn judge(&mut self, record: &Record) -> RowVerdict {
        match &mut self.node_filter {
            Some(filter) => filter.judge_row(record, self.read_at_ms, self.for_other_nodes),
            None => RowVerdict::Deliver { expected_in_files: false },
        }
    }

    fn deliver(&mut self, row: NewRow<'_>) {
        let time_ms = match row.content {
            Parsed::Record(record) => record.time_ms,
            Parsed::Unreadable { error, .. } => {
                *self.unreadable += 1;
                tracing::warn!(
                    error,
                    "a row of the audit API cannot be read; it is delivered as `pipeline_error`"
                );
                None
            }
        };
        let (event, place) = self.event(&row);
        self.encoder.encode(&event, place, row.text.len());
        let is_missing = row.expected_in_files
            && !row.self_poll
            && !self.held.contains(row.id)
            && time_ms.is_none_or(|time_ms| time_ms <= self.before_ms);
        self.missing += u64::from(is_missing);
    }

    fn leave_out(&mut self, row: NewRow<'_>) {
        let (event, place) = self.event(&row);
        self.encoder.leave_out(&event, place);
    }
}

impl RowDelivery<'_> {
    fn event<'r>(&self, row: &NewRow<'r>) -> (Event<'r>, RecordPlace) {
        let event = Event {
            content: row.content,
            id: row.id,
            origin: Origin::Api,
            self_poll: row.self_poll,
            read_at_ms: self.read_at_ms,
        };
        let place = RecordPlace::Api {
            length: row.text.len() as u32,
            legacy_cross_route_id: row.legacy_cross_route_id,
        };
        (event, place)
    }
}
