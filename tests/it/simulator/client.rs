//! A small blocking HTTP client that shows what was on the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::sim::Sim;

pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body was shorter than promised.
    pub cut: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn to(sim: &Sim) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", sim.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// `None` when the connection ends before a whole head.
    pub fn get(&mut self, target: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        self.send(target, headers);
        let mut answer = self.head()?;
        match answer.header("Content-Length").map(|v| v.parse::<u64>().unwrap()) {
            Some(length) => {
                let read = (&mut self.stream).take(length).read_to_end(&mut answer.body);
                answer.cut = read.is_err() || (answer.body.len() as u64) < length;
            }
            None => {
                let _ = self.stream.read_to_end(&mut answer.body);
            }
        }
        Some(answer)
    }

    pub fn send(&mut self, target: &str, headers: &[(&str, &str)]) {
        let mut head = format!("GET {target} HTTP/1.1\r\nHost: wiki.example.com\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.stream.get_mut().write_all(head.as_bytes()).unwrap();
    }

    pub fn head(&mut self) -> Option<Answer> {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut text).ok()? == 0 {
                return None;
            }
        }
        let mut lines = text.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let pair = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
        let headers = lines.filter_map(pair).collect();
        Some(Answer { status, headers, body: Vec::new(), cut: false })
    }

    pub fn read_some(&mut self, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        self.stream.read_exact(&mut out).unwrap();
        out
    }
}

/// One request through a connection of its own, as the administrator of a Data Center.
pub fn get(sim: &Sim, target: &str) -> Answer {
    get_with(sim, target, &[("Authorization", "Bearer sim-admin-token")])
}

pub fn get_with(sim: &Sim, target: &str, headers: &[(&str, &str)]) -> Answer {
    Client::to(sim).get(target, headers).expect("an answer")
}

/// `user:secret`, in base64 by hand: the tests have no other use for it.
pub fn basic(user: &str, secret: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("Basic ");
    for piece in format!("{user}:{secret}").as_bytes().chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(*piece.get(i).unwrap_or(&0)));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= piece.len() { digit } else { '=' });
        }
    }
    out
}
