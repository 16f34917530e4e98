//! What was delivered, and how often each event may have been.

use super::action::Sink;
use super::confluence::Confluence;
use crate::rig::oracle::Event;
use std::collections::{HashMap, HashSet};

/// What is known of an event that was delivered.
struct Delivered {
    number: u64,
    count: usize,
    /// How often it may have been delivered, without what may have happened since the last orderly end.
    allowed: usize,
    /// How often the whole state was lost since; then all is delivered again.
    losses: usize,
    /// The agent knows for good that it is delivered.
    is_settled: bool,
    /// It was delivered by a process that has not ended in disorder since.
    is_fresh: bool,
}

/// To a sink that stores what it gets, an event comes once, unless the agent could not know that it was delivered.
pub struct Deliveries {
    sink: Sink,
    events: HashMap<String, Delivered>,
    ids_of: HashMap<u64, HashSet<String>>,
    /// Ids of records that nobody wrote.
    torn: HashSet<String>,
    /// How often since the last orderly end an event may have been delivered without a trace in the state.
    unclear: usize,
    /// The settled events at the time of the last copy of the state.
    backup: HashSet<String>,
    pub repeated: usize,
}

impl Deliveries {
    pub fn new(sink: Sink) -> Deliveries {
        Deliveries {
            sink,
            events: HashMap::new(),
            ids_of: HashMap::new(),
            torn: HashSet::new(),
            unclear: 0,
            backup: HashSet::new(),
            repeated: 0,
        }
    }

    /// Takes all that is in the sink, and judges it.
    pub fn observe(&mut self, all: &[Event], confluence: &Confluence) -> Result<(), String> {
        self.events.values_mut().for_each(|event| event.count = 0);
        for event in all.iter().filter(|event| !event.is_notice()) {
            let whole = event.original.as_ref().and_then(|text| confluence.number_of_whole(text));
            let Some(number) = whole else {
                if !confluence.has_torn_records() {
                    return Err(format!("a record that nobody wrote: {}", event.json));
                }
                self.torn.insert(event.id.clone());
                continue;
            };
            let fresh =
                Delivered { number, count: 0, allowed: 1, losses: 0, is_settled: false, is_fresh: true };
            let known = self.events.entry(event.id.clone()).or_insert(fresh);
            known.count += 1;
            if known.number != number {
                return Err(format!("events {} and {number} have one id, {}", known.number, event.id));
            }
            self.ids_of.entry(number).or_default().insert(event.id.clone());
        }
        self.repeated = self.events.values().filter(|event| event.count > 1).count();
        self.judge(confluence)
    }

    fn judge(&self, confluence: &Confluence) -> Result<(), String> {
        for (id, event) in &self.events {
            let unclear = if event.is_settled { 0 } else { self.unclear };
            let allowed = match self.sink {
                Sink::Plain => event.allowed + unclear,
                Sink::File | Sink::RotatedFile => 1 + event.losses,
                Sink::Idempotent => 1,
            };
            let number = event.number;
            if event.count > allowed {
                return Err(format!(
                    "event {number} was delivered {} times, not {allowed}: {id}",
                    event.count
                ));
            }
            if event.count == 0 {
                return Err(format!("event {number} has vanished from the sink: {id}"));
            }
        }
        for (number, ids) in &self.ids_of {
            let twins = confluence.twins(*number);
            if ids.len() > twins {
                return Err(format!("event {number} was written {twins} times and has {} ids", ids.len()));
            }
        }
        Ok(())
    }

    /// Each event that must be here is.
    pub fn owed(&self, must: &HashMap<u64, usize>) -> Result<(), String> {
        let delivered = |number| self.ids_of.get(number).map_or(0, HashSet::len);
        let mut owed: Vec<u64> = must
            .iter()
            .filter(|(number, count)| delivered(number) < **count)
            .map(|(number, _)| *number)
            .collect();
        owed.sort_unstable();
        if owed.is_empty() { Ok(()) } else { Err(format!("not delivered: {owed:?} of {}", must.len())) }
    }

    /// A process ended in disorder, or a server ended a connection.
    pub fn unclear(&mut self, times: usize) {
        self.unclear += times;
    }

    pub fn crashed(&mut self) {
        self.unclear(1);
        self.events.values_mut().for_each(|event| event.is_fresh = false);
    }

    /// A process ended in order. What it has delivered is settled, and what it has read again: these `present` events.
    /// So often a server may still end a connection.
    pub fn orderly_end(&mut self, present: &HashMap<u64, usize>, still_unclear: usize) {
        for event in self.events.values_mut().filter(|event| !event.is_settled) {
            event.allowed += self.unclear;
            event.is_settled = event.is_fresh || present.contains_key(&event.number);
        }
        self.unclear = still_unclear;
    }

    pub fn backup(&mut self) {
        self.backup = self.settled().cloned().collect();
    }

    /// The state is as it was then.
    pub fn restored(&mut self) {
        for (id, event) in &mut self.events {
            if !self.backup.contains(id) {
                event.allowed += 1;
                (event.is_settled, event.is_fresh) = (false, false);
            }
        }
    }

    /// The state is as on the first day.
    pub fn lost_state(&mut self) {
        for event in self.events.values_mut() {
            event.allowed += 1;
            event.losses += 1;
            (event.is_settled, event.is_fresh) = (false, false);
        }
    }

    pub fn settled(&self) -> impl Iterator<Item = &String> {
        self.events.iter().filter(|(_, event)| event.is_settled).map(|(id, _)| id)
    }

    /// Whether anything with this id was delivered.
    pub fn contains(&self, id: &str) -> bool {
        self.events.contains_key(id) || self.torn.contains(id)
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }
}
