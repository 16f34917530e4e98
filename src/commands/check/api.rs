//! Checks an audit API: connection, user, permission to read events, expiry of the token.

use std::io;
use std::net::ToSocketAddrs;

use url::Url;

use super::CheckReport;
use crate::clock;
use crate::config::{ApiConfig, Product};
use crate::delay;
use crate::http::{Client, HttpError, Response};
use crate::source::api::page::{Page, Route};
use crate::source::api::response::{self, ResponseClass, classify};
use crate::source::api::token::{self, Expiry};
use crate::source::api::version::{self, Version};
use crate::source::api::window::Window;
use crate::source::api::window_reader::{Attempts, Endpoint, WindowReader};
use crate::source::api::{audit_settings, cloud_id};

/// Maximum clock difference. The `Date` header has whole seconds and arrives with a delay. Up to the overlap
/// of windows nothing is missed.
const CLOCK_DIFFERENCE_MS_MAX: i64 = 30_000;

/// How far back an event is searched for. Cloud keeps no older ones, and a Confluence without events in a
/// year is not in use.
const LOOKED_BACK_MS: i64 = 365 * 86_400_000;

/// Prints one line per check. Sends at most five small requests, one after another.
pub(super) fn check(subject: &str, config: &ApiConfig, report: &mut CheckReport) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_checks(subject, config, report))
}

async fn run_checks(subject: &str, config: &ApiConfig, report: &mut CheckReport<'_>) -> io::Result<()> {
    let mut client = Client::new(&config.http);
    let mut endpoint = Endpoint::new(config);
    if endpoint.base.is_none() {
        match cloud_id::look_up(&mut client, &config.http.base, &config.product).await {
            Ok(id) => endpoint.set_cloud_id(&id),
            Err(class) => return report.failure(subject, class.message()),
        }
    }
    let Some(base) = endpoint.base.clone() else {
        return Ok(());
    };
    client.allow(base.clone());
    if !check_name(subject, &client, &base, report)? {
        return Ok(());
    }
    let mut response = request_events(&mut client, config, &base, endpoint.route).await;
    if !endpoint.route_known && matches!(response.class, ResponseClass::NotFound { .. }) {
        let version = version::fetch(&mut client, &base).await;
        if version.is_some_and(Version::is_older_than_7_5) {
            response = request_events(&mut client, config, &base, Route::Legacy).await;
            report.warning(
                subject,
                "Confluence is older than 7.5 and has the old audit API only; events have less detail",
            )?;
        }
    }
    let EventsResponse { route, rows, class, result } = response;
    let Ok(answer) = result else {
        return report.failure(subject, class.message());
    };
    check_connection(subject, &base, &answer, report)?;
    if class != ResponseClass::Ok {
        return report.failure(subject, class.message());
    }
    let Response { body, secrets, .. } = answer;
    match Page::parse(route, body, rows) {
        Ok(page) => events(subject, &page, report)?,
        Err(error) => {
            let reason = secrets.redacted(&error.to_string());
            return report.failure(subject, response::not_a_page(reason).message());
        }
    }
    expiry(subject, config, &mut client, &base, report).await?;
    if config.product == Product::DataCenter {
        check_coverage(subject, &mut client, &base, report).await?;
    }
    Ok(())
}

/// A request for events and its response.
struct EventsResponse {
    route: Route,
    rows: usize,
    class: ResponseClass,
    result: Result<Response, HttpError>,
}

/// Sends the request of a first page, with few rows.
async fn request_events(client: &mut Client, config: &ApiConfig, base: &Url, route: Route) -> EventsResponse {
    let now_ms = clock::now_ms();
    let window = Window::new(now_ms - LOOKED_BACK_MS, now_ms, true);
    let reader = WindowReader::new(window, route, Attempts::default());
    let rows = reader.rows_asked(1);
    let result = client.get(&reader.url(base, rows)).await;
    EventsResponse { route, rows, class: classify(&result, &config.product), result }
}

/// Checks the name of the server, unless a proxy resolves it.
fn check_name(subject: &str, client: &Client, base: &Url, report: &mut CheckReport) -> io::Result<bool> {
    if client.via(base).is_some() {
        return Ok(true);
    }
    let host = base.host_str().unwrap_or_default();
    let port = base.port_or_known_default().unwrap_or(443);
    match (host.trim_matches(['[', ']']), port).to_socket_addrs() {
        Ok(addresses) => {
            let mut addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
            addresses.dedup();
            report.ok(subject, format_args!("`{host}` is {}", addresses.join(", ")))?;
            Ok(true)
        }
        Err(error) => {
            let remedy = "correct the URL or this host's DNS, or set `proxy`";
            report
                .failure(subject, format_args!("the name `{host}` does not resolve ({error}); {remedy}"))?;
            Ok(false)
        }
    }
}

