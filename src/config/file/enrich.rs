//! `[enrich]`.

use super::{absolute, belongs_to, set};
use crate::config::checked::EnrichConfig;
use crate::config::raw::{Problems, Table};

pub const KEYS: [&str; 4] = ["geoip", "geoip_city", "geoip_asn", "cloud_metadata"];

pub fn table(mut table: Table, enrich: &mut EnrichConfig, problems: &mut Problems) -> Vec<&'static str> {
    set(&mut enrich.geoip, table.flag("geoip", problems));
    for (key, example, path) in [
        (
            "geoip_city",
            "/usr/share/GeoIP/GeoLite2-City.mmdb",
            &mut enrich.geoip_city,
        ),
        (
            "geoip_asn",
            "/usr/share/GeoIP/GeoLite2-ASN.mmdb",
            &mut enrich.geoip_asn,
        ),
    ] {
        let Some(found) = table.text(key, example, problems) else {
            continue;
        };
        if !enrich.geoip {
            let message = "is not used, for `geoip = false` looks no address up; remove one of the two";
            problems.warn(&found.span, &found.key, message);
        }
        *path = absolute(found, problems).map(|found| found.value);
    }
    set(&mut enrich.cloud_metadata, table.flag("cloud_metadata", problems));
    table.finish(belongs_to, problems)
}
