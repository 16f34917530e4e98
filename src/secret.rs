//! A text that nobody may see: tokens, passwords, keys.

use std::fmt;

/// Has no textual form: it can be used, and not printed, logged or serialised. These do not compile:
///
/// ```compile_fail,E0277
/// let secret = confluence_audit_agent::secret::Secret::new("x");
/// println!("{}", secret);
/// ```
///
/// ```compile_fail,E0277
/// let secret = confluence_audit_agent::secret::Secret::new("x");
/// serde_json::to_string(&secret);
/// ```
///
/// ```compile_fail,E0599
/// let secret = confluence_audit_agent::secret::Secret::new("x");
/// secret.to_string();
/// ```
///
/// and this, which differs from them in that alone, does:
///
/// ```
/// let secret = confluence_audit_agent::secret::Secret::new("x");
/// println!("{}", secret.expose());
/// assert_eq!(serde_json::to_string(secret.expose()).unwrap(), "\"x\"");
/// assert_eq!(secret.expose().to_string(), "x");
/// assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(…) Secret(…)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the wire and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}
