//! Where an action came from, and what ties events together: `source.*` and `related.*`.

use std::net::IpAddr;

use super::super::escape::escape;
use super::super::out::{Object, Out};
use super::super::users::Users;
use super::geo;
use crate::enrich::geo::Geo;
use crate::record::{Record, Text, address};

/// A chain of proxies is short; what is longer is an attack on whoever compares each with each.
const ADDRESSES_MAX: usize = 64;

/// Writes both, with a comma before each.
pub fn write(record: &Record, host: Option<&str>, users: &Users, places: Option<&Geo>, out: &mut Out) {
    let source = record.source.text();
    let chain = source.map(Text::decoded);
    let mut related = Object::new(",\"related\":{");
    if let Some(host) = host {
        related.key(",\"hosts\":[\"", out);
        escape(host, &mut out.bytes);
        out.put("\"]");
    }
    let mut first = None;
    let mut seen: Vec<IpAddr> = Vec::new();
    for (text, ip) in chain.as_deref().into_iter().flat_map(address::addresses) {
        if first.is_none() {
            first = Some((text, ip));
            related.key(",\"ip\":[\"", out);
        } else if first.is_some_and(|(_, first)| first == ip) || seen.contains(&ip) {
            continue;
        } else if seen.len() == ADDRESSES_MAX {
            break;
        } else {
            seen.push(ip);
            out.put("\",\"");
        }
        out.put(text);
    }
    if first.is_some() {
        out.put("\"]");
    }
    for (at, name) in users.names().enumerate() {
        if at == 0 {
            related.key(",\"user\":[\"", out);
        } else {
            out.put("\",\"");
        }
        out.put_long(name);
    }
    if users.names().next().is_some() {
        out.put("\"]");
    }
    related.end(out);
    if let Some(source) = source {
        out.put(",\"source\":{\"address\":");
        out.put_long(source.quoted());
        if let Some((text, ip)) = first {
            if let Some(place) = places.and_then(|places| places.look_up(ip)) {
                geo::write(&place, out);
            }
            out.put(",\"ip\":\"");
            out.put(text);
            out.put("\"");
        }
        out.put("}");
    }
}
