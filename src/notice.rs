//! Events that the agent has to tell itself, for the stream: what the security team must see even if nobody reads its log.

use crate::record::EventId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub id: EventId,
    pub at_ms: i64,
    /// `event.action`.
    pub action: &'static str,
    pub message: String,
}

/// A token will expire soon, or has expired.
pub const TOKEN_EXPIRING: &str = "agent.token.expiring";

/// Another way in: from the files to the API, or back.
pub const SOURCE_SWITCHED: &str = "agent.source.switched";

/// An audit file was truncated or rewritten where it had been read already.
pub const FILE_TAMPERED: &str = "agent.file.tampered";

/// Confluence audits an area less closely than before.
pub const COVERAGE_LOWERED: &str = "agent.coverage.lowered";

/// Bytes of audit files that were never delivered.
pub const GAP: &str = "agent.source.gap";

impl Notice {
    /// `occasion` tells this notice from others of the same action and source: told twice, it has the same id.
    pub fn new(action: &'static str, source: &str, occasion: &str, at_ms: i64, message: String) -> Notice {
        // No record's canonical form is a JSON list of texts.
        let told = serde_json::json!(["notice", action, source, occasion]).to_string();
        Notice {
            id: EventId::of(told.as_bytes()),
            at_ms,
            action,
            message,
        }
    }
}
