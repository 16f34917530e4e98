//! The unacknowledged bytes of a TCP connection. The kernel reports them by netlink for a connection that is
//! identified by its addresses, as `ss` does in the column Send-Q.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// `SOCK_DIAG_BY_FAMILY`, the type of the request and of the response.
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR`
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`
const REQUEST: u16 = 1;
/// `IPPROTO_TCP`
const TCP: u8 = 6;
/// `TCP_ESTABLISHED`
const ESTABLISHED: u8 = 1;
/// `AF_INET` and `AF_INET6`
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Offset of the count in a response. Before it `struct inet_diag_msg` has family, state, timer, retransmits,
/// the connection id (48 bytes), expiry and the receive queue.
const SEND_QUEUE: usize = HEADER + 4 + 48 + 4 + 4;

/// The send queue of one connection.
pub(super) struct SendQueue {
    socket: OwnedFd,
    request: Vec<u8>,
}

impl SendQueue {
    pub(super) fn new(local: SocketAddr, destination: SocketAddr) -> io::Result<SendQueue> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        Ok(SendQueue { socket, request: request(local, destination) })
    }

    /// Number of bytes that are written and not acknowledged. `None` if the connection is no longer open on
    /// both sides.
    pub(super) fn bytes(&self) -> io::Result<Option<u32>> {
        rustix::net::send(&self.socket, &self.request, SendFlags::empty())?;
        let mut response = [0; 1024];
        let (_, len) = rustix::net::recv(&self.socket, &mut response, RecvFlags::DONTWAIT)?;
        parse_response(&response[..len])
    }
}

fn request(local: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (family, interface) = match local {
        SocketAddr::V4(_) => (FAMILY_V4, 0),
        SocketAddr::V6(local) => (FAMILY_V6, local.scope_id()),
    };
    let mut out = Vec::new();
    // Placeholder of the length, which is set at the end.
    out.extend(0u32.to_ne_bytes());
    out.extend(BY_FAMILY.to_ne_bytes());
    out.extend(REQUEST.to_ne_bytes());
    out.extend([0; 8]);
    out.extend([family, TCP, 0, 0]);
    // Any state of the connection.
    out.extend(u32::MAX.to_ne_bytes());
    out.extend(local.port().to_be_bytes());
    out.extend(destination.port().to_be_bytes());
    for ip in [local.ip(), destination.ip()] {
        let mut address = [0; 16];
        match ip {
            IpAddr::V4(ip) => address[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => address = ip.octets(),
        }
        out.extend(address);
    }
    out.extend(interface.to_ne_bytes());
    // No cookie.
    out.extend([0xff; 8]);
    let len = out.len() as u32;
    out[..4].copy_from_slice(&len.to_ne_bytes());
    out
}

fn parse_response(response: &[u8]) -> io::Result<Option<u32>> {
    let word = |at: usize| -> io::Result<[u8; 4]> {
        let bytes = response.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| io::Error::other("the kernel's response is too short"))
    };
    let [low, high, ..] = word(4)?;
    match u16::from_ne_bytes([low, high]) {
        ERROR => {
            let error = io::Error::from_raw_os_error(-i32::from_ne_bytes(word(HEADER)?));
            match error.kind() {
                // The connection does not exist any more.
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            }
        }
        BY_FAMILY => {
            let [_, state, ..] = word(HEADER)?;
            let bytes = u32::from_ne_bytes(word(SEND_QUEUE)?);
            Ok((state == ESTABLISHED).then_some(bytes))
        }
        other => Err(io::Error::other(format!("the kernel's response has the unknown type {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let begun = crate::clock::monotonic();
        while !condition() {
            assert!(begun.elapsed().as_secs() < 10, "waited for: {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn unacknowledged_bytes_are_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                crate::skip::skip("ipv6", &format!("nothing can listen at {address}"));
                continue;
            };
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let queue = SendQueue::new(client.local_addr().unwrap(), client.peer_addr().unwrap()).unwrap();
            assert_eq!(queue.bytes().unwrap(), Some(0));
            // The receiver does not read, so its system stops accepting data.
            client.set_nonblocking(true).unwrap();
            let block = vec![0; 1 << 20];
            let mut sent = 0;
            while let Ok(bytes) = client.write(&block) {
                sent += bytes;
            }
            let left = queue.bytes().unwrap().unwrap();
            assert!(left > 0 && (left as usize) < sent, "{left} of {sent}");
            std::io::copy(&mut (&server).take(sent as u64), &mut std::io::sink()).unwrap();
            until("all is acknowledged", || queue.bytes().unwrap() == Some(0));
            // The other side closes. What it had not read is lost, and the amount is unknown.
            drop(server);
            until("it is closed", || queue.bytes().unwrap().is_none());
            drop(client);
            assert_eq!(queue.bytes().unwrap(), None);
        }
    }

    #[test]
    fn an_incomplete_response_is_an_error() {
        assert!(parse_response(b"").is_err() && parse_response(&[0; 40]).is_err());
    }
}
