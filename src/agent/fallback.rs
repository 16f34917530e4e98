//! The API beside the files of a source: it brings what they do not, and all of it when they fail.
//!
//! A request may take a minute, and files must not wait for it. So a thread asks, and hands the API back to the reader with
//! what came; only the reader takes rows, and so there is one order of events and one set of ids.

use super::encoder::Encoder;
use super::flow_control::FlowControl;
use super::poller::{is_drained, now};
use super::{EndedWith, ThreadEnded, spawn};
use crate::checkpoint::SourceState;
use crate::clock;
use crate::config::{FallbackConfig, SourceConfig};
use crate::notice::{Notice, SOURCE_SWITCHED};
use crate::position::{ActiveInput, Progress};
use crate::source::api::{Api, ApiStep, ApiTotal};
use crate::source::failover::{FailoverTimeouts, FallbackCause, InputObservation, State, Switch};
use crate::source::files::AuditFiles;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

pub struct Fallback {
    source: String,
    config: FallbackConfig,
    poll_interval: Duration,
    state: State,
    /// Asked for what the files bring, or should have.
    of_files: Asked,
    /// Asked for the rows of nodes whose files are not read, if these are wanted: at its own pace, whatever the files
    /// do.
    of_other_nodes: Option<Asked>,
    ask: Sender<Box<Api>>,
    answers: Receiver<(Box<Api>, ApiStep)>,
    /// It did when it last came back.
    api_works: bool,
    /// The files had been read to their end when this window was begun, and what it brings that they have not is missing.
    compares: bool,
    missing: u64,
    once: bool,
    begun: Instant,
    flow: Arc<FlowControl>,
    /// By a process before this one: if no ids are known of what they brought, the API shows it all.
    files_read_before: bool,
}

/// An API, and when to ask it.
struct Asked {
    /// `None` while it asks.
    api: Option<Box<Api>>,
    /// When it wants to be asked again.
    due: Instant,
    /// How far it has been read.
    cursor_ms: Option<i64>,
    /// Why it did not do its work when it last came back, if so.
    trouble: Option<String>,
}

impl Asked {
    fn new(api: Api) -> Asked {
        Asked { cursor_ms: api.cursor_ms(), api: Some(Box::new(api)), due: clock::monotonic(), trouble: None }
    }

    fn came_back(&mut self, api: Box<Api>, until: Option<Instant>) {
        self.due = until.unwrap_or_else(clock::monotonic);
        self.cursor_ms = api.cursor_ms();
        self.trouble = api.health().map(str::to_owned);
        self.api = Some(api);
    }
}

