//! What an API beside files is told of them, and asked about itself.

use super::answer::{self, AnswerClass};
use super::page::Page;
use super::self_activity::{SelfActivity, SharedSelfActivity};
use super::server_clock::DATE_MS;
use super::window::Window;
use super::window_reader::{Attempts, WindowReader};
use super::{Api, Now};
use crate::config::Start;
use crate::position::ApiCursor;
use crate::record::{Parsed, Scratch, parse};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

impl Api {
    /// The same API, asked for rows of nodes whose files are not read.
    pub fn for_other_nodes(&self, cursor: Option<ApiCursor>) -> Api {
        let mut api = Api::new(&self.source, self.config.clone(), cursor);
        api.own = self.shared_self_activity();
        api.for_other_nodes = true;
        api
    }

    pub fn is_for_other_nodes(&self) -> bool {
        self.for_other_nodes
    }

    /// What is known of the agent's user.
    pub fn shared_self_activity(&self) -> SharedSelfActivity {
        Arc::clone(&self.own)
    }

    /// Asks next for what was searched at this time, to see by whom: a file does not tell the name.
    pub fn want_author(&mut self, at_ms: i64) {
        self.author_wanted = Some(at_ms);
    }

    pub(super) async fn look_up_author(&mut self, at_ms: i64) {
        let (route, Some(base)) = (self.endpoint.route, &self.endpoint.base) else {
            return;
        };
        let reading = WindowReader::new(Window::new(at_ms, at_ms, false), route, Attempts::default());
        let asked = reading.rows_asked(self.page_size.rows());
        let url = reading.url(base, asked);
        self.total.requests += 1;
        let result = self.client.get(&url).await;
        let class = answer::classify(&result, &self.config.product);
        let (Ok(answer), AnswerClass::Ok) = (result, &class) else {
            // What is wrong the next poll finds and says.
            let reason = class.message();
            tracing::debug!(source = self.source, reason, "who searched the audit log is not told");
            return;
        };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.learn(answer.header("x-ausername"));
        let Ok(page) = Page::parse(route, answer.body, asked) else {
            return;
        };
        own.answered();
        learn_authors(&page, &mut own);
    }

    /// Ids that came by another API may be forgotten up to then.
    pub fn set_known_ids_from(&mut self, from_ms: i64) {
        if let Some(cursor) = &mut self.windows.cursor {
            cursor.ids_from_ms = cursor.ids_from_ms.max(from_ms);
        }
    }

    /// How far it has been read; `None` before it has begun.
    pub fn cursor_ms(&self) -> Option<i64> {
        self.windows.cursor.map(|cursor| cursor.at_ms)
    }

    /// How often it is to be polled where nothing else is said.
    pub fn poll_interval(&self) -> Duration {
        self.config.poll_interval
    }

    /// Sets another pace: polls each `interval` that end `behind` the present. A faster one holds at once.
    pub fn set_pace(&mut self, interval: Duration, behind: Duration) {
        if interval < self.interval {
            self.next_poll = None;
        }
        (self.interval, self.behind) = (interval, behind);
    }

    /// Where a source begins that never asked, and whose files brought events of this time: with them, so that a hole among
    /// them is found, but no further back than any poll looks.
    pub fn begin_between(&mut self, oldest_ms: i64, newest_ms: i64) {
        if self.windows.cursor.is_none() {
            let kept_ms = self.kept().as_millis() as i64;
            let begin_ms = oldest_ms.max(newest_ms.saturating_sub(kept_ms));
            self.windows.begin(begin_ms);
            self.config.start = Start::At(begin_ms);
            self.begin_is_sure = true;
        }
    }

    /// Where a source begins that never asked, and whose files have been read before or are not to be: what happens from now on.
    pub fn begin_at_present(&mut self) {
        if self.windows.cursor.is_none() {
            self.config.start = Start::Ago(Duration::ZERO);
        }
    }

    /// Stretches of time whose events files have brought, and whose ids are not known any more: they are not asked for.
    pub fn pass_over(&mut self, skipped_ranges: &[(i64, i64)]) {
        if self.windows.passed_over == skipped_ranges {
            return;
        }
        let first = self.windows.passed_over.is_empty();
        if let (true, [(from_ms, _), ..], [.., (_, to_ms)]) = (first, skipped_ranges, skipped_ranges) {
            let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
            tracing::info!(
                source = self.source,
                from = %time(*from_ms),
                to = %time(*to_ms),
                "the files brought too many events to compare all with the API; it is asked for what lies before, between and behind them"
            );
        }
        self.windows.passed_over = skipped_ranges.to_vec();
    }

    /// A poll that ends so long before the present, and was begun by now, has asked for nothing later.
    pub fn asked_at_most_to_ms(&self, now: Now, behind: Duration) -> i64 {
        // The present is known to a second, and may have been thought to be later by so much.
        self.clock.bounds_ms(now).0 + DATE_MS - behind.as_millis() as i64
    }

    /// Whether a window is being read whose end is fixed already.
    pub fn is_within_window(&self) -> bool {
        self.reading.is_some()
    }

    /// Whether a poll has reached what was the present at `begun`.
    pub fn has_asked_to(&self, begun: Instant, now: Now) -> bool {
        let since_ms = now.monotonic.saturating_duration_since(begun).as_millis() as i64;
        let begun_ms = self.clock.present_ms(now) - since_ms;
        self.has_read_all() && self.asked_to_ms.is_some_and(|to_ms| to_ms >= begun_ms)
    }
}

fn learn_authors(page: &Page, own: &mut SelfActivity) {
    let mut scratch = Scratch::default();
    for row in 0..page.len() {
        if let Parsed::Record(record) = parse(page.row(row), &mut scratch) {
            own.asked(&record);
        }
    }
}
