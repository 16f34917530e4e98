//! A syslog receiver that reads strictly by RFC 6587 and RFC 5424, and breaks off on request.

use crate::rig::{Port, free_port};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use syslog_loose::{Message, Variant, parse_message};

/// So little is in the receiver's system and not yet read: the rest of a request cannot have been acknowledged.
const RECEIVE_BUFFER_BYTES: usize = 4096;

#[derive(Default)]
struct State {
    messages: Vec<String>,
    /// After so many messages of a connection it is broken off; the first number is that of the next connection.
    break_off: Vec<usize>,
    /// What did not obey the framing.
    wrong: Vec<String>,
    connections: usize,
    /// Handshakes that failed.
    refused: usize,
}

/// Listens on 127.0.0.1 until it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    port: Port,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    tls: Arc<Mutex<Option<Arc<ServerConfig>>>>,
    newline: bool,
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    pub fn tcp(tls: Option<ServerConfig>, newline: bool) -> Receiver {
        let port = free_port();
        let mut receiver = Receiver {
            address: port.address(),
            port,
            state: Arc::default(),
            stop: Arc::default(),
            thread: None,
            tls: Arc::new(Mutex::new(tls.map(Arc::new))),
            newline,
        };
        receiver.start();
        receiver
    }

    /// Listens, at the same address each time.
    pub fn start(&mut self) {
        let listener = self.port.listen();
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, RECEIVE_BUFFER_BYTES).unwrap();
        self.stop = Arc::default();
        let (state, stop, tls, newline) =
            (self.state.clone(), self.stop.clone(), self.tls.clone(), self.newline);
        self.thread = Some(std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (state, stop, tls) = (state.clone(), stop.clone(), lock(&tls).clone());
                connections.push(std::thread::spawn(move || serve(stream, tls, newline, &state, &stop)));
            }
            drop(listener);
            for connection in connections {
                connection.join().unwrap();
            }
        }));
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // `accept` has to be woken to see that.
            let _ = TcpStream::connect(self.address);
            thread.join().unwrap();
        }
    }

    /// For connections from now on.
    pub fn use_tls(&self, config: ServerConfig) {
        *lock(&self.tls) = Some(Arc::new(config));
    }

    /// The next connections are broken off after so many messages each.
    pub fn break_off_after(&self, messages: &[usize]) {
        lock(&self.state).break_off = messages.iter().rev().copied().collect();
    }

    pub fn connections(&self) -> usize {
        lock(&self.state).connections
    }

    pub fn refused(&self) -> usize {
        lock(&self.state).refused
    }

    /// All that came, checked to be framed well.
    #[track_caller]
    pub fn messages(&self) -> Vec<String> {
        let state = lock(&self.state);
        assert_eq!(state.wrong, [""; 0]);
        state.messages.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

trait Stream: Read + Send {}
impl<S: Read + Send> Stream for S {}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    newline: bool,
    state: &Mutex<State>,
    stop: &AtomicBool,
) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let mut tls = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
            while tls.conn.is_handshaking() {
                match tls.conn.complete_io(&mut tls.sock) {
                    Ok(_) => {}
                    Err(error) if is_wait(&error) && !stop.load(Ordering::Relaxed) => {}
                    Err(_) => {
                        lock(state).refused += 1;
                        return;
                    }
                }
            }
            Box::new(tls)
        }
    };
    let left = {
        let mut state = lock(state);
        state.connections += 1;
        state.break_off.pop().unwrap_or(usize::MAX)
    };
    let mut reader = BufReader::with_capacity(512, Patient { stream, stop });
    for _ in 0..left {
        let message = match newline {
            true => line(&mut reader),
            false => counted(&mut reader),
        };
        match message {
            Ok(Some(message)) => lock(state).messages.push(message),
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return lock(state).wrong.push(error.to_string());
            }
            // In the middle of a message: that one has not arrived.
            Err(_) => return,
        }
    }
}

/// Waits until there is something to read, or it has to stop.
struct Patient<'s> {
    stream: Box<dyn Stream>,
    stop: &'s AtomicBool,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if is_wait(&error) && !self.stop.load(Ordering::Relaxed) => {}
                other => return other,
            }
        }
    }
}

fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => text(line).map(Some),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// `MSG-LEN SP SYSLOG-MSG`
fn counted(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut length = Vec::new();
    reader.read_until(b' ', &mut length)?;
    if length.is_empty() {
        return Ok(None);
    }
    if length.pop() != Some(b' ') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = text(length)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("`{length}` is no length"));
    let bytes: usize = match length.starts_with(|c: char| ('1'..='9').contains(&c)) {
        true => length.parse().map_err(|_| bad())?,
        false => return Err(bad()),
    };
    let mut message = vec![0; bytes];
    reader.read_exact(&mut message)?;
    text(message).map(Some)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The datagrams that come to a socket until it is dropped.
pub struct Datagrams {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Datagrams {
    pub fn start() -> Datagrams {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (received, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let address = socket.local_addr().unwrap();
        let thread = std::thread::spawn({
            let (received, stop) = (received.clone(), stop.clone());
            move || {
                let mut buffer = vec![0; 70_000];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(bytes) = socket.recv(&mut buffer) {
                        lock(&received).push(String::from_utf8(buffer[..bytes].to_vec()).unwrap());
                    }
                }
            }
        });
        Datagrams { address, received, stop, thread: Some(thread) }
    }

    pub fn received(&self) -> Vec<String> {
        lock(&self.received).clone()
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The event in a message, after everything that stands around it has been checked by somebody else's parser.
#[track_caller]
pub fn event(message: &str) -> String {
    let parsed: Message<&str> = parse_message(message, Variant::RFC5424);
    assert_eq!(parsed.facility, Some(syslog_loose::SyslogFacility::LOG_AUDIT), "{message}");
    assert_eq!(parsed.appname, Some("confluence-audit"), "{message}");
    let params: Vec<(String, String)> =
        parsed.structured_data[0].params().map(|(key, value)| (key.to_string(), value)).collect();
    let json: serde_json::Value = serde_json::from_str(parsed.msg).unwrap();
    let id = json.pointer("/event/id").unwrap().as_str().unwrap();
    let expect = [("id", id), ("source", "wiki")].map(|(key, value)| (key.to_string(), value.to_string()));
    assert_eq!(params, expect, "{message}");
    let at = json["@timestamp"].as_str().unwrap();
    assert_eq!(
        parsed.timestamp.unwrap().timestamp_millis(),
        confluence_audit_agent::record::time::from_iso(at).unwrap(),
        "{message}"
    );
    parsed.msg.to_owned()
}
