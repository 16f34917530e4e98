//! Confidential texts: tokens, passwords, keys.

use std::fmt;

/// A text that cannot be printed, logged or serialised by accident. These examples do not compile:
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
/// This one differs only in `expose` and compiles:
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

    /// The text, to be sent to a server and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}
