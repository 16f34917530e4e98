//! Accounts and their secrets.

use std::fmt;

use super::server::Request;

/// The secrets of the accounts that every simulator has.
pub const ADMIN_TOKEN: &str = "sim-admin-token";
pub const ADMIN_PASSWORD: &str = "sim-admin-password";
/// Authenticated, but without permission to read the audit log.
pub const USER_TOKEN: &str = "sim-user-token";
/// Cloud only: valid at `/ex/confluence/{cloudId}` only.
pub const SCOPED_TOKEN: &str = "sim-scoped-token";
/// Like [`SCOPED_TOKEN`], without `read:audit-log:confluence`.
pub const WRONG_SCOPE_TOKEN: &str = "sim-wrong-scope-token";
/// The login of the administrator. In Cloud it is [`ADMIN_EMAIL`].
pub const ADMIN: &str = "auditor";
pub const ADMIN_EMAIL: &str = "auditor@acme.example";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Personal access token (Data Center) or classic API token (Cloud).
    Token,
    Password,
    /// Cloud's tokens with scopes; whether `read:audit-log:confluence` is among them.
    Scoped {
        reads_audit_log: bool,
    },
}

/// A secret that authenticates a caller.
#[derive(Clone)]
pub struct Credential {
    pub kind: Kind,
    pub login: String,
    pub admin: bool,
    pub secret: String,
    /// The entry in the list of tokens.
    pub name: String,
    pub created_ms: i64,
    /// When the secret expires.
    pub expires_ms: Option<i64>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?} `{}` of {})", self.kind, self.name, self.login)
    }
}

impl Credential {
    pub fn new(kind: Kind, login: &str, secret: &str) -> Credential {
        Credential {
            kind,
            login: login.into(),
            admin: true,
            secret: secret.into(),
            name: "audit".into(),
            created_ms: 1_767_225_600_000,
            expires_ms: None,
        }
    }
}

pub fn defaults(cloud: bool) -> Vec<Credential> {
    let admin = if cloud { ADMIN_EMAIL } else { ADMIN };
    let other = if cloud { "reader@acme.example" } else { "reader" };
    let user = Credential { admin: false, ..Credential::new(Kind::Token, other, USER_TOKEN) };
    let mut all = vec![Credential::new(Kind::Token, admin, ADMIN_TOKEN), user];
    if cloud {
        for (secret, reads_audit_log) in [(SCOPED_TOKEN, true), (WRONG_SCOPE_TOKEN, false)] {
            all.push(Credential::new(Kind::Scoped { reads_audit_log }, admin, secret));
        }
    } else {
        all.push(Credential::new(Kind::Password, admin, ADMIN_PASSWORD));
    }
    all
}

/// The `Authorization` of a request. It is compared, never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Presented {
    Nothing,
    Bearer(Hidden),
    Basic {
        user: String,
        secret: Hidden,
    },
    /// Another scheme, or an invalid value.
    Other,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Presented::Nothing => "Nothing",
            Presented::Bearer(_) => "Bearer",
            Presented::Basic { .. } => "Basic",
            Presented::Other => "Other",
        })
    }
}

impl Presented {
    pub fn is_bearer(&self, secret: &str) -> bool {
        matches!(self, Presented::Bearer(found) if found.0 == secret)
    }

    pub fn is_basic(&self, user: &str, secret: &str) -> bool {
        matches!(self, Presented::Basic { user: u, secret: s } if u == user && s.0 == secret)
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

pub fn presented(header: Option<&str>) -> Presented {
    let Some((scheme, value)) = header.map(|h| h.split_once(' ').unwrap_or((h, ""))) else {
        return Presented::Nothing;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return Presented::Bearer(Hidden(value.trim().into()));
    }
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| base64(value.trim())).flatten();
    match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((user, secret)) => Presented::Basic { user: user.into(), secret: Hidden(secret.into()) },
        None => Presented::Other,
    }
}

/// The account of a request. `scoped` selects scoped tokens; otherwise only the others are valid.
pub fn caller<'a>(
    all: &'a [Credential],
    request: &Request,
    scoped: bool,
    now_ms: i64,
) -> Option<&'a Credential> {
    let found = |login: Option<&str>, secret: &Hidden| {
        all.iter().find(|c| {
            c.secret == secret.0
                && login.is_none_or(|login| login == c.login)
                && matches!(c.kind, Kind::Scoped { .. }) == scoped
                && (login.is_some() || c.kind != Kind::Password)
                && c.expires_ms.is_none_or(|end| now_ms < end)
        })
    };
    match &request.authorization {
        Presented::Bearer(secret) => found(None, secret),
        Presented::Basic { user, secret } => found(Some(user), secret),
        Presented::Nothing | Presented::Other => None,
    }
}

fn base64(text: &str) -> Option<String> {
    let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    String::from_utf8(out).ok()
}
