//! A connection to a syslog receiver, which sends no acknowledgements of its own.

use super::send_queue::SendQueue;
use crate::config::{SyslogConfig, Transport};
use crate::sink::outcome::Outcome;
use crate::telemetry::chain;
use crate::tls::{self, Tls};
use futures_util::FutureExt;
use rustls::pki_types::ServerName;
use std::cell::RefCell;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

/// With TLS 1.3 a server refuses the client's certificate after the handshake. A server that accepts it
/// mostly sends session tickets. This is the longest wait for either.
const CLIENT_CERTIFICATE_WAIT: Duration = Duration::from_secs(1);

/// Poll interval for TCP acknowledgements. They take a network round trip.
const ACK_POLL_MIN: Duration = Duration::from_millis(1);
const ACK_POLL_MAX: Duration = Duration::from_millis(50);

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection that is open on both sides, as far as known.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    send_queue: SendQueue,
}

impl Connection {
    pub(crate) async fn open(config: &SyslogConfig, tls: &RefCell<Tls>) -> Result<Connection, Outcome> {
        let limit = config.connect_timeout;
        match timeout(limit, open(config, tls)).await {
            Ok(result) => result,
            Err(_) => Err(Outcome::retry(format!(
                "connecting to `{}` took longer than {limit:?}; see network and firewall, or raise `connect_timeout`",
                config.address()
            ))),
        }
    }

    /// Whether the connection is closed by the other side or broken. Data from the receiver is discarded:
    /// syslog has no responses.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer).now_or_never() {
                None => return false,
                Some(Ok(0) | Err(_)) => return true,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Sends bytes and waits until the other side's system has acknowledged them while the connection is
    /// still open.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        let mut interval = ACK_POLL_MIN;
        loop {
            let left = self.send_queue.bytes()?;
            // Checked after the count: a close before the count is detected.
            if left.is_none() || self.is_closed() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if left == Some(0) {
                return Ok(());
            }
            sleep(interval).await;
            interval = (2 * interval).min(ACK_POLL_MAX);
        }
    }
}

async fn open(config: &SyslogConfig, tls: &RefCell<Tls>) -> Result<Connection, Outcome> {
    let misconfigured = |reason: String| Outcome::Misconfigured { reason };
    let connector = match &config.transport {
        Transport::Tls(_) => {
            let config = tls.borrow_mut().config();
            Some(TlsConnector::from(config.map_err(|error| misconfigured(chain(&error)))?))
        }
        _ => None,
    };
    let stream = TcpStream::connect((config.host.as_str(), config.port)).await;
    let stream = stream.map_err(|error| Outcome::retry(unreachable(config, &error)))?;
    let unavailable = |error: io::Error| {
        let cause = chain(&error);
        misconfigured(format!(
            "the kernel does not report what the receiver has acknowledged ({cause}); load its module `tcp_diag`, and allow the agent to use AF_NETLINK"
        ))
    };
    let addresses = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    let (local, destination) = addresses.map_err(|error| Outcome::retry(unreachable(config, &error)))?;
    let send_queue = SendQueue::new(local, destination).map_err(unavailable)?;
    send_queue.bytes().map_err(unavailable)?;
    // Batches are whole requests, so delaying small segments gains nothing.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Stream> = match connector {
        None => Box::new(stream),
        Some(connector) => {
            let name = ServerName::try_from(config.host.clone()).map_err(|_| {
                misconfigured(format!("`{}` is not a valid name for a certificate", config.host))
            })?;
            let failed = |error: io::Error| tls_failure(config, &error);
            let mut stream = connector.connect(name, stream).await.map_err(failed)?;
            await_client_certificate_check(&mut stream).await.map_err(failed)?;
            Box::new(stream)
        }
    };
    Ok(Connection { stream, send_queue })
}

/// Waits until the server has accepted or refused the client's certificate, for [`CLIENT_CERTIFICATE_WAIT`]
/// at most.
async fn await_client_certificate_check(
    stream: &mut tokio_rustls::client::TlsStream<TcpStream>,
) -> io::Result<()> {
    use rustls::ProtocolVersion::TLSv1_3;
    let until = Instant::now() + CLIENT_CERTIFICATE_WAIT;
    while stream.get_ref().1.protocol_version() == Some(TLSv1_3)
        && stream.get_ref().1.tls13_tickets_received() == 0
        && Instant::now() < until
    {
        let mut buffer = [0; 64];
        match timeout(ACK_POLL_MAX, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    Ok(())
}

/// The reason of a failed connection.
pub(crate) fn unreachable(config: &SyslogConfig, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens at that port; correct `address`, or start the receiver"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "no route; see network and firewall"
        }
        // Errors of the resolver have no kind.
        _ if error.to_string().contains("lookup") => {
            "its name cannot be resolved; correct `address` or the host's DNS"
        }
        _ => "the connection failed; see network and firewall",
    };
    format!("cannot reach `{}`: {remedy} ({error})", config.address())
}

/// The outcome of a failed TLS handshake.
fn tls_failure(config: &SyslogConfig, error: &io::Error) -> Outcome {
    let address = config.address();
    match tls::message(error, "address") {
        Some(reason) => {
            Outcome::Misconfigured { reason: format!("no TLS connection to `{address}`: {reason}") }
        }
        // A server that is stopping does this too, and one without TLS.
        None => Outcome::retry(format!(
            "no TLS connection to `{address}`: it closed the connection during the handshake ({error}); see the receiver's log, and whether it uses TLS at this port"
        )),
    }
}
