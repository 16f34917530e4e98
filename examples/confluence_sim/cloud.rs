//! The responses of Cloud, and of Data Center before 7.5, which are similar.

use serde_json::json;

use super::routes::{Route, Twist};
use super::rows::{Page, Window};
use super::server::{Reply, Request};
use super::shapes;
use super::state::State;

/// Maximum page size, whatever is requested.
const LIMIT_MAX: usize = 1_000;

pub fn audit(state: &State, request: &Request, route: Route, twist: &Twist) -> Reply {
    let site = match route {
        Route::ScopedAudit => format!("{}/ex/confluence/{}", state.base, state.options.cloud_id),
        _ => state.base.clone(),
    };
    answer(state, request, twist, &site, "/wiki", |json, _| json)
}

pub fn legacy(state: &State, request: &Request, twist: &Twist) -> Reply {
    let context = &state.options.context_path;
    let site = state.base.strip_suffix(context.as_str()).unwrap_or(&state.base);
    answer(state, request, twist, site, context, |json, time_ms| shapes::legacy_of(&json, time_ms))
}

fn answer(
    state: &State,
    request: &Request,
    twist: &Twist,
    site: &str,
    context: &str,
    shape: impl Fn(String, i64) -> String,
) -> Reply {
    let number = |name: &str, otherwise: i64| match request.parameter(name) {
        None => Ok(otherwise),
        Some(text) => text.parse::<i64>().map_err(|_| {
            let message = format!("`{name}` is no number: {text}");
            Reply::json(400, json!({"statusCode": 400, "message": message}).to_string())
        }),
    };
    let numbers = (|| {
        Ok([
            number("startDate", i64::MIN)?,
            number("endDate", i64::MAX)?,
            number("start", 0)?,
            number("limit", LIMIT_MAX as i64)?,
        ])
    })();
    let [from_ms, to_ms, start, limit] = match numbers {
        Ok(numbers) => numbers,
        Err(refusal) => return refusal,
    };
    let (start, asked) = (start.max(0) as u64, (limit.max(1) as usize).min(LIMIT_MAX));
    let limit = asked.min(state.options.page_rows_max).min(twist.rows_max.unwrap_or(usize::MAX));
    let window = Window { from_ms, to_ms, before: None, clock_ms: state.clock.now_ms() };
    let mut page = if twist.empty_between {
        page_of_filter(state, window, start, limit)
    } else {
        state.rows.page(window, start, limit)
    };
    if twist.empty {
        page = Page { rows: Vec::new(), more: true };
    }
    let rows = page.rows.len();
    let mut links = json!({
        "base": format!("{site}{context}"),
        "context": context,
        "self": format!("{site}{context}/rest/api/audit"),
    });
    if page.more || twist.same_next {
        let next = if twist.same_next {
            start
        } else if twist.empty_between {
            start + limit as u64
        } else {
            start + rows as u64
        };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in request.query.iter().filter(|(name, _)| name != "start" && name != "limit") {
            query.append_pair(name, value);
        }
        query.append_pair("start", &next.to_string()).append_pair("limit", &asked.to_string());
        let link = format!("/rest/api/audit?{}", query.finish());
        // Relative to `base`; only a faulty server names a host.
        let host = twist.next_host.as_ref().map(|host| format!("{host}{context}"));
        links["next"] = format!("{}{link}", host.unwrap_or_default()).into();
    }
    // The size is that of the page, as in published responses.
    let size = state.rows.count(window);
    let records: Vec<String> =
        page.rows.into_iter().map(|((time_ms, _), json)| shape(json, time_ms)).collect();
    let body = format!(
        r#"{{"results":[{}],"start":{start},"limit":{limit},"size":{size},"_links":{links}}}"#,
        records.join(",")
    );
    let mut reply = Reply::json(200, body);
    reply.rows = rows;
    reply
}

/// As a server that filters rows: at the offsets of a second page some rows are not shown.
fn page_of_filter(state: &State, window: Window, start: u64, limit: usize) -> Page {
    let hidden = limit as u64..2 * limit as u64;
    let mut page = if start < hidden.start {
        state.rows.page(window, start, (hidden.start - start) as usize)
    } else {
        let from = start.max(hidden.end);
        let shown = (start + limit as u64).saturating_sub(from) as usize;
        state.rows.page(window, from - limit as u64, shown)
    };
    page.more |= start < hidden.end;
    page
}
