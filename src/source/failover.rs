//! When to fail over from the audit files to the API, and when to switch back. Pure: observations in, switches out.
//!
//! Both inputs share one set of ids, so a needless switch costs requests but no event. A missing one delays events.
//! Files are read whenever they can be, in either state.

pub(crate) use crate::position::FallbackCause;
use std::time::{Duration, Instant};

/// How long an observation must last before it causes a switch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailoverTimeouts {
    /// A directory that is missing for a moment (a restart, a remount) causes no switch.
    pub file_error_timeout: Duration,
    /// How long the files must be readable before the source switches back.
    pub file_recovery_timeout: Duration,
    /// How long it takes until the API shows that events are missing in the files. After silence the files must be
    /// healthy for that long too.
    pub compared_after: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Events come from the files. The API is polled now and then to compare.
    Files { unusable_since: Option<Instant> },
    /// Events come from the API.
    Api { cause: FallbackCause, well_since: Option<Instant> },
}

/// What the files of a source did in one turn of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileActivity {
    /// They cannot be read.
    Unusable,
    /// Records were read, new ones or duplicates of API rows.
    Growing,
    /// There is more to read, or a read is retried later.
    Unfinished,
    /// Everything has been read.
    AtEnd,
}

/// What the API of a source is polled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiRole {
    /// It is the active input: it is polled up to the present.
    #[default]
    Deliver,
    /// The files are the active input. The API is polled up to `lag` before the present: events that are not in the
    /// files by then are missing.
    Compare { lag: Duration },
}

impl ApiRole {
    /// How long before the present a poll ends.
    pub fn lag(self) -> Duration {
        match self {
            ApiRole::Deliver => Duration::ZERO,
            ApiRole::Compare { lag } => lag,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    ToApi(FallbackCause),
    ToFiles,
}

impl Default for State {
    fn default() -> State {
        State::Files { unusable_since: None }
    }
}

impl State {
    /// The state of the previous process.
    pub(crate) fn resumed(api: Option<FallbackCause>) -> State {
        api.map_or_else(State::default, |cause| State::Api { cause, well_since: None })
    }

    pub(crate) fn is_api(&self) -> bool {
        matches!(self, State::Api { .. })
    }

    /// Files that were silent and grow again are compared with the API before the source switches back.
    pub(crate) fn role(&self, lag: Duration) -> ApiRole {
        match self {
            State::Api { cause, well_since } if *cause == FallbackCause::Unusable || well_since.is_none() => {
                ApiRole::Deliver
            }
            _ => ApiRole::Compare { lag },
        }
    }

    /// `missing`: how many events the API returned since the last call that are missing in the files.
    pub(crate) fn observe(
        &mut self,
        files: FileActivity,
        missing: u64,
        timeouts: FailoverTimeouts,
        now: Instant,
    ) -> Option<Switch> {
        match self {
            State::Files { .. } if missing > 0 => Some(self.leave_files(FallbackCause::Silent)),
            State::Files { unusable_since } if files == FileActivity::Unusable => {
                let since = *unusable_since.get_or_insert(now);
                (now.duration_since(since) >= timeouts.file_error_timeout)
                    .then(|| self.leave_files(FallbackCause::Unusable))
            }
            State::Files { unusable_since } => {
                *unusable_since = None;
                None
            }
            State::Api { well_since, .. } if files == FileActivity::Unusable || missing > 0 => {
                *well_since = None;
                None
            }
            State::Api { cause, well_since } => {
                // Silent files are healthy when they grow, unreadable ones when they are readable.
                if well_since.is_none()
                    && (files == FileActivity::Growing || *cause == FallbackCause::Unusable)
                {
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

    /// When to check again although nothing happens.
    pub(crate) fn due(&self, timeouts: FailoverTimeouts) -> Option<Instant> {
        match self {
            State::Files { unusable_since } => {
                unusable_since.map(|since| since + timeouts.file_error_timeout)
            }
            State::Api { cause, well_since } => well_since.map(|since| since + well_lasts(*cause, timeouts)),
        }
    }
}

/// How long the files must be healthy before the source switches back.
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
    const OK: (FileActivity, u64) = (FileActivity::AtEnd, 0);
    const GROWING: (FileActivity, u64) = (FileActivity::Growing, 0);
    const UNUSABLE: (FileActivity, u64) = (FileActivity::Unusable, 0);
    const MISSING: (FileActivity, u64) = (FileActivity::AtEnd, 3);

    /// Seconds, what is observed then, and the switch that follows.
    fn plays(steps: &[(u64, (FileActivity, u64), Option<Switch>)]) {
        let begun = crate::clock::monotonic();
        let mut state = State::default();
        for (at, (files, missing), switch) in steps {
            let found = state.observe(*files, *missing, PATIENCE, begun + Duration::from_secs(*at));
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

    /// Whatever is seen: two switches to the same side never follow each other, and steady health leads back to the
    /// files.
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
            let files = match below(9) {
                0..3 => FileActivity::Unusable,
                3..5 => FileActivity::Growing,
                5..7 => FileActivity::Unfinished,
                _ => FileActivity::AtEnd,
            };
            let missing = u64::from(below(20) == 0);
            match state.observe(files, missing, PATIENCE, begun + Duration::from_secs(at)) {
                Some(Switch::ToApi(_)) => assert!(!std::mem::replace(&mut api, true)),
                Some(Switch::ToFiles) => {
                    assert!(std::mem::replace(&mut api, false) && files != FileActivity::Unusable);
                }
                None => {}
            }
            assert_eq!(state.is_api(), api);
        }
        for _ in 0..10 {
            at += 60;
            state.observe(FileActivity::Growing, 0, PATIENCE, begun + Duration::from_secs(at));
        }
        assert!(!state.is_api());
    }
}
