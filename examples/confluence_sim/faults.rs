//! Injected faults.

use std::ops::Bound;
use std::ops::RangeBounds;
use std::time::Duration;

use super::server::{Body, Reply};
use super::time::{http_date, iso};

/// A fault of the server. Several faults of one request are combined in the order in which they were set.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Before each page but the first, this many rows are inserted, this much older than the clock: pages
    /// shift.
    InsertBetweenPages {
        rows: usize,
        age_ms: i64,
    },
    /// The cursor or next link of each page leads to the same page again.
    EndlessCursor,
    /// No rows, but a next page.
    EmptyPages,
    /// Before the second page of a window there is an empty one with a next page.
    EmptyPageBetween,
    /// The first page of a window claims to be the last one, but has a cursor.
    CallsItselfLast,
    /// Next links have this scheme and host.
    ForeignNextLink(String),
    /// Maximum page size, whatever is requested.
    PageCap(usize),
    /// 200 with an HTML page, as from single sign-on and proxies.
    LoginPage,
    /// 302 to this URL.
    Redirect(String),
    Unauthorized,
    Forbidden,
    /// As after too many failed logins.
    Captcha,
    /// The response to a Cloud token without the scope.
    WrongScope,
    /// 429.
    TooManyRequests(RateHeaders),
    /// 500 with the text that other searches are running.
    TooManySearches,
    /// This status, these headers and a short text.
    Status(u16, Vec<(String, String)>),
    NotJson,
    /// 400, as for an expired cursor.
    InvalidCursor,
    /// 403 with an HTML page of a web application firewall.
    Firewall,
    /// 200 with this JSON.
    Json(String),
    /// A member of the envelope is missing.
    MissingMember(&'static str),
    /// No response for this time.
    SlowHead(Duration),
    /// Pauses after this many bytes of the body, repeatedly.
    SlowBody {
        bytes: usize,
        pause: Duration,
    },
    /// The promised length is never reached: endless blanks, as fast as they are read.
    EndlessBody,
    /// The real response after this many bytes of blanks for each requested row, to exceed a limit of the
    /// body.
    PaddedRows(usize),
    /// The connection closes after this many bytes of the body.
    CutBody(usize),
    /// The connection closes without a response.
    Hangup,
}

/// The ways in which servers announce a delay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RateHeaders {
    Absent,
    Seconds(i64),
    /// `Retry-After` as a date, this many seconds after the simulated clock. Negative values are in the past.
    HttpDate(i64),
    /// `X-RateLimit-Reset` as an ISO date in minutes, as in Cloud.
    IsoReset(i64),
    /// `X-RateLimit-Reset` in seconds since 1970.
    EpochReset(i64),
    /// `X-RateLimit-Reset` in seconds from now.
    DeltaReset(i64),
    /// Data Center's headers: limit, remaining, fill rate, interval and `Retry-After`.
    Bucket(i64),
    Huge,
    Garbage,
}

impl RateHeaders {
    pub fn list(self, now_ms: i64) -> Vec<(String, String)> {
        let one = |name: &str, value: String| vec![(name.to_owned(), value)];
        match self {
            RateHeaders::Absent => Vec::new(),
            RateHeaders::Seconds(s) => one("Retry-After", s.to_string()),
            RateHeaders::HttpDate(s) => one("Retry-After", http_date(now_ms + s * 1_000)),
            RateHeaders::IsoReset(s) => {
                let minute_ms = (now_ms + s * 1_000).div_euclid(60_000) * 60_000;
                one("X-RateLimit-Reset", iso(minute_ms).replace(":00Z", "Z"))
            }
            RateHeaders::EpochReset(s) => one("X-RateLimit-Reset", (now_ms / 1_000 + s).to_string()),
            RateHeaders::DeltaReset(s) => one("X-RateLimit-Reset", s.to_string()),
            RateHeaders::Bucket(s) => {
                let mut list = bucket(0);
                list.push(("Retry-After".into(), s.to_string()));
                list
            }
            RateHeaders::Huge => one("Retry-After", "99999999999999999999".into()),
            RateHeaders::Garbage => one("Retry-After", "soon".into()),
        }
    }
}

