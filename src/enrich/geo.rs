//! Location and network of an address, from MaxMind databases on this host.
//!
//! Lookups are in memory. A background thread reads the databases, and reads them again when they are
//! replaced.

mod cache;
mod database;

#[cfg(test)]
#[path = "../../tests/it/rig/mmdb.rs"]
pub(crate) mod mmdb;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::EnrichConfig;
use cache::Cache;
use database::{DatabaseStamp, find, stamp};

pub(crate) use database::{Database, DatabaseError, DatabaseKind};

/// How often the databases are checked for changes. A check costs two calls of `stat`; `geoipupdate` runs
/// once a day at most.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// How long a start waits for the databases, so that the first events have locations: enough for 70 MB from a
/// slow disk. A disk that hangs does not delay the audit trail longer.
const FIRST_READ_MAX: Duration = Duration::from_secs(5);

/// What the databases contain for an address. Unknown fields are `None`; no text is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GeoLocation {
    /// Names are in English.
    pub city_name: Option<String>,
    pub continent_name: Option<String>,
    /// ISO 3166-1: `GB`.
    pub country_iso_code: Option<String>,
    pub country_name: Option<String>,
    /// ISO 3166-2: `GB-ENG`.
    pub region_iso_code: Option<String>,
    pub region_name: Option<String>,
    pub location: Option<Location>,
    /// The number of the autonomous system that announces the address.
    pub as_number: Option<u32>,
    pub as_organization: Option<String>,
}

/// Degrees; both values are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    pub lat: f64,
    pub lon: f64,
}

/// The databases, shared by all sources.
#[derive(Debug)]
pub struct Geo {
    /// Databases without a configured path are searched for below this directory: `/`, or a directory of a
    /// test.
    root: PathBuf,
    configured: [Option<PathBuf>; 2],
    loaded: Mutex<LoadedDatabases>,
    /// Used by the background thread.
    checks: Mutex<[DatabaseCheck; 2]>,
}

#[derive(Debug, Default)]
struct LoadedDatabases {
    databases: [Option<Arc<Database>>; 2],
    cache: Cache,
    /// A damaged database was logged.
    damage_logged: bool,
}

/// The last check of a database.
#[derive(Debug, Default)]
struct DatabaseCheck {
    seen: Option<(PathBuf, Option<DatabaseStamp>)>,
    logged_error: Option<String>,
}

impl Geo {
    /// Reads no database yet.
    pub fn new(config: &EnrichConfig, root: &Path) -> Geo {
        Geo {
            root: root.to_owned(),
            configured: DatabaseKind::ALL.map(|kind| configured(config, kind).map(Path::to_path_buf)),
            loaded: Mutex::default(),
            checks: Mutex::default(),
        }
    }

    /// The location of an address; `None` if the address is not public or unknown. No I/O. Takes about 100 ns
    /// for a recently used address.
    pub fn look_up(&self, ip: IpAddr) -> Option<Arc<GeoLocation>> {
        let ip = ip.to_canonical();
        if !is_public(ip) {
            return None;
        }
        let mut loaded = lock(&self.loaded);
        if loaded.databases.iter().all(Option::is_none) {
            return None;
        }
        if let Some(known) = loaded.cache.get(ip) {
            return known;
        }
        let found = loaded.look_up(ip).map(Arc::new);
        loaded.cache.put(ip, found.clone());
        found
    }

    /// Reads each database that is new or has changed. If it cannot be used, that is logged once, and the
    /// previous one stays in use.
    pub fn refresh(&self) {
        for (at, kind) in DatabaseKind::ALL.into_iter().enumerate() {
            self.refresh_kind(at, kind);
        }
    }

