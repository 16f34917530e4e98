use std::fmt::Debug;
use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use reqwest::header::{COOKIE, HeaderValue};
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::rig::{answer, config, everything_of, get, run, serve};
use super::server::{next_head, start};
use super::tls;
use crate::config::{Auth, ProxyConfig, Reference};
use crate::http::{Client, HeaderMap};
use crate::secret::Secret;
use crate::sink::outcome::server_message;

#[test]
fn f56_a_token_file_that_is_replaced_is_used_at_once() {
    let dir = TempDir::new().unwrap();
    let server = serve(|stream, _| answer(stream, "401 Unauthorized", "", ""));
    let path = tls::file(&dir, "token", "first\n");
    let mut config = config(&server.url("/"));
    config.auth = Auth::Bearer(Reference::File(path.clone()));
    let mut client = Client::new(&config);
    get(&mut client, &server.url("/")).unwrap();
    assert!(!client.credentials_changed());
    fs::rename(tls::file(&dir, "new", "second\n"), &path).unwrap();
    assert!(client.credentials_changed());
    get(&mut client, &server.url("/")).unwrap();
    assert!(!client.credentials_changed());
    // Missing for a moment: the previous token stays in use.
    fs::remove_file(&path).unwrap();
    get(&mut client, &server.url("/")).unwrap();
    let sent: Vec<String> = server
        .heads()
        .iter()
        .flat_map(|head| head.lines())
        .filter(|line| line.starts_with("authorization"))
        .map(String::from)
        .collect();
    assert_eq!(
        sent,
        ["authorization: Bearer first", "authorization: Bearer second", "authorization: Bearer second"]
    );
}

#[test]
fn f57_a_secret_that_a_server_repeats_is_taken_out() {
    let canary = |text: &str| Reference::Inline(Secret::new(text));
    let basic = |user: &str, password: &str| Auth::Basic { user: user.into(), password: canary(password) };
    for status in ["200 OK", "202 Accepted", "403 Forbidden", "500 Internal Server Error"] {
        // The server repeats the whole request, as debug pages do.
        let server = start("http", move |mut stream, heads, _| {
            while let Some(head) = next_head(&mut stream, heads) {
                answer(&mut stream, status, "", &format!("{head}{head}pässword"));
            }
        });
        for (auth, sent) in [
            (Auth::Bearer(canary("canary-one")), "canary-one"),
            (Auth::Scheme("ApiKey", canary("canary-one")), "canary-one"),
            // Of `auditor@acme.example:pässword`
            (basic("auditor@acme.example", "pässword"), "YXVkaXRvckBhY21lLmV4YW1wbGU6cMOkc3N3b3Jk"),
        ] {
            let has_password = matches!(auth, Auth::Basic { .. });
            let mut config = config(&server.url("/"));
            config.auth = auth;
            config.headers = vec![("X-Gateway".into(), canary("canary-two"))];
            config.proxy = Some(ProxyConfig {
                url: super::url_of(&server.url("/")),
                auth: Some(("agent".into(), canary("canary-three"))),
                no_proxy: Vec::new(),
            });
            let mut extra_headers = HeaderMap::new();
            let mut cookie = HeaderValue::from_static("canary-four");
            cookie.set_sensitive(true);
            extra_headers.insert(COOKIE, cookie);
            let mut client = Client::new(&config);
            let url = super::url_of("http://wiki.example/");
            client.allow(url.clone());
            let call = client.exchange(Method::GET, &url, extra_headers, Vec::new()).unwrap();
            let answer = run(call.run()).unwrap();
            let body = String::from_utf8(answer.body.clone()).unwrap();
            // The last one is of `agent:canary-three`.
            let others = ["canary-two", "canary-four", "YWdlbnQ6Y2FuYXJ5LXRocmVl"];
            for secret in others.iter().chain([&sent]).chain(has_password.then_some(&"pässword")) {
                assert!(body.contains(secret), "{secret}: {body}");
                for logged in [answer.text(), server_message(&answer), answer.redacted(&body)] {
                    assert!(!logged.contains(secret), "{status} {secret}: {logged}");
                    assert!(logged.contains("authorization: ***"), "{logged}");
                }
            }
        }
    }
}

