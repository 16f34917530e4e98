//! The state of a poll: the window that is read and its page, the windows that were set aside, and what comes next.

use super::backfill_progress::BackfillProgress;
use super::deferred::{DeferredWindows, Retried};
use super::page_size::PageSize;
use super::window_reader::{Attempts, WindowReader};
use crate::config::ApiConfig;
use crate::source::failover::ApiRole;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Poll {
    /// How often to poll, and what for.
    pub interval: Duration,
    pub role: ApiRole,
    pub begun: Option<Instant>,
    pub next: Option<Instant>,
    pub next_reconcile: Option<Instant>,
    pub reading: Option<WindowReader>,
    /// Of the window that is read: [`ApiRole::Compare`] if each of its steps was made in this role.
    pub window_role: ApiRole,
    /// The window that is read was set aside before.
    pub retried: Option<Retried>,
    /// Windows that fail while others do not.
    pub deferred: DeferredWindows,
    /// An answer has come since the last window was set aside.
    pub answered_since: bool,
    /// Of the last window that was restarted.
    pub attempts: Attempts,
    pub page_size: PageSize,
    /// Of the last request.
    pub rows_asked: usize,
    /// Windows of this poll in a row whose pages lead nowhere.
    pub broken_windows: u32,
    /// Windows of this poll in a row that were set aside.
    pub deferred_windows: u32,
    /// To the present.
    pub backfill: Option<BackfillProgress>,
}

impl Poll {
    pub(super) fn new(config: &ApiConfig) -> Poll {
        Poll { interval: config.poll_interval, page_size: PageSize::new(config.page_size), ..Poll::default() }
    }
}
