use super::*;
use proptest::prelude::*;
use std::fs;

struct Fixture {
    dir: tempfile::TempDir,
    geo: Geo,
}

/// Databases configured as `city.mmdb` and `asn.mmdb` in an empty directory.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let config = EnrichConfig {
        geoip_city: Some(dir.path().join("city.mmdb")),
        geoip_asn: Some(dir.path().join("asn.mmdb")),
        ..EnrichConfig::default()
    };
    let geo = Geo::new(&config, dir.path());
    Fixture { dir, geo }
}

impl Fixture {
    fn put(&self, name: &str, bytes: &[u8]) {
        // As `geoipupdate` does it: renames a new file.
        let new = self.dir.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.dir.path().join(name)).unwrap();
    }

    fn location(&self, ip: &str) -> Option<GeoLocation> {
        self.geo.look_up(ip.parse().unwrap()).map(|location| GeoLocation::clone(&location))
    }

    fn city(&self, ip: &str) -> Option<String> {
        self.location(ip)?.city_name
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn an_address_has_a_location_and_a_network() {
    let f = fixture();
    f.put("city.mmdb", &mmdb::city());
    f.put("asn.mmdb", &mmdb::asn());
    f.geo.refresh();
    let london = GeoLocation {
        city_name: text("London"),
        continent_name: text("Europe"),
        country_iso_code: text("GB"),
        country_name: text("United Kingdom"),
        region_iso_code: text("GB-ENG"),
        region_name: text("England"),
        location: Some(Location { lat: 51.5142, lon: -0.0931 }),
        as_number: Some(20712),
        as_organization: text("Andrews & Arnold Ltd"),
    };
    // The second time from the cache, and as an IPv4-mapped IPv6 address.
    for ip in ["81.2.69.143", "81.2.69.143", "::ffff:81.2.69.143"] {
        assert_eq!(f.location(ip), Some(london.clone()), "{ip}");
    }
    let boxford = f.location("2.125.160.216").unwrap();
    assert_eq!(boxford.region_iso_code, text("GB-WBK"));
    assert_eq!(boxford.region_name, text("West Berkshire"));
    assert_eq!(boxford.as_number, None);
    let bhutan =
        GeoLocation { country_iso_code: text("BT"), country_name: text("Bhutan"), ..GeoLocation::default() };
    assert_eq!(f.location("67.43.156.1"), Some(bhutan));
    let oslo = f.location("2a02:cf40::1").unwrap();
    assert_eq!(oslo.city_name, text("\"Oslo\"\n"));
    assert_eq!(oslo.region_iso_code, None);
    assert_eq!(oslo.as_number, Some(4_200_000_000));
    // In the database without a location, and not in the database.
    assert_eq!(f.location("89.160.20.1"), None);
    assert_eq!(f.location("8.8.8.8"), None);
    assert_eq!(f.location("2001:4860::1"), None);
}

#[test]
fn addresses_that_are_not_public_have_no_location() {
    let f = fixture();
    let everywhere = [
        ("0.0.0.0/1", serde_json::json!({"city": {"names": {"en": "Anywhere"}}})),
        ("128.0.0.0/1", serde_json::json!({"city": {"names": {"en": "Anywhere"}}})),
        ("8000::/1", serde_json::json!({"city": {"names": {"en": "Anywhere"}}})),
    ];
    f.put("city.mmdb", &mmdb::database("Other-City", &everywhere));
    f.geo.refresh();
    for ip in ["8.8.8.8", "100.63.1.1", "172.32.0.1", "223.1.1.1", "9000::1"] {
        assert_eq!(f.city(ip), text("Anywhere"), "{ip}");
    }
    for ip in [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
    ] {
        assert_eq!(f.city(ip), None, "{ip}");
    }
}

#[test]
fn a_replaced_database_is_read_again() {
    let f = fixture();
    f.geo.refresh();
    assert_eq!(f.city("81.2.69.143"), None);
    f.put("city.mmdb", &mmdb::city());
    f.geo.refresh();
    assert_eq!(f.city("81.2.69.143"), text("London"));

    // Truncated, empty, rubbish, of the other kind, damaged inside, with another layout, missing, a
    // directory: the previous database stays in use.
    let city = mmdb::city();
    let location = serde_json::json!({"city": {"names": {"en": "Hole"}}});
    let mut hole = mmdb::database("GeoLite2-City", &[("81.0.0.0/8", location)]);
    let at = memchr::memmem::find(&hole, b"names").unwrap();
    hole[at..at + 20].fill(0xff);
    let other = serde_json::json!({"city": "Other", "country": "GB"});
    let other = mmdb::database("Other-City", &[("81.0.0.0/8", other)]);
    let damaged: [&[u8]; 6] = [&city[..city.len() / 2], b"", b"rubbish", &mmdb::asn(), &hole, &other];
    for bytes in damaged {
        f.put("city.mmdb", bytes);
        f.geo.refresh();
        assert_eq!(f.city("81.2.69.143"), text("London"));
    }
    fs::remove_file(f.dir.path().join("city.mmdb")).unwrap();
    f.geo.refresh();
    assert_eq!(f.city("81.2.69.143"), text("London"));
    fs::create_dir(f.dir.path().join("city.mmdb")).unwrap();
    f.geo.refresh();
    assert_eq!(f.city("81.2.69.143"), text("London"));
    fs::remove_dir(f.dir.path().join("city.mmdb")).unwrap();

    // The cache is cleared.
    let moved = serde_json::json!({"city": {"names": {"en": "Elsewhere"}}});
    f.put("city.mmdb", &mmdb::database("GeoLite2-City", &[("81.2.69.0/24", moved)]));
    f.geo.refresh();
    assert_eq!(f.city("81.2.69.143"), text("Elsewhere"));
}

#[test]
fn an_unusable_database_is_logged_once_with_its_remedy() {
    let f = fixture();
    let error = |name: &str, kind| {
        let error = Database::open(&f.dir.path().join(name), kind).unwrap_err();
        error.to_string().replace(f.dir.path().to_str().unwrap(), "…")
    };
    assert_eq!(error("city.mmdb", DatabaseKind::City), "cannot read `…/city.mmdb`");
    f.put("city.mmdb", &mmdb::city()[..200]);
    assert_eq!(
        error("city.mmdb", DatabaseKind::City),
        "`…/city.mmdb` is not a complete MaxMind database, or has another layout; run `geoipupdate` again"
    );
    f.put("city.mmdb", &mmdb::city());
    assert_eq!(
        error("city.mmdb", DatabaseKind::Asn),
        "`…/city.mmdb` has the type `GeoLite2-City`, which is not what `geoip_asn` requires"
    );
    fs::create_dir(f.dir.path().join("dir.mmdb")).unwrap();
    assert_eq!(
        error("dir.mmdb", DatabaseKind::City),
        "`…/dir.mmdb` is not a regular file; name the `.mmdb` file itself"
    );
    f.put("city.mmdb", b"rubbish");
    for _ in 0..2 {
        f.geo.refresh();
        let checks = lock(&f.geo.checks);
        assert!(checks[0].logged_error.as_ref().is_some_and(|text| text.contains("not a complete")));
        assert!(checks[0].seen.is_some());
    }
}

/// By the background thread, during lookups.
#[test]
fn a_replacement_is_detected() {
    let f = fixture();
    f.put("city.mmdb", &mmdb::city());
    let config = EnrichConfig { geoip_city: Some(f.dir.path().join("city.mmdb")), ..EnrichConfig::default() };
    let geo = start_with_interval(Duration::from_millis(5), &config, f.dir.path()).unwrap();
    let city = || geo.look_up([81, 2, 69, 1].into())?.city_name.clone();
    let deadline = crate::clock::monotonic() + Duration::from_secs(60);
    let until = |expected: &str| {
        while city().as_deref() != Some(expected) {
            assert!(crate::clock::monotonic() < deadline, "{:?} and not {expected}", city());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    };
    until("London");
    let moved = serde_json::json!({"city": {"names": {"en": "Elsewhere"}}});
    f.put("city.mmdb", &mmdb::database("GeoLite2-City", &[("81.2.69.0/24", moved)]));
    until("Elsewhere");
}

/// Without configuration: the paid edition is preferred, in any of the directories.
#[test]
fn databases_are_found_in_the_directories_of_geoipupdate() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, bytes: &[u8]| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let config = EnrichConfig::default();
    let geo = Geo::new(&config, root.path());
    geo.refresh();
    assert!(find_databases(&config, root.path()).iter().all(|(_, found)| found.is_none()));
    put("usr/share/GeoIP/GeoLite2-City.mmdb", &mmdb::city());
    put("var/lib/GeoIP/GeoLite2-ASN.mmdb", &mmdb::asn());
    geo.refresh();
    let location = geo.look_up([81, 2, 69, 1].into()).unwrap();
    assert_eq!((location.city_name.as_deref(), location.as_number), (Some("London"), Some(20712)));
    put("var/lib/GeoIP/GeoIP2-City.mmdb", &mmdb::database("GeoIP2-City", &[]));
    geo.refresh();
    let location = geo.look_up([81, 2, 69, 1].into()).unwrap();
    assert_eq!((location.city_name.as_deref(), location.as_number), (None, Some(20712)));
    let found = find_databases(&config, root.path());
    let city = found[0].1.as_ref().unwrap().as_ref().unwrap();
    assert_eq!((city.database_type(), build_date(city).as_str()), ("GeoIP2-City", "2026-11-20"));
}

#[test]
fn lookups_can_be_turned_off() {
    let root = tempfile::tempdir().unwrap();
    let config = EnrichConfig { geoip: false, ..EnrichConfig::default() };
    assert!(start(&config, root.path()).is_none());
    let geo = start(&EnrichConfig::default(), root.path()).unwrap();
    assert_eq!(geo.look_up([81, 2, 69, 1].into()), None);
}

#[test]
fn a_database_for_ipv4_contains_no_other_addresses() {
    let f = fixture();
    let mut bytes = mmdb::city();
    // Changes `ip_version` in the metadata, a number of one byte, from 6 to 4: the tree then begins with
    // IPv4.
    let at = memchr::memmem::rfind(&bytes, b"ip_version").unwrap() + "ip_version".len();
    assert_eq!(bytes[at..at + 2], [0xa1, 6]);
    bytes[at + 1] = 4;
    f.put("city.mmdb", &bytes);
    f.geo.refresh();
    assert_eq!(f.location("2a02:cf40::1"), None);
    assert!(!lock(&f.geo.loaded).damage_logged);
}

proptest! {
    /// Any content of a file: no panic, and texts that can be written.
    #[test]
    fn damaged_databases_cause_no_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let f = fixture();
        let mut bytes = mmdb::city();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        f.put("city.mmdb", &bytes);
        f.geo.refresh();
        for ip in ["81.2.69.143", "2.125.160.216", "67.43.156.1", "2a02:cf40::1", "8.8.8.8", "255.1.1.1"] {
            f.location(ip);
        }
    }
}
