//! Nobody can stop delivery, or make the agent grow, through the admin endpoint.

use crate::rig::admin::{get, get_tcp, request};
use crate::rig::{Host, free_port};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection to the endpoint that is of no use. An error is what the agent is allowed to cause.
fn hostile(number: usize, address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
    let sent: Vec<u8> = match number % 8 {
        // Never sends its headers.
        0 => Vec::new(),
        1 => b"GET /metrics HT".to_vec(),
        // A head without an end.
        2 => [b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec(), vec![b'x'; 64 * 1024]].concat(),
        3 => b"GET / HTTP/1.1\r\n".iter().copied().chain(b"A: b\r\n".repeat(10_000)).collect(),
        // No HTTP, a TLS hello among it.
        4 => vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0],
        5 => b"\r\n\r\n\0\xff GET\r\n\r\n".to_vec(),
        // A body that does not come, and a request smuggled behind another.
        6 => b"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx".to_vec(),
        _ => b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
            .to_vec(),
    };
    let _ = stream.write_all(&sent);
    Some(stream)
}

#[test]
fn ten_thousand_hostile_connections_do_not_stop_delivery() {
    const CONNECTIONS: usize = 10_000;
    const OPEN: usize = 200;
    let mut host = Host::new();
    let (socket, port) = (host.admin(), free_port());
    host.root += &format!("admin.listen = \"{}\"\n", port.address());
    let (mut writer, file) = host.audit_file(1, 10);
    let mut agent = host.start();
    agent.until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200);
    let before_kb = agent.status_kb("VmRSS");
    let mut open = std::collections::VecDeque::new();
    for number in 0..CONNECTIONS {
        open.extend(hostile(number, port.address()));
        if open.len() > OPEN {
            open.pop_front();
        }
        if number % 1000 == 0 {
            writer.append(&file, 10);
            let written = writer.written.len();
            agent.until("events are delivered meanwhile", || host.delivered() == written);
            // The socket has connections of its own, so a person can look.
            assert_eq!(get(&socket, "/livez").unwrap().status, 200);
        }
    }
    let grown_kb = agent.status_kb("VmRSS").saturating_sub(before_kb);
    assert!(grown_kb < 8 * 1024, "{grown_kb} kB");
    drop(open);
    agent.until("the address answers again", || {
        get_tcp(port.address(), "/livez", "").is_ok_and(|answer| answer.status == 200)
    });
    assert_eq!(agent.stop(), 0);
}

/// Sends requests over one connection after the other, and reads each answer.
fn scrape(socket: &Path, scrapes: usize) {
    const OF_CONNECTION: usize = 100;
    for _ in 0..scrapes / OF_CONNECTION {
        let mut stream = UnixStream::connect(socket).unwrap();
        let keep_alive = "GET /metrics HTTP/1.1\r\nHost: agent\r\n\r\n";
        for number in 1..=OF_CONNECTION {
            let is_last = number == OF_CONNECTION;
            let text = if is_last { request("/metrics", "agent", "") } else { keep_alive.to_owned() };
            stream.write_all(text.as_bytes()).unwrap();
            let (mut answer, mut block) = (Vec::new(), [0; 65_536]);
            while !answer.ends_with(b"# EOF\n") {
                let bytes = stream.read(&mut block).unwrap();
                assert!(bytes > 0, "the connection ended: {}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&block[..bytes]);
            }
        }
    }
}

#[test]
fn ten_thousand_scrapes_do_not_grow_memory() {
    let mut host = Host::new();
    let socket = host.admin();
    host.audit_file(1, 100);
    let mut agent = host.start();
    agent.until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200);
    scrape(&socket, 500);
    let before_kb = agent.status_kb("VmRSS");
    scrape(&socket, 10_000);
    let grown_kb = agent.status_kb("VmRSS").saturating_sub(before_kb);
    assert!(grown_kb <= 512, "{grown_kb} kB");
    assert_eq!(agent.stop(), 0);
}
