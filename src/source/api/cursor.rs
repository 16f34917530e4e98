//! The durable state of an API: its cursor.

use super::window::Windows;
use crate::position::ApiCursor;
use std::time::Instant;

pub(super) struct CursorState {
    /// The windows, and the cursor, which advances with each complete window.
    pub windows: Windows,
    /// The cursor as last passed to the checkpoint.
    pub saved: Option<ApiCursor>,
    /// A page has been received, with or without rows.
    pub answered: bool,
    /// The start does not depend on the server's clock.
    pub start_is_fixed: bool,
    /// The end of the last complete poll, in milliseconds since 1970.
    pub polled_to_ms: Option<i64>,
    /// When the last poll started that reached the present and whose cursor was not ahead of it.
    pub reached_present: Option<Instant>,
    /// Rows that no poll has read are stamped later than this; `None`: the server's clock is unknown.
    pub unread_from_ms: Option<i64>,
}

impl CursorState {
    pub(super) fn new(cursor: Option<ApiCursor>) -> CursorState {
        CursorState {
            windows: Windows::new(cursor),
            saved: cursor,
            answered: false,
            start_is_fixed: false,
            polled_to_ms: None,
            reached_present: None,
            unread_from_ms: None,
        }
    }
}
