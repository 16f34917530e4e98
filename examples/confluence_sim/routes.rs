//! Selects the response to a request.

use super::accounts::{self, Credential, Presented};
use super::faults::{self, Fault};
use super::rows::Row;
use super::server::{Reply, Request};
use super::state::{Options, Product, Seen, State};
use super::time::http_date;
use super::{cloud, data_center};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Data Center's `…/rest/auditing/1.0/events`.
    Events,
    Coverage,
    Retention,
    Denylist,
    Tokens,
    /// The product and its version, for everybody.
    Manifest,
    /// `…/rest/api/audit` of a Data Center.
    Legacy,
    /// Cloud's `/wiki/rest/api/audit`.
    Audit,
    /// The same under `/ex/confluence/{cloudId}`.
    ScopedAudit,
    TenantInfo,
    Unknown,
}

impl Route {
    fn of(options: &Options, path: &str) -> Route {
        if options.product == Product::Cloud {
            let scoped = format!("/ex/confluence/{}/wiki/rest/api/audit", options.cloud_id);
            return match path {
                "/wiki/rest/api/audit" => Route::Audit,
                "/_edge/tenant_info" => Route::TenantInfo,
                _ if path == scoped => Route::ScopedAudit,
                _ => Route::Unknown,
            };
        }
        match path.strip_prefix(options.context_path.as_str()) {
            Some("/rest/auditing/1.0/events") => Route::Events,
            Some("/rest/auditing/1.0/configuration/coverage") => Route::Coverage,
            Some("/rest/auditing/1.0/configuration/retention") => Route::Retention,
            Some("/rest/auditing/1.0/configuration/denylist") => Route::Denylist,
            Some("/rest/pat/latest/tokens") => Route::Tokens,
            Some("/rest/applinks/1.0/manifest") => Route::Manifest,
            Some("/rest/api/audit") => Route::Legacy,
            _ => Route::Unknown,
        }
    }

    pub fn shows_events(self) -> bool {
        matches!(self, Route::Events | Route::Legacy | Route::Audit | Route::ScopedAudit)
    }

    fn since_7_5(self) -> bool {
        matches!(self, Route::Events | Route::Coverage | Route::Retention | Route::Denylist | Route::Tokens)
    }
}

/// Changes of a page by the faults of the request.
#[derive(Debug, Default)]
pub struct Twist {
    pub rows_max: Option<usize>,
    pub same_next: bool,
    pub empty: bool,
    pub next_host: Option<String>,
    pub empty_between: bool,
    pub calls_itself_last: bool,
}

