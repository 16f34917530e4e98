//! What is reported to systemd: readiness, a line of status, and that the agent is alive. The protocol of sd_notify(3):
//! a datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

pub(crate) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How long systemd waits for the next sign of life before it kills; `None` where it does not watch.
    pub watchdog: Option<Duration>,
}

impl Notify {
    /// Reports nothing if no socket is given.
    pub(crate) fn from_env() -> Notify {
        let variable = |name| std::env::var(name).ok();
        let socket = variable("NOTIFY_SOCKET").and_then(|name| socket_to(&name));
        Notify {
            watchdog: watchdog(
                socket.is_some(),
                variable("WATCHDOG_USEC").as_deref(),
                variable("WATCHDOG_PID").as_deref(),
            ),
            socket,
        }
    }

    pub(crate) fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether it was accepted; otherwise it is to be sent again.
    pub(crate) fn ready(&self) -> bool {
        self.send("READY=1")
    }

    /// It is not ready yet and will not be for a while: systemd is to wait that long from now on.
    pub(crate) fn still_starting(&self, wait: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", wait.as_micros()));
    }

    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for `systemctl status`. Whether it was accepted; otherwise it is to be sent again.
    pub(crate) fn status(&self, text: &str) -> bool {
        self.send(&format!("STATUS={}", super::escape::escape(text)))
    }

    fn send(&self, what: &str) -> bool {
        let sent =
            |(socket, address): &(UnixDatagram, SocketAddr)| socket.send_to_addr(what.as_bytes(), address);
        self.socket.as_ref().is_some_and(|socket| sent(socket).is_ok())
    }
}

/// Does not wait: the service manager may be busy, and a few unread messages fill its queue.
fn socket_to(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = address(name)?;
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address))
}

/// A path, or with a leading `@` an abstract name.
fn address(name: &str) -> Option<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None if name.starts_with('/') => SocketAddr::from_pathname(name).ok(),
        None => None,
    }
}

/// A process that a service started inherits its variables, and is not the one that is watched.
fn watchdog(heard: bool, usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let watched = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let usec = usec?.parse().ok().filter(|usec| *usec > 0)?;
    (heard && watched).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_watched_has_a_watchdog() {
        let own = std::process::id().to_string();
        let minute = Some(Duration::from_secs(60));
        assert_eq!(watchdog(true, Some("60000000"), None), minute);
        assert_eq!(watchdog(true, Some("60000000"), Some(&own)), minute);
        assert_eq!(watchdog(true, Some("60000000"), Some("1")), None);
        assert_eq!(watchdog(false, Some("60000000"), None), None);
        assert_eq!(watchdog(true, Some("0"), None), None);
        assert_eq!(watchdog(true, None, None), None);
    }

    #[test]
    fn a_socket_has_a_path_or_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("confluence-audit-agent-test-{}", std::process::id());
        for (receiver, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap(),
                format!("@{abstract_name}"),
            ),
        ] {
            let notify = Notify { socket: Some(socket_to(&name).unwrap()), watchdog: None };
            assert!(notify.status("two\nlines"));
            let mut buffer = [0; 64];
            let length = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"STATUS=two\\nlines");
        }
        assert!(socket_to("relative").is_none());
        assert!(socket_to("").is_none());
    }

    /// A service manager that does not read: nothing waits for it, and what was not accepted is known.
    #[test]
    fn a_full_queue_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let notify = Notify { socket: socket_to(path.to_str().unwrap()), watchdog: None };
        let taken = (0..100_000).take_while(|_| notify.ready()).count();
        assert!((1..100_000).contains(&taken), "{taken}");
        assert!(!notify.status("well"));
        for _ in 0..taken {
            receiver.recv(&mut [0; 64]).unwrap();
        }
        assert!(notify.status("well"));
        drop(receiver);
        assert!(!notify.status("well"));
    }
}
