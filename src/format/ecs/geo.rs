//! Where an address is: `source.as` and `source.geo`.

use std::io::Write;

use super::super::escape::escape;
use super::super::out::{Object, Out};
use crate::enrich::geo::Place;

/// Writes both, with a comma before each; what the databases do not know is left out.
pub fn write(place: &Place, out: &mut Out) {
    let Place {
        city_name,
        continent_name,
        country_iso_code,
        country_name,
        region_iso_code,
        region_name,
        location,
        as_number,
        as_organization,
    } = place;
    let mut system = Object::new(",\"as\":{");
    if let Some(number) = as_number {
        system.key(",\"number\":", out);
        out.put_number(u64::from(*number));
    }
    if let Some(name) = as_organization {
        system.key(",\"organization\":", out);
        let mut organization = Object::new("{");
        text(&mut organization, ",\"name\":\"", name, out);
        organization.end(out);
    }
    system.end(out);
    let mut geo = Object::new(",\"geo\":{");
    for (key, value) in [
        (",\"city_name\":\"", city_name),
        (",\"continent_name\":\"", continent_name),
        (",\"country_iso_code\":\"", country_iso_code),
        (",\"country_name\":\"", country_name),
        (",\"region_iso_code\":\"", region_iso_code),
        (",\"region_name\":\"", region_name),
    ] {
        if let Some(value) = value {
            text(&mut geo, key, value, out);
        }
    }
    if let Some(location) = location {
        geo.key(",\"location\":", out);
        // Into memory, which does not fail.
        let _ = write!(out.bytes, "{{\"lat\":{},\"lon\":{}}}", location.lat, location.lon);
    }
    geo.end(out);
}

/// `key` ends with the text's first quote.
fn text(object: &mut Object, key: &str, text: &str, out: &mut Out) {
    object.key(key, out);
    escape(text, &mut out.bytes);
    out.put("\"");
}
