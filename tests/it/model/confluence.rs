//! Confluence and whoever else touches its audit files: what is written where, and which events must therefore arrive.

use super::action::Input;
use crate::rig::append;
use crate::simulator::sim::shapes::{number_in, numbered_line};
use crate::simulator::sim::{Row, Sim};
use flate2::read::GzDecoder;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A line is longer than the 1,024 bytes below which the newest file is never taken for a copy: it may begin with a
/// record that is equal to another one.
const PADDING: usize = 600;

/// An event in both shapes.
pub struct Written {
    pub line: String,
    pub api: String,
    /// How many events are equal to it, itself included.
    pub twins: usize,
}

/// A line of which only the beginning is in the file.
pub(super) struct Unfinished {
    rest: Vec<u8>,
    path: PathBuf,
    size: u64,
}

impl Unfinished {
    fn may_be_finished(&self, live: &Path) -> bool {
        *live == self.path && live.metadata().is_ok_and(|file| file.len() == self.size)
    }
}

pub struct Confluence {
    input: Input,
    pub sim: Option<Sim>,
    pub(super) root: PathBuf,
    /// Where the audit files are now.
    pub(super) audit: PathBuf,
    day: u32,
    number: u32,
    node: u32,
    ahead_ms: i64,
    pub(super) unfinished: Option<Unfinished>,
    pub events: HashMap<u64, Written>,
    next: u64,
    pub(super) names: u32,
    /// What was joined from parts of two records, or is left of one, may be in a file.
    pub(super) has_torn_records: bool,
    /// The API has answered before: what is in the database from now on is delivered, whatever the files have.
    api_has_begun: bool,
    in_database: HashSet<u64>,
    /// Content was removed, or exists twice: equal events cannot be told from copies any more.
    pub(super) is_touched: bool,
    /// The same content is in two files.
    pub(super) has_copies: bool,
    pub inodes_reused: u64,
}

impl Confluence {
    /// `root` is its home.
    pub fn new(input: Input, root: &Path) -> Confluence {
        let audit = root.join("log/audit");
        fs::create_dir_all(&audit).unwrap();
        let sim = (input != Input::Files).then(|| Sim::data_center().unwrap());
        if let Some(sim) = &sim {
            sim.configure(|options| options.searches_are_audited = false);
        }
        Confluence {
            input,
            sim,
            root: root.to_owned(),
            audit,
            day: 1,
            number: 0,
            node: 0,
            ahead_ms: 0,
            unfinished: None,
            events: HashMap::new(),
            next: 0,
            names: 0,
            has_torn_records: false,
            api_has_begun: false,
            in_database: HashSet::new(),
            is_touched: false,
            has_copies: false,
            inodes_reused: 0,
        }
    }

    fn now_ms(&self) -> i64 {
        match &self.sim {
            Some(sim) => sim.now_ms(),
            None => confluence_audit_agent::clock::now_ms() + self.ahead_ms,
        }
    }

    pub fn clock_ahead(&mut self, minutes: u8) {
        let to_ms = i64::from(minutes) * 60_000;
        if let Some(sim) = &self.sim {
            sim.advance_clock_ms(to_ms - self.ahead_ms);
        }
        self.ahead_ms = to_ms;
    }

    pub fn new_node(&mut self) {
        self.node += 1;
    }

