//! Events that the agent itself generates. They report to the security team what otherwise only the agent's log would
//! show.

use crate::record::EventId;
use serde_json::{Map, Value};
use std::borrow::Cow;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub id: EventId,
    pub at_ms: i64,
    /// `event.action`.
    pub action: &'static str,
    pub message: String,
    /// `event.original`: the text that the event is about, if there is one.
    pub original: Option<String>,
    /// Named values. `original` holds them too, as a JSON object. Empty in most events.
    pub fields: Fields,
}

/// Named values of an event, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(&'static str, FieldValue)>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    Number(i64),
    Text(String),
}

impl Fields {
    pub fn number(&mut self, name: &'static str, number: impl TryInto<i64>) {
        self.0.push((name, FieldValue::Number(number.try_into().unwrap_or(i64::MAX))));
    }

    pub fn text(&mut self, name: &'static str, text: impl Into<String>) {
        self.0.push((name, FieldValue::Text(text.into())));
    }

    /// A JSON object on one line.
    pub fn json(&self) -> String {
        let members = self.0.iter().map(|(name, value)| {
            let json = match value {
                FieldValue::Number(number) => Value::from(*number),
                FieldValue::Text(text) => Value::from(text.as_str()),
            };
            ((*name).to_owned(), json)
        });
        Value::Object(members.collect::<Map<String, Value>>()).to_string()
    }
}

/// The agent has started, and reads this source.
pub const STARTED: &str = "agent.started";

/// The agent reads no more of this source, because it stops.
pub const STOPPED: &str = "agent.stopped";

/// The agent runs. Comes at intervals, so that a server notices an agent that does not run.
pub const HEARTBEAT: &str = "agent.heartbeat";

/// A token will expire soon, or has expired.
pub const TOKEN_EXPIRING: &str = "agent.token.expiring";

/// The source switched from the files to the API, or back.
pub const SOURCE_SWITCHED: &str = "agent.source.switched";

/// How the message of a switch back to the files begins.
pub(crate) const SWITCHED_BACK: &str = "the audit files are healthy again";

/// An audit file was truncated or rewritten after it was read.
pub const FILE_TAMPERED: &str = "agent.file.tampered";

/// The audit coverage level of an area was lowered.
pub const COVERAGE_LOWERED: &str = "agent.coverage.lowered";

/// Actions were added to the list of those that are not recorded, or removed from it.
pub const DENYLIST_CHANGED: &str = "agent.denylist.changed";

/// How long Confluence keeps events was changed.
pub const RETENTION_CHANGED: &str = "agent.retention.changed";

/// The ledger of delivered events has lost entries.
pub const LEDGER_DAMAGED: &str = "agent.ledger.damaged";

/// The ledger goes on as a new log: it did not continue what was signed, or the stored position was forgotten.
pub const LEDGER_RESTARTED: &str = "agent.ledger.restarted";

/// A signed checkpoint of the ledger; it is in `event.original`.
pub const LEDGER_SEALED: &str = "agent.ledger.sealed";

/// Bytes of audit files were never delivered.
pub const GAP: &str = "agent.source.gap";

impl Notice {
    /// `occasion` distinguishes notices of the same action and source. The same occasion has the same id each time.
    pub fn new(action: &'static str, source: &str, occasion: &str, at_ms: i64, message: String) -> Notice {
        // No record has a canonical form that is a JSON list of strings, so the ids cannot collide.
        let canonical = serde_json::json!(["notice", action, source, occasion]).to_string();
        Notice {
            id: EventId::of(canonical.as_bytes()),
            at_ms,
            action,
            message,
            original: None,
            fields: Fields::default(),
        }
    }

    pub fn with_original(self, original: String) -> Notice {
        Notice { original: Some(original), ..self }
    }

    pub fn with_fields(self, fields: Fields) -> Notice {
        Notice { original: Some(fields.json()), fields, ..self }
    }

    /// Whether it is of those that only sinks with `heartbeat = true` get.
    pub fn is_lifecycle(&self) -> bool {
        [STARTED, STOPPED, HEARTBEAT].contains(&self.action)
    }

    /// What the ledger has the digest of.
    pub fn evidence(&self) -> &str {
        self.original.as_ref().unwrap_or(&self.message)
    }

    /// Message and original, for a format that has one field for both.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.original {
            Some(original) => Cow::Owned(format!("{}\n{original}", self.message)),
            None => Cow::Borrowed(&self.message),
        }
    }
}
