//! What is watched alongside the log: the agent's own searches in it, the expiry of the token, and how closely
//! Confluence audits.

use super::self_activity::{SelfActivity, SharedSelfActivity};
use crate::config::{ApiConfig, Auth, Product};
use crate::notice::Notice;
use crate::position::Coverage;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Default)]
pub(super) struct Watch {
    pub self_activity: SharedSelfActivity,
    /// A search of this time is to be asked for, to see who made it.
    pub author_wanted: Option<i64>,
    pub next_expiry: Option<Instant>,
    pub next_coverage: Option<Instant>,
    /// As it was last seen.
    pub coverage: Option<Coverage>,
    pub coverage_changed: bool,
    /// What was found and is not delivered yet.
    pub notices: Vec<Notice>,
}

impl Watch {
    pub(super) fn new(config: &ApiConfig) -> Watch {
        Watch {
            self_activity: Arc::new(Mutex::new(SelfActivity::new(configured_user(config), None))),
            ..Watch::default()
        }
    }

    pub(super) fn self_activity(&self) -> MutexGuard<'_, SelfActivity> {
        self.self_activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The user whose password or token is used, where the configuration names one.
pub(super) fn configured_user(config: &ApiConfig) -> Option<String> {
    match &config.http.auth {
        Auth::Basic { user, .. } if matches!(config.product, Product::DataCenter) => Some(user.clone()),
        _ => None,
    }
}
