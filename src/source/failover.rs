//! Decides when to fail over from the audit files to the API, and when to switch back. Pure: observations in, switches
//! out.
//!
//! Both inputs share one deduplication. So an unnecessary switch costs requests but no event, and a late switch costs
//! time. Files are read whenever possible, in either state.

pub(crate) use crate::position::FallbackCause;
use std::time::{Duration, Instant};

/// How long a condition must last before it causes a switch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailoverTimeouts {
    /// Files that cannot be read for a shorter time (a restart, a remount) cause no switch.
    pub file_error_timeout: Duration,
    /// Files must be healthy for this long before the source switches back.
    pub file_recovery_timeout: Duration,
    /// How long it takes until a comparison with the API finds a missing event. After missing events, files must be
    /// healthy for at least this long.
    pub comparison_time: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The files are the active input. The API is polled at intervals to find events that are missing in them.
    Files { unusable_since: Option<Instant> },
    /// The API is the active input.
    Api { cause: FallbackCause, healthy_since: Option<Instant> },
}

/// The state of a source's files after a pass of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileActivity {
    /// They cannot be read.
    Unusable,
    /// New records were read, delivered by the API before or not.
    Growing,
    /// There is more to read, or a failed read will be retried.
    Unfinished,
    /// Everything has been read.
    AtEnd,
}

/// Why the API of a source is polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiRole {
    /// It delivers the events, so it is polled up to the present.
    #[default]
    Deliver,
    /// It is compared with the files, which deliver the events. It is polled up to `lag` before the present. Rows up to
    /// then that are not in the files are missing events.
    Compare { lag: Duration },
}

impl ApiRole {
    /// How far before the present a poll ends.
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
    /// The state that the checkpoint has stored.
    pub(crate) fn resumed(api: Option<FallbackCause>) -> State {
        api.map_or_else(State::default, |cause| State::Api { cause, healthy_since: None })
    }

    pub(crate) fn is_api(&self) -> bool {
        matches!(self, State::Api { .. })
    }

    /// After missing events, files that grow again are compared with the API before the source switches back.
    pub(crate) fn role(&self, lag: Duration) -> ApiRole {
        match self {
            State::Api { cause, healthy_since }
                if *cause == FallbackCause::Unusable || healthy_since.is_none() =>
            {
                ApiRole::Deliver
            }
            _ => ApiRole::Compare { lag },
        }
    }

    /// Updates the state. `missing`: how many API events since the last call are missing in the files.
    pub(crate) fn observe(
        &mut self,
        files: FileActivity,
        missing: u64,
        timeouts: FailoverTimeouts,
        now: Instant,
    ) -> Option<Switch> {
        match self {
            State::Files { .. } if missing > 0 => Some(self.switch_to_api(FallbackCause::Silent)),
            State::Files { unusable_since } if files == FileActivity::Unusable => {
                let since = *unusable_since.get_or_insert(now);
                (now.duration_since(since) >= timeouts.file_error_timeout)
                    .then(|| self.switch_to_api(FallbackCause::Unusable))
            }
            State::Files { unusable_since } => {
                *unusable_since = None;
                None
            }
            State::Api { healthy_since, .. } if files == FileActivity::Unusable || missing > 0 => {
                *healthy_since = None;
                None
            }
            State::Api { cause, healthy_since } => {
                // Silent files are healthy when they grow; unreadable files, when they can be read.
                if healthy_since.is_none()
                    && (files == FileActivity::Growing || *cause == FallbackCause::Unusable)
                {
                    *healthy_since = Some(now);
                }
                let last = recovery_timeout(*cause, timeouts);
                let healthy = healthy_since.is_some_and(|since| now.duration_since(since) >= last);
                healthy.then(|| {
                    *self = State::default();
                    Switch::ToFiles
                })
            }
        }
    }

    fn switch_to_api(&mut self, cause: FallbackCause) -> Switch {
        *self = State::Api { cause, healthy_since: None };
        Switch::ToApi(cause)
    }

    /// When the next timeout ends.
    pub(crate) fn due(&self, timeouts: FailoverTimeouts) -> Option<Instant> {
        match self {
            State::Files { unusable_since } => {
                unusable_since.map(|since| since + timeouts.file_error_timeout)
            }
            State::Api { cause, healthy_since } => {
                healthy_since.map(|since| since + recovery_timeout(*cause, timeouts))
            }
        }
    }
}

