//! One secret that is in use: found by its reference, and read again when its file has changed.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::access;
use crate::clock;
use crate::config::Reference;
use crate::secret::Secret;
use crate::telemetry::chain;
use crate::telemetry::escape::shell_word;

/// Tokens have a few hundred bytes, keys a few thousand. What is larger is the wrong file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A file that is written in place, and not replaced, is read when it was unchanged for this long: until then
/// the writer may have done half of it.
const QUIET_MS: i64 = 1000;

/// Why there is no secret. Holds nothing of what was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error(
        "the environment variable `{0}` is not set; set it for the agent, or name a file: `{{ file = \"/path\" }}`"
    )]
    NotInEnvironment(String),
    #[error(
        "systemd has not passed the credential `{0}`; add `LoadCredential={0}:/path` to the unit and start the agent by it"
    )]
    NotPassed(String),
    /// Says who may not read what, and what helps.
    #[error("{0}")]
    Denied(String),
    #[error(
        "the credential file `{}` does not exist; write the secret into it, mode 0640, group {}, or name the right file",
        path.display(),
        crate::NAME
    )]
    Missing { path: PathBuf },
    #[error("failed to read the credential file `{}`", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the credential file `{}` {fault}", path.display())]
    Content { path: PathBuf, fault: &'static str },
    #[error("the environment variable `{name}` {fault}")]
    Variable { name: String, fault: &'static str },
}

/// Identifies one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

enum Loaded {
    Secret(Secret),
    /// The file is being written, perhaps: the secret held before.
    BeingWritten(Secret),
}

/// A secret by its reference. The text is held; a file is looked at by each [`Credential::read`] and read when it is
/// another.
#[derive(Debug)]
pub(crate) struct Credential {
    reference: Reference,
    /// Of a file and of a systemd credential.
    path: Option<PathBuf>,
    held: Option<Secret>,
    /// The state of the file when it was last looked into, be it good or not.
    seen: Option<Identity>,
    /// The failure that was warned of, until it is over.
    warned: Option<String>,
    warned_open: bool,
}

impl Credential {
    pub(crate) fn new(reference: Reference) -> Credential {
        let path = match &reference {
            Reference::File(path) => Some(path.clone()),
            Reference::Systemd(name) => std::env::var_os("CREDENTIALS_DIRECTORY")
                .filter(|dir| !dir.is_empty())
                .map(|dir| Path::new(&dir).join(name)),
            Reference::Env(_) | Reference::Inline(_) => None,
        };
        Credential { reference, path, held: None, seen: None, warned: None, warned_open: false }
    }

    /// The secret. A file is read if it is another than the last time. Where it cannot be read or is not fit to be
    /// used, the secret held before is given, with one warning.
    pub(crate) fn read(&mut self) -> Result<Secret, CredentialError> {
        self.update(false)
    }

    /// As [`Credential::read`], and the file is read even if it looks the same: for use after the secret was refused.
    pub(crate) fn reread(&mut self) -> Result<Secret, CredentialError> {
        self.update(true)
    }

    /// The secret that was read last.
    pub(crate) fn held(&self) -> Option<&Secret> {
        self.held.as_ref()
    }

    /// Whether [`Credential::read`] would look into a file that is another than the last time. Costs a `stat`. A file
    /// that has vanished, or never was, brings nothing new.
    pub(crate) fn changed(&self) -> bool {
        match self.identity_now() {
            Some(Ok(now)) => self.seen != Some(now),
            _ => false,
        }
    }

    fn identity_now(&self) -> Option<io::Result<Identity>> {
        let path = self.path.as_ref()?;
        Some(path.metadata().map(|metadata| identity(&metadata)))
    }

    fn update(&mut self, force: bool) -> Result<Secret, CredentialError> {
        let now = self.identity_now().map(Result::ok);
        let is_same = now.is_none_or(|now| now == self.seen);
        if let (Some(held), true, false) = (&self.held, is_same && self.warned.is_none(), force) {
            return Ok(held.clone());
        }
        let loaded = self.load();
        if let (Err(_), Some(Some(now))) = (&loaded, now) {
            // One that cannot be opened was looked at as well: it is not new the next time.
            self.seen = Some(now);
        }
        match (loaded, self.held.clone()) {
            (Ok(Loaded::BeingWritten(held)), _) => Ok(held),
            (Ok(Loaded::Secret(secret)), _) => {
                if self.warned.take().is_some() {
                    tracing::info!(credential = self.name(), "the credential can be read again");
                }
                self.held = Some(secret.clone());
                Ok(secret)
            }
            (Err(error), None) => Err(error),
            (Err(error), Some(held)) => {
                let error = chain(&error);
                if self.warned.as_ref() != Some(&error) {
                    tracing::warn!(
                        credential = self.name(),
                        error,
                        "the credential cannot be read again; the previous one stays in use"
                    );
                    self.warned = Some(error);
                }
                Ok(held)
            }
        }
    }

    fn load(&mut self) -> Result<Loaded, CredentialError> {
        match (&self.reference, self.path.clone()) {
            (_, Some(path)) => self.load_file(&path),
            (Reference::Inline(secret), _) => Ok(Loaded::Secret(secret.clone())),
            (Reference::Env(name), _) => {
                let value =
                    std::env::var_os(name).ok_or_else(|| CredentialError::NotInEnvironment(name.clone()))?;
                let secret = secret(value.into_encoded_bytes())
                    .map_err(|fault| CredentialError::Variable { name: name.clone(), fault })?;
                Ok(Loaded::Secret(secret))
            }
            (Reference::Systemd(name), None) => Err(CredentialError::NotPassed(name.clone())),
            (Reference::File(path), None) => {
                Err(CredentialError::Content { path: path.clone(), fault: "has no path" })
            }
        }
    }

    fn load_file(&mut self, path: &Path) -> Result<Loaded, CredentialError> {
        let content = |fault| CredentialError::Content { path: path.into(), fault };
        let reference = self.reference.clone();
        let failed = |error: io::Error| match (error.kind(), &reference) {
            (io::ErrorKind::NotFound, Reference::Systemd(name)) => CredentialError::NotPassed(name.clone()),
            (io::ErrorKind::NotFound, _) => CredentialError::Missing { path: path.into() },
            (io::ErrorKind::PermissionDenied, _) => {
                CredentialError::Denied(access::denied_message_own("read", path))
            }
            _ => CredentialError::File { path: path.into(), source: error },
        };
        let file = open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let now = identity(&metadata);
        if !metadata.is_file() {
            return Err(content("is no regular file; name a file that holds the secret and nothing else"));
        }
        self.warn_of_readers(path, &metadata);
        if metadata.len() > FILE_BYTES_MAX {
            return Err(content("has more than 64 KiB; name a file that holds the secret and nothing else"));
        }
        let mut bytes = Vec::new();
        (&file).take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let secret = secret(bytes).map_err(content);
        if let (Ok(_), Some(held), Some(from)) = (&secret, &self.held, self.seen)
            && from != now
            && (from.device, from.inode) == (now.device, now.inode)
            && is_fresh(now)
        {
            // `seen` stays, so that the next read looks again.
            return Ok(Loaded::BeingWritten(held.clone()));
        }
        self.seen = Some(now);
        secret.map(Loaded::Secret)
    }

    fn warn_of_readers(&mut self, path: &Path, metadata: &Metadata) {
        if let Some(message) = readers(path, metadata).filter(|_| !self.warned_open) {
            self.warned_open = true;
            tracing::warn!(credential = self.name(), "{message}");
        }
    }

    /// How the credential is called in messages.
    fn name(&self) -> String {
        match &self.reference {
            Reference::File(path) => path.display().to_string(),
            Reference::Env(name) => format!("${name}"),
            Reference::Systemd(name) => name.clone(),
            Reference::Inline(_) => "in the configuration".into(),
        }
    }
}

/// Says who else may read a file that holds secrets. The group may if it is the agent's own: a file of root that the
/// agent reads has no other way.
pub(crate) fn readable_by_others(path: &Path) -> Option<String> {
    readers(path, &path.metadata().ok()?)
}

fn readers(path: &Path, metadata: &Metadata) -> Option<String> {
    let mode = metadata.mode();
    // To root, who runs `check`, the agent's group is another.
    let own_group = metadata.gid() == rustix::process::getegid().as_raw()
        || access::group_name(metadata.gid()) == crate::NAME;
    let who = match (mode & 0o004 != 0, mode & 0o040 != 0 && !own_group) {
        (true, _) => "everybody on this host",
        (false, true) => "its group",
        (false, false) => return None,
    };
    let remedy = if own_group { "chmod o-rwx" } else { "chmod go-rwx" };
    Some(format!(
        "`{path}` ({:04o}) holds a secret and {who} may read it; run: {remedy} {}",
        mode & 0o7777,
        shell_word(&path.to_string_lossy()),
        path = path.display()
    ))
}

/// Opens for reading. A named pipe does not make it wait.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// The secret in what was read. The error says what is wrong and shows nothing of it.
fn secret(bytes: Vec<u8>) -> Result<Secret, &'static str> {
    let Ok(text) = String::from_utf8(bytes) else {
        return Err("is not valid UTF-8; write the secret as text");
    };
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err("is empty; write the secret into it");
    }
    if text.contains('\n') {
        return Err("has more than one line; write the secret on one line and nothing else");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character; write the secret as text");
    }
    Ok(Secret::new(text))
}

fn identity(metadata: &Metadata) -> Identity {
    let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// A time in the future means nothing: some clock is wrong.
fn is_fresh(identity: Identity) -> bool {
    let age_ms = i128::from(clock::now_ms()) - identity.modified_ns / 1_000_000;
    (0..i128::from(QUIET_MS)).contains(&age_ms)
}

#[cfg(test)]
mod tests;
