//! The state of the server.

use std::collections::BTreeMap;

use super::accounts::{Credential, Presented, defaults};
use super::faults::Set;
use super::files::AuditFiles;
use super::routes::Route;
use super::rows::{Row, Rows};
use super::time::Clock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    DataCenter,
    Cloud,
}

/// The behaviour of the server without faults.
#[derive(Debug, Clone)]
pub struct Options {
    pub product: Product,
    /// 0: any free one.
    pub port: u16,
    /// Data Center only: `""`, or a path that starts with `/`.
    pub context_path: String,
    /// Before 7.5: audit events are only at `/rest/api/audit`.
    pub older_than_7_5: bool,
    /// Sources differ on whether the last page has `next…` members.
    pub next_on_last_page: bool,
    /// Maximum page size, whatever is requested.
    pub page_rows_max: usize,
    /// Whether a search of the audit log is audited.
    pub searches_are_audited: bool,
    /// Accept Basic with a password or token, in addition to Bearer.
    pub basic_allowed: bool,
    /// After this many failed logins by Basic, a CAPTCHA is required for the user.
    pub captcha_after: Option<u32>,
    /// Send `X-RateLimit-…` on ordinary responses.
    pub rate_headers: bool,
    /// Number of requests for audit events per milliseconds that are answered. Others get 429 without a
    /// delay.
    pub rate_limit: Option<(usize, i64)>,
    /// Requests with this `from` get 500: a row in that window breaks the server.
    pub fails_from: Option<String>,
    pub cloud_id: String,
    /// The site's base URL in events.
    pub system: String,
    /// The node that responds; `""` without a cluster.
    pub serving_node: String,
}

impl Options {
    pub fn data_center() -> Options {
        Options {
            product: Product::DataCenter,
            port: 0,
            context_path: String::new(),
            older_than_7_5: false,
            next_on_last_page: false,
            page_rows_max: 1_000,
            searches_are_audited: true,
            basic_allowed: true,
            captcha_after: None,
            rate_headers: false,
            rate_limit: None,
            fails_from: None,
            cloud_id: "6f0a9d6c-1f5e-4f43-9d0a-7b1f54a1c001".into(),
            system: "https://wiki.example.com".into(),
            serving_node: String::new(),
        }
    }

    pub fn cloud() -> Options {
        Options { product: Product::Cloud, searches_are_audited: false, ..Options::data_center() }
    }
}

/// One request, for assertions.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Number among all requests, from 1.
    pub number: u64,
    /// Number among requests for audit events, from 1.
    pub audit_number: Option<u64>,
    /// By the simulated clock.
    pub at_ms: i64,
    pub method: String,
    pub route: Route,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Names in lower case, without headers that contain secrets.
    pub headers: Vec<(String, String)>,
    pub authorization: Presented,
    pub proxy_authorization: Presented,
    pub via_proxy: bool,
    pub connection: u64,
    /// The status of the response.
    pub status: u16,
    pub rows: usize,
}

impl Seen {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

pub struct State {
    pub options: Options,
    /// Scheme, host, port and context path.
    pub base: String,
    pub clock: Clock,
    pub rows: Rows,
    pub credentials: Vec<Credential>,
    pub failed_logins: u32,
    pub faults: Vec<Set>,
    pub seen: Vec<Seen>,
    pub requests: u64,
    pub audit_requests: u64,
    /// Level by area.
    pub coverage: BTreeMap<String, String>,
    /// Actions that are not audited.
    pub denied_actions: Vec<String>,
    pub retention_years: u32,
    /// By node.
    pub files: BTreeMap<String, AuditFiles>,
    /// Rows that [`super::Fault::InsertBetweenPages`] has inserted.
    pub drifted: u64,
}

impl State {
    pub fn new(options: Options) -> State {
        let areas = [
            "AUDIT_LOG",
            "GLOBAL_CONFIG_AND_ADMINISTRATION",
            "USER_MANAGEMENT",
            "PERMISSIONS",
            "LOCAL_CONFIG_AND_ADMINISTRATION",
            "SECURITY",
            "END_USER_ACTIVITY",
            "ECOSYSTEM",
        ];
        State {
            base: String::new(),
            clock: Clock::Real { ahead_ms: 0 },
            rows: Rows::default(),
            credentials: defaults(options.product == Product::Cloud),
            failed_logins: 0,
            faults: Vec::new(),
            seen: Vec::new(),
            requests: 0,
            audit_requests: 0,
            coverage: areas.map(|area| (area.to_owned(), "BASE".to_owned())).into(),
            denied_actions: Vec::new(),
            retention_years: 3,
            files: BTreeMap::new(),
            drifted: 0,
            options,
        }
    }

    pub fn set_port(&mut self, port: u16) {
        let context = match self.options.product {
            Product::DataCenter => self.options.context_path.as_str(),
            Product::Cloud => "",
        };
        self.base = format!("http://127.0.0.1:{port}{context}");
    }

    pub fn set_coverage(&mut self, area: &str, level: &str) {
        self.coverage.insert(area.into(), level.into());
    }

    pub fn insert(&mut self, row: Row) -> u64 {
        self.append_to_files(std::slice::from_ref(&row));
        self.rows.insert(row)
    }

    pub fn insert_all(&mut self, rows: Vec<Row>) {
        self.append_to_files(&rows);
        for row in rows {
            self.rows.insert(row);
        }
    }

    fn append_to_files(&mut self, rows: &[Row]) {
        let now_ms = self.clock.now_ms();
        for (node, files) in &mut self.files {
            let mine = rows.iter().filter(|row| row.in_file && row.node == *node);
            let lines: Vec<&str> = mine.filter_map(|row| row.line.as_deref()).collect();
            if !lines.is_empty() {
                files.append(now_ms, &lines);
            }
        }
    }
}
