//! What a request carries that nobody may see is taken out of what is told of its answer: error pages repeat requests.

use std::borrow::Cow;
use std::cmp::Reverse;

use memchr::memmem;
use reqwest::header::{HeaderMap, HeaderValue};

use crate::secret::Secret;

/// Too short to be a secret, or to be told from other words.
const SECRET_BYTES_MIN: usize = 4;
/// The same of a part of a secret. What is shorter than this of a longer one helps nobody.
const PART_BYTES_MIN: usize = 8;

/// The secrets of one request, the longest first: one may be a part of another.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Of the headers that are marked as sensitive.
    pub fn of(headers: &HeaderMap) -> Secrets {
        let mut secrets = Secrets::default();
        let values = headers.values().filter(|value| value.is_sensitive());
        values.for_each(|value| secrets.add_header(value));
        secrets
    }

    /// A header's value, with and without what stands before its first blank: a scheme.
    pub fn add_header(&mut self, value: &HeaderValue) {
        let value = String::from_utf8_lossy(value.as_bytes());
        self.add(value.split_once(' ').map(|(_, rest)| Secret::new(rest)));
        self.add([Secret::new(value)]);
    }

    /// Whole, and its parts between characters that JSON, HTML and URLs may write in another way.
    pub fn add(&mut self, secrets: impl IntoIterator<Item = Secret>) {
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

    /// `***` in place of each secret.
    pub fn conceal<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.0 {
            let secret = secret.expose().as_bytes();
            let mut places = memmem::find_iter(&text, secret).peekable();
            if places.peek().is_none() {
                continue;
            }
            let (mut told, mut from) = (Vec::with_capacity(text.len()), 0);
            for at in places {
                told.extend_from_slice(&text[from..at]);
                told.extend_from_slice(b"***");
                from = at + secret.len();
            }
            told.extend_from_slice(&text[from..]);
            text = Cow::Owned(told);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_is_taken_out_wherever_it_stands() {
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
        let told = |text: &str| String::from_utf8(secrets.conceal(text.as_bytes()).into_owned()).unwrap();
        for (text, expect) in [
            ("authorization: Bearer t0ken", "authorization: ***"),
            ("token=t0ken&t0ken", "token=***&***"),
            ("one two, two, one, t0ke", "***, two, one, ***"),
            ("pass&word", "***"),
            ("QWxhZGRpbjpvcGVu+c2VzYW1l/x=", "***"),
            (r"QWxhZGRpbjpvcGVu\u002bc2VzYW1l\/x=", r"***\u002b***\/x="),
            (
                "accept: application/json; pin 123",
                "accept: application/json; pin 123",
            ),
            ("", ""),
        ] {
            assert_eq!(told(text), expect);
        }
        assert!(matches!(secrets.conceal(b"fine"), Cow::Borrowed(b"fine")));
        assert!(!format!("{secrets:?}").contains("t0ken"));
    }
}
