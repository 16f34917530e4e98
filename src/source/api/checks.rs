//! The state of the checks besides polling: the agent's own searches, the expiry of the token, and the audit settings.

use super::self_activity::{SelfActivity, SharedSelfActivity};
use crate::config::{ApiConfig, Auth, Product};
use crate::notice::Notice;
use crate::position::AuditSettings;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Default)]
pub(super) struct Checks {
    pub self_activity: SharedSelfActivity,
    /// The time of a search whose author is to be looked up, in milliseconds since 1970.
    pub author_requested_ms: Option<i64>,
    pub next_expiry: Option<Instant>,
    pub next_audit_settings: Option<Instant>,
    /// As last read.
    pub audit_settings: Option<AuditSettings>,
    pub audit_settings_changed: bool,
    /// Events about the agent itself that are not delivered yet.
    pub notices: Vec<Notice>,
}

impl Checks {
    pub(super) fn new(config: &ApiConfig) -> Checks {
        Checks {
            self_activity: Arc::new(Mutex::new(SelfActivity::new(configured_user(config), None))),
            ..Checks::default()
        }
    }

    pub(super) fn self_activity(&self) -> MutexGuard<'_, SelfActivity> {
        self.self_activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The user in the configuration, if there is one.
pub(super) fn configured_user(config: &ApiConfig) -> Option<String> {
    match &config.http.auth {
        Auth::Basic { user, .. } if matches!(config.product, Product::DataCenter) => Some(user.clone()),
        _ => None,
    }
}
