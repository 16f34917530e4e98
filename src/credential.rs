//! Placeholder until the credentials are merged.

use crate::config::Reference;
use crate::secret::Secret;

#[derive(Debug, thiserror::Error)]
#[error("failed to read the credential from {place}")]
pub struct CredentialError {
    place: String,
    source: std::io::Error,
}

pub struct Credential {
    reference: Reference,
    read: Option<String>,
}

impl Credential {
    pub fn new(reference: Reference) -> Credential {
        Credential {
            reference,
            read: None,
        }
    }

    pub fn read(&mut self) -> Result<Secret, CredentialError> {
        let text = self.text()?;
        self.read = Some(text.clone());
        Ok(Secret::new(text))
    }

    pub fn changed(&self) -> bool {
        self.read.is_some() && self.text().ok() != self.read
    }

    fn text(&self) -> Result<String, CredentialError> {
        match &self.reference {
            Reference::Inline(secret) => Ok(secret.expose().to_string()),
            Reference::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| CredentialError {
                    place: path.display().to_string(),
                    source,
                })?;
                Ok(text.trim_end_matches(['\r', '\n']).to_string())
            }
            Reference::Env(name) => std::env::var(name).map_err(|error| CredentialError {
                place: name.clone(),
                source: std::io::Error::other(error),
            }),
            Reference::Systemd(name) => Err(CredentialError {
                place: name.clone(),
                source: std::io::ErrorKind::Unsupported.into(),
            }),
        }
    }
}
