//! An audit API that is polled: Data Center's or Cloud's.
//!
//! A source is driven from outside: [`Api::step`] asks at most one question; the rows of a page go through [`Api::admit`],
//! which leaves out what was delivered before, and after the last one [`Api::page_read`] moves on. [`Api::progress`] says
//! what a checkpoint may say once those rows are delivered.

mod alongside_files;
pub mod answer;
mod backfill_progress;
mod clock_rollback;
pub mod cloud_id;
pub mod coverage;
mod deferred;
mod endpoint;
mod expiry;
mod faults;
pub mod page;
mod page_size;
mod pages;
mod rows;
pub mod self_activity;
mod server_clock;
mod set_aside;
mod status;
pub mod token;
mod trouble;
pub mod version;
pub mod window;
pub mod window_reader;

use crate::config::{ApiConfig, Auth, Product, Start};
use crate::http::{Client, HttpError, Phase, Response};
use crate::notice::Notice;
use crate::position::{AgentUser, ApiCursor, Coverage};
use answer::AnswerClass;
use backfill_progress::BackfillProgress;
use deferred::DeferredWindows;
use page::{Page, Route};
use page_size::PageSize;
use pages::Retried;
use self_activity::{SelfActivity, SharedSelfActivity};
use server_clock::ServerClock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use trouble::Trouble;
use window::Windows;
use window_reader::{Attempts, Endpoint, WindowReader};

/// A clock that differs by more than this from the server's may have chosen the wrong first window.
const CLOCK_DIFFERENCE_MAX_MS: i64 = 2_000;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub monotonic: Instant,
    pub ms: i64,
}

