//! How long each source read the API, from the agent's own events about switches. Pure.

use crate::evidence::export::ExportedNotice;
use crate::notice::{SOURCE_SWITCHED, SWITCHED_BACK};
use std::ops::Range;

const MINUTE_MS: u64 = 60 * 1000;

/// How long a source read the API, as far as its switches say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ApiTime {
    /// Switches within the period, in both directions.
    pub switches: u64,
    pub ms: u64,
    /// It still read the API at the end of the period.
    pub lasts: bool,
    /// The first known switch is back to the files, within the period.
    pub since_unknown: bool,
}

impl ApiTime {
    /// `switches`: all that are known of one source, also from before the period, by time.
    pub(super) fn of(switches: &[&ExportedNotice], period: &Range<i64>) -> ApiTime {
        let mut time = ApiTime::default();
        let mut since = None;
        let mut is_first = true;
        let known = switches.iter().filter_map(|notice| Some((notice.time_ms?, notice)));
        for (at_ms, notice) in known.filter(|(at_ms, _)| *at_ms < period.end) {
            time.switches += u64::from(at_ms >= period.start);
            if !notice.message.starts_with(SWITCHED_BACK) {
                since = since.or(Some(at_ms));
            } else if let Some(since) = since.take() {
                time.add(since, at_ms, period.start);
            } else {
                time.since_unknown |= is_first && at_ms >= period.start;
            }
            is_first = false;
        }
        if let Some(since) = since {
            time.add(since, period.end, period.start);
            time.lasts = true;
        }
        time
    }

    fn add(&mut self, since_ms: i64, until_ms: i64, start_ms: i64) {
        let ms = until_ms.saturating_sub(since_ms.max(start_ms));
        self.ms = self.ms.saturating_add(u64::try_from(ms).unwrap_or(0));
    }

    /// Each minute that has begun.
    pub(super) fn minutes(&self) -> u64 {
        self.ms.div_ceil(MINUTE_MS)
    }
}

pub(super) fn is_switch(notice: &ExportedNotice) -> bool {
    notice.action == SOURCE_SWITCHED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(minute: i64, message: &str) -> ExportedNotice {
        ExportedNotice {
            action: SOURCE_SWITCHED.to_owned(),
            message: message.to_owned(),
            original: None,
            id: minute as u128,
            time_ms: Some(minute * MINUTE_MS as i64),
        }
    }

    fn time(switches: &[(i64, bool)], period: Range<i64>) -> (u64, u64, bool) {
        let notices: Vec<ExportedNotice> = switches
            .iter()
            .map(|(minute, back)| {
                switch(*minute, if *back { SWITCHED_BACK } else { "the audit API is read" })
            })
            .collect();
        let all: Vec<&ExportedNotice> = notices.iter().collect();
        let minute = MINUTE_MS as i64;
        let time = ApiTime::of(&all, &(period.start * minute..period.end * minute));
        (time.switches, time.minutes(), time.lasts)
    }

    #[test]
    fn minutes_on_the_api_are_those_within_the_period() {
        const BACK: bool = true;
        const TO_API: bool = false;
        assert_eq!(time(&[], 10..20), (0, 0, false));
        assert_eq!(time(&[(12, TO_API), (15, BACK)], 10..20), (2, 3, false));
        // Another cause does not begin anew.
        assert_eq!(time(&[(12, TO_API), (13, TO_API), (15, BACK)], 10..20), (3, 3, false));
        // It began before the period, and ends after it.
        assert_eq!(time(&[(2, TO_API), (12, BACK), (18, TO_API), (30, BACK)], 10..20), (2, 4, true));
        assert_eq!(time(&[(2, TO_API), (30, BACK)], 10..20), (0, 10, true));
        assert_eq!(time(&[(2, TO_API), (5, BACK)], 10..20), (0, 0, false));
        // The switch to the API is not known.
        assert_eq!(time(&[(12, BACK)], 10..20), (1, 0, false));
        let back = switch(12, SWITCHED_BACK);
        let minute = MINUTE_MS as i64;
        assert!(ApiTime::of(&[&back], &(10 * minute..20 * minute)).since_unknown);
    }
}
