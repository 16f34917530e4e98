//! Removes the secrets of a request from texts of its response. Error pages repeat requests: unchanged, in
//! another case, percent-encoded, escaped, in hexadecimal or in base64.

use std::borrow::Cow;
use std::cmp::Reverse;

use base64::prelude::{BASE64_STANDARD_NO_PAD as BASE64, Engine};
use memchr::memmem;
use reqwest::header::{HeaderMap, HeaderValue};

use crate::secret::Secret;

/// Shorter texts are not secrets, or occur in other words.
const SECRET_BYTES_MIN: usize = 4;
/// Minimum length of a part of a secret. Shorter parts of a longer secret are useless.
const PART_BYTES_MIN: usize = 8;

/// Shorter encoded forms also occur in other words by chance.
const ENCODED_BYTES_MIN: usize = 6;
/// Escapes may be nested.
const ESCAPED_TIMES_MAX: usize = 3;

/// The secrets of one request, the longest first: one may be a part of another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Vec<Secret>);

impl Secrets {
    /// The values of the sensitive headers.
    pub(crate) fn of(headers: &HeaderMap) -> Secrets {
        let mut secrets = Secrets::default();
        let values = headers.values().filter(|value| value.is_sensitive());
        values.for_each(|value| secrets.add_header(value));
        secrets
    }

    /// Adds the value of a header, with and without its scheme (the text before the first blank).
    pub(crate) fn add_header(&mut self, value: &HeaderValue) {
        let value = String::from_utf8_lossy(value.as_bytes());
        self.add(value.split_once(' ').map(|(_, rest)| Secret::new(rest)));
        self.add([Secret::new(value)]);
    }

    /// Adds secrets, and their parts between characters that JSON, HTML and URLs may escape.
    pub(crate) fn add(&mut self, secrets: impl IntoIterator<Item = Secret>) {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        for secret in secrets {
            let parts = secret.expose().split(|c| !is_plain(c));
            let parts = parts.filter(|part| part.len() >= PART_BYTES_MIN);
            self.0.extend(parts.map(Secret::new));
            self.0.push(secret);
        }
        self.0.retain(|secret| secret.expose().len() >= SECRET_BYTES_MIN);
        self.0.sort_by_key(|secret| Reverse(secret.expose().len()));
    }

    /// Replaces each secret by `***`, in whichever form it occurs.
    pub(crate) fn redact<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        if self.0.is_empty() || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let forms: Vec<SecretForm> = self.0.iter().flat_map(|secret| forms(secret.expose())).collect();
        let mut hidden = vec![false; text.len()];
        let mut decoded = DecodedText::of(text);
        for _ in 0..=ESCAPED_TIMES_MAX {
            decoded.mark_secrets(&forms, &mut hidden);
            match decoded.unescaped() {
                Some(next) => decoded = next,
                None => break,
            }
        }
        if !hidden.contains(&true) {
            return Cow::Borrowed(text);
        }
        let mut output = Vec::with_capacity(text.len());
        for (at, &byte) in text.iter().enumerate() {
            match hidden[at] {
                false => output.push(byte),
                true if at == 0 || !hidden[at - 1] => output.extend_from_slice(b"***"),
                true => {}
            }
        }
        Cow::Owned(output)
    }

    /// Same as [`Secrets::redact`] for a text.
    pub(crate) fn redacted(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redact(text.as_bytes())).into_owned()
    }
}

/// A form of a secret that is searched for.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SecretForm {
    /// Folded by [`fold`].
    text: Vec<u8>,
    /// How many characters before and after it contain a part of the secret too.
    margin: (usize, usize),
}

