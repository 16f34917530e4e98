//! An audit API that is polled: Data Center's or Cloud's.
//!
//! A source is driven from outside: [`Api::step`] asks at most one question; the rows of a page go through [`Api::admit`],
//! which leaves out what was delivered before, and after the last one [`Api::page_read`] moves on. [`Api::progress`] says
//! what a checkpoint may say once those rows are delivered.

pub mod answer;
mod beside;
pub mod cloud_id;
mod corrected;
pub mod coverage;
mod expiry;
mod faults;
pub mod own;
pub mod page;
pub mod question;
mod server_clock;
pub mod token;
mod way;
pub mod window;

use crate::config::{ApiConfig, Auth, Product, Start};
use crate::http::{Answer, Client, HttpError};
use crate::notice::Notice;
use crate::position::{AgentUser, ApiCursor, Coverage, Progress};
use crate::record::{EventId, Record};
use crate::source::recent::Recent;
use answer::Class;
use own::{Own, SharedOwn};
use page::{Next, Page, Route};
use question::{Endpoint, Reading};
use server_clock::ServerClock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use way::Way;
use window::Windows;

/// A clock that differs by more than this from the server's may have chosen the wrong first window.
const CLOCK_DIFFERENCE_MAX_MS: i64 = 2_000;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub monotonic: Instant,
    pub ms: i64,
}

/// What came of a step.
pub enum Step {
    /// Rows, newest first, of which the first stood on the page before as well. Give the others to [`Api::admit`], then the
    /// page to [`Api::page_read`].
    Page { page: Page, repeated: usize },
    /// Nothing yet; go on.
    Again,
    /// Nothing is to be done before then.
    Wait(Instant),
}

/// What a run got from an API.
#[derive(Clone, Debug, Default)]
pub struct ApiTotal {
    pub url: String,
    pub requests: u64,
    pub rows: u64,
    /// Rows that were delivered before, or are left to another.
    pub repeated: u64,
    /// Rows that became visible later than `overlap`.
    pub late: u64,
    /// Left out by `drop_self_polls`.
    pub dropped: u64,
}

impl ApiTotal {
    /// Adds what another got from the same API.
    pub fn add(&mut self, other: &ApiTotal) {
        self.requests += other.requests;
        self.rows += other.rows;
        self.repeated += other.repeated;
        self.late += other.late;
        self.dropped += other.dropped;
    }
}

pub struct Api {
    source: String,
    config: ApiConfig,
    client: Client,
    endpoint: Endpoint,
    windows: Windows,
    saved_cursor: Option<ApiCursor>,
    /// An answer with rows, or with none, has come.
    begun: bool,
    /// Where to begin does not depend on the server's clock.
    begin_is_sure: bool,
    /// The end of the last poll that reached it.
    asked_to_ms: Option<i64>,
    /// When the last poll began that reached the present and whose cursor did not lie ahead of it.
    reached_present: Option<Instant>,
    poll_begun: Option<Instant>,
    reading: Option<Reading>,
    clock: ServerClock,
    own: SharedOwn,
    /// Whose rows are asked for: those of nodes whose files are not read.
    for_other_nodes: bool,
    /// A search of this time is to be asked for, to see whose it is.
    author_wanted: Option<i64>,
    /// Rows asked for; less than configured after an answer that was too large.
    limit: usize,
    /// How often it is polled, and how far from the present a poll ends.
    interval: Duration,
    behind: Duration,
    next_poll: Option<Instant>,
    next_reconcile: Option<Instant>,
    not_before: Option<Instant>,
    failures: u32,
    /// Faults in a row that a person has to mend.
    slow_failures: u32,
    /// The last poll did not reach its end for a reason that is not one request's.
    poll_failed: bool,
    restart_failures: u32,
    health: Option<String>,
    /// To the present, in this poll.
    way: Option<Way>,
    next_expiry: Option<Instant>,
    next_coverage: Option<Instant>,
    /// As it was last seen.
    coverage: Option<Coverage>,
    coverage_changed: bool,
    notices: Vec<Notice>,
    total: ApiTotal,
}

