//! The admin endpoint: HTTP over a Unix socket, over TCP on a loopback address, or with a token or a certificate
//! on any address. It answers GET and HEAD, and what it answers is made by the agent. Nobody can stop delivery through
//! it: connections, their time and their headers are bounded.

use crate::config::{AdminConfig, AdminTls};
use crate::credential::Credential;
use crate::secret::Secret;
use crate::tls;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Connections at a time, to each listener. Prometheus needs one, a person a few.
const CONNECTIONS_MAX: usize = 16;
/// How long a client may take to send its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last, with all its requests.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request's head. Browsers send a few hundred.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// In front of a token in a header.
const BEARER: &[u8] = b"Bearer ";
/// After a failed accept, mostly for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// What a path answers.
pub(crate) struct Reply {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: String,
}

/// Answers a path; `None`: there is nothing there.
pub(crate) type Respond = Arc<dyn Fn(&str) -> Option<Reply> + Send + Sync>;

/// Why a client of a listener may read.
enum Access {
    /// It could open the socket, which belongs to the agent's user and group.
    Socket,
    /// It is on this host.
    Loopback,
    /// It has a certificate, which is verified before any request.
    Certificate,
    /// It has the token.
    Token(Box<Mutex<Credential>>),
}

/// What the connections of one listener share.
struct Listener {
    access: Access,
    respond: Respond,
    slots: Arc<Semaphore>,
}

/// Removes the socket at the end.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone: systemd removes its directory.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Opens the Unix socket of the endpoint, and serves it in tasks of this runtime until the process ends.
///
/// # Errors
/// The socket cannot be opened.
pub(crate) fn serve_socket(path: &Path, respond: Respond) -> io::Result<()> {
    let listener = bind_unix(path)?;
    let (file, shared) = (SocketFile(path.to_owned()), Listener::new(Access::Socket, respond));
    tokio::spawn(async move {
        // Moves it into the task, which lives as long as the runtime.
        let _file = file;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => spawn_connection(&shared, serve_connection(stream, shared.clone())),
                Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
            }
        }
    });
    Ok(())
}

/// As [`serve_socket`], over TCP.
pub(crate) fn serve_tcp(address: SocketAddr, config: &AdminConfig, respond: Respond) -> io::Result<()> {
    let access = access(address, config)?;
    let files = config.tls.as_ref();
    let tls = files.map(|AdminTls { certificate, private_key, client_ca_file }| {
        tls::server(certificate, private_key, client_ca_file.as_deref())
    });
    let tls = tls.transpose().map_err(io::Error::other)?.map(|tls| TlsAcceptor::from(Arc::new(tls)));
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let (listener, shared) = (TcpListener::from_std(listener)?, Listener::new(access, respond));
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match tls.clone() {
                    None => spawn_connection(&shared, serve_connection(stream, shared.clone())),
                    Some(tls) => spawn_connection(&shared, serve_tls(stream, tls, shared.clone())),
                },
                Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
            }
        }
    });
    Ok(())
}

/// Who may read over TCP. Without a token and without certificates of clients it must be a loopback address.
fn access(address: SocketAddr, config: &AdminConfig) -> io::Result<Access> {
    if let Some(token) = config.token.clone() {
        let mut token = Credential::new(token);
        // Read now, so that the log says what is wrong. Each request reads it again if the file has changed.
        token.read().map_err(io::Error::other)?;
        return Ok(Access::Token(Box::new(Mutex::new(token))));
    }
    if config.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some()) {
        return Ok(Access::Certificate);
    }
    let refusal = || io::Error::other(format!("{address} is no loopback address and needs a token"));
    address.ip().is_loopback().then_some(Access::Loopback).ok_or_else(refusal)
}

/// A socket that a killed agent has left is replaced. One that somebody serves is not, and nothing else is.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let refused = |reason| Err(io::Error::other(format!("`{}` {reason}", path.display())));
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return refused("is there and is not a socket"),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return refused("is served by another process");
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

impl Listener {
    fn new(access: Access, respond: Respond) -> Arc<Listener> {
        Arc::new(Listener { access, respond, slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)) })
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some(refusal) = self.refusal(request) {
            return refusal;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match (self.respond)(request.uri().path()) {
            Some(reply) => response(reply),
            None => text(StatusCode::NOT_FOUND, "There are /, /status, /metrics, /livez and /readyz.\n"),
        }
    }

    /// Why the client may not read, if so.
    fn refusal(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        match &self.access {
            Access::Socket | Access::Certificate => None,
            // A web page whose name resolves to a loopback address must not read this.
            Access::Loopback => {
                let is_local = request.headers().get(HOST).is_some_and(is_loopback_host);
                let message = "The host of the URL must be a loopback address or `localhost`.\n";
                (!is_local).then(|| text(StatusCode::FORBIDDEN, message))
            }
            Access::Token(token) => {
                let token = token.lock().unwrap_or_else(PoisonError::into_inner).read();
                if token.is_ok_and(|token| has_token(request.headers().get(AUTHORIZATION), &token)) {
                    return None;
                }
                let message = "The header `Authorization: Bearer …` must have the token of `[admin]`.\n";
                let mut refusal = text(StatusCode::UNAUTHORIZED, message);
                refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                Some(refusal)
            }
        }
    }
}

/// Whether the header has the token. The time that this takes does not depend on how much of it is right.
fn has_token(header: Option<&HeaderValue>, token: &Secret) -> bool {
    let given = header.and_then(|header| header.as_bytes().split_at_checked(BEARER.len()));
    given.is_some_and(|(scheme, given)| {
        // Hashes of blake3 are compared in constant time.
        scheme.eq_ignore_ascii_case(BEARER) && blake3::hash(given) == blake3::hash(token.expose().as_bytes())
    })
}

/// Serves a connection in a task of its own. Beyond [`CONNECTIONS_MAX`] it is closed at once.
fn spawn_connection(listener: &Listener, connection: impl Future<Output = ()> + Send + 'static) {
    let Ok(slot) = listener.slots.clone().try_acquire_owned() else {
        return;
    };
    tokio::spawn(async move {
        // What a client does wrong concerns nobody else.
        let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
        drop(slot);
    });
}

async fn serve_tls(stream: TcpStream, tls: TlsAcceptor, listener: Arc<Listener>) {
    if let Ok(Ok(stream)) = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
        serve_connection(stream, listener).await;
    }
}

async fn serve_connection<S>(stream: S, listener: Arc<Listener>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request| {
        let response = listener.answer(&request);
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    response(Reply { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() })
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a `Host` header names this host by a loopback address or as `localhost`, with or without a port.
fn is_loopback_host(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, port)| match port.parse::<u16>() {
        Ok(_) => name,
        Err(_) => host,
    });
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_answered() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:9640", true),
            ("127.0.0.1", true),
            ("127.0.0.1:9640", true),
            ("[::1]:9640", true),
            ("[::1]", true),
            ("evil.example.com", false),
            ("evil.example.com:9640", false),
            ("localhost.evil.example.com", false),
            ("192.0.2.1:9640", false),
            ("", false),
        ] {
            assert_eq!(is_loopback_host(&HeaderValue::from_static(host)), expected, "{host:?}");
        }
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Secret::new("0123456789abcdef");
        for (header, expected) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdefg", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("Bearer ", false),
            ("", false),
        ] {
            assert_eq!(has_token(Some(&HeaderValue::from_static(header)), &token), expected, "{header:?}");
        }
        assert!(!has_token(None, &token));
    }
}