/// The rate limit headers of Data Center, on ordinary responses too.
pub fn bucket(remaining: u32) -> Vec<(String, String)> {
    [
        ("X-RateLimit-Limit", "50".to_owned()),
        ("X-RateLimit-Remaining", remaining.to_string()),
        ("X-RateLimit-FillRate", "2".to_owned()),
        ("X-RateLimit-Interval-Seconds", "10".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// The requests that a fault applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Requests for audit events, by any of the three paths.
    Audit,
    /// Requests for a later page of a window.
    LaterPages,
    /// All other requests: settings, tokens, the cloud id.
    Other,
    All,
}

/// A fault and its requests. They are counted from 1; audit requests are counted separately.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    pub target: Target,
    pub first: u64,
    pub last: u64,
    pub fault: Fault,
}

impl Set {
    pub fn new(target: Target, requests: impl RangeBounds<u64>, fault: Fault) -> Set {
        let first = match requests.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n + 1,
            Bound::Unbounded => 0,
        };
        let last = match requests.end_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n.saturating_sub(1),
            Bound::Unbounded => u64::MAX,
        };
        Set { target, first, last, fault }
    }

    /// `audit`: the number among audit requests, if it is one. `all`: the number among all requests.
    pub fn hits(&self, audit: Option<u64>, later_page: bool, all: u64) -> bool {
        let number = match (self.target, audit) {
            (Target::LaterPages, Some(number)) if later_page => number,
            (Target::Audit, Some(number)) => number,
            (Target::All, _) | (Target::Other, None) => all,
            _ => return false,
        };
        (self.first..=self.last).contains(&number)
    }
}

const HTML: &str = "<!DOCTYPE html><html><head><title>Log in</title></head><body><form action=\"/login\" method=\"post\"></form></body></html>";

/// The response that replaces the real one.
pub fn instead(fault: &Fault, now_ms: i64) -> Option<Reply> {
    let with = |status: u16, headers: &[(&str, &str)]| {
        let mut reply = Reply::text(status, "");
        for (name, value) in headers {
            reply.header(name, value);
        }
        reply
    };
    Some(match fault {
        Fault::LoginPage => Reply::html(200, HTML),
        Fault::Redirect(url) => with(302, &[("Location", url)]),
        Fault::Unauthorized => {
            with(401, &[("X-AUSERNAME", "anonymous"), ("X-Seraph-LoginReason", "AUTHENTICATED_FAILED")])
        }
        Fault::Forbidden => {
            Reply::html(403, "<html><body>You are not permitted to perform this operation.</body></html>")
        }
        Fault::Captcha => captcha(),
        Fault::WrongScope => wrong_scope(),
        Fault::TooManyRequests(headers) => {
            let mut reply = Reply::json(429, r#"{"message":"Rate limit exceeded."}"#);
            reply.headers.extend(headers.list(now_ms));
            reply
        }
        Fault::TooManySearches => Reply::json(
            500,
            r#"[{"message":"There are too many concurrent searches of the audit log. Try again later."}]"#,
        ),
        Fault::Status(status, headers) => {
            let mut reply = Reply::text(*status, "simulated");
            reply.headers.extend(headers.iter().cloned());
            reply
        }
        Fault::InvalidCursor => Reply::json(400, r#"[{"message":"The page cursor is invalid."}]"#),
        Fault::Firewall => Reply::html(
            403,
            "<html><head><title>Request Rejected</title></head><body>The requested URL was rejected. Your support ID is: 1234567890</body></html>",
        ),
        Fault::Json(json) => Reply::json(200, json.clone()),
        Fault::NotJson => Reply::json(200, "{\"entities\":[{\"timestamp\":\"20"),
        Fault::Hangup => Reply { body: Body::Hangup, ..Reply::text(500, "") },
        _ => return None,
    })
}

pub fn captcha() -> Reply {
    let mut reply = Reply::html(403, "<html><body>CAPTCHA required</body></html>");
    reply.header("X-Seraph-LoginReason", "AUTHENTICATION_DENIED");
    reply.header("X-Authentication-Denied-Reason", "CAPTCHA_CHALLENGE; login-url=/login.action");
    reply
}

pub fn wrong_scope() -> Reply {
    let mut reply = Reply::json(401, r#"{"code":401,"message":"Unauthorized; scope does not match"}"#);
    reply.header("X-Failure-Category", "FAILURE_CLIENT_SCOPE_CHECK");
    reply
}

/// Changes of a response while it is sent.
pub fn spoil(fault: &Fault, mut reply: Reply, rows: usize) -> Reply {
    let bytes = match reply.body {
        Body::Bytes(bytes) => bytes,
        spoilt => {
            return Reply { body: spoilt, ..reply };
        }
    };
    reply.body = match fault {
        Fault::MissingMember(name) => Body::Bytes(without(&bytes, name)),
        Fault::SlowHead(pause) => Body::SlowHead { pause: *pause, bytes },
        Fault::SlowBody { bytes: piece, pause } => {
            Body::Slow { piece: (*piece).max(1), pause: *pause, bytes }
        }
        Fault::EndlessBody => Body::Endless,
        Fault::PaddedRows(padding) => {
            let mut padded = vec![b' '; padding * rows];
            padded.extend(bytes);
            Body::Bytes(padded)
        }
        Fault::CutBody(after) => Body::Cut { after: *after, bytes },
        _ => Body::Bytes(bytes),
    };
    reply
}

fn without(json: &[u8], member: &str) -> Vec<u8> {
    match serde_json::from_slice(json) {
        Ok(serde_json::Value::Object(mut envelope)) => {
            envelope.remove(member);
            serde_json::Value::Object(envelope).to_string().into_bytes()
        }
        _ => json.to_vec(),
    }
}
