//! Compares the rows of an audit API with the ledger: each row must have been delivered.

use super::{Found, Reconciler};
use crate::clock;
use crate::commands::findings::{counted, time};
use crate::commands::progress::Progress;
use crate::commands::verify::VerifyFailure;
use crate::config::{ApiConfig, SourceConfig};
use crate::evidence::compare::Side;
use crate::evidence::export::{Export, ExportFormat};
use crate::evidence::row::{HAS_DIGEST, HAS_TIME, Row};
use crate::evidence::sort::Sorter;
use crate::http::{Client, Response};
use crate::ledger::record_digest;
use crate::record::{IdHasher, Parsed, Record, Scratch, parse};
use crate::source::api::cloud_id;
use crate::source::api::page::{Page, Route};
use crate::source::api::response::{self, ResponseClass, classify};
use crate::source::api::version::{self, Version};
use crate::source::api::window::Window;
use crate::source::api::window_reader::{Attempts, Endpoint, PageOutcome, WindowReader};
use std::io::{self, Write};
use std::ops::Range;

/// Length of a window: its rows are kept in memory to number their twins.
const WINDOW_MS: i64 = 24 * 60 * 60 * 1000;

impl<W: Write> Reconciler<'_, W> {
    /// Asks the API of a source for the rows of the time that its ledger covers.
    pub(super) fn api(&mut self, source: &SourceConfig) -> Result<(), VerifyFailure> {
        let Some(config) = &source.api else { return Ok(()) };
        let title = format!("API of source {}", source.name);
        let Some(at) = self.ledgers.iter().position(|ledger| ledger.source == source.name) else {
            self.output.not_checked(format!("{title}: there is no ledger of this source"));
            return Ok(());
        };
        let ledgers = &self.ledgers[at..at + 1];
        let (entries, loaded) = crate::commands::verify::load(ledgers)?;
        let asked = self.args.times.range();
        // Younger rows may still become visible, or may be on their way.
        let settled_ms = clock::now_ms().saturating_sub(config.late_rows_interval.as_millis() as i64);
        let times = asked.start.max(loaded.oldest_ms)..asked.end.min(settled_ms);
        if asked.end > settled_ms {
            let young = "which may be on their way";
            self.output.not_checked(format!("{title}: rows since {}, {young}", time(settled_ms)));
        }
        let own_node_only = source.files.is_some() && !source.fallback.all_nodes;
        let mut rows = ApiRows::new(source, own_node_only);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(VerifyFailure::Temporary)?;
        match runtime.block_on(rows.read(config, times)) {
            Ok(()) => {}
            Err(ApiError::Io(error)) => return Err(VerifyFailure::Temporary(error)),
            Err(ApiError::Server(reason)) => {
                self.output.failed(format!("{title}: {reason}"));
                return Ok(());
            }
        }
        if rows.of_nodes > 0 {
            let count = counted(rows.of_nodes, "row", "rows");
            self.output
                .not_checked(format!("{title}: {count} of cluster nodes; each has an agent of its own"));
        }
        let ApiRows { export, rows, .. } = rows;
        let found = Found { export, rows, side: Side::Api, kept_from_ms: i64::MIN };
        self.compare(title, ledgers, (entries, loaded.dropped_before_ms), found)
    }
}

enum ApiError {
    /// Of a temporary file.
    Io(io::Error),
    Server(String),
}

/// What an API has.
struct ApiRows {
    export: Export,
    rows: Sorter,
    ids: IdHasher,
    scratch: Scratch,
    /// Rows of cluster nodes are left out: the files are of one node.
    own_node_only: bool,
    /// Number of these rows.
    of_nodes: u64,
}

impl ApiRows {
    fn new(source: &SourceConfig, own_node_only: bool) -> ApiRows {
        ApiRows {
            export: Export::default(),
            rows: Sorter::default(),
            ids: IdHasher::new(source.site.as_deref()),
            scratch: Scratch::default(),
            own_node_only,
            of_nodes: 0,
        }
    }

