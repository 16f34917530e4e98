//! Asks the admin endpoint of the running agent.

use crate::access;
use crate::config::AdminConfig;
use crate::credential::Credential;
use crate::secret::Secret;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How long the agent may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A status has a few KiB for each source, metrics up to some hundred.
const BODY_BYTES_MAX: usize = 16 << 20;
/// What helps if no agent runs.
const LOOK: &str = "`systemctl status confluence-audit-agent` shows whether it runs and why not; \
                    `confluence-audit-agent state show` prints what a stopped agent has stored";

pub(super) struct Answer {
    pub status: StatusCode,
    pub body: String,
}

/// Requests a path. The error says why no agent answers, and what to do.
pub(super) async fn get(admin: &AdminConfig, path: &str) -> Result<Answer, String> {
    let answer = async {
        match (&admin.socket, admin.listen) {
            (Some(socket), _) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| no_socket(socket, &error))?;
                exchange(stream, "localhost", None, path).await
            }
            (None, Some(address)) => {
                let token = admin.token.clone().map(|token| Credential::new(token).read()).transpose();
                let token =
                    token.map_err(|error| format!("the token of `[admin]` cannot be read: {error}"))?;
                let stream = TcpStream::connect(address).await;
                let stream =
                    stream.map_err(|error| format!("no agent answers at {address} ({error}); {LOOK}"))?;
                exchange(stream, &address.to_string(), token, path).await
            }
            (None, None) => Err(format!("the agent has no admin endpoint; {LOOK}")),
        }
    };
    let late = || format!("the agent does not answer within {} s; {LOOK}", TIMEOUT.as_secs());
    tokio::time::timeout(TIMEOUT, answer).await.unwrap_or_else(|_| Err(late()))
}

fn no_socket(socket: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => access::denied_message_own("connect to", socket),
        io::ErrorKind::NotFound => {
            format!("no agent answers: its socket `{}` does not exist; {LOOK}", socket.display())
        }
        _ => format!("no agent answers at `{}` ({error}); {LOOK}", socket.display()),
    }
}

async fn exchange<S>(stream: S, host: &str, token: Option<Secret>, path: &str) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed =
        |error: &dyn std::fmt::Display| format!("the agent's answer cannot be read ({error}); {LOOK}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let mut request = Request::get(path).header(HOST, host);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| failed(&error))?.to_bytes();
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}
