//! A small test server: one thread accepts, and one per connection reads requests and responds by a closure.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Notified when the server is dropped. A response that never comes waits for it.
#[derive(Clone, Default)]
pub struct ServerEnd(Arc<(Mutex<bool>, Condvar)>);

impl ServerEnd {
    pub fn wait(&self) {
        while !self.wait_for(Duration::from_secs(60)) {}
    }

    pub fn wait_for(&self, time: Duration) -> bool {
        let (ended, bell) = &*self.0;
        *bell.wait_timeout_while(ended.lock().unwrap(), time, |ended| !*ended).unwrap().0
    }
}

pub struct TestServer {
    pub address: SocketAddr,
    scheme: &'static str,
    heads: Arc<Mutex<Vec<String>>>,
    server_end: ServerEnd,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        *self.server_end.0.0.lock().unwrap() = true;
        self.server_end.0.1.notify_all();
    }
}

impl TestServer {
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// A server without TLS.
pub fn serve(respond: impl Fn(&mut TcpStream, &ServerEnd) + Send + Sync + 'static) -> TestServer {
    start("http", move |mut stream, heads, server_end| {
        while next_head(&mut stream, heads).is_some() {
            respond(&mut stream, server_end);
        }
    })
}

/// A server with TLS that responds to each request with 200 and `{}`.
pub fn serve_with(tls: ServerConfig) -> TestServer {
    let tls = Arc::new(tls);
    start("https", move |stream, heads, _| {
        let mut stream = StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), stream);
        while next_head(&mut stream, heads).is_some() {
            answer(&mut stream, "200 OK", "Content-Type: application/json\r\n", "{}");
        }
    })
}

/// Handles each connection in its own thread.
pub fn start(
    scheme: &'static str,
    connection: impl Fn(TcpStream, &Mutex<Vec<String>>, &ServerEnd) + Send + Sync + 'static,
) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, server_end) = (Arc::new(Mutex::new(Vec::new())), ServerEnd::default());
    let server = TestServer { address, scheme, heads: heads.clone(), server_end: server_end.clone() };
    let connection = Arc::new(connection);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (connection, heads, server_end) = (connection.clone(), heads.clone(), server_end.clone());
            thread::spawn(move || connection(stream, &heads, &server_end));
        }
    });
    server
}

/// Reads up to the empty line. `None` at the end of the connection. Requests have no body and are not
/// pipelined.
pub fn next_head(stream: &mut impl Read, heads: &Mutex<Vec<String>>) -> Option<String> {
    let mut head = String::new();
    let mut stream = BufReader::with_capacity(1, stream);
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    heads.lock().unwrap().push(head.clone());
    Some(head)
}

/// Each header in `headers` ends with CRLF. Errors of a closed connection are ignored.
pub fn answer(stream: &mut impl Write, status: &str, headers: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all((head + body).as_bytes()).and_then(|()| stream.flush());
}
