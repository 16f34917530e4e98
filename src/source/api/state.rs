//! The state of an audit API that is polled.

use super::cursor::CursorState;
use super::endpoint::Endpoint;
use super::page::Page;
use super::poll::Poll;
use super::server_clock::ServerClock;
use super::trouble::Faults;
use super::watch::Watch;
use crate::config::ApiConfig;
use crate::http::Client;
use crate::position::ApiCursor;
use std::time::Instant;

/// What came of a step.
pub enum ApiStep {
    /// For [`Api::ingest_page`]. Its rows are ordered newest first; the first `repeated` ones were on the page before.
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
    pub(super) source: String,
    pub(super) config: ApiConfig,
    pub(super) client: Client,
    pub(super) endpoint: Endpoint,
    pub(super) clock: ServerClock,
    pub(super) cursor: CursorState,
    pub(super) poll: Poll,
    pub(super) faults: Faults,
    pub(super) watch: Watch,
    /// The rows of nodes whose files are not read are asked for.
    pub(super) for_other_nodes: bool,
    pub(super) total: ApiTotal,
}

impl Api {
    /// `cursor` is what the checkpoint knows.
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
            watch: Watch::new(&config),
            for_other_nodes: false,
            total: ApiTotal { url: config.http.base.to_string(), ..ApiTotal::default() },
            config,
        }
    }

    pub fn total(&self) -> &ApiTotal {
        &self.total
    }

    /// The same API, asked for rows of nodes whose files are not read.
    pub fn for_other_nodes(&self, cursor: Option<ApiCursor>) -> Api {
        let mut api = Api::new(&self.source, self.config.clone(), cursor);
        api.watch.self_activity = self.shared_self_activity();
        api.for_other_nodes = true;
        api
    }

    pub fn is_for_other_nodes(&self) -> bool {
        self.for_other_nodes
    }
}
