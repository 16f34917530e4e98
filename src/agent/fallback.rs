//! The API beside the files of a source: it brings what they do not, and all of it when they fail.
//!
//! A request may take a minute, and files must not wait for it. So a thread asks, and hands the API back to the reader with
//! what came; only the reader takes rows, and so there is one order of events and one set of ids.

use super::gate::Gate;
use super::poller::{is_drained, now};
use super::stage::Stage;
use super::{Ended, What, spawn};
use crate::clock;
use crate::config::{FallbackConfig, SourceConfig};
use crate::notice::{Notice, SOURCE_SWITCHED};
use crate::position::{Progress, WayIn};
use crate::source::api::{Api, Step};
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
    /// `None` while it asks.
    api: Option<Box<Api>>,
    ask: Sender<Box<Api>>,
    answers: Receiver<(Box<Api>, Step)>,
    /// It did when it last came back.
    api_works: bool,
    /// When the API wants to be asked again.
    due: Instant,
    /// The files had been read to their end when this window was begun, and what it brings that they have not is missing.
    compares: bool,
    missing: u64,
    once: bool,
    begun: Instant,
    gate: Arc<Gate>,
    /// By a process before this one: if no ids are known of what they brought, the API shows it all.
    files_read_before: bool,
}

impl Fallback {
    pub fn start(
        source: &SourceConfig,
        mut api: Api,
        gate: Arc<Gate>,
        way: Option<WayIn>,
        once: bool,
        files_read_before: bool,
        ended: &UnboundedSender<Ended>,
    ) -> io::Result<Fallback> {
        let (ask, asked) = channel::<Box<Api>>();
        let (answer, answers) = channel();
        let (config, poll_interval) = (source.fallback, api.poll_interval());
        api.set_pace(config.probe_interval, config.silent_after);
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
            api: Some(Box::new(api)),
            ask,
            answers,
            api_works: false,
            due: clock::monotonic(),
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
        if let Ok((api, step)) = self.answers.try_recv() {
            self.take(api, step, read, stage);
        }
        let now = clock::monotonic();
        let seen = Seen {
            unusable: files.health().is_some(),
            missing: std::mem::take(&mut self.missing),
            growing,
        };
        let patience = Patience {
            unusable_after: self.config.unusable_after,
            return_after: self.config.return_after,
            compared_after: self.config.silent_after + self.config.probe_interval,
        };
        if let Some(switch) = self.state.see(seen, patience, now) {
            self.switch(switch, seen.missing, files, stage);
        }
        let by_api = self.state.is_read_by_api() || self.once && seen.unusable;
        // What the files still have to bring is not missing.
        let may_ask = by_api || read;
        if let Some(mut api) = self.api.take() {
            self.set_pace(&mut api, by_api);
            match stage.known_ms() {
                Some((oldest_ms, newest_ms)) if may_ask => {
                    api.begin_between(oldest_ms, newest_ms);
                    stage.hand_over(api.progress());
                }
                None if read && self.files_read_before => api.begin_at_present(),
                _ => {}
            }
            if may_ask && now >= self.due {
                api.pass_over(stage.passed_over());
                self.compares = !by_api && (self.compares || !api.is_within_window());
                // A thread that is gone has ended the process, or is about to.
                let _ = self.ask.send(api);
            } else {
                self.api = Some(api);
            }
        }
        let look = if self.api.is_some() && may_ask {
            self.due
        } else {
            now + self.config.probe_interval
        };
        self.state.due(patience).map_or(look, |at| at.min(look))
    }

    fn set_pace(&self, api: &mut Api, by_api: bool) {
        if by_api {
            api.set_pace(self.poll_interval, Duration::ZERO);
        } else {
            api.set_pace(self.config.probe_interval, self.config.silent_after);
        }
    }

    fn take(&mut self, mut api: Box<Api>, step: Step, read: bool, stage: &mut Stage) {
        let idle = matches!(step, Step::Again);
        match step {
            Step::Again => self.due = clock::monotonic(),
            Step::Wait(until) => self.due = until,
            Step::Page { page, repeated } => {
                let before_ms = api.asked_at_most_to_ms(now(), self.config.silent_after);
                let brought = stage.take_page(page, repeated, read, before_ms, &mut api);
                if self.compares {
                    self.missing += brought;
                }
                self.due = clock::monotonic();
            }
        }
        for notice in api.take_notices() {
            stage.tell(&notice);
        }
        stage.hand_over(api.progress());
        self.api_works = api.health().is_none() && (self.api_works || !idle);
        self.api = Some(api);
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
                "the audit API is read beside the audit files: they have not brought {missing} event{} within `silent_after`, \
                 which the API has brought now",
                if missing == 1 { "" } else { "s" }
            ),
        };
        self.due = clock::monotonic();
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
        let api = self.api.as_ref();
        api.is_some_and(|api| api.has_asked_to(self.begun, now()))
    }

    /// Whether, with `once`, the API has nothing more to say.
    pub fn settled(&self) -> bool {
        self.api.as_ref().is_some_and(|api| is_drained(api))
    }

    pub fn api(&self) -> Option<&Api> {
        self.api.as_deref()
    }

    /// Why events do not come in, if so: neither way is open.
    pub fn health<'a>(&'a self, files: &'a Files) -> Option<&'a str> {
        match files.health() {
            Some(trouble) if !self.state.is_api() || !self.api_works => Some(trouble),
            _ => None,
        }
    }
}
