//! Looks at the expiry of the token now and then, and warns in time.

use super::server_clock::Now;
use super::state::Api;
use super::token::{self, Expiry};
use crate::notice::{Notice, TOKEN_EXPIRING};
use std::time::Duration;

/// Warnings count days.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(6 * 3600);

impl Api {
    pub(super) fn expiry_due(&self, now: Now) -> bool {
        self.faults.trouble.is_none() && self.watch.next_expiry.is_none_or(|at| now.monotonic >= at)
    }

    pub(super) async fn look_at_expiry(&mut self, now: Now) {
        self.watch.next_expiry = Some(now.monotonic + LOOKED_AT_EVERY);
        let Some(expires_ms) = self.expires_ms(now).await else {
            return;
        };
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
        self.watch.notices.push(Notice::new(
            TOKEN_EXPIRING,
            &self.source,
            &format!("{expires_ms} {}", warning.days),
            now.ms,
            warning.message(),
        ));
    }

    /// As the operator recorded it, or as Data Center tells.
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
            Ok(Expiry::Never) => None,
            Ok(Expiry::NoSuchToken { names }) => {
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
                    "the expiry of the token is not told"
                );
                None
            }
        }
    }
}