/// All forms of a secret.
fn forms(secret: &str) -> Vec<SecretForm> {
    let bytes = secret.as_bytes();
    let form = |text: &[u8], margin| SecretForm { text: fold(text), margin };
    let plain =
        [secret, &secret.to_lowercase(), &secret.to_uppercase()].map(|text| form(text.as_bytes(), (0, 0)));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Within a longer text, base64 encodes a secret in one of three alignments. The characters at its ends
    // depend on the neighbouring bytes.
    let base64 = (0..3).map(|before| {
        let text = BASE64.encode([&[0; 2][..before], bytes].concat());
        let (from, to) = (before * 8, (before + bytes.len()) * 8);
        let margin = (from % 6, to % 6);
        form(&text.as_bytes()[from.div_ceil(6)..to / 6], (margin.0.min(1), margin.1.min(1)))
    });
    let encoded = std::iter::once(form(hex.as_bytes(), (0, 0))).chain(base64);
    let mut forms: Vec<SecretForm> =
        plain.into_iter().chain(encoded.filter(|form| form.text.len() >= ENCODED_BYTES_MIN)).collect();
    forms.sort();
    forms.dedup();
    forms
}

/// Ignores case, and the difference between the two alphabets of base64.
fn fold(text: &[u8]) -> Vec<u8> {
    let fold = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other.to_ascii_lowercase(),
    };
    text.iter().map(fold).collect()
}

/// A decoded text with the position of each byte in the original.
struct DecodedText {
    bytes: Vec<u8>,
    /// The original offset of each byte, and of the end.
    starts: Vec<usize>,
}

impl DecodedText {
    fn of(text: &[u8]) -> DecodedText {
        DecodedText { bytes: text.to_vec(), starts: (0..=text.len()).collect() }
    }

    fn mark_secrets(&self, forms: &[SecretForm], hidden: &mut [bool]) {
        let folded = fold(&self.bytes);
        for SecretForm { text, margin } in forms {
            let finder = memmem::Finder::new(text);
            let mut from = 0;
            while let Some(at) = finder.find(&folded[from..]) {
                let at = from + at;
                let begin = at.saturating_sub(margin.0);
                let end = (at + text.len() + margin.1).min(folded.len());
                hidden[self.starts[begin]..self.starts[end]].fill(true);
                from = at + 1;
            }
        }
    }

    /// Decodes the escapes of URLs, JSON, C and HTML once. `None` if there are none.
    fn unescaped(&self) -> Option<DecodedText> {
        let mut next = DecodedText {
            bytes: Vec::with_capacity(self.bytes.len()),
            starts: Vec::with_capacity(self.starts.len()),
        };
        let (mut at, mut found) = (0, false);
        while at < self.bytes.len() {
            let (meaning, len) = match escape(&self.bytes[at..]) {
                Some((meaning, len)) => {
                    found = true;
                    (meaning, len)
                }
                None => (vec![self.bytes[at]], 1),
            };
            next.starts.extend(meaning.iter().map(|_| self.starts[at]));
            next.bytes.extend(meaning);
            at += len;
        }
        next.starts.push(self.starts[self.bytes.len()]);
        found.then_some(next)
    }
}

