//! When to trust the audit files and when to ask the API instead. Pure: observations in, switches out.
//!
//! Both ways in share one set of ids, so a switch too many costs requests and no event; a switch too few costs time. Files are
//! read whenever they can be, in either state.

pub use crate::position::FallbackCause;
use std::time::{Duration, Instant};

/// How long something must last before it counts.
#[derive(Clone, Copy, Debug)]
pub struct FailoverTimeouts {
    /// A directory that is away for a moment (a restart, a remount) is no reason to switch.
    pub file_error_timeout: Duration,
    /// Files have to be well for so long before they are trusted again.
    pub file_recovery_timeout: Duration,
    /// How long it takes until the API shows what files have not brought: after silence they have to be well for that long too.
    pub compared_after: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The files bring the events; the API is asked now and then whether they bring all.
    Files { unusable_since: Option<Instant> },
    /// The API brings them.
    Api { cause: FallbackCause, well_since: Option<Instant> },
}

/// What was seen since the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputObservation {
    /// The files cannot be read.
    pub unusable: bool,
    /// Events that the API had to bring although files are trusted.
    pub missing: u64,
    /// Events came from the files, whether or not the API had brought them already.
    pub growing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    ToApi(FallbackCause),
    ToFiles,
}

impl Default for State {
    fn default() -> State {
        State::Files { unusable_since: None }
    }
}

impl State {
    /// As the process before left it.
    pub fn resumed(api: Option<FallbackCause>) -> State {
        api.map_or_else(State::default, |cause| State::Api { cause, well_since: None })
    }

    pub fn is_api(&self) -> bool {
        matches!(self, State::Api { .. })
    }

    /// Whether events come by the API, as soon as they happen. Files that were silent and speak again are compared with it first.
    pub fn is_read_by_api(&self) -> bool {
        match self {
            State::Files { .. } => false,
            State::Api { cause, well_since } => *cause == FallbackCause::Unusable || well_since.is_none(),
        }
    }

    pub fn observe(
        &mut self,
        seen: InputObservation,
        timeouts: FailoverTimeouts,
        now: Instant,
    ) -> Option<Switch> {
        match self {
            State::Files { .. } if seen.missing > 0 => Some(self.leave_files(FallbackCause::Silent)),
            State::Files { unusable_since } if seen.unusable => {
                let since = *unusable_since.get_or_insert(now);
                (now.duration_since(since) >= timeouts.file_error_timeout)
                    .then(|| self.leave_files(FallbackCause::Unusable))
            }
            State::Files { unusable_since } => {
                *unusable_since = None;
                None
            }
            State::Api { well_since, .. } if seen.unusable || seen.missing > 0 => {
                *well_since = None;
                None
            }
            State::Api { cause, well_since } => {
                // Silent files are well when they speak; those that could not be read, when they can.
                if well_since.is_none() && (seen.growing || *cause == FallbackCause::Unusable) {
                    *well_since = Some(now);
                }
                let last = well_lasts(*cause, timeouts);
                let well = well_since.is_some_and(|since| now.duration_since(since) >= last);
                well.then(|| {
                    *self = State::default();
                    Switch::ToFiles
                })
            }
        }
    }

    fn leave_files(&mut self, cause: FallbackCause) -> Switch {
        *self = State::Api { cause, well_since: None };
        Switch::ToApi(cause)
    }

    /// When to look again though nothing happens.
    pub fn due(&self, timeouts: FailoverTimeouts) -> Option<Instant> {
        match self {
            State::Files { unusable_since } => {
                unusable_since.map(|since| since + timeouts.file_error_timeout)
            }
            State::Api { cause, well_since } => well_since.map(|since| since + well_lasts(*cause, timeouts)),
        }
    }
}

