//! The key that signs the checkpoints of all ledgers of an agent.
//!
//! ```text
//! ledger/key       the secret: 32 bytes in base64, mode 0600
//! ledger/key.pub   the verifier keys that were in use, newest last
//! ```

use super::note::{Signer, Verifier};
use super::reader::{DIRECTORY, KEY};
use super::segments::{self, read_text};
use crate::config::Reference;
use crate::credential::Credential;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::OFlags;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

const VERIFIERS: &str = "key.pub";
const SEED_BYTES: usize = 32;

/// The signer with the key in the state directory, which is made if there is none.
///
/// # Errors
/// The file cannot be read or written, or is no key.
pub fn open_or_create(state_dir: &Path, name: &str) -> io::Result<Signer> {
    match open(state_dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(&state_dir.join(DIRECTORY))?;
            open(state_dir, name)
        }
        opened => opened,
    }
}

/// The signer with the key in the state directory.
///
/// # Errors
/// The file is not there, cannot be read, or is no key.
pub fn open(state_dir: &Path, name: &str) -> io::Result<Signer> {
    let path = state_dir.join(DIRECTORY).join(KEY);
    let mut text = String::new();
    segments::open(&path, OFlags::RDONLY)?.read_to_string(&mut text)?;
    parse(name, &text).ok_or_else(|| {
        let problem = "is not a key: 32 bytes in base64. Restore it, or remove it: then a new key is made";
        io::Error::other(format!("`{}` {problem}", path.display()))
    })
}

/// The signer with a key that the configuration gives as text. `None`: it is not 32 bytes in base64.
pub fn parse(name: &str, text: &str) -> Option<Signer> {
    let seed = STANDARD.decode(text.trim()).ok()?;
    Signer::new(name, &seed)
}

/// The signer with the key that the configuration names.
///
/// # Errors
/// The key cannot be read, or is none.
pub fn configured(reference: &Reference, name: &str) -> io::Result<Signer> {
    let secret = Credential::new(reference.clone()).read().map_err(io::Error::other)?;
    parse(name, secret.expose())
        .ok_or_else(|| io::Error::other("`ledger.signing_key` is not a key: write 32 bytes in base64"))
}

fn create(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut seed = [0; SEED_BYTES];
    SystemRandom::new().fill(&mut seed).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let text = format!("{}\n", STANDARD.encode(seed));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(dir.join(KEY)).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// Stores the public half of the key that is in use, so that commands can print it without the secret.
///
/// # Errors
/// The file cannot be read or written.
pub fn publish(state_dir: &Path, verifier: &Verifier) -> io::Result<()> {
    let dir = state_dir.join(DIRECTORY);
    let mut known = published(state_dir)?;
    if known.last() == Some(verifier) {
        return Ok(());
    }
    known.push(verifier.clone());
    let text: String = known.iter().map(|verifier| format!("{verifier}\n")).collect();
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(dir.join(VERIFIERS)).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// The verifier keys that were in use, newest last.
///
/// # Errors
/// The file cannot be read.
pub fn published(state_dir: &Path) -> io::Result<Vec<Verifier>> {
    let text = read_text(&state_dir.join(DIRECTORY).join(VERIFIERS))?;
    Ok(text.lines().filter_map(Verifier::parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_its_public_half_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let signer = open_or_create(dir.path(), "agent/1").unwrap();
        assert_eq!(open_or_create(dir.path(), "agent/1").unwrap().verifier(), signer.verifier());
        let path = dir.path().join("ledger/key");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(published(dir.path()).unwrap().is_empty());
        let other = parse("agent/1", &STANDARD.encode([3; 32])).unwrap();
        for key in [signer.verifier(), signer.verifier(), other.verifier()] {
            publish(dir.path(), &key).unwrap();
        }
        assert_eq!(published(dir.path()).unwrap(), [signer.verifier(), other.verifier()]);
        std::fs::write(&path, "short").unwrap();
        let error = open_or_create(dir.path(), "agent/1").unwrap_err().to_string();
        assert!(error.contains("is not a key"), "{error}");
        assert!(parse("agent/1", &STANDARD.encode([3; 31])).is_none());
    }
}
