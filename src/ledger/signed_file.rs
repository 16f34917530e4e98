//! A file that the agent's key stands for: a signed note with the SHA-256 of its bytes, in a file beside it. Pure.

use super::entry::record_digest;
use super::note::{Signature, Signer, Verifier};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// First line of the text. No origin of a ledger is equal to it, so a note of one cannot pass for one of the other.
const HEADER: &str = "confluence-audit-agent report";

/// Why a file is not what was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignedFileError {
    #[error("the signature is not one of a report")]
    Malformed,
    #[error("none of the keys signed it")]
    OtherKey,
    #[error("the signature is not by the key that it names")]
    Invalid,
    #[error("the report was changed after it was signed")]
    Altered,
}

/// The signed note of a file with these bytes.
pub fn sign_file(bytes: &[u8], signer: &Signer) -> String {
    signer.sign_text(&text(bytes))
}

/// Checks a file against its note. Returns the key that signed it.
///
/// # Errors
/// The note is not for these bytes, or not by one of the keys.
pub fn verify_file<'a>(
    bytes: &[u8],
    note: &str,
    keys: &'a [Verifier],
) -> Result<&'a Verifier, SignedFileError> {
    if !note.starts_with(&format!("{HEADER}\n")) {
        return Err(SignedFileError::Malformed);
    }
    let signatures = || keys.iter().map(|key| (key, key.signature(note)));
    let (key, _) =
        signatures().find(|(_, signature)| *signature == Signature::Valid).ok_or_else(
            || match signatures().any(|(_, signature)| signature == Signature::Invalid) {
                true => SignedFileError::Invalid,
                false => SignedFileError::OtherKey,
            },
        )?;
    if note.starts_with(&format!("{}\n", text(bytes))) { Ok(key) } else { Err(SignedFileError::Altered) }
}

fn text(bytes: &[u8]) -> String {
    format!("{HEADER}\n{}\n", STANDARD.encode(record_digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_was_signed_or_it_is_said_why_not() {
        let signer = Signer::new("confluence-audit-agent/7f3d", &[7; 32]).unwrap();
        let other = Signer::new("confluence-audit-agent/7f3d", &[8; 32]).unwrap();
        let keys = [other.verifier(), signer.verifier()];
        let note = sign_file(b"report", &signer);
        assert_eq!(verify_file(b"report", &note, &keys).unwrap(), &keys[1]);
        let because = |bytes: &[u8], note: &str, keys: &[Verifier]| {
            verify_file(bytes, note, keys).unwrap_err().to_string()
        };
        assert_eq!(because(b"report.", &note, &keys), "the report was changed after it was signed");
        assert_eq!(because(b"report", &note, &keys[..1]), "none of the keys signed it");
        let renamed = note.replace(&STANDARD.encode(record_digest(b"report")), &STANDARD.encode([1; 32]));
        assert_eq!(because(b"report", &renamed, &keys), "the signature is not by the key that it names");
        let checkpoint = signer.sign_text("confluence-audit-agent/7f3d/wiki\n1\nAAAA\n");
        assert_eq!(because(b"report", &checkpoint, &keys), "the signature is not one of a report");
    }
}
