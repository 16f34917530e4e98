//! Audit APIs that are polled, against the simulated Confluence: in the process with clocks that the test sets, and
//! with the real binary.

pub mod binary;
mod cadence;
mod coverage;
mod failing;
mod legacy;
mod levels;
mod paging;
mod random;
mod refused;
mod secrets;
mod stuck;
mod unlucky;
mod windows;
mod wire;

use crate::simulator::sim::{ADMIN_EMAIL, ADMIN_TOKEN, Row, Sim};
use confluence_audit_agent::agent::{Encoder, FlowControl, HeldSearches, Ingest, NewBatch, SinkPipeline};
use confluence_audit_agent::clock;
use confluence_audit_agent::config::{ApiConfig, Auth, HttpConfig, Product, Reference, Start};
use confluence_audit_agent::format::{Format, Raw};
use confluence_audit_agent::ledger::{Limits, SharedLedger};
use confluence_audit_agent::metrics::{ApiMetrics, Metrics};
use confluence_audit_agent::position::{ApiCursor, LedgerPosition};
use confluence_audit_agent::record::{EventId, IdHasher, Parsed, Scratch, parse};
use confluence_audit_agent::secret::Secret;
use confluence_audit_agent::sink::{Inbox, Message};
use confluence_audit_agent::source::api::{Api, Now};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// 2026-03-01T00:00:00Z.
pub const BEGIN_MS: i64 = 1_772_323_200_000;

/// An API source whose clocks are the test's. What it delivers is kept; what it would checkpoint too.
pub struct Polled<'s> {
    sim: &'s Sim,
    config: ApiConfig,
    api: Api,
    now: Cell<Now>,
    /// By how much the host's wall clock is wrong.
    pub wall_wrong_ms: i64,
    runtime: tokio::runtime::Runtime,
    /// Each delivered row with its id, in order.
    pub delivered: Vec<(EventId, String)>,
    pub self_polls: usize,
    /// How long the last step leaves the server alone.
    pub wait: Duration,
    pub notices: Vec<Reported>,
    pipeline: Pipeline,
    cursor: Option<ApiCursor>,
    ledger: SharedLedger,
    ledger_dir: tempfile::TempDir,
    pub metrics: ApiMetrics,
}

/// An event of the agent's own.
#[derive(Debug)]
pub struct Reported {
    pub id: EventId,
    pub action: String,
    pub message: String,
}

impl Reported {
    fn new(id: EventId, event: &str) -> Reported {
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        let text = |member: &str| event["agent"][member].as_str().unwrap().to_owned();
        Reported { id, action: text("action"), message: text("message") }
    }
}

/// The agent's way from a page of rows to one sink, which writes records as they are.
struct Pipeline {
    ingest: Ingest,
    flow: Arc<FlowControl>,
    inbox: Receiver<Message>,
    batches: Receiver<NewBatch>,
}

impl Pipeline {
    fn new(ledger: SharedLedger) -> Pipeline {
        let flow = Arc::new(FlowControl::new(usize::MAX));
        let ((messages, inbox), (new_batches, batches)) = (channel(), channel());
        let sink = SinkPipeline::new(Format::Raw(Raw), Inbox::Thread(messages), flow.clone(), HashMap::new());
        let ids = IdHasher::new(Some("wiki"));
        let encoder = Encoder::new(vec![sink], new_batches, Metrics::new().source("wiki"));
        Pipeline {
            ingest: Ingest::new(encoder, ids, ledger, None, HeldSearches::default()),
            flow,
            inbox,
            batches,
        }
    }

    /// The events that were sent since, each with its id and without it in its text.
    fn sent(&self) -> Vec<(EventId, String)> {
        let (mut text, mut ids) = (Vec::new(), Vec::new());
        for message in self.inbox.try_iter() {
            let Message::Batch(batch) = message else {
                panic!("only a commit sends this");
            };
            text.extend_from_slice(&batch.bytes);
            ids.extend(batch.events.iter().map(|event| event.id));
            self.flow.written(batch.bytes);
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), ids.len());
        let without_id = |(line, id): (&str, EventId)| {
            let hex = String::from_utf8(id.hex().to_vec()).unwrap();
            let rest = line.strip_prefix(&format!("{{\"event_id\":\"{hex}\",")).unwrap();
            (id, format!("{{{rest}"))
        };
        text.lines().zip(ids).map(without_id).collect()
    }
}

/// The configuration of a source at a simulator.
pub fn config_of(sim: &Sim, cloud: bool) -> ApiConfig {
    let token = Reference::Inline(Secret::new(ADMIN_TOKEN));
    let (product, auth) = if cloud {
        let product = Product::Cloud { scoped: false, cloud_id: None, gateway: sim.url().parse().unwrap() };
        let user = ADMIN_EMAIL.to_owned();
        (product, Auth::Basic { user, password: token })
    } else {
        (Product::DataCenter, Auth::Bearer(token))
    };
    let mut config = ApiConfig::new(product, HttpConfig::new(sim.url().parse().unwrap(), auth));
    config.start = Start::At(BEGIN_MS);
    config
}