impl Fallback {
    pub fn start(
        source: &SourceConfig,
        api: Api,
        state: &SourceState,
        flow: Arc<FlowControl>,
        once: bool,
        ended: &UnboundedSender<ThreadEnded>,
    ) -> io::Result<Fallback> {
        let (ask, asked) = channel::<Box<Api>>();
        let (answer, answers) = channel();
        let (config, poll_interval) = (source.fallback, api.poll_interval());
        let way = state.active_input.clone();
        let files_read_before = state.files.iter().any(|file| file.offset > 0);
        let of_other_nodes = config.all_nodes.then(|| Asked::new(api.for_other_nodes(state.api_other_nodes)));
        let state = State::resumed(way.as_ref().and_then(|way| way.api));
        flow.set_note(way.filter(|_| state.is_api()).map(|way| way.reason));
        let woken = flow.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        spawn(format!("api {}", source.name), ended, move || {
            for mut api in asked {
                crate::failpoint::hit("ask");
                let step = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = woken.stop_asked() => None,
                        step = api.step(&now) => Some(step),
                    }
                });
                let Some(step) = step else { break };
                if answer.send((api, step)).is_err() {
                    break;
                }
                woken.wake(false);
            }
            EndedWith::Api
        })?;
        Ok(Fallback {
            source: source.name.clone(),
            config,
            poll_interval,
            state,
            of_files: Asked::new(api),
            of_other_nodes,
            ask,
            answers,
            api_works: false,
            compares: false,
            missing: 0,
            once,
            begun: clock::monotonic(),
            flow,
            files_read_before,
        })
    }

    /// Takes what came, switches if need be, and asks on. Returns when to look again at the latest. `read`: the files that
    /// are there have been read to their ends. `growing`: events came from them since the last turn.
    pub fn turn(&mut self, files: &AuditFiles, read: bool, growing: bool, stage: &mut Encoder) -> Instant {
        while let Ok((api, step)) = self.answers.try_recv() {
            self.take(api, step, read, stage);
        }
        let now = clock::monotonic();
        let seen = InputObservation {
            unusable: files.health().is_some(),
            missing: std::mem::take(&mut self.missing),
            growing,
        };
        let patience = FailoverTimeouts {
            file_error_timeout: self.config.file_error_timeout,
            file_recovery_timeout: self.config.file_recovery_timeout,
            compared_after: self.config.file_lag_timeout + self.config.probe_interval,
        };
        if let Some(switch) = self.state.observe(seen, patience, now) {
            self.switch(switch, seen.missing, files, stage);
        }
        let by_api = self.state.is_read_by_api() || self.once && seen.unusable;
        // What the files still have to bring is not missing.
        let may_ask = by_api || read;
        self.settle_held_searches(stage);
        self.ask_of_other_nodes(may_ask, read, stage, now);
        self.ask_of_files(by_api, may_ask, read, stage, now);
        let look = match &self.of_files {
            Asked { api: Some(_), due, .. } if may_ask => *due,
            _ => now + self.config.probe_interval,
        };
        let others = self.of_other_nodes.as_ref();
        let others = others.filter(|asked| asked.api.is_some() && (asked.cursor_ms.is_some() || may_ask));
        let held = stage.held_due(self.of_files.api.is_some());
        let dues = [self.state.due(patience), others.map(|asked| asked.due), held];
        dues.into_iter().flatten().fold(look, Instant::min)
    }

    fn ask_of_files(&mut self, by_api: bool, may_ask: bool, read: bool, stage: &mut Encoder, now: Instant) {
        let Some(mut api) = self.of_files.api.take() else {
            return;
        };
        if by_api {
            api.set_pace(self.poll_interval, Duration::ZERO);
        } else {
            api.set_pace(self.config.probe_interval, self.config.file_lag_timeout);
        }
        self.begin(&mut api, may_ask, read, stage);
        self.of_files.cursor_ms = api.cursor_ms();
        let author_ms = stage.next_author(now);
        if let Some(at_ms) = author_ms {
            api.want_author(at_ms);
        }
        if author_ms.is_some() || may_ask && now >= self.of_files.due {
            if let Some(to_ms) = stage.incomplete_to_ms().filter(|_| self.of_other_nodes.is_some()) {
                api.set_known_ids_from(to_ms + 1);
            }
            api.pass_over(stage.skipped_ranges());
            self.compares = !by_api && (self.compares || !api.is_within_window());
            // A thread that is gone has ended the process, or is about to.
            let _ = self.ask.send(api);
        } else {
            self.of_files.api = Some(api);
        }
    }

    /// Nothing of theirs stands in the files, so these need not have been read; but where to begin they say.
    fn ask_of_other_nodes(&mut self, may_ask: bool, read: bool, stage: &mut Encoder, now: Instant) {
        let Some(others) = &mut self.of_other_nodes else {
            return;
        };
        let Some(mut api) = others.api.take() else {
            return;
        };
        api.set_pace(self.poll_interval, Duration::ZERO);
        // Of a source that asked for its own node's rows alone: what happens from then on.
        if let Some(at_ms) = self.of_files.cursor_ms {
            api.begin_between(at_ms, at_ms);
            stage.flush(api.progress());
        }
        self.begin(&mut api, may_ask, read, stage);
        let Some(others) = &mut self.of_other_nodes else {
            return;
        };
        others.cursor_ms = api.cursor_ms();
        // A single run ends with a comparison.
        let may_ask = may_ask || others.cursor_ms.is_some() && !self.once;
        if may_ask && now >= others.due {
            if let Some(to_ms) = stage.incomplete_to_ms() {
                api.set_known_ids_from(to_ms + 1);
            }
            let _ = self.ask.send(api);
        } else {
            others.api = Some(api);
        }
    }

    /// Decides where an API begins that was never asked.
    fn begin(&self, api: &mut Api, may_ask: bool, read: bool, stage: &mut Encoder) {
        match stage.known_ms() {
            Some((oldest_ms, newest_ms)) if may_ask => {
                api.begin_between(oldest_ms, newest_ms);
                stage.flush(api.progress());
            }
            None if read && self.files_read_before => api.begin_at_present(),
            _ => {}
        }
    }

    /// What waits until it is known who made it does not wait for an API that does not answer.
    fn settle_held_searches(&self, stage: &mut Encoder) {
        if stage.holds_searches() {
            stage.settle_held_searches(self.of_files.trouble.is_some());
        }
    }

    fn take(&mut self, mut api: Box<Api>, step: ApiStep, read: bool, stage: &mut Encoder) {
        let of_files = !api.is_for_other_nodes();
        let idle = matches!(step, ApiStep::Again);
        let other = if of_files { self.of_other_nodes.as_ref() } else { Some(&self.of_files) };
        let mut until = None;
        match step {
            ApiStep::Again => {}
            ApiStep::Wait(at) => until = Some(at),
            ApiStep::Page { page, repeated } => {
                stage.wanted_ms = other.and_then(|asked| asked.cursor_ms).unwrap_or(i64::MAX);
                let before_ms = api.asked_at_most_to_ms(now(), self.config.file_lag_timeout);
                let brought = stage.ingest_page(page, repeated, read, before_ms, &mut api, now());
                if of_files && self.compares {
                    self.missing += brought;
                }
            }
        }
        for notice in api.take_notices() {
            stage.encode_notice(&notice);
        }
        stage.flush(api.progress());
        if of_files {
            self.api_works = api.health().is_none() && (self.api_works || !idle);
            self.of_files.came_back(api, until);
        } else if let Some(others) = &mut self.of_other_nodes {
            others.came_back(api, until);
        }
    }

    fn switch(&mut self, switch: Switch, missing: u64, files: &AuditFiles, stage: &mut Encoder) {
        let reason = match switch {
            Switch::ToFiles => {
                "the audit files can be read again and grow; they are read on from where they were left, \
                                and what the API has brought already is passed over"
                    .to_owned()
            }
            Switch::ToApi(FallbackCause::Unusable) => {
                let trouble = files.health().unwrap_or("the audit files cannot be read");
                format!("the audit API is read instead of the audit files: {trouble}")
            }
            Switch::ToApi(FallbackCause::Silent) => format!(
                "the audit API is read alongside the audit files: they have not brought {missing} event{} within `file_lag_timeout`, \
                 which the API has brought now",
                if missing == 1 { "" } else { "s" }
            ),
        };
        self.of_files.due = clock::monotonic();
        let at_ms = clock::now_ms();
        match switch {
            Switch::ToFiles => tracing::info!(source = self.source, "{reason}"),
            Switch::ToApi(_) => tracing::warn!(source = self.source, "{reason}"),
        }
        let occasion = at_ms.to_string();
        let notice = Notice::new(SOURCE_SWITCHED, &self.source, &occasion, at_ms, reason.clone());
        stage.encode_notice(&notice);
        let api = match switch {
            Switch::ToApi(cause) => Some(cause),
            Switch::ToFiles => None,
        };
        self.flow.set_note(api.map(|_| reason.clone()));
        stage.flush(Progress {
            active_input: Some(ActiveInput { api, since_ms: at_ms, reason }),
            ..Progress::default()
        });
    }

    /// Whether the API has told again what this process found delivered and not checkpointed, as far as it came from there.
    pub fn has_replayed(&self) -> bool {
        self.all(|api| api.has_asked_to(self.begun, now()))
    }

    /// Whether, with `once`, the API has nothing more to say.
    pub fn settled(&self) -> bool {
        self.all(is_drained)
    }

    /// Whether this holds for each API; not while one of them asks.
    fn all(&self, holds: impl Fn(&Api) -> bool) -> bool {
        let others = self.of_other_nodes.as_ref();
        let mut asked = [Some(&self.of_files), others].into_iter().flatten();
        asked.all(|asked| asked.api.as_deref().is_some_and(&holds))
    }

    /// What this run got from the API.
    pub fn total(&self) -> Option<ApiTotal> {
        let mut total = self.of_files.api.as_ref()?.total().clone();
        let others = self.of_other_nodes.as_ref();
        if let Some(api) = others.and_then(|others| others.api.as_ref()) {
            total.add(api.total());
        }
        Some(total)
    }

    /// Why events do not come in, if so: neither way is open, or that of other nodes' events is not.
    pub fn health<'a>(&'a self, files: &'a AuditFiles) -> Option<&'a str> {
        match files.health() {
            Some(trouble) if !self.state.is_api() || !self.api_works => Some(trouble),
            _ => self.trouble_of_other_nodes(),
        }
    }

    fn trouble_of_other_nodes(&self) -> Option<&str> {
        self.of_other_nodes.as_ref()?.trouble.as_deref()
    }

    /// Why the API has not been asked to the end, if so: what the files did not bring is missing then.
    pub fn api_trouble(&self) -> Option<&str> {
        let trouble = self.of_files.trouble.as_deref();
        trouble.or_else(|| self.trouble_of_other_nodes())
    }
}