/// How long files have to be well.
fn well_lasts(cause: FallbackCause, timeouts: FailoverTimeouts) -> Duration {
    match cause {
        FallbackCause::Unusable => timeouts.file_recovery_timeout,
        FallbackCause::Silent => timeouts.file_recovery_timeout.max(timeouts.compared_after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: FailoverTimeouts = FailoverTimeouts {
        file_error_timeout: Duration::from_secs(30),
        file_recovery_timeout: Duration::from_secs(120),
        compared_after: Duration::from_secs(200),
    };
    const OK: InputObservation = InputObservation { unusable: false, missing: 0, growing: false };
    const GROWING: InputObservation = InputObservation { growing: true, ..OK };
    const UNUSABLE: InputObservation = InputObservation { unusable: true, ..OK };
    const MISSING: InputObservation = InputObservation { missing: 3, ..OK };

    /// Seconds, what is seen then, and the switch that follows.
    fn plays(steps: &[(u64, InputObservation, Option<Switch>)]) {
        let begun = crate::clock::monotonic();
        let mut state = State::default();
        for (at, seen, switch) in steps {
            let found = state.observe(*seen, PATIENCE, begun + Duration::from_secs(*at));
            assert_eq!(found, *switch, "at {at}: {state:?}");
        }
    }

    #[test]
    fn f75_table_of_switches() {
        let (unusable, silent) =
            (Switch::ToApi(FallbackCause::Unusable), Switch::ToApi(FallbackCause::Silent));
        plays(&[(0, OK, None), (1, GROWING, None), (9999, OK, None)]);
        // A hiccup.
        plays(&[
            (0, UNUSABLE, None),
            (29, UNUSABLE, None),
            (30, OK, None),
            (59, UNUSABLE, None),
            (88, UNUSABLE, None),
        ]);
        // Away and back; the way back takes as long as health must last, and begins anew with each relapse.
        plays(&[
            (0, UNUSABLE, None),
            (30, UNUSABLE, Some(unusable)),
            (100, UNUSABLE, None),
            (101, OK, None),
            (110, UNUSABLE, None),
            (111, OK, None),
            (230, OK, None),
            (231, OK, Some(Switch::ToFiles)),
            (232, UNUSABLE, None),
            (262, UNUSABLE, Some(unusable)),
        ]);
        // Silence ends with the first event, not with readability.
        plays(&[
            (0, MISSING, Some(silent)),
            (1000, OK, None),
            (1001, GROWING, None),
            (1100, OK, None),
            (1200, OK, None),
            (1201, OK, Some(Switch::ToFiles)),
            (1202, MISSING, Some(silent)),
        ]);
        // Files that bring some events and not others: no switch back and forth.
        plays(&[
            (0, MISSING, Some(silent)),
            (10, GROWING, None),
            (150, GROWING, None),
            (200, MISSING, None),
            (201, GROWING, None),
            (390, MISSING, None),
            (400, GROWING, None),
            (599, GROWING, None),
            (600, GROWING, Some(Switch::ToFiles)),
        ]);
    }

    /// Whatever is seen: two switches to the same side never follow each other, and steady health leads back to the files.
    #[test]
    fn f75_model() {
        let seed = crate::clock::now_ms() as u64;
        eprintln!("SEED={seed}");
        let mut random = seed | 1;
        let mut below = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let begun = crate::clock::monotonic();
        let (mut state, mut at, mut api) = (State::default(), 0, false);
        for _ in 0..100_000 {
            at += below(40);
            let seen = InputObservation {
                unusable: below(3) == 0,
                missing: u64::from(below(20) == 0),
                growing: below(3) == 0,
            };
            match state.observe(seen, PATIENCE, begun + Duration::from_secs(at)) {
                Some(Switch::ToApi(_)) => assert!(!std::mem::replace(&mut api, true)),
                Some(Switch::ToFiles) => assert!(std::mem::replace(&mut api, false) && !seen.unusable),
                None => {}
            }
            assert_eq!(state.is_api(), api);
        }
        for _ in 0..10 {
            at += 60;
            state.observe(GROWING, PATIENCE, begun + Duration::from_secs(at));
        }
        assert!(!state.is_api());
    }
}
