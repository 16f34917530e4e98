//! What the real binary adds to events: the place of an address, and the instance in a cloud.

use crate::rig::{Host, append, mmdb, stdout_of};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

const LINE: &str =
    r#"{"timestamp":{"epochSecond":1767323045,"nano":0},"auditType":{"action":"x"},"source":"81.2.69.143"}"#;

/// A host with one audit event, and databases named in its configuration.
fn host() -> Host {
    let mut host = Host::new();
    append(&host.audit().join("20260102.00000.audit.log"), format!("{LINE}\n").as_bytes());
    host.root += &format!(
        "[enrich]\ngeoip_city = {:?}\ngeoip_asn = {:?}\n",
        host.path("city.mmdb"),
        host.path("asn.mmdb")
    );
    host
}

fn single_event(host: &Host) -> Value {
    let output = fs::read_to_string(host.output()).unwrap();
    assert_eq!(output.lines().count(), 1, "{output}");
    serde_json::from_str(&output).unwrap()
}

/// `check` with a host's configuration: exit code and what it says.
fn check(host: &Host, metadata: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .args(["check", "--config"])
        .arg(host.config())
        .env("CONFLUENCE_AUDIT_AGENT_METADATA", metadata)
        .output()
        .unwrap();
    let printed = crate::rig::unwrap_lines(&String::from_utf8(output.stdout).unwrap());
    (output.status.code(), printed)
}

#[test]
fn events_have_the_place_of_their_address() {
    let host = host();
    fs::write(host.path("city.mmdb"), mmdb::city()).unwrap();
    fs::write(host.path("asn.mmdb"), mmdb::asn()).unwrap();
    let once = host.once_ok();
    once.logged("GeoIP database loaded");
    let source = &single_event(&host)["source"];
    assert_eq!(source["geo"]["city_name"], "London");
    assert_eq!(source["geo"]["region_iso_code"], "GB-ENG");
    assert_eq!(source["as"]["organization"]["name"], "Andrews & Arnold Ltd");

    let (code, printed) = check(&host, "");
    assert_eq!(code, Some(0), "{printed}");
    for (name, kind, fields) in
        [("city", "GeoLite2-City", "source.geo"), ("asn", "GeoLite2-ASN", "source.as")]
    {
        let path = host.path(&format!("{name}.mmdb"));
        let line = format!("geoip: `{}`, {kind}, built on 2026-11-20, for `{fields}`", path.display());
        assert!(printed.contains(&line), "{line} in {printed}");
    }
}

/// One database is cut off in the middle and the other is missing: events flow, and both are reported.
#[test]
fn unusable_databases_hold_nothing_up() {
    let host = host();
    let city = mmdb::city();
    fs::write(host.path("city.mmdb"), &city[..city.len() / 2]).unwrap();
    let once = host.once_ok();
    let reported = once.stderr.matches("a GeoIP database cannot be used").count();
    assert_eq!(reported, 2, "{}", once.stderr);
    assert_eq!(single_event(&host)["source"], json!({"address": "81.2.69.143", "ip": "81.2.69.143"}));
    let (code, printed) = check(&host, "");
    assert_eq!(code, Some(0), "{printed}");
    for text in [
        "is not a complete MaxMind database, or has another layout; run `geoipupdate` again: ",
        "events have no `source.geo`",
        "asn.mmdb`: No such file or directory",
        "events have no `source.as`",
    ] {
        assert!(printed.contains(text), "{text} in {printed}");
    }
}

/// A metadata service of Azure's on a port of this host; a proxy in the environment is not used for it.
#[test]
fn events_have_the_instance_of_their_host() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("azure=http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            head.find(|line| line.as_ref().is_ok_and(String::is_empty));
            let body = r#"{"location":"westeurope","vmId":"13f56399","vmSize":"Standard_D2s_v3"}"#;
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                .unwrap();
        }
    });
    let run = |host: &Host| {
        let mut command = host.command(&[], &["--once"]);
        command
            .env("CONFLUENCE_AUDIT_AGENT_METADATA", &url)
            .env("http_proxy", "http://127.0.0.1:1")
            .env("HTTP_PROXY", "http://127.0.0.1:1");
        stdout_of(&mut command);
        single_event(host).get("cloud").cloned()
    };
    let expected = json!({
        "instance": {"id": "13f56399"}, "machine": {"type": "Standard_D2s_v3"}, "provider": "azure", "region": "westeurope",
    });
    let on = host();
    assert_eq!(run(&on), Some(expected));
    let (_, printed) = check(&on, &url);
    assert!(printed.contains("ok       cloud: Microsoft Azure, instance 13f56399"), "{printed}");
    let mut off = host();
    off.root += "cloud_metadata = false\n";
    assert_eq!(run(&off), None);

    // A service that is not there.
    let (code, printed) = check(&on, "gce=http://127.0.0.1:1/");
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains(
            "warning  cloud: Google Compute Engine, but the request to the metadata service failed"
        ),
        "{printed}"
    );
}

#[test]
fn the_minimal_host_fields_tell_hosts_apart() {
    let mut host = host();
    host.root += "host_fields = \"minimal\"\n";
    host.once_ok();
    let event = single_event(&host);
    let fields = event["host"].as_object().unwrap();
    assert!(fields.keys().all(|key| ["hostname", "id", "name"].contains(&key.as_str())), "{fields:?}");
    assert!(!fields["name"].as_str().unwrap().is_empty());
}
