//! The request for each page, and how the pages of a window follow each other. Pure.

use super::answer;
use super::page::{Next, Page, Route};
use super::window::Window;
use std::collections::HashSet;
use std::time::Instant;
use url::Url;

pub(crate) use super::endpoint::Endpoint;

/// Pages that are counted by offsets overlap by so many rows: if these are not the same on both, rows have come in
/// between.
const OVERLAP_ROWS: usize = 8;

/// So many pages without a new row may follow each other: a server that filters has some, one whose paging is broken
/// has no end.
const EMPTY_PAGES_MAX: u32 = 50;

/// How far the pages of a window have been read.
#[derive(Debug)]
pub(crate) struct WindowReader {
    pub window: Window,
    pub route: Route,
    pub attempts: Attempts,
    paging: Paging,
    /// Of the pages so far.
    cursors: HashSet<String>,
    /// Hashes of the rows of the page before.
    page_before: Vec<u64>,
    /// In a row.
    empty_pages: u32,
    /// The page before called itself the last one and was full.
    called_last: bool,
}

/// What was tried of a window, over all times that it was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempts {
    /// Where the window begins.
    from_ms: i64,
    /// Since it last came further than ever before.
    pub failures: u32,
    /// In a row, of what may be the fault of the page's cursor or offset.
    pub refusals: u32,
    /// The most rows that were read of it.
    furthest: usize,
    /// The first of these failures.
    pub failing_since: Option<Instant>,
}

impl Attempts {
    /// Of two windows that are one from now on: as if both had been tried as often as the one that was tried more.
    pub(crate) fn join(&mut self, one: Attempts, other: Attempts) {
        self.failures = one.failures.max(other.failures);
        self.furthest = one.furthest.max(other.furthest);
        self.failing_since = one.failing_since.or(other.failing_since);
    }

    #[cfg(test)]
    pub fn failed(furthest: usize) -> Attempts {
        Attempts { failures: 1, furthest, ..Attempts::default() }
    }

    /// Whether rows of the window have come.
    pub(crate) fn has_come_far(&self) -> bool {
        self.furthest > 0
    }
}

#[derive(Debug)]
enum Paging {
    /// The first page has none.
    Cursor(Option<String>),
    Offset {
        at: usize,
        /// Hashes of the rows that the page has to begin with.
        expected: Vec<u64>,
    },
}

/// What follows a page that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    End,
    More,
    /// There is more, and what the page names as next leads nowhere.
    DeadEnd(&'static str),
}

impl WindowReader {
    /// `before` is of an earlier try of the same window.
    pub(crate) fn new(window: Window, route: Route, before: Attempts) -> WindowReader {
        let attempts = match before.from_ms == window.from_ms {
            true => before,
            false => Attempts { from_ms: window.from_ms, ..Attempts::default() },
        };
        WindowReader {
            window,
            route,
            attempts,
            paging: match route {
                Route::Auditing => Paging::Cursor(None),
                Route::Legacy | Route::Cloud => Paging::Offset { at: 0, expected: Vec::new() },
            },
            cursors: HashSet::new(),
            page_before: Vec::new(),
            empty_pages: 0,
            called_last: false,
        }
    }

    /// The same window from its first page on.
    pub(crate) fn restarted(&self, route: Route) -> WindowReader {
        let Window { from_ms, to_ms, live, .. } = self.window;
        WindowReader::new(Window::new(from_ms, to_ms, live), route, self.attempts)
    }

    /// Whether the request names a place that an earlier page gave.
    pub(crate) fn is_later_page(&self) -> bool {
        match &self.paging {
            Paging::Cursor(cursor) => cursor.is_some(),
            Paging::Offset { at, .. } => *at > 0,
        }
    }

    pub(crate) fn is_at_offset(&self) -> bool {
        matches!(self.paging, Paging::Offset { .. })
    }

    /// Whether all that the server promised has been read, and this request only makes sure of it.
    pub(crate) fn only_makes_sure(&self) -> bool {
        self.called_last
    }

    /// Where pages overlap one that goes on has more rows than these; the page before may have been a larger one.
    pub(crate) fn rows_asked(&self, limit: usize) -> usize {
        match &self.paging {
            Paging::Cursor(_) => limit,
            Paging::Offset { expected, .. } => limit.max(2).max(expected.len() + 1),
        }
    }

