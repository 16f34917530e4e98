//! Progress of long work, on standard error: a bar on a terminal, otherwise a line now and then.

use super::check::files::human_size;
use super::findings::counted;
use crate::clock;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const BAR_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(10);
const BAR_WIDTH: u64 = 30;

pub(super) struct Progress {
    what: &'static str,
    total: u64,
    /// A number of what is counted.
    text: fn(u64) -> String,
    done: u64,
    interval: Duration,
    on_terminal: bool,
    last: Instant,
    drawn: bool,
}

impl Progress {
    /// `total`: number of bytes; 0 if it is not known.
    pub(super) fn new(what: &'static str, total: u64) -> Progress {
        Progress::of(what, total, human_size)
    }

    /// `total`: number of events.
    pub(super) fn of_events(what: &'static str, total: u64) -> Progress {
        Progress::of(what, total, |count| counted(count, "event", "events"))
    }

    pub(super) fn of_days(what: &'static str, total: u64) -> Progress {
        Progress::of(what, total, |count| counted(count, "day", "days"))
    }

    fn of(what: &'static str, total: u64, text: fn(u64) -> String) -> Progress {
        let on_terminal = io::stderr().is_terminal();
        let interval = if on_terminal { BAR_INTERVAL } else { LINE_INTERVAL };
        Progress { what, total, text, done: 0, interval, on_terminal, last: clock::monotonic(), drawn: false }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let now = clock::monotonic();
        if now.duration_since(self.last) < self.interval {
            return;
        }
        self.last = now;
        self.drawn = true;
        // Progress that nobody sees is no reason to stop.
        let _ = match self.on_terminal {
            true => write!(io::stderr(), "\r{:<78}", self.bar()),
            false => writeln!(io::stderr(), "{}", self.line()),
        };
    }

    fn line(&self) -> String {
        let done = (self.text)(self.done);
        match self.total {
            0 => format!("{}: {done}", self.what),
            total => format!("{}: {done} of {} ({} %)", self.what, (self.text)(total), self.percent()),
        }
    }

    fn bar(&self) -> String {
        if self.total == 0 {
            return self.line();
        }
        let filled = (self.percent() * BAR_WIDTH / 100) as usize;
        let bar = "#".repeat(filled) + &" ".repeat(BAR_WIDTH as usize - filled);
        format!("{} [{bar}] {:>3} % of {}", self.what, self.percent(), (self.text)(self.total))
    }

    fn percent(&self) -> u64 {
        (self.done.min(self.total) * 100).checked_div(self.total).unwrap_or(0)
    }

    /// Removes the bar.
    pub(super) fn finish(self) {
        if self.on_terminal && self.drawn {
            let _ = write!(io::stderr(), "\r{:78}\r", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_fits_a_terminal() {
        let mut progress = Progress::new("reading the export", 3 << 30);
        progress.done = 1 << 30;
        assert_eq!(progress.line(), "reading the export: 1.1 GB of 3.2 GB (33 %)");
        assert_eq!(progress.bar(), "reading the export [#########                     ]  33 % of 3.2 GB");
        progress.done = 4 << 30;
        assert!(progress.bar().chars().count() < 79 && progress.percent() == 100);
        assert_eq!(Progress { total: 0, done: 5, ..progress }.bar(), "reading the export: 5 B");
    }
}
