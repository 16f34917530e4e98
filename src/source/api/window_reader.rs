//! Pagination within a window: the URL of each request, and the next page after a response. Pure.

use super::page::{Next, Page, Route};
use super::response;
use super::window::Window;
use std::collections::HashSet;
use std::time::Instant;
use url::Url;

pub(crate) use super::endpoint::Endpoint;

/// Pages by offset overlap by this many rows. If these differ, rows were inserted between the requests.
const OVERLAP_ROWS: usize = 8;

/// How many pages in a row may have no new row. A server that filters returns some; broken paging may never end.
const EMPTY_PAGES_MAX: u32 = 50;

/// The position within a window.
#[derive(Debug)]
pub(crate) struct WindowReader {
    pub window: Window,
    pub route: Route,
    pub attempts: Attempts,
    paging: Paging,
    /// The cursors of the pages so far.
    cursors: HashSet<String>,
    /// Hashes of the previous page's rows.
    previous_page: Vec<u64>,
    /// Pages without a new row, in a row.
    empty_pages: u32,
    /// The previous page was full and claimed to be the last one.
    claimed_last: bool,
}

/// The failed attempts of a window, over all its restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempts {
    /// The window's start, in milliseconds since 1970.
    from_ms: i64,
    /// Failures since it last made progress: more rows than ever before.
    pub failures: u32,
    /// Failures in a row that the page's cursor or offset may cause.
    pub refusals: u32,
    /// The most rows that were read of it in one attempt.
    rows_max: usize,
    /// When the first of these failures happened.
    pub failing_since: Option<Instant>,
}

impl Attempts {
    /// Joins the attempts of two windows that become one: the larger count of each.
    pub(crate) fn join(&mut self, one: Attempts, other: Attempts) {
        self.failures = one.failures.max(other.failures);
        self.rows_max = one.rows_max.max(other.rows_max);
        self.failing_since = one.failing_since.or(other.failing_since);
    }

    #[cfg(test)]
    pub fn failed(rows_max: usize) -> Attempts {
        Attempts { failures: 1, rows_max, ..Attempts::default() }
    }

    /// Whether any row of the window was read.
    pub(crate) fn has_rows(&self) -> bool {
        self.rows_max > 0
    }
}

#[derive(Debug)]
enum Paging {
    /// `None` for the first page.
    Cursor(Option<String>),
    Offset {
        at: usize,
        /// Hashes of the rows that the page must start with, because the previous page ended with them.
        expected: Vec<u64>,
    },
}

/// How reading continues after a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PageOutcome {
    End,
    More,
    /// There is more, but no usable next page. With the reason.
    DeadEnd(&'static str),
}