    pub(crate) fn url(&self, base: &Url, rows: usize) -> Url {
        let route = self.route;
        let (path, from, to) = match route {
            Route::Auditing => ("rest/auditing/1.0/events", "from", "to"),
            Route::Legacy => ("rest/api/audit", "startDate", "endDate"),
            Route::Cloud => ("wiki/rest/api/audit", "startDate", "endDate"),
        };
        let time = |ms: i64| match route {
            Route::Auditing => String::from_utf8_lossy(&crate::record::time::iso(ms)).into_owned(),
            Route::Legacy | Route::Cloud => ms.to_string(),
        };
        let mut url = answer::below(base, path);
        let mut query = url.query_pairs_mut();
        query
            .append_pair(from, &time(self.window.from_ms))
            .append_pair(to, &time(self.window.to_ms))
            .append_pair("limit", &rows.to_string());
        match &self.paging {
            Paging::Cursor(None) => {}
            Paging::Cursor(Some(cursor)) => {
                query.append_pair("pageCursor", cursor);
            }
            Paging::Offset { at, .. } => {
                let name = if route == Route::Auditing { "offset" } else { "start" };
                query.append_pair(name, &at.to_string());
            }
        }
        drop(query);
        url
    }

    /// Whether the page leads back: its cursor was met before, or it is the page before once more.
    pub(crate) fn leads_back(&self, page: &Page) -> bool {
        let Paging::Cursor(_) = self.paging else {
            return false;
        };
        let again = match &page.next {
            Next::Cursor(cursor) => self.cursors.contains(cursor),
            _ => false,
        };
        // Rows that are alike in everything may fill two pages; different ones come but once.
        let hashes = page.hashes(0..page.len());
        let different = hashes.iter().any(|hash| *hash != hashes[0]);
        again || different && hashes == self.page_before
    }

    /// How many rows at the head of the page were at the end of the one before; `None`: others are there.
    pub(crate) fn repeated(&self, page: &Page) -> Option<usize> {
        match &self.paging {
            Paging::Cursor(_) => Some(0),
            Paging::Offset { expected, .. } => {
                let same = page.len() >= expected.len() && page.hashes(0..expected.len()) == *expected;
                same.then_some(expected.len())
            }
        }
    }

    /// Sets what to ask for after this page, of which `asked` rows were wanted. Its rows have been counted already.
    pub(crate) fn page_read(&mut self, page: &Page, asked: usize) -> After {
        let repeated = self.repeated(page).unwrap_or(0);
        let fresh = page.len() - repeated;
        let called_last = std::mem::take(&mut self.called_last);
        if called_last && fresh == 0 {
            return After::End;
        }
        self.attempts.refusals = 0;
        if self.window.rows() > self.attempts.furthest {
            self.attempts.furthest = self.window.rows();
            (self.attempts.failures, self.attempts.failing_since) = (0, None);
        }
        self.empty_pages = if fresh == 0 { self.empty_pages + 1 } else { 0 };
        let after = match (&page.next, &mut self.paging) {
            (Next::End, _) => After::End,
            (Next::Nowhere, _) => After::DeadEnd("it names no next page"),
            (Next::Maybe, _) if fresh == 0 => After::End,
            (Next::Cursor(cursor), _) => {
                self.cursors.insert(cursor.clone());
                self.paging = Paging::Cursor(Some(cursor.clone()));
                After::More
            }
            (Next::Last(cursor), _) => {
                // Some servers name a cursor on their last page too; one that is full may be called the last by
                // mistake.
                let full = page.len() >= asked || page.len() == self.page_before.len();
                self.called_last = full && self.cursors.insert(cursor.clone());
                if self.called_last {
                    self.paging = Paging::Cursor(Some(cursor.clone()));
                    After::More
                } else {
                    After::End
                }
            }
            (Next::Offset(named), Paging::Offset { at, .. }) => {
                let (at, named) = (*at, *named);
                self.go_to_offset(page, fresh, at, named)
            }
            (Next::Maybe, Paging::Offset { at, .. }) => {
                let at = *at;
                self.go_to_offset(page, fresh, at, None)
            }
            // Pages by cursor so far: as many rows have come.
            (next, Paging::Cursor(_)) => {
                let at = self.window.rows() - page.len();
                let named = match next {
                    Next::Offset(named) => *named,
                    _ => None,
                };
                self.go_to_offset(page, fresh, at, named)
            }
        };
        self.page_before = page.hashes(0..page.len());
        if after == After::More && self.empty_pages > EMPTY_PAGES_MAX {
            return After::DeadEnd("too many empty pages follow each other");
        }
        after
    }

