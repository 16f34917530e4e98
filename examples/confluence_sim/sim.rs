//! A simulated Confluence: both audit APIs from one table of rows, audit files as Confluence writes them, and
//! injected faults.
//!
//! The example, the tests and the benches include this folder by `#[path]`. Reading order: [`rows`] (the
//! data), `routes` (the responses), [`faults`] (injected faults), [`files`] (the files).
#![allow(dead_code, unused_imports, reason = "each of its users takes a part of it")]

pub mod accounts;
mod cloud;
mod data_center;
pub mod faults;
pub mod files;
pub mod records;
mod routes;
pub mod rows;
pub mod server;
pub mod shapes;
mod state;
pub mod time;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeBounds;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use accounts::Credential;
pub use accounts::{
    ADMIN, ADMIN_EMAIL, ADMIN_PASSWORD, ADMIN_TOKEN, Kind, Presented, SCOPED_TOKEN, USER_TOKEN,
    WRONG_SCOPE_TOKEN,
};
pub use faults::{Fault, RateHeaders, Target};
pub use files::{AuditFiles, NameForm};
pub use routes::Route;
pub use rows::{Generated, Row};
use server::Server;
use state::State;
pub use state::{Options, Product, Seen};
pub use time::Clock;

/// A running server. Its methods may be called from any thread. Dropping it closes all connections.
pub struct Sim {
    state: Arc<Mutex<State>>,
    /// `None` while it is disconnected.
    server: Mutex<Option<Server>>,
    port: u16,
    /// Bound to the port without listening, so that nobody else gets it while the server is disconnected.
    _bound: OwnedFd,
}

impl Sim {
    pub fn start(options: Options) -> io::Result<Sim> {
        let (port, bound) = bind(options.port)?;
        let state = Arc::new(Mutex::new(State::new(options)));
        let server = serve(&state, port)?;
        lock(&state).set_port(port);
        Ok(Sim { state, server: Mutex::new(Some(server)), port, _bound: bound })
    }

    /// Data Center on a free port, empty.
    pub fn data_center() -> io::Result<Sim> {
        Sim::start(Options::data_center())
    }

