use super::login::refused;
use super::managed::ManagedIdentity;
use super::*;
use crate::config::{Auth, AzureIdentity, Compression, HttpConfig, Reference, SentinelConfig};
use crate::secret::Secret;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use ring::signature::{RSA_PSS_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

const CERTIFICATE: &[u8] = include_bytes!("../../../fixtures/sentinel/certificate.pem");
const KEY: &[u8] = include_bytes!("../../../fixtures/sentinel/key.pem");
const KEY_PKCS1: &[u8] = include_bytes!("../../../fixtures/sentinel/key-pkcs1.pem");
const KEY_OTHER: &[u8] = include_bytes!("../../../fixtures/sentinel/key-other.pem");
const KEY_EC: &[u8] = include_bytes!("../../../fixtures/sentinel/key-ec.pem");

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

/// Serves one response per request, in order, with status, headers and body. Records the requests.
fn serve(replies: Vec<(u16, String, &'static str)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let mut replies = replies.into_iter();
    serve_with(move |_| {
        let (status, headers, body) = replies.next()?;
        Some((status, headers, body.to_owned()))
    })
}

fn serve_with(
    mut reply: impl FnMut(&str) -> Option<(u16, String, String)> + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let recorded = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let from = head.len();
                if reader.read_line(&mut head).unwrap() == 0 {
                    return;
                }
                if let Some(text) = head[from..].to_ascii_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
            }
            let mut form = vec![0; length];
            reader.read_exact(&mut form).unwrap();
            let request = head + &String::from_utf8(form).unwrap();
            recorded.lock().unwrap().push(request.clone());
            let Some((status, headers, body)) = reply(&request) else {
                return;
            };
            let length = body.len();
            let reply = format!(
                "HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            reader.into_inner().write_all(reply.as_bytes()).unwrap();
        }
    });
    (url, requests)
}

fn ok(body: &'static str) -> (u16, String, &'static str) {
    (200, String::new(), body)
}

fn config(login: &str, identity: AzureIdentity) -> SentinelConfig {
    SentinelConfig {
        http: HttpConfig::new(Url::parse(login).unwrap(), Auth::None),
        dcr_immutable_id: "dcr-1".into(),
        stream: SentinelConfig::STREAM.into(),
        identity,
        login: Url::parse(login).unwrap(),
        scope: SentinelConfig::SCOPE.into(),
        compression: Compression::Gzip,
    }
}

fn by_secret() -> AzureIdentity {
    AzureIdentity::Secret {
        tenant: "t".into(),
        client: "c".into(),
        secret: Reference::Inline(Secret::new("s3cr&t")),
    }
}