/// What came of a step.
pub enum ApiStep {
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
    reading: Option<WindowReader>,
    /// The window that is read was set aside before.
    retried: Option<Retried>,
    /// Windows that fail while others do not.
    deferred: DeferredWindows,
    /// An answer has come since the last window was set aside.
    answered_since: bool,
    /// Of the last window that was begun anew.
    attempts: Attempts,
    clock: ServerClock,
    own: SharedSelfActivity,
    /// Whose rows are asked for: those of nodes whose files are not read.
    for_other_nodes: bool,
    /// A search of this time is to be asked for, to see whose it is.
    author_wanted: Option<i64>,
    page_size: PageSize,
    /// Rows of the last question.
    asked: usize,
    /// How often it is polled, and how far from the present a poll ends.
    interval: Duration,
    behind: Duration,
    next_poll: Option<Instant>,
    next_reconcile: Option<Instant>,
    not_before: Option<Instant>,
    /// In a row, of whatever windows but those that are set aside.
    failures: u32,
    /// Faults in a row that a person has to mend.
    slow_failures: u32,
    restart_failures: u32,
    /// Windows of the poll in a row whose pages lead nowhere.
    broken_windows: u32,
    /// Windows of the poll in a row that were set aside.
    deferred_windows: u32,
    /// What keeps the source from its work.
    trouble: Option<Trouble>,
    /// What is said of the windows that are set aside.
    deferred_health: Option<String>,
    /// The last thing that was logged of a window that cannot be read.
    logged_of_window: Option<String>,
    /// That a page which called itself the last was not has been logged, or that it was.
    logged_last_page: [bool; 2],
    /// Many answers 404 have come: the version decides by which way to ask.
    version_wanted: bool,
    /// To the present, in this poll.
    way: Option<BackfillProgress>,
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
        let own = SelfActivity::new(configured_user(&config), None);
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
            retried: None,
            deferred: DeferredWindows::default(),
            answered_since: false,
            attempts: Attempts::default(),
            clock: ServerClock::default(),
            own: Arc::new(Mutex::new(own)),
            for_other_nodes: false,
            author_wanted: None,
            page_size: PageSize::new(config.page_size),
            asked: 0,
            interval: config.poll_interval,
            behind: Duration::ZERO,
            next_poll: None,
            next_reconcile: None,
            not_before: None,
            failures: 0,
            slow_failures: 0,
            restart_failures: 0,
            broken_windows: 0,
            deferred_windows: 0,
            trouble: None,
            deferred_health: None,
            logged_of_window: None,
            logged_last_page: [false; 2],
            version_wanted: false,
            way: None,
            next_expiry: None,
            next_coverage: None,
            coverage: None,
            coverage_changed: false,
            notices: Vec::new(),
            total: ApiTotal { url: config.http.base.to_string(), ..ApiTotal::default() },
            endpoint,
            config,
        }
    }

    /// What the checkpoint knows of the agent's user.
    pub fn with_agent_user(self, saved: Option<AgentUser>) -> Api {
        *self.own() = SelfActivity::new(configured_user(&self.config), saved);
        self
    }

    fn own(&self) -> std::sync::MutexGuard<'_, SelfActivity> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the next page if it is time to.
    pub async fn step(&mut self, now: &dyn Fn() -> Now) -> ApiStep {
        let begun = now();
        if let Some(until) = self.held_back(begun.monotonic) {
            return ApiStep::Wait(until);
        }
        if self.endpoint.base.is_none() {
            return self.find_base(now).await;
        }
        if self.version_wanted {
            return self.ask_version(now).await;
        }
        if let Some(at_ms) = self.author_wanted.take() {
            self.look_up_author(at_ms).await;
            return ApiStep::Again;
        }
        if self.reading.is_none() {
            let may_look = self.begun && !self.for_other_nodes;
            if may_look && self.expiry_due(begun) {
                self.look_at_expiry(begun).await;
            }
            if may_look && self.coverage_due(begun) {
                self.look_at_coverage(begun).await;
            }
            if let Some(step) = self.choose_window(begun) {
                return step;
            }
        }
        let (Some(reading), Some(base)) = (&self.reading, &self.endpoint.base) else {
            return ApiStep::Again;
        };
        self.asked = reading.rows_asked(self.page_size.rows());
        let url = reading.url(base, self.asked);
        self.total.requests += 1;
        let result = self.client.get(&url).await;
        self.answered(result, now())
    }

    /// One that was set aside and is due, else the next of the poll; `Some`: none now.
    fn choose_window(&mut self, now: Now) -> Option<ApiStep> {
        let in_order = self.windows.polling() || self.next_poll.is_none_or(|at| now.monotonic >= at);
        // While nothing gets through the next window of the poll finds out when that changes, and it alone.
        let retries = self.slow_failures == 0 && (self.failures == 0 || !in_order);
        if retries && let Some(deferred) = self.deferred.take_due(now.monotonic) {
            self.retry(deferred);
            return None;
        }
        if !in_order {
            let due = self.deferred.due().filter(|_| retries);
            let at = due.into_iter().chain(self.next_poll).min();
            return at.map(ApiStep::Wait);
        }
        if !self.windows.polling() {
            self.begin_poll(now);
        }
        self.windows.deferred.clear();
        self.windows.deferred.extend(self.deferred.ranges());
        match self.windows.next(self.end_ms(now)) {
            Some(window) => {
                self.reading = Some(WindowReader::new(window, self.endpoint.route, self.attempts))
            }
            None => return Some(ApiStep::Again),
        }
        None
    }

    /// Only what says itself that it is older than 7.5 is read by the old way.
    async fn ask_version(&mut self, now: &dyn Fn() -> Now) -> ApiStep {
        self.version_wanted = false;
        let Some(base) = self.endpoint.base.clone() else {
            return ApiStep::Again;
        };
        self.total.requests += 1;
        let version = version::fetch(&mut self.client, &base).await;
        if self.endpoint.decide(version, self.saved_cursor) {
            self.reading = self.reading.take().map(|reading| reading.restarted(self.endpoint.route));
            return ApiStep::Again;
        }
        let product = self.config.product.clone();
        self.failed(AnswerClass::NotFound { product }, None, now())
    }

    /// Scoped tokens are used at another host, under a number that the site tells.
    async fn find_base(&mut self, now: &dyn Fn() -> Now) -> ApiStep {
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
                self.recovered(now);
                ApiStep::Again
            }
            Err(class) => self.failed(class, None, now),
        }
    }

    fn end_ms(&self, now: Now) -> i64 {
        self.clock.bounds_ms(now).0 - self.behind.as_millis() as i64
    }

    fn begin_poll(&mut self, now: Now) {
        self.detect_clock_rollback(now);
        self.poll_begun = Some(now.monotonic);
        // The first poll looks back as far: when the process before did so last is not known.
        let reconcile = self.next_reconcile.is_none_or(|at| now.monotonic >= at);
        if reconcile {
            self.next_reconcile = Some(now.monotonic + self.config.late_rows_interval);
            self.endpoint.look_for_upgrade();
        }
        let lookback = if reconcile { self.kept() } else { self.config.overlap };
        let start_ms = match self.config.start {
            Start::At(ms) => ms,
            Start::Ago(ago) => self.clock.present_ms(now) - ago.as_millis() as i64,
        };
        let begun_ms = self.clock.bounds_ms(now).0;
        self.windows.begin_poll(start_ms, lookback.as_millis() as i64, begun_ms);
        self.next_poll = Some(now.monotonic + self.interval);
        self.way =
            Some(BackfillProgress::new(&self.windows, self.total.rows, self.clock.present_ms(now), now));
    }

    fn answered(&mut self, result: Result<Response, HttpError>, now: Now) -> ApiStep {
        let class = answer::classify(&result, &self.config.product);
        let smaller = match &result {
            Err(HttpError::Timeout { phase, .. }) if *phase != Phase::Connect => self.page_size.halve(),
            _ if matches!(class, AnswerClass::Overloaded { .. }) => self.page_size.spare(),
            _ => false,
        };
        if smaller {
            tracing::debug!(
                source = self.source,
                page_size = self.page_size.rows(),
                "the server is slow or overloaded; asking for fewer rows"
            );
        }
        let Ok(answer) = result else {
            return self.failed(class, None, now);
        };
        if self.learn_clock(&answer, now) {
            // The window was chosen by a clock that is not the server's.
            self.windows = Windows::new(self.saved_cursor);
            self.deferred = DeferredWindows::default();
            (self.reading, self.retried, self.next_poll) = (None, None, None);
            if class == AnswerClass::Ok {
                return ApiStep::Again;
            }
        }
        if class != AnswerClass::Ok {
            return self.failed(class, Some(&answer), now);
        }
        let pause = crate::delay::requested_pause(&answer.headers, now.ms);
        let Response { body, secrets, .. } = answer;
        let page = match Page::parse(self.endpoint.route, body, self.asked) {
            Ok(page) => page,
            Err(error) => {
                let reason = secrets.redacted(&error.to_string());
                return self.failed(answer::not_a_page(reason), None, now);
            }
        };
        self.own().answered();
        self.recovered(now);
        if let Some(pause) = pause {
            self.not_before = Some(now.monotonic + pause);
        }
        self.look_at_page(page, now)
    }

    /// Returns whether the first answer shows that the host's clock is not the server's.
    fn learn_clock(&mut self, answer: &Response, now: Now) -> bool {
        let first = self.clock.difference_ms().is_none();
        self.clock.learn(answer.header("date"), now);
        self.own().learn(answer.header("x-ausername"));
        let difference = self.clock.difference_ms();
        first && difference.is_some_and(|ms| ms.abs() > CLOCK_DIFFERENCE_MAX_MS)
    }
}

/// The user whose password or token is used, where the configuration names one.
fn configured_user(config: &ApiConfig) -> Option<String> {
    match &config.http.auth {
        Auth::Basic { user, .. } if matches!(config.product, Product::DataCenter) => Some(user.clone()),
        _ => None,
    }
}
