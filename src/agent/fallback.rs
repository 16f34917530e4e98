//! The API beside the files of a source: it brings what they do not, and all of it when they fail.
//!
//! A request may take a minute, and files must not wait for it. So a thread asks, and hands the API back to the reader with
//! what came; only the reader takes rows, and so there is one order of events and one set of ids.

use super::gate::Gate;
use super::poller::{is_drained, now};
use super::stage::Stage;
use super::{Ended, What, spawn};
use crate::checkpoint::SourceState;
use crate::clock;
use crate::config::{FallbackConfig, SourceConfig};
use crate::notice::{Notice, SOURCE_SWITCHED};
use crate::position::{Progress, WayIn};
use crate::source::api::{Api, ApiTotal, Step};
use crate::source::failover::{Cause, Patience, Seen, State, Switch};
use crate::source::files::Files;
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
    answers: Receiver<(Box<Api>, Step)>,
    /// It did when it last came back.
    api_works: bool,
    /// The files had been read to their end when this window was begun, and what it brings that they have not is missing.
    compares: bool,
    missing: u64,
    once: bool,
    begun: Instant,
    gate: Arc<Gate>,
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
        Asked {
            cursor_ms: api.cursor_ms(),
            api: Some(Box::new(api)),
            due: clock::monotonic(),
            trouble: None,
        }
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
        gate: Arc<Gate>,
        once: bool,
        ended: &UnboundedSender<Ended>,
    ) -> io::Result<Fallback> {
        let (ask, asked) = channel::<Box<Api>>();
        let (answer, answers) = channel();
        let (config, poll_interval) = (source.fallback, api.poll_interval());
        let way = state.way.clone();
        let files_read_before = state.files.iter().any(|file| file.offset > 0);
        let of_other_nodes = config
            .all_nodes
            .then(|| Asked::new(api.for_other_nodes(state.api_other_nodes)));
        let state = State::resumed(way.as_ref().and_then(|way| way.api));
        gate.tell(way.filter(|_| state.is_api()).map(|way| way.why));
        let woken = gate.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
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
            What::Api
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
            gate,
            files_read_before,
        })
    }

    /// Takes what came, switches if need be, and asks on. Returns when to look again at the latest. `read`: the files that
    /// are there have been read to their ends. `growing`: events came from them since the last turn.
    pub fn turn(&mut self, files: &Files, read: bool, growing: bool, stage: &mut Stage) -> Instant {
        while let Ok((api, step)) = self.answers.try_recv() {
            self.take(api, step, read, stage);
        }
        let now = clock::monotonic();
        let seen = Seen {
            unusable: files.health().is_some(),
            missing: std::mem::take(&mut self.missing),
            growing,
        };
        let patience = Patience {
            file_error_timeout: self.config.file_error_timeout,
            file_recovery_timeout: self.config.file_recovery_timeout,
            compared_after: self.config.file_lag_timeout + self.config.probe_interval,
        };
        if let Some(switch) = self.state.see(seen, patience, now) {
            self.switch(switch, seen.missing, files, stage);
        }
        let by_api = self.state.is_read_by_api() || self.once && seen.unusable;
        // What the files still have to bring is not missing.
        let may_ask = by_api || read;
        self.settle_searches(stage);
        self.ask_of_other_nodes(may_ask, read, stage, now);
        self.ask_of_files(by_api, may_ask, read, stage, now);
        let look = match &self.of_files {
            Asked {
                api: Some(_), due, ..
            } if may_ask => *due,
            _ => now + self.config.probe_interval,
        };
        let others = self.of_other_nodes.as_ref();
        let others = others.filter(|asked| asked.api.is_some() && (asked.cursor_ms.is_some() || may_ask));
        let held = stage.held_due(self.of_files.api.is_some());
        let dues = [self.state.due(patience), others.map(|asked| asked.due), held];
        dues.into_iter().flatten().fold(look, Instant::min)
    }

    fn ask_of_files(&mut self, by_api: bool, may_ask: bool, read: bool, stage: &mut Stage, now: Instant) {
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
                api.ids_are_known_from(to_ms + 1);
            }
            api.pass_over(stage.passed_over());
            self.compares = !by_api && (self.compares || !api.is_within_window());
            // A thread that is gone has ended the process, or is about to.
            let _ = self.ask.send(api);
        } else {
            self.of_files.api = Some(api);
        }
    }

    /// Nothing of theirs stands in the files, so these need not have been read; but where to begin they say.
    fn ask_of_other_nodes(&mut self, may_ask: bool, read: bool, stage: &mut Stage, now: Instant) {
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
            stage.hand_over(api.progress());
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
                api.ids_are_known_from(to_ms + 1);
            }
            let _ = self.ask.send(api);
        } else {
            others.api = Some(api);
        }
    }

    /// Decides where an API begins that was never asked.
    fn begin(&self, api: &mut Api, may_ask: bool, read: bool, stage: &mut Stage) {
        match stage.known_ms() {
            Some((oldest_ms, newest_ms)) if may_ask => {
                api.begin_between(oldest_ms, newest_ms);
                stage.hand_over(api.progress());
            }
            None if read && self.files_read_before => api.begin_at_present(),
            _ => {}
        }
    }

    /// What waits until it is known who made it does not wait for an API that does not answer.
    fn settle_searches(&self, stage: &mut Stage) {
        if stage.holds_searches() {
            stage.settle_searches(self.of_files.trouble.is_some());
        }
    }

    fn take(&mut self, mut api: Box<Api>, step: Step, read: bool, stage: &mut Stage) {
        let of_files = !api.is_for_other_nodes();
        let idle = matches!(step, Step::Again);
        let other = if of_files {
            self.of_other_nodes.as_ref()
        } else {
            Some(&self.of_files)
        };
        let mut until = None;
        match step {
            Step::Again => {}
            Step::Wait(at) => until = Some(at),
            Step::Page { page, repeated } => {
                stage.wanted_ms = other.and_then(|asked| asked.cursor_ms).unwrap_or(i64::MAX);
                let before_ms = api.asked_at_most_to_ms(now(), self.config.file_lag_timeout);
                let brought = stage.take_page(page, repeated, read, before_ms, &mut api);
                if of_files && self.compares {
                    self.missing += brought;
                }
            }
        }
        for notice in api.take_notices() {
            stage.tell(&notice);
        }
        stage.hand_over(api.progress());
        if of_files {
            self.api_works = api.health().is_none() && (self.api_works || !idle);
            self.of_files.came_back(api, until);
        } else if let Some(others) = &mut self.of_other_nodes {
            others.came_back(api, until);
        }
    }

    fn switch(&mut self, switch: Switch, missing: u64, files: &Files, stage: &mut Stage) {
        let why = match switch {
            Switch::ToFiles => {
                "the audit files can be read again and grow; they are read on from where they were left, \
                                and what the API has brought already is passed over"
                    .to_owned()
            }
            Switch::ToApi(Cause::Unusable) => {
                let trouble = files.health().unwrap_or("the audit files cannot be read");
                format!("the audit API is read instead of the audit files: {trouble}")
            }
            Switch::ToApi(Cause::Silent) => format!(
                "the audit API is read beside the audit files: they have not brought {missing} event{} within `file_lag_timeout`, \
                 which the API has brought now",
                if missing == 1 { "" } else { "s" }
            ),
        };
        self.of_files.due = clock::monotonic();
        let at_ms = clock::now_ms();
        match switch {
            Switch::ToFiles => tracing::info!(source = self.source, "{why}"),
            Switch::ToApi(_) => tracing::warn!(source = self.source, "{why}"),
        }
        let occasion = at_ms.to_string();
        let notice = Notice::new(SOURCE_SWITCHED, &self.source, &occasion, at_ms, why.clone());
        stage.tell(&notice);
        let api = match switch {
            Switch::ToApi(cause) => Some(cause),
            Switch::ToFiles => None,
        };
        self.gate.tell(api.map(|_| why.clone()));
        stage.hand_over(Progress {
            way: Some(WayIn {
                api,
                since_ms: at_ms,
                why,
            }),
            ..Progress::default()
        });
    }

    /// Whether the API has told again what this process found delivered and not checkpointed, as far as it came from there.
    pub fn has_told_again(&self) -> bool {
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
    pub fn health<'a>(&'a self, files: &'a Files) -> Option<&'a str> {
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
