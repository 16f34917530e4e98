//! Parses a response of an audit API: the byte ranges of its rows, and where the next page is. Pure.

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Which audit API is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Data Center 7.5 and later: `rest/auditing/1.0/events`.
    Auditing,
    /// Data Center before 7.5: `rest/api/audit`, with Cloud's paging.
    Legacy,
    /// Cloud: `wiki/rest/api/audit`.
    Cloud,
}

/// A page of events. Its rows are JSON values, newest first.
#[derive(Debug)]
pub struct Page {
    pub body: Vec<u8>,
    rows: Vec<Range<usize>>,
    pub next: Next,
}

/// What the page says about the next one. `WindowReader` checks whether that is usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This was the last page.
    End,
    /// Request the next page with this cursor.
    Cursor(String),
    /// The page claims to be the last one, but has a cursor.
    Last(String),
    /// Request from a later offset: the one that the page names, if any.
    Offset(Option<usize>),
    /// The page does not say whether there is more: request from a later offset, which may return an empty page.
    Maybe,
    /// The page is not the last one, but is empty and names neither cursor nor offset.
    Nowhere,
}

#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the response is not the JSON of an audit API")]
    Json(#[from] serde_json::Error),
    #[error("the response has no list `{0}`")]
    NoList(&'static str),
    #[error("the response has no `pagingInfo`")]
    NoPaging,
}

/// The members of a response of any route. A name may occur twice, and both lists may be there: each row counts.
#[derive(Default)]
struct Envelope<'a> {
    /// All rows, in the order of the response.
    rows: Vec<&'a RawValue>,
    has_entities: bool,
    has_results: bool,
    paging: Option<PagingInfo>,
    /// The limit that the server applied: it may be smaller than requested.
    limit: Option<usize>,
    next_link: Option<Value>,
}

/// Data Center's `pagingInfo`.
#[derive(Default)]
struct PagingInfo {
    last_page: Option<bool>,
    cursor: Option<String>,
    offset: Option<usize>,
}

impl PagingInfo {
    /// `None` if the value is not an object.
    fn read(json: &Value) -> Option<PagingInfo> {
        let json = json.as_object()?;
        let last_page = json.get("lastPage").and_then(Value::as_bool);
        let cursor = json.get("nextPageCursor").and_then(cursor_text);
        let offset = json.get("nextPageOffset").and_then(number);
        Some(PagingInfo { last_page, cursor, offset })
    }

    /// If two disagree, the one that leads to more pages counts, so that no row is missed.
    fn merge(self, later: PagingInfo) -> PagingInfo {
        let last_page = match (self.last_page, later.last_page) {
            (Some(one), Some(other)) => Some(one && other),
            (one, other) => one.or(other),
        };
        PagingInfo { last_page, cursor: later.cursor.or(self.cursor), offset: later.offset.or(self.offset) }
    }

    fn next(self, rows: usize) -> Next {
        match (self.last_page, self.cursor, self.offset) {
            (Some(true), Some(cursor), _) if rows > 0 => Next::Last(cursor),
            (Some(true), ..) => Next::End,
            (_, Some(cursor), _) => Next::Cursor(cursor),
            (_, None, Some(offset)) => Next::Offset(Some(offset)),
            (Some(false), None, None) if rows == 0 => Next::Nowhere,
            (Some(false), None, None) => Next::Offset(None),
            (None, None, None) if rows == 0 => Next::End,
            (None, None, None) => Next::Maybe,
        }
    }
}

