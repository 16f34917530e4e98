//! One answer of an audit API: its rows, borrowed from the body, and where the next page is. Pure.

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Which of the APIs is asked.
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

/// What the page says of the next one. The reader of the window finds out whether that leads anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This was the last page.
    End,
    /// Pass this back.
    Cursor(String),
    /// The page calls itself the last one and names a cursor all the same.
    Last(String),
    /// Ask from a later offset: from the one that the page names, if it does.
    Offset(Option<usize>),
    /// Ask from a later offset as well; an empty page is to be expected.
    Maybe,
    /// The page is not the last one, and neither its rows nor anything else say where the next one is.
    Nowhere,
}

#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the answer is not the JSON of an audit API")]
    Json(#[from] serde_json::Error),
    #[error("the answer has no list `{0}`")]
    NoList(&'static str),
    #[error("the answer has no `pagingInfo`")]
    NoPaging,
}

/// The members of an answer of either API. A name may come twice, and both lists may be there: each row counts.
#[derive(Default)]
struct Envelope<'a> {
    /// All rows, in the order of the answer.
    rows: Vec<&'a RawValue>,
    has_entities: bool,
    has_results: bool,
    paging: Option<Paging>,
    /// What the server took for it: it may give fewer rows than it was asked for.
    limit: Option<usize>,
    next_link: Option<Value>,
}

/// Data Center's `pagingInfo`.
#[derive(Default)]
struct Paging {
    last_page: Option<bool>,
    cursor: Option<String>,
    offset: Option<usize>,
}

impl Paging {
    /// `None` if it is none.
    fn read(json: &Value) -> Option<Paging> {
        let json = json.as_object()?;
        let last_page = json.get("lastPage").and_then(Value::as_bool);
        let cursor = json.get("nextPageCursor").and_then(cursor_text);
        let offset = json.get("nextPageOffset").and_then(number);
        Some(Paging { last_page, cursor, offset })
    }

    /// Where two say different things the one counts by which nothing is left out.
    fn merge(self, later: Paging) -> Paging {
        let last_page = match (self.last_page, later.last_page) {
            (Some(one), Some(other)) => Some(one && other),
            (one, other) => one.or(other),
        };
        Paging { last_page, cursor: later.cursor.or(self.cursor), offset: later.offset.or(self.offset) }
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

/// A text or a number, or as an app of the same plugin's family writes it, an object around one.
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
                            let paging = Paging::read(&map.next_value()?);
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
    /// Adds the rows of a list; `false`: it is null. What is neither is not left out silently.
    fn add<E: de::Error>(&mut self, list: &'a RawValue) -> Result<bool, E> {
        if list.get() == "null" {
            return Ok(false);
        }
        let rows: Vec<&RawValue> = serde_json::from_str(list.get()).map_err(E::custom)?;
        self.rows.extend(rows);
        Ok(true)
    }
}

/// Where the rows of an answer are in `body`: of any list with rows, whichever API gave it, in the order of the answer.
/// A row is any element of the list; what is no record becomes an event that says so. `None`: this is
/// no answer of an audit API.
pub(crate) fn rows_of_answer(body: &[u8]) -> Option<Vec<Range<usize>>> {
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    (envelope.has_entities || envelope.has_results).then(|| places(body, &envelope.rows))
}

/// The same for a list of rows that somebody has put together.
pub(crate) fn rows_of_list(body: &[u8]) -> Option<Vec<Range<usize>>> {
    let rows: Vec<&RawValue> = serde_json::from_slice(body).ok()?;
    Some(places(body, &rows))
}

/// The text of each row is within the body; `from_slice` has borrowed it from there.
fn places(body: &[u8], rows: &[&RawValue]) -> Vec<Range<usize>> {
    let begin = body.as_ptr() as usize;
    let ranges = rows.iter().map(|row| {
        let at = row.get().as_ptr() as usize - begin;
        at..at + row.get().len()
    });
    ranges.collect()
}

/// An answer must be UTF-8; one that is not is read with what is wrong replaced, so that a broken name is no broken
/// page.
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
        let rows = places(&body, &envelope.rows);
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

    /// As they came: newest first.
    pub fn row(&self, at: usize) -> &[u8] {
        &self.body[self.rows[at].clone()]
    }

    /// Hashes of the rows, to recognise them on another page.
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

    /// Lists that come twice or under both names, and rows that are no records: each row is there, in the order of
    /// the answer.
    #[test]
    fn f80_every_row_of_an_answer_counts() {
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
        // What is neither a list nor null holds nobody knows what.
        assert!(page(Route::Cloud, r#"{"results":[1],"results":{"a":2}}"#).is_err());
        assert_eq!(rows_of_answer(br#"{"size":1}"#), None);
        assert_eq!(rows_of_answer(br#"{"entities":[1],"results":[2]}"#), Some(vec![13..14, 27..28]));
    }

    /// `pagingInfo` that comes twice: nothing that either says is left out.
    #[test]
    fn f80_paging_that_is_told_twice_ends_nothing() {
        let last = r#""pagingInfo":{"lastPage":true}"#;
        let more = r#""pagingInfo":{"lastPage":false,"nextPageCursor":"7,8"}"#;
        for json in
            [format!(r#"{{"entities":[1],{more},{last}}}"#), format!(r#"{{"entities":[1],{last},{more}}}"#)]
        {
            assert_eq!(page(Route::Auditing, &json).unwrap().1, Next::Cursor("7,8".into()), "{json}");
        }
    }
}
