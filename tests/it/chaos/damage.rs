//! The script: what is taken away, and given back.

use super::world::{World, Wrong};
use crate::rig::listen_again;
use crate::simulator::sim::{ADMIN, Credential, Fault, Kind};
use confluence_audit_agent::clock;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

impl World {
    /// One thing happens; an agent that is down is as likely as not started first.
    pub fn step(&mut self) {
        self.assert_agent_runs();
        if self.agent.is_none() && self.random.below(2) == 0 {
            self.log_step("start the agent".into());
            self.start();
            return;
        }
        let done = self.script.len();
        while self.script.len() == done {
            self.try_step();
        }
    }

    /// What cannot be done now is not done.
    fn try_step(&mut self) {
        match self.random.below(14) {
            0 | 1 => self.kill(),
            2 => self.toggle_mount(),
            3 => self.toggle_moved_directory(),
            4 => self.toggle_directory_permission(),
            5 => self.toggle_file_permission(),
            6 => self.delete(),
            7 => self.truncate(),
            8 => self.rotate(),
            9 => self.toggle_silence(),
            10 => self.toggle_stall(),
            11 => self.toggle_network(),
            12 => self.toggle_token(),
            _ => self.bad_answers(),
        }
    }

    /// Everything is as it should be, and the agent runs.
    pub fn repair_everything(&mut self) {
        self.assert_agent_runs();
        let Wrong { hidden, away, forbidden, cut, expired, .. } = &self.now;
        let (hidden, away, forbidden, cut, expired) =
            (hidden.is_some(), *away, forbidden.is_some(), *cut, *expired);
        if hidden {
            self.toggle_mount();
        }
        if away {
            self.toggle_moved_directory();
        }
        if forbidden {
            self.toggle_file_permission();
        }
        if cut {
            self.toggle_network();
        }
        if expired {
            self.toggle_token();
        }
        self.sim.clear_faults();
        self.sim.files("", |files, now_ms| {
            (files.silent, files.stalled, files.tear) = (false, false, false);
            files.flush(now_ms);
        });
        self.log_step("heal".into());
        if self.agent.is_none() {
            self.start();
        }
    }

    /// It may end by itself only to let another look.
    fn assert_agent_runs(&mut self) {
        if let Some(agent) = &mut self.agent
            && let Some(status) = agent.child().try_wait().unwrap()
        {
            panic!("the agent ended, {status}:\n{}", agent.stderr());
        }
    }

    fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill();
            self.now.hidden = None;
            self.kills += 1;
            self.log_step("kill the agent".into());
        }
    }

    /// An empty file system in the place of the directory, or of the one above.
    fn toggle_mount(&mut self) {
        if !self.may_mount || self.agent.is_none() {
            return;
        }
        match self.now.hidden.take() {
            Some(path) => {
                self.among_mounts(&["umount", "-l"], &path);
                self.log_step(format!("unmount {}", path.display()));
            }
            None if self.now.away => {}
            None => {
                let up = if self.random.below(2) == 0 { "log" } else { "log/audit" };
                let path = self.host.home().join(up);
                let mount = ["mount", "-t", "tmpfs", "-o", "mode=755", "none"];
                self.among_mounts(&mount, &path);
                self.log_step(format!("mount over {}", path.display()));
                self.now.hidden = Some(path);
            }
        }
    }

    /// What is written meanwhile comes back with the directory.
    fn toggle_moved_directory(&mut self) {
        if self.now.forbidden.is_some() || self.now.hidden.is_some() {
            return;
        }
        let (audit, away) = (self.host.audit(), self.host.home().join("log/away"));
        let (from, to) = if self.now.away { (away, audit) } else { (audit, away) };
        if fs::rename(&from, &to).is_ok() {
            self.sim.files("", |files, _| files.dir = to.clone());
            self.now.away = !self.now.away;
            self.log_step(format!("move to {}", to.display()));
        }
    }

    fn toggle_directory_permission(&mut self) {
        if self.now.away {
            return;
        }
        self.toggle_permission(self.host.audit());
    }

    fn toggle_file_permission(&mut self) {
        if let Some(live) = self.sim.files("", |files, _| files.live()).flatten() {
            self.toggle_permission(live);
        }
    }

    fn toggle_permission(&mut self, path: PathBuf) {
        match self.now.forbidden.take() {
            Some((path, mode)) => {
                // A file may have been deleted meanwhile.
                let _ = fs::set_permissions(&path, Permissions::from_mode(mode));
                self.log_step(format!("allow {}", path.display()));
            }
            None if self.now.away => {}
            None => {
                if let Ok(metadata) = path.metadata() {
                    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
                    self.log_step(format!("forbid {}", path.display()));
                    self.now.forbidden = Some((path, metadata.permissions().mode()));
                }
            }
        }
    }

    /// The live file, or all.
    fn delete(&mut self) {
        let all = self.random.below(3) == 0;
        let (dir, live) = self.sim.files("", |files, _| (files.dir.clone(), files.live())).unwrap();
        let Ok(names) = fs::read_dir(dir) else { return };
        let paths = names.map(|name| name.unwrap().path());
        let paths: Vec<PathBuf> = paths.filter(|path| all || Some(path) == live.as_ref()).collect();
        for path in paths {
            let _ = fs::remove_file(&path);
            self.log_step(format!("delete {}", path.display()));
        }
    }

    fn truncate(&mut self) {
        let Some(live) = self.sim.files("", |files, _| files.live()).flatten() else {
            return;
        };
        let Ok(file) = OpenOptions::new().write(true).open(&live) else {
            return;
        };
        let size = file.metadata().unwrap().len();
        let to = if self.random.below(2) == 0 { 0 } else { self.random.below(size + 1) };
        file.set_len(to).unwrap();
        self.log_step(format!("truncate {} from {size} to {to}", live.display()));
    }

    fn rotate(&mut self) {
        self.sim.files("", |files, now_ms| files.rotate(now_ms));
        self.log_step("rotate".into());
    }

    fn toggle_silence(&mut self) {
        let silent = self.sim.files("", |files, _| {
            files.silent = !files.silent;
            files.silent
        });
        self.log_step(format!("silent: {silent:?}"));
    }

    fn toggle_stall(&mut self) {
        let stalled = self.sim.files("", |files, now_ms| {
            files.stalled = !files.stalled;
            if !files.stalled {
                files.flush(now_ms);
            }
            files.stalled
        });
        self.log_step(format!("stalled: {stalled:?}"));
    }

    fn toggle_network(&mut self) {
        if self.now.cut {
            listen_again(|| self.sim.reconnect());
        } else {
            self.sim.disconnect();
        }
        self.now.cut = !self.now.cut;
        self.log_step(format!("network cut: {}", self.now.cut));
    }

    /// The token expires; later somebody writes a new one.
    fn toggle_token(&mut self) {
        let tokens = self.now.tokens;
        let secret = |n: u32| match n {
            0 => crate::simulator::sim::ADMIN_TOKEN.to_owned(),
            n => format!("sim-token-{n}"),
        };
        if self.now.expired {
            self.now.tokens += 1;
            let new = secret(tokens + 1);
            self.sim.add_credential(Credential::new(Kind::Token, ADMIN, &new));
            self.give_token(&new);
        } else {
            self.sim.expire(&secret(tokens), Some(clock::now_ms()));
        }
        self.now.expired = !self.now.expired;
        self.log_step(format!("token expired: {}", self.now.expired));
    }

    fn bad_answers(&mut self) {
        let requests = 1 + self.random.below(3);
        let fault = match self.random.below(5) {
            0 => Fault::Hangup,
            1 => Fault::CutBody(self.random.below(2_000) as usize),
            2 => Fault::NotJson,
            3 => Fault::PageCap(50),
            _ => Fault::Status(503, Vec::new()),
        };
        self.log_step(format!("{requests} times {fault:?}"));
        self.sim.fault_next(requests, fault);
    }
}
