//! Login names. In records they are only in URIs.

use std::borrow::Cow;

use super::escape::{EscapedText, escaped};
use crate::record::token::{decoded, has_escape};
use crate::record::{Text, Token};

/// The parameter `username` at the end of a URI, percent-decoded and escaped for JSON.
pub(super) fn login(uri: Token) -> Option<EscapedText> {
    login_of(uri.text()?)
}

pub(super) fn login_of(uri: Text) -> Option<EscapedText> {
    let uri = uri.escaped();
    if has_escape(uri) {
        let uri = decoded(uri);
        return login_parameter(&uri).map(|login| escaped(&percent_decoded(login)));
    }
    let login = login_parameter(uri)?;
    match percent_decoded(login) {
        Cow::Borrowed(login) => Some(Cow::Borrowed(login)),
        Cow::Owned(login) => Some(escaped(&login)),
    }
}

/// A site's base URL may have a query of its own, and a login may contain `?`.
fn login_parameter(uri: &str) -> Option<&str> {
    let (_, query) = uri.split_once('?')?;
    let last = query.rsplit('&').next()?;
    let login = match last.rsplit_once("?username=") {
        Some((_, login)) => login,
        None => last.strip_prefix("username=")?,
    };
    Some(login).filter(|login| !login.is_empty())
}

/// An invalid `%xx`, or one that is not UTF-8, is kept. `+` is kept too.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut run = Vec::new();
        while let Some(byte) = percent_byte(&rest[3 * run.len()..]) {
            run.push(byte);
        }
        if run.is_empty() {
            result.push('%');
            rest = &rest[1..];
            continue;
        }
        let mut taken = 0;
        for chunk in run.utf8_chunks() {
            result.push_str(chunk.valid());
            taken += chunk.valid().len();
            let invalid = chunk.invalid().len();
            result.push_str(&rest[3 * taken..3 * (taken + invalid)]);
            taken += invalid;
        }
        rest = &rest[3 * run.len()..];
    }
    result.push_str(rest);
    Cow::Owned(result)
}

fn percent_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('%')?.get(..2)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins() {
        for (uri, expected) in [
            ("http://w/admin/users/viewuser.action?username=admin", Some("admin")),
            ("http://w/x?a=b&username=j.d%40example.com", Some("j.d@example.com")),
            ("http://w/x?username=a+b-c_d", Some("a+b-c_d")),
            ("http://w/x?username=J%C3%BCrgen", Some("Jürgen")),
            ("http://w/x?username=100%", Some("100%")),
            ("http://w/x?username=%zz%4", Some("%zz%4")),
            ("http://w/x?username=%ff%41%C3", Some("%ffA%C3")),
            ("http://w/x?username=%22quoted%22", Some("\\\"quoted\\\"")),
            ("http://w/w?x=1/admin/viewuser.action?username=rita", Some("rita")),
            ("http://w/w?x=1&y=2/viewuser.action?username=rita", Some("rita")),
            ("http://w/w?x=1?y=2?username=rita%3F", Some("rita?")),
            ("http://w/w?x=1/viewuser.action?a=b&username=rita", Some("rita")),
            ("http://w/x?username=who?", Some("who?")),
            ("http://w/w?username=old/viewuser.action?username=rita", Some("rita")),
            ("http://w/w?x=1/viewuser.action?username=rita&a=b", None),
            ("http://w/w?x=1/viewuser.action?username=", None),
            ("http://w/w?x=1/viewuser.action?xusername=rita", None),
            ("http://w/x?username=a\\u0026", None),
            ("http://w/x?username=admin&x=y", None),
            ("http://w/x?surname=admin", None),
            ("http://w/x?xusername=admin", None),
            ("http://w/x?username=", None),
            ("http://w/username=admin", None),
        ] {
            let raw = format!("\"{uri}\"");
            assert_eq!(login(Token::new(&raw)).as_deref(), expected, "{uri}");
        }
    }
}