pub fn answer(state: &mut State, request: &Request) -> Reply {
    let now_ms = state.clock.now_ms();
    let route = Route::of(&state.options, &request.path);
    state.requests += 1;
    let audit_number = route.shows_events().then(|| {
        state.audit_requests += 1;
        state.audit_requests
    });
    let later_page = is_later_page(request);
    let hits = |set: &&faults::Set| set.hits(audit_number, later_page, state.requests);
    let set: Vec<Fault> = state.faults.iter().filter(hits).map(|set| set.fault.clone()).collect();

    let limited = audit_number.is_some() && is_limited(state, now_ms);
    let instead = set.iter().find_map(|fault| faults::instead(fault, now_ms));
    let instead = instead.or_else(|| limited.then(|| Reply::json(429, r#"{"message":"slow down"}"#)));
    let broken = request.parameter("from").is_some()
        && request.parameter("from") == state.options.fails_from.as_deref();
    let instead =
        instead.or_else(|| broken.then(|| Reply::json(500, r#"{"message":"NullPointerException"}"#)));
    let mut reply = match instead {
        Some(reply) => reply,
        None => {
            let twist = twist(state, request, &set, now_ms);
            serve(state, request, route, &twist)
        }
    };
    let rows = reply.rows;
    for fault in &set {
        let held = request.parameter("limit").and_then(|l| l.parse().ok()).unwrap_or(rows);
        reply = faults::spoil(fault, reply, held);
    }
    reply.header("Date", &http_date(now_ms));
    if state.options.rate_headers && reply.status != 429 {
        reply.headers.extend(faults::bucket(49));
    }
    state.seen.push(Seen {
        number: state.requests,
        audit_number,
        at_ms: now_ms,
        method: request.method.clone(),
        route,
        path: request.path.clone(),
        query: request.query.clone(),
        headers: request.headers.clone(),
        authorization: request.authorization.clone(),
        proxy_authorization: request.proxy_authorization.clone(),
        via_proxy: request.via_proxy,
        connection: request.connection,
        status: reply.status,
        rows,
    });
    reply
}

/// Whether the rate limit is reached.
fn is_limited(state: &mut State, now_ms: i64) -> bool {
    let Some((allowed, within_ms)) = state.options.rate_limit else {
        return false;
    };
    let answered = state.seen.iter().rev();
    let recent = answered.take_while(|seen| seen.at_ms > now_ms - within_ms);
    recent.filter(|seen| seen.audit_number.is_some() && seen.status == 200).count() >= allowed
}

fn is_later_page(request: &Request) -> bool {
    let starts_later = |name| request.parameter(name).is_some_and(|value| value != "0");
    ["pageCursor", "offset", "start"].into_iter().any(starts_later)
}

fn twist(state: &mut State, request: &Request, set: &[Fault], now_ms: i64) -> Twist {
    let later_page = is_later_page(request);
    let mut twist = Twist::default();
    for fault in set {
        match fault {
            Fault::InsertBetweenPages { rows, age_ms } if later_page => {
                for _ in 0..*rows {
                    state.drifted += 1;
                    // Far from the numbers of a test's own rows.
                    let (number, time_ms) = (1_000_000_000 + state.drifted, now_ms - age_ms);
                    let row = match state.options.product {
                        Product::DataCenter => Row::data_center(time_ms, number),
                        Product::Cloud => Row::cloud(time_ms, number),
                    };
                    state.insert(row);
                }
            }
            Fault::EndlessCursor => twist.same_next = true,
            Fault::EmptyPages => twist.empty = true,
            Fault::EmptyPageBetween => twist.empty_between = true,
            Fault::CallsItselfLast => twist.calls_itself_last = !later_page,
            Fault::ForeignNextLink(host) => twist.next_host = Some(host.clone()),
            Fault::PageCap(rows) => twist.rows_max = Some(*rows),
            _ => {}
        }
    }
    twist
}

fn serve(state: &mut State, request: &Request, route: Route, twist: &Twist) -> Reply {
    if route == Route::Unknown || state.options.older_than_7_5 && route.since_7_5() {
        return Reply::html(404, "<html><body>Page not found</body></html>");
    }
    if request.method != "GET" {
        return Reply::text(405, "only GET is simulated");
    }
    if route == Route::Manifest {
        let version = if state.options.older_than_7_5 { "7.4.17" } else { "9.2.1" };
        return Reply::json(200, format!(r#"{{"typeId":"confluence","name":"Wiki","version":"{version}"}}"#));
    }
    if route == Route::TenantInfo {
        return Reply::json(200, format!(r#"{{"cloudId":"{}"}}"#, state.options.cloud_id));
    }
    let caller = match authenticate(state, request, route) {
        Ok(caller) => caller,
        Err(refusal) => return refusal,
    };
    let mut reply = match route {
        Route::Events if caller.admin => data_center::events(state, request, &caller, twist),
        Route::Coverage if caller.admin => data_center::coverage(state),
        Route::Retention if caller.admin => data_center::retention(state),
        Route::Denylist if caller.admin => data_center::denylist(state),
        Route::Tokens => data_center::tokens(state, &caller),
        Route::Legacy if caller.admin => cloud::legacy(state, request, twist),
        Route::Audit | Route::ScopedAudit if caller.admin => cloud::audit(state, request, route, twist),
        _ => Reply::json(403, r#"{"statusCode":403,"message":"User must be a Confluence administrator."}"#),
    };
    if state.options.product == Product::DataCenter {
        reply.header("X-AUSERNAME", &caller.login);
    }
    reply
}

fn authenticate(state: &mut State, request: &Request, route: Route) -> Result<Credential, Reply> {
    let data_center = state.options.product == Product::DataCenter;
    let basic = matches!(request.authorization, Presented::Basic { .. });
    if basic && data_center {
        if state.options.captcha_after.is_some_and(|max| state.failed_logins >= max) {
            state.failed_logins += 1;
            return Err(faults::captcha());
        }
        if !state.options.basic_allowed {
            return Err(Reply::json(
                403,
                r#"{"message":"Basic Authentication has been disabled on this instance."}"#,
            ));
        }
    }
    let (scoped, now_ms) = (route == Route::ScopedAudit, state.clock.now_ms());
    match accounts::caller(&state.credentials, request, scoped, now_ms).cloned() {
        Some(Credential { kind: accounts::Kind::Scoped { reads_audit_log: false }, .. }) => {
            Err(faults::wrong_scope())
        }
        // Cloud accepts no personal access token as a password, and no classic token as Bearer.
        Some(_) if !data_center && !scoped && !basic => Err(unauthorized(data_center, false)),
        Some(caller) => {
            state.failed_logins = 0;
            Ok(caller)
        }
        None => {
            state.failed_logins += u32::from(basic);
            Err(unauthorized(data_center, basic))
        }
    }
}

fn unauthorized(data_center: bool, basic: bool) -> Reply {
    let mut reply = Reply::json(
        401,
        r#"{"message":"Client must be authenticated to access this resource.","status-code":401}"#,
    );
    if data_center {
        reply.header("X-AUSERNAME", "anonymous");
        if basic {
            reply.header("X-Seraph-LoginReason", "AUTHENTICATED_FAILED");
        }
    }
    reply
}