impl Api {
    /// `cursor` is what the checkpoint knows.
    pub fn new(source: &str, config: ApiConfig, cursor: Option<ApiCursor>) -> Api {
        let endpoint = Endpoint::new(&config);
        let mut client = Client::new(&config.http);
        if let Some(base) = &endpoint.base {
            client.allow(base.clone());
        }
        let own = Own::new(configured_user(&config), None);
        Api {
            source: source.to_owned(),
            client,
            windows: Windows::new(cursor),
            saved_cursor: cursor,
            begun: false,
            begin_is_sure: false,
            asked_to_ms: None,
            reached_present: None,
            poll_begun: None,
            reading: None,
            clock: ServerClock::default(),
            own: Arc::new(Mutex::new(own)),
            for_other_nodes: false,
            author_wanted: None,
            limit: config.page_size,
            interval: config.poll_interval,
            behind: Duration::ZERO,
            next_poll: None,
            next_reconcile: None,
            not_before: None,
            failures: 0,
            slow_failures: 0,
            poll_failed: false,
            restart_failures: 0,
            health: None,
            way: None,
            next_expiry: None,
            next_coverage: None,
            coverage: None,
            coverage_changed: false,
            notices: Vec::new(),
            total: ApiTotal {
                url: config.http.base.to_string(),
                ..ApiTotal::default()
            },
            endpoint,
            config,
        }
    }

    /// What the checkpoint knows of the agent's user.
    pub fn with_agent_user(self, saved: Option<AgentUser>) -> Api {
        *self.own() = Own::new(configured_user(&self.config), saved);
        self
    }

    /// Asks for the next page if it is time to.
    pub async fn step(&mut self, now: &dyn Fn() -> Now) -> Step {
        let begun = now();
        if let Some(until) = self.held_back(begun.monotonic) {
            return Step::Wait(until);
        }
        if self.endpoint.base.is_none() {
            return self.find_base(now).await;
        }
        if let Some(at_ms) = self.author_wanted.take() {
            self.look_up_author(at_ms).await;
            return Step::Again;
        }
        if self.reading.is_none() {
            let may_look = self.begun && !self.for_other_nodes;
            if may_look && self.expiry_due(begun) {
                self.look_at_expiry(begun).await;
            }
            if may_look && self.coverage_due(begun) {
                self.look_at_coverage(begun).await;
            }
            if !self.windows.polling() {
                if let Some(at) = self.next_poll.filter(|at| begun.monotonic < *at) {
                    return Step::Wait(at);
                }
                self.begin_poll(begun);
            }
            match self.windows.next(self.end_ms(begun)) {
                Some(window) => self.reading = Some(Reading::new(window, self.endpoint.route)),
                None => return Step::Again,
            }
        }
        let (Some(reading), Some(base)) = (&self.reading, &self.endpoint.base) else {
            return Step::Again;
        };
        let asked = reading.rows_asked(self.limit);
        let url = reading.url(base, self.endpoint.route, asked);
        self.total.requests += 1;
        let result = self.client.get(&url).await;
        self.answered(result, asked, now())
    }

    /// Scoped tokens are used at another host, under a number that the site tells.
    async fn find_base(&mut self, now: &dyn Fn() -> Now) -> Step {
        self.total.requests += 1;
        let result = {
            let site = &self.config.http.base;
            cloud_id::look_up(&mut self.client, site, &self.config.product).await
        };
        let now = now();
        match result {
            Ok(id) => {
                self.endpoint.found(&id);
                if let Some(base) = &self.endpoint.base {
                    self.client.allow(base.clone());
                }
                self.recovered();
                Step::Again
            }
            Err(class) => self.failed(class, None, now),
        }
    }

    fn end_ms(&self, now: Now) -> i64 {
        self.clock.bounds_ms(now).0 - self.behind.as_millis() as i64
    }

