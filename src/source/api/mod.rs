//! An audit API that is polled: Data Center's or Cloud's.
//!
//! A source is driven from outside: [`Api::step`] asks at most one question; the rows of a page go through [`Api::admit`],
//! which leaves out what was delivered before, and after the last one [`Api::page_read`] moves on. [`Api::progress`] says
//! what a checkpoint may say once those rows are delivered.

pub mod answer;
pub mod cloud_id;
pub mod delay;
mod expiry;
mod own;
pub mod page;
mod question;
mod server_clock;
pub mod token;
pub mod window;

use crate::config::{ApiConfig, Auth, Product, Start};
use crate::http::{Answer, Client, HttpError};
use crate::notice::Notice;
use crate::position::{ApiCursor, IdChunk, Progress};
use crate::record::{EventId, Record};
use crate::source::recent::Recent;
use answer::{Cadence, Class};
use own::Own;
use page::{Next, Page, Route};
use question::{Endpoint, Reading};
use server_clock::ServerClock;
use std::time::{Duration, Instant};
use window::Windows;

/// While a person has to act, credentials that have changed are noticed this soon.
const CREDENTIALS_LOOKED_AT: Duration = Duration::from_secs(5);
/// After faults that a person has to mend: first this long, then [`SLOW`]. Trying often locks accounts.
const SLOW_FIRST: Duration = Duration::from_secs(60);
const SLOW: Duration = Duration::from_secs(15 * 60);
/// How often a long way is told about.
const TOLD_EVERY: Duration = Duration::from_secs(30);
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
    /// Rows that were delivered before.
    pub repeated: u64,
    /// Rows that became visible later than `overlap`.
    pub late: u64,
    /// Left out by `drop_self_polls`.
    pub dropped: u64,
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
    reading: Option<Reading>,
    recent: Recent,
    clock: ServerClock,
    own: Own,
    /// Rows asked for; less than configured after an answer that was too large.
    limit: usize,
    next_poll: Option<Instant>,
    next_reconcile: Option<Instant>,
    not_before: Option<Instant>,
    failures: u32,
    /// Faults in a row that a person has to mend.
    slow_failures: u32,
    health: Option<String>,
    /// Since when, and from how many rows on, the way to the present is told about.
    way: Option<(Instant, Instant, u64)>,
    next_expiry: Option<Instant>,
    notices: Vec<Notice>,
    total: ApiTotal,
}

