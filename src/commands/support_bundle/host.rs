//! Versions of the host, owners and permissions of paths, and free space.

use super::service::output_of;
use crate::access::{group_name, user_name};
use crate::commands::check::files::human_size;
use crate::config::{Config, DestinationConfig, FileLocation, SinkKind, TlsConfig, Transport, audit_dir};
use crate::record::time;
use crate::telemetry::escape::escape_path;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Files of a directory that are listed.
const FILES_MAX: usize = 1000;

pub(super) fn versions() -> String {
    let kernel = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let mut out = format!(
        "agent    {} {}\nkernel   {} {} {}\n",
        crate::NAME,
        crate::VERSION,
        text(kernel.sysname()),
        text(kernel.release()),
        text(kernel.machine())
    );
    let systemd = output_of("systemctl", &["--version"]).unwrap_or_else(|error| error);
    let _ = writeln!(out, "systemd  {}", systemd.lines().next().unwrap_or_default());
    let user = crate::access::user();
    let _ = writeln!(out, "user     {} ({}), who made this bundle", user.name, user.uid);
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        if let Ok(release) = std::fs::read_to_string(path) {
            let _ = write!(out, "\n{path}:\n{release}");
            break;
        }
    }
    out
}

/// Paths that the configuration names, besides the state directory and the configuration file.
fn configured(config: &Config) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let (mut paths, mut directories) = (BTreeSet::new(), BTreeSet::new());
    for source in &config.sources {
        match source.files.as_ref().map(|files| &files.location) {
            Some(FileLocation::Home { dir, .. }) => drop(directories.insert(audit_dir(dir))),
            Some(FileLocation::Files(patterns)) => {
                let fixed = patterns.iter().map(|pattern| before_pattern(pattern));
                directories.extend(fixed);
            }
            None => {}
        }
        paths.extend(source.api.iter().flat_map(|api| files_of(&api.http.tls)));
        for sink in &config.sinks {
            match &sink.kind {
                SinkKind::File(file) => {
                    directories.extend(file.path_for(&source.name).parent().map(Path::to_owned));
                    paths.insert(file.path_for(&source.name));
                }
                SinkKind::Remote(remote) => {
                    paths.extend(tls_of(&remote.destination).into_iter().flat_map(files_of));
                }
                SinkKind::Stdout => {}
            }
        }
    }
    paths.extend(config.secret_files.iter().cloned());
    paths.extend(config.admin.socket.clone());
    (paths, directories)
}

fn tls_of(destination: &DestinationConfig) -> Option<&TlsConfig> {
    match destination {
        DestinationConfig::Http(sink) => Some(&sink.http.tls),
        DestinationConfig::Elasticsearch(sink) => Some(&sink.http.tls),
        DestinationConfig::Sentinel(sink) => Some(&sink.http.tls),
        DestinationConfig::SplunkHec(sink) => Some(&sink.http.tls),
        DestinationConfig::Kafka(sink) => sink.tls.as_ref(),
        DestinationConfig::Syslog(sink) => match &sink.transport {
            Transport::Tls(tls) => Some(tls),
            Transport::Tcp | Transport::Udp => None,
        },
    }
}

/// Certificates and keys.
fn files_of(tls: &TlsConfig) -> Vec<PathBuf> {
    let client = tls.client_certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
    tls.ca_file.iter().chain(client).cloned().collect()
}

/// The directory of a pattern, up to its first sign.
fn before_pattern(pattern: &str) -> PathBuf {
    let fixed = pattern.split(['*', '?', '[']).next().unwrap_or_default();
    match fixed.rsplit_once('/') {
        Some((directory, _)) if !directory.is_empty() => directory.into(),
        _ => "/".into(),
    }
}

/// Owner, group and mode of each path with all directories above it, and the files in the directories.
pub(super) fn paths(config: &Config, config_file: &Path) -> String {
    let (mut all, mut directories) = configured(config);
    all.insert(config_file.to_owned());
    directories.insert(config.state_dir.clone());
    all.extend(directories.iter().cloned());
    let above = all.iter().flat_map(|path| path.ancestors()).map(Path::to_owned);
    let mut all: BTreeSet<PathBuf> = above.collect();
    let mut left_out = 0;
    for directory in &directories {
        let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for (number, file) in files.enumerate() {
            match number < FILES_MAX {
                true => drop(all.insert(file.path())),
                false => left_out += 1,
            }
        }
    }
    let mut out = String::from("MODE    OWNER:GROUP  BYTES  CHANGED  PATH\n");
    for path in &all {
        let _ = writeln!(out, "{}", entry(path));
    }
    if left_out > 0 {
        let _ = writeln!(out, "… and {left_out} more files");
    }
    out
}

fn entry(path: &Path) -> String {
    let shown = escape_path(path);
    match std::fs::symlink_metadata(path) {
        Ok(found) => {
            let kind = found.file_type();
            let kind = if kind.is_dir() {
                'd'
            } else if kind.is_symlink() {
                'l'
            } else if kind.is_socket() {
                's'
            } else {
                '-'
            };
            let target = std::fs::read_link(path).map(|to| format!(" -> {}", escape_path(&to)));
            format!(
                "{kind}{:04o}  {}:{}  {}  {}  {shown}{}",
                found.mode() & 0o7777,
                user_name(found.uid()),
                group_name(found.gid()),
                found.len(),
                String::from_utf8_lossy(&time::iso(found.mtime().saturating_mul(1000))),
                target.unwrap_or_default()
            )
        }
        Err(error) => format!("?      {shown}: {error}"),
    }
}

/// Free space and free inodes of the file systems.
pub(super) fn disks(config: &Config) -> String {
    let (_, mut directories) = configured(config);
    directories.insert(config.state_dir.clone());
    let mut out = String::new();
    for path in directories {
        let shown = escape_path(&path);
        let line = match rustix::fs::statvfs(&path) {
            Ok(found) => format!(
                "{shown}: {} of {} free, {} of {} inodes free",
                human_size(found.f_bavail.saturating_mul(found.f_frsize)),
                human_size(found.f_blocks.saturating_mul(found.f_frsize)),
                found.f_favail,
                found.f_files
            ),
            Err(error) => format!("{shown}: {error}"),
        };
        let _ = writeln!(out, "{line}");
    }
    out
}