    fn begin_poll(&mut self, now: Now) {
        self.look_for_corrected_clock(now);
        self.poll_begun = Some(now.monotonic);
        // The first poll looks back as far: when the process before did so last is not known.
        let reconcile = self.next_reconcile.is_none_or(|at| now.monotonic >= at);
        if reconcile {
            self.next_reconcile = Some(now.monotonic + self.config.reconcile);
            self.endpoint.look_for_upgrade();
        }
        let lookback = if reconcile {
            self.kept()
        } else {
            self.config.overlap
        };
        let start_ms = match self.config.start {
            Start::At(ms) => ms,
            Start::Ago(ago) => self.clock.present_ms(now) - ago.as_millis() as i64,
        };
        let begun_ms = self.clock.bounds_ms(now).0;
        self.windows
            .begin_poll(start_ms, lookback.as_millis() as i64, begun_ms);
        self.next_poll = Some(now.monotonic + self.interval);
        self.way = Some(Way::new(
            &self.windows,
            self.total.rows,
            self.clock.present_ms(now),
            now,
        ));
    }

    fn answered(&mut self, result: Result<Answer, HttpError>, asked: usize, now: Now) -> Step {
        let class = answer::classify(&result, &self.config.product);
        let Ok(answer) = result else {
            return self.failed(class, None, now);
        };
        let first = self.clock.difference_ms().is_none();
        self.clock.learn(answer.header("date"), now);
        self.own().learn(answer.header("x-ausername"));
        let apart = self
            .clock
            .difference_ms()
            .is_some_and(|ms| ms.abs() > CLOCK_DIFFERENCE_MAX_MS);
        let begin_anew = first && apart;
        if begin_anew {
            // The window was chosen by a clock that is not the server's.
            self.windows = Windows::new(self.saved_cursor);
            (self.reading, self.next_poll) = (None, None);
        }
        if class != Class::Ok {
            return self.failed(class, Some(&answer), now);
        }
        if begin_anew {
            return Step::Again;
        }
        let pause = crate::delay::asked_pause(&answer.headers, now.ms);
        let Answer { body, secrets, .. } = answer;
        match Page::parse(self.endpoint.route, body, asked) {
            Err(error) => self.failed(answer::not_a_page(secrets.told(&error.to_string())), None, now),
            Ok(page) => {
                self.own().answered();
                self.recovered();
                if let Some(pause) = pause {
                    self.not_before = Some(now.monotonic + pause);
                }
                let Some(reading) = &self.reading else {
                    return Step::Again;
                };
                if reading.leads_back(&page) {
                    let what = "the audit API gave the same page twice, so its pages have no end; the next poll tries again";
                    return self.end_poll(what.to_owned(), now);
                }
                match reading.repeated(&page) {
                    Some(repeated) => {
                        self.begun = true;
                        Step::Page { page, repeated }
                    }
                    None => self.shifted(now),
                }
            }
        }
    }

