//! One MaxMind database in memory.
//!
//! It is not a memory map: a database that is rewritten in place would invalidate the pages during lookups.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader};
use rustix::fs::{Mode, OFlags};

use super::{GeoLocation, Location};
use serde::Deserialize;

/// Twice the largest database of MaxMind with these fields. Bounds the memory.
const DATABASE_BYTES_MAX: u64 = 512 << 20;

/// The directories of `geoipupdate`: as packaged by distributions, in Debian, and compiled from source.
const DIRECTORIES: [&str; 3] = ["/usr/share/GeoIP", "/var/lib/GeoIP", "/usr/local/share/GeoIP"];

/// The content of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseKind {
    City,
    Asn,
}

impl DatabaseKind {
    pub(crate) const ALL: [DatabaseKind; 2] = [DatabaseKind::City, DatabaseKind::Asn];

    /// The configuration key for its path.
    pub(crate) fn key(self) -> &'static str {
        match self {
            DatabaseKind::City => "geoip_city",
            DatabaseKind::Asn => "geoip_asn",
        }
    }

    /// The fields that need this database.
    pub(crate) fn fields(self) -> &'static str {
        match self {
            DatabaseKind::City => "source.geo",
            DatabaseKind::Asn => "source.as",
        }
    }

    /// Paid editions first, because they contain more.
    fn file_names(self) -> &'static [&'static str] {
        match self {
            DatabaseKind::City => &["GeoIP2-Enterprise.mmdb", "GeoIP2-City.mmdb", "GeoLite2-City.mmdb"],
            DatabaseKind::Asn => &["GeoIP2-ISP.mmdb", "GeoLite2-ASN.mmdb"],
        }
    }

    /// Whether the type in the database's metadata fits. Databases of other vendors are accepted unless they
    /// are clearly of the other kind.
    fn fits(self, database_type: &str) -> bool {
        let has = |words: &[&str]| words.iter().any(|word| database_type.contains(word));
        match self {
            DatabaseKind::City => !has(&["ASN", "ISP"]),
            DatabaseKind::Asn => !has(&["City", "Country"]),
        }
    }
}

/// The first database of this kind in the directories of `geoipupdate` below `root`.
pub(super) fn find(root: &Path, kind: DatabaseKind) -> Option<PathBuf> {
    let names = kind.file_names().iter();
    let mut candidates = names.flat_map(|name| DIRECTORIES.map(|dir| root.join(&dir[1..]).join(name)));
    candidates.find(|path| path.is_file())
}

/// Device, inode, size and modification time. Differs for a file that was replaced or rewritten.
pub(super) type DatabaseStamp = (u64, u64, u64, i64, i64);

pub(super) fn stamp(path: &Path) -> Option<DatabaseStamp> {
    path.metadata().ok().as_ref().map(stamp_of)
}

