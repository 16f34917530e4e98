//! One MaxMind database in memory.
//!
//! Not a memory map: a database that is rewritten in place would pull the pages from under the lookups.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader};
use rustix::fs::{Mode, OFlags};

use super::{GeoLocation, Location};
use serde::Deserialize;

/// Twice the largest database that MaxMind sells for these fields. It bounds memory.
const DATABASE_BYTES_MAX: u64 = 512 << 20;

/// Where `geoipupdate` puts databases: as packaged by distributions, as Debian has it, and as compiled by hand.
const DIRECTORIES: [&str; 3] = ["/usr/share/GeoIP", "/var/lib/GeoIP", "/usr/local/share/GeoIP"];

/// What a database tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    City,
    Asn,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::City, Kind::Asn];

    /// The configuration key that names its file.
    pub fn key(self) -> &'static str {
        match self {
            Kind::City => "geoip_city",
            Kind::Asn => "geoip_asn",
        }
    }

    /// What stays empty without it.
    pub fn fields(self) -> &'static str {
        match self {
            Kind::City => "source.geo",
            Kind::Asn => "source.as",
        }
    }

    /// The best first: what was paid for knows more.
    fn file_names(self) -> &'static [&'static str] {
        match self {
            Kind::City => &["GeoIP2-Enterprise.mmdb", "GeoIP2-City.mmdb", "GeoLite2-City.mmdb"],
            Kind::Asn => &["GeoIP2-ISP.mmdb", "GeoLite2-ASN.mmdb"],
        }
    }

    /// By the type that the database names. Those of other makers are taken unless they are clearly the other kind.
    fn fits(self, database_type: &str) -> bool {
        let has = |words: &[&str]| words.iter().any(|word| database_type.contains(word));
        match self {
            Kind::City => !has(&["ASN", "ISP"]),
            Kind::Asn => !has(&["City", "Country"]),
        }
    }
}

/// The database of this kind among those that `geoipupdate` has put into the usual places below `root`.
pub fn find(root: &Path, kind: Kind) -> Option<PathBuf> {
    let names = kind.file_names().iter();
    let mut places = names.flat_map(|name| DIRECTORIES.map(|dir| root.join(&dir[1..]).join(name)));
    places.find(|path| path.is_file())
}

/// A file that is replaced or rewritten has another one: device, inode, bytes, and time of change.
pub type Stamp = (u64, u64, u64, i64, i64);

pub fn stamp(path: &Path) -> Option<Stamp> {
    path.metadata().ok().as_ref().map(stamp_of)
}

fn stamp_of(found: &Metadata) -> Stamp {
    (
        found.dev(),
        found.ino(),
        found.len(),
        found.mtime(),
        found.mtime_nsec(),
    )
}

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Denied(String),
    #[error("`{}` is no regular file; name the `.mmdb` file itself", path.display())]
    NoFile { path: PathBuf },
    #[error("`{}` has {bytes} bytes, more than {DATABASE_BYTES_MAX}; name a smaller edition", path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("`{}` needs {bytes} bytes of memory, which cannot be had", path.display())]
    NoMemory { path: PathBuf, bytes: u64 },
    #[error("`{}` is being written", path.display())]
    BeingWritten { path: PathBuf },
    #[error("`{}` is no whole MaxMind database, or laid out differently; run `geoipupdate` again", path.display())]
    Broken { path: PathBuf, source: MaxMindDbError },
    #[error("`{}` is of the type `{found}`, which is not what `{key}` wants", path.display())]
    OtherKind {
        path: PathBuf,
        found: String,
        key: &'static str,
    },
}

/// A database that has been read.
#[derive(Debug)]
pub struct Database {
    pub path: PathBuf,
    kind: Kind,
    reader: Reader<Vec<u8>>,
}

