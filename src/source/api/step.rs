//! One request to an audit API, and what becomes of its answer.

use super::answer::{self, AnswerClass};
use super::deferred::DeferredWindows;
use super::page::Page;
use super::server_clock::Now;
use super::state::{Api, ApiStep};
use super::window::Windows;
use super::{cloud_id, version};
use crate::http::{HttpError, Phase, Response};
use crate::source::failover::ApiRole;

/// A clock that differs by more than this from the server's may have chosen the wrong first window.
const CLOCK_DIFFERENCE_MAX_MS: i64 = 2_000;

impl Api {
    /// Asks for the next page if it is time to.
    pub async fn step(&mut self, now: &dyn Fn() -> Now) -> ApiStep {
        let begun = now();
        if self.poll.reading.is_none() || self.poll.role == ApiRole::Deliver {
            self.poll.window_role = self.poll.role;
        }
        if let Some(until) = self.held_back(begun.monotonic) {
            return ApiStep::Wait(until);
        }
        if self.endpoint.base.is_none() {
            return self.find_base(now).await;
        }
        if self.faults.version_wanted {
            return self.ask_version(now).await;
        }
        if let Some(at_ms) = self.watch.author_wanted.take() {
            self.look_up_author(at_ms).await;
            return ApiStep::Again;
        }
        if self.poll.reading.is_none() {
            let may_look = self.cursor.answered && !self.for_other_nodes;
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
        let (Some(reading), Some(base)) = (&self.poll.reading, &self.endpoint.base) else {
            return ApiStep::Again;
        };
        self.poll.rows_asked = reading.rows_asked(self.poll.page_size.rows());
        let url = reading.url(base, self.poll.rows_asked);
        self.total.requests += 1;
        let result = self.client.get(&url).await;
        self.answered(result, now())
    }

    /// Only a server that says that it is older than 7.5 is read by the old route.
    async fn ask_version(&mut self, now: &dyn Fn() -> Now) -> ApiStep {
        self.faults.version_wanted = false;
        let Some(base) = self.endpoint.base.clone() else {
            return ApiStep::Again;
        };
        self.total.requests += 1;
        let version = version::fetch(&mut self.client, &base).await;
        if self.endpoint.decide(version, self.cursor.saved) {
            self.poll.reading =
                self.poll.reading.take().map(|reading| reading.restarted(self.endpoint.route));
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

    fn answered(&mut self, result: Result<Response, HttpError>, now: Now) -> ApiStep {
        let class = answer::classify(&result, &self.config.product);
        let smaller = match &result {
            Err(HttpError::Timeout { phase, .. }) if *phase != Phase::Connect => self.poll.page_size.halve(),
            _ if matches!(class, AnswerClass::Overloaded { .. }) => self.poll.page_size.spare(),
            _ => false,
        };
        if smaller {
            tracing::debug!(
                source = self.source,
                page_size = self.poll.page_size.rows(),
                "the server is slow or overloaded; asking for fewer rows"
            );
        }
        let Ok(answer) = result else {
            return self.failed(class, None, now);
        };
        if self.learn_clock(&answer, now) {
            // The window was chosen by a clock that is not the server's.
            self.cursor.windows = Windows::new(self.cursor.saved);
            self.poll.deferred = DeferredWindows::default();
            (self.poll.reading, self.poll.retried, self.poll.next) = (None, None, None);
            if class == AnswerClass::Ok {
                return ApiStep::Again;
            }
        }
        if class != AnswerClass::Ok {
            return self.failed(class, Some(&answer), now);
        }
        let pause = crate::delay::requested_pause(&answer.headers, now.ms);
        let Response { body, secrets, .. } = answer;
        let page = match Page::parse(self.endpoint.route, body, self.poll.rows_asked) {
            Ok(page) => page,
            Err(error) => {
                let reason = secrets.redacted(&error.to_string());
                return self.failed(answer::not_a_page(reason), None, now);
            }
        };
        self.watch.self_activity().answered();
        self.recovered(now);
        if let Some(pause) = pause {
            self.faults.not_before = Some(now.monotonic + pause);
        }
        self.look_at_page(page, now)
    }

    /// Returns whether the first answer shows that the host's clock is not the server's.
    fn learn_clock(&mut self, answer: &Response, now: Now) -> bool {
        let first = self.clock.difference_ms().is_none();
        self.clock.learn(answer.header("date"), now);
        self.watch.self_activity().learn(answer.header("x-ausername"));
        let difference = self.clock.difference_ms();
        first && difference.is_some_and(|ms| ms.abs() > CLOCK_DIFFERENCE_MAX_MS)
    }
}
