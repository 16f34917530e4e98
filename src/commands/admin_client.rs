//! Asks the admin endpoint of the running agent.

use crate::access;
use crate::config::{AdminConfig, AdminEndpoint};
use crate::credential::Credential;
use crate::secret::Secret;
use crate::telemetry::escape::{escape, escape_path};
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

/// Requests a path. The error says why no agent answers, or which other agent does, and what to do.
pub(super) async fn get(endpoint: &AdminEndpoint, path: &str) -> Result<Answer, String> {
    if let Some(asked) = &endpoint.config_file {
        expect_config(&ask(&endpoint.admin, "/status").await?, asked)?;
    }
    ask(&endpoint.admin, path).await
}

/// Refuses the status of an agent that has another configuration than the one that was asked for.
fn expect_config(answer: &Answer, asked: &Path) -> Result<(), String> {
    let status: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    // Without a schema it is no status, and the caller says what it is.
    if status.get("schema").is_none() {
        return Ok(());
    }
    let real = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let other = match status["config"].as_str() {
        Some(config) if real(Path::new(config)).ok() == real(asked).ok() => return Ok(()),
        Some(config) => format!("the configuration `{}`", escape(config)),
        None => "no configuration file".to_owned(),
    };
    Err(format!(
        "the agent that answers has {other}, not `{}`, which names no socket; write `socket` into its `[admin]`, or name \
         the socket with `status --socket PATH`: the instance NAME of the service has \
         `/run/confluence-audit-agent-instances/NAME/admin.sock`",
        escape_path(asked)
    ))
}

async fn ask(admin: &AdminConfig, path: &str) -> Result<Answer, String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_status_of_another_agent_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let (asked, link) = (dir.path().join("second.toml"), dir.path().join("link.toml"));
        std::fs::write(&asked, "").unwrap();
        std::os::unix::fs::symlink(&asked, &link).unwrap();
        let answer = |body: String| Answer { status: StatusCode::OK, body };
        let of = |config: serde_json::Value| answer(json!({ "schema": 1, "config": config }).to_string());
        assert_eq!(expect_config(&of(json!(asked)), &asked), Ok(()));
        assert_eq!(expect_config(&of(json!(asked)), &link), Ok(()));
        assert_eq!(expect_config(&answer("no status".to_owned()), &asked), Ok(()));
        let other = expect_config(&of(json!("/etc/confluence-audit-agent/config.toml")), &asked).unwrap_err();
        for text in [
            "`/etc/confluence-audit-agent/config.toml`",
            "second.toml`",
            "--socket",
            "-instances/NAME/admin.sock",
        ] {
            assert!(other.contains(text), "{text}: {other}");
        }
        let none = expect_config(&of(json!(null)), &asked).unwrap_err();
        assert!(none.contains("has no configuration file, not"), "{none}");
    }
}