impl Api {
    /// `cursor` and `ids` are what the checkpoint knows.
    pub fn new(
        source: &str,
        config: ApiConfig,
        cursor: Option<ApiCursor>,
        ids: Vec<IdChunk>,
    ) -> Result<Api, HttpError> {
        let endpoint = Endpoint::new(&config);
        let mut client = Client::new(&config.http)?;
        if let Some(base) = &endpoint.base {
            client.allow(base.clone());
        }
        let user = match &config.http.auth {
            Auth::Basic { user, .. } if matches!(config.product, Product::DataCenter) => Some(user.clone()),
            _ => None,
        };
        Ok(Api {
            source: source.to_owned(),
            client,
            windows: Windows::new(cursor),
            saved_cursor: cursor,
            begun: false,
            reading: None,
            recent: Recent::new(ids),
            clock: ServerClock::default(),
            own: Own::new(user),
            limit: config.page_size,
            next_poll: None,
            next_reconcile: None,
            not_before: None,
            failures: 0,
            slow_failures: 0,
            health: None,
            way: None,
            next_expiry: None,
            notices: Vec::new(),
            total: ApiTotal {
                url: config.http.base.to_string(),
                ..ApiTotal::default()
            },
            endpoint,
            config,
        })
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
        if self.reading.is_none() {
            if !self.windows.polling() {
                if let Some(at) = self.next_poll.filter(|at| begun.monotonic < *at) {
                    if self.expiry_due(begun) {
                        self.look_at_expiry(begun).await;
                    }
                    return Step::Wait(at);
                }
                self.begin_poll(begun);
            }
            match self.windows.next(self.clock.present_ms(begun)) {
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

    fn held_back(&mut self, now: Instant) -> Option<Instant> {
        let at = self.not_before.filter(|at| now < *at)?;
        if self.slow_failures > 0 && self.client.credentials_changed() {
            tracing::info!(
                source = self.source,
                "credentials have changed; trying again at once"
            );
            return None;
        }
        Some(self.until_credentials(at, now))
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

    fn begin_poll(&mut self, now: Now) {
        let reconcile = self.next_reconcile.is_some_and(|at| now.monotonic >= at);
        if reconcile || self.next_reconcile.is_none() {
            self.next_reconcile = Some(now.monotonic + self.config.reconcile);
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
        self.windows.begin_poll(start_ms, lookback.as_millis() as i64);
        self.next_poll = Some(now.monotonic + self.config.poll_interval);
        self.way = None;
    }

    fn answered(&mut self, result: Result<Answer, HttpError>, asked: usize, now: Now) -> Step {
        let class = answer::classify(&result, &self.config.product);
        let Ok(answer) = result else {
            return self.failed(class, None, now);
        };
        let first = self.clock.difference_ms().is_none();
        self.clock.learn(answer.header("date"), now);
        self.own.learn(answer.header("x-ausername"));
        if class != Class::Ok {
            return self.failed(class, Some(&answer), now);
        }
        let apart = self
            .clock
            .difference_ms()
            .is_some_and(|ms| ms.abs() > CLOCK_DIFFERENCE_MAX_MS);
        if first && apart && self.saved_cursor.is_none() {
            // The first window was chosen by a clock that is not the server's.
            self.windows = Windows::new(None);
            (self.reading, self.next_poll) = (None, None);
            return Step::Again;
        }
        let pause = delay::asked_delay(&answer.headers, now.ms);
        match Page::parse(self.endpoint.route, answer.body, asked) {
            Err(error) => self.failed(answer::not_a_page(error), None, now),
            Ok(page) => {
                self.recovered();
                if let Some(pause) = pause {
                    self.not_before = Some(now.monotonic + pause);
                }
                match self.reading.as_ref().and_then(|reading| reading.repeated(&page)) {
                    Some(repeated) => {
                        self.begun = true;
                        Step::Page { page, repeated }
                    }
                    None => self.shifted(now),
                }
            }
        }
    }

    /// Rows came into the window while it was read by offsets: it is read again, in shorter ones.
    fn shifted(&mut self, now: Now) -> Step {
        let Some(reading) = self.reading.take() else {
            return Step::Again;
        };
        if self.windows.halve(&reading.window) {
            return Step::Again;
        }
        self.end_poll(
            "pages keep shifting while they are read; the next poll tries again".to_owned(),
            now,
        )
    }

    /// Ends the poll; what was read of it stays known.
    fn end_poll(&mut self, what: String, now: Now) -> Step {
        self.reading = None;
        self.windows.abandon();
        self.trouble(what);
        let at = now.monotonic + self.config.poll_interval;
        self.next_poll = Some(at);
        Step::Wait(at)
    }

    fn failed(&mut self, class: Class, answer: Option<&Answer>, now: Now) -> Step {
        match &class {
            Class::TooLarge { .. } if self.limit > 1 => {
                self.limit = (self.limit / 2).max(1);
                tracing::info!(
                    source = self.source,
                    page_size = self.limit,
                    "an answer was too large; asking for fewer rows"
                );
                return Step::Again;
            }
            Class::NotFound { .. }
                if self.endpoint.route == Route::Auditing && !self.endpoint.route_known =>
            {
                // Older than 7.5, perhaps.
                self.endpoint.route = Route::Legacy;
                self.reading = None;
                return Step::Again;
            }
            Class::NotFound { .. } if self.endpoint.route == Route::Legacy && !self.endpoint.route_known => {
                self.endpoint.route = Route::Auditing;
                self.reading = None;
            }
            _ => {}
        }
        self.trouble(class.message());
        let pause = if class.cadence() == Cadence::Slow {
            self.slow_failures += 1;
            if self.slow_failures == 1 { SLOW_FIRST } else { SLOW }
        } else {
            let asked = answer.and_then(|answer| delay::asked_delay(&answer.headers, now.ms));
            self.failures += 1;
            delay::back_off(self.failures, asked, random())
        };
        let at = now.monotonic + pause;
        self.not_before = Some(at);
        Step::Wait(self.until_credentials(at, now.monotonic))
    }

    /// While a person has to act, changed credentials are looked for in between.
    fn until_credentials(&self, at: Instant, now: Instant) -> Instant {
        if self.slow_failures > 0 {
            at.min(now + CREDENTIALS_LOOKED_AT)
        } else {
            at
        }
    }

    fn trouble(&mut self, what: String) {
        if self.health.as_deref() != Some(what.as_str()) {
            tracing::error!(source = self.source, "{what}");
            self.health = Some(what);
        }
    }

    fn recovered(&mut self) {
        (self.failures, self.slow_failures, self.not_before) = (0, 0, None);
        if self.health.take().is_some() {
            tracing::info!(source = self.source, "the audit API answers again");
        }
        if !self.endpoint.route_known && self.endpoint.base.is_some() {
            self.endpoint.route_known = true;
            if self.endpoint.route == Route::Legacy {
                tracing::info!(
                    source = self.source,
                    "this Confluence is older than 7.5: its audit log is read from `/rest/api/audit`"
                );
            }
        }
    }

    /// The id to deliver a row by; `None`: it was delivered before, or is not wanted.
    pub fn admit(&mut self, id: EventId, time_ms: Option<i64>, self_poll: bool) -> Option<EventId> {
        self.total.rows += 1;
        let window = &mut self.reading.as_mut()?.window;
        let id = window.row(id, time_ms);
        if !self.recent.insert(id, time_ms.unwrap_or(window.to_ms)) {
            self.total.repeated += 1;
            return None;
        }
        let overlap_ms = self.config.overlap.as_millis() as i64;
        let late_before_ms = self
            .saved_cursor
            .map_or(i64::MIN, |cursor| cursor.at_ms - overlap_ms);
        if time_ms.is_some_and(|time| time < late_before_ms) {
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

    /// Whether a record was made by this agent's own question.
    pub fn is_self_poll(&mut self, record: &Record) -> bool {
        self.own.asked(record)
    }

    /// Every row of the page has been handed on.
    pub fn page_read(&mut self, page: Page, now: Now) {
        let Some(reading) = &mut self.reading else { return };
        let next = reading.page_read(&page);
        self.client.recycle(page.body);
        match next {
            Err(error) => {
                self.end_poll(error, now);
            }
            Ok(Next::End) => {
                let window = self
                    .reading
                    .take()
                    .map(|reading| reading.window)
                    .unwrap_or_default();
                self.windows.finish(&window);
                self.prune();
                self.tell_way(window.live, now);
                // As many rows as configured again, by and by.
                self.limit = (self.limit * 2).min(self.config.page_size);
            }
            Ok(_) if reading.window.too_large() => {
                self.windows.halve(&reading.window);
                self.reading = None;
            }
            Ok(_) => {}
        }
    }

    /// Ids are kept for as long as the longest look back: what became visible since the last reconciling read, and was late
    /// by as much.
    fn kept(&self) -> Duration {
        (2 * self.config.reconcile).max(self.config.overlap)
    }

    fn prune(&mut self) {
        let kept = self.kept().as_millis() as i64;
        let Some(cursor) = &mut self.windows.cursor else {
            return;
        };
        if let Some(incomplete_to_ms) = self.recent.prune(cursor.at_ms - kept) {
            cursor.ids_from_ms = cursor.ids_from_ms.max(incomplete_to_ms + 1);
        }
    }

    /// Says how far a backfill has come.
    fn tell_way(&mut self, live: bool, now: Now) {
        let (begun, told, rows) = self
            .way
            .unwrap_or((now.monotonic, now.monotonic, self.total.rows));
        let elapsed = now.monotonic.duration_since(begun).as_secs_f64();
        let due = now.monotonic.duration_since(told) >= TOLD_EVERY;
        if due && !live || live && elapsed > TOLD_EVERY.as_secs_f64() {
            let present_ms = self.clock.present_ms(now);
            let done = self.windows.done(present_ms);
            let rows = self.total.rows - rows;
            let at = self.windows.cursor.map_or(0, |cursor| cursor.at_ms);
            tracing::info!(
                source = self.source,
                done_percent = (done * 1000.0).round() / 10.0,
                at = %jiff::Timestamp::from_millisecond(at).unwrap_or_default(),
                rows,
                rows_per_second = (rows as f64 / elapsed.max(0.001)).round(),
                "reading what happened before"
            );
        }
        self.way = Some((begun, if due { now.monotonic } else { told }, rows));
    }

    /// What happened to the agent itself, as events.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// What has changed since the last call; it may be checkpointed once every row handed out is delivered.
    pub fn progress(&mut self) -> Progress {
        let (ids, forget_ids) = self.recent.changes();
        let cursor = self
            .windows
            .cursor
            .filter(|cursor| self.saved_cursor != Some(*cursor));
        // Before the first answer the server's clock is not known, and where to begin may still change.
        let api = cursor.filter(|_| self.begun);
        self.saved_cursor = api.or(self.saved_cursor);
        Progress {
            api,
            ids,
            forget_ids,
            ..Progress::default()
        }
    }

    /// Whether the last poll has reached the present.
    pub fn caught_up(&self) -> bool {
        self.next_poll.is_some() && self.reading.is_none() && !self.windows.polling() && self.health.is_none()
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

/// From 0 to 1, for jitter.
fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64
}
