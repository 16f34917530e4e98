//! What was delivered, against what happened.

use super::world::World;
use crate::rig::ledger::judge_ledger;
use crate::simulator::sim::shapes::{number_in, numbered_entity, numbered_line};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// An output in the raw format, read on from where it was left.
pub struct Output {
    path: PathBuf,
    times_ms: Vec<i64>,
    offset: u64,
    /// How often it contains each numbered event.
    pub numbers: BTreeMap<u64, usize>,
    /// How often each id.
    ids: HashMap<String, usize>,
    /// Ids of records that were joined from parts of two. The id, which leaves members out, may be that of a whole one.
    torn: HashSet<String>,
    /// Action and message of what the agent reports of itself.
    notices: Vec<(String, String)>,
}

impl Output {
    /// `times_ms`: when each event happened.
    pub fn new(path: &Path, times_ms: &[i64]) -> Output {
        Output {
            path: path.to_owned(),
            times_ms: times_ms.to_vec(),
            offset: 0,
            numbers: BTreeMap::new(),
            ids: HashMap::new(),
            torn: HashSet::new(),
            notices: Vec::new(),
        }
    }

    pub fn read(&mut self) {
        let Ok(mut file) = File::open(&self.path) else {
            return;
        };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        file.read_to_string(&mut text).unwrap();
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        self.offset += whole as u64;
        text[..whole].lines().for_each(|line| self.take(line));
    }

    /// What is left of a line in a cut file and what is appended to it may happen to be one record: none that was
    /// written.
    fn is_whole(&self, number: u64, rest: &str) -> bool {
        let written = |text: String| text.strip_prefix('{') == Some(rest);
        let time_ms = self.times_ms.get(number as usize);
        time_ms.is_some_and(|time_ms| {
            written(numbered_line(number, *time_ms)) || written(numbered_entity(number, *time_ms))
        })
    }

    fn take(&mut self, line: &str) {
        let (id, rest) = line
            .strip_prefix("{\"event_id\":\"")
            .and_then(|rest| rest.split_once("\","))
            .unwrap_or_else(|| panic!("no event: {line}"));
        *self.ids.entry(id.to_owned()).or_default() += 1;
        if rest.starts_with("\"agent\":") {
            let notice: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| notice["agent"][name].as_str().unwrap().to_owned();
            self.notices.push((text("action"), text("message")));
            self.ids.remove(id);
        } else if let Some(number) = number_in(rest) {
            match self.is_whole(number, rest) {
                true => *self.numbers.entry(number).or_default() += 1,
                false => drop(self.torn.insert(id.to_owned())),
            }
        }
    }
}

pub fn judge(world: &World, events: u64) {
    let mut output = Output::new(&world.host.output(), &world.times_ms);
    output.read();
    let wrong: Vec<(u64, usize)> = (0..events)
        .map(|number| (number, output.numbers.get(&number).copied().unwrap_or(0)))
        .filter(|(_, count)| *count != 1)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} events did not come once; the first: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
    assert_eq!(output.numbers.len() as u64, events, "events that never happened");
    let twice: Vec<_> = output.ids.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "ids that came more than once: {twice:?}");
    judge_ledger(&world.host, output.ids.keys(), &[world.host.output()], &output.torn);
    let log = world.log();
    for (action, message) in &output.notices {
        let in_log = match action.as_str() {
            "agent.source.switched" => message.as_str(),
            "agent.file.tampered" => "audit file was truncated or rewritten",
            "agent.source.gap" => "audit records",
            "agent.ledger.sealed" => continue,
            other => panic!("an event that nobody expects: {other}: {message}"),
        };
        assert!(log.contains(in_log), "not in the log: {action}: {message}");
    }
    // The last log lines of a killed agent may not have reached the stream. The log sums up what repeats.
    let switches = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    let notices = output.notices.iter().filter(|(action, _)| action == "agent.source.switched");
    let reported: Vec<&str> = notices.map(|(_, message)| message.as_str()).collect();
    for what in ["is read instead of", "is read alongside", "are healthy again"] {
        let (in_log, in_stream) =
            (switches(&log, what), reported.iter().filter(|message| message.contains(what)).count());
        assert!(
            in_log <= in_stream + world.kills,
            "`{what}`: {in_log} in the log, {in_stream} in the stream"
        );
    }
}
