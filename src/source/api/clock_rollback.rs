//! A clock that was ahead, with everything that looks at it, and was set right: the cursor has gone with it.

use super::{Api, Now};

impl Api {
    /// If the present lies before all that the next poll would look at, sets the cursor back to where the last poll that reached
    /// the present ended: what happened since is nowhere else asked for. By the later of both clocks, so that the host's alone
    /// does no such thing; and not before the server has told its own.
    pub(super) fn detect_clock_rollback(&mut self, now: Now) {
        if !self.begun || !self.is_ahead(now) {
            return;
        }
        let present_ms = self.clock.bounds_ms(now).0;
        let since = match self.reached_present {
            Some(at) => now.monotonic.saturating_duration_since(at) + self.config.overlap,
            None => self.kept(),
        };
        let to_ms = present_ms - (since + self.behind).as_millis() as i64;
        let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        tracing::warn!(
            source = self.source,
            had_read_to = %time(self.windows.cursor.map_or(0, |cursor| cursor.at_ms)),
            reads_on_from = %time(to_ms),
            "the server's clock was ahead and has been set right; the audit log is read on from where it was by then, and events may come again whose \
             time was wrong for longer than their ids are kept"
        );
        self.windows.set_back(to_ms);
        self.asked_to_ms = None;
    }

    /// Whether the cursor is ahead of the present by more than any poll looks back.
    pub(super) fn is_ahead(&self, now: Now) -> bool {
        let overlap_ms = self.config.overlap.as_millis() as i64;
        let cursor = self.windows.cursor;
        cursor.is_some_and(|cursor| cursor.at_ms - overlap_ms > self.clock.bounds_ms(now).0)
    }
}