    /// The id to deliver a row by; `None`: it was delivered before, or is not wanted.
    pub fn admit(
        &mut self,
        id: EventId,
        time_ms: Option<i64>,
        self_poll: bool,
        recent: &mut Recent,
    ) -> Option<EventId> {
        let id = self.count(id, time_ms)?;
        let to_ms = self.reading.as_ref()?.window.to_ms;
        let at_ms = time_ms.map_or(to_ms, |time_ms| time_ms.min(to_ms));
        if !recent.insert(id, at_ms, None) {
            self.total.repeated += 1;
            return None;
        }
        let overlap_ms = self.config.overlap.as_millis() as i64;
        // The cursor may have been set back since it was saved.
        let cursors = self.saved_cursor.zip(self.windows.cursor);
        let late_before_ms = cursors.map(|(saved, cursor)| saved.at_ms.min(cursor.at_ms) - overlap_ms);
        if time_ms
            .zip(late_before_ms)
            .is_some_and(|(time, before)| time < before)
        {
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
        own::is_search(record) && self.own().asked(record)
    }

    fn own(&self) -> std::sync::MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every row of the page has been handed on.
    pub fn page_read(&mut self, page: Page, now: Now) {
        let Some(reading) = &mut self.reading else { return };
        let next = reading.page_read(&page);
        self.client.recycle(page.body);
        if reading.window.outside > 0 {
            let what = "the audit API gives events of other times than were asked for; see that no proxy or cache answers in its place";
            self.end_poll(what.to_owned(), now);
        } else if next == Next::End {
            let window = self
                .reading
                .take()
                .map(|reading| reading.window)
                .unwrap_or_default();
            if window.live {
                self.asked_to_ms = Some(window.to_ms);
                if !self.is_ahead(now) {
                    self.reached_present = self.poll_begun;
                }
            }
            let past_ms = self.clock.bounds_ms(now).1;
            self.windows
                .finish(&window, past_ms - self.behind.as_millis() as i64);
            self.poll_failed = false;
            self.recovered();
            let (rows, present_ms) = (self.total.rows, self.clock.present_ms(now));
            if let Some(way) = &mut self.way {
                way.tell(&self.source, &self.windows, rows, present_ms, now);
            }
            // As many rows as configured again, by and by.
            self.limit = (self.limit * 2).min(self.config.page_size);
        } else if reading.window.too_large() {
            if !self.windows.halve(&reading.window) {
                let what =
                    "the windows of the audit API cannot be made short enough; the next poll tries again";
                self.end_poll(what.to_owned(), now);
            }
            self.reading = None;
        }
    }

    /// Ids are kept for as long as the longest look back: what became visible since the last reconciling read, and was late
    /// by as much.
    fn kept(&self) -> Duration {
        (2 * self.config.reconcile).max(self.config.overlap)
    }

    /// Forgets ids that are not met again.
    /// `wanted_ms`: from then on others want them as well: of files those that come back may bring everything since
    /// their newest event.
    pub fn prune(&mut self, recent: &mut Recent, wanted_ms: Option<i64>) {
        let kept = self.kept().as_millis() as i64;
        let Some(cursor) = &mut self.windows.cursor else {
            return;
        };
        let before_ms = wanted_ms
            .unwrap_or(i64::MAX)
            .min(cursor.at_ms)
            .saturating_sub(kept);
        let incomplete_to_ms = recent.prune(before_ms);
        let known_from_ms = incomplete_to_ms.map_or(before_ms, |to_ms| to_ms + 1);
        cursor.ids_from_ms = cursor.ids_from_ms.max(known_from_ms);
    }

    /// What happened to the agent itself, as events.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// What has changed since the last call; it may be checkpointed once every row handed out is delivered.
    pub fn progress(&mut self) -> Progress {
        let legacy = self.endpoint.route == Route::Legacy;
        if let Some(cursor) = self.windows.cursor.as_mut().filter(|_| self.endpoint.route_known) {
            cursor.legacy = legacy;
        }
        if let Some(cursor) = self.windows.cursor.as_mut().filter(|_| self.begun) {
            cursor.answered = true;
        }
        let cursor = self
            .windows
            .cursor
            .filter(|cursor| self.saved_cursor != Some(*cursor));
        // Before the first answer the server's clock is not known, and where to begin may still change.
        let api = cursor.filter(|_| self.begun || self.begin_is_sure);
        self.saved_cursor = api.or(self.saved_cursor);
        let coverage = self.coverage.clone().filter(|_| self.coverage_changed);
        self.coverage_changed = false;
        let agent_user = self.own().changes();
        let (api, api_other_nodes) = if self.for_other_nodes {
            (None, api)
        } else {
            (api, None)
        };
        Progress {
            api,
            api_other_nodes,
            coverage,
            agent_user,
            ..Progress::default()
        }
    }

    /// Whether the last poll has reached the present.
    pub fn caught_up(&self) -> bool {
        self.poll_is_over() && self.health.is_none()
    }

    /// Whether the last poll has ended, well or not.
    pub fn poll_is_over(&self) -> bool {
        self.next_poll.is_some() && self.reading.is_none() && !self.windows.polling()
    }

    /// Why the source cannot do its work at the moment, if so.
    pub fn health(&self) -> Option<&str> {
        self.health.as_deref()
    }

    /// Faults in a row that pass by themselves.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether a person has to act before it can.
    pub fn needs_a_person(&self) -> bool {
        self.slow_failures > 0
    }

    pub fn total(&self) -> &ApiTotal {
        &self.total
    }
}

/// The user whose password or token is used, where the configuration names one.
fn configured_user(config: &ApiConfig) -> Option<String> {
    match &config.http.auth {
        Auth::Basic { user, .. } if matches!(config.product, Product::DataCenter) => Some(user.clone()),
        _ => None,
    }
}
