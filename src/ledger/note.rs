//! Signed checkpoints: the text of C2SP `tlog-checkpoint` in the envelope of C2SP `signed-note`, signed by Ed25519.
//! Pure.

use super::tree::TreeHash;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;

/// Number of the signature's algorithm in `signed-note`.
const ED25519_ALGORITHM: u8 = 1;
/// How each signature line begins.
const SIGNATURE: &str = "— ";
/// More signatures than a note has that anybody wrote in earnest.
const SIGNATURES_MAX: usize = 64;

/// What a log was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: [u8; 32],
}

impl Checkpoint {
    /// The text that is signed.
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The checkpoint in a signed note, whoever signed it. Lines after the third one are ignored.
    pub fn parse(note: &str) -> Option<Checkpoint> {
        let mut lines = split(note)?.0.split_terminator('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty())?.to_owned();
        let size = decimal(lines.next()?)?;
        let root = decode_hash(lines.next()?)?;
        lines.all(|line| !line.is_empty()).then_some(Checkpoint { origin, size, root })
    }
}

/// Text and signature lines of a note.
fn split(note: &str) -> Option<(&str, &str)> {
    let at = note.rfind("\n\n")?;
    let (text, signatures) = (&note[..=at], &note[at + 2..]);
    let is_note = signatures.ends_with('\n') && !note.contains(|c: char| c < ' ' && c != '\n');
    is_note.then_some((text, signatures))
}

/// A number in its only form: without a sign or leading zeros.
pub(super) fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

pub(super) fn decode_hash(text: &str) -> Option<TreeHash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Signs checkpoints.
pub struct Signer {
    name: String,
    key: Ed25519KeyPair,
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Signer({})", self.verifier())
    }
}

impl Signer {
    /// `seed`: the 32 secret bytes. `None`: the name contains white space or `+`, or the seed has another length.
    pub fn new(name: &str, seed: &[u8]) -> Option<Signer> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        is_name(name).then(|| Signer { name: name.to_owned(), key })
    }

    pub fn verifier(&self) -> Verifier {
        let mut key = [0; 32];
        key.copy_from_slice(self.key.public_key().as_ref());
        Verifier { name: self.name.clone(), key }
    }

    /// The signed note of a checkpoint.
    pub(super) fn sign(&self, checkpoint: &Checkpoint) -> String {
        self.sign_text(&checkpoint.text())
    }

    /// The signed note of a text, which ends with a line end.
    pub(super) fn sign_text(&self, text: &str) -> String {
        format!("{text}\n{}", self.signature_line(text))
    }

    /// A note with this key's signature added.
    pub(super) fn cosign(&self, note: &str) -> Option<String> {
        let (text, _) = split(note)?;
        Some(format!("{note}{}", self.signature_line(text)))
    }

    fn signature_line(&self, text: &str) -> String {
        let mut signature = self.verifier().id().to_vec();
        signature.extend_from_slice(self.key.sign(text.as_bytes()).as_ref());
        format!("{SIGNATURE}{} {}\n", self.name, STANDARD.encode(signature))
    }
}

/// Verifies signatures: the public key and its name. Its text is `name+id+key`, as Go's `sumdb/note` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: [u8; 32],
}

impl fmt::Display for Verifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_ALGORITHM];
        key.extend_from_slice(&self.key);
        write!(out, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(key))
    }
}

/// What a note says of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Valid,
    /// It bears the key's name and id, and is not by this key.
    Invalid,
    Missing,
}