fn stamp_of(found: &Metadata) -> DatabaseStamp {
    (found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec())
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Denied(String),
    #[error("`{}` is not a regular file; name the `.mmdb` file itself", path.display())]
    NotAFile { path: PathBuf },
    #[error("`{}` has {bytes} bytes, more than {DATABASE_BYTES_MAX}; name a smaller edition", path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("`{}` needs {bytes} bytes of memory, which are not available", path.display())]
    NoMemory { path: PathBuf, bytes: u64 },
    #[error("`{}` is being written", path.display())]
    BeingWritten { path: PathBuf },
    #[error("`{}` is not a complete MaxMind database, or has another layout; run `geoipupdate` again", path.display())]
    Broken { path: PathBuf, source: MaxMindDbError },
    #[error("`{}` has the type `{found}`, which is not what `{key}` requires", path.display())]
    OtherKind { path: PathBuf, found: String, key: &'static str },
}

/// A database in memory.
#[derive(Debug)]
pub(crate) struct Database {
    pub path: PathBuf,
    kind: DatabaseKind,
    reader: Reader<Vec<u8>>,
}

impl Database {
    /// Reads a file and checks its structure, and some addresses across it: an incomplete file mostly fails
    /// for one of them. Other parts are checked by lookups, which may fail.
    pub(crate) fn open(path: &Path, kind: DatabaseKind) -> Result<Database, DatabaseError> {
        let path = path.to_owned();
        let bytes = read(&path)?;
        let reader = match Reader::from_source(bytes) {
            Ok(reader) => reader,
            Err(source) => return Err(DatabaseError::Broken { path, source }),
        };
        let found = &reader.metadata().database_type;
        if !kind.fits(found) {
            return Err(DatabaseError::OtherKind { path, found: found.clone(), key: kind.key() });
        }
        let database = Database { path, kind, reader };
        match database.probe() {
            Ok(()) => Ok(database),
            Err(source) => Err(DatabaseError::Broken { path: database.path, source }),
        }
    }

    fn probe(&self) -> Result<(), MaxMindDbError> {
        for address in (0x0100_0000..0xe000_0000_u32).step_by(0x40_0000) {
            self.look_up(IpAddr::V4(address.into()), &mut GeoLocation::default())?;
        }
        Ok(())
    }

    /// The type in the metadata, for example `GeoLite2-City`.
    pub(crate) fn database_type(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// Build time in seconds since 1970.
    pub(crate) fn built_at_s(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// Adds the fields of the address.
    pub(crate) fn look_up(&self, ip: IpAddr, location: &mut GeoLocation) -> Result<(), MaxMindDbError> {
        if ip.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(());
        }
        let found = self.reader.lookup(ip)?;
        match self.kind {
            DatabaseKind::City => {
                if let Some(city) = found.decode::<City<'_>>()? {
                    add_city(&city, location);
                }
            }
            DatabaseKind::Asn => {
                if let Some(asn) = found.decode::<Asn<'_>>()? {
                    location.as_number = asn.autonomous_system_number;
                    location.as_organization = non_empty(asn.autonomous_system_organization);
                }
            }
        }
        Ok(())
    }
}

/// The needed parts of a record, with MaxMind's types. Other members may have any type, as with other
/// vendors.
#[derive(Default, Deserialize)]
#[serde(default)]
struct City<'a> {
    #[serde(borrow)]
    city: NamedPlace<'a>,
    #[serde(borrow)]
    continent: NamedPlace<'a>,
    #[serde(borrow)]
    country: NamedPlace<'a>,
    location: Coordinates,
    #[serde(borrow)]
    subdivisions: Vec<NamedPlace<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedPlace<'a> {
    iso_code: Option<&'a str>,
    #[serde(borrow)]
    names: PlaceNames<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PlaceNames<'a> {
    en: Option<&'a str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Coordinates {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asn<'a> {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<&'a str>,
}

fn add_city(city: &City<'_>, location: &mut GeoLocation) {
    location.city_name = non_empty(city.city.names.en);
    location.continent_name = non_empty(city.continent.names.en);
    location.country_iso_code = non_empty(city.country.iso_code);
    location.country_name = non_empty(city.country.names.en);
    // Sorted from the largest to the smallest. Elasticsearch uses the smallest too.
    if let Some(region) = city.subdivisions.last() {
        location.region_name = non_empty(region.names.en);
        if let (Some(country), Some(region)) = (city.country.iso_code, region.iso_code) {
            location.region_iso_code = Some(format!("{country}-{region}"));
        }
    }
    if let (Some(lat), Some(lon)) = (city.location.latitude, city.location.longitude)
        && lat.is_finite()
        && lon.is_finite()
    {
        location.location = Some(Location { lat, lon });
    }
}

fn non_empty(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn read(path: &Path) -> Result<Vec<u8>, DatabaseError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => DatabaseError::Denied(crate::access::denied_message(path)),
        _ => DatabaseError::Read { path: path.into(), source: error },
    };
    // `O_NONBLOCK`: a pipe at this path must not block the agent.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(file.map_err(|error| failed(error.into()))?);
    let before = file.metadata().map_err(failed)?;
    let bytes = before.len();
    if !before.is_file() {
        return Err(DatabaseError::NotAFile { path: path.into() });
    }
    if bytes > DATABASE_BYTES_MAX {
        return Err(DatabaseError::TooLarge { path: path.into(), bytes });
    }
    let mut content = Vec::new();
    if content.try_reserve_exact(bytes as usize).is_err() {
        return Err(DatabaseError::NoMemory { path: path.into(), bytes });
    }
    (&file).take(bytes).read_to_end(&mut content).map_err(failed)?;
    let after = file.metadata().map_err(failed)?;
    if stamp_of(&before) != stamp_of(&after) || content.len() as u64 != bytes {
        return Err(DatabaseError::BeingWritten { path: path.into() });
    }
    Ok(content)
}