    async fn read(&mut self, config: &ApiConfig, times: Range<i64>) -> Result<(), ApiError> {
        let mut client = Client::new(&config.http);
        let mut endpoint = Endpoint::new(config);
        if endpoint.base.is_none() {
            let id = cloud_id::look_up(&mut client, &config.http.base, &config.product).await;
            endpoint.set_cloud_id(&id.map_err(|class| ApiError::Server(class.message()))?);
        }
        if let Some(base) = &endpoint.base {
            client.allow(base.clone());
        }
        let days = times.end.saturating_sub(times.start).max(0) / WINDOW_MS + 1;
        let mut progress = Progress::of_days("asking the API", days as u64);
        let mut from_ms = times.start;
        while from_ms < times.end {
            let to_ms = times.end.min(from_ms + WINDOW_MS) - 1;
            self.window(config, &mut client, &mut endpoint, from_ms..to_ms).await?;
            progress.add(1);
            from_ms = to_ms + 1;
        }
        progress.finish();
        Ok(())
    }

    async fn window(
        &mut self,
        config: &ApiConfig,
        client: &mut Client,
        endpoint: &mut Endpoint,
        times: Range<i64>,
    ) -> Result<(), ApiError> {
        let window = || Window::new(times.start, times.end, false);
        let mut reader = WindowReader::new(window(), endpoint.route, Attempts::default());
        loop {
            let asked = reader.rows_asked(config.page_size);
            let Some(base) = endpoint.base.clone() else { return Ok(()) };
            let result = client.get(&reader.url(&base, asked)).await;
            let class = classify(&result, &config.product);
            if matches!(class, ResponseClass::NotFound { .. }) && !endpoint.route_known {
                let version = version::fetch(client, &base).await;
                if version.is_some_and(Version::is_older_than_7_5) && endpoint.route != Route::Legacy {
                    (endpoint.route, endpoint.route_known) = (Route::Legacy, true);
                    reader = WindowReader::new(window(), endpoint.route, Attempts::default());
                    continue;
                }
            }
            let response = match result {
                Ok(response) if class == ResponseClass::Ok => response,
                _ => return Err(ApiError::Server(class.message())),
            };
            let Response { body, secrets, .. } = response;
            let page = Page::parse(endpoint.route, body, asked).map_err(|error| {
                ApiError::Server(response::not_a_page(secrets.redacted(&error.to_string())).message())
            })?;
            let changed = "its rows changed while they were read; try again";
            let repeated = reader.repeated(&page).filter(|_| !reader.is_loop(&page));
            let repeated = repeated.ok_or_else(|| ApiError::Server(changed.to_owned()))?;
            for at in repeated..page.len() {
                self.row(page.row(at), &mut reader.window).map_err(ApiError::Io)?;
            }
            match reader.page_read(&page, asked) {
                PageOutcome::More => {}
                PageOutcome::End => return Ok(()),
                PageOutcome::DeadEnd(reason) => return Err(ApiError::Server(reason.to_owned())),
            }
        }
    }

    fn row(&mut self, bytes: &[u8], window: &mut Window) -> io::Result<()> {
        let parsed = parse(bytes, &mut self.scratch);
        let id = self.ids.id(&parsed);
        let (digest, time_ms, has_node) = match &parsed {
            Parsed::Record(record) => {
                (record_digest(record.original.as_bytes()), record.time_ms, has_node(record))
            }
            Parsed::Unreadable { bytes, .. } => {
                (record_digest(String::from_utf8_lossy(bytes).as_bytes()), None, false)
            }
        };
        let id = window.row(id, time_ms);
        if self.own_node_only && has_node {
            self.of_nodes += 1;
            return Ok(());
        }
        self.export.events += 1;
        self.rows.push(&Row {
            id: id.0,
            place: self.export.events,
            time_ms: time_ms.unwrap_or_default(),
            origin: 0,
            flags: HAS_DIGEST | if time_ms.is_some() { HAS_TIME } else { 0 },
            kind: ExportFormat::Original.code(),
            digest,
        })
    }
}

fn has_node(record: &Record) -> bool {
    record.node.text().is_some_and(|node| !node.decoded().is_empty())
}