impl WindowReader {
    /// `before`: the attempts of the last window; they count if it was the same one.
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
            previous_page: Vec::new(),
            empty_pages: 0,
            claimed_last: false,
        }
    }

    /// The same window, from its first page.
    pub(crate) fn restarted(&self, route: Route) -> WindowReader {
        let Window { from_ms, to_ms, ends_at_present, .. } = self.window;
        WindowReader::new(Window::new(from_ms, to_ms, ends_at_present), route, self.attempts)
    }

    /// Whether the request contains a cursor or an offset from an earlier page.
    pub(crate) fn is_later_page(&self) -> bool {
        match &self.paging {
            Paging::Cursor(cursor) => cursor.is_some(),
            Paging::Offset { at, .. } => *at > 0,
        }
    }

    pub(crate) fn is_at_offset(&self) -> bool {
        matches!(self.paging, Paging::Offset { .. })
    }

    /// Whether this request only verifies that the last page was the last one.
    pub(crate) fn verifies_last_page(&self) -> bool {
        self.claimed_last
    }

    /// How many rows to request. Overlapping pages need more rows than the overlap, which may be of a larger page.
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
        let mut url = response::below(base, path);
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

    /// Whether paging loops: the page's cursor occurred before, or the page equals the previous one.
    pub(crate) fn is_loop(&self, page: &Page) -> bool {
        let Paging::Cursor(_) = self.paging else {
            return false;
        };
        let cursor_repeats = match &page.next {
            Next::Cursor(cursor) => self.cursors.contains(cursor),
            _ => false,
        };
        // Two pages may be full of identical rows. Different rows must not repeat.
        let hashes = page.hashes(0..page.len());
        let different = hashes.iter().any(|hash| *hash != hashes[0]);
        cursor_repeats || different && hashes == self.previous_page
    }

    /// How many rows at the start of the page are the overlap with the previous page. `None`: the overlap differs.
    pub(crate) fn repeated(&self, page: &Page) -> Option<usize> {
        match &self.paging {
            Paging::Cursor(_) => Some(0),
            Paging::Offset { expected, .. } => {
                let same = page.len() >= expected.len() && page.hashes(0..expected.len()) == *expected;
                same.then_some(expected.len())
            }
        }
    }

    /// Sets the next request after a page for which `requested` rows were requested. Its rows were counted before.
    pub(crate) fn page_read(&mut self, page: &Page, requested: usize) -> PageOutcome {
        let repeated = self.repeated(page).unwrap_or(0);
        let new_rows = page.len() - repeated;
        let claimed_last = std::mem::take(&mut self.claimed_last);
        if claimed_last && new_rows == 0 {
            return PageOutcome::End;
        }
        self.attempts.refusals = 0;
        if self.window.rows() > self.attempts.rows_max {
            self.attempts.rows_max = self.window.rows();
            (self.attempts.failures, self.attempts.failing_since) = (0, None);
        }
        self.empty_pages = if new_rows == 0 { self.empty_pages + 1 } else { 0 };
        let after = match (&page.next, &mut self.paging) {
            (Next::End, _) => PageOutcome::End,
            (Next::Nowhere, _) => PageOutcome::DeadEnd("it names no next page"),
            (Next::Maybe, _) if new_rows == 0 => PageOutcome::End,
            (Next::Cursor(cursor), _) => {
                self.cursors.insert(cursor.clone());
                self.paging = Paging::Cursor(Some(cursor.clone()));
                PageOutcome::More
            }
            (Next::Last(cursor), _) => {
                // Some servers put a cursor on their last page too. A full page may be marked as the last by mistake.
                let full = page.len() >= requested || page.len() == self.previous_page.len();
                self.claimed_last = full && self.cursors.insert(cursor.clone());
                if self.claimed_last {
                    self.paging = Paging::Cursor(Some(cursor.clone()));
                    PageOutcome::More
                } else {
                    PageOutcome::End
                }
            }
            (Next::Offset(named), Paging::Offset { at, .. }) => {
                let (at, named) = (*at, *named);
                self.go_to_offset(page, new_rows, at, named)
            }
            (Next::Maybe, Paging::Offset { at, .. }) => {
                let at = *at;
                self.go_to_offset(page, new_rows, at, None)
            }
            // Paging switches from cursors to offsets: the number of rows so far is the offset.
            (next, Paging::Cursor(_)) => {
                let at = self.window.rows() - page.len();
                let named = match next {
                    Next::Offset(named) => *named,
                    _ => None,
                };
                self.go_to_offset(page, new_rows, at, named)
            }
        };
        self.previous_page = page.hashes(0..page.len());
        if after == PageOutcome::More && self.empty_pages > EMPTY_PAGES_MAX {
            return PageOutcome::DeadEnd("there are too many empty pages in a row");
        }
        after
    }

    /// `at`: the offset of this page. `named`: the offset of the next page that it names.
    fn go_to_offset(&mut self, page: &Page, new_rows: usize, at: usize, named: Option<usize>) -> PageOutcome {
        let end = at + page.len();
        // A server that filters counts the rows that it leaves out, so the offset that it names may be larger.
        let beyond = named.filter(|named| *named > end);
        let (at, expected) = match beyond {
            Some(named) => (named, Vec::new()),
            None if page.is_empty() => return PageOutcome::DeadEnd("its next link leads to the same place"),
            None if new_rows == 0 => (end, Vec::new()),
            None => {
                let overlap = OVERLAP_ROWS.min(page.len() - 1);
                (end - overlap, page.hashes(page.len() - overlap..page.len()))
            }
        };
        self.paging = Paging::Offset { at, expected };
        PageOutcome::More
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

    /// Counts the rows as if they had been ingested.
    fn read(reader: &mut WindowReader, page: &Page, requested: usize) -> PageOutcome {
        let repeated = reader.repeated(page).unwrap();
        for row in repeated..page.len() {
            reader.window.row(EventId(row as u128), None);
        }
        reader.page_read(page, requested)
    }

    #[test]
    fn request_urls_of_each_route() {
        let base = Url::parse("https://wiki.example.com/confluence").unwrap();
        let mut reader = begun(Route::Auditing);
        let first = reader.url(&base, 1000);
        assert_eq!(
            first.as_str(),
            "https://wiki.example.com/confluence/rest/auditing/1.0/events?from=1970-01-01T00%3A00%3A00.000Z&to=2021-11-23T00%3A39%3A37.908Z&limit=1000"
        );
        reader.paging = Paging::Cursor(Some("1637627977908,42".into()));
        let next = reader.url(&base, 1000);
        assert_eq!(next.as_str(), format!("{first}&pageCursor=1637627977908%2C42"));
        let site = Url::parse("https://acme.atlassian.net").unwrap();
        let reader = begun(Route::Cloud);
        assert_eq!(
            reader.url(&site, reader.rows_asked(1)).as_str(),
            "https://acme.atlassian.net/wiki/rest/api/audit?startDate=0&endDate=1637627977908&limit=2&start=0"
        );
    }

    #[test]
    fn f38_pages_by_offset_overlap_and_detect_inserted_rows() {
        let mut reader = begun(Route::Cloud);
        let next = "\"next\":\"/x\"";
        assert_eq!(reader.repeated(&page(0..10, next)), Some(0));
        read(&mut reader, &page(0..10, next), 10);
        assert!(matches!(reader.paging, Paging::Offset { at: 2, .. }));
        // No row was inserted; one was; the server lost rows.
        assert_eq!(reader.repeated(&page(2..12, next)), Some(8));
        assert_eq!(reader.repeated(&page(1..11, next)), None);
        assert_eq!(reader.repeated(&page(2..6, next)), None);
        // Nothing new: the end, unless a link says that there is more.
        assert_eq!(read(&mut reader, &page(2..10, ""), 100), PageOutcome::End);
    }

    #[test]
    fn f39_a_repeated_cursor_ends_the_window() {
        let response = r#"{"entities":[{}],"pagingInfo":{"lastPage":false,"nextPageCursor":"1,2"}}"#;
        let page = || Page::parse(Route::Auditing, response.into(), 1).unwrap();
        let mut reader = begun(Route::Auditing);
        assert!(!reader.is_loop(&page()));
        read(&mut reader, &page(), 1);
        assert!(reader.is_loop(&page()));
    }

    fn auditing(rows: std::ops::Range<usize>, paging: &str) -> Page {
        let rows: Vec<String> = rows.map(|row| format!("{{\"n\":{row}}}")).collect();
        let json = format!("{{\"entities\":[{}],\"pagingInfo\":{{{paging}}}}}", rows.join(","));
        Page::parse(Route::Auditing, json.into_bytes(), 10).unwrap()
    }

    #[test]
    fn f77_empty_pages_are_followed_up_to_a_limit() {
        let cursor = |n: usize| format!("\"lastPage\":false,\"nextPageCursor\":\"7,{n}\"");
        let mut reader = begun(Route::Auditing);
        assert_eq!(read(&mut reader, &auditing(0..10, &cursor(0)), 10), PageOutcome::More);
        for n in 1..=EMPTY_PAGES_MAX as usize {
            assert_eq!(read(&mut reader, &auditing(0..0, &cursor(n)), 10), PageOutcome::More, "{n}");
        }
        assert!(matches!(read(&mut reader, &auditing(0..0, &cursor(99)), 10), PageOutcome::DeadEnd(_)));
        let nowhere = auditing(0..0, "\"lastPage\":false");
        assert!(matches!(read(&mut reader, &nowhere, 10), PageOutcome::DeadEnd(_)));
        // A row resets the count.
        assert_eq!(read(&mut reader, &auditing(20..21, &cursor(100)), 10), PageOutcome::More);
        assert_eq!(read(&mut reader, &auditing(0..0, &cursor(101)), 10), PageOutcome::More);
        assert_eq!(read(&mut reader, &auditing(0..0, "\"lastPage\":true"), 10), PageOutcome::End);
    }

    #[test]
    fn f77_the_next_link_may_skip_filtered_rows() {
        let link = |start: usize| format!("\"next\":\"/x?start={start}&limit=10\"");
        let mut reader = begun(Route::Cloud);
        assert_eq!(read(&mut reader, &page(0..0, &link(10)), 10), PageOutcome::More);
        assert!(matches!(reader.paging, Paging::Offset { at: 10, .. }));
        // The server filters four of ten rows.
        assert_eq!(read(&mut reader, &page(10..16, &link(20)), 10), PageOutcome::More);
        assert!(matches!(&reader.paging, Paging::Offset { at: 20, expected } if expected.is_empty()));
        assert!(matches!(read(&mut reader, &page(0..0, &link(20)), 10), PageOutcome::DeadEnd(_)));
        assert_eq!(read(&mut reader, &page(0..0, ""), 10), PageOutcome::End);
    }

    #[test]
    fn f77_a_full_last_page_is_verified() {
        let last = |n: usize| format!("\"lastPage\":true,\"nextPageCursor\":\"7,{n}\"");
        let mut full = begun(Route::Auditing);
        assert_eq!(read(&mut full, &auditing(0..10, &last(1)), 10), PageOutcome::More);
        assert!(full.verifies_last_page());
        // A server with smaller pages than requested: the page is as long as the previous one.
        assert_eq!(read(&mut full, &auditing(10..20, &last(2)), 100), PageOutcome::More);
        assert_eq!(read(&mut full, &auditing(0..0, &last(3)), 10), PageOutcome::End);
        assert_eq!(read(&mut begun(Route::Auditing), &auditing(0..9, &last(1)), 10), PageOutcome::End);
    }

    #[test]
    fn f76_more_rows_than_ever_before_are_progress() {
        let cursor = |n: usize| format!("\"lastPage\":false,\"nextPageCursor\":\"7,{n}\"");
        let mut first = begun(Route::Auditing);
        read(&mut first, &auditing(0..10, &cursor(1)), 10);
        first.attempts.failures = 3;
        let mut again = first.restarted(Route::Auditing);
        read(&mut again, &auditing(0..10, &cursor(1)), 10);
        assert_eq!(again.attempts.failures, 3, "as many rows as before are no progress");
        read(&mut again, &auditing(10..20, &cursor(2)), 10);
        assert_eq!(again.attempts.failures, 0);
    }

    #[test]
    fn the_attempts_of_a_window_count_until_the_next_window() {
        let since = crate::clock::monotonic();
        let failing_since = Some(since);
        let before = Attempts { from_ms: 5, failures: 3, refusals: 1, rows_max: 7, failing_since };
        let begun =
            |from_ms| WindowReader::new(Window::new(from_ms, 9, false), Route::Auditing, before).attempts;
        assert_eq!(begun(5), before);
        assert_eq!(begun(6), Attempts { from_ms: 6, ..Attempts::default() });
        assert!(Attempts::failed(1).has_rows() && !Attempts::failed(0).has_rows());
        // Two windows become one: the larger count of each.
        let (one, other) = (Attempts { failures: 2, rows_max: 9, ..Attempts::default() }, before);
        for (one, other) in [(one, other), (other, one)] {
            let mut joined = Attempts::default();
            joined.join(one, other);
            assert_eq!((joined.failures, joined.rows_max, joined.failing_since), (3, 9, failing_since));
        }
    }

    #[test]
    fn a_restarted_window_is_the_same_one_from_its_first_page() {
        let mut reader = begun(Route::Cloud);
        assert!(reader.is_at_offset() && !reader.is_later_page());
        read(&mut reader, &page(0..10, "\"next\":\"/x\""), 10);
        assert!(reader.is_later_page() && !reader.verifies_last_page());
        let again = reader.restarted(Route::Auditing);
        assert!(!again.is_later_page() && !again.is_at_offset());
        assert_eq!((again.window.from_ms, again.window.to_ms), (window().from_ms, window().to_ms));
        assert!(again.window.ends_at_present && again.window.rows() == 0);
        let mut by_cursor = again;
        read(&mut by_cursor, &auditing(0..1, "\"lastPage\":false,\"nextPageCursor\":\"7,1\""), 1);
        assert!(by_cursor.is_later_page());
    }

    #[test]
    fn an_overlapping_page_asks_for_more_rows_than_the_overlap() {
        let mut reader = begun(Route::Cloud);
        assert_eq!((reader.rows_asked(1), reader.rows_asked(100)), (2, 100));
        read(&mut reader, &page(0..10, "\"next\":\"/x\""), 10);
        assert_eq!((reader.rows_asked(3), reader.rows_asked(9), reader.rows_asked(10)), (9, 9, 10));
        assert_eq!(begun(Route::Auditing).rows_asked(1), 1);
    }

    #[test]
    fn offsets_have_the_name_of_their_route() {
        let base = Url::parse("https://wiki.example.com").unwrap();
        let mut legacy = begun(Route::Legacy);
        let query = "startDate=0&endDate=1637627977908&limit=10&start=";
        let url = |start: usize| format!("https://wiki.example.com/rest/api/audit?{query}{start}");
        assert_eq!(legacy.url(&base, 10).as_str(), url(0));
        legacy.paging = Paging::Offset { at: 7, expected: Vec::new() };
        assert_eq!(legacy.url(&base, 10).as_str(), url(7));
        let mut auditing = begun(Route::Auditing);
        auditing.paging = Paging::Offset { at: 7, expected: Vec::new() };
        assert!(auditing.url(&base, 10).as_str().ends_with("&limit=10&offset=7"));
    }

    /// Pages may be full of identical rows; different rows do not repeat.
    #[test]
    fn a_repeated_page_is_a_loop() {
        let cursor = |n: usize| format!("\"lastPage\":false,\"nextPageCursor\":\"7,{n}\"");
        let mut reader = begun(Route::Auditing);
        read(&mut reader, &auditing(0..3, &cursor(1)), 3);
        assert!(reader.is_loop(&auditing(0..3, &cursor(2))));
        assert!(!reader.is_loop(&auditing(1..4, &cursor(2))));
        assert!(reader.is_loop(&auditing(5..9, &cursor(1))), "the cursor was there before");
        let identical = |n: usize| {
            let json = format!("{{\"entities\":[{{}},{{}}],\"pagingInfo\":{{{}}}}}", cursor(n));
            Page::parse(Route::Auditing, json.into_bytes(), 10).unwrap()
        };
        let mut reader = begun(Route::Auditing);
        read(&mut reader, &identical(1), 2);
        assert!(!reader.is_loop(&identical(2)));
        // By offset a page is compared with the rows that it must start with.
        let mut reader = begun(Route::Cloud);
        read(&mut reader, &page(0..3, "\"next\":\"/x\""), 3);
        assert!(!reader.is_loop(&page(0..3, "\"next\":\"/x\"")));
    }

    #[test]
    fn a_last_page_is_verified_once() {
        let last = |n: usize| format!("\"lastPage\":true,\"nextPageCursor\":\"7,{n}\"");
        // The request after a last page that was full brought rows: it was not the last.
        let mut reader = begun(Route::Auditing);
        assert_eq!(read(&mut reader, &auditing(0..10, &last(1)), 10), PageOutcome::More);
        assert_eq!(read(&mut reader, &auditing(10..13, &last(2)), 10), PageOutcome::End);
        assert!(!reader.verifies_last_page());
        // The same cursor again leads nowhere.
        let mut reader = begun(Route::Auditing);
        assert_eq!(read(&mut reader, &auditing(0..10, &last(1)), 10), PageOutcome::More);
        assert_eq!(read(&mut reader, &auditing(10..20, &last(1)), 10), PageOutcome::End);
        // More rows than were asked for are a full page as well.
        assert_eq!(read(&mut begun(Route::Auditing), &auditing(0..11, &last(1)), 10), PageOutcome::More);
    }

    /// Some servers give cursors and then an offset.
    #[test]
    fn paging_may_change_from_cursors_to_offsets() {
        let mut reader = begun(Route::Auditing);
        let cursor = "\"lastPage\":false,\"nextPageCursor\":\"7,1\"";
        assert_eq!(read(&mut reader, &auditing(0..10, cursor), 10), PageOutcome::More);
        assert_eq!(read(&mut reader, &auditing(10..30, "\"lastPage\":false"), 20), PageOutcome::More);
        // 30 rows, of which the last 8 are to be repeated.
        assert!(matches!(&reader.paging, Paging::Offset { at: 22, expected } if expected.len() == 8));
        assert_eq!(reader.repeated(&auditing(22..30, "\"lastPage\":false")), Some(8));
        assert_eq!(reader.repeated(&auditing(22..29, "\"lastPage\":false")), None);
        let mut reader = begun(Route::Auditing);
        let named = "\"lastPage\":false,\"nextPageOffset\":40";
        assert_eq!(read(&mut reader, &auditing(0..10, cursor), 10), PageOutcome::More);
        assert_eq!(read(&mut reader, &auditing(10..30, named), 20), PageOutcome::More);
        assert!(matches!(&reader.paging, Paging::Offset { at: 40, expected } if expected.is_empty()));
    }

    #[test]
    fn pages_by_offset_end_or_go_on_behind_what_was_read() {
        let next = "\"next\":\"/x\"";
        let mut reader = begun(Route::Cloud);
        // A page of one row leaves no overlap.
        assert_eq!(read(&mut reader, &page(0..1, next), 10), PageOutcome::More);
        assert!(matches!(&reader.paging, Paging::Offset { at: 1, expected } if expected.is_empty()));
        assert_eq!(read(&mut reader, &page(1..6, next), 10), PageOutcome::More);
        assert!(matches!(&reader.paging, Paging::Offset { at: 2, expected } if expected.len() == 4));
        // The overlap and nothing more, though there is more: reading goes on behind it.
        assert_eq!(read(&mut reader, &page(2..6, next), 10), PageOutcome::More);
        assert!(matches!(&reader.paging, Paging::Offset { at: 6, expected } if expected.is_empty()));
        // An offset that the page names is used only if it is further on.
        assert_eq!(read(&mut reader, &page(6..8, "\"next\":\"/x?start=8\""), 10), PageOutcome::More);
        assert!(matches!(&reader.paging, Paging::Offset { at: 7, expected } if expected.len() == 1));
    }

    /// New rows are progress, also for a page whose cursor or offset was refused before.
    #[test]
    fn progress_forgets_the_failures() {
        let mut reader = begun(Route::Auditing);
        (reader.attempts.failures, reader.attempts.refusals) = (3, 2);
        reader.attempts.failing_since = Some(crate::clock::monotonic());
        read(&mut reader, &auditing(0..0, "\"lastPage\":false,\"nextPageCursor\":\"7,1\""), 10);
        assert_eq!((reader.attempts.failures, reader.attempts.refusals), (3, 0));
        assert!(reader.attempts.failing_since.is_some());
        read(&mut reader, &auditing(0..1, "\"lastPage\":false,\"nextPageCursor\":\"7,2\""), 10);
        assert_eq!((reader.attempts.failures, reader.attempts.failing_since), (0, None));
        assert_eq!(reader.attempts.rows_max, 1);
    }
}
