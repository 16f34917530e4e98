//! A small HTTP/1.1 server: one thread per connection, keep-alive, and bodies that can be damaged.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::accounts::{self, Presented};

const HEAD_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Names in lower case, without headers that contain secrets.
    pub headers: Vec<(String, String)>,
    pub authorization: Presented,
    pub proxy_authorization: Presented,
    /// The target is absolute: the caller uses this server as its proxy.
    pub via_proxy: bool,
    pub remote: String,
    /// The number of the connection.
    pub connection: u64,
}

impl Request {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    /// Number of events in the response.
    pub rows: usize,
}

#[derive(Debug, Clone)]
pub enum Body {
    Bytes(Vec<u8>),
    SlowHead { pause: Duration, bytes: Vec<u8> },
    Slow { piece: usize, pause: Duration, bytes: Vec<u8> },
    Cut { after: usize, bytes: Vec<u8> },
    Endless,
    Hangup,
}

impl Reply {
    fn typed(status: u16, content_type: &str, body: Vec<u8>) -> Reply {
        Reply {
            status,
            headers: vec![("Content-Type".into(), content_type.into())],
            body: Body::Bytes(body),
            rows: 0,
        }
    }

    pub fn json(status: u16, body: impl Into<String>) -> Reply {
        Reply::typed(status, "application/json", body.into().into_bytes())
    }

    pub fn html(status: u16, body: &str) -> Reply {
        Reply::typed(status, "text/html;charset=UTF-8", body.into())
    }

    pub fn text(status: u16, body: &str) -> Reply {
        Reply::typed(status, "text/plain;charset=UTF-8", body.into())
    }

    pub fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.into(), value.into()));
    }
}

/// Listens on 127.0.0.1 until it is dropped.
pub struct Server {
    address: SocketAddr,
    stop: Arc<Stop>,
    accept: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    wake: Condvar,
    open: Mutex<HashMap<u64, TcpStream>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stop {
    /// Waits, but not longer than the server runs. Returns whether it still runs.
    fn pause(&self, pause: Duration) -> bool {
        let stopped = lock(&self.stopped);
        let waited = self.wake.wait_timeout_while(stopped, pause, |stopped| !*stopped);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Server {
    pub fn start<F>(port: u16, answer: F) -> io::Result<Server>
    where
        F: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(Stop::default());
        let (theirs, answer) = (Arc::clone(&stop), Arc::new(answer));
        let accept = std::thread::Builder::new().name("sim-accept".into()).spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if *lock(&theirs.stopped) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (stop, answer, number) = (Arc::clone(&theirs), Arc::clone(&answer), number as u64);
                if let Ok(handle) = stream.try_clone() {
                    lock(&stop.open).insert(number, handle);
                }
                let serve = move || {
                    // Errors of a closed connection are ignored.
                    let _ = converse(&stream, number, &stop, &*answer);
                    let _ = stream.shutdown(Shutdown::Both);
                    lock(&stop.open).remove(&number);
                };
                let _ = std::thread::Builder::new().name("sim-connection".into()).spawn(serve);
            }
        })?;
        Ok(Server { address, stop, accept: Some(accept) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *lock(&self.stop.stopped) = true;
        self.stop.wake.notify_all();
        // Wakes `accept`, so that it notices the end.
        let _ = TcpStream::connect(self.address);
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
        for stream in lock(&self.stop.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn converse(
    stream: &TcpStream,
    number: u64,
    stop: &Stop,
    answer: &dyn Fn(&Request) -> Reply,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let remote = stream.peer_addr()?.ip().to_string();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader, &remote, number)? {
        let close = request.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if !write(stream, answer(&request), close, stop)? || close {
            break;
        }
    }
    Ok(())
}

fn read(reader: &mut impl BufRead, remote: &str, connection: u64) -> io::Result<Option<Request>> {
    let mut head = String::new();
    let mut limited = reader.take(HEAD_BYTES_MAX);
    while !head.ends_with("\r\n\r\n") {
        if limited.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let via_proxy = target.starts_with("http://");
    let target = match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/').unwrap_or(rest.len())..],
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.into(),
        path: path.into(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: Vec::new(),
        authorization: Presented::Nothing,
        proxy_authorization: Presented::Nothing,
        via_proxy,
        remote: remote.into(),
        connection,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "authorization" => request.authorization = accounts::presented(Some(value)),
            "proxy-authorization" => request.proxy_authorization = accounts::presented(Some(value)),
            _ => request.headers.push((name, value.into())),
        }
    }
    let body_bytes = request.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    io::copy(&mut reader.take(body_bytes), &mut io::sink())?;
    Ok(Some(request))
}

/// Returns whether the connection can serve another request.
fn write(mut stream: &TcpStream, reply: Reply, close: bool, stop: &Stop) -> io::Result<bool> {
    let length = match &reply.body {
        Body::Hangup => return Ok(false),
        Body::Endless => None,
        Body::Bytes(bytes)
        | Body::SlowHead { bytes, .. }
        | Body::Slow { bytes, .. }
        | Body::Cut { bytes, .. } => Some(bytes.len()),
    };
    let mut head = format!("HTTP/1.1 {} {}\r\n", reply.status, reason(reply.status));
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match length {
        Some(length) => head += &format!("Content-Length: {length}\r\n"),
        // Ends with the connection only.
        None => head += "Connection: close\r\n",
    }
    if close {
        head += "Connection: close\r\n";
    }
    head += "\r\n";
    if let Body::SlowHead { pause, .. } = &reply.body
        && !stop.pause(*pause)
    {
        return Ok(false);
    }
    let mut out = head.into_bytes();
    match reply.body {
        Body::Bytes(bytes) | Body::SlowHead { bytes, .. } => {
            out.extend(bytes);
            stream.write_all(&out)?;
        }
        Body::Slow { piece, pause, bytes } => {
            stream.write_all(&out)?;
            for piece in bytes.chunks(piece) {
                stream.write_all(piece)?;
                if !stop.pause(pause) {
                    return Ok(false);
                }
            }
        }
        Body::Cut { after, bytes } => {
            out.extend(&bytes[..after.min(bytes.len())]);
            stream.write_all(&out)?;
            return Ok(false);
        }
        Body::Endless => {
            stream.write_all(&out)?;
            let blanks = [b' '; 64 << 10];
            loop {
                stream.write_all(&blanks)?;
            }
        }
        Body::Hangup => return Ok(false),
    }
    Ok(true)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Simulated",
    }
}
