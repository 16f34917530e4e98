mod proxy;
mod rig;
mod secrets;
mod server;
mod tls;

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use url::Url;

use self::rig::{answer, config, get, serve, url_of};
use super::{Client, HttpError, Phase, RedirectKind, Secrets, error::UnreachableCause, redirect};
use crate::config::{Auth, Reference};
use crate::secret::Secret;

#[test]
fn a_request_has_the_configured_headers_and_the_body_is_returned() {
    let server = serve(|stream, _| {
        answer(stream, "200 OK", "Content-Type: application/json\r\nX-AUSERNAME: auditor\r\n", "{\"a\":1}")
    });
    let mut config = config(&server.url("/context"));
    config.auth = Auth::Bearer(Reference::Inline(Secret::new("t0ken")));
    config.headers = vec![("X-Gateway".into(), Reference::Inline(Secret::new("key")))];
    config.user_agent = "agent/1".into();
    let mut client = Client::new(&config);
    let found = get(&mut client, &server.url("/context/rest?limit=1")).unwrap();
    assert_eq!((found.status, found.body.as_slice()), (200, b"{\"a\":1}".as_slice()));
    assert_eq!(found.header("x-ausername"), Some("auditor"));
    let heads = server.heads();
    assert!(heads[0].starts_with("GET /context/rest?limit=1 HTTP/1.1\r\n"), "{heads:?}");
    for line in
        ["authorization: Bearer t0ken", "x-gateway: key", "user-agent: agent/1", "accept: application/json"]
    {
        assert!(heads[0].lines().any(|found| found == line), "{line}: {heads:?}");
    }
    assert!(!heads[0].contains("accept-encoding"), "{heads:?}");
}

#[test]
fn basic_credentials_and_none() {
    let server = serve(|stream, _| answer(stream, "200 OK", "", ""));
    let mut config = config(&server.url("/"));
    let password = Reference::Inline(Secret::new("pässword"));
    config.auth = Auth::Basic { user: "auditor@acme.example".into(), password };
    config.headers = vec![("X-Gateway".into(), Reference::Inline(Secret::new("key")))];
    let mut client = Client::new(&config);
    get(&mut client, &server.url("/x")).unwrap();
    rig::run(client.get_anonymously(&url_of(&server.url("/y")))).unwrap();
    let heads = server.heads();
    // printf 'auditor@acme.example:pässword' | base64
    assert!(
        heads[0].contains("authorization: Basic YXVkaXRvckBhY21lLmV4YW1wbGU6cMOkc3N3b3Jk\r\n"),
        "{heads:?}"
    );
    assert!(heads[0].contains("x-gateway: key\r\n"), "{heads:?}");
    for secret in ["authorization", "x-gateway", "key"] {
        assert!(!heads[1].contains(secret), "{heads:?}");
    }
    assert!(heads[1].contains("accept: application/json"), "{heads:?}");
}

#[test]
fn a_recycled_body_is_reused() {
    let server = serve(|stream, _| answer(stream, "200 OK", "", &"x".repeat(100_000)));
    let mut client = Client::new(&config(&server.url("/")));
    let first = get(&mut client, &server.url("/")).unwrap().body;
    let address = first.as_ptr();
    client.recycle(first);
    let second = get(&mut client, &server.url("/")).unwrap().body;
    assert_eq!((second.len(), second.as_ptr()), (100_000, address));
}

/// Expects this timeout. The other ones are long.
#[track_caller]
fn times_out(base: &str, set: impl Fn(&mut crate::config::Timeouts), expect: Phase) {
    let mut config = config(base);
    set(&mut config.timeouts);
    let error = get(&mut Client::new(&config), base).unwrap_err();
    assert!(matches!(error, HttpError::Timeout { phase, .. } if phase == expect), "{error:?}");
    assert!(error.to_string().contains("raise the timeout"), "{error}");
}

const SHORT: Duration = Duration::from_millis(150);

#[test]
fn f44_no_handshake_ends_at_the_connect_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://{}/", silent.local_addr().unwrap());
    times_out(&base, |timeouts| timeouts.connect = SHORT, Phase::Tls);
}

#[test]
fn f44_no_head_ends_at_the_first_byte_timeout() {
    let server = serve(|_, server_end| server_end.wait());
    times_out(&server.url("/"), |timeouts| timeouts.first_byte = SHORT, Phase::Head);
}

#[test]
fn f44_slow_body_ends_at_the_idle_timeout() {
    let server = serve(|stream, server_end| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{").unwrap();
        server_end.wait();
    });
    times_out(&server.url("/"), |timeouts| timeouts.idle = SHORT, Phase::Idle);
}

#[test]
fn f44_dripping_body_ends_at_the_whole_timeout() {
    let server = serve(|stream, server_end| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").unwrap();
        while stream.write_all(b" ").is_ok() && !server_end.wait_for(Duration::from_millis(5)) {}
    });
    times_out(&server.url("/"), |timeouts| timeouts.whole = 2 * SHORT, Phase::Whole);
}

/// 1024 bytes with a line end.
const CHUNK: &[u8] = &{
    let mut chunk = [b'x'; 1026];
    chunk[1024] = b'\r';
    chunk[1025] = b'\n';
    chunk
};

#[test]
fn f44_huge_body_is_not_taken_in() {
    let announced = serve(|stream, server_end| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 314572800\r\n\r\n").unwrap();
        server_end.wait();
    });
    let endless = serve(|stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(b"400\r\n").and_then(|()| stream.write_all(CHUNK)).is_ok() {}
    });
    for server in [announced, endless] {
        let mut config = config(&server.url("/"));
        config.body_bytes_max = 10_000;
        let error = get(&mut Client::new(&config), &server.url("/")).unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { bytes_max: 10_000 }), "{error:?}");
    }
}

