//! One answer of an audit API: its rows, borrowed from the body, and where the next page is. Pure.

use crate::record::walk::Cursor;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::ops::Range;

/// Which question was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Data Center from 7.5 on.
    Auditing,
    /// Data Center before 7.5: paged like Cloud.
    Legacy,
    Cloud,
}

#[derive(Debug)]
pub struct Page {
    pub body: Vec<u8>,
    rows: Vec<Range<usize>>,
    pub next: Next,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This was the last page.
    End,
    /// Pass this back.
    Cursor(String),
    /// Ask from a later offset.
    Offset,
    /// Ask from a later offset as well; an empty page is to be expected.
    Maybe,
}

#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the answer is not the JSON of an audit API")]
    Json(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Entities<'a> {
    #[serde(borrow)]
    entities: Vec<&'a RawValue>,
    #[serde(borrow, rename = "pagingInfo")]
    paging: Paging<'a>,
}

#[derive(Deserialize)]
struct Paging<'a> {
    #[serde(rename = "lastPage")]
    last_page: Option<bool>,
    #[serde(borrow, rename = "nextPageCursor")]
    cursor: Option<&'a RawValue>,
    #[serde(rename = "nextPageOffset")]
    offset: Option<i64>,
}

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
    /// What the server took for it: it may give fewer rows than it was asked for.
    limit: Option<usize>,
    #[serde(borrow, rename = "_links")]
    links: Option<Links<'a>>,
}

#[derive(Deserialize)]
struct Links<'a> {
    #[serde(borrow)]
    next: Option<&'a RawValue>,
}

/// A text, or as an app of the same plugin's family writes it, an object around one.
fn cursor_text(json: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Around {
        cursor: String,
    }
    let plain = serde_json::from_str::<String>(json.get());
    let text = plain.or_else(|_| serde_json::from_str::<Around>(json.get()).map(|around| around.cursor));
    text.ok().filter(|text| !text.is_empty())
}

impl Page {
    /// `limit` is how many rows were asked for.
    pub fn parse(route: Route, body: Vec<u8>, limit: usize) -> Result<Page, EnvelopeError> {
        let place = |rows: &[&RawValue]| {
            // The text of each row lies within the body; `from_slice` has borrowed it from there.
            let begin = body.as_ptr() as usize;
            let ranges = rows.iter().map(|row| {
                let at = row.get().as_ptr() as usize - begin;
                at..at + row.get().len()
            });
            ranges.collect::<Vec<_>>()
        };
        let (rows, next) = match route {
            Route::Auditing => {
                let Entities { entities, paging } = serde_json::from_slice(&body)?;
                let next = match paging.cursor.and_then(cursor_text) {
                    _ if entities.is_empty() || paging.last_page == Some(true) => Next::End,
                    Some(cursor) => Next::Cursor(cursor),
                    None if paging.offset.is_some() || paging.last_page == Some(false) => Next::Offset,
                    None => Next::Maybe,
                };
                (place(&entities), next)
            }
            Route::Legacy | Route::Cloud => {
                let Results {
                    results,
                    limit: taken,
                    links,
                } = serde_json::from_slice(&body)?;
                let limit = taken.unwrap_or(limit).min(limit);
                let linked = links.is_some_and(|links| links.next.is_some_and(|next| next.get() != "null"));
                let next = match (linked, results.len() < limit) {
                    _ if results.is_empty() => Next::End,
                    (true, _) => Next::Offset,
                    (false, true) => Next::End,
                    (false, false) => Next::Maybe,
                };
                (place(&results), next)
            }
        };
        Ok(Page { body, rows, next })
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As they came: newest first.
    pub fn row(&self, at: usize) -> &[u8] {
        &self.body[self.rows[at].clone()]
    }

    /// Hashes of the rows, to recognise them on another page.
    pub fn hashes(&self, rows: Range<usize>) -> Vec<u64> {
        rows.map(|at| xxhash_rust::xxh3::xxh3_64(self.row(at))).collect()
    }
}

/// Where the rows of an answer stand in `body`: of each list that holds rows, whichever API gave it and however often it
/// comes. A row is whatever stands in the list. `None`: this is no answer of an audit API.
pub fn rows_of_answer(body: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut cursor = valid(body)?;
    cursor.enter();
    let (mut rows, mut has_list) = (Vec::new(), false);
    while cursor.more() {
        let holds_rows = matches!(cursor.key().as_ref(), "entities" | "results");
        match cursor.peek() {
            b'[' if holds_rows => {
                has_list = true;
                add_elements(&mut cursor, &mut rows);
            }
            // What is neither a list nor nothing is not left out silently.
            b'n' => cursor.skip(),
            _ if holds_rows => return None,
            _ => cursor.skip(),
        }
    }
    has_list.then_some(rows)
}

/// The same for a list of rows that somebody has put together.
pub fn rows_of_list(body: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut rows = Vec::new();
    add_elements(&mut valid(body)?, &mut rows);
    Some(rows)
}

/// A cursor before the value that `body` is; its places are those of the body.
fn valid(body: &[u8]) -> Option<Cursor<'_>> {
    serde_json::from_slice::<IgnoredAny>(body).ok()?;
    std::str::from_utf8(body).ok().map(Cursor::new)
}