/// A string or a number, or an object with either as `cursor`, as related Atlassian plugins write it.
fn cursor_text(json: &Value) -> Option<String> {
    let json = json.get("cursor").unwrap_or(json);
    match json {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(json: &Value) -> Option<usize> {
    json.as_u64()?.try_into().ok()
}

/// The offset that a next link names. The link itself is never followed.
fn start_of_link(link: &Value) -> Option<usize> {
    let query = link.as_str()?.split_once('?')?.1;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "start")
        .and_then(|(_, start)| start.parse().ok())
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor;
        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Envelope<'de>;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(name) = map.next_key::<Cow<str>>()? {
                    match name.as_ref() {
                        "entities" => envelope.has_entities |= envelope.add(map.next_value()?)?,
                        "results" => envelope.has_results |= envelope.add(map.next_value()?)?,
                        "pagingInfo" => {
                            let paging = PagingInfo::read(&map.next_value()?);
                            envelope.paging = match (envelope.paging.take(), paging) {
                                (Some(earlier), Some(later)) => Some(earlier.merge(later)),
                                (earlier, later) => later.or(earlier),
                            };
                        }
                        "limit" => envelope.limit = number(&map.next_value()?).or(envelope.limit),
                        "_links" => {
                            let links: Value = map.next_value()?;
                            let next = links.get("next").filter(|next| !next.is_null()).cloned();
                            envelope.next_link = next.or(envelope.next_link);
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

impl<'a> Envelope<'a> {
    /// Adds the rows of a list. `false`: it is null. Any other type is an error, because it may contain rows.
    fn add<E: de::Error>(&mut self, list: &'a RawValue) -> Result<bool, E> {
        if list.get() == "null" {
            return Ok(false);
        }
        let rows: Vec<&RawValue> = serde_json::from_str(list.get()).map_err(E::custom)?;
        self.rows.extend(rows);
        Ok(true)
    }
}

/// The byte ranges of the rows in `body`, for a response of any route, in its order. A row is any element of a list;
/// one that is no record becomes a `pipeline_error` event later. `None`: not a response of an audit API.
pub(crate) fn rows_of_response(body: &[u8]) -> Option<Vec<Range<usize>>> {
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    (envelope.has_entities || envelope.has_results).then(|| row_ranges(body, &envelope.rows))
}

/// The same for a plain JSON array of rows.
pub(crate) fn rows_of_list(body: &[u8]) -> Option<Vec<Range<usize>>> {
    let rows: Vec<&RawValue> = serde_json::from_slice(body).ok()?;
    Some(row_ranges(body, &rows))
}

/// Converts rows to byte ranges. Each row is a slice of `body`, because `from_slice` borrows.
fn row_ranges(body: &[u8], rows: &[&RawValue]) -> Vec<Range<usize>> {
    let begin = body.as_ptr() as usize;
    let ranges = rows.iter().map(|row| {
        let at = row.get().as_ptr() as usize - begin;
        at..at + row.get().len()
    });
    ranges.collect()
}

/// Replaces invalid UTF-8 and removes a BOM, so that one broken name does not make the page unreadable.
fn repaired(body: Vec<u8>) -> Vec<u8> {
    let body = match String::from_utf8(body) {
        Ok(text) => text.into_bytes(),
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned().into_bytes(),
    };
    match body.strip_prefix("\u{feff}".as_bytes()) {
        Some(rest) => rest.to_vec(),
        None => body,
    }
}

impl Page {
    /// `limit` is how many rows were asked for.
    pub fn parse(route: Route, body: Vec<u8>, limit: usize) -> Result<Page, EnvelopeError> {
        let body = repaired(body);
        let envelope: Envelope = serde_json::from_slice(&body)?;
        let rows = row_ranges(&body, &envelope.rows);
        let next = match route {
            Route::Auditing if !envelope.has_entities => return Err(EnvelopeError::NoList("entities")),
            Route::Auditing => envelope.paging.ok_or(EnvelopeError::NoPaging)?.next(rows.len()),
            Route::Legacy | Route::Cloud if !envelope.has_results => {
                return Err(EnvelopeError::NoList("results"));
            }
            Route::Legacy | Route::Cloud => {
                let limit = envelope.limit.unwrap_or(limit).min(limit);
                match envelope.next_link {
                    Some(link) => Next::Offset(start_of_link(&link)),
                    None if rows.is_empty() || rows.len() < limit => Next::End,
                    None => Next::Maybe,
                }
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

    /// The bytes of a row. Row 0 is the newest.
    pub fn row(&self, at: usize) -> &[u8] {
        &self.body[self.rows[at].clone()]
    }

    /// Hashes of rows, to recognise them on another page.
    pub fn hashes(&self, rows: Range<usize>) -> Vec<u64> {
        rows.map(|at| xxhash_rust::xxh3::xxh3_64(self.row(at))).collect()
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
    fn pages_of_each_route_and_the_next_page() {
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
                Next::Last("7,8".into()),
            ),
            (
                Route::Auditing,
                r#"{"entities":[{"a":1},[ 2 ]],"pagingInfo":{"lastPage":false,"nextPageOffset":2}}"#,
                &two,
                Next::Offset(Some(2)),
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
                Next::Cursor("7,8".into()),
            ),
            (
                Route::Auditing,
                r#"{"entities":[],"pagingInfo":{"lastPage":true,"nextPageCursor":"7,8"}}"#,
                &vec![],
                Next::End,
            ),
            (
                Route::Auditing,
                r#"{"entities":[],"pagingInfo":{"lastPage":false,"nextPageCursor":null}}"#,
                &vec![],
                Next::Nowhere,
            ),
            (Route::Auditing, r#"{"entities":[],"pagingInfo":{"size":0}}"#, &vec![], Next::End),
            (
                Route::Auditing,
                r#"{"entities":[{"a":1},[ 2 ]],"pagingInfo":{"lastPage":false,"nextPageCursor":7}}"#,
                &two,
                Next::Cursor("7".into()),
            ),
            (Route::Auditing, r#"{"entities":[{"a":1},[ 2 ]],"pagingInfo":{}}"#, &two, Next::Maybe),
            (
                Route::Cloud,
                r#"{"results":[{"a":1},[ 2 ]],"_links":{"next":"/x?limit=2&start=2"},"size":9}"#,
                &two,
                Next::Offset(Some(2)),
            ),
            (Route::Cloud, r#"{"results":[{"a":1},[ 2 ]],"_links":{}}"#, &two, Next::Maybe),
            (Route::Legacy, r#"{"results":[{"a":1}]}"#, &vec![two[0].clone()], Next::End),
            (
                Route::Cloud,
                r#"{"results":[{"a":1}],"_links":{"next":"/x"}}"#,
                &vec![two[0].clone()],
                Next::Offset(None),
            ),
            (
                Route::Cloud,
                r#"{"results":[],"_links":{"next":"/x?start=9"}}"#,
                &vec![],
                Next::Offset(Some(9)),
            ),
            (Route::Cloud, r#"{"results":[],"_links":{"next":null}}"#, &vec![], Next::End),
        ] {
            assert_eq!(page(route, json).unwrap(), (rows.clone(), next), "{json}");
        }
    }

    #[test]
    fn f41_a_response_without_a_page_is_an_error() {
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

    /// Lists that occur twice or under both names, and rows that are no records: each row counts, in the order of the
    /// response.
    #[test]
    fn f80_every_row_of_a_response_counts() {
        let paging = r#""pagingInfo":{"lastPage":true}"#;
        for (route, json, expected) in [
            (Route::Auditing, format!(r#"{{"entities":[1,2],{paging},"entities":[{{}},3]}}"#), "1 2 {} 3"),
            (Route::Auditing, format!(r#"{{"entities":[1],"results":[2],{paging}}}"#), "1 2"),
            (Route::Cloud, r#"{"results":[1],"entities":[2]}"#.to_owned(), "1 2"),
            (Route::Cloud, r#"{"results":[1],"results":[]}"#.to_owned(), "1"),
            (Route::Cloud, r#"{"results":null,"results":[{},{},null,"x"]}"#.to_owned(), r#"{} {} null "x""#),
            (Route::Legacy, "\u{feff}{\"results\":[\"\u{fffd}\"]}".to_owned(), "\"\u{fffd}\""),
        ] {
            let found = Page::parse(route, json.clone().into_bytes(), 100).unwrap();
            let rows: Vec<String> =
                (0..found.len()).map(|at| String::from_utf8_lossy(found.row(at)).into_owned()).collect();
            assert_eq!(rows.join(" "), expected, "{json}");
        }
        let broken = b"{\"results\":[\"\xff\"]}".to_vec();
        assert_eq!(Page::parse(Route::Cloud, broken, 1).unwrap().row(0), "\"\u{fffd}\"".as_bytes());
        // Neither a list nor null: it may contain rows, so it is an error.
        assert!(page(Route::Cloud, r#"{"results":[1],"results":{"a":2}}"#).is_err());
        assert_eq!(rows_of_response(br#"{"size":1}"#), None);
        assert_eq!(rows_of_response(br#"{"entities":[1],"results":[2]}"#), Some(vec![13..14, 27..28]));
    }

    /// `pagingInfo` that occurs twice does not end paging early.
    #[test]
    fn f80_duplicate_paging_info_does_not_end_paging() {
        let last = r#""pagingInfo":{"lastPage":true}"#;
        let more = r#""pagingInfo":{"lastPage":false,"nextPageCursor":"7,8"}"#;
        for json in
            [format!(r#"{{"entities":[1],{more},{last}}}"#), format!(r#"{{"entities":[1],{last},{more}}}"#)]
        {
            assert_eq!(page(Route::Auditing, &json).unwrap().1, Next::Cursor("7,8".into()), "{json}");
        }
    }
}