impl Database {
    /// Reads a whole file and looks at its frame, and at addresses all over it: a file that was not written to its end mostly
    /// fails at one of them. What stands between is looked at by lookups: each may fail.
    pub fn open(path: &Path, kind: Kind) -> Result<Database, DatabaseError> {
        let path = path.to_owned();
        let bytes = read(&path)?;
        let reader = match Reader::from_source(bytes) {
            Ok(reader) => reader,
            Err(source) => return Err(DatabaseError::Broken { path, source }),
        };
        let found = &reader.metadata().database_type;
        if !kind.fits(found) {
            return Err(DatabaseError::OtherKind {
                path,
                found: found.clone(),
                key: kind.key(),
            });
        }
        let database = Database { path, kind, reader };
        match database.probe() {
            Ok(()) => Ok(database),
            Err(source) => Err(DatabaseError::Broken {
                path: database.path,
                source,
            }),
        }
    }

    fn probe(&self) -> Result<(), MaxMindDbError> {
        for address in (0x0100_0000..0xe000_0000_u32).step_by(0x40_0000) {
            self.look_up(IpAddr::V4(address.into()), &mut GeoLocation::default())?;
        }
        Ok(())
    }

    /// As it names itself, for example `GeoLite2-City`.
    pub fn database_type(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// Seconds since 1970.
    pub fn built_at_s(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// Adds what it knows of the address.
    pub fn look_up(&self, ip: IpAddr, place: &mut GeoLocation) -> Result<(), MaxMindDbError> {
        if ip.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(());
        }
        let found = self.reader.lookup(ip)?;
        match self.kind {
            Kind::City => {
                if let Some(city) = found.decode::<City<'_>>()? {
                    add_city(&city, place);
                }
            }
            Kind::Asn => {
                if let Some(asn) = found.decode::<Asn<'_>>()? {
                    place.as_number = asn.autonomous_system_number;
                    place.as_organization = owned(asn.autonomous_system_organization);
                }
            }
        }
        Ok(())
    }
}

/// What is wanted of a record. Types are MaxMind's; what is not named here may have any, as with other makers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct City<'a> {
    #[serde(borrow)]
    city: Named<'a>,
    #[serde(borrow)]
    continent: Named<'a>,
    #[serde(borrow)]
    country: Named<'a>,
    location: Coordinates,
    #[serde(borrow)]
    subdivisions: Vec<Named<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named<'a> {
    iso_code: Option<&'a str>,
    #[serde(borrow)]
    names: Names<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names<'a> {
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

fn add_city(city: &City<'_>, place: &mut GeoLocation) {
    place.city_name = owned(city.city.names.en);
    place.continent_name = owned(city.continent.names.en);
    place.country_iso_code = owned(city.country.iso_code);
    place.country_name = owned(city.country.names.en);
    // From the largest to the smallest; Elasticsearch too takes the smallest.
    if let Some(region) = city.subdivisions.last() {
        place.region_name = owned(region.names.en);
        if let (Some(country), Some(region)) = (city.country.iso_code, region.iso_code) {
            place.region_iso_code = Some(format!("{country}-{region}"));
        }
    }
    if let (Some(lat), Some(lon)) = (city.location.latitude, city.location.longitude)
        && lat.is_finite()
        && lon.is_finite()
    {
        place.location = Some(Location { lat, lon });
    }
}

fn owned(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn read(path: &Path) -> Result<Vec<u8>, DatabaseError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => DatabaseError::Denied(crate::access::denied_message(path)),
        _ => DatabaseError::Read {
            path: path.into(),
            source: error,
        },
    };
    // A pipe under this name must not hold the agent up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(file.map_err(|error| failed(error.into()))?);
    let before = file.metadata().map_err(failed)?;
    let bytes = before.len();
    if !before.is_file() {
        return Err(DatabaseError::NoFile { path: path.into() });
    }
    if bytes > DATABASE_BYTES_MAX {
        return Err(DatabaseError::TooLarge {
            path: path.into(),
            bytes,
        });
    }
    let mut content = Vec::new();
    if content.try_reserve_exact(bytes as usize).is_err() {
        return Err(DatabaseError::NoMemory {
            path: path.into(),
            bytes,
        });
    }
    (&file).take(bytes).read_to_end(&mut content).map_err(failed)?;
    let after = file.metadata().map_err(failed)?;
    if stamp_of(&before) != stamp_of(&after) || content.len() as u64 != bytes {
        return Err(DatabaseError::BeingWritten { path: path.into() });
    }
    Ok(content)
}
