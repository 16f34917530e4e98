//! The state of a poll: the current window and its page, and the deferred windows.

use super::backfill_progress::BackfillProgress;
use super::deferred::{DeferredWindows, Retried};
use super::page_size::PageSize;
use super::window_reader::{Attempts, WindowReader};
use crate::config::ApiConfig;
use crate::source::failover::ApiRole;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Poll {
    /// How often to poll.
    pub interval: Duration,
    /// Its role towards the files, for the next window.
    pub role: ApiRole,
    /// When the current or last poll began.
    pub begun: Option<Instant>,
    /// The server's clock at that time, as it was known then.
    pub begun_server_ms: Option<i64>,
    /// When the next poll is due; `None`: at once.
    pub next: Option<Instant>,
    /// When the next poll looks back further for late rows: see `late_rows_interval`.
    pub next_late_rows_poll: Option<Instant>,
    /// The current window; `None` between windows.
    pub reader: Option<WindowReader>,
    /// The role of the current window: [`ApiRole::Compare`] if each of its requests was made in this role.
    pub window_role: ApiRole,
    /// `Some` if the current window was deferred before.
    pub retried: Option<Retried>,
    /// Windows that failed while others did not.
    pub deferred: DeferredWindows,
    /// A request has succeeded since the last window was deferred.
    pub answered_since: bool,
    /// The attempts of the last window that was restarted.
    pub attempts: Attempts,
    pub page_size: PageSize,
    /// How many rows the last request asked for.
    pub rows_asked: usize,
    /// Windows of this poll with broken paging, in a row.
    pub broken_windows: u32,
    /// Windows of this poll that were deferred, in a row.
    pub deferred_windows: u32,
    /// Progress towards the present.
    pub backfill: Option<BackfillProgress>,
}

impl Poll {
    pub(super) fn new(config: &ApiConfig) -> Poll {
        Poll { interval: config.poll_interval, page_size: PageSize::new(config.page_size), ..Poll::default() }
    }
}
