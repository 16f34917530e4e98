use reqwest::header::{HeaderName, HeaderValue};

use super::*;
use crate::http::Phase;

fn cloud(scoped: bool) -> Product {
    Product::Cloud { scoped, cloud_id: None, gateway: Url::parse("https://api.atlassian.com").unwrap() }
}

const JSON: &str = "content-type: application/json;charset=UTF-8\n";

/// `headers` are lines.
fn response(status: u16, headers: &str, body: &str) -> Result<Response, HttpError> {
    let headers = headers.lines().map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    });
    Ok(Response { status, headers: headers.collect(), body: body.into(), ..Response::default() })
}

/// The class's name, its cadence and a word of the remedy.
#[track_caller]
fn check(product: &Product, result: Result<Response, HttpError>, name: &str, cadence: Cadence, remedy: &str) {
    let class = classify(&result, product);
    assert_eq!((class.name(), class.cadence()), (name, cadence), "{class:?}");
    assert!(class.message().contains(remedy), "{remedy}: {}", class.message());
}

#[test]
fn every_response_of_a_data_center() {
    use Cadence::*;
    let captcha = "X-Seraph-LoginReason: AUTHENTICATION_DENIED\n";
    let denied = "X-Authentication-Denied-Reason: CAPTCHA_CHALLENGE; login-url=https://wiki.example.com/login.action\n";
    let anonymous = format!("{JSON}X-AUSERNAME: anonymous\n");
    let html = "Content-Type: text/html;charset=UTF-8\n";
    for (status, headers, body, name, cadence, remedy) in [
        (200, JSON, "{}", "ok", Normal, ""),
        (200, "content-type: APPLICATION/JSON\n", "{}", "ok", Normal, ""),
        (200, "content-type: application/vnd.x+json\n", "{}", "ok", Normal, ""),
        (200, &(JSON.to_string() + "X-AUSERNAME: auditor\n"), "{}", "ok", Normal, ""),
        (200, &anonymous, r#"{"entities":[]}"#, "authentication", Slow, "new Personal Access Token"),
        (
            200,
            &(JSON.to_string() + "X-AUSERNAME:  Anonymous \n"),
            "{}",
            "authentication",
            Slow,
            "revoked or expired",
        ),
        (200, &(JSON.to_string() + "X-AUSERNAME: svc-anonymous\n"), "{}", "ok", Normal, ""),
        // Of an earlier login: this one was let in.
        (200, &(JSON.to_string() + denied + captcha), "{}", "ok", Normal, ""),
        (200, html, "<html>Log in", "login_page", Slow, "single sign-on"),
        (200, "content-type: application/xhtml+xml\n", "", "login_page", Slow, "single sign-on"),
        (200, "content-type: text/plain\n", "{}", "protocol", BackOff, "`text/plain` came instead of JSON"),
        (200, "", "{}", "protocol", BackOff, "no content type"),
        (204, "", "", "protocol", BackOff, "status 204"),
        (304, "", "", "protocol", BackOff, "status 304"),
        (400, JSON, "{}", "protocol", BackOff, "status 400"),
        (401, JSON, "{}", "authentication", Slow, "new Personal Access Token"),
        (401, html, "<html>", "authentication", Slow, "new Personal Access Token"),
        (
            401,
            "X-Seraph-LoginReason: AUTHENTICATED_FAILED\n",
            "",
            "authentication",
            Slow,
            "revoked or expired",
        ),
        (401, captcha, "", "captcha", Slow, "log in once with a browser"),
        (403, captcha, "", "captcha", Slow, "log in once with a browser"),
        (403, denied, "", "captcha", Slow, "log in once with a browser"),
        (
            403,
            html,
            "<html><title>Request Rejected</title>",
            "firewall",
            Slow,
            "a web application firewall or a proxy",
        ),
        (403, "", " <!DOCTYPE html>", "firewall", Slow, "requests to the audit API pass"),
        (
            403,
            html,
            "<html><title>Forbidden - Confluence</title>",
            "permission",
            Slow,
            "Confluence Administrator",
        ),
        (403, JSON, "{}", "permission", Slow, "Confluence Administrator"),
        (403, "X-AUSERNAME: auditor\n", "", "permission", Slow, "Basic authentication is switched off"),
        (403, "X-AUSERNAME: anonymous\n", "", "authentication", Slow, "revoked or expired"),
        (404, html, "", "not_found", Slow, "older than 7.5"),
        (404, "X-AUSERNAME: anonymous\n", "", "authentication", Slow, "revoked or expired"),
        (407, "", "", "unreachable", BackOff, "proxy"),
        (429, "Retry-After: 30\n", "", "rate_limited", BackOff, "`poll_interval`"),
        (429, &anonymous, "", "rate_limited", BackOff, "`poll_interval`"),
        (500, JSON, "{}", "server_error", BackOff, "the server's log"),
        (500, JSON, "Too many Concurrent searches", "overloaded", BackOff, "retries with growing"),
        (500, "Retry-After: 30\n", "", "overloaded", BackOff, "retries with growing"),
        (501, "", "", "server_error", BackOff, "the server's log"),
        (502, html, "", "overloaded", BackOff, "retries with growing"),
        (503, "", "", "overloaded", BackOff, "retries with growing"),
        (504, captcha, "", "overloaded", BackOff, "retries with growing"),
    ] {
        check(&Product::DataCenter, response(status, headers, body), name, cadence, remedy);
    }
}

#[test]
fn responses_that_only_cloud_sends() {
    use Cadence::Slow;
    let scope = "X-Failure-Category: FAILURE_CLIENT_SCOPE_CHECK\n";
    check(&cloud(true), response(401, scope, ""), "scope", Slow, "`read:audit-log:confluence`");
    check(&cloud(true), response(401, "", ""), "authentication", Slow, "`scoped = false`");
    check(&cloud(false), response(401, "", ""), "authentication", Slow, "`scoped = true`");
    check(&cloud(false), response(403, JSON, ""), "permission", Slow, "free plan");
    check(&cloud(false), response(404, "", ""), "not_found", Slow, "`site`");
    check(&cloud(true), response(404, "", ""), "not_found", Slow, "`cloud_id`");
}

#[test]
fn failed_requests() {
    use Cadence::*;
    let redirect =
        |kind| Err(HttpError::Redirect { status: 302, to: "https://sso.example.com/".into(), kind });
    let after = std::time::Duration::from_secs(60);
    for (result, name, cadence, remedy) in [
        (redirect(RedirectKind::Login), "login_page", Slow, "single sign-on"),
        (redirect(RedirectKind::OtherOrigin), "login_page", Slow, "`https://sso.example.com/`"),
        (redirect(RedirectKind::ToHttps), "protocol", BackOff, "write `https://`"),
        (redirect(RedirectKind::SameOrigin), "protocol", BackOff, "context path"),
        (Err(HttpError::Timeout { phase: Phase::Idle, after }), "timeout", BackOff, "longer than 60s"),
        (Err(HttpError::TooLarge { bytes_max: 7 }), "too_large", BackOff, "`page_size`"),
        (Err(HttpError::NoHeader { what: "the token".into() }), "credential", Slow, "write it again"),
        (Err(HttpError::Foreign { url: "http://x/".into() }), "credential", Slow, "nothing is sent"),
    ] {
        check(&Product::DataCenter, result, name, cadence, remedy);
    }
    let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let file = HttpError::File { path: "/ca.pem".into(), source };
    check(&cloud(false), Err(file), "credential", Slow, "user read it: permission denied");
    let class = not_a_page("missing field `entities`");
    assert_eq!((class.name(), class.cadence()), ("protocol", BackOff));
    assert!(class.message().contains("missing field `entities`; check that `url`"), "{}", class.message());
}

#[test]
fn a_context_path_is_kept() {
    for (base, expect) in [
        ("https://wiki.example.com/", "https://wiki.example.com/rest/x"),
        ("https://wiki.example.com/confluence", "https://wiki.example.com/confluence/rest/x"),
        ("https://wiki.example.com:8443/a/b/", "https://wiki.example.com:8443/a/b/rest/x"),
    ] {
        assert_eq!(below(&Url::parse(base).unwrap(), "rest/x").as_str(), expect);
    }
}

/// While the account is refused, other windows of time are not tried.
#[test]
fn what_concerns_the_account_and_what_may_be_a_restart() {
    let product = || Product::DataCenter;
    for (class, account, restart) in [
        (ResponseClass::Ok, false, false),
        (ResponseClass::Authentication { product: product() }, true, false),
        (ResponseClass::Captcha, true, false),
        (ResponseClass::Scope, true, false),
        (ResponseClass::Credential { what: String::new() }, true, false),
        (ResponseClass::Permission { product: product() }, false, false),
        (ResponseClass::NotFound { product: product() }, false, true),
        (ResponseClass::LoginPage { what: String::new() }, false, true),
        (ResponseClass::Firewall { status: 403 }, false, false),
        (ResponseClass::RateLimited, false, false),
    ] {
        assert_eq!((class.concerns_account(), class.may_be_restart()), (account, restart), "{class:?}");
    }
}

/// One header of Confluence is enough, and one word in the body.
#[test]
fn a_refusal_by_confluence_is_told_from_one_by_a_firewall() {
    let class =
        |headers: &str, body: &str| classify(&response(403, headers, body), &Product::DataCenter).name();
    assert_eq!(class("", "<html>"), "firewall");
    for name in ["X-AAccountId", "X-ARequestId", "X-ASEN", "X-Confluence-Request-Time", "Atl-TraceId"] {
        assert_eq!(class(&format!("{name}: x\n"), "<html>"), "permission", "{name}");
    }
    for word in ["Confluence", "ATLASSIAN", "ajs-context", "Not permitted to perform this operation"] {
        assert_eq!(class("", &format!("<html>{word}")), "permission", "{word}");
    }
    // A page is HTML by its declaration or by its text.
    assert_eq!(class("content-type: text/html\n", "refused"), "firewall");
    assert_eq!(class("content-type: text/plain\n", "refused"), "permission");
}
