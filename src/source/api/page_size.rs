//! The page size: smaller after responses that are too large or too slow, and gradually up to the configured size
//! again. Pure.

/// Points for the first increase. A page earns one point, a complete window this many.
const POINTS_MIN: u32 = 4;
/// The points needed double each time that an increase fails, up to this.
const POINTS_MAX: u32 = 1024;

/// For an overloaded server the size is not reduced below this fraction of the configured one. It may be down, and many
/// small pages would not help.
const OVERLOAD_REDUCTION_MAX: usize = 8;

#[derive(Default)]
pub(super) struct PageSize {
    configured: usize,
    rows: usize,
    points: u32,
    /// Points until the next increase.
    needed: u32,
    /// The last change was an increase, not confirmed yet.
    raised: bool,
    /// The size before the server was overloaded.
    before_overload: Option<usize>,
    /// The size before the overload was restored, and no page has been received since.
    restored: bool,
    /// The page size itself caused the overload.
    size_is_cause: bool,
}

impl PageSize {
    pub(super) fn new(configured: usize) -> PageSize {
        PageSize { configured, rows: configured, needed: POINTS_MIN, ..PageSize::default() }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Halves the size after a page that was too large. `false`: it cannot be smaller.
    pub(super) fn halve(&mut self) -> bool {
        if self.rows <= 1 {
            return false;
        }
        if std::mem::take(&mut self.raised) {
            self.needed = (self.needed * 2).min(POINTS_MAX);
        }
        self.rows /= 2;
        self.points = 0;
        true
    }

    /// Halves the size for an overloaded server. The page is rarely the cause, so the next page restores the size,
    /// unless that fails at once. `false`: it cannot be smaller.
    pub(super) fn reduce_for_overload(&mut self) -> bool {
        let raised = std::mem::take(&mut self.raised) && self.size_is_cause;
        if std::mem::take(&mut self.restored) || raised {
            self.size_is_cause = true;
            self.needed = (self.needed * 2).min(POINTS_MAX);
        }
        self.before_overload.get_or_insert(self.rows);
        if self.rows / 2 < (self.configured / OVERLOAD_REDUCTION_MAX).max(1) {
            return false;
        }
        self.rows /= 2;
        self.points = 0;
        true
    }

    pub(super) fn page_received(&mut self) {
        self.restored = false;
        match self.before_overload.take() {
            Some(before) if !self.size_is_cause => (self.rows, self.restored) = (before, true),
            _ => self.earn(1),
        }
    }

    pub(super) fn window_received(&mut self) {
        self.earn(POINTS_MIN);
    }

    fn earn(&mut self, points: u32) {
        self.points += points;
        if self.points < self.needed {
            return;
        }
        self.points = 0;
        if self.rows < self.configured {
            self.rows = (self.rows * 2).min(self.configured);
            self.raised = true;
        } else {
            (self.needed, self.raised, self.size_is_cause) = (POINTS_MIN, false, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f76_pages_become_smaller_at_once_and_larger_gradually() {
        let mut size = PageSize::new(1000);
        assert!(size.halve() && size.halve());
        assert_eq!(size.rows(), 250);
        for _ in 0..POINTS_MIN {
            size.page_received();
        }
        assert_eq!(size.rows(), 500);
        size.window_received();
        assert_eq!(size.rows(), 1000);
        while size.reduce_for_overload() {}
        assert_eq!(size.rows(), 125);
        while size.halve() {}
        assert_eq!(size.rows(), 1);
    }

    /// First overload that is unrelated to the size, then overload by pages above 250 rows.
    #[test]
    fn f76_an_overloaded_server_is_sent_smaller_requests_while_that_helps() {
        let mut size = PageSize::new(1000);
        for _ in 0..5 {
            for _ in 0..6 {
                size.reduce_for_overload();
            }
            assert_eq!(size.rows(), 125);
            for _ in 0..4 {
                size.page_received();
            }
            assert_eq!(size.rows(), 1000);
        }
        let mut failed = 0;
        for _ in 0..1000 {
            if size.rows() > 250 {
                size.reduce_for_overload();
                failed += 1;
            } else {
                size.page_received();
            }
        }
        assert!((5..25).contains(&failed), "{failed} of 1,000");
    }

    /// A server that fails above 250 rows: only few of many requests ask for more.
    #[test]
    fn f76_a_size_that_always_fails_is_retried_ever_more_rarely() {
        let (mut size, mut failed) = (PageSize::new(1000), 0);
        for _ in 0..10_000 {
            if size.rows() > 250 {
                size.halve();
                failed += 1;
            } else {
                size.page_received();
            }
        }
        assert!((5..25).contains(&failed), "{failed} of 10,000");
        for _ in 0..4 * POINTS_MAX {
            size.page_received();
        }
        assert_eq!(size.rows(), 1000, "the server has recovered");
    }
}