fn add_elements(cursor: &mut Cursor, rows: &mut Vec<Range<usize>>) {
    cursor.enter();
    while cursor.more() {
        let start = cursor.place();
        rows.push(start..start + cursor.value().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(route: Route, json: &str) -> Result<(Vec<String>, Next), EnvelopeError> {
        let page = Page::parse(route, json.as_bytes().to_vec(), 2)?;
        let rows = (0..page.len()).map(|at| String::from_utf8_lossy(page.row(at)).into_owned());
        Ok((rows.collect(), page.next.clone()))
    }

    #[test]
    fn pages_of_each_api_and_what_follows() {
        let two = vec!["{\"a\":1}".to_owned(), "[ 2 ]".to_owned()];
        for (route, json, rows, next) in [
            (
                Route::Auditing,
                r#" {"entities":[{"a":1}, [ 2 ]],"pagingInfo":{"lastPage":false,"nextPageCursor":"7,8"}}"#,
                &two,
                Next::Cursor("7,8".into()),
            ),
            (
                Route::Auditing,
                r#"{"entities":[{"a":1},[ 2 ]],"pagingInfo":{"lastPage":true,"nextPageCursor":"7,8"}}"#,
                &two,
                Next::End,
            ),
            (
                Route::Auditing,
                r#"{"entities":[{"a":1},[ 2 ]],"pagingInfo":{"lastPage":false,"nextPageOffset":2}}"#,
                &two,
                Next::Offset,
            ),
            (
                Route::Auditing,
                r#"{"entities":[{"a":1},[ 2 ]],"pagingInfo":{"lastPage":false,"nextPageCursor":{"cursor":"7,8"}}}"#,
                &two,
                Next::Cursor("7,8".into()),
            ),
            (
                Route::Auditing,
                r#"{"entities":[],"pagingInfo":{"lastPage":false,"nextPageCursor":"7,8"}}"#,
                &vec![],
                Next::End,
            ),
            (
                Route::Auditing,
                r#"{"entities":[{"a":1},[ 2 ]],"pagingInfo":{}}"#,
                &two,
                Next::Maybe,
            ),
            (
                Route::Cloud,
                r#"{"results":[{"a":1},[ 2 ]],"_links":{"next":"/x"},"size":9}"#,
                &two,
                Next::Offset,
            ),
            (
                Route::Cloud,
                r#"{"results":[{"a":1},[ 2 ]],"_links":{}}"#,
                &two,
                Next::Maybe,
            ),
            (
                Route::Legacy,
                r#"{"results":[{"a":1}]}"#,
                &vec![two[0].clone()],
                Next::End,
            ),
            (
                Route::Cloud,
                r#"{"results":[{"a":1}],"_links":{"next":"/x"}}"#,
                &vec![two[0].clone()],
                Next::Offset,
            ),
            (
                Route::Cloud,
                r#"{"results":[],"_links":{"next":"/x"}}"#,
                &vec![],
                Next::End,
            ),
        ] {
            assert_eq!(page(route, json).unwrap(), (rows.clone(), next), "{json}");
        }
    }

    #[test]
    fn f41_what_is_no_page_is_an_error() {
        for (route, json) in [
            (Route::Auditing, ""),
            (Route::Auditing, "<html>"),
            (Route::Auditing, "{}"),
            (Route::Auditing, r#"{"entities":[]}"#),
            (Route::Auditing, r#"{"entities":{},"pagingInfo":{}}"#),
            (Route::Auditing, r#"{"results":[]}"#),
            (Route::Cloud, r#"{"entities":[],"pagingInfo":{"lastPage":true}}"#),
            (Route::Cloud, r#"{"results":null}"#),
            (Route::Cloud, r#"{"results":[]} x"#),
        ] {
            assert!(page(route, json).is_err(), "{json}");
        }
    }
}
