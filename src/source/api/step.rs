//! Makes one request to an audit API and processes its response.

use super::deferred::DeferredWindows;
use super::page::Page;
use super::response::{self, ResponseClass};
use super::server_clock::Now;
use super::state::{Api, ApiStep};
use super::window::Windows;
use super::{cloud_id, version};
use crate::http::{HttpError, Phase, Response};
use crate::source::failover::ApiRole;

/// If the host's clock differs by more than this, the first window is chosen again by the server's clock.
const CLOCK_DIFFERENCE_MAX_MS: i64 = 2_000;

impl Api {
    /// Requests the next page if that is due, or makes another request that is due first.
    pub async fn step(&mut self, now: &dyn Fn() -> Now) -> ApiStep {
        let begun = now();
        if self.poll.reader.is_none() || self.poll.role == ApiRole::Deliver {
            self.poll.window_role = self.poll.role;
        }
        if let Some(until) = self.backing_off_until(begun.monotonic) {
            return ApiStep::Wait(until);
        }
        if self.endpoint.base.is_none() {
            return self.look_up_base(now).await;
        }
        if self.faults.version_wanted {
            return self.ask_version(now).await;
        }
        if let Some(at_ms) = self.checks.author_requested_ms.take() {
            self.look_up_author(at_ms).await;
            return ApiStep::Again;
        }
        if self.poll.reader.is_none() {
            let may_look = self.cursor.answered && !self.for_other_nodes;
            if may_look && self.expiry_due(begun) {
                self.check_expiry(begun).await;
            }
            if may_look && self.audit_settings_due(begun) {
                self.check_audit_settings(begun).await;
            }
            if let Some(step) = self.choose_window(begun) {
                return step;
            }
        }
        let (Some(reader), Some(base)) = (&self.poll.reader, &self.endpoint.base) else {
            return ApiStep::Again;
        };
        self.poll.rows_asked = reader.rows_asked(self.poll.page_size.rows());
        let url = reader.url(base, self.poll.rows_asked);
        self.total.requests += 1;
        let result = self.client.get(&url).await;
        self.process_response(result, now())
    }

    /// Reads the version: only a Data Center before 7.5 is polled by the legacy route.
    async fn ask_version(&mut self, now: &dyn Fn() -> Now) -> ApiStep {
        self.faults.version_wanted = false;
        let Some(base) = self.endpoint.base.clone() else {
            return ApiStep::Again;
        };
        self.total.requests += 1;
        let version = version::fetch(&mut self.client, &base).await;
        if self.endpoint.decide(version, self.cursor.saved) {
            self.poll.reader = self.poll.reader.take().map(|reader| reader.restarted(self.endpoint.route));
            return ApiStep::Again;
        }
        let product = self.config.product.clone();
        self.failed(ResponseClass::NotFound { product }, None, now())
    }

    /// Looks up the cloud id: scoped tokens are used at another host, with this id in the path.
    async fn look_up_base(&mut self, now: &dyn Fn() -> Now) -> ApiStep {
        self.total.requests += 1;
        let result = {
            let site = &self.config.http.base;
            cloud_id::look_up(&mut self.client, site, &self.config.product).await
        };
        let now = now();
        match result {
            Ok(id) => {
                self.endpoint.set_cloud_id(&id);
                if let Some(base) = &self.endpoint.base {
                    self.client.allow(base.clone());
                }
                self.recovered(now);
                ApiStep::Again
            }
            Err(class) => self.failed(class, None, now),
        }
    }

    fn process_response(&mut self, result: Result<Response, HttpError>, now: Now) -> ApiStep {
        let class = response::classify(&result, &self.config.product);
        let smaller = match &result {
            Err(HttpError::Timeout { phase, .. }) if *phase != Phase::Connect => self.poll.page_size.halve(),
            _ if matches!(class, ResponseClass::Overloaded { .. }) => {
                self.poll.page_size.reduce_for_overload()
            }
            _ => false,
        };
        if smaller {
            tracing::debug!(
                source = self.source,
                page_size = self.poll.page_size.rows(),
                "the server is slow or overloaded; requesting fewer rows"
            );
        }
        let Ok(response) = result else {
            return self.failed(class, None, now);
        };
        if self.learn_clock(&response, now) {
            // The window was chosen by the host's clock, which is wrong.
            self.cursor.windows = Windows::new(self.cursor.saved);
            self.poll.deferred = DeferredWindows::default();
            (self.poll.reader, self.poll.retried, self.poll.next) = (None, None, None);
            if class == ResponseClass::Ok {
                return ApiStep::Again;
            }
        }
        if class != ResponseClass::Ok {
            return self.failed(class, Some(&response), now);
        }
        let pause = crate::delay::requested_pause(&response.headers, now.ms);
        let Response { body, secrets, .. } = response;
        let page = match Page::parse(self.endpoint.route, body, self.poll.rows_asked) {
            Ok(page) => page,
            Err(error) => {
                let reason = secrets.redacted(&error.to_string());
                return self.failed(response::not_a_page(reason), None, now);
            }
        };
        self.checks.self_activity().response_received();
        self.recovered(now);
        if let Some(pause) = pause {
            self.metrics.count_throttled(pause);
            self.faults.not_before = Some(now.monotonic + pause);
        }
        self.check_page(page, now)
    }

    /// Returns whether this is the first response and the host's clock differs from the server's.
    fn learn_clock(&mut self, response: &Response, now: Now) -> bool {
        let first = self.clock.difference_ms().is_none();
        self.clock.learn(response.header("date"), now);
        self.checks.self_activity().learn_user_name(response.header("x-ausername"));
        let difference = self.clock.difference_ms();
        first && difference.is_some_and(|ms| ms.abs() > CLOCK_DIFFERENCE_MAX_MS)
    }
}
