//! What the configuration means where events go to a syslog receiver. Every value here has been checked.

use std::time::Duration;

use super::remote::TlsConfig;

#[derive(Debug, Clone, PartialEq)]
pub struct SyslogConfig {
    pub host: String,
    pub port: u16,
    pub transport: Transport,
    /// Over TCP and TLS.
    pub framing: Framing,
    /// 0 to 23.
    pub facility: u8,
    pub app_name: String,
    /// TLS included.
    pub connect_timeout: Duration,
    /// For sending a request and for the receiver's system to acknowledge it.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    Tcp,
    Tls(TlsConfig),
    Udp,
}

/// What tells one message from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Its length stands before it: RFC 5425, RFC 6587.
    OctetCounting,
    /// An LF stands behind it.
    Newline,
}

impl SyslogConfig {
    /// The defaults.
    pub fn new(host: String, port: u16, transport: Transport) -> SyslogConfig {
        SyslogConfig {
            host,
            port,
            transport,
            // The one that RFC 5425 knows, and that rsyslog and syslog-ng recognise by themselves.
            framing: Framing::OctetCounting,
            // "log audit": what these events are. It also keeps them out of the files where hosts collect `authpriv`.
            facility: 13,
            // At most 48 bytes, and short, for it stands in each line.
            app_name: "confluence-audit".into(),
            // Time for three lost packets and the greetings of TLS.
            connect_timeout: Duration::from_secs(10),
            // What is not acknowledged by then goes over another connection.
            timeout: Duration::from_secs(30),
        }
    }

    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}
