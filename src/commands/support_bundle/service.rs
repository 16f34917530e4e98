//! What systemd and the journal know of the agent's service.

use super::config_text::shown_text;
use super::secrets::{REMOVED, Secrets};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a program may take.
const TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// Of the log of one hour, the last part.
const LOG_BYTES_MAX: usize = 16 << 20;

/// Variables of the unit whose values are shown.
const SHOWN_VARIABLES: [&str; 12] = [
    "ALL_PROXY",
    "CONFLUENCE_HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LC_ALL",
    "NO_COLOR",
    "NO_PROXY",
    "RUST_BACKTRACE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TZ",
];

/// Properties of a unit that are not shown: they hold texts of secrets, or bytes that nobody reads.
const HIDDEN_PROPERTIES: [&str; 4] =
    ["SetCredential", "SetCredentialEncrypted", "StandardInputData", "RootHashSignature"];

/// Runs a program and returns what it printed. The error says why there is nothing.
pub(super) fn output_of(program: &str, arguments: &[&str]) -> Result<String, String> {
    let command = format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("SYSTEMD_COLORS", "0")
        .env("SYSTEMD_PAGER", "")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = std::thread::spawn(move || end_of(stdout));
    let stderr = std::thread::spawn(move || end_of(stderr));
    let deadline = crate::clock::monotonic() + TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if crate::clock::monotonic() < deadline => std::thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("`{command}` has not ended within {} s", TIMEOUT.as_secs()));
            }
            Err(error) => return Err(format!("`{command}`: {error}")),
        }
    };
    let printed = stdout.join().unwrap_or_default();
    if status.success() {
        return Ok(printed);
    }
    let said = stderr.join().unwrap_or_default();
    Err(format!("`{command}` failed: {}", said.lines().next().unwrap_or("it printed nothing")))
}

/// The last part of what comes.
fn end_of(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    let mut part = vec![0; 64 << 10];
    let Some(mut from) = from else {
        return String::new();
    };
    while let Ok(length) = from.read(&mut part)
        && length > 0
    {
        bytes.extend_from_slice(&part[..length]);
        if bytes.len() > 2 * LOG_BYTES_MAX {
            bytes.drain(..LOG_BYTES_MAX);
        }
    }
    let start = bytes.len().saturating_sub(LOG_BYTES_MAX);
    String::from_utf8_lossy(&bytes[start..]).into_owned()
}

/// The log of the last hour. What the agent printed is left out: with a sink `stdout` that is audit events.
pub(super) fn log(unit: &str) -> Result<String, String> {
    let arguments = [
        "--unit",
        unit,
        "--since",
        "-1h",
        "--output",
        "short-iso-precise",
        "--no-pager",
        "--quiet",
        "_TRANSPORT=journal",
    ];
    let log = output_of("journalctl", &arguments)?;
    match log.trim().is_empty() {
        true => {
            Err("the journal has no line of the last hour, or this user may not read it; try as root"
                .to_owned())
        }
        false => Ok(log),
    }
}

/// The properties of the unit. Of its environment, names and a few harmless values.
pub(super) fn unit(unit: &str, secrets: &mut Secrets) -> Result<String, String> {
    let printed = output_of("systemctl", &["show", "--no-pager", unit])?;
    let mut shown = String::new();
    for line in printed.lines() {
        match line.split_once('=') {
            Some((name, value)) if HIDDEN_PROPERTIES.contains(&name) => {
                secrets.add(value);
                shown.push_str(&format!("{name}={REMOVED}\n"));
            }
            Some(("Environment", value)) => {
                shown.push_str(&format!("Environment={}\n", variables(value, secrets)));
            }
            Some(("EnvironmentFiles", value)) => {
                let path = value.split(" (").next().unwrap_or_default();
                add_environment_file(Path::new(path), secrets);
                shown.push_str(&format!("EnvironmentFiles={value}\n"));
            }
            _ => {
                shown.push_str(line);
                shown.push('\n');
            }
        }
    }
    Ok(shown)
}

/// Limits and memory of the unit's process. Its environment is not read.
pub(super) fn process(unit: &str) -> Result<String, String> {
    let pid = output_of("systemctl", &["show", "--property", "MainPID", "--value", unit])?;
    let pid: u32 = pid.trim().parse().map_err(|_| "systemctl names no process".to_owned())?;
    if pid == 0 {
        return Err(format!("`{unit}` does not run"));
    }
    let mut out = String::new();
    for name in ["status", "limits", "io", "mountinfo"] {
        let path = format!("/proc/{pid}/{name}");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| format!("{error}\n"));
        out.push_str(&format!("{path}:\n{text}\n"));
    }
    Ok(out)
}

/// The variables of `Environment=`, in quotes where systemd quotes them.
fn variables(value: &str, secrets: &mut Secrets) -> String {
    let shown = words(value).into_iter().map(|word| match word.split_once('=') {
        Some((name, value)) if SHOWN_VARIABLES.contains(&name.to_ascii_uppercase().as_str()) => {
            format!("{name}={}", shown_text(value, secrets))
        }
        Some((name, value)) => {
            secrets.add(value);
            format!("{name}={REMOVED}")
        }
        None => {
            secrets.add(&word);
            REMOVED.to_owned()
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Splits at blanks outside of quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_escaped) = (Vec::new(), String::new(), None, false);
    for c in text.chars() {
        match (c, quote) {
            _ if std::mem::take(&mut is_escaped) => word.push(c),
            ('\\', _) => is_escaped = true,
            (' ', None) => words.push(std::mem::take(&mut word)),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, _) => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The values of a file of variables. It is not in the bundle.
fn add_environment_file(path: &Path, secrets: &mut Secrets) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        if let Some((_, value)) = line.split_once('=') {
            secrets.add(value.trim().trim_matches(['"', '\'']));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_are_not_shown() {
        let mut secrets = Secrets::default();
        let shown = variables(
            r#"TOKEN=hunter22 "PASS=two words" HTTPS_PROXY=http://u:hunter33@proxy:1 TZ=UTC X='a "b'"#,
            &mut secrets,
        );
        let expected = "TOKEN=[removed] PASS=[removed] HTTPS_PROXY=http://proxy:1/ [user, query or fragment removed] TZ=UTC \
                        X=[removed]";
        assert_eq!(shown, expected);
        let text = secrets.remove_from("hunter22 two words hunter33 UTC".to_owned());
        assert_eq!(text, "[removed] [removed] [removed] UTC");
    }

    #[test]
    fn a_program_that_fails_is_reported_with_its_words() {
        assert_eq!(output_of("echo", &["a", "b"]), Ok("a b\n".to_owned()));
        assert!(output_of("/no/such/program", &[]).is_err_and(|error| error.contains("cannot be started")));
        let failed = output_of("sh", &["-c", "echo why >&2; exit 3"]);
        assert!(failed.is_err_and(|error| error.ends_with("failed: why")));
    }
}