/// Headers of a response may contain anything. Little of them is logged, and no secret.
#[test]
fn f99_response_headers_show_no_secret() {
    const CANARY: &str = "CANARYtok77aQ";
    let base64 = "Q0FOQVJZdG9rNzdhUQ";
    let hosts = [
        ("http://127.0.0.1:9/CANARYtok77aQ/x?CANARYtok77aQ", "`http://127.0.0.1:9`"),
        ("http://CANARYtok77aQ.evil.example/", "`http://***`"),
        ("http://x.canarytok77aq.example:81/", "`http://***:81`"),
        ("http://43414e415259746f6b37376151.example/", "`http://***`"),
        ("//other.example/free text", "`http://other.example`"),
        ("/login?token=CANARYtok77aQ", "a login page"),
    ];
    for (location, expect) in hosts {
        let head = format!("Location: {location}\r\n");
        let server = serve(move |stream, _| answer(stream, "302 Found", &head, ""));
        let mut config = config(&server.url("/"));
        config.auth = Auth::Bearer(Reference::Inline(Secret::new(CANARY)));
        let error = get(&mut Client::new(&config), &server.url("/")).unwrap_err();
        let captured = everything_of(&error);
        assert!(!captured.to_ascii_lowercase().contains("canary"), "{captured}");
        assert!(captured.contains(expect) && !captured.contains("free"), "{captured}");
    }
    for (kind, expect) in [
        ("x/CANARYtok77aQ", "x/***"),
        (&*format!("x/{base64}; charset=utf-8"), "x/***"),
        ("text/html; title=everything", "text/html"),
        ("text/<script>", "text/"),
        (
            "application/vnd.very-long.name-that-goes-on-and-on+json",
            "application/vnd.very-long.name-that-goes",
        ),
        ("", ""),
    ] {
        let head = format!("Content-Type: {kind}\r\n");
        let server = serve(move |stream, _| answer(stream, "200 OK", &head, "x"));
        let mut config = config(&server.url("/"));
        config.headers = vec![("X-Key".into(), Reference::Inline(Secret::new(CANARY)))];
        let found = get(&mut Client::new(&config), &server.url("/")).unwrap();
        assert_eq!(found.media_type(), expect);
    }
}

/// Everything that any library logs at any level, by `log` and by `tracing`.
#[derive(Clone, Default)]
struct CapturedLogs(Arc<Mutex<String>>);

impl CapturedLogs {
    fn add(&self, what: impl Debug) {
        // `{:?}` escapes quotes only, and the canary has none.
        *self.0.lock().unwrap() += &format!("{what:?}\n");
    }
}

impl Visit for &CapturedLogs {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        self.add(value);
    }
}

impl<S: tracing::Subscriber> Layer<S> for CapturedLogs {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut &*self);
    }

    fn on_new_span(&self, span: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        span.record(&mut &*self);
    }
}

impl log::Log for CapturedLogs {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        self.add(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn f57_no_secret_in_logs_and_errors_at_any_level() {
    const CANARY: &str = "cAnArY7";
    const ENCODED: [&str; 2] = ["YWdlbnQ6Y0FuQXJZNw", "dXNlcjpjQW5Bclk3"];
    let captured = CapturedLogs::default();
    log::set_logger(Box::leak(Box::new(captured.clone())))
        .expect("no other test of this binary listens to `log`");
    log::set_max_level(log::LevelFilter::Trace);
    let canary = || Reference::Inline(Secret::new(CANARY));
    let silent = start("http", |mut stream, _, _| {
        let _ = stream.write_all(b"garbage\r\n\r\n");
    });
    let moved = serve(|stream, _| {
        answer(stream, "302 Found", "Location: http://u:cAnArY7@other.example/?t=cAnArY7\r\n", "")
    });
    let good = serve(|stream, _| answer(stream, "200 OK", "", "{}"));
    let mut printed = String::new();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(captured.clone()), || {
        for proxied in [false, true] {
            for (server, url) in [
                (&silent, silent.url("/")),
                (&moved, moved.url("/")),
                (&good, good.url("/")),
                (&good, "http://u:cAnArY7@h/?cAnArY7".into()),
            ] {
                for auth in [Auth::Bearer(canary()), Auth::Basic { user: "user".into(), password: canary() }]
                {
                    let mut config = config(&server.url("/"));
                    config.headers = vec![("X-Key".into(), canary())];
                    config.auth = auth;
                    config.proxy = proxied.then(|| ProxyConfig {
                        url: super::url_of(&silent.url("/")),
                        auth: Some(("agent".into(), canary())),
                        no_proxy: Vec::new(),
                    });
                    printed += &format!("{config:?}");
                    match get(&mut Client::new(&config), &url) {
                        Ok(_) => {}
                        Err(error) => printed += &everything_of(&error),
                    }
                }
            }
        }
        tracing::trace!("heard");
    });
    log::trace!("heard by log");
    assert!(good.heads()[0].contains(CANARY), "the canary was sent");
    let captured = captured.0.lock().unwrap().clone();
    assert!(captured.contains("heard") && captured.contains("heard by log"), "{captured}");
    assert!(captured.contains("starting new connection"), "the client's own records were heard: {captured}");
    for secret in [CANARY].iter().chain(&ENCODED) {
        assert!(!captured.contains(secret), "{captured}");
        assert!(!printed.contains(secret), "{printed}");
    }
}