/// How long files must be healthy before the source switches back.
fn recovery_timeout(cause: FallbackCause, timeouts: FailoverTimeouts) -> Duration {
    match cause {
        FallbackCause::Unusable => timeouts.file_recovery_timeout,
        FallbackCause::Silent => timeouts.file_recovery_timeout.max(timeouts.comparison_time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: FailoverTimeouts = FailoverTimeouts {
        file_error_timeout: Duration::from_secs(30),
        file_recovery_timeout: Duration::from_secs(120),
        comparison_time: Duration::from_secs(200),
    };
    const OK: (FileActivity, u64) = (FileActivity::AtEnd, 0);
    const GROWING: (FileActivity, u64) = (FileActivity::Growing, 0);
    const UNUSABLE: (FileActivity, u64) = (FileActivity::Unusable, 0);
    const MISSING: (FileActivity, u64) = (FileActivity::AtEnd, 3);

    /// Each step: seconds since the start, what is observed, and the expected switch.
    fn assert_switches(steps: &[(u64, (FileActivity, u64), Option<Switch>)]) {
        let begun = crate::clock::monotonic();
        let mut state = State::default();
        for (at, (files, missing), switch) in steps {
            let found = state.observe(*files, *missing, TIMEOUTS, begun + Duration::from_secs(*at));
            assert_eq!(found, *switch, "at {at}: {state:?}");
        }
    }

    #[test]
    fn f75_table_of_switches() {
        let (unusable, silent) =
            (Switch::ToApi(FallbackCause::Unusable), Switch::ToApi(FallbackCause::Silent));
        assert_switches(&[(0, OK, None), (1, GROWING, None), (9999, OK, None)]);
        // Short interruptions cause no switch.
        assert_switches(&[
            (0, UNUSABLE, None),
            (29, UNUSABLE, None),
            (30, OK, None),
            (59, UNUSABLE, None),
            (88, UNUSABLE, None),
        ]);
        // Failover and back. Each interruption restarts the recovery timeout.
        assert_switches(&[
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
        // Silent files recover with their first event; being readable is not enough.
        assert_switches(&[
            (0, MISSING, Some(silent)),
            (1000, OK, None),
            (1001, GROWING, None),
            (1100, OK, None),
            (1200, OK, None),
            (1201, OK, Some(Switch::ToFiles)),
            (1202, MISSING, Some(silent)),
        ]);
        // Files with some of the events: no switching back and forth.
        assert_switches(&[
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

    /// For any observations: no two switches in a row have the same target, and lasting health leads back to the files.
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
            match state.observe(files, missing, TIMEOUTS, begun + Duration::from_secs(at)) {
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
            state.observe(FileActivity::Growing, 0, TIMEOUTS, begun + Duration::from_secs(at));
        }
        assert!(!state.is_api());
    }

    /// After missing events the API stays the active input until files grow again, and is then compared with them.
    #[test]
    fn the_role_of_the_api() {
        let (lag, now) = (Duration::from_secs(90), crate::clock::monotonic());
        let compare = ApiRole::Compare { lag };
        let api = |cause, healthy_since| State::Api { cause, healthy_since };
        for (state, role) in [
            (State::default(), compare),
            (State::Files { unusable_since: Some(now) }, compare),
            (api(FallbackCause::Unusable, None), ApiRole::Deliver),
            (api(FallbackCause::Unusable, Some(now)), ApiRole::Deliver),
            (api(FallbackCause::Silent, None), ApiRole::Deliver),
            (api(FallbackCause::Silent, Some(now)), compare),
        ] {
            assert_eq!(state.role(lag), role, "{state:?}");
        }
        assert_eq!((compare.lag(), ApiRole::Deliver.lag()), (lag, Duration::ZERO));
    }

    /// The health that was seen before a restart does not count.
    #[test]
    fn the_state_resumes_after_a_restart() {
        assert_eq!(State::resumed(None), State::Files { unusable_since: None });
        for cause in [FallbackCause::Unusable, FallbackCause::Silent] {
            assert_eq!(State::resumed(Some(cause)), State::Api { cause, healthy_since: None });
        }
    }

    /// When the state may change without a new observation. After missing events a comparison must fit in.
    #[test]
    fn when_a_timeout_ends() {
        let now = crate::clock::monotonic();
        let due = |state: &State| state.due(TIMEOUTS).map(|at| at.duration_since(now).as_secs());
        let mut state = State::default();
        assert_eq!(due(&state), None);
        state.observe(FileActivity::Unusable, 0, TIMEOUTS, now);
        assert_eq!(due(&state), Some(30));
        state.observe(FileActivity::AtEnd, 0, TIMEOUTS, now);
        assert_eq!(due(&state), None);
        for (cause, seconds) in [(FallbackCause::Unusable, 120), (FallbackCause::Silent, 200)] {
            let mut state = State::resumed(Some(cause));
            assert_eq!(due(&state), None);
            state.observe(FileActivity::Growing, 0, TIMEOUTS, now);
            assert_eq!(due(&state), Some(seconds), "{cause:?}");
        }
        let quick = FailoverTimeouts { comparison_time: Duration::ZERO, ..TIMEOUTS };
        let silent = State::Api { cause: FallbackCause::Silent, healthy_since: Some(now) };
        assert_eq!(silent.due(quick), Some(now + TIMEOUTS.file_recovery_timeout));
    }
}