impl Verifier {
    /// `None`: the text is no verifier key, or its id does not fit the key.
    pub fn parse(text: &str) -> Option<Verifier> {
        let (name, rest) = text.split_once('+')?;
        let (id, key) = rest.split_once('+')?;
        let key = STANDARD.decode(key).ok()?;
        let (algorithm, key) = key.split_first()?;
        let verifier = Verifier { name: name.to_owned(), key: key.try_into().ok()? };
        // The standard library would take a sign for a digit.
        let is_hex = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id_fits = is_hex && u32::from_str_radix(id, 16).ok()?.to_be_bytes() == verifier.id();
        (is_name(name) && *algorithm == ED25519_ALGORITHM && id_fits).then_some(verifier)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name with the id, for people: `name+id`.
    pub fn short(&self) -> String {
        format!("{}+{:08x}", self.name, u32::from_be_bytes(self.id()))
    }

    /// SHA-256(name ‖ LF ‖ algorithm ‖ key), its first four bytes.
    fn id(&self) -> [u8; 4] {
        let mut bytes = self.name.as_bytes().to_vec();
        bytes.extend([b'\n', ED25519_ALGORITHM]);
        bytes.extend(self.key);
        let hash = digest(&SHA256, &bytes);
        let hash = hash.as_ref();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// Whether this key signed the note.
    pub(super) fn signature(&self, note: &str) -> Signature {
        let Some((text, lines)) = split(note) else {
            return Signature::Missing;
        };
        let mut found = Signature::Missing;
        for (_, signature) in signatures(lines).filter(|(name, _)| *name == self.name) {
            let Some(signature) = signature.strip_prefix(&self.id()) else {
                continue;
            };
            let key = UnparsedPublicKey::new(&ED25519, self.key);
            if key.verify(text.as_bytes(), signature).is_err() {
                return Signature::Invalid;
            }
            found = Signature::Valid;
        }
        found
    }

    /// The checkpoint in a signed note, if this key signed it.
    pub fn open(&self, note: &str) -> Option<Checkpoint> {
        Checkpoint::parse(note).filter(|_| self.signature(note) == Signature::Valid)
    }
}

/// The keys that a note says it is signed by, as [`Verifier::short`] names them. Nothing is verified.
pub(super) fn signers(note: &str) -> Vec<String> {
    let Some((_, lines)) = split(note) else {
        return Vec::new();
    };
    let named = signatures(lines).filter_map(|(name, signature)| {
        let id = signature.first_chunk::<4>()?;
        Some(format!("{name}+{:08x}", u32::from_be_bytes(*id)))
    });
    named.collect()
}

/// Signed notes that follow each other: each one ends with its signatures. An unfinished last one is being written.
pub(super) fn split_notes(text: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let (mut begin, mut at, mut signed) = (0, 0, false);
    for line in text.split_inclusive('\n') {
        if signed && !line.starts_with(SIGNATURE) {
            notes.push(text[begin..at].to_owned());
            (begin, signed) = (at, false);
        }
        signed |= line.starts_with(SIGNATURE) && line.ends_with('\n');
        at += line.len();
    }
    if signed && text.ends_with('\n') {
        notes.push(text[begin..].to_owned());
    }
    notes
}

/// Name and bytes of each signature line that is one.
fn signatures(lines: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    lines.lines().take(SIGNATURES_MAX).filter_map(|line| {
        let (name, signature) = line.strip_prefix(SIGNATURE)?.split_once(' ')?;
        Some((name, STANDARD.decode(signature).ok()?))
    })
}

/// Whether a key may have this name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_opened_by_its_key_alone() {
        let signer = Signer::new("confluence-audit-agent/7f3d", &[7; 32]).unwrap();
        let origin = "confluence-audit-agent/7f3d/wiki".to_owned();
        let checkpoint = Checkpoint { origin, size: 12, root: [3; 32] };
        let note = signer.sign(&checkpoint);
        let verifier = Verifier::parse(&signer.verifier().to_string()).unwrap();
        assert_eq!(verifier, signer.verifier());
        assert_eq!(verifier.open(&note), Some(checkpoint.clone()));
        assert_eq!(signers(&note), [verifier.short()]);
        let other = Signer::new("confluence-audit-agent/7f3d", &[8; 32]).unwrap();
        assert_eq!(other.verifier().signature(&note), Signature::Missing);
        let changed = note.replace("\n12\n", "\n13\n");
        assert_eq!((verifier.open(&changed), verifier.signature(&changed)), (None, Signature::Invalid));
        let both = other.cosign(&note).unwrap();
        assert_eq!(other.verifier().open(&both), Some(checkpoint.clone()));
        assert_eq!(verifier.open(&both), Some(checkpoint));
        for wrong in ["", "\n\n", "x\n01\nAAAA\n\n— x AAAA\n", note.trim_end(), &note.replace('/', "\r")] {
            assert_eq!(verifier.open(wrong), None, "{wrong:?}");
        }
        let text = signer.verifier().to_string();
        for wrong in ["", "a+b", "a+00000000+AQ==", &text.replace("7f3d+", "7f3e+")] {
            assert_eq!(Verifier::parse(wrong), None, "{wrong:?}");
        }
        // A sign is no digit of an id, though the standard library takes one.
        let names = (0..).map(|n| format!("k{n}"));
        let mut texts = names.map(|name| Signer::new(&name, &[7; 32]).unwrap().verifier().to_string());
        let text = texts.find(|text| text.split('+').nth(1).unwrap().starts_with('0')).unwrap();
        assert!(Verifier::parse(&text).is_some());
        assert_eq!(Verifier::parse(&text.replacen("+0", "++", 1)), None);
        assert!(Signer::new("a b", &[7; 32]).is_none() && Signer::new("a", &[7; 31]).is_none());
        assert!(!format!("{signer:?}").contains("[7"));
    }

