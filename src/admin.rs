//! The admin endpoint: HTTP over a Unix socket, or over TCP on a loopback address. It answers GET and HEAD, and what it
//! answers is made by the agent. Nobody can stop delivery through it: connections, their time and their headers are
//! bounded.

use crate::config::AdminConfig;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// Connections at a time. Prometheus needs one, a person a few.
const CONNECTIONS_MAX: usize = 16;
/// How long a client may take to send its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last, with all its requests.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request's head. Browsers send a few hundred.
const HEAD_BYTES_MAX: usize = 16 * 1024;
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

/// Opens the endpoint, and serves it in tasks of this runtime until the process ends.
///
/// # Errors
/// A socket cannot be opened.
pub(crate) fn serve(config: &AdminConfig, respond: Respond) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    if let Some(path) = &config.socket {
        let listener = bind_unix(path)?;
        let (slots, respond) = (slots.clone(), respond.clone());
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => spawn_connection(stream, false, &slots, &respond),
                    Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
                }
            }
        });
    }
    if let Some(address) = config.listen {
        let listener = bind_tcp(address)?;
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => spawn_connection(stream, true, &slots, &respond),
                    Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
                }
            }
        });
    }
    Ok(())
}

/// A socket that a killed agent has left is replaced; anything else at its path is not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other(format!("`{}` is there and is not a socket", path.display()))),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves a connection in a task of its own. Beyond [`CONNECTIONS_MAX`] it is closed at once.
fn spawn_connection<S>(stream: S, is_tcp: bool, slots: &Arc<Semaphore>, respond: &Respond)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(slot) = slots.clone().try_acquire_owned() else {
        return;
    };
    let respond = respond.clone();
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let response = answer(&request, is_tcp, &respond);
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        // What a client does wrong concerns nobody else.
        let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
        drop(slot);
    });
}

fn answer(request: &Request<Incoming>, is_tcp: bool, respond: &Respond) -> Response<Full<Bytes>> {
    if is_tcp && !request.headers().get(HOST).is_some_and(is_loopback_host) {
        // A web page whose name resolves to a loopback address must not read this.
        return text(
            StatusCode::FORBIDDEN,
            "The host of the URL must be a loopback address or `localhost`.\n",
        );
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match respond(request.uri().path()) {
        Some(reply) => response(reply),
        None => text(StatusCode::NOT_FOUND, "There are /, /status, /metrics, /livez and /readyz.\n"),
    }
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
}
