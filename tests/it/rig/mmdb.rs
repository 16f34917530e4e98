//! Writes small MaxMind databases: a search tree of 24-bit records over IPv6, IPv4 below `::/96`, data, and metadata.
//! The format: <https://maxmind.github.io/MaxMind-DB/>.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

const METADATA_MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// 2026-11-20.
pub const BUILT_AT_S: u64 = 1_795_132_800;

/// A child of a node of the tree.
#[derive(Clone, Copy)]
enum Child {
    Nothing,
    Node(usize),
    /// Where in the data section.
    Data(usize),
}

/// The bytes of a database with these networks, none within another, as in `("81.2.69.0/24", json!({…}))`.
pub fn database(database_type: &str, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Child::Nothing; 2]];
    let mut data = Vec::new();
    for (network, value) in networks {
        let (address, prefix) = network.split_once('/').unwrap();
        let prefix: u32 = prefix.parse().unwrap();
        let (bits, length) = match address.parse().unwrap() {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 96 + prefix),
            IpAddr::V6(ip) => (ip.to_bits(), prefix),
        };
        let mut node = 0;
        for depth in 0..length {
            let bit = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == length {
                nodes[node][bit] = Child::Data(data.len());
                continue;
            }
            node = match nodes[node][bit] {
                Child::Node(next) => next,
                _ => {
                    nodes.push([Child::Nothing; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][bit] = Child::Node(next);
                    next
                }
            };
        }
        encode(value, &mut data);
    }
    let mut out = Vec::new();
    for child in nodes.iter().flatten() {
        let record = match child {
            Child::Nothing => nodes.len(),
            Child::Node(node) => *node,
            Child::Data(at) => nodes.len() + 16 + at,
        };
        out.extend(&(record as u32).to_be_bytes()[1..]);
    }
    out.extend([0; 16]);
    out.extend(data);
    out.extend(METADATA_MARKER);
    let metadata = json!({
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": BUILT_AT_S,
        "database_type": database_type, "description": {"en": "for tests"}, "ip_version": 6, "languages": ["en", "de"],
        "node_count": nodes.len(), "record_size": 24,
    });
    encode(&metadata, &mut out);
    out
}

/// A City database: London, a place in two regions, a country alone, one that nothing is known of, and one over IPv6.
pub fn city() -> Vec<u8> {
    let names = |english: &str| json!({"de": format!("{english} (de)"), "en": english});
    let europe = json!({"code": "EU", "geoname_id": 6_255_148, "names": names("Europe")});
    let britain = json!({"geoname_id": 2_635_167, "iso_code": "GB", "names": names("United Kingdom")});
    let england = json!({"geoname_id": 6_269_131, "iso_code": "ENG", "names": names("England")});
    let berkshire = json!({"geoname_id": 3_333_217, "iso_code": "WBK", "names": names("West Berkshire")});
    let place = |city: &str, regions: Value, lat: f64, lon: f64| {
        json!({
            "city": {"geoname_id": 1, "names": names(city)}, "continent": europe, "country": britain,
            "location": {"accuracy_radius": 100, "latitude": lat, "longitude": lon, "time_zone": "Europe/London"},
            "postal": {"code": "SW1"}, "registered_country": britain, "subdivisions": regions,
        })
    };
    database(
        "GeoLite2-City",
        &[
            ("81.2.69.0/24", place("London", json!([england]), 51.5142, -0.0931)),
            ("2.125.160.0/24", place("Boxford", json!([england, berkshire]), 51.75, -1.25)),
            ("67.43.156.0/24", json!({"country": {"iso_code": "BT", "names": names("Bhutan")}})),
            ("89.160.20.0/24", json!({"traits": {"is_anycast": true}})),
            ("2a02:cf40::/29", place("\"Oslo\"\n", json!([]), 59.0, 10.0)),
        ],
    )
}

/// An ASN database over some of the same addresses.
pub fn asn() -> Vec<u8> {
    let system = |number: u32, organization: &str| json!({"autonomous_system_number": number, "autonomous_system_organization": organization});
    database(
        "GeoLite2-ASN",
        &[
            ("81.2.69.0/24", system(20712, "Andrews & Arnold Ltd")),
            ("2a02:cf40::/29", system(4_200_000_000, "Example \"Nett\" AS")),
        ],
    )
}

const STRING: u8 = 2;
const DOUBLE: u8 = 3;
const UINT16: u8 = 5;
const UINT32: u8 = 6;
const MAP: u8 = 7;
const UINT64: u8 = 9;
const ARRAY: u8 = 11;
const BOOLEAN: u8 = 14;

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(members) => {
            // In the order of their names, so that the same database has the same bytes.
            let members: BTreeMap<_, _> = members.iter().collect();
            head(MAP, members.len(), out);
            for (name, value) in members {
                encode(&Value::from(name.as_str()), out);
                match value.as_u64() {
                    Some(number) => encode_number(name, number, out),
                    None => encode(value, out),
                }
            }
        }
        Value::Array(values) => {
            head(ARRAY, values.len(), out);
            values.iter().for_each(|value| encode(value, out));
        }
        Value::String(text) => {
            head(STRING, text.len(), out);
            out.extend(text.as_bytes());
        }
        Value::Bool(flag) => head(BOOLEAN, usize::from(*flag), out),
        Value::Number(number) => {
            head(DOUBLE, 8, out);
            out.extend(number.as_f64().unwrap().to_be_bytes());
        }
        Value::Null => panic!("a database has no null"),
    }
}

/// A whole number has the type that its name has in MaxMind's databases.
fn encode_number(name: &str, number: u64, out: &mut Vec<u8>) {
    let kind = match name {
        "binary_format_major_version"
        | "binary_format_minor_version"
        | "ip_version"
        | "record_size"
        | "accuracy_radius" => UINT16,
        "build_epoch" => UINT64,
        _ => UINT32,
    };
    let zeros = number.leading_zeros() as usize / 8;
    head(kind, 8 - zeros, out);
    out.extend(&number.to_be_bytes()[zeros..]);
}

/// The type and the size of what follows.
fn head(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (low, more) = match size {
        0..29 => (size as u8, Vec::new()),
        29..285 => (29, vec![(size - 29) as u8]),
        _ => (30, ((size - 285) as u16).to_be_bytes().to_vec()),
    };
    if kind < 8 {
        out.push(kind << 5 | low);
    } else {
        out.extend([low, kind - 7]);
    }
    out.extend(more);
}
