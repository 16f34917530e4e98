//! The user object.

use std::borrow::Cow;

use super::super::out::Out;
use super::super::users::{Person, Value};

/// What a required attribute says when the record does not.
pub const UNKNOWN: Value<'static> = Cow::Borrowed("Unknown");

/// `type_id` of a user, and its caption.
pub type Kind = (u64, &'static str);

pub const USER: Kind = (1, "User");
pub const ADMIN: Kind = (2, "Admin");
pub const SYSTEM: Kind = (3, "System");
pub const NOBODY: Kind = (0, "Unknown");

/// A user, by name where one is known.
pub fn write(person: &Person, (type_id, kind): Kind, out: &mut Out) {
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

/// Whether the schema takes it for an address; others stand in `unmapped` only.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let Some((host, rest)) = domain.split_once('.') else {
        return false;
    };
    !local.is_empty()
        && local
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+,-./=?^_`{|}~".contains(&byte))
        && !host.is_empty()
        && host.bytes().all(plain)
        && !rest.is_empty()
        && rest.bytes().all(|byte| plain(byte) || byte == b'.')
}

pub fn string(value: &str, out: &mut Out) {
    out.put("\"");
    out.put_long(value);
    out.put("\"");
}
