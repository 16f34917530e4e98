//! The user object of OCSF.

use std::borrow::Cow;

use super::super::buffer::EventBuffer;
use super::super::escape::EscapedText;
use super::super::users::Person;

/// Value of a required attribute that the record does not contain.
pub(super) const UNKNOWN: EscapedText<'static> = Cow::Borrowed("Unknown");

/// `type_id` of a user, and its caption.
pub(super) type UserType = (u64, &'static str);

pub(super) const USER: UserType = (1, "User");
pub(super) const ADMIN: UserType = (2, "Admin");
pub(super) const SYSTEM: UserType = (3, "System");
pub(super) const UNKNOWN_USER: UserType = (0, "Unknown");

/// Writes a user, with a name if one is known.
pub(super) fn write(person: &Person, (type_id, kind): UserType, out: &mut EventBuffer) {
    out.put("{\"type\":\"");
    out.put(kind);
    out.put("\",\"type_id\":");
    out.put_number(type_id);
    if let Some(email) = person.email.as_ref().filter(|email| is_email(email)) {
        out.put(",\"email_addr\":");
        string(email, out);
    }
    if let Some(full_name) = &person.full_name {
        out.put(",\"full_name\":");
        string(full_name, out);
    }
    let unnamed = person.id.is_none().then_some(&UNKNOWN);
    let name = person.name.as_ref().or(person.full_name.as_ref()).or(unnamed);
    if let Some(name) = name {
        out.put(",\"name\":");
        string(name, out);
    }
    if let Some(id) = &person.id {
        out.put(",\"uid\":");
        string(id, out);
    }
    out.put("}");
}

/// Whether the schema accepts the text as an e-mail address. Other texts are only in `unmapped`.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let Some((host, rest)) = domain.split_once('.') else {
        return false;
    };
    !local.is_empty()
        && local.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+,-./=?^_`{|}~".contains(&byte))
        && !host.is_empty()
        && host.bytes().all(plain)
        && !rest.is_empty()
        && rest.bytes().all(|byte| plain(byte) || byte == b'.')
}

pub(super) fn string(value: &str, out: &mut EventBuffer) {
    out.put("\"");
    out.put_long(value);
    out.put("\"");
}