    fn refresh_kind(&self, at: usize, kind: DatabaseKind) {
        let check = &mut lock(&self.checks)[at];
        let Some(path) = self.configured[at].clone().or_else(|| find(&self.root, kind)) else {
            return;
        };
        // Before reading: a change in between is then detected by the next check.
        let seen = Some((path.clone(), stamp(&path)));
        if check.seen == seen {
            return;
        }
        check.seen = seen;
        match Database::open(&path, kind) {
            Ok(database) => {
                check.logged_error = None;
                tracing::info!(
                    path = %path.display(),
                    database = database.database_type(),
                    built = %build_date(&database),
                    "GeoIP database loaded"
                );
                let mut loaded = lock(&self.loaded);
                let old = loaded.databases[at].replace(Arc::new(database));
                loaded.cache = Cache::default();
                loaded.damage_logged = false;
                drop(loaded);
                // The memory of a large database is freed after the lock is released.
                drop(old);
            }
            Err(error) => {
                if matches!(error, DatabaseError::BeingWritten { .. }) {
                    check.seen = None;
                }
                let text = error.to_string();
                if check.logged_error.as_ref() == Some(&text) {
                    return;
                }
                let fields = kind.fields();
                let error = &error as &dyn std::error::Error;
                if lock(&self.loaded).databases[at].is_some() {
                    tracing::warn!(
                        error,
                        "a changed GeoIP database cannot be used; the previous one stays in use"
                    );
                } else {
                    tracing::warn!(error, "a GeoIP database cannot be used; events have no `{fields}`");
                }
                check.logged_error = Some(text);
            }
        }
    }
}

impl LoadedDatabases {
    fn look_up(&mut self, ip: IpAddr) -> Option<GeoLocation> {
        let mut location = GeoLocation::default();
        for database in self.databases.iter().flatten() {
            if let Err(error) = database.look_up(ip, &mut location)
                && !std::mem::replace(&mut self.damage_logged, true)
            {
                let (path, error) = (database.path.display(), &error as &dyn std::error::Error);
                tracing::warn!(%path, %ip, error, "a GeoIP database is damaged or has another layout; run `geoipupdate` again");
            }
        }
        (location != GeoLocation::default()).then_some(location)
    }
}

/// Starts the background thread, and waits for its first check up to `FIRST_READ_MAX`.
pub(crate) fn start(config: &EnrichConfig, root: &Path) -> Option<Arc<Geo>> {
    start_with_interval(CHECK_INTERVAL, config, root)
}

fn start_with_interval(interval: Duration, config: &EnrichConfig, root: &Path) -> Option<Arc<Geo>> {
    if !config.geoip {
        return None;
    }
    let geo = Arc::new(Geo::new(config, root));
    let (ready, first_read) = sync_channel(1);
    let shared = Arc::downgrade(&geo);
    let watch = move || {
        while let Some(geo) = shared.upgrade() {
            geo.refresh();
            drop(geo);
            // The start may not wait any more.
            let _ = ready.try_send(());
            std::thread::park_timeout(interval);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("geoip".to_owned()).spawn(watch) {
        tracing::warn!(%error, "cannot start the thread for GeoIP databases; events have no `source.geo` and `source.as`");
        return None;
    }
    if first_read.recv_timeout(FIRST_READ_MAX) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!(
            "GeoIP databases are still being read; until then events have no `source.geo` and `source.as`"
        );
    }
    Some(geo)
}

/// The databases that would be used, or why they cannot be. `None` if there is none.
pub(crate) fn find_databases(
    config: &EnrichConfig,
    root: &Path,
) -> Vec<(DatabaseKind, Option<Result<Database, DatabaseError>>)> {
    let check = |kind| {
        let path = configured(config, kind).map(Path::to_path_buf).or_else(|| find(root, kind));
        (kind, path.map(|path| Database::open(&path, kind)))
    };
    DatabaseKind::ALL.into_iter().map(check).collect()
}

/// The date of the database, for example `2026-11-20`.
pub(crate) fn build_date(database: &Database) -> String {
    let second = i64::try_from(database.built_at_s()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(second) {
        Ok(time) => time.strftime("%Y-%m-%d").to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

fn configured(config: &EnrichConfig, kind: DatabaseKind) -> Option<&Path> {
    match kind {
        DatabaseKind::City => config.geoip_city.as_deref(),
        DatabaseKind::Asn => config.geoip_asn.as_deref(),
    }
}

/// Whether the address is public. Databases contain no other addresses.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    let shared = first == 100 && (64..128).contains(&second);
    let other = ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared;
    // Excludes 0.0.0.0/8, multicast and reserved addresses.
    !other && (1..224).contains(&first)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let other = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
    !other && !ip.is_unique_local() && !ip.is_unicast_link_local()
}

/// A panic leaves no partial change: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
