//! Drives the audit API of a source, as its only input or as a fallback alongside files. It decides when the API makes
//! a request and where it starts, and passes the pages to the [`Ingest`].

use super::api_requests::{ApiRequests, PolledApi, now};
use super::fallback::Fallback;
use super::ingest::Ingest;
use crate::clock;
use crate::source::api::{Api, ApiStep, ApiTotal};
use crate::source::failover::{ApiRole, FileActivity};
use crate::source::files::AuditFiles;
use std::time::{Duration, Instant};

/// With `once`, so many transient failures in a row are retried.
const ONCE_FAILURES_MAX: u32 = 3;

pub(super) struct ApiDriver {
    requests: ApiRequests,
    poll_interval: Duration,
    /// The only input of the source, or polled for the events of the nodes whose files are read.
    main: PolledApi,
    /// With `nodes = "all"`: polled for the events of other nodes, independent of the state of the files.
    other_nodes: Option<PolledApi>,
    /// `Some` if the source has files as well.
    fallback: Option<Fallback>,
    /// The last step of the main API succeeded.
    is_healthy: bool,
    once: bool,
    begun: Instant,
}

impl ApiDriver {
    pub(super) fn new(
        requests: ApiRequests,
        api: Api,
        other_nodes: Option<Api>,
        fallback: Option<Fallback>,
        once: bool,
    ) -> ApiDriver {
        ApiDriver {
            requests,
            poll_interval: api.poll_interval(),
            main: PolledApi::new(api),
            other_nodes: other_nodes.map(PolledApi::new),
            fallback,
            is_healthy: false,
            once,
            begun: clock::monotonic(),
        }
    }

    /// Processes responses, switches the input if necessary, and starts the next requests. Returns when to call it
    /// again at the latest. `activity`: what the files did since the last call; a source without files passes `AtEnd`.
    pub(super) fn drive(
        &mut self,
        files: Option<&AuditFiles>,
        activity: FileActivity,
        ingest: &mut Ingest,
    ) -> Instant {
        while let Some((api, step)) = self.requests.try_recv() {
            self.process(api, step, ingest);
        }
        let now = clock::monotonic();
        if let (Some(fallback), Some(files)) = (&mut self.fallback, files)
            && fallback.update(files, activity, ingest)
        {
            self.main.due = now;
        }
        let fallback = self.fallback.as_ref();
        let role = fallback.map_or(ApiRole::Deliver, |fallback| fallback.role(activity, self.once));
        // Files that have unread records are not compared: their events would count as missing.
        let may_poll = role == ApiRole::Deliver || activity == FileActivity::AtEnd;
        if !ingest.held.is_empty() {
            // If the API fails, the author cannot be looked up, so the searches are delivered now.
            ingest.release_held_searches(self.main.problem.is_some());
        }
        self.poll_other_nodes(may_poll, activity, ingest, now);
        self.poll_main(role, may_poll, activity, ingest, now);
        self.due(may_poll, ingest, now)
    }

    fn due(&self, may_poll: bool, ingest: &Ingest, now: Instant) -> Instant {
        let fallback = self.fallback.as_ref();
        let idle = fallback.map_or(self.poll_interval, Fallback::probe_interval);
        let is_idle = self.main.api.is_some();
        let main = (is_idle && may_poll).then_some(self.main.due);
        let others = self.other_nodes.as_ref();
        let others = others.filter(|others| others.api.is_some() && (others.cursor_ms.is_some() || may_poll));
        let held = ingest.held.due(is_idle);
        let dues = [others.map(|others| others.due), held, fallback.and_then(Fallback::due)];
        let main = main.unwrap_or(now + idle);
        dues.into_iter().flatten().fold(main, Instant::min)
    }

    fn poll_main(
        &mut self,
        role: ApiRole,
        may_poll: bool,
        activity: FileActivity,
        ingest: &mut Ingest,
        now: Instant,
    ) {
        let Some(mut api) = self.main.api.take() else {
            return;
        };
        let interval = match (role, &self.fallback) {
            (ApiRole::Compare { .. }, Some(fallback)) => fallback.probe_interval(),
            _ => self.poll_interval,
        };
        api.set_role(role, interval);
        self.set_start(&mut api, may_poll, activity, ingest);
        self.main.cursor_ms = api.cursor_ms();
        let author_ms = ingest.held.next_author_request(now);
        if let Some(at_ms) = author_ms {
            api.request_author(at_ms);
        }
        // Where a poll takes as long as the interval, the next one would begin at once, and a single run would not end.
        let files_are_read = matches!(activity, FileActivity::AtEnd | FileActivity::Unusable);
        let is_done = self.once && files_are_read && ingest.held.is_empty() && api.caught_up();
        if author_ms.is_none() && (!may_poll || is_done || now < self.main.due) {
            self.main.api = Some(api);
            return;
        }
        self.requests.send(api);
    }