    /// The key and the note are those of the documentation of Go's `golang.org/x/mod/sumdb/note`.
    #[test]
    fn a_note_of_another_implementation_is_verified() {
        let verifier =
            Verifier::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let note = "If you think cryptography is the answer to your problem,\n\
             then you don't know what your problem is.\n\n\
             — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert_eq!(verifier.signature(note), Signature::Valid);
        assert_eq!(verifier.signature(&note.replace("answer", "Answer")), Signature::Invalid);
    }

    #[test]
    fn a_key_is_read_in_its_one_form() {
        let verifier = Signer::new("name", &[7; 32]).unwrap().verifier();
        let text = verifier.to_string();
        assert_eq!((verifier.name(), verifier.short()), ("name", text[..13].to_owned()));
        let (id, key) = text.strip_prefix("name+").unwrap().split_once('+').unwrap();
        let parse = |name: &str, id: &str, key: &str| Verifier::parse(&format!("{name}+{id}+{key}"));
        assert_eq!(parse("name", id, key), Some(verifier.clone()));
        assert_eq!(parse("name", &format!("0{id}"), key), None, "longer");
        let mut other_algorithm = STANDARD.decode(key).unwrap();
        other_algorithm[0] = 2;
        assert_eq!(parse("name", id, &STANDARD.encode(&other_algorithm)), None);
        assert_eq!(parse("name", id, &STANDARD.encode(&other_algorithm[..32])), None);
        for name in ["", "a b", "a+b", "a\u{7}"] {
            assert!(Signer::new(name, &[7; 32]).is_none(), "{name:?}");
            let unnamed = Verifier { name: name.to_owned(), ..verifier.clone() };
            assert_eq!(Verifier::parse(&unnamed.to_string()), None, "{name:?}");
        }
    }

    #[test]
    fn a_checkpoint_is_read_in_its_one_form() {
        let root = STANDARD.encode([3; 32]);
        let parse = |text: &str| Checkpoint::parse(&format!("{text}\n— k AA\n"));
        let size = |checkpoint: Option<Checkpoint>| checkpoint.map(|checkpoint| checkpoint.size);
        assert_eq!(size(parse(&format!("log\n12\n{root}\n"))), Some(12));
        assert_eq!(size(parse(&format!("log\n12\n{root}\nmore\n"))), Some(12), "an extension");
        for wrong in [
            format!("\n12\n{root}\n"),
            format!("log\n012\n{root}\n"),
            format!("log\n+12\n{root}\n"),
            format!("log\n12\n{}\n", STANDARD.encode([3; 31])),
            format!("log\n12\n{root}\n\nmore\n"),
            format!("log\n12\n{root}\n\t\n"),
            "log\n12\n".to_owned(),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong:?}");
        }
        assert_eq!(Checkpoint::parse(&format!("log\n12\n{root}\n\n— k AA")), None, "it is being written");
    }

    #[test]
    fn a_signature_counts_if_all_of_its_key_are_valid() {
        let (signer, other) = (Signer::new("k", &[7; 32]).unwrap(), Signer::new("l", &[8; 32]).unwrap());
        let (verifier, text) = (signer.verifier(), "text\n");
        let note = signer.sign_text(text);
        let forged = format!("{SIGNATURE}k {}\n", STANDARD.encode([&verifier.id()[..], &[0; 64]].concat()));
        assert_eq!(verifier.signature(&other.cosign(&note).unwrap()), Signature::Valid);
        assert_eq!(verifier.signature(&signer.cosign(&other.sign_text(text)).unwrap()), Signature::Valid);
        assert_eq!(verifier.signature(&format!("{note}{forged}")), Signature::Invalid);
        assert_eq!(verifier.signature("text\n"), Signature::Missing);
        assert_eq!(signers("text\n"), [""; 0]);
        // The same name with another key is another key.
        let renamed = Signer::new("k", &[8; 32]).unwrap();
        assert_eq!(verifier.signature(&renamed.sign_text(text)), Signature::Missing);
        // No more signatures are looked at than anybody writes.
        let many = |before: usize| {
            let line = other.sign_text(text).split_off(text.len() + 1);
            format!("{text}\n{}{}", line.repeat(before), note.split_once("\n\n").unwrap().1)
        };
        assert_eq!(verifier.signature(&many(SIGNATURES_MAX - 1)), Signature::Valid);
        assert_eq!(verifier.signature(&many(SIGNATURES_MAX)), Signature::Missing);
    }
}
