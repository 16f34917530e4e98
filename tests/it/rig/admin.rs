//! A client of the admin endpoint that shares no code with it.

use super::{Agent, Host};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The value of a series, written with its labels as it is exposed.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let line = self.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }
}

impl Host {
    /// Adds an admin endpoint to the configuration, and returns its socket.
    pub fn admin(&mut self) -> PathBuf {
        let socket = self.path("admin.sock");
        self.root += &format!("admin.socket = {socket:?}\n");
        socket
    }
}

/// GET over a Unix socket.
pub fn get(socket: &Path, path: &str) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(&mut stream, &request(path, "agent", ""))
}

/// GET over TCP, with these more header lines.
pub fn get_tcp(address: SocketAddr, path: &str, headers: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(&mut stream, &request(path, &address.to_string(), headers))
}

pub fn request(path: &str, host: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n")
}

/// Sends a request and reads until the server closes the connection.
pub fn exchange(stream: &mut (impl Read + Write), request: &str) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let text = String::from_utf8(response).map_err(io::Error::other)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no response"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.ok_or_else(|| io::Error::other("no status"))?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

impl Agent {
    /// Waits until an answer of the admin endpoint is as expected, and returns it.
    #[track_caller]
    pub fn until_answer(
        &mut self,
        socket: &Path,
        path: &str,
        what: &str,
        mut expected: impl FnMut(&Answer) -> bool,
    ) -> Answer {
        let mut last = None;
        self.until(what, || {
            last = get(socket, path).ok();
            last.as_ref().is_some_and(&mut expected)
        });
        last.expect("the condition holds")
    }
}
