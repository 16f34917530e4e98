//! Checks whether the admin endpoint can be opened.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rustix::fs::Access;

use super::{CheckReport, access, writing};
use crate::config::{AdminConfig, AdminTls};
use crate::credential::Credential;
use crate::telemetry::chain;
use crate::tls;

const SUBJECT: &str = "admin";

/// Prints one line for each part that is configured. Serves nothing.
pub(super) fn check(config: &AdminConfig, state_dir: &Path, report: &mut CheckReport) -> io::Result<()> {
    if let Some(socket) = &config.socket {
        self::socket(socket, report)?;
    }
    if let Some(address) = config.listen {
        self::listen(address, state_dir, report)?;
    }
    if let Some(AdminTls { certificate, private_key, client_ca_file }) = &config.tls
        && let Err(error) = tls::server(certificate, private_key, client_ca_file.as_deref())
    {
        report.failure(SUBJECT, chain(&error))?;
    }
    if let Some(token) = &config.token
        && let Err(error) = Credential::new(token.clone()).read()
    {
        report.failure(SUBJECT, format_args!("the token cannot be read: {}", chain(&error)))?;
    }
    Ok(())
}

/// The agent makes the socket anew in its directory.
fn socket(path: &Path, report: &mut CheckReport) -> io::Result<()> {
    let shown = path.display();
    let directory = path.parent().unwrap_or(Path::new("/"));
    match access::allowed(directory, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => report.ok(SUBJECT, format_args!("socket `{shown}`")),
        // systemd makes the directory at the start.
        Err(access::AccessProblem::Missing(_)) if path.starts_with("/run") => {
            report.ok(SUBJECT, format_args!("socket `{shown}`, whose directory is made at the start"))
        }
        Err(problem) => {
            report.failure(SUBJECT, format_args!("the socket `{shown}` cannot be made: {problem}"))
        }
    }
}

fn listen(address: SocketAddr, state_dir: &Path, report: &mut CheckReport) -> io::Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => report.ok(SUBJECT, format_args!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && writing::is_locked(state_dir) => {
            report.ok(SUBJECT, format_args!("{address} is in use while the agent runs"))
        }
        Err(error) => {
            let way_out = "correct `listen` of `[admin]`, or end what uses the address";
            report.failure(SUBJECT, format_args!("{address} cannot be listened at: {error}; {way_out}"))
        }
    }
}
