//! Errors of HTTP requests, with texts that name what an administrator can do.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use url::Url;

use super::proxy::ActiveProxy;
use crate::credential::CredentialError;

/// Contains no secrets: URLs have no userinfo and no query.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("no credentials to send")]
    Credential(#[source] CredentialError),
    #[error(
        "{what} cannot be sent: a header must not contain line ends or control characters; write it again"
    )]
    NoHeader { what: String },
    #[error("{0}; change it in the configuration")]
    Setting(String),
    #[error("cannot read `{}`; correct its path, or let the agent's user read it", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("`{}` contains no {what} in PEM form (`-----BEGIN …`); convert it with `openssl`, or name another file", path.display())]
    NoPem { path: PathBuf, what: &'static str },
    #[error(
        "TLS cannot be set up; if the system has no CA certificates, install the package `ca-certificates`, or name a file with `ca_file`"
    )]
    Build(#[source] reqwest::Error),
    /// The request was not sent.
    #[error("`{url}` is not below the configured URL, so nothing is sent there")]
    Foreign { url: String },
    #[error("cannot reach `{host}`: {cause}")]
    Unreachable { host: String, cause: UnreachableCause, source: reqwest::Error },
    #[error("no TLS connection to `{host}`: {problem}")]
    Tls { host: String, problem: TlsProblem, source: reqwest::Error },
    #[error("the proxy {via} cannot connect to `{host}`: {problem}{}", problem.exception(via))]
    Proxy { host: String, via: ActiveProxy, problem: ProxyProblem, source: reqwest::Error },
    #[error("{phase} took longer than {after:?}; see {}, or raise the timeout", phase.remedy())]
    Timeout { phase: Phase, after: Duration },
    #[error("the response is longer than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("redirected to `{to}` (status {status}): {}", kind.remedy())]
    Redirect { status: u16, to: String, kind: RedirectKind },
    #[error("the connection to `{host}` closed before the response was complete; the request is repeated")]
    Broken { host: String, source: reqwest::Error },
}

/// What a timeout was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Phase {
    #[error("connecting")]
    Connect,
    /// Connecting, and the TLS handshake.
    #[error("connecting with TLS")]
    Tls,
    /// From the request to the first byte of the response, connecting included.
    #[error("waiting for the response")]
    Head,
    #[error("a pause within the response")]
    Idle,
    #[error("the whole request")]
    Whole,
}

