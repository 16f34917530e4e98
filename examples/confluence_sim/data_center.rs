//! The responses of Data Center since 7.5.

use serde_json::json;

use super::accounts::Credential;
use super::routes::Twist;
use super::rows::{Key, Page, Row, Window};
use super::server::{Reply, Request};
use super::shapes;
use super::state::State;
use super::time::{iso, parse_iso};

/// Page size without `limit`.
const LIMIT_DEFAULT: usize = 200;

pub fn events(state: &mut State, request: &Request, caller: &Credential, twist: &Twist) -> Reply {
    let clock_ms = state.clock.now_ms();
    let asked = match Asked::read(request, clock_ms) {
        Ok(asked) => asked,
        Err(message) => return Reply::json(400, json!([{"message": message}]).to_string()),
    };
    let limit = asked.limit.min(state.options.page_rows_max).min(twist.rows_max.unwrap_or(usize::MAX));
    let mut page = state.rows.page(asked.window, asked.offset, limit);
    // Marked by a special cursor that leads to the rows after it.
    let given = request.parameter("pageCursor");
    let between = twist.empty_between && given.is_some_and(|cursor| !cursor.contains(",0"));
    if twist.empty || between {
        page = Page { rows: Vec::new(), more: true };
    }
    let found: Vec<Key> = page.rows.iter().map(|(key, _)| *key).collect();
    let paging = paging(state, request, &asked, &found, page.more, twist);
    let entities: Vec<&str> = page.rows.iter().map(|(_, json)| json.as_str()).collect();
    let body = format!(r#"{{"entities":[{}],"pagingInfo":{paging}}}"#, entities.join(","));
    if state.options.searches_are_audited {
        audit_search(state, request, caller, &found, clock_ms);
    }
    let mut reply = Reply::json(200, body);
    reply.rows = found.len();
    reply
}

struct Asked {
    window: Window,
    offset: u64,
    limit: usize,
}

impl Asked {
    fn read(request: &Request, clock_ms: i64) -> Result<Asked, String> {
        let instant = |name: &str, otherwise: i64| match request.parameter(name) {
            None => Ok(otherwise),
            Some(text) => parse_iso(text).ok_or(format!("`{name}` is no instant: {text}")),
        };
        let number = |name: &str, otherwise: u64| match request.parameter(name) {
            None => Ok(otherwise),
            Some(text) => text.parse().map_err(|_| format!("`{name}` is no number: {text}")),
        };
        let cursor = |text: &str| {
            let (time_ms, id) = text.split_once(',')?;
            Some((time_ms.parse().ok()?, id.parse().ok()?))
        };
        let before = match request.parameter("pageCursor") {
            None => None,
            Some(text) => Some(cursor(text).ok_or(format!("`pageCursor` is no cursor: {text}"))?),
        };
        let window =
            Window { from_ms: instant("from", i64::MIN)?, to_ms: instant("to", i64::MAX)?, before, clock_ms };
        let (offset, limit) = (number("offset", 0)?, number("limit", LIMIT_DEFAULT as u64)? as usize);
        if limit == 0 {
            return Err("`limit` must be at least 1".into());
        }
        Ok(Asked { window, offset, limit })
    }
}

fn paging(
    state: &State,
    request: &Request,
    asked: &Asked,
    found: &[Key],
    more: bool,
    twist: &Twist,
) -> String {
    let more = more || twist.same_next;
    let last = !more || twist.calls_itself_last;
    let mut paging = json!({"lastPage": last, "size": found.len()});
    if !more && !state.options.next_on_last_page {
        return paging.to_string();
    }
    let given = request.parameter("pageCursor").map(str::to_owned);
    let of_row = found.last().map(|(time_ms, id)| format!("{time_ms},{id}"));
    let between = twist.empty_between && found.is_empty();
    let cursor = if between {
        // The same number in another notation.
        given.map(|given| given.replacen(',', ",0", 1))
    } else if twist.same_next || twist.empty {
        given.or(of_row)
    } else {
        of_row.or(given)
    };
    let Some(cursor) = cursor.or_else(|| twist.empty.then(|| format!("{},1", asked.window.clock_ms))) else {
        return paging.to_string();
    };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("offset", "0").append_pair("limit", &asked.limit.to_string());
    for (name, value) in &request.query {
        if !["offset", "limit", "pageCursor"].contains(&name.as_str()) {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let base = match &twist.next_host {
        Some(host) => format!("{host}{}", state.options.context_path),
        None => state.base.clone(),
    };
    paging["nextPageLink"] = format!("{base}/rest/auditing/1.0/events?{query}&pageCursor={cursor}").into();
    paging["nextPageOffset"] = 0.into();
    paging["nextPageCursor"] = cursor.into();
    paging.to_string()
}

/// The search is an event itself, in the database and in the file of the node that responded.
fn audit_search(state: &mut State, request: &Request, caller: &Credential, found: &[Key], clock_ms: i64) {
    let search = shapes::Search {
        login: &caller.login,
        name: &caller.login,
        user_key: "8a80cb819bd0ffff019bd0000000ffff",
        remote: &request.remote,
        system: &state.options.system,
        found,
    };
    if let Ok(mut row) = Row::from_json(&shapes::search_entity(&search, clock_ms)) {
        if !state.options.serving_node.is_empty() {
            row = row.on_node(&state.options.serving_node);
        }
        state.insert(row);
    }
}

pub fn coverage(state: &State) -> Reply {
    Reply::json(200, json!({"levelByArea": state.coverage}).to_string())
}

/// Three years are the default.
pub fn retention(state: &State) -> Reply {
    let period = json!({"years": state.retention_years, "months": 0, "days": 0});
    Reply::json(200, json!({"period": period}).to_string())
}

pub fn denylist(state: &State) -> Reply {
    Reply::json(200, json!({"actions": state.denied_actions}).to_string())
}

pub fn tokens(state: &State, caller: &Credential) -> Reply {
    let own = state.credentials.iter().enumerate().filter(|(_, c)| c.login == caller.login);
    let tokens = own.filter(|(_, c)| c.kind == super::accounts::Kind::Token).map(|(number, c)| {
        let mut token = json!({"id": number + 1, "name": c.name, "createdAt": iso(c.created_ms)});
        if let Some(expires_ms) = c.expires_ms {
            token["expiringAt"] = iso(expires_ms).into();
        }
        token
    });
    Reply::json(200, serde_json::Value::Array(tokens.collect()).to_string())
}
