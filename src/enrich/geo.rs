//! Where an address is and whose network it is in, from MaxMind databases on this host.
//!
//! Lookups are in memory. A thread of its own reads the databases, at first and again when they are replaced.

mod cache;
mod database;

#[cfg(test)]
#[path = "../../tests/it/rig/mmdb.rs"]
pub mod mmdb;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::EnrichConfig;
use cache::Cache;
use database::{Stamp, find, stamp};

pub use database::{Database, DatabaseError, Kind};

/// A look is two calls of `stat`; `geoipupdate` runs once a day at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// A start waits so long for the first reading, so that the first events are not without: 70 MB from a slow disk. One that
/// hangs does not hold up the audit trail.
const FIRST_READ: Duration = Duration::from_secs(5);

/// What the databases know of an address. What they do not know is missing; no text is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GeoLocation {
    /// Names are English.
    pub city_name: Option<String>,
    pub continent_name: Option<String>,
    /// ISO 3166-1: `GB`.
    pub country_iso_code: Option<String>,
    pub country_name: Option<String>,
    /// ISO 3166-2: `GB-ENG`.
    pub region_iso_code: Option<String>,
    pub region_name: Option<String>,
    pub location: Option<Location>,
    /// Of the autonomous system that announces the address.
    pub as_number: Option<u32>,
    pub as_organization: Option<String>,
}

/// Degrees; both are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    pub lat: f64,
    pub lon: f64,
}

/// The databases, shared by all sources.
#[derive(Debug)]
pub struct Geo {
    /// Where databases are looked for that are not configured: `/`, or what a test has made of it.
    root: PathBuf,
    configured: [Option<PathBuf>; 2],
    loaded: Mutex<Loaded>,
    /// Used by the thread that looks.
    looks: Mutex<[Look; 2]>,
}

#[derive(Debug, Default)]
struct Loaded {
    databases: [Option<Arc<Database>>; 2],
    cache: Cache,
    /// A database has been found damaged; told once.
    damage_told: bool,
}

/// What the last look at a kind of database found.
#[derive(Debug, Default)]
struct Look {
    seen: Option<(PathBuf, Option<Stamp>)>,
    told: Option<String>,
}

impl Geo {
    /// Reads nothing yet.
    pub fn new(config: &EnrichConfig, root: &Path) -> Geo {
        Geo {
            root: root.to_owned(),
            configured: Kind::ALL.map(|kind| configured(config, kind).map(Path::to_path_buf)),
            loaded: Mutex::default(),
            looks: Mutex::default(),
        }
    }

    /// What is known of an address; `None` for one that is not public. Does no I/O, and takes some 100 ns for an address that was
    /// asked for lately.
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

    /// Reads each database that is new or has changed. One that cannot be used is told once, and the one that was read
    /// before stays.
    pub fn refresh(&self) {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            self.refresh_kind(at, kind);
        }
    }

    fn refresh_kind(&self, at: usize, kind: Kind) {
        let look = &mut lock(&self.looks)[at];
        let Some(path) = self.configured[at].clone().or_else(|| find(&self.root, kind)) else {
            return;
        };
        // Before it is read: a change in between is seen as one later.
        let seen = Some((path.clone(), stamp(&path)));
        if look.seen == seen {
            return;
        }
        look.seen = seen;
        match Database::open(&path, kind) {
            Ok(database) => {
                look.told = None;
                tracing::info!(
                    path = %path.display(),
                    database = database.database_type(),
                    built = %build_date(&database),
                    "a GeoIP database has been read"
                );
                let mut loaded = lock(&self.loaded);
                let old = loaded.databases[at].replace(Arc::new(database));
                loaded.cache = Cache::default();
                loaded.damage_told = false;
                drop(loaded);
                // The memory of a large one is given back while no event waits.
                drop(old);
            }
            Err(error) => {
                if matches!(error, DatabaseError::BeingWritten { .. }) {
                    look.seen = None;
                }
                let text = error.to_string();
                if look.told.as_ref() == Some(&text) {
                    return;
                }
                let fields = kind.fields();
                let error = &error as &dyn std::error::Error;
                if lock(&self.loaded).databases[at].is_some() {
                    tracing::warn!(
                        error,
                        "a changed GeoIP database cannot be used; the one that was read before is"
                    );
                } else {
                    tracing::warn!(
                        error,
                        "a GeoIP database cannot be used; events go out without `{fields}`"
                    );
                }
                look.told = Some(text);
            }
        }
    }
}

impl Loaded {
    fn look_up(&mut self, ip: IpAddr) -> Option<GeoLocation> {
        let mut place = GeoLocation::default();
        for database in self.databases.iter().flatten() {
            if let Err(error) = database.look_up(ip, &mut place)
                && !std::mem::replace(&mut self.damage_told, true)
            {
                let (path, error) = (database.path.display(), &error as &dyn std::error::Error);
                tracing::warn!(%path, %ip, error, "a GeoIP database is damaged or laid out differently; run `geoipupdate` again");
            }
        }
        (place != GeoLocation::default()).then_some(place)
    }
}

/// Begins to read the databases and to look after them. The first reading is waited for, within limits.
pub fn start(config: &EnrichConfig, root: &Path) -> Option<Arc<Geo>> {
    start_at(LOOK_INTERVAL, config, root)
}

fn start_at(interval: Duration, config: &EnrichConfig, root: &Path) -> Option<Arc<Geo>> {
    if !config.geoip {
        return None;
    }
    let geo = Arc::new(Geo::new(config, root));
    let (tell, first_read) = sync_channel(1);
    let shared = Arc::downgrade(&geo);
    let look_after = move || {
        while let Some(geo) = shared.upgrade() {
            geo.refresh();
            drop(geo);
            // The start may have gone on without.
            let _ = tell.try_send(());
            std::thread::park_timeout(interval);
        }
    };
    if let Err(error) = std::thread::Builder::new()
        .name("geoip".to_owned())
        .spawn(look_after)
    {
        tracing::warn!(%error, "no thread for GeoIP databases; events go out without `source.geo` and `source.as`");
        return None;
    }
    if first_read.recv_timeout(FIRST_READ) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!(
            "GeoIP databases are still being read; until they are, events go out without `source.geo` and `source.as`"
        );
    }
    Some(geo)
}

/// The file of each kind of database that would be read, and why not where it is configured or found and cannot be.
pub fn look(config: &EnrichConfig, root: &Path) -> Vec<(Kind, Option<Result<Database, DatabaseError>>)> {
    let look = |kind| {
        let path = configured(config, kind)
            .map(Path::to_path_buf)
            .or_else(|| find(root, kind));
        (kind, path.map(|path| Database::open(&path, kind)))
    };
    Kind::ALL.into_iter().map(look).collect()
}

/// The day it was built: `2026-11-20`.
pub fn build_date(database: &Database) -> String {
    let second = i64::try_from(database.built_at_s()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(second) {
        Ok(time) => time.strftime("%Y-%m-%d").to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

fn configured(config: &EnrichConfig, kind: Kind) -> Option<&Path> {
    match kind {
        Kind::City => config.geoip_city.as_deref(),
        Kind::Asn => config.geoip_asn.as_deref(),
    }
}

/// Whether an address may be anywhere in the world: the others are in no database.
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
    // 0.0.0.0/8 and, from 224.0.0.0 on, multicast and reserved.
    !other && (1..224).contains(&first)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let other = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
    !other && !ip.is_unique_local() && !ip.is_unicast_link_local()
}

/// What a panic left is whole: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