    /// Cloud on a free port, empty.
    pub fn cloud() -> io::Result<Sim> {
        Sim::start(Options::cloud())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Scheme, host, port and context path, without `/` at the end.
    pub fn url(&self) -> String {
        self.state().base.clone()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes any option of a running server except the port.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        let mut state = self.state();
        change(&mut state.options);
        state.set_port(self.port);
    }

    // Rows.

    /// Inserts into the database, and into the file of the node if files are written. Returns the row's id.
    pub fn insert(&self, row: Row) -> u64 {
        self.state().insert(row)
    }

    /// Inserts all at the same instant: no request sees only some of them. A node's file gets them as one
    /// batch.
    pub fn insert_all(&self, rows: impl IntoIterator<Item = Row>) {
        self.state().insert_all(rows.into_iter().collect());
    }

    /// Adds this many generated rows. Call it before any insertion.
    pub fn generate(&self, generated: Generated) {
        self.state().rows.generate(generated);
    }

    /// All inserted rows, oldest first, including audited searches.
    pub fn rows(&self) -> Vec<Row> {
        self.state().rows.inserted().to_vec()
    }

    /// Deletes rows as the retention of the database does.
    pub fn drop_rows_before(&self, time_ms: i64) {
        self.state().rows.drop_before(time_ms);
    }

    // Time.

    pub fn now_ms(&self) -> i64 {
        self.state().clock.now_ms()
    }

    /// Stops the clock at this time until it is set again or advanced.
    pub fn set_clock_ms(&self, now_ms: i64) {
        self.state().clock = Clock::Set(now_ms);
    }

    pub fn advance_clock_ms(&self, by_ms: i64) {
        let mut state = self.state();
        state.clock = state.clock.advanced(by_ms);
    }

    pub fn set_clock(&self, clock: Clock) {
        self.state().clock = clock;
    }

    // Injected faults.

    /// For all audit requests from now on.
    pub fn fault(&self, fault: Fault) {
        self.fault_for(Target::Audit, .., fault);
    }

    /// For this many of the next audit requests.
    pub fn fault_next(&self, requests: u64, fault: Fault) {
        let done = self.state().audit_requests;
        self.fault_for(Target::Audit, done + 1..=done + requests, fault);
    }

    /// For requests by number, counted from 1: among the audit requests (`Target::Audit`), or among all.
    pub fn fault_for(&self, target: Target, requests: impl RangeBounds<u64>, fault: Fault) {
        self.state().faults.push(faults::Set::new(target, requests, fault));
    }

    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Stops listening and closes all connections.
    pub fn disconnect(&self) {
        let server = lock(&self.server).take();
        drop(server);
    }

    /// Listens again on the same port.
    pub fn reconnect(&self) -> io::Result<()> {
        let mut server = lock(&self.server);
        if server.is_none() {
            *server = Some(serve(&self.state, self.port)?);
        }
        Ok(())
    }

    // Credentials.

    pub fn add_credential(&self, credential: Credential) {
        self.state().credentials.push(credential);
    }

    /// Makes this secret invalid.
    pub fn revoke(&self, secret: &str) {
        self.state().credentials.retain(|c| c.secret != secret);
    }

    /// Sets when credentials with this secret expire.
    pub fn expire(&self, secret: &str, at_ms: Option<i64>) {
        for credential in self.state().credentials.iter_mut().filter(|c| c.secret == secret) {
            credential.expires_ms = at_ms;
        }
    }

    /// Simulates a login by browser: failed logins are reset.
    pub fn solve_captcha(&self) {
        self.state().failed_logins = 0;
    }

    /// Sets the audit coverage of an area, as an administrator does.
    pub fn set_coverage(&self, area: &str, level: &str) {
        self.state().set_coverage(area, level);
    }

    /// Sets the actions that are not audited, as an administrator does.
    pub fn set_denied_actions(&self, actions: &[&str]) {
        self.state().denied_actions = actions.iter().map(|action| action.to_string()).collect();
    }

    /// Sets how long events are kept, as an administrator does.
    pub fn set_retention_years(&self, years: u32) {
        self.state().retention_years = years;
    }

    // Recorded requests.

    /// All requests so far, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    pub fn request_count(&self) -> u64 {
        self.state().requests
    }

    /// The requests for audit events.
    pub fn audit_request_count(&self) -> u64 {
        self.state().audit_requests
    }

    /// Deletes the recorded requests. The numbers continue.
    pub fn forget_requests(&self) {
        self.state().seen.clear();
    }

    // Files.

    /// Appends the lines of `node` below this local home from now on. `""`: a server without a cluster.
    pub fn write_files(&self, node: &str, files: AuditFiles) {
        self.state().files.insert(node.into(), files);
    }

    /// Controls the files of a node: rotate, stop, tear.
    pub fn files<T>(&self, node: &str, act: impl FnOnce(&mut AuditFiles, i64) -> T) -> Option<T> {
        let mut state = self.state();
        let now_ms = state.clock.now_ms();
        state.files.get_mut(node).map(|files| act(files, now_ms))
    }
}

/// Binds a port of 127.0.0.1, any free one for 0. A server can listen on it repeatedly.
fn bind(port: u16) -> io::Result<(u16, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, getsockname, socket_with, sockopt};
    let bound = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&bound, true)?;
    rustix::net::bind(&bound, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    let address = SocketAddrV4::try_from(getsockname(&bound)?)?;
    Ok((address.port(), bound))
}

fn serve(state: &Arc<Mutex<State>>, port: u16) -> io::Result<Server> {
    let state = Arc::clone(state);
    Server::start(port, move |request| routes::answer(&mut lock(&state), request))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
