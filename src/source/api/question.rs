//! What a page is asked for with, and how the pages of a window follow each other. Pure.

use super::page::{Next, Page, Route};
use super::window::Window;
use super::{answer, cloud_id};
use crate::config::{ApiConfig, Product};
use crate::position::ApiCursor;
use std::collections::HashSet;
use url::Url;

/// Pages that are counted by offsets overlap by so many rows: if these are not the same on both, rows have come in between.
const OVERLAP_ROWS: usize = 8;

/// Where the questions go.
pub struct Endpoint {
    /// `None`: it has to be looked up.
    pub base: Option<Url>,
    gateway: Option<Url>,
    pub route: Route,
    /// Whether an answer has shown that this is the right route.
    pub route_known: bool,
}

impl Endpoint {
    pub fn new(config: &ApiConfig) -> Endpoint {
        let mut endpoint = Endpoint {
            base: Some(config.http.base.clone()),
            gateway: None,
            route: Route::Auditing,
            route_known: false,
        };
        if let Product::Cloud {
            scoped,
            cloud_id,
            gateway,
        } = &config.product
        {
            (endpoint.route, endpoint.route_known) = (Route::Cloud, true);
            if *scoped {
                (endpoint.base, endpoint.gateway) = (None, Some(gateway.clone()));
                if let Some(id) = cloud_id {
                    endpoint.found(id);
                }
            }
        }
        endpoint
    }

    /// Whether a 404 may mean that this Confluence is older than 7.5.
    pub fn may_be_legacy(&self, saved: Option<ApiCursor>) -> bool {
        let never_newer = saved.is_none_or(|cursor| cursor.legacy);
        self.route == Route::Auditing && !self.route_known && never_newer
    }

    /// An answer that is none has come: if it was a try of the legacy way, that is over.
    pub fn not_legacy_either(&mut self) -> bool {
        let tried = self.route == Route::Legacy && !self.route_known;
        if tried {
            self.route = Route::Auditing;
        }
        tried
    }

    /// A Confluence that was older than 7.5 may have been upgraded.
    pub fn look_for_upgrade(&mut self) {
        if self.route == Route::Legacy {
            (self.route, self.route_known) = (Route::Auditing, false);
        }
    }

    /// The cloud id is known, and with it where scoped tokens are used.
    pub fn found(&mut self, id: &str) {
        if let Some(gateway) = &self.gateway {
            self.base = Some(cloud_id::scoped_base(gateway, id));
        }
    }
}

/// How far the pages of a window have been read.
#[derive(Debug)]
pub enum Paging {
    /// Pass it back, if there was one.
    Cursor(Option<String>),
    /// Ask from this row on; these are the hashes of the first rows that must come.
    Offset { at: usize, expected: Vec<u64> },
}

/// A window that is being read.
pub struct Reading {
    pub window: Window,
    pub paging: Paging,
    cursors: HashSet<String>,
    /// Hashes of the rows of the page before, where pages follow by cursors.
    page_before: Vec<u64>,
}

impl Reading {
    pub fn new(window: Window, route: Route) -> Reading {
        Reading {
            window,
            paging: match route {
                Route::Auditing => Paging::Cursor(None),
                Route::Legacy | Route::Cloud => Paging::Offset {
                    at: 0,
                    expected: Vec::new(),
                },
            },
            cursors: HashSet::new(),
            page_before: Vec::new(),
        }
    }

    /// One row cannot overlap and go on as well.
    pub fn rows_asked(&self, limit: usize) -> usize {
        match self.paging {
            Paging::Cursor(_) => limit,
            Paging::Offset { .. } => limit.max(2),
        }
    }

