//! The endpoints of an action, and the observables of an event.

use super::super::buffer::EventBuffer;
use super::super::escape::escape;
use super::super::users::Person;
use super::person::string;
use crate::record::{Record, Text, address};

/// Maximum number of addresses in a chain of proxies.
const ADDRESSES_MAX: usize = 64;

/// Writes `dst_endpoint` if the host of the site is known.
pub(super) fn write_destination(host: Option<&str>, out: &mut EventBuffer) {
    if let Some(host) = host {
        out.put(",\"dst_endpoint\":{\"hostname\":\"");
        escape(host, &mut out.bytes);
        out.put("\",\"svc_name\":\"Confluence\"}");
    }
}

/// Writes `src_endpoint` and `observables`. `required`: the class requires `src_endpoint`.
pub(super) fn write_source(record: &Record, author: &Person, required: bool, out: &mut EventBuffer) {
    let source = record.source.text();
    let chain = source.map(Text::decoded);
    // An IPv4 address in IPv6 notation can exceed the schema's 40 characters. Its shortest form does not.
    let addresses: Vec<String> = chain
        .as_deref()
        .into_iter()
        .flat_map(address::addresses)
        .take(ADDRESSES_MAX)
        .map(|(_, ip)| ip.to_string())
        .collect();
    match (addresses.as_slice(), source) {
        ([ip, others @ ..], _) => {
            out.put(",\"src_endpoint\":{\"ip\":\"");
            out.put(ip);
            for (at, other) in others.iter().enumerate() {
                out.put(if at == 0 { "\",\"intermediate_ips\":[\"" } else { "\",\"" });
                out.put(other);
            }
            out.put(if others.is_empty() { "\"}" } else { "\"]}" });
        }
        ([], Some(source)) => {
            out.put(",\"src_endpoint\":{\"name\":");
            out.put_long(source.quoted());
            out.put("}");
        }
        ([], None) if required => out.put(",\"src_endpoint\":{\"name\":\"Unknown\"}"),
        ([], None) => {}
    }
    write_observables(addresses.first().map(String::as_str), author, out);
}

fn write_observables(ip: Option<&str>, author: &Person, out: &mut EventBuffer) {
    let mut any = false;
    for (head, value) in [
        ("{\"name\":\"src_endpoint.ip\",\"type\":\"IP Address\",\"type_id\":2,\"value\":", ip),
        (
            "{\"name\":\"actor.user.name\",\"type\":\"User Name\",\"type_id\":4,\"value\":",
            author.name.as_deref(),
        ),
        (
            "{\"name\":\"actor.user.uid\",\"type\":\"User Object: uid\",\"type_id\":31,\"value\":",
            author.id.as_deref(),
        ),
    ] {
        if let Some(value) = value {
            out.put(if any { "," } else { ",\"observables\":[" });
            out.put(head);
            string(value, out);
            out.put("}");
            any = true;
        }
    }
    if any {
        out.put("]");
    }
}