impl Phase {
    fn remedy(self) -> &'static str {
        match self {
            Phase::Tls => {
                "how busy the server is, and whether that port uses TLS (if not, write `http://` in `url`, or the right port)"
            }
            _ => "how busy the server is",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnreachableCause {
    #[error("its name cannot be resolved; correct `url` or the host's DNS")]
    Name,
    #[error("nothing listens at that port; correct `url`, or start the server")]
    Refused,
    #[error("no route; see network and firewall, or set a proxy")]
    NoRoute,
    #[error("the connection failed; see network, firewall and proxy")]
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyProblem {
    #[error("its name cannot be resolved; correct it, or the host's DNS")]
    Name,
    #[error("nothing listens at its port; correct its address, or start it")]
    Closed,
    #[error("there is no route to it; see network and firewall")]
    NoRoute,
    #[error("the connection to it failed; see network and firewall")]
    Connection,
    #[error("no connection was made within {0:?}; see network and firewall, and the proxy's rules")]
    Timeout(Duration),
    #[error("no TLS connection to it: {0}")]
    Tls(TlsProblem),
    #[error("it requires a user and a password; set or correct those of the proxy")]
    Credentials,
    #[error("it refuses to connect; allow this host in the proxy")]
    Refused,
}

impl ProxyProblem {
    /// How to bypass the proxy.
    fn exception(&self, via: &ActiveProxy) -> String {
        match self {
            ProxyProblem::Credentials | ProxyProblem::Tls(_) => String::new(),
            _ => format!("; or list the host in {} to reach it directly", via.exceptions()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsProblem {
    #[error(
        "its certificate is from an issuer that this system does not trust; name the issuer's certificate with `ca_file`"
    )]
    UnknownIssuer,
    #[error("its certificate has expired; renew it on the server, and check this host's clock")]
    Expired,
    #[error("its certificate is not valid yet; check the clocks of both hosts")]
    NotValidYet,
    #[error("its certificate is for another name; write that name in `url`")]
    OtherName,
    #[error("its certificate is not valid; see the cause, and renew it on the server")]
    Certificate,
    #[error("it does not accept the client certificate, or requires one; see `client_certificate`")]
    ClientCertificate,
    #[error("the two have no TLS version or cipher in common; see `tls_version_min`, or update the server")]
    Version,
    #[error("the server does not use TLS at this port; write `http://` in `url`, or the right port")]
    NoTls,
    #[error(
        "the server closes the connection during the TLS handshake; see whether that port uses TLS (if not, write `http://` in `url`, or the right port)"
    )]
    Ended,
    #[error("the TLS handshake failed; see the cause")]
    Handshake,
}

/// The target of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedirectKind {
    /// A login page of Confluence or of a single sign-on.
    Login,
    /// Another scheme, host or port.
    OtherOrigin,
    /// The same server with `https` instead of `http`.
    ToHttps,
    /// Another path of the same server.
    SameOrigin,
}

impl RedirectKind {
    fn remedy(self) -> &'static str {
        match self {
            RedirectKind::Login => {
                "a login page; the token is not accepted, or a single sign-on is in front of the API and must let it through"
            }
            RedirectKind::OtherOrigin => {
                "another server, to which no credentials are sent; if Confluence is there, write that in `url`; otherwise a proxy or single sign-on is in front of it"
            }
            RedirectKind::ToHttps => "write `https://` in `url`",
            RedirectKind::SameOrigin => "another path; correct `url`, its context path included",
        }
    }
}

/// Classifies an error of the library. `url` is the requested URL, `via` the proxy in use.
pub(super) fn from_reqwest(
    error: reqwest::Error,
    url: &Url,
    connect_timeout: Duration,
    via: Option<ActiveProxy>,
) -> HttpError {
    let host = host(url);
    let source = error.without_url();
    if let Some(via) = via
        && let Some(problem) = proxy_problem(&source, url, connect_timeout)
    {
        return HttpError::Proxy { host, via, problem, source };
    }
    if source.is_timeout() {
        // The client has the other timeouts itself.
        return HttpError::Timeout {
            phase: match url.scheme() {
                "https" => Phase::Tls,
                _ => Phase::Connect,
            },
            after: connect_timeout,
        };
    }
    let (tls, kind) =
        (find::<rustls::Error>(&source).map(tls_problem), find::<io::Error>(&source).map(io::Error::kind));
    let name = has_cause(&source, "dns error");
    if let Some(problem) = tls {
        return HttpError::Tls { host, problem, source };
    }
    if !source.is_connect() {
        return HttpError::Broken { host, source };
    }
    let closed = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    if url.scheme() == "https" && kind.is_some_and(|kind| closed.contains(&kind)) {
        return HttpError::Tls { host, problem: TlsProblem::Ended, source };
    }
    let cause = match kind {
        _ if name => UnreachableCause::Name,
        Some(ErrorKind::ConnectionRefused) => UnreachableCause::Refused,
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => UnreachableCause::NoRoute,
        _ => UnreachableCause::Other,
    };
    HttpError::Unreachable { host, cause, source }
}

/// The proxy's part of an error. `None` if the proxy works.
fn proxy_problem(source: &reqwest::Error, url: &Url, connect_timeout: Duration) -> Option<ProxyProblem> {
    if source.is_timeout() {
        return Some(ProxyProblem::Timeout(connect_timeout));
    }
    if !source.is_connect() {
        return None;
    }
    let (is_tunnelled, tunnel) = (url.scheme() == "https", has_cause(source, "tunnel error"));
    // Plain HTTP connects to the proxy only.
    let is_to_proxy = !is_tunnelled || has_cause(source, "failed to create underlying connection");
    let kind = find::<io::Error>(source).map(io::Error::kind);
    match find::<rustls::Error>(source).map(tls_problem) {
        Some(problem) if is_to_proxy => return Some(ProxyProblem::Tls(problem)),
        Some(_) => return None,
        None => {}
    }
    Some(match kind {
        _ if has_cause(source, "authorization required") => ProxyProblem::Credentials,
        _ if has_cause(source, "dns error") => ProxyProblem::Name,
        Some(ErrorKind::ConnectionRefused) => ProxyProblem::Closed,
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => ProxyProblem::NoRoute,
        _ if is_to_proxy => ProxyProblem::Connection,
        _ if tunnel => ProxyProblem::Refused,
        _ => return None,
    })
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
}

pub(crate) fn tls_problem(error: &rustls::Error) -> TlsProblem {
    use rustls::Error::*;
    match error {
        // A bad signature occurs with a CA of the same name and another key, for example after its renewal.
        InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            TlsProblem::UnknownIssuer
        }
        InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            TlsProblem::Expired
        }
        InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            TlsProblem::NotValidYet
        }
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => TlsProblem::OtherName,
        InvalidCertificate(_) | NoCertificatesPresented => TlsProblem::Certificate,
        AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate,
        ) => TlsProblem::ClientCertificate,
        AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity)
        | PeerIncompatible(_) => TlsProblem::Version,
        InvalidMessage(rustls::InvalidMessage::InvalidContentType) => TlsProblem::NoTls,
        _ => TlsProblem::Handshake,
    }
}

/// The causes of an error, the outermost first. The `source` of an `io::Error` skips the error that it wraps,
/// so that is visited too.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'e (dyn Error + 'static)| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The innermost cause of a type.
pub(crate) fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    causes(error).filter_map(|cause| cause.downcast_ref()).last()
}

/// Errors of the connector have private types and can be distinguished by their texts only.
fn has_cause(error: &(dyn Error + 'static), text: &str) -> bool {
    causes(error).any(|cause| cause.to_string().contains(text))
}
