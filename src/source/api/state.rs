//! The state of an audit API, and the results of its steps.

use super::checks::Checks;
use super::cursor::CursorState;
use super::endpoint::Endpoint;
use super::outage::Faults;
use super::page::Page;
use super::poll::Poll;
use super::response;
use super::server_clock::ServerClock;
use crate::config::ApiConfig;
use crate::http::Client;
use crate::metrics::ApiMetrics;
use crate::position::ApiCursor;
use std::time::Instant;

/// The result of a step.
pub enum ApiStep {
    /// A page for [`Api::ingest_page`], newest row first. Its first `repeated` rows were on the previous page.
    Page { page: Page, repeated: usize },
    /// No page; make the next step at once.
    Again,
    /// No page; the next step is due at this time.
    Wait(Instant),
}

/// Totals of a run.
#[derive(Clone, Debug, Default)]
pub struct ApiTotal {
    pub url: String,
    pub requests: u64,
    pub rows: u64,
    /// Rows that were delivered before, or that another agent or the other `Api` delivers.
    pub repeated: u64,
    /// Rows that became visible later than `overlap`.
    pub late: u64,
    /// The agent's own searches, dropped by `drop_self_polls`.
    pub dropped: u64,
}

impl ApiTotal {
    /// Adds the totals of another `Api` of the same source, without the URL.
    pub fn add(&mut self, other: &ApiTotal) {
        self.requests += other.requests;
        self.rows += other.rows;
        self.repeated += other.repeated;
        self.late += other.late;
        self.dropped += other.dropped;
    }
}

/// An audit API of one source.
pub struct Api {
    pub(super) source: String,
    pub(super) config: ApiConfig,
    pub(super) client: Client,
    pub(super) endpoint: Endpoint,
    pub(super) clock: ServerClock,
    pub(super) cursor: CursorState,
    pub(super) poll: Poll,
    pub(super) faults: Faults,
    pub(super) checks: Checks,
    /// It is polled for the events of nodes whose files are not read.
    pub(super) for_other_nodes: bool,
    pub(super) total: ApiTotal,
    pub(super) metrics: ApiMetrics,
}

impl Api {
    /// `cursor`: what the checkpoint has stored.
    pub fn new(source: &str, config: ApiConfig, cursor: Option<ApiCursor>) -> Api {
        let endpoint = Endpoint::new(&config);
        let mut client = Client::new(&config.http);
        if let Some(base) = &endpoint.base {
            client.allow(base.clone());
        }
        Api {
            source: source.to_owned(),
            client,
            endpoint,
            clock: ServerClock::default(),
            cursor: CursorState::new(cursor),
            poll: Poll::new(&config),
            faults: Faults::default(),
            checks: Checks::new(&config),
            for_other_nodes: false,
            total: ApiTotal { url: config.http.base.to_string(), ..ApiTotal::default() },
            metrics: ApiMetrics::default(),
            config,
        }
    }

    /// Counts the requests with these metrics.
    pub fn with_metrics(mut self, metrics: ApiMetrics) -> Api {
        let (of_requests, product) = (metrics.clone(), self.config.product.clone());
        self.client.observe(Box::new(move |result, duration| {
            of_requests.observe_request(response::classify(result, &product).name(), duration);
        }));
        if let Some(settings) = &self.checks.audit_settings {
            metrics.set_coverages(&settings.coverage);
        }
        self.metrics = metrics;
        self
    }

    pub fn total(&self) -> &ApiTotal {
        &self.total
    }

    /// A second `Api` for the same server, polled for the events of nodes whose files are not read.
    pub fn for_other_nodes(&self, cursor: Option<ApiCursor>) -> Api {
        let api = Api::new(&self.source, self.config.clone(), cursor);
        let mut api = api.with_metrics(self.metrics.clone());
        api.checks.self_activity = self.shared_self_activity();
        api.for_other_nodes = true;
        api
    }

    pub fn is_for_other_nodes(&self) -> bool {
        self.for_other_nodes
    }
}
