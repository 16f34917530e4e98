//! A connection to a receiver that acknowledges nothing itself.

use super::unacknowledged::Unacknowledged;
use crate::config::{SyslogConfig, Transport};
use crate::sink::answer::Outcome;
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

/// A server that speaks TLS 1.3 refuses a client's certificate after the handshake, and one that does not mostly sends
/// tickets then: so long is one or the other waited for.
const VERDICT: Duration = Duration::from_secs(1);

/// Between two looks at what is acknowledged: a network's round trip is in between.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(50);

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Open on both sides, as far as is known.
pub struct Connection {
    stream: Box<dyn Stream>,
    unacknowledged: Unacknowledged,
}

impl Connection {
    pub async fn open(config: &SyslogConfig, tls: &RefCell<Tls>) -> Result<Connection, Outcome> {
        let limit = config.connect_timeout;
        match timeout(limit, open(config, tls)).await {
            Ok(result) => result,
            Err(_) => Err(Outcome::retry(format!(
                "connecting to `{}` took longer than {limit:?}; see network and firewall, or raise `connect_timeout`",
                config.address()
            ))),
        }
    }

    /// Whether the other side has closed it, or it is broken. What a receiver may have sent is passed over: syslog has no
    /// answers.
    pub fn is_closed(&mut self) -> bool {
        let mut answer = [0; 1024];
        loop {
            match self.stream.read(&mut answer).now_or_never() {
                None => return false,
                Some(Ok(0) | Err(_)) => return true,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Sends bytes and waits until the other side's system has acknowledged all of them and has the connection open still.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        let mut look = LOOK_MIN;
        loop {
            let left = self.unacknowledged.bytes()?;
            // After the count: what was closed before it was taken is seen.
            if left.is_none() || self.is_closed() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if left == Some(0) {
                return Ok(());
            }
            sleep(look).await;
            look = (2 * look).min(LOOK_MAX);
        }
    }
}

async fn open(config: &SyslogConfig, tls: &RefCell<Tls>) -> Result<Connection, Outcome> {
    let misconfigured = |reason: String| Outcome::Misconfigured { reason };
    let connector = match &config.transport {
        Transport::Tls(_) => {
            let config = tls.borrow_mut().config();
            Some(TlsConnector::from(
                config.map_err(|error| misconfigured(chain(&error)))?,
            ))
        }
        _ => None,
    };
    let stream = TcpStream::connect((config.host.as_str(), config.port)).await;
    let stream = stream.map_err(|error| Outcome::retry(unreachable(config, &error)))?;
    let unknown = |error: io::Error| {
        let cause = chain(&error);
        misconfigured(format!(
            "the kernel does not tell what a receiver has acknowledged ({cause}); load its module `tcp_diag`, and let the agent use AF_NETLINK"
        ))
    };
    let addresses = stream
        .local_addr()
        .and_then(|local| Ok((local, stream.peer_addr()?)));
    let (local, peer) = addresses.map_err(|error| Outcome::retry(unreachable(config, &error)))?;
    let unacknowledged = Unacknowledged::of(local, peer).map_err(unknown)?;
    unacknowledged.bytes().map_err(unknown)?;
    // Batches are whole requests: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Stream> = match connector {
        None => Box::new(stream),
        Some(connector) => {
            let name = ServerName::try_from(config.host.clone()).map_err(|_| {
                misconfigured(format!("`{}` cannot be the name in a certificate", config.host))
            })?;
            let failed = |error: io::Error| refused(config, &error);
            let mut stream = connector.connect(name, stream).await.map_err(failed)?;
            verdict(&mut stream).await.map_err(failed)?;
            Box::new(stream)
        }
    };
    Ok(Connection {
        stream,
        unacknowledged,
    })
}

/// Waits until the server has said what it thinks of the client's certificate, or says nothing of it.
async fn verdict(stream: &mut tokio_rustls::client::TlsStream<TcpStream>) -> io::Result<()> {
    use rustls::ProtocolVersion::TLSv1_3;
    let until = Instant::now() + VERDICT;
    while stream.get_ref().1.protocol_version() == Some(TLSv1_3)
        && stream.get_ref().1.tls13_tickets_received() == 0
        && Instant::now() < until
    {
        let mut answer = [0; 64];
        match timeout(LOOK_MAX, stream.read(&mut answer)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    Ok(())
}

/// Why there is no connection.
pub fn unreachable(config: &SyslogConfig, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens at that port; correct `address`, or start the receiver"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "no route; see network and firewall"
        }
        // The resolver's errors have no kind.
        _ if error.to_string().contains("lookup") => {
            "its name cannot be resolved; correct `address` or the host's DNS"
        }
        _ => "the connection fails; see network and firewall",
    };
    format!("cannot reach `{}`: {remedy} ({error})", config.address())
}

/// Why there is no TLS.
fn refused(config: &SyslogConfig, error: &io::Error) -> Outcome {
    let address = config.address();
    match tls::message(error, "address") {
        Some(problem) => Outcome::Misconfigured {
            reason: format!("no TLS with `{address}`: {problem}"),
        },
        // A server that is about to stop does so too, and one that speaks no TLS.
        None => Outcome::retry(format!(
            "no TLS with `{address}`: it ends the connection in the handshake ({error}); see the receiver's log, and whether it speaks TLS at this port"
        )),
    }
}