#[test]
fn f40_foreign_redirect_gets_no_request() {
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let foreign = serve(|stream, _| answer(stream, "200 OK", "", ""));
        let location = format!("Location: {}\r\n", foreign.url("/rest/auditing?x=secret"));
        let server = serve(move |stream, _| answer(stream, status, &location, ""));
        let mut config = config(&server.url("/"));
        config.auth = Auth::Bearer(Reference::Inline(Secret::new("t0ken")));
        let error = get(&mut Client::new(&config), &server.url("/rest")).unwrap_err();
        let HttpError::Redirect { to, kind, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!((*kind, to), (RedirectKind::OtherOrigin, &foreign.url("")));
        assert_eq!((server.heads().len(), foreign.heads().len()), (1, 0));
    }
}

#[test]
fn a_redirect_is_classified_by_its_target() {
    for (location, expect) in [
        ("/login.action?os_destination=x", RedirectKind::Login),
        ("https://id.atlassian.com/login", RedirectKind::Login),
        ("https://sso.example.com/saml2/idp", RedirectKind::Login),
        ("/context/rest/auditing", RedirectKind::SameOrigin),
        ("https://wiki.example.com/rest", RedirectKind::ToHttps),
        ("https://other.example.com/rest", RedirectKind::OtherOrigin),
        ("//other.example.com/rest", RedirectKind::OtherOrigin),
        ("http://wiki.example.com:8090/rest", RedirectKind::OtherOrigin),
        ("http://[", RedirectKind::OtherOrigin),
    ] {
        let error =
            redirect::error(302, location, &url_of("http://wiki.example.com/rest"), &Secrets::default());
        assert!(matches!(error, HttpError::Redirect { kind, .. } if kind == expect), "{location}: {error:?}");
    }
    let error = redirect::error(
        302,
        "https://user:pass@other.example.com/x?token=y#z",
        &url_of("http://a/"),
        &Secrets::default(),
    );
    assert!(error.to_string().contains("`https://other.example.com`"), "{error}");
}

#[test]
fn f40_nothing_is_sent_outside_the_base() {
    let server = serve(|stream, _| answer(stream, "200 OK", "", ""));
    let mut client = Client::new(&config(&server.url("/context")));
    let mut with_user = url_of(&server.url("/context/x"));
    with_user.set_username("other").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in [
        with_user.as_str(),
        &server.url("/contextual/x"),
        &server.url("/context/../x"),
        &server.url("/context/%2e%2e/x"),
        &server.url("/"),
        &format!("http://127.0.0.1:{port}/context/x"),
        &server.url("/context/x").replace("http:", "https:"),
        &server.url("/context/x").replace("127.0.0.1", "localhost"),
    ] {
        let error = get(&mut client, url).unwrap_err();
        assert!(matches!(error, HttpError::Foreign { .. }), "{url}: {error:?}");
    }
    assert_eq!(server.heads(), [""; 0]);
    client.allow(Url::parse(&server.url("/ex/confluence/1")).unwrap());
    get(&mut client, &server.url("/ex/confluence/1/wiki")).unwrap();
    get(&mut client, &server.url("/context")).unwrap();
    get(&mut client, &server.url("/ex/confluence/12")).unwrap_err();
}

#[test]
fn a_server_that_is_not_there() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (base, expect) in [
        (format!("http://{closed}/"), UnreachableCause::Refused),
        ("http://no-such-host.invalid/".into(), UnreachableCause::Name),
    ] {
        let error = get(&mut Client::new(&config(&base)), &base).unwrap_err();
        assert!(matches!(error, HttpError::Unreachable { cause, .. } if cause == expect), "{error:?}");
    }
}

/// A port without TLS may answer in clear text, close the connection, or wait. Each error tells what to
/// write.
#[test]
fn https_to_a_port_without_tls_says_so() {
    let answers = serve(|stream, _| answer(stream, "400 Bad Request", "", ""));
    let raw = |speak: fn(std::net::TcpStream)| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || listener.incoming().flatten().for_each(speak));
        address
    };
    let clear = raw(|mut stream| {
        let _ = std::io::Read::read(&mut stream, &mut [0; 999]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let ends = raw(|mut stream| drop(std::io::Read::read(&mut stream, &mut [0; 999])));
    let at_once = raw(drop);
    let silent = answers.address;
    for address in [clear, ends, at_once, silent] {
        let base = format!("https://{address}/");
        let mut config = config(&base);
        config.timeouts.connect = 2 * SHORT;
        let error = get(&mut Client::new(&config), &base).unwrap_err();
        assert!(error.to_string().contains("write `http://`"), "{error:?}");
    }
}

#[test]
fn a_connection_that_ends_too_early() {
    for head in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"] {
        let server = serve(move |stream, _| {
            stream.write_all(head.as_bytes()).unwrap();
            let _ = stream.shutdown(std::net::Shutdown::Both);
        });
        let error = get(&mut Client::new(&config(&server.url("/"))), &server.url("/")).unwrap_err();
        assert!(matches!(error, HttpError::Broken { .. }), "{head}: {error:?}");
    }
}

#[test]
fn a_path_is_put_below_a_base() {
    for (base, path, expect) in [
        ("https://e:9200", "/a/_bulk?x=1,y.*.z", "https://e:9200/a/_bulk?x=1,y.*.z"),
        ("https://e/es/", "/a/_bulk?x=1,y.*.z", "https://e/es/a/_bulk?x=1,y.*.z"),
        ("http://e", "/", "http://e/"),
        ("https://s/splunk", "/services/collector/event", "https://s/splunk/services/collector/event"),
    ] {
        assert_eq!(redirect::below(&url_of(base), path).as_str(), expect);
    }
}
