//! The agent's processes in a case: how each ends, and what it must have delivered by then.

use super::action::Failpoint;
use super::world::World;
use crate::rig::collector::Collector;
use crate::rig::oracle::{self, Event};
use crate::rig::{Agent, SOON, copy_tree, outputs, sleep_until};
use confluence_audit_agent::clock;
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// How often a sink is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long a run goes on that cannot end by itself.
const IN_VAIN: Duration = Duration::from_millis(150);

impl World {
    pub(super) fn spawn(&mut self, crash: Option<(Failpoint, u8)>, arguments: &[&str]) -> Agent {
        self.figures.runs += 1;
        let mut command = self.host.command(&[], arguments);
        if let Some((failpoint, hit)) = crash {
            let value = format!("{}=abort@{hit}", failpoint.name());
            command.env("CONFLUENCE_AUDIT_AGENT_FAILPOINT", value);
        }
        self.host.spawn(command)
    }

    pub(super) fn once(&mut self, crash: Option<(Failpoint, u8)>) -> Result<(), String> {
        self.stop()?;
        if self.sink_is_down || self.api_is_down {
            // It tries until it is stopped.
            let mut agent = self.spawn(crash, &["--once"]);
            sleep_until(clock::monotonic() + IN_VAIN);
            agent.signal(Signal::TERM);
            let status = agent.wait(SOON);
            return self.ended(status.code(), &agent, false);
        }
        let mut agent = self.spawn(crash, &["--once"]);
        let code = agent.wait(SOON).code();
        // Without an API and a server nothing but a crash may fail, as long as there is a file.
        let may_fail = self.confluence.sim.is_some() || self.collector.is_some();
        let has_files = !self.confluence.obligations().is_empty();
        if crash.is_none() && (code.is_none() || code != Some(0) && has_files && !may_fail) {
            return Err(format!("a single run ended with {code:?}:\n{}", agent.stderr()));
        }
        self.ended(code, &agent, true)
    }

    /// Judges a process that has ended. `is_complete`: an exit code of 0 means that all was read.
    pub(super) fn ended(
        &mut self,
        code: Option<i32>,
        agent: &Agent,
        is_complete: bool,
    ) -> Result<(), String> {
        let log = || format!("\nthe agent printed:\n{}", agent.stderr());
        let judged = self.observe();
        judged.map_err(|error| error + &log())?;
        match code {
            Some(0) => {
                let must = self.confluence.obligations();
                if is_complete {
                    self.confluence.api_was_read();
                    self.deliveries.owed(&must).map_err(|error| error + &log())?;
                }
                let present = if is_complete { must } else { Default::default() };
                let still_unclear = self.collector.as_ref().map_or(0, Collector::scripted);
                self.deliveries.orderly_end(&present, still_unclear);
            }
            Some(75) | None => {
                self.figures.crashes += 1;
                self.deliveries.crashed();
            }
            Some(other) => return Err(format!("the agent ended with {other}{}", log())),
        }
        Ok(())
    }

    fn delivered(&self) -> Vec<Event> {
        match &self.collector {
            Some(collector) => collector.events(),
            None if !self.host.path("out").is_dir() => Vec::new(),
            None => oracle::events(&outputs(&self.host).concat()),
        }
    }

    pub(super) fn observe(&mut self) -> Result<(), String> {
        let events = self.delivered();
        self.deliveries.observe(&events, &self.confluence)
    }

    pub(super) fn start(&mut self, crash: Option<(Failpoint, u8)>) -> Result<(), String> {
        if self.agent.is_none() {
            self.agent = Some(self.spawn(crash, &[]));
        }
        Ok(())
    }

    /// Waits until the running agent has delivered all that there is, or has ended.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let Some(mut agent) = self.agent.take() else { return Ok(()) };
        if self.sink_is_down || self.api_is_down {
            self.agent = Some(agent);
            return Ok(());
        }
        let by = clock::monotonic() + SOON;
        loop {
            if let Some(status) = agent.child().try_wait().unwrap() {
                return self.ended(status.code(), &agent, false);
            }
            let late = clock::monotonic() > by;
            let must = self.confluence.obligations_of_both();
            let judged = self.observe().and_then(|()| self.deliveries.owed(&must));
            match judged {
                Ok(()) => break,
                Err(error) if late => return Err(format!("{error}; the agent printed:\n{}", agent.stderr())),
                Err(_) => sleep_until(clock::monotonic() + POLL),
            }
        }
        self.agent = Some(agent);
        Ok(())
    }

    pub(super) fn stop(&mut self) -> Result<(), String> {
        let Some(mut agent) = self.agent.take() else { return Ok(()) };
        if agent.child().try_wait().unwrap().is_none() {
            agent.signal(Signal::TERM);
        }
        let code = agent.wait(SOON).code();
        self.ended(code, &agent, false)
    }

    pub(super) fn kill(&mut self, after_ms: u8) -> Result<(), String> {
        let Some(mut agent) = self.agent.take() else { return Ok(()) };
        sleep_until(clock::monotonic() + Duration::from_millis(after_ms.into()));
        if agent.child().try_wait().unwrap().is_none() {
            agent.signal(Signal::KILL);
        }
        let code = agent.wait(SOON).code();
        self.ended(code, &agent, false)
    }

    pub(super) fn backup(&mut self) -> Result<(), String> {
        self.stop()?;
        let (state, backup) = (self.host.state(), self.host.path("backup"));
        if state.is_dir() {
            if self.has_backup {
                fs::remove_dir_all(&backup).unwrap();
            }
            copy_tree(&state, &backup);
            self.has_backup = true;
            self.deliveries.backup();
        }
        Ok(())
    }

    pub(super) fn restore(&mut self) -> Result<(), String> {
        self.stop()?;
        let state = self.host.state();
        if state.is_dir() {
            fs::remove_dir_all(&state).unwrap();
        }
        self.was_restored = true;
        self.confluence.api_begins_again();
        if self.has_backup {
            copy_tree(&self.host.path("backup"), &state);
            fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
            self.deliveries.restored();
        } else {
            self.deliveries.lost_state();
        }
        Ok(())
    }
}
