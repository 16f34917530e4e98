//! Checks the expiry of the token regularly, and warns in advance.

use super::server_clock::Now;
use super::state::Api;
use super::token::{self, Expiry};
use crate::notice::{Notice, TOKEN_EXPIRING};
use std::time::Duration;

/// Often enough, because warnings are per day.
const CHECK_INTERVAL: Duration = Duration::from_secs(6 * 3600);

impl Api {
    pub(super) fn expiry_due(&self, now: Now) -> bool {
        self.faults.outage.is_none() && self.checks.next_expiry.is_none_or(|at| now.monotonic >= at)
    }

    pub(super) async fn check_expiry(&mut self, now: Now) {
        self.checks.next_expiry = Some(now.monotonic + CHECK_INTERVAL);
        let Some(expires_ms) = self.expires_ms(now).await else {
            return;
        };
        self.metrics.set_credential_expiry(expires_ms);
        let Some(cursor) = &mut self.cursor.windows.cursor else {
            return;
        };
        let warned = cursor.warned.filter(|(warned_of, _)| *warned_of == expires_ms);
        let present_ms = self.clock.present_ms(now);
        let Some(warning) = token::due(expires_ms, present_ms, warned.map(|(_, days)| days)) else {
            return;
        };
        cursor.warned = Some((expires_ms, warning.days));
        tracing::warn!(source = self.source, "{}", warning.message());
        self.checks.notices.push(Notice::new(
            TOKEN_EXPIRING,
            &self.source,
            &format!("{expires_ms} {}", warning.days),
            now.ms,
            warning.message(),
        ));
    }

    /// From the configuration (`token_expires`), or from Data Center's list of tokens.
    async fn expires_ms(&mut self, now: Now) -> Option<i64> {
        if let Some(expires_ms) = self.config.token.expires_ms {
            return Some(expires_ms);
        }
        if !token::is_listed(&self.config) {
            return None;
        }
        self.total.requests += 1;
        let name = self.config.token.name.as_deref();
        match token::fetch(&mut self.client, &self.config.http.base, name, now.ms).await {
            Ok(Expiry::At { expires_ms, .. }) => Some(expires_ms),
            Ok(Expiry::Never) => {
                self.metrics.clear_credential_expiry();
                None
            }
            Ok(Expiry::NoSuchToken { names }) => {
                self.metrics.clear_credential_expiry();
                tracing::warn!(
                    source = self.source,
                    token_name = name,
                    names = names.join(", "),
                    "the agent's user has no token of this name, so its expiry is not known; correct `token_name`"
                );
                None
            }
            Err(class) => {
                tracing::debug!(
                    source = self.source,
                    reason = class.message(),
                    "the expiry of the token cannot be read"
                );
                None
            }
        }
    }
}
