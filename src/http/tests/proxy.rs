use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use tempfile::TempDir;

use super::rig::{TestServer, answer, config, everything_of, get, serve};
use super::server::{next_head, start};
use super::tls;
use crate::config::{Auth, HttpConfig, ProxyConfig, Reference};
use crate::http::{Client, HttpError};
use crate::secret::Secret;

/// A proxy that requires a password, and refuses hosts that contain `forbidden`.
fn proxy(forbidden: &'static str) -> TestServer {
    start("http", move |mut stream, heads, _| {
        while let Some(head) = next_head(&mut stream, heads) {
            let target = head.split(' ').nth(1).unwrap_or_default();
            // printf 'agent:proxypass' | base64
            if !head.to_ascii_lowercase().contains("proxy-authorization: basic ywdlbnq6chjvehlwyxnz\r\n") {
                answer(&mut stream, "407 Proxy Authentication Required", "Proxy-Authenticate: Basic\r\n", "");
            } else if !forbidden.is_empty() && target.contains(forbidden) {
                answer(&mut stream, "403 Forbidden", "", "");
            } else if head.starts_with("CONNECT ") {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                return tunnel(stream, TcpStream::connect(target).unwrap());
            } else {
                answer(&mut stream, "200 OK", "", "through the proxy");
            }
        }
    })
}

fn tunnel(client: TcpStream, server: TcpStream) {
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || pump(&mut from, &mut to));
    let (mut from, mut to) = (server, client);
    pump(&mut from, &mut to);
}

fn pump(from: &mut TcpStream, to: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn through(mut config: HttpConfig, proxy: &TestServer, password: &str, no_proxy: &[&str]) -> HttpConfig {
    config.proxy = Some(ProxyConfig {
        url: super::url_of(&proxy.url("/")),
        auth: Some(("agent".into(), Reference::Inline(Secret::new(password)))),
        no_proxy: no_proxy.iter().map(|host| host.to_string()).collect(),
    });
    config
}

#[test]
fn https_goes_through_a_tunnel_and_the_proxy_sees_no_token() {
    let (dir, ca, proxy) = (TempDir::new().unwrap(), tls::ca(), proxy(""));
    let server = tls::server(&ca, "127.0.0.1", None, rustls::ALL_VERSIONS);
    let mut config = config(&server.url("/"));
    config.tls.ca_file = Some(tls::file(&dir, "ca.pem", &ca.pem()));
    config.auth = Auth::Bearer(Reference::Inline(Secret::new("t0ken")));
    let config = through(config, &proxy, "proxypass", &["other.example.com"]);
    get(&mut Client::new(&config), &server.url("/rest")).unwrap();
    let (at_proxy, at_server) = (proxy.heads(), server.heads());
    assert_eq!(at_proxy.len(), 1);
    assert!(at_proxy[0].starts_with(&format!("CONNECT {} HTTP/1.1\r\n", server.address)), "{at_proxy:?}");
    assert!(!at_proxy[0].contains("t0ken") && at_server[0].contains("Bearer t0ken"), "{at_server:?}");
    assert!(!at_server[0].to_ascii_lowercase().contains("proxy-authorization"), "{at_server:?}");
}

#[test]
fn plain_http_goes_through_the_proxy() {
    let proxy = proxy("");
    let config = through(config("http://wiki.example.com/"), &proxy, "proxypass", &[]);
    let found = get(&mut Client::new(&config), "http://wiki.example.com/rest").unwrap();
    assert_eq!(found.body, b"through the proxy");
    assert!(proxy.heads()[0].starts_with("GET http://wiki.example.com/rest HTTP/1.1\r\n"));
}

#[test]
fn no_proxy_hosts_are_reached_directly() {
    let server = serve(|stream, _| answer(stream, "200 OK", "", "direct"));
    for direct in ["127.0.0.1", "127.0.0.0/8"] {
        let proxy = proxy("");
        let config = through(config(&server.url("/")), &proxy, "proxypass", &["wiki.example.com", direct]);
        let found = get(&mut Client::new(&config), &server.url("/")).unwrap();
        assert_eq!(found.body, b"direct");
        assert_eq!(proxy.heads(), [""; 0]);
    }
}

#[test]
fn a_proxy_that_refuses_has_a_remedy() {
    for (password, forbidden, remedy) in
        [("wrong", "", "a user and a password"), ("proxypass", "wiki", "`no_proxy`")]
    {
        let (dir, proxy) = (TempDir::new().unwrap(), proxy(forbidden));
        let mut config = config("https://wiki.example.com/");
        config.tls.ca_file = Some(tls::file(&dir, "ca.pem", &tls::ca().pem()));
        let config = through(config, &proxy, password, &[]);
        let error = get(&mut Client::new(&config), "https://wiki.example.com/").unwrap_err();
        assert!(matches!(error, HttpError::Proxy { .. }), "{}", everything_of(&error));
        assert!(error.to_string().contains(remedy), "{error}");
    }
}
