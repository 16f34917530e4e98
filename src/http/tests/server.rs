//! A small server: one thread accepts, one for each connection reads heads and lets a closure answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Ends when the server is dropped; an answer that never comes waits for it.
#[derive(Clone, Default)]
pub struct Held(Arc<(Mutex<bool>, Condvar)>);

impl Held {
    pub fn wait(&self) {
        while !self.wait_for(Duration::from_secs(60)) {}
    }

    pub fn wait_for(&self, time: Duration) -> bool {
        let (ended, bell) = &*self.0;
        *bell
            .wait_timeout_while(ended.lock().unwrap(), time, |ended| !*ended)
            .unwrap()
            .0
    }
}

pub struct Server {
    pub address: SocketAddr,
    scheme: &'static str,
    heads: Arc<Mutex<Vec<String>>>,
    held: Held,
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.held.0.0.lock().unwrap() = true;
        self.held.0.1.notify_all();
    }
}

impl Server {
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The heads of all requests until now.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Serves without TLS.
pub fn serve(respond: impl Fn(&mut TcpStream, &Held) + Send + Sync + 'static) -> Server {
    start("http", move |mut stream, heads, held| {
        while next_head(&mut stream, heads).is_some() {
            respond(&mut stream, held);
        }
    })
}

/// Serves with TLS; each answer is a 200 with `{}`.
pub fn serve_with(tls: ServerConfig) -> Server {
    let tls = Arc::new(tls);
    start("https", move |stream, heads, _| {
        let mut stream = StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), stream);
        while next_head(&mut stream, heads).is_some() {
            answer(&mut stream, "200 OK", "Content-Type: application/json\r\n", "{}");
        }
    })
}

/// Hands each connection to a thread of its own.
pub fn start(
    scheme: &'static str,
    connection: impl Fn(TcpStream, &Mutex<Vec<String>>, &Held) + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, held) = (Arc::new(Mutex::new(Vec::new())), Held::default());
    let server = Server {
        address,
        scheme,
        heads: heads.clone(),
        held: held.clone(),
    };
    let connection = Arc::new(connection);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (connection, heads, held) = (connection.clone(), heads.clone(), held.clone());
            thread::spawn(move || connection(stream, &heads, &held));
        }
    });
    server
}

/// Reads up to the empty line; `None` at the end of the connection. Requests have no body here, and come one at a time.
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

/// `headers` end their lines themselves. A client that is gone is none of the server's business.
pub fn answer(stream: &mut impl Write, status: &str, headers: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream
        .write_all((head + body).as_bytes())
        .and_then(|()| stream.flush());
}