fn check_connection(
    subject: &str,
    base: &Url,
    answer: &Response,
    report: &mut CheckReport,
) -> io::Result<()> {
    let url = base.as_str().trim_end_matches('/');
    match base.scheme() {
        "https" => {
            report.ok(subject, format_args!("`{url}` responds, and its TLS certificate is trusted"))?
        }
        _ => report.warning(
            subject,
            format_args!("`{url}` responds, without TLS: the token can be read on the network; use `https`"),
        )?,
    }
    clock_difference(subject, answer, report)?;
    let user = answer.header("x-ausername").filter(|user| !response::is_anonymous(user));
    match user.or_else(|| answer.header("x-aaccountid")) {
        Some(user) => report.ok(subject, format_args!("logged in as `{}`", answer.redacted(user))),
        None => Ok(()),
    }
}

fn clock_difference(subject: &str, answer: &Response, report: &mut CheckReport) -> io::Result<()> {
    let Some(server_ms) = answer.header("date").and_then(delay::parse_date_ms) else {
        return Ok(());
    };
    let ahead_ms = clock::now_ms().saturating_sub(server_ms);
    let (seconds, side) = (ahead_ms.abs() / 1000, if ahead_ms < 0 { "behind" } else { "ahead of" });
    if ahead_ms.abs() <= CLOCK_DIFFERENCE_MS_MAX {
        return report.ok(subject, format_args!("this host's clock agrees with the server's ({seconds} s)"));
    }
    let remedy = "synchronize both clocks: new events are requested by time";
    report.warning(subject, format_args!("this host's clock is {seconds} s {side} the server's; {remedy}"))
}

fn events(subject: &str, page: &Page, report: &mut CheckReport) -> io::Result<()> {
    if page.is_empty() {
        let remedy = "perform an audited action in Confluence, and check again";
        return report.warning(
            subject,
            format_args!("the audit API is readable and contains no event of the past year; {remedy}"),
        );
    }
    report.ok(subject, "the audit API returns events")
}

async fn expiry(
    subject: &str,
    config: &ApiConfig,
    client: &mut Client,
    base: &Url,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let name = config.token.name.as_deref();
    let (token, expires_ms) = match (config.token.expires_ms, &config.product) {
        (Some(recorded_ms), _) => ("the token".to_string(), recorded_ms),
        (None, Product::Cloud { .. }) => {
            let remedy = "write its date as `token_expires`, so that the agent warns in time";
            return report.warning(subject, format_args!("the expiry of the token is unknown; {remedy}"));
        }
        (None, Product::DataCenter) if token::is_listed(config) => {
            match token::fetch(client, base, name, clock::now_ms()).await {
                Ok(Expiry::At { name, expires_ms }) => (format!("the token `{name}`"), expires_ms),
                Ok(Expiry::Never) => return report.ok(subject, "the token never expires"),
                Ok(Expiry::NoSuchToken { names }) => {
                    let names = match names.is_empty() {
                        true => "it has none".to_string(),
                        false => format!("it has {}", names.join(", ")),
                    };
                    let name = name.unwrap_or_default();
                    return report.warning(
                        subject,
                        format_args!(
                            "this user has no token with the name `{name}`; {names}: correct `token_name`"
                        ),
                    );
                }
                Err(class) => {
                    let remedy = "write its date as `token_expires`, so that the agent warns in time";
                    return report.warning(
                        subject,
                        format_args!("the expiry of the token cannot be read ({}); {remedy}", class.name()),
                    );
                }
            }
        }
        (None, Product::DataCenter) => return Ok(()),
    };
    match token::due(expires_ms, clock::now_ms(), None) {
        Some(warning) if warning.days == 0 => report.failure(subject, warning.message()),
        Some(warning) => report.warning(subject, warning.message()),
        None => {
            let date = jiff::Timestamp::from_millisecond(expires_ms).unwrap_or_default();
            report.ok(subject, format_args!("{token} expires on {}", date.strftime("%Y-%m-%d")))
        }
    }
}

/// Prints the coverage levels. Not every version and not every administrator can read them.
async fn check_coverage(
    subject: &str,
    client: &mut Client,
    base: &Url,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let levels = audit_settings::fetch_coverage(client, base).await.unwrap_or_default();
    if levels.is_empty() {
        return report.ok(
            subject,
            "the coverage levels cannot be read here; see them in Confluence's audit log settings",
        );
    }
    if let Some(warning) = audit_settings::coverage_off(&levels) {
        return report.warning(subject, warning);
    }
    let list = audit_settings::coverage_text(&levels);
    report.ok(subject, format_args!("coverage: {list}; logins and views are audited at `full` only"))
}
