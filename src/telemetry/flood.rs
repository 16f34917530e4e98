//! Sums up warnings and errors that repeat, so that a flood of them neither fills the journal nor hides
//! behind the journal's own rate limit.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::{Level, callsite::Identifier};

/// Of each place in the program one line in this time, and one summary of what it would have said besides.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Flood {
    places: HashMap<Identifier, Place>,
}

struct Place {
    /// When the last line of this place was written.
    written: Instant,
    suppressed: u64,
    level: Level,
    target: &'static str,
    /// Message of the last line written.
    message: String,
}

/// What is written instead of the lines held back.
#[derive(Debug, PartialEq)]
pub(super) struct Summary {
    pub level: Level,
    pub target: &'static str,
    pub message: String,
    pub repeated: u64,
}

impl Flood {
    /// Whether an event of this place is written; if not, it is counted.
    pub fn admit(&mut self, metadata: &tracing::Metadata<'static>, message: &str, now: Instant) -> bool {
        if *metadata.level() > Level::WARN {
            return true;
        }
        match self.places.get_mut(&metadata.callsite()) {
            Some(place) if now.saturating_duration_since(place.written) < INTERVAL => {
                place.suppressed += 1;
                false
            }
            Some(place) => {
                place.written = now;
                place.message.clear();
                place.message.push_str(message);
                true
            }
            None => {
                let place = Place {
                    written: now,
                    suppressed: 0,
                    level: *metadata.level(),
                    target: metadata.target(),
                    message: message.to_string(),
                };
                self.places.insert(metadata.callsite(), place);
                true
            }
        }
    }

    /// The summaries whose time has come by `now`; `None` takes all. Must be called before `admit`, which
    /// forgets no count but starts the next interval.
    pub fn take_due(&mut self, now: Option<Instant>) -> Vec<Summary> {
        let mut due = Vec::new();
        for place in self.places.values_mut() {
            let is_due = now.is_none_or(|now| now.saturating_duration_since(place.written) >= INTERVAL);
            if place.suppressed > 0 && is_due {
                due.push(Summary {
                    level: place.level,
                    target: place.target,
                    message: place.message.clone(),
                    repeated: std::mem::take(&mut place.suppressed),
                });
            }
        }
        due
    }
}
