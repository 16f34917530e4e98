//! The durable state of an API: how far it has been read.

use super::window::Windows;
use crate::position::ApiCursor;
use std::time::Instant;

pub(super) struct CursorState {
    /// Which window comes next, and the cursor, which moves with each that was read.
    pub windows: Windows,
    /// The cursor as the checkpoint was last given it.
    pub saved: Option<ApiCursor>,
    /// An answer with rows, or with none, has come.
    pub answered: bool,
    /// Where to begin does not depend on the server's clock.
    pub begin_is_sure: bool,
    /// The end of the last poll that reached it.
    pub asked_to_ms: Option<i64>,
    /// When the last poll began that reached the present and whose cursor was not ahead of it.
    pub reached_present: Option<Instant>,
}

impl CursorState {
    pub(super) fn new(cursor: Option<ApiCursor>) -> CursorState {
        CursorState {
            windows: Windows::new(cursor),
            saved: cursor,
            answered: false,
            begin_is_sure: false,
            asked_to_ms: None,
            reached_present: None,
        }
    }
}
