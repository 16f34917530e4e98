//! Who may read what over which listener.

use crate::rig::admin::{exchange, get, get_tcp, request};
use crate::rig::certificates::Ca;
use crate::rig::{Host, free_port};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;

const PATHS: [&str; 4] = ["/livez", "/readyz", "/status", "/metrics"];

#[test]
fn the_socket_and_a_loopback_address_answer() {
    let mut host = Host::new();
    let (socket, port) = (host.admin(), free_port());
    host.root += &format!("admin.listen = \"{}\"\n", port.address());
    host.audit_file(1, 10);
    let mut agent = host.start();
    agent
        .until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200 && answer.body == "ready\n");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    for path in PATHS {
        for answer in [get(&socket, path).unwrap(), get_tcp(port.address(), path, "").unwrap()] {
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            for (header, value) in [
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                (
                    "content-security-policy",
                    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
                ),
            ] {
                assert_eq!(answer.header(header), Some(value), "{path}");
            }
        }
    }
    let status: serde_json::Value = serde_json::from_str(&get(&socket, "/status").unwrap().body).unwrap();
    assert_eq!(status["sources"][0]["name"], "wiki");
    assert_eq!(get(&socket, "/etc/passwd").unwrap().status, 404);
    assert_eq!(get(&socket, "/metrics/../livez").unwrap().status, 404);
    // Other methods change nothing, and HEAD has no body.
    for (method, status) in [("POST", 405), ("PUT", 405), ("DELETE", 405), ("OPTIONS", 405), ("HEAD", 200)] {
        let text = request("/livez", "agent", "").replacen("GET", method, 1);
        let answer = exchange(&mut UnixStream::connect(&socket).unwrap(), &text).unwrap();
        assert_eq!(answer.status, status, "{method}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("get, head"), "{method}");
        assert_eq!(answer.body.is_empty(), method == "HEAD", "{method}");
    }
    // A page in a browser, whose name was made to resolve to this host, has another `Host`.
    for (name, status) in [
        ("localhost:9640", 200),
        ("127.0.0.1", 200),
        ("[::1]:1", 200),
        ("evil.example.com", 403),
        ("localhost.evil.example.com", 403),
    ] {
        let mut stream = TcpStream::connect(port.address()).unwrap();
        assert_eq!(exchange(&mut stream, &request("/status", name, "")).unwrap().status, status, "{name}");
    }
    let mut stream = TcpStream::connect(port.address()).unwrap();
    let without_host = "GET /status HTTP/1.0\r\n\r\n";
    assert_eq!(exchange(&mut stream, without_host).unwrap().status, 403);
    assert_eq!(agent.stop(), 0);
    assert!(!socket.exists());
}

#[test]
fn another_address_needs_a_token() {
    let mut host = Host::new();
    let (socket, port) = (host.admin(), free_port());
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.number));
    host.root += &format!("admin.listen = \"{everywhere}\"\n");
    let refused = host.once();
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    refused.logged("is no loopback address, so anybody could read it; add `token = { file = \"/path\" }`");

    let token = host.path("admin-token");
    fs::write(&token, "first-token\n").unwrap();
    host.root += &format!("admin.token = {{ file = {token:?} }}\n");
    host.audit_file(1, 10);
    let mut agent = host.start();
    agent.until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200);
    let status = |header: &str| get_tcp(port.address(), "/metrics", header).unwrap().status;
    assert_eq!(status(""), 401);
    assert_eq!(status("Authorization: Bearer first-toke\r\n"), 401);
    assert_eq!(status("Authorization: Basic first-token\r\n"), 401);
    assert_eq!(status("Authorization: Bearer first-token\r\n"), 200);
    let refused = get_tcp(port.address(), "/metrics", "").unwrap();
    assert_eq!(refused.header("www-authenticate"), Some("bearer"));
    assert!(!refused.body.contains("caa_"), "{refused:?}");
    // A new token is read without a restart.
    fs::write(host.path("new-token"), "second-token\n").unwrap();
    fs::rename(host.path("new-token"), &token).unwrap();
    agent.until("the new token counts", || status("Authorization: Bearer second-token\r\n") == 200);
    assert_eq!(status("Authorization: Bearer first-token\r\n"), 401);
    // The socket needs none: its mode says who may open it.
    assert_eq!(get(&socket, "/metrics").unwrap().status, 200);
    assert!(!agent.stderr().contains("second-token"));
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_certificate_of_the_client_is_as_good_as_a_token() {
    let mut host = Host::new();
    let (socket, port) = (host.admin(), free_port());
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.number));
    let (servers, clients, others) = (Ca::new("servers"), Ca::new("clients"), Ca::new("others"));
    let (certificate, key) = servers.write_pair(host.path("x").parent().unwrap(), "admin");
    let client_ca = host.path("clients.pem");
    fs::write(&client_ca, clients.pem()).unwrap();
    host.root += &format!(
        "admin.listen = \"{everywhere}\"\nadmin.certificate = {certificate:?}\nadmin.private_key = {key:?}\n\
         admin.client_ca_file = {client_ca:?}\n"
    );
    host.audit_file(1, 10);
    let mut agent = host.start();
    agent.until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200);
    let ask = |client: rustls::ClientConfig| {
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let connection = rustls::ClientConnection::new(client.into(), name).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(port.address()).unwrap());
        exchange(&mut stream, &request("/metrics", "wiki.example.com", ""))
    };
    assert_eq!(ask(servers.client(Some(&clients))).unwrap().status, 200);
    assert!(ask(servers.client(None)).is_err());
    assert!(ask(servers.client(Some(&others))).is_err());
    // Without TLS nothing is answered.
    assert!(get_tcp(port.address(), "/metrics", "").is_err());
    assert_eq!(agent.stop(), 0);
    // A key without its certificate.
    host.root = host.root.replace("admin.certificate", "#");
    let refused = host.once();
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    refused.logged("needs `certificate`, the path of a PEM file");
}

#[test]
fn only_a_socket_that_nobody_serves_is_replaced() {
    let mut host = Host::new();
    let socket = host.admin();
    host.audit_file(1, 10);
    let mut agent = host.start();
    agent.until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200);
    agent.kill();
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    let mut agent = host.start();
    agent.until_answer(&socket, "/readyz", "ready after a kill", |answer| answer.status == 200);

    // Another agent with the same socket delivers without it, and the first one keeps it.
    let mut other = Host::new();
    other.root += &format!("admin.socket = {socket:?}\n");
    other.audit_file(2, 10);
    let mut second = other.start();
    second.until_logged("is served by another process");
    second.until("the other agent delivers", || other.delivered() == 10);
    assert_eq!(second.stop(), 0);
    assert_eq!(get(&socket, "/livez").unwrap().status, 200);
    assert_eq!(agent.stop(), 0);

    // Neither a file nor a symbolic link, which could lead to any file.
    let target = host.path("target");
    fs::write(&target, "kept").unwrap();
    for link in [false, true] {
        match link {
            true => symlink(&target, &socket).unwrap(),
            false => drop(File::create_new(&socket).unwrap()),
        }
        let mut agent = host.start();
        agent.until_logged("is there and is not a socket");
        assert_eq!(agent.stop(), 0);
        fs::remove_file(&socket).unwrap();
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
}
