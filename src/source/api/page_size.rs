//! How many rows a page is asked for: fewer after an answer that was too large or too slow, and by and by as many as
//! configured again. Pure.

/// So many points make it larger: a page is one, a window that was read to its end as many as are needed at first.
const POINTS_MIN: u32 = 4;
/// Where more rows fail each time, they are tried ever more rarely.
const POINTS_MAX: u32 = 1024;

/// An overloaded server is asked for no smaller part of the configured size: it may be down, and many small pages are
/// no help.
const SPARED_PARTS_MAX: usize = 8;

#[derive(Default)]
pub(super) struct PageSize {
    configured: usize,
    rows: usize,
    points: u32,
    /// Points until it becomes larger.
    needed: u32,
    /// It became larger, and that has not proved right yet.
    raised: bool,
    /// When the server began to be overloaded.
    before: Option<usize>,
    /// It is what it was before that, and no page has come since.
    restored: bool,
    /// The server was overloaded by it.
    of_size: bool,
}

impl PageSize {
    pub(super) fn new(configured: usize) -> PageSize {
        PageSize { configured, rows: configured, needed: POINTS_MIN, ..PageSize::default() }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Half as many from now on, because the page cannot be had. `false`: there is no smaller page.
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

    /// Half as many from now on, to spare a server that is overloaded. Mostly that has nothing to do with the page:
    /// once one comes the size is what it was, unless that fails at once.
    pub(super) fn spare(&mut self) -> bool {
        let raised = std::mem::take(&mut self.raised) && self.of_size;
        if std::mem::take(&mut self.restored) || raised {
            self.of_size = true;
            self.needed = (self.needed * 2).min(POINTS_MAX);
        }
        self.before.get_or_insert(self.rows);
        if self.rows / 2 < (self.configured / SPARED_PARTS_MAX).max(1) {
            return false;
        }
        self.rows /= 2;
        self.points = 0;
        true
    }

    pub(super) fn page_came(&mut self) {
        self.restored = false;
        match self.before.take() {
            Some(before) if !self.of_size => (self.rows, self.restored) = (before, true),
            _ => self.earn(1),
        }
    }

    pub(super) fn window_came(&mut self) {
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
            (self.needed, self.raised, self.of_size) = (POINTS_MIN, false, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f76_pages_become_smaller_at_once_and_larger_by_and_by() {
        let mut size = PageSize::new(1000);
        assert!(size.halve() && size.halve());
        assert_eq!(size.rows(), 250);
        for _ in 0..POINTS_MIN {
            size.page_came();
        }
        assert_eq!(size.rows(), 500);
        size.window_came();
        assert_eq!(size.rows(), 1000);
        while size.spare() {}
        assert_eq!(size.rows(), 125);
        while size.halve() {}
        assert_eq!(size.rows(), 1);
    }

    /// Refused for being asked too often, or for asking for too much.
    #[test]
    fn f76_an_overloaded_server_gets_smaller_pages_while_that_helps() {
        let mut size = PageSize::new(1000);
        for _ in 0..5 {
            for _ in 0..6 {
                size.spare();
            }
            assert_eq!(size.rows(), 125);
            for _ in 0..4 {
                size.page_came();
            }
            assert_eq!(size.rows(), 1000);
        }
        let mut failed = 0;
        for _ in 0..1000 {
            if size.rows() > 250 {
                size.spare();
                failed += 1;
            } else {
                size.page_came();
            }
        }
        assert!((5..25).contains(&failed), "{failed} of 1,000");
    }

    /// A server that can do 250 rows and no more: of many pages few are too large.
    #[test]
    fn f76_a_size_that_fails_each_time_is_tried_ever_more_rarely() {
        let (mut size, mut failed) = (PageSize::new(1000), 0);
        for _ in 0..10_000 {
            if size.rows() > 250 {
                size.halve();
                failed += 1;
            } else {
                size.page_came();
            }
        }
        assert!((5..25).contains(&failed), "{failed} of 10,000");
        for _ in 0..4 * POINTS_MAX {
            size.page_came();
        }
        assert_eq!(size.rows(), 1000, "the server is well again");
    }
}
