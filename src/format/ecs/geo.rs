//! The location of an address: `source.as` and `source.geo`.

use super::super::buffer::EventBuffer;
use super::super::object::Object;
use crate::enrich::geo::{GeoLocation, Location};

/// Writes both with a leading comma. Unknown values are omitted.
pub(super) fn write(location_of_address: &GeoLocation, out: &mut EventBuffer) {
    let GeoLocation {
        city_name,
        continent_name,
        country_iso_code,
        country_name,
        region_iso_code,
        region_name,
        location,
        as_number,
        as_organization,
    } = location_of_address;
    let mut system = Object::new(",\"as\":{");
    if let Some(number) = as_number {
        system.number(",\"number\":", u64::from(*number), out);
    }
    if let Some(name) = as_organization {
        let mut organization = system.object(",\"organization\":");
        organization.plain(",\"name\":", name, out);
        organization.end(out);
    }
    system.end(out);
    let mut geo = Object::new(",\"geo\":{");
    for (key, value) in [
        (",\"city_name\":", city_name),
        (",\"continent_name\":", continent_name),
        (",\"country_iso_code\":", country_iso_code),
        (",\"country_name\":", country_name),
        (",\"region_iso_code\":", region_iso_code),
        (",\"region_name\":", region_name),
    ] {
        if let Some(value) = value {
            geo.plain(key, value, out);
        }
    }
    if let Some(Location { lat, lon }) = location {
        let mut point = geo.object(",\"location\":");
        point.float(",\"lat\":", *lat, out);
        point.float(",\"lon\":", *lon, out);
        point.end(out);
    }
    geo.end(out);
}