fn class(status: u16, body: &str) -> String {
    let response = http::Response { status, body: body.into(), ..http::Response::default() };
    match classify(&response, SentinelConfig::STREAM, 0) {
        RequestOutcome::All(Outcome::Delivered) => "delivered".into(),
        RequestOutcome::All(Outcome::Retry { .. }) => "retry".into(),
        RequestOutcome::All(Outcome::Misconfigured { reason }) => reason,
        RequestOutcome::Halve { too_large, .. } => format!("halve, too large: {too_large}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_answer_has_its_class() {
    let stream = r#"{"error":{"code":"InvalidStream","message":"not configured"}}"#;
    let table = [
        (204, "", "delivered"),
        (200, "<html>Log in</html>", "the server is not an ingestion endpoint"),
        (400, r#"{"error":{"code":"InvalidPayload","message":"no array"}}"#, "halve, too large: false"),
        (400, "", "halve, too large: false"),
        (400, stream, "the data collection rule has no such stream"),
        (
            400,
            r#"{"error":{"code":"X","message":"Stream Custom-ConfluenceAuditLogs_CL is unknown"}}"#,
            "the data collection rule has no such stream",
        ),
        (401, "", "Azure does not accept the token"),
        (403, "{}", "the application lacks the role Monitoring Metrics Publisher"),
        (404, r#"{"error":{"code":"NotFound","message":"x"}}"#, "there is no such data collection rule"),
        (413, "", "halve, too large: true"),
        (429, "", "retry"),
        (500, "", "retry"),
        (503, "", "retry"),
    ];
    for (status, body, expect) in table {
        let class = class(status, body);
        assert!(class.starts_with(expect), "{status} {body}: {class}");
    }
}

#[test]
fn refusals_of_entra_id_name_the_fix_and_do_not_vary() {
    let table = [
        (
            "AADSTS7000215: Invalid client secret provided. Trace ID: 1 Timestamp: 2",
            "to its value, not to its id",
        ),
        (
            "AADSTS7000222: The provided client secret keys are expired.\r\nTrace ID: 4",
            "the secret has expired",
        ),
        ("AADSTS700016: Application with identifier 'x' was not found", "correct `client_id`"),
        ("AADSTS90002: Tenant 'x' not found.", "correct `tenant_id`"),
        ("AADSTS700027: The certificate is not registered", "upload `client_certificate`"),
        ("AADSTS500011: The resource principal was not found", "`scope`"),
        ("AADSTS1: something else", "see `tenant_id`"),
    ];
    for (text, expect) in table {
        let body = serde_json::json!({"error": "invalid_client", "error_description": text});
        let response =
            http::Response { status: 401, body: body.to_string().into_bytes(), ..http::Response::default() };
        let Outcome::Misconfigured { reason } = refused(&response, 0) else {
            panic!("{text}");
        };
        assert!(reason.contains(expect) && !reason.contains("Trace"), "{reason}");
    }
    for (status, body) in [(429, ""), (503, ""), (400, r#"{"error":"temporarily_unavailable"}"#)] {
        let response = http::Response { status, body: body.into(), ..http::Response::default() };
        assert!(matches!(refused(&response, 0), Outcome::Retry { .. }), "{status}");
    }
}

/// A login that repeats the request, raw and decoded, in an error of Entra ID or on a debug page.
#[test]
fn f57_what_proves_the_application_is_not_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    fs::write(&certificate, CERTIFICATE).unwrap();
    fs::write(&key, KEY).unwrap();
    let by_certificate =
        AzureIdentity::Certificate { tenant: "t".into(), client: "c".into(), certificate, key };
    let by_secret = AzureIdentity::Secret {
        tenant: "t".into(),
        client: "c".into(),
        secret: Reference::Inline(Secret::new("Abc8Q~mn&rstuvwxyz+0123456789")),
    };
    for status in [202, 401, 503] {
        for identity in [by_secret.clone(), by_certificate.clone()] {
            for in_json in [true, false] {
                let (url, requests) = serve_with(move |request| {
                    let (_, form) = request.split_once("\r\n\r\n").unwrap();
                    let read: Vec<_> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
                    let text = format!("{:?} {form}", read.last().unwrap());
                    let body = match in_json {
                        true => serde_json::json!({ "error_description": text })
                            .to_string()
                            .replace('&', "\\u0026"),
                        false => text,
                    };
                    Some((status, String::new(), body))
                });
                let outcome = run(Tokens::new(&config(&url, identity.clone())).get()).unwrap_err();
                let request = requests.lock().unwrap()[0].clone();
                let credential = request.rsplit_once('=').unwrap().1;
                let reason = outcome.reason();
                assert!(reason.contains("***"), "{reason}");
                for secret in
                    [&credential[..20], &credential[credential.len() - 10..], "rstuvwxyz", "0123456789"]
                {
                    assert!(!reason.contains(secret), "{secret}: {reason}");
                }
            }
        }
    }
}

#[test]
fn a_token_is_cached_and_requested_again_when_refused() {
    let (url, requests) = serve(vec![
        ok(r#"{"access_token":"one","expires_in":3599}"#),
        ok(r#"{"access_token":"two","expires_in":"3599"}"#),
        ok(r#"{"access_token":"three","expires_in":0}"#),
        ok(r#"{"access_token":"","expires_in":9}"#),
    ]);
    let tokens = Tokens::new(&config(&url, by_secret()));
    run(async {
        for _ in 0..3 {
            assert_eq!(tokens.get().await.unwrap().expose(), "one");
        }
        let one = tokens.get().await.unwrap();
        tokens.invalidate(&one).await;
        assert_eq!(tokens.get().await.unwrap().expose(), "two");
        // A second request that was refused with the first token causes no third token request.
        tokens.invalidate(&one).await;
        let two = tokens.get().await.unwrap();
        assert_eq!(two.expose(), "two");
        tokens.invalidate(&two).await;
        // Expired at once: each use requests a new one.
        assert_eq!(tokens.get().await.unwrap().expose(), "three");
        assert!(matches!(tokens.get().await, Err(Outcome::Retry { .. })));
    });
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    assert!(requests[0].starts_with("POST /t/oauth2/v2.0/token HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].ends_with("\r\n\r\ngrant_type=client_credentials&client_id=c&scope=https%3A%2F%2Fmonitor.azure.com%2F.default&client_secret=s3cr%26t"));
}

#[test]
fn entra_id_can_verify_the_client_assertion() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    fs::write(&certificate, CERTIFICATE).unwrap();
    let identity = AzureIdentity::Certificate {
        tenant: "t".into(),
        client: "c".into(),
        certificate: certificate.clone(),
        key: key.clone(),
    };
    for pem in [KEY, KEY_PKCS1] {
        fs::write(&key, pem).unwrap();
        let (url, requests) = serve(vec![ok(r#"{"access_token":"one","expires_in":3599}"#)]);
        let tokens = Tokens::new(&config(&url, identity.clone()));
        assert_eq!(run(tokens.get()).unwrap().expose(), "one");
        let request = requests.lock().unwrap()[0].clone();
        let form = request.split("\r\n\r\n").nth(1).unwrap();
        let form: std::collections::HashMap<_, _> = url::form_urlencoded::parse(form.as_bytes()).collect();
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert!(!form.contains_key("client_secret"));
        verify(&form["client_assertion"], &format!("{url}/t/oauth2/v2.0/token"));
        assert!(!tokens.changed());
        fs::write(&key, KEY_OTHER).unwrap();
        assert!(tokens.changed());
    }
    for (certificate_pem, pem, expect) in [
        (CERTIFICATE, KEY_OTHER, "is not the key of"),
        (CERTIFICATE, KEY_EC, "is not an RSA key"),
        (CERTIFICATE, CERTIFICATE, "no unencrypted private key"),
        (KEY, KEY, "no certificate"),
    ] {
        fs::write(&certificate, certificate_pem).unwrap();
        fs::write(&key, pem).unwrap();
        let tokens = Tokens::new(&config("http://127.0.0.1:9", identity.clone()));
        let Err(Outcome::Misconfigured { reason }) = run(tokens.get()) else {
            panic!("{expect}");
        };
        assert!(reason.contains(expect), "{reason}");
    }
}

fn verify(assertion: &str, audience: &str) {
    let parts: Vec<&str> = assertion.split('.').collect();
    let json = |part: &str| serde_json::from_slice::<Value>(&BASE64.decode(part).unwrap()).unwrap();
    let (header, claims) = (json(parts[0]), json(parts[1]));
    let der = rustls::pki_types::CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let thumbprint = ring::digest::digest(&ring::digest::SHA256, &der);
    assert_eq!((&header["alg"], &header["typ"]), (&"PS256".into(), &"JWT".into()));
    assert_eq!(header["x5t#S256"], BASE64.encode(thumbprint));
    assert_eq!(
        (&claims["aud"], &claims["iss"], &claims["sub"]),
        (&audience.into(), &"c".into(), &"c".into())
    );
    assert_eq!(claims["jti"].as_str().unwrap().len(), 36);
    let now_s = clock::now_ms() / 1000;
    let (from, to) = (claims["nbf"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!((now_s - 60..=now_s).contains(&from) && to == from + 600);
    let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_slice(KEY).unwrap() else { panic!() };
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let signed = format!("{}.{}", parts[0], parts[1]);
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public().as_ref())
        .verify(signed.as_bytes(), &BASE64.decode(parts[2]).unwrap())
        .unwrap();
}

/// A response of the Azure Arc agent that names a challenge file.
fn challenge(path: &Path) -> (u16, String, &'static str) {
    (401, format!("www-authenticate: Basic realm={}\r\n", path.display()), "")
}

fn arc(dir: &Path, named: &Path) -> (Result<http::Response, Outcome>, Vec<String>) {
    let (url, requests) = serve(vec![challenge(named), ok(r#"{"access_token":"arc","expires_in":"86399"}"#)]);
    let endpoint = format!("{url}/metadata/identity/oauth2/token");
    let managed = ManagedIdentity::arc(&endpoint, SentinelConfig::SCOPE, dir.into()).unwrap();
    let response = run(managed.request_token());
    let requests = requests.lock().unwrap().clone();
    (response, requests)
}

#[test]
fn an_arc_host_authenticates_with_the_challenge_file() {
    let dir = tempfile::tempdir().unwrap();
    let credential = dir.path().join("1234.key");
    fs::write(&credential, "pr00f\n").unwrap();
    let (response, requests) = arc(dir.path(), &credential);
    assert_eq!(response.unwrap().status, 200);
    assert_eq!(requests.len(), 2);
    let path = "GET /metadata/identity/oauth2/token?api-version=2020-06-01&resource=https%3A%2F%2Fmonitor.azure.com HTTP/1.1";
    for request in &requests {
        assert!(request.starts_with(path) && request.contains("metadata: true\r\n"), "{request}");
    }
    assert!(!requests[0].contains("authorization:"));
    assert!(requests[1].contains("authorization: Basic pr00f\r\n"), "{}", requests[1]);
}

#[test]
fn only_challenge_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    fs::create_dir_all(tokens.join("below")).unwrap();
    let secret = dir.path().join("passwd.key");
    for path in [&secret, &tokens.join("below/x.key"), &tokens.join("x.txt")] {
        fs::write(path, "hunter2").unwrap();
    }
    fs::write(tokens.join("large.key"), "hunter2".repeat(1000)).unwrap();
    std::os::unix::fs::symlink(&secret, tokens.join("link.key")).unwrap();
    fs::create_dir(tokens.join("dir.key")).unwrap();
    let named = [
        secret.clone(),
        tokens.join("../passwd.key"),
        tokens.join("below/x.key"),
        tokens.join("x.txt"),
        tokens.join("large.key"),
        tokens.join("link.key"),
        tokens.join("dir.key"),
        tokens.join("missing.key"),
        "passwd.key".into(),
    ];
    for path in named {
        let (response, requests) = arc(&tokens, &path);
        let Err(Outcome::Misconfigured { reason }) = response else {
            panic!("{path:?}");
        };
        assert!(!reason.contains("hunter2") && requests.len() == 1, "{path:?}: {reason}");
    }
}
