//! Pages of an audit API: each element of a list is a row, and no page that says there is more ends the reading.

use super::input::Input;
use super::readers::json::{self, Json};
use crate::source::api::page::{Next, Page, Route, rows_of_list, rows_of_response};

pub(super) fn page(data: &[u8]) {
    let mut input = Input(data);
    let route = [Route::Auditing, Route::Legacy, Route::Cloud][input.below(3)];
    let limit = 1 + usize::from(input.byte());
    let body = input.0.to_vec();
    let text = String::from_utf8_lossy(&body).into_owned();
    let json = json::read_repeated(text.strip_prefix('\u{feff}').unwrap_or(&text));
    if let Some(rows) = rows_of_response(&body) {
        check_ranges(&rows, body.len());
        assert!(json.is_err() || lists(&json, &["entities", "results"]) == rows.len(), "{text}");
    }
    if let Some(rows) = rows_of_list(&body) {
        check_ranges(&rows, body.len());
    }
    let Ok(page) = Page::parse(route, body, limit) else {
        return;
    };
    for at in 0..page.len() {
        let row = serde_json::from_slice::<&serde_json::value::RawValue>(page.row(at));
        assert!(row.is_ok(), "{text}");
    }
    assert_eq!(page.hashes(0..page.len()).len(), page.len());
    // What serde_json reads and the strict reader does not: half a surrogate pair, and what is very deep.
    if json.is_ok() {
        assert_eq!(lists(&json, &["entities", "results"]), page.len(), "{text}");
        check_next(route, &page, &json, limit);
    }
}

fn check_ranges(rows: &[std::ops::Range<usize>], end: usize) {
    assert!(rows.is_sorted_by(|a, b| a.end <= b.start));
    assert!(rows.iter().all(|row| row.start < row.end && row.end <= end));
}

/// Members of the response with this name, repeated ones too.
fn all<'j>(json: &'j Result<Json, String>, name: &str) -> Vec<&'j Json> {
    let members = json.as_ref().map_or(&[][..], Json::members);
    members.iter().filter(|(own, _)| own == name).map(|(_, value)| value).collect()
}

/// Number of elements of the lists with these names.
fn lists(json: &Result<Json, String>, names: &[&str]) -> usize {
    names.iter().flat_map(|name| all(json, name)).map(|list| list.elements().len()).sum()
}

fn check_next(route: Route, page: &Page, json: &Result<Json, String>, limit: usize) {
    let is_end = page.next == Next::End;
    match &page.next {
        Next::Cursor(cursor) | Next::Last(cursor) => assert!(!cursor.is_empty()),
        _ => {}
    }
    if route == Route::Auditing {
        let says_more = |paging: &&Json| {
            let is_last = paging.members().iter().rev().find(|(name, _)| name == "lastPage");
            is_last.is_some_and(|(_, value)| *value == Json::Bool(false))
        };
        assert!(!is_end || !all(json, "pagingInfo").iter().any(says_more));
    } else {
        let links = all(json, "_links");
        let next = |links: &&Json| links.members().iter().rev().find(|(name, _)| name == "next").cloned();
        let names_next = links.iter().filter_map(next).any(|(_, next)| next != Json::Null);
        assert!(!is_end || (!names_next && (page.len() < limit || page.is_empty())));
    }
}