impl<'s> Polled<'s> {
    /// The simulated server's clock is set to an hour after the beginning.
    pub fn new(sim: &'s Sim, config: ApiConfig) -> Polled<'s> {
        sim.set_clock_ms(BEGIN_MS + 3_600_000);
        let monotonic = clock::monotonic();
        let ledger_dir = tempfile::tempdir().unwrap();
        let (ledger, _) =
            SharedLedger::open(ledger_dir.path(), &LedgerPosition::default(), Limits::NONE).unwrap();
        let metrics = Metrics::new().api("wiki");
        Polled {
            sim,
            api: Api::new("wiki", config.clone(), None).with_metrics(metrics.clone()),
            config,
            now: Cell::new(Now { monotonic, ms: sim.now_ms() }),
            wall_wrong_ms: 0,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            delivered: Vec::new(),
            self_polls: 0,
            wait: Duration::ZERO,
            notices: Vec::new(),
            pipeline: Pipeline::new(ledger.clone()),
            cursor: None,
            ledger,
            ledger_dir,
            metrics,
        }
    }

    /// Lets time go by, for everybody.
    pub fn advance(&mut self, by: Duration) {
        self.sim.advance_clock_ms(by.as_millis() as i64);
        let now = self.now.get();
        self.now.set(Now { monotonic: now.monotonic + by, ms: self.sim.now_ms() + self.wall_wrong_ms });
    }

    /// One step; `true` if there is more to do now.
    pub fn step(&mut self) -> bool {
        self.advance(Duration::ZERO);
        let now = self.now.get();
        let step = self.runtime.block_on(self.api.step(&|| now));
        let ingest = &mut self.pipeline.ingest;
        let (wait, _) = ingest.process_step(step, i64::MAX, now, &mut self.api);
        self.receive();
        self.wait = wait.map_or(Duration::ZERO, |until| until - now.monotonic);
        assert!(wait.is_none() || !self.wait.is_zero(), "waits for what is past: a busy loop");
        wait.is_none()
    }

    /// Takes what was sent to the sink and to the checkpoint.
    fn receive(&mut self) {
        for (id, event) in self.pipeline.sent() {
            if event.starts_with("{\"agent\":") {
                self.notices.push(Reported::new(id, &event));
                continue;
            }
            let mut scratch = Scratch::default();
            if let Parsed::Record(record) = parse(event.as_bytes(), &mut scratch) {
                self.self_polls += usize::from(self.api.is_self_poll(&record));
            }
            self.delivered.push((id, event));
        }
        for NewBatch { progress, .. } in self.pipeline.batches.try_iter() {
            self.cursor = progress.api.or(self.cursor);
            self.ledger.append(&progress.entries);
        }
    }

    /// Steps until there is nothing to do now.
    pub fn poll(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("a poll without end");
    }

    /// Polls for so long, in steps of virtual time.
    pub fn run(&mut self, time: Duration, step: Duration) {
        let end = self.now.get().monotonic + time;
        while self.now.get().monotonic < end {
            self.poll();
            self.advance(step);
        }
    }

    /// The process is gone, and another goes on from the checkpoint.
    pub fn restart(&mut self) {
        let position = self.ledger.commit().unwrap().unwrap();
        let (ledger, damage) = SharedLedger::open(self.ledger_dir.path(), &position, Limits::NONE).unwrap();
        assert!(damage.is_empty());
        self.ledger = ledger.clone();
        self.pipeline = Pipeline::new(ledger);
        let api = Api::new("wiki", self.config.clone(), self.cursor);
        self.api = api.with_metrics(self.metrics.clone());
    }

    /// How many of the delivered rows have these numbers.
    pub fn has(&self, numbers: std::ops::Range<u64>) -> usize {
        let of = |row: &str| crate::simulator::sim::shapes::number_in(row);
        let delivered = self.delivered.iter().filter_map(|(_, row)| of(row));
        delivered.filter(|number| numbers.contains(number)).count()
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    pub fn cursor_ms(&self) -> i64 {
        self.cursor.expect("a checkpoint").at_ms
    }

    /// Complete, and nothing is wrong any more.
    #[track_caller]
    pub fn assert_healthy(&self) {
        assert_eq!(self.api.health(), None);
        self.is_complete();
    }

    /// What a naive reader would have: each row that is in the database and visible, once.
    #[track_caller]
    pub fn is_complete(&self) {
        let now_ms = self.sim.now_ms();
        let mut left: HashMap<String, i64> = HashMap::new();
        for Row { api, .. } in self
            .sim
            .rows()
            .into_iter()
            .filter(|row| row.in_database && row.visible_from_ms <= now_ms && row.time_ms >= BEGIN_MS)
            .filter(|row| row.time_ms <= now_ms)
        {
            *left.entry(api).or_default() += 1;
        }
        for (_, row) in &self.delivered {
            *left.entry(row.clone()).or_default() -= 1;
        }
        left.retain(|_, count| *count != 0);
        // The last search is audited after it was answered.
        left.retain(|row, count| !(*count == 1 && row.contains("audit.search")));
        assert!(left.is_empty(), "rows missing (1) or too many (-1): {left:?}");
        let mut ids: Vec<EventId> = self.delivered.iter().map(|(id, _)| *id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), self.delivered.len(), "two events with one id");
    }
}

/// So many events of Data Center, `step_ms` apart from the beginning on.
pub fn rows(numbers: std::ops::Range<u64>, step_ms: i64) -> impl Iterator<Item = Row> {
    numbers.map(move |number| Row::data_center(BEGIN_MS + number as i64 * step_ms, number))
}

pub fn cloud_rows(numbers: std::ops::Range<u64>, step_ms: i64) -> impl Iterator<Item = Row> {
    numbers.map(move |number| Row::cloud(BEGIN_MS + number as i64 * step_ms, number))
}
