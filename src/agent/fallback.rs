//! The API beside the files of a source: it brings what they do not, and all of it when they fail.
//!
//! A request may take a minute, and files must not wait for it. So a thread asks, and hands the API back to the reader with
//! what came; only the reader takes rows, and so there is one order of events and one set of ids.

use super::gate::Gate;
use super::poller::{ONCE_FAILURES_MAX, now};
use super::stage::Stage;
use crate::clock;
use crate::config::FallbackConfig;
use crate::notice::{Notice, SOURCE_SWITCHED};
use crate::position::{Progress, WayIn};
use crate::source::api::{Api, Step};
use crate::source::failover::{Cause, Patience, Seen, State, Switch};
use crate::source::files::Files;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

pub struct Fallback {
    source: String,
    config: FallbackConfig,
    poll_interval: Duration,
    state: State,
    /// `None` while it asks.
    api: Option<Box<Api>>,
    ask: Sender<Box<Api>>,
    answers: Receiver<(Box<Api>, Step)>,
    /// When the API wants to be asked again.
    due: Instant,
    missing: u64,
    once: bool,
    begun: Instant,
    gate: Arc<Gate>,
}

impl Fallback {
    pub fn start(
        source: &str,
        config: FallbackConfig,
        poll_interval: Duration,
        mut api: Api,
        gate: Arc<Gate>,
        way: Option<WayIn>,
        once: bool,
    ) -> io::Result<Fallback> {
        let (ask, asked) = channel::<Box<Api>>();
        let (answer, answers) = channel();
        api.set_pace(config.probe_interval, config.silent_after);
        let state = State::resumed(way.as_ref().and_then(|way| way.api));
        gate.tell(way.filter(|_| state.is_api()).map(|way| way.why));
        let woken = gate.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name(format!("api {source}"))
            .spawn(move || {
                for mut api in asked {
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
            })?;
        Ok(Fallback {
            source: source.to_owned(),
            config,
            poll_interval,
            state,
            api: Some(Box::new(api)),
            ask,
            answers,
            due: clock::monotonic(),
            missing: 0,
            once,
            begun: clock::monotonic(),
            gate,
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
        };
        if let Some(switch) = self.state.see(seen, patience, now) {
            self.switch(switch, seen.missing, files, stage);
        }
        let by_api = self.state.is_api() || self.once && seen.unusable;
        // What the files still have to bring is not missing.
        let may_ask = by_api || read;
        if let Some(mut api) = self.api.take() {
            self.set_pace(&mut api, by_api);
            if may_ask && let Some((oldest_ms, newest_ms)) = stage.known_ms() {
                api.begin_between(oldest_ms, newest_ms);
                stage.hand_over(api.progress());
            }
            if may_ask && now >= self.due {
                api.pass_over(stage.passed_over());
                // The thread ends with the process only.
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
        match step {
            Step::Again => self.due = clock::monotonic(),
            Step::Wait(until) => self.due = until,
            Step::Page { page, repeated } => {
                stage.read_at_ms = clock::now_ms();
                let mut brought = 0;
                for row in (repeated..page.len()).rev() {
                    brought += u64::from(stage.take_row(page.row(row), &mut api));
                }
                api.page_read(page, now());
                stage.prune_ids(&mut api, read);
                if !self.state.is_api() {
                    self.missing += brought;
                }
                self.due = clock::monotonic();
            }
        }
        for notice in api.take_notices() {
            stage.tell(&notice);
        }
        stage.hand_over(api.progress());
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
        self.api.as_ref().is_some_and(|api| {
            let asked_enough = api.needs_a_person() || api.failures() > ONCE_FAILURES_MAX;
            api.poll_is_over() || asked_enough
        })
    }

    pub fn api(&self) -> Option<&Api> {
        self.api.as_deref()
    }

    /// Why events do not come in, if so: neither way is open.
    pub fn health<'a>(&'a self, files: &'a Files) -> Option<&'a str> {
        let api = self.api.as_ref().and_then(|api| api.health());
        match files.health() {
            Some(trouble) if !self.state.is_api() || api.is_some() => Some(trouble),
            _ => None,
        }
    }
}
