//! The source of an action, and values for correlation: `source.*` and `related.*`.

use std::net::IpAddr;

use super::super::buffer::EventBuffer;
use super::super::object::Object;
use super::super::users::Users;
use super::geo;
use crate::enrich::geo::Geo;
use crate::record::{Record, Text, address};

/// Maximum number of addresses that are compared with each other. A chain of proxies is short; a longer one
/// is an attack.
const ADDRESSES_MAX: usize = 64;

/// Writes both with a leading comma.
pub(super) fn write(
    record: &Record,
    host: Option<&str>,
    users: &Users,
    geo: Option<&Geo>,
    out: &mut EventBuffer,
) {
    let source = record.source.text();
    let chain = source.map(Text::decoded);
    let mut related = Object::new(",\"related\":{");
    if let Some(host) = host {
        let mut hosts = related.list(",\"hosts\":");
        hosts.plain(host, out);
        hosts.end(out);
    }
    let mut ips = related.list(",\"ip\":");
    let mut first = None;
    let mut seen: Vec<IpAddr> = Vec::new();
    for (text, ip) in chain.as_deref().into_iter().flat_map(address::addresses) {
        if first.is_none() {
            first = Some((text, ip));
        } else if first.is_some_and(|(_, first)| first == ip) || seen.contains(&ip) {
            continue;
        } else if seen.len() == ADDRESSES_MAX {
            break;
        } else {
            seen.push(ip);
        }
        ips.plain(text, out);
    }
    ips.end(out);
    let mut names = related.list(",\"user\":");
    users.names().for_each(|name| names.escaped(name, out));
    names.end(out);
    related.end(out);
    if let Some(source) = source {
        out.put(",\"source\":{\"address\":");
        out.put_long(source.quoted());
        if let Some((text, ip)) = first {
            if let Some(place) = geo.and_then(|geo| geo.look_up(ip)) {
                geo::write(&place, out);
            }
            out.put(",\"ip\":\"");
            out.put(text);
            out.put("\"");
        }
        out.put("}");
    }
}