    pub fn url(&self, base: &Url, route: Route, rows: usize) -> Url {
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
                let name = if route == Route::Auditing {
                    "offset"
                } else {
                    "start"
                };
                query.append_pair(name, &at.to_string());
            }
        }
        drop(query);
        url
    }

    /// Whether the page leads back: its cursor was met before, or it is the page before once more.
    pub fn leads_back(&self, page: &Page) -> bool {
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

    /// How many rows at the head of the page stood at the end of the one before; `None`: others stand there.
    pub fn repeated(&self, page: &Page) -> Option<usize> {
        match &self.paging {
            Paging::Cursor(_) => Some(0),
            Paging::Offset { expected, .. } => {
                let same = page.len() >= expected.len() && page.hashes(0..expected.len()) == *expected;
                same.then_some(expected.len())
            }
        }
    }

    /// Sets what to ask for after this page.
    pub fn page_read(&mut self, page: &Page) -> Next {
        let repeated = self.repeated(page).unwrap_or(0);
        let next = if page.len() == repeated {
            Next::End
        } else {
            page.next.clone()
        };
        match &next {
            Next::End => {}
            Next::Cursor(cursor) => {
                self.cursors.insert(cursor.clone());
                self.page_before = page.hashes(0..page.len());
                self.paging = Paging::Cursor(Some(cursor.clone()));
            }
            Next::Offset | Next::Maybe => {
                let at = match self.paging {
                    Paging::Offset { at, .. } => at,
                    // Pages by cursor so far: as many rows have come.
                    Paging::Cursor(_) => self.window.rows() - page.len(),
                };
                let overlap = OVERLAP_ROWS.min(page.len() - 1);
                self.paging = Paging::Offset {
                    at: at + page.len() - overlap,
                    expected: page.hashes(page.len() - overlap..page.len()),
                };
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: std::ops::Range<usize>, next: &str) -> Page {
        let rows: Vec<String> = rows.map(|row| format!("{{\"n\":{row}}}")).collect();
        let json = format!("{{\"results\":[{}],\"_links\":{{{next}}}}}", rows.join(","));
        Page::parse(Route::Cloud, json.into_bytes(), 10).unwrap()
    }

    fn window() -> Window {
        Window::new(0, 1_637_627_977_908, true)
    }

    #[test]
    fn questions_of_each_route() {
        let base = Url::parse("https://wiki.example.com/confluence").unwrap();
        let mut reading = Reading::new(window(), Route::Auditing);
        let first = reading.url(&base, Route::Auditing, 1000);
        assert_eq!(
            first.as_str(),
            "https://wiki.example.com/confluence/rest/auditing/1.0/events?from=1970-01-01T00%3A00%3A00.000Z&to=2021-11-23T00%3A39%3A37.908Z&limit=1000"
        );
        reading.paging = Paging::Cursor(Some("1637627977908,42".into()));
        let next = reading.url(&base, Route::Auditing, 1000);
        assert_eq!(next.as_str(), format!("{first}&pageCursor=1637627977908%2C42"));
        let site = Url::parse("https://acme.atlassian.net").unwrap();
        let reading = Reading::new(window(), Route::Cloud);
        assert_eq!(
            reading.url(&site, Route::Cloud, reading.rows_asked(1)).as_str(),
            "https://acme.atlassian.net/wiki/rest/api/audit?startDate=0&endDate=1637627977908&limit=2&start=0"
        );
    }

    #[test]
    fn f38_pages_by_offset_overlap_and_show_what_came_between() {
        let mut reading = Reading::new(window(), Route::Cloud);
        let next = "\"next\":\"/x\"";
        assert_eq!(reading.repeated(&page(0..10, next)), Some(0));
        reading.page_read(&page(0..10, next));
        assert!(matches!(reading.paging, Paging::Offset { at: 2, .. }));
        // Nothing came between; one row came; the server lost rows.
        assert_eq!(reading.repeated(&page(2..12, next)), Some(8));
        assert_eq!(reading.repeated(&page(1..11, next)), None);
        assert_eq!(reading.repeated(&page(2..6, next)), None);
        // Nothing new: the end, whatever the links say.
        assert_eq!(reading.page_read(&page(2..10, next)), Next::End);
    }

    #[test]
    fn f39_a_cursor_that_comes_again_ends_the_window() {
        let answer = r#"{"entities":[{}],"pagingInfo":{"lastPage":false,"nextPageCursor":"1,2"}}"#;
        let page = || Page::parse(Route::Auditing, answer.into(), 1).unwrap();
        let mut reading = Reading::new(window(), Route::Auditing);
        assert!(!reading.leads_back(&page()));
        reading.page_read(&page());
        assert!(reading.leads_back(&page()));
    }
}
