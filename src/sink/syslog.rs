//! The sink of type `syslog`: RFC 5424 over TCP, TLS and UDP.
//!
//! Syslog has no acknowledgements. Over TCP and TLS an event is delivered when two conditions hold: the
//! *system* of the receiver has acknowledged its last byte, and the connection was still open on both sides
//! after that. What the receiver has not read by then is lost if it, or its host, dies at that moment. What
//! is not acknowledged is sent again over another connection, with the same ids. Over UDP an event is
//! delivered when it was sent.

pub(crate) mod connection;
pub mod message;
mod send_queue;

use super::http::events_bytes;
use super::outcome::{Outcome, RequestOutcome};
use super::remote::{Destination, PendingEvent};
use crate::config::{SyslogConfig, TlsConfig, Transport};
use crate::tls::Tls;
use connection::{Connection, unreachable};
use message::MessageWriter;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::cell::RefCell;
use std::io;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

/// Maximum payload of a datagram over IPv4, and over IPv6 without jumbograms.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// How often the name of a UDP receiver is resolved again. If the receiver moves, datagrams to its old
/// address are lost silently, for this long at most. A DNS query in this interval costs nothing.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(300);

/// How long to wait for an ICMP message that the port is closed. Not every host sends one.
const ICMP_WAIT: Duration = Duration::from_millis(20);

/// The sink of type `syslog`.
pub struct SyslogSink {
    config: SyslogConfig,
    writer: MessageWriter,
    tls: RefCell<Tls>,
    /// Reused for the next request.
    connection: RefCell<Option<Connection>>,
    socket: RefCell<Option<ResolvedSocket>>,
}

/// A UDP socket, connected to the address that the receiver's name had at `resolved`.
struct ResolvedSocket {
    udp: UdpSocket,
    resolved: Instant,
}

impl SyslogSink {
    pub fn new(config: SyslogConfig, source: &str) -> SyslogSink {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let tls = match &config.transport {
            Transport::Tls(tls) => tls.clone(),
            Transport::Tcp | Transport::Udp => TlsConfig::default(),
        };
        SyslogSink {
            writer: MessageWriter::new(&config, &host, std::process::id(), source),
            tls: RefCell::new(Tls::new(&tls)),
            connection: RefCell::default(),
            socket: RefCell::default(),
            config,
        }
    }

    async fn send_over_stream(&self, events: &[PendingEvent]) -> Outcome {
        let kept = self.connection.take();
        // Replaced certificates need a new connection.
        let kept = kept.filter(|_| !self.tls.borrow().changed());
        let mut connection = match kept.and_then(|mut kept| (!kept.is_closed()).then_some(kept)) {
            Some(connection) => connection,
            None => match Connection::open(&self.config, &self.tls).await {
                Ok(connection) => connection,
                Err(outcome) => return outcome,
            },
        };
        let mut bytes = Vec::with_capacity(events_bytes(events) + 256 * events.len());
        for event in events {
            self.writer.frame(self.config.framing, event.entry(), event.bytes(), &mut bytes);
        }
        let (limit, address) = (self.config.timeout, self.config.address());
        match timeout(limit, connection.send(&bytes)).await {
            Ok(Ok(())) => {
                self.connection.replace(Some(connection));
                Outcome::Delivered
            }
            Ok(Err(error)) => Outcome::retry(format!(
                "`{address}` closed the connection before everything was acknowledged ({error}); see the receiver's log"
            )),
            Err(_) => Outcome::retry(format!(
                "`{address}` has not acknowledged everything within {limit:?}; see how busy the receiver is"
            )),
        }
    }

    /// Sends one datagram per event. If one is refused, all are sent again: the datagrams before it went to
    /// the same receiver.
    async fn send_over_udp(&self, events: &[PendingEvent]) -> RequestOutcome {
        let failed = |error| RequestOutcome::All(Outcome::retry(unreachable(&self.config, &error)));
        let socket = match self.socket().await {
            Ok(socket) => socket,
            Err(reason) => return RequestOutcome::All(Outcome::retry(reason)),
        };
        let mut outcomes = Vec::with_capacity(events.len());
        let mut message = Vec::new();
        for event in events {
            message.clear();
            self.writer.write(event.entry(), event.bytes(), &mut message);
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
        sleep(ICMP_WAIT).await;
        match socket.udp.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return failed(error),
        }
        self.socket.replace(Some(socket));
        RequestOutcome::Each(outcomes)
    }

    /// The kept socket, or a new one to the name's current address. If resolving fails, the kept socket is
    /// used.
    async fn socket(&self) -> Result<ResolvedSocket, String> {
        let kept = match self.socket.take() {
            Some(kept) if kept.resolved.elapsed() < RESOLVE_INTERVAL => return Ok(kept),
            kept => kept,
        };
        let opened = timeout(self.config.connect_timeout, open(&self.config)).await;
        let resolved = Instant::now();
        match (opened, kept) {
            (Ok(Ok(udp)), _) | (_, Some(ResolvedSocket { udp, .. })) => Ok(ResolvedSocket { udp, resolved }),
            (Ok(Err(error)), None) => Err(unreachable(&self.config, &error)),
            (Err(_), None) => Err("the receiver's name was not resolved in time".into()),
        }
    }
}

/// Opens a connected socket, so that ICMP errors are reported. It is not bound: the systemd unit forbids
/// that, and the kernel selects a port.
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

impl Destination for SyslogSink {
    async fn send(&self, events: &[PendingEvent]) -> RequestOutcome {
        match self.config.transport {
            Transport::Udp => self.send_over_udp(events).await,
            Transport::Tcp | Transport::Tls(_) => RequestOutcome::All(self.send_over_stream(events).await),
        }
    }

    fn credentials_changed(&self) -> bool {
        self.tls.borrow().changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_receiver_is_resolved_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = receiver.local_addr().unwrap().port();
            let config = SyslogConfig::new("127.0.0.1".into(), port, Transport::Udp);
            let mut syslog = SyslogSink::new(config, "wiki");
            // Each socket stays open until the next one exists, so no two have the same port.
            let port = async |syslog: &SyslogSink| {
                let socket = syslog.socket().await.unwrap();
                let port = socket.udp.local_addr().unwrap().port();
                syslog.socket.replace(Some(socket));
                port
            };
            let first = port(&syslog).await;
            tokio::time::advance(RESOLVE_INTERVAL - Duration::from_secs(1)).await;
            assert_eq!(port(&syslog).await, first);
            tokio::time::advance(Duration::from_secs(1)).await;
            let second = port(&syslog).await;
            assert_ne!(second, first);
            // A failing resolver does not end a working socket.
            syslog.config.host = "no-such-host.invalid".into();
            tokio::time::advance(RESOLVE_INTERVAL).await;
            assert_eq!(port(&syslog).await, second);
            syslog.socket.take();
            assert!(syslog.socket().await.is_err());
        });
    }
}