    /// Events of other nodes are not in the files, so polling does not wait for the files. Only the start does.
    fn poll_other_nodes(
        &mut self,
        may_poll: bool,
        activity: FileActivity,
        ingest: &mut Ingest,
        now: Instant,
    ) {
        let Some(mut api) = self.other_nodes.as_mut().and_then(|others| others.api.take()) else {
            return;
        };
        // If only the own node was polled before, start at the main cursor.
        if let Some(at_ms) = self.main.cursor_ms {
            api.start_between(at_ms, at_ms);
            ingest.flush(api.progress());
        }
        self.set_start(&mut api, may_poll, activity, ingest);
        let Some(others) = &mut self.other_nodes else {
            return;
        };
        others.cursor_ms = api.cursor_ms();
        // With `once`, both APIs are polled up to the same moment, so both wait for the files.
        let may_poll = may_poll || others.cursor_ms.is_some() && !self.once;
        let is_done = self.once && may_poll && api.caught_up();
        if !may_poll || is_done || now < others.due {
            others.api = Some(api);
            return;
        }
        self.requests.send(api);
    }

    /// Sets where an API that has never been polled starts, from the events of the files.
    fn set_start(&self, api: &mut Api, may_poll: bool, activity: FileActivity, ingest: &mut Ingest) {
        let read_before = self.fallback.as_ref().is_some_and(|fallback| fallback.files_read_before);
        match ingest.known_ms() {
            Some((oldest_ms, newest_ms)) if may_poll => {
                api.start_between(oldest_ms, newest_ms);
                ingest.flush(api.progress());
            }
            None if activity == FileActivity::AtEnd && read_before => api.start_at_present(),
            _ => {}
        }
    }

    fn process(&mut self, mut api: Box<Api>, step: ApiStep, ingest: &mut Ingest) {
        let is_main = !api.is_for_other_nodes();
        let has_no_result = matches!(step, ApiStep::Again);
        let lag = self.fallback.as_ref().map_or(Duration::ZERO, Fallback::lag);
        let now = now();
        let (before_ms, compares) = (api.poll_end_bound_ms(now, lag), api.compares());
        let (due, missing) = ingest.process_step(step, before_ms, now, &mut api);
        if let Some(fallback) = self.fallback.as_mut().filter(|_| is_main && compares) {
            fallback.missing += missing;
        }
        // Looked at after each step: where polls take as long as the interval, the API is never idle.
        let has_replayed = match self.fallback {
            Some(_) => api.has_polled_to(self.begun, now),
            None => api.caught_up(),
        };
        if is_main {
            self.main.has_replayed |= has_replayed;
            self.is_healthy = api.health().is_none() && (self.is_healthy || !has_no_result);
            self.main.returned(api, due);
        } else if let Some(others) = &mut self.other_nodes {
            others.has_replayed |= has_replayed;
            others.returned(api, due);
        }
    }

    /// Whether the API has returned again everything that an earlier process delivered and did not checkpoint.
    pub(super) fn has_replayed(&self) -> bool {
        self.main.has_replayed && self.other_nodes.as_ref().is_none_or(|others| others.has_replayed)
    }

    /// Whether a run with `once` may end: everything was read, or waiting does not help.
    pub(super) fn nothing_left_to_read(&self) -> bool {
        self.all(|api| api.is_drained(ONCE_FAILURES_MAX))
    }

    /// Whether this holds for each API. `false` while the request thread has one of them.
    fn all(&self, holds: impl Fn(&Api) -> bool) -> bool {
        let mut polled = [Some(&self.main), self.other_nodes.as_ref()].into_iter().flatten();
        polled.all(|polled| polled.api.as_deref().is_some_and(&holds))
    }

    /// Whether the first request has ended, in a response or a failure.
    pub(super) fn has_response(&self) -> bool {
        self.main.total().requests > 0
    }

    /// Totals of this run, over both APIs.
    pub(super) fn total(&self) -> ApiTotal {
        let mut total = self.main.total().clone();
        if let Some(others) = &self.other_nodes {
            total.add(others.total());
        }
        total
    }

    /// Why events are not delivered, if so: both inputs fail, or the API for other nodes does.
    pub(super) fn health<'a>(&'a self, files: Option<&'a AuditFiles>) -> Option<&'a str> {
        let Some(fallback) = &self.fallback else {
            return self.main.problem.as_deref();
        };
        match files.and_then(AuditFiles::health) {
            Some(problem) if !fallback.is_active() || !self.is_healthy => Some(problem),
            _ => self.other_nodes.as_ref()?.problem.as_deref(),
        }
    }

    /// Why the API was not read to the present, if so: events that are missing in the files may be undelivered then.
    pub(super) fn problem(&self) -> Option<&str> {
        let others = self.other_nodes.as_ref().and_then(|others| others.problem.as_deref());
        self.main.problem.as_deref().or(others)
    }
}
