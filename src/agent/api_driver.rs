//! Drives the audit API of a source, whether it is the only input or a fallback alongside files. It decides when
//! the next request is made and where the first poll begins, and passes responses to the ingest.

use super::api_requests::{ApiRequests, PolledApi, now};
use super::fallback::Fallback;
use super::ingest::Ingest;
use crate::clock;
use crate::source::api::{Api, ApiStep, ApiTotal};
use crate::source::failover::{ApiRole, FileActivity};
use crate::source::files::AuditFiles;
use std::time::{Duration, Instant};

/// With `once`: how many transient faults in a row are retried before the run gives up.
const ONCE_FAILURES_MAX: u32 = 3;

pub(super) struct ApiDriver {
    requests: ApiRequests,
    poll_interval: Duration,
    /// The only input of the source, or the fallback for its files.
    main: PolledApi,
    /// Polls for the events of nodes whose files are not read, if `nodes = "all"`. Independent of the files.
    other_nodes: Option<PolledApi>,
    /// `None` for a source without files.
    fallback: Option<Fallback>,
    /// The main API did its work when it last came back.
    works: bool,
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
            works: false,
            once,
            begun: clock::monotonic(),
        }
    }

    /// Processes responses, fails over or switches back, and sends the next requests. Returns the latest time of the
    /// next call. `activity`: what the files did since the last call; for a source without files `AtEnd`.
    pub(super) fn turn(
        &mut self,
        files: Option<&AuditFiles>,
        activity: FileActivity,
        ingest: &mut Ingest,
    ) -> Instant {
        while let Some((api, step)) = self.requests.answer() {
            self.take(api, step, activity, ingest);
        }
        let now = clock::monotonic();
        if let (Some(fallback), Some(files)) = (&mut self.fallback, files)
            && fallback.turn(files, activity, ingest)
        {
            self.main.due = now;
        }
        let fallback = self.fallback.as_ref();
        let role = fallback.map_or(ApiRole::Deliver, |fallback| fallback.role(activity, self.once));
        // Events that are still unread in the files are not missing.
        let may_poll = role == ApiRole::Deliver || activity == FileActivity::AtEnd;
        if !ingest.held.is_empty() {
            // The files do not wait for an API that does not respond.
            ingest.settle_held_searches(self.main.trouble.is_some());
        }
        self.poll_other_nodes(may_poll, activity, ingest, now);
        self.poll_main(role, may_poll, activity, ingest, now);
        self.due(may_poll, ingest, now)
    }

    fn due(&self, may_poll: bool, ingest: &Ingest, now: Instant) -> Instant {
        let fallback = self.fallback.as_ref();
        let idle = fallback.map_or(self.poll_interval, Fallback::probe_interval);
        let is_home = self.main.api.is_some();
        let main = (is_home && may_poll).then_some(self.main.due);
        let others = self.other_nodes.as_ref();
        let others = others.filter(|others| others.api.is_some() && (others.cursor_ms.is_some() || may_poll));
        let held = ingest.held.due(is_home);
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
        self.begin(&mut api, may_poll, activity, ingest);
        self.main.cursor_ms = api.cursor_ms();
        let author_ms = ingest.held.next_author(now);
        if let Some(at_ms) = author_ms {
            api.want_author(at_ms);
        }
        if author_ms.is_none() && (!may_poll || now < self.main.due) {
            self.main.api = Some(api);
            return;
        }
        if let Some(to_ms) = ingest.incomplete_to_ms().filter(|_| self.other_nodes.is_some()) {
            api.set_known_ids_from(to_ms + 1);
        }
        api.skip_ranges(ingest.skipped_ranges());
        self.requests.send(api);
    }

    /// The files need not be caught up, because they do not contain these events. They only determine where the first
    /// poll begins.
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
        // The source read its own node only until now: other nodes are read from now on.
        if let Some(at_ms) = self.main.cursor_ms {
            api.begin_between(at_ms, at_ms);
            ingest.flush(api.progress());
        }
        self.begin(&mut api, may_poll, activity, ingest);
        let Some(others) = &mut self.other_nodes else {
            return;
        };
        others.cursor_ms = api.cursor_ms();
        // A single run ends with a comparison.
        let may_poll = may_poll || others.cursor_ms.is_some() && !self.once;
        if !may_poll || now < others.due {
            others.api = Some(api);
            return;
        }
        if let Some(to_ms) = ingest.incomplete_to_ms() {
            api.set_known_ids_from(to_ms + 1);
        }
        self.requests.send(api);
    }

    /// Decides where the first poll of an API begins, from the events of the files.
    fn begin(&self, api: &mut Api, may_poll: bool, activity: FileActivity, ingest: &mut Ingest) {
        let read_before = self.fallback.as_ref().is_some_and(|fallback| fallback.files_read_before);
        match ingest.known_ms() {
            Some((oldest_ms, newest_ms)) if may_poll => {
                api.begin_between(oldest_ms, newest_ms);
                ingest.flush(api.progress());
            }
            None if activity == FileActivity::AtEnd && read_before => api.begin_at_present(),
            _ => {}
        }
    }

    fn take(&mut self, mut api: Box<Api>, step: ApiStep, activity: FileActivity, ingest: &mut Ingest) {
        let is_main = !api.is_for_other_nodes();
        let did_nothing = matches!(step, ApiStep::Again);
        let other = match is_main {
            true => self.other_nodes.as_ref(),
            false => Some(&self.main),
        };
        ingest.ids_needed_from_ms = other.and_then(|other| other.cursor_ms).unwrap_or(i64::MAX);
        let lag = self.fallback.as_ref().map_or(Duration::ZERO, Fallback::lag);
        let (now, read) = (now(), activity == FileActivity::AtEnd);
        let (before_ms, compares) = (api.asked_at_most_to_ms(now, lag), api.compares());
        let (due, missing) = ingest.process_step(step, read, before_ms, now, &mut api);
        if let Some(fallback) = self.fallback.as_mut().filter(|_| is_main && compares) {
            fallback.missing += missing;
        }
        if is_main {
            self.works = api.health().is_none() && (self.works || !did_nothing);
            self.main.came_back(api, due);
        } else if let Some(others) = &mut self.other_nodes {
            others.came_back(api, due);
        }
    }

    /// Whether everything that an earlier process delivered and did not checkpoint has been read again.
    pub(super) fn has_replayed(&self) -> bool {
        match self.fallback {
            Some(_) => self.all(|api| api.has_asked_to(self.begun, now())),
            None => self.all(Api::caught_up),
        }
    }

    /// Whether, with `once`, the API has been read to its end.
    pub(super) fn is_drained(&self) -> bool {
        self.all(|api| api.is_drained(ONCE_FAILURES_MAX))
    }

    /// Whether this holds for each API. False while a request is in flight.
    fn all(&self, holds: impl Fn(&Api) -> bool) -> bool {
        let mut polled = [Some(&self.main), self.other_nodes.as_ref()].into_iter().flatten();
        polled.all(|polled| polled.api.as_deref().is_some_and(&holds))
    }

    /// Whether the API has responded at least once, with or without success.
    pub(super) fn has_answered(&self) -> bool {
        self.main.total().requests > 0
    }

    /// Totals of this run.
    pub(super) fn total(&self) -> ApiTotal {
        let mut total = self.main.total().clone();
        if let Some(others) = &self.other_nodes {
            total.add(others.total());
        }
        total
    }

    /// Why the source is degraded: no input delivers events, or those of other nodes are missing.
    pub(super) fn health<'a>(&'a self, files: Option<&'a AuditFiles>) -> Option<&'a str> {
        let Some(fallback) = &self.fallback else {
            return self.main.trouble.as_deref();
        };
        match files.and_then(AuditFiles::health) {
            Some(trouble) if !fallback.is_active() || !self.works => Some(trouble),
            _ => self.other_nodes.as_ref()?.trouble.as_deref(),
        }
    }

    /// Why the API has not been read to its end. Events that are not in the files may be missing then.
    pub(super) fn trouble(&self) -> Option<&str> {
        let others = self.other_nodes.as_ref().and_then(|others| others.trouble.as_deref());
        self.main.trouble.as_deref().or(others)
    }
}
