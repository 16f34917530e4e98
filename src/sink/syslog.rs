//! Syslog receivers: RFC 5424 over TCP, TLS and UDP.
//!
//! Syslog acknowledges nothing. Over TCP and TLS an event counts as delivered when the receiver's *system* has acknowledged
//! its last byte and the connection was still open on both sides after that. What the receiver's program has not read by then
//! is lost if its host, or the program, dies at that moment. What is not acknowledged is sent again over another connection,
//! with the same ids. Over UDP an event counts as delivered when it was sent.

pub mod connection;
pub mod message;
mod unacknowledged;

use super::answer::{Answer, Outcome};
use super::http::size;
use super::remote::{Peer, PendingEvent};
use crate::config::{SyslogConfig, TlsConfig, Transport};
use crate::tls::Tls;
use connection::{Connection, unreachable};
use message::Writer;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::cell::RefCell;
use std::io;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

/// What a datagram can hold over IPv4, and over IPv6 without jumbograms at least.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// A receiver that moves has another address by the same name, and its old one takes datagrams without a word: no longer than
/// this are they lost then. A question to the resolver costs nothing in so much time.
const RESOLVE_EVERY: Duration = Duration::from_secs(300);

/// So long a host is given to say that nothing listens there (ICMP). Not every host does.
const REFUSAL: Duration = Duration::from_millis(20);

/// The sink of type `syslog`.
pub struct Syslog {
    config: SyslogConfig,
    writer: Writer,
    tls: RefCell<Tls>,
    /// Kept from request to request.
    connection: RefCell<Option<Connection>>,
    socket: RefCell<Option<Socket>>,
}

/// To the address that the receiver's name had then.
struct Socket {
    udp: UdpSocket,
    resolved: Instant,
}

impl Syslog {
    pub fn new(config: SyslogConfig, source: &str) -> Syslog {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let tls = match &config.transport {
            Transport::Tls(tls) => tls.clone(),
            Transport::Tcp | Transport::Udp => TlsConfig::default(),
        };
        Syslog {
            writer: Writer::new(&config, &host, std::process::id(), source),
            tls: RefCell::new(Tls::new(&tls)),
            connection: RefCell::default(),
            socket: RefCell::default(),
            config,
        }
    }

    async fn over_stream(&self, events: &[PendingEvent]) -> Outcome {
        let kept = self.connection.take();
        // With replaced certificates another connection is made.
        let kept = kept.filter(|_| !self.tls.borrow().changed());
        let mut connection = match kept.and_then(|mut kept| (!kept.is_closed()).then_some(kept)) {
            Some(connection) => connection,
            None => match Connection::open(&self.config, &self.tls).await {
                Ok(connection) => connection,
                Err(outcome) => return outcome,
            },
        };
        let mut bytes = Vec::with_capacity(size(events) + 256 * events.len());
        for event in events {
            let framing = self.config.framing;
            self.writer
                .frame(framing, event.id(), event.time_ms(), event.bytes(), &mut bytes);
        }
        let (limit, address) = (self.config.timeout, self.config.address());
        match timeout(limit, connection.send(&bytes)).await {
            Ok(Ok(())) => {
                self.connection.replace(Some(connection));
                Outcome::Delivered
            }
            Ok(Err(error)) => Outcome::retry(format!(
                "`{address}` has ended the connection before all was acknowledged ({error}); see the receiver's log"
            )),
            Err(_) => Outcome::retry(format!(
                "`{address}` has not acknowledged all within {limit:?}; see how busy the receiver is"
            )),
        }
    }

    /// One datagram an event. If one is refused, all are sent again: those before it went the same way.
    async fn over_udp(&self, events: &[PendingEvent]) -> Answer {
        let failed = |error| Answer::All(Outcome::retry(unreachable(&self.config, &error)));
        let socket = match self.socket().await {
            Ok(socket) => socket,
            Err(reason) => return Answer::All(Outcome::retry(reason)),
        };
        let mut outcomes = Vec::with_capacity(events.len());
        let mut message = Vec::new();
        for event in events {
            message.clear();
            self.writer
                .write(event.id(), event.time_ms(), event.bytes(), &mut message);
            let bytes = message.len();
            if bytes > DATAGRAM_BYTES_MAX {
                let reason = format!(
                    "{bytes} bytes do not fit into a datagram; write `transport = \"tls\"` or \"tcp\""
                );
                outcomes.push(Outcome::TooLarge { reason });
                continue;
            }
            if let Err(error) = socket.udp.send(&message).await {
                return failed(error);
            }
            outcomes.push(Outcome::Delivered);
        }
        sleep(REFUSAL).await;
        match socket.udp.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return failed(error),
        }
        self.socket.replace(Some(socket));
        Answer::Each(outcomes)
    }

    /// The one that is kept, or one for which the name was resolved anew. Where it is not resolved the old one goes on.
    async fn socket(&self) -> Result<Socket, String> {
        let kept = match self.socket.take() {
            Some(kept) if kept.resolved.elapsed() < RESOLVE_EVERY => return Ok(kept),
            kept => kept,
        };
        let opened = timeout(self.config.connect_timeout, open(&self.config)).await;
        let resolved = Instant::now();
        match (opened, kept) {
            (Ok(Ok(udp)), _) | (_, Some(Socket { udp, .. })) => Ok(Socket { udp, resolved }),
            (Ok(Err(error)), None) => Err(unreachable(&self.config, &error)),
            (Err(_), None) => Err("the receiver's name is not resolved in time".into()),
        }
    }
}

/// Connected, so that a host at which nothing listens can say so. Never bound: the systemd unit forbids that, and the kernel
/// chooses a port by itself.
async fn open(config: &SyslogConfig) -> io::Result<UdpSocket> {
    let mut last = io::Error::other("its name has no address");
    for address in tokio::net::lookup_host((config.host.as_str(), config.port)).await? {
        let family = match address.is_ipv4() {
            true => AddressFamily::INET,
            false => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return UdpSocket::from_std(socket.into()),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

impl Peer for Syslog {
    async fn send(&self, events: &[PendingEvent]) -> Answer {
        match self.config.transport {
            Transport::Udp => self.over_udp(events).await,
            Transport::Tcp | Transport::Tls(_) => Answer::All(self.over_stream(events).await),
        }
    }

    fn changed(&self) -> bool {
        self.tls.borrow().changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receivers_name_is_resolved_again_after_a_while() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = receiver.local_addr().unwrap().port();
            let config = SyslogConfig::new("127.0.0.1".into(), port, Transport::Udp);
            let mut syslog = Syslog::new(config, "wiki");
            // Each socket is open until there is another, so no two have the same port.
            let port = async |syslog: &Syslog| {
                let socket = syslog.socket().await.unwrap();
                let port = socket.udp.local_addr().unwrap().port();
                syslog.socket.replace(Some(socket));
                port
            };
            let first = port(&syslog).await;
            tokio::time::advance(RESOLVE_EVERY - Duration::from_secs(1)).await;
            assert_eq!(port(&syslog).await, first);
            tokio::time::advance(Duration::from_secs(1)).await;
            let second = port(&syslog).await;
            assert_ne!(second, first);
            // A resolver that is away, too, ends nothing that works.
            syslog.config.host = "no-such-host.invalid".into();
            tokio::time::advance(RESOLVE_EVERY).await;
            assert_eq!(port(&syslog).await, second);
            syslog.socket.take();
            assert!(syslog.socket().await.is_err());
        });
    }
}