/// The meaning and the length of an escape at the beginning of a text.
fn escape(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let number = |digits: &[u8], radix| {
        let digits = std::str::from_utf8(digits).ok()?;
        let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(digits, radix).ok().filter(|_| is_plain)
    };
    let hex = |from: usize, len: usize| number(text.get(from..from + len)?, 16);
    let utf8 = |code| Some(char::from_u32(code)?.to_string().into_bytes());
    match text {
        [b'%', ..] => Some((vec![hex(1, 2)? as u8], 3)),
        [b'\\', b'x', ..] => Some((vec![hex(2, 2)? as u8], 4)),
        [b'\\', b'u', ..] => Some((utf8(hex(2, 4)?)?, 6)),
        [b'\\', byte @ (b'/' | b'"' | b'\'' | b'\\'), ..] => Some((vec![*byte], 2)),
        [b'&', rest @ ..] => {
            let len = rest.iter().take(10).position(|byte| *byte == b';')?;
            let meaning = match &rest[..len] {
                b"amp" => b"&".to_vec(),
                b"lt" => b"<".to_vec(),
                b"gt" => b">".to_vec(),
                b"quot" => b"\"".to_vec(),
                b"apos" => b"'".to_vec(),
                [b'#', b'x' | b'X', digits @ ..] => utf8(number(digits, 16)?)?,
                [b'#', digits @ ..] => utf8(number(digits, 10)?)?,
                _ => return None,
            };
            Some((meaning, len + 2))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_redacted_everywhere() {
        let mut headers = HeaderMap::new();
        for (name, value, is_sensitive) in [
            ("authorization", "Bearer t0ken", true),
            ("x-key", "one two", true),
            ("x-pin", "123", true),
            ("accept", "application/json", false),
        ] {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(is_sensitive);
            headers.insert(name, value);
        }
        let mut secrets = Secrets::of(&headers);
        secrets.add(["t0ke", "pass&word", "QWxhZGRpbjpvcGVu+c2VzYW1l/x="].map(Secret::new));
        let redacted = |text: &str| String::from_utf8(secrets.redact(text.as_bytes()).into_owned()).unwrap();
        for (text, expect) in [
            ("authorization: Bearer t0ken", "authorization: ***"),
            ("token=t0ken&t0ken", "token=***&***"),
            ("one two, two, one, t0ke", "***, two, one, ***"),
            ("pass&word", "***"),
            ("QWxhZGRpbjpvcGVu+c2VzYW1l/x=", "***"),
            (r"QWxhZGRpbjpvcGVu\u002bc2VzYW1l\/x=", "***"),
            ("accept: application/json; pin 123", "accept: application/json; pin 123"),
            ("", ""),
        ] {
            assert_eq!(redacted(text), expect);
        }
        assert!(matches!(secrets.redact(b"fine"), Cow::Borrowed(b"fine")));
        assert!(!format!("{secrets:?}").contains("t0ken"));
    }

    /// All forms of a secret are redacted within other text.
    #[test]
    fn f99_a_secret_is_taken_out_in_each_form() {
        for secret in ["CANARYtok77aQ", "p&ss/wörd+1", "0123456789abcdef", "ATATT3xFfGF0-_x="] {
            let mut secrets = Secrets::default();
            secrets.add([Secret::new(secret)]);
            let bytes = secret.as_bytes();
            let each = |of: fn(u8) -> String| bytes.iter().map(|byte| of(*byte)).collect::<String>();
            let mut forms = vec![
                secret.to_owned(),
                secret.to_lowercase(),
                secret.to_uppercase(),
                secret.replace('A', "a"),
                each(|byte| format!("{byte:02x}")),
                each(|byte| format!("{byte:02X}")),
                each(|byte| format!("%{byte:02x}")),
                each(|byte| format!("%25{byte:02X}")),
                each(|byte| format!("\\x{byte:02x}")),
                secret.chars().map(|c| format!("\\u{:04x}", c as u32)).collect(),
                secret.chars().map(|c| format!("&#{};", c as u32)).collect(),
                secret.chars().map(|c| format!("&#x{:X};", c as u32)).collect(),
                secret.replace('&', "&amp;"),
                secret.replace('/', "\\/"),
                url::form_urlencoded::byte_serialize(bytes).collect(),
                serde_json::to_string(secret).unwrap(),
                BASE64.encode(secret).to_lowercase(),
            ];
            for before in ["", "u", "us", "usr", "agent:"] {
                for after in ["", ":", ":x", "\r\n12"] {
                    let text = format!("{before}{secret}{after}");
                    forms.push(BASE64.encode(&text));
                    forms.push(base64::prelude::BASE64_URL_SAFE.encode(&text));
                    forms.push(BASE64.encode(&text).replace('+', "%2B").replace('/', "%2F"));
                }
            }
            for form in forms {
                let output = secrets.redacted(&format!("response: <{form}> here"));
                let left = output.strip_prefix("response: <").unwrap().strip_suffix("> here").unwrap();
                // The base64 characters that depend on neighbouring bytes remain.
                let rest: String = left.replace("***", "");
                assert!(left.contains("***") && rest.len() <= 16, "{form}: {output}");
            }
            let harmless = "status 400, response: { \"error\" : \"no such field\" } 100% & more; \\d &x; %zz";
            assert_eq!(secrets.redacted(harmless), harmless);
        }
    }
}
