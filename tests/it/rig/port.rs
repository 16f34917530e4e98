//! Ports that stay a test's own.

use super::{SOON, until};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

/// A port of 127.0.0.1 that no other test and no connection gets while this lives, although nobody may listen at it:
/// there connections are refused. A server that allows its address to be used again (`SO_REUSEADDR`), as all of them
/// do, may listen and stop as often as it likes.
pub struct Port {
    pub number: u16,
    _bound: OwnedFd,
}

pub fn free_port() -> Port {
    let bound = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&bound, true).unwrap();
    bind(&bound, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddr::try_from(getsockname(&bound).unwrap()).unwrap();
    Port { number: address.port(), _bound: bound }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.number.fmt(f)
    }
}

impl Port {
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    pub fn listen(&self) -> TcpListener {
        listen_again(|| TcpListener::bind(self.address()))
    }
}

/// Listens where somebody did before: a process that any test has just forked has that one's socket too, until it runs
/// its own program.
pub fn listen_again<T>(listen: impl Fn() -> io::Result<T>) -> T {
    let mut listening = None;
    until(SOON, "the port is left", || match listen() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => false,
        done => {
            listening = Some(done.unwrap());
            true
        }
    });
    listening.unwrap()
}