    /// A new event with so many more bytes than usual. It is nowhere yet.
    pub(super) fn event(&mut self, padding: usize) -> (u64, Row) {
        let number = self.next;
        self.next += 1;
        let mut line = numbered_line(number, self.now_ms());
        let padding = "x".repeat(PADDING + padding);
        let member = format!(r#""changedValues":[{{"key":"padding","i18nKey":"padding","to":"{padding}"}}]"#);
        line = line.replacen(r#""changedValues":[]"#, &member, 1);
        let mut row = Row::from_json(&line).unwrap();
        if self.node > 0 {
            row = row.on_node(&format!("node-{}", self.node));
        }
        let line = row.line.clone().unwrap();
        self.events.insert(number, Written { line, api: row.api.clone(), twins: 1 });
        (number, row)
    }

    pub(super) fn insert(&mut self, row: Row) {
        if let Some(sim) = &self.sim {
            if self.api_has_begun {
                self.in_database.extend(row.number());
            }
            sim.insert(row);
        }
    }

    pub(super) fn live(&self) -> PathBuf {
        self.audit.join(format!("202601{:02}.{:05}.audit.log", self.day, self.number))
    }

    pub(super) fn is_away(&self) -> bool {
        self.audit != self.root.join("log/audit")
    }

    pub fn append(&mut self, events: u8) {
        for _ in 0..events {
            self.write(0, true, true);
        }
    }

    pub fn long(&mut self, kib: u8) {
        self.write(usize::from(kib) << 10, true, true);
    }

    pub fn database_only(&mut self, events: u8) {
        (0..events).for_each(|_| self.write(0, false, true));
    }

    pub fn file_only(&mut self, events: u8) {
        (0..events).for_each(|_| self.write(0, true, false));
    }

    fn write(&mut self, padding: usize, in_file: bool, in_database: bool) {
        let (number, row) = self.event(padding);
        if in_file && self.input != Input::Api {
            self.finish_line();
            let line = &self.events[&number].line;
            append(&self.live(), format!("{line}\n").as_bytes());
        }
        if in_database {
            self.insert(row);
        }
    }

    pub fn late_row(&mut self, seconds: u8) {
        let (number, mut row) = self.event(0);
        row.move_by(-1_000 * i64::from(seconds));
        let event = self.events.get_mut(&number).unwrap();
        event.api = row.api.clone();
        self.insert(row);
    }

    /// The event before once more.
    pub fn twin(&mut self) {
        let Some(number) = self.next.checked_sub(1) else { return };
        if let Some(sim) = &self.sim {
            let rows = sim.rows();
            let Some(row) = rows.into_iter().find(|row| row.number() == Some(number)) else { return };
            self.events.get_mut(&number).unwrap().twins += 1;
            sim.insert(row);
            return;
        }
        self.finish_line();
        let event = self.events.get_mut(&number).unwrap();
        event.twins += 1;
        let line = format!("{}\n", event.line);
        append(&self.live(), line.as_bytes());
    }

    pub fn half(&mut self, percent: u8) {
        self.finish_line();
        let (number, row) = self.event(0);
        let line = format!("{}\n", self.events[&number].line).into_bytes();
        let (head, rest) = line.split_at((line.len() - 1) * usize::from(percent) / 100);
        let path = self.live();
        append(&path, head);
        let size = path.metadata().unwrap().len();
        self.unfinished = Some(Unfinished { rest: rest.to_vec(), path, size });
        self.insert(row);
    }

    /// Confluence goes on with a line only where it began it. Otherwise the rest never comes.
    fn finish_line(&mut self) {
        let Some(unfinished) = self.unfinished.take() else { return };
        let path = self.live();
        if unfinished.may_be_finished(&path) {
            append(&path, &unfinished.rest);
        } else {
            self.has_torn_records = true;
        }
    }

    pub fn late(&mut self, events: u8) {
        let live = self.live();
        let Some(path) = self.plain_files().into_iter().rfind(|path| *path < live) else { return };
        for _ in 0..events {
            let (number, row) = self.event(0);
            append(&path, format!("{}\n", self.events[&number].line).as_bytes());
            self.insert(row);
        }
    }

    pub fn rotate(&mut self) {
        self.number += 1;
        append(&self.live(), b"");
    }

    pub fn next_day(&mut self) {
        (self.day, self.number) = (self.day + 1, 0);
        append(&self.live(), b"");
    }

    fn paths(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.audit) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    pub(super) fn plain_files(&self) -> Vec<PathBuf> {
        let mut paths = self.paths();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        paths
    }

    pub(super) fn pick(&self, file: u8) -> Option<PathBuf> {
        let paths = self.plain_files();
        (!paths.is_empty()).then(|| paths[usize::from(file) % paths.len()].clone())
    }

    /// How many different events of each number must be delivered once the agent has read all that there is.
    pub fn obligations(&self) -> HashMap<u64, usize> {
        if self.input == Input::Api {
            // After the clock was set back, what is ahead of it is read later.
            let (rows, now_ms) = (self.sim.as_ref().unwrap().rows(), self.now_ms());
            let past = rows.into_iter().filter(|row| row.time_ms <= now_ms);
            let mut must = HashMap::new();
            past.filter_map(|row| row.number()).for_each(|number| *must.entry(number).or_default() += 1);
            return must;
        }
        let mut must = HashMap::new();
        if self.is_away() {
            return must;
        }
        for path in self.paths() {
            let mut of_file: HashMap<u64, usize> = HashMap::new();
            let bytes = content(&path);
            let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
            for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
                if let Some(number) = self.number_of_whole(line) {
                    *of_file.entry(number).or_default() += 1;
                }
            }
            for (number, count) in of_file {
                let needed: &mut usize = must.entry(number).or_default();
                // Without copies equal events of two files are different ones.
                *needed = if self.is_touched { count.max(*needed) } else { count + *needed };
            }
        }
        must
    }

    /// The agent has read the API up to now.
    pub fn api_was_read(&mut self) {
        self.api_has_begun = true;
    }

    /// The agent has lost where the API began, or knows an older beginning.
    pub fn api_begins_again(&mut self) {
        self.api_has_begun = false;
        self.in_database.clear();
    }

    /// What a running agent with both inputs must deliver, sooner or later: also what the files do not have.
    pub fn obligations_of_both(&self) -> HashMap<u64, usize> {
        let mut must = self.obligations();
        for number in &self.in_database {
            must.entry(*number).or_insert(1);
        }
        must
    }

    /// The event whose line or row this is, whole.
    pub fn number_of_whole(&self, text: &str) -> Option<u64> {
        let number = number_in(text)?;
        let Some(event) = self.events.get(&number) else {
            // The simulator has inserted it.
            let rows = self.sim.as_ref()?.rows();
            return rows.iter().any(|row| row.api == text).then_some(number);
        };
        (event.line == text || event.api == text).then_some(number)
    }

    /// Whether records may be delivered that nobody wrote.
    pub fn has_torn_records(&self) -> bool {
        let live = self.live();
        self.has_torn_records || self.unfinished.as_ref().is_some_and(|line| !line.may_be_finished(&live))
    }

    pub fn twins(&self, number: u64) -> usize {
        self.events.get(&number).map_or(1, |event| event.twins)
    }
}

fn content(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut plain = Vec::new();
        GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        return plain;
    }
    bytes
}