    /// `at` is where the page began, `named` what it says of the next one.
    fn go_to_offset(&mut self, page: &Page, fresh: usize, at: usize, named: Option<usize>) -> After {
        let end = at + page.len();
        // Rows that are not shown are counted all the same by a server that filters: it alone knows where it goes on.
        let beyond = named.filter(|named| *named > end);
        let (at, expected) = match beyond {
            Some(named) => (named, Vec::new()),
            None if page.is_empty() => return After::DeadEnd("its next link leads to the same place"),
            None if fresh == 0 => (end, Vec::new()),
            None => {
                let overlap = OVERLAP_ROWS.min(page.len() - 1);
                (end - overlap, page.hashes(page.len() - overlap..page.len()))
            }
        };
        self.paging = Paging::Offset { at, expected };
        After::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EventId;

    fn page(rows: std::ops::Range<usize>, next: &str) -> Page {
        let rows: Vec<String> = rows.map(|row| format!("{{\"n\":{row}}}")).collect();
        let json = format!("{{\"results\":[{}],\"_links\":{{{next}}}}}", rows.join(","));
        Page::parse(Route::Cloud, json.into_bytes(), 10).unwrap()
    }

    fn window() -> Window {
        Window::new(0, 1_637_627_977_908, true)
    }

    fn begun(route: Route) -> WindowReader {
        WindowReader::new(window(), route, Attempts::default())
    }

    /// Counts the rows as if they had been admitted.
    fn read(reading: &mut WindowReader, page: &Page, asked: usize) -> After {
        let repeated = reading.repeated(page).unwrap();
        for row in repeated..page.len() {
            reading.window.row(EventId(row as u128), None);
        }
        reading.page_read(page, asked)
    }

    #[test]
    fn questions_of_each_route() {
        let base = Url::parse("https://wiki.example.com/confluence").unwrap();
        let mut reading = begun(Route::Auditing);
        let first = reading.url(&base, 1000);
        assert_eq!(
            first.as_str(),
            "https://wiki.example.com/confluence/rest/auditing/1.0/events?from=1970-01-01T00%3A00%3A00.000Z&to=2021-11-23T00%3A39%3A37.908Z&limit=1000"
        );
        reading.paging = Paging::Cursor(Some("1637627977908,42".into()));
        let next = reading.url(&base, 1000);
        assert_eq!(next.as_str(), format!("{first}&pageCursor=1637627977908%2C42"));
        let site = Url::parse("https://acme.atlassian.net").unwrap();
        let reading = begun(Route::Cloud);
        assert_eq!(
            reading.url(&site, reading.rows_asked(1)).as_str(),
            "https://acme.atlassian.net/wiki/rest/api/audit?startDate=0&endDate=1637627977908&limit=2&start=0"
        );
    }

    #[test]
    fn f38_pages_by_offset_overlap_and_show_what_came_between() {
        let mut reading = begun(Route::Cloud);
        let next = "\"next\":\"/x\"";
        assert_eq!(reading.repeated(&page(0..10, next)), Some(0));
        read(&mut reading, &page(0..10, next), 10);
        assert!(matches!(reading.paging, Paging::Offset { at: 2, .. }));
        // Nothing came between; one row came; the server lost rows.
        assert_eq!(reading.repeated(&page(2..12, next)), Some(8));
        assert_eq!(reading.repeated(&page(1..11, next)), None);
        assert_eq!(reading.repeated(&page(2..6, next)), None);
        // Nothing new: the end, unless a link says that there is more.
        assert_eq!(read(&mut reading, &page(2..10, ""), 100), After::End);
    }

    #[test]
    fn f39_a_cursor_that_comes_again_ends_the_window() {
        let answer = r#"{"entities":[{}],"pagingInfo":{"lastPage":false,"nextPageCursor":"1,2"}}"#;
        let page = || Page::parse(Route::Auditing, answer.into(), 1).unwrap();
        let mut reading = begun(Route::Auditing);
        assert!(!reading.leads_back(&page()));
        read(&mut reading, &page(), 1);
        assert!(reading.leads_back(&page()));
    }

    fn auditing(rows: std::ops::Range<usize>, paging: &str) -> Page {
        let rows: Vec<String> = rows.map(|row| format!("{{\"n\":{row}}}")).collect();
        let json = format!("{{\"entities\":[{}],\"pagingInfo\":{{{paging}}}}}", rows.join(","));
        Page::parse(Route::Auditing, json.into_bytes(), 10).unwrap()
    }

    #[test]
    fn f77_an_empty_page_that_is_not_the_last_is_followed_as_far_as_that_leads() {
        let cursor = |n: usize| format!("\"lastPage\":false,\"nextPageCursor\":\"7,{n}\"");
        let mut reading = begun(Route::Auditing);
        assert_eq!(read(&mut reading, &auditing(0..10, &cursor(0)), 10), After::More);
        for n in 1..=EMPTY_PAGES_MAX as usize {
            assert_eq!(read(&mut reading, &auditing(0..0, &cursor(n)), 10), After::More, "{n}");
        }
        assert!(matches!(read(&mut reading, &auditing(0..0, &cursor(99)), 10), After::DeadEnd(_)));
        let nowhere = auditing(0..0, "\"lastPage\":false");
        assert!(matches!(read(&mut reading, &nowhere, 10), After::DeadEnd(_)));
        // A row in between begins the count anew.
        assert_eq!(read(&mut reading, &auditing(20..21, &cursor(100)), 10), After::More);
        assert_eq!(read(&mut reading, &auditing(0..0, &cursor(101)), 10), After::More);
        assert_eq!(read(&mut reading, &auditing(0..0, "\"lastPage\":true"), 10), After::End);
    }

    #[test]
    fn f77_offsets_follow_a_link_beyond_rows_that_are_not_shown() {
        let link = |start: usize| format!("\"next\":\"/x?start={start}&limit=10\"");
        let mut reading = begun(Route::Cloud);
        assert_eq!(read(&mut reading, &page(0..0, &link(10)), 10), After::More);
        assert!(matches!(reading.paging, Paging::Offset { at: 10, .. }));
        // Six of ten rows are shown.
        assert_eq!(read(&mut reading, &page(10..16, &link(20)), 10), After::More);
        assert!(matches!(&reading.paging, Paging::Offset { at: 20, expected } if expected.is_empty()));
        assert!(matches!(read(&mut reading, &page(0..0, &link(20)), 10), After::DeadEnd(_)));
        assert_eq!(read(&mut reading, &page(0..0, ""), 10), After::End);
    }

    #[test]
    fn f77_a_full_page_that_calls_itself_the_last_is_not_believed() {
        let last = |n: usize| format!("\"lastPage\":true,\"nextPageCursor\":\"7,{n}\"");
        let mut full = begun(Route::Auditing);
        assert_eq!(read(&mut full, &auditing(0..10, &last(1)), 10), After::More);
        assert!(full.only_makes_sure());
        // A server with smaller pages than were asked for: as full as the one before.
        assert_eq!(read(&mut full, &auditing(10..20, &last(2)), 100), After::More);
        assert_eq!(read(&mut full, &auditing(0..0, &last(3)), 10), After::End);
        assert_eq!(read(&mut begun(Route::Auditing), &auditing(0..9, &last(1)), 10), After::End);
    }

    #[test]
    fn f76_a_window_comes_further_when_it_has_more_rows_than_ever() {
        let cursor = |n: usize| format!("\"lastPage\":false,\"nextPageCursor\":\"7,{n}\"");
        let mut first = begun(Route::Auditing);
        read(&mut first, &auditing(0..10, &cursor(1)), 10);
        first.attempts.failures = 3;
        let mut again = first.restarted(Route::Auditing);
        read(&mut again, &auditing(0..10, &cursor(1)), 10);
        assert_eq!(again.attempts.failures, 3, "as far as before is no progress");
        read(&mut again, &auditing(10..20, &cursor(2)), 10);
        assert_eq!(again.attempts.failures, 0);
    }
}
