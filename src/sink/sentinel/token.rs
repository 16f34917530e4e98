//! Caches tokens of Entra ID and renews them before they expire.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::login::{ClientCredential, Login};
use super::managed::ManagedIdentity;
use crate::config::{AzureIdentity, SentinelConfig};
use crate::http::Response;
use crate::secret::Secret;
use crate::sink::outcome::Outcome;

/// The part of a token's lifetime after which it is renewed. The rest leaves time for retries.
const RENEW_AT: f64 = 0.8;
/// Delay before a failed renewal is retried.
const RENEWAL_RETRY: Duration = Duration::from_secs(60);

/// The tokens of one sink.
pub(crate) struct Tokens {
    issuer: Issuer,
    cached: Mutex<Option<CachedToken>>,
}

struct CachedToken {
    token: Secret,
    renew_at: Instant,
    expires_at: Instant,
    /// Failed renewals in a row.
    renewal_failures: u32,
}

impl CachedToken {
    fn new(token: Secret, lifetime: Duration, now: Instant) -> CachedToken {
        CachedToken {
            token,
            renew_at: now + lifetime.mul_f64(RENEW_AT),
            expires_at: now + lifetime,
            renewal_failures: 0,
        }
    }

    /// Delays the next renewal. Returns whether the failure is a warning: the second one in a row is.
    fn on_renewal_failure(&mut self, now: Instant) -> bool {
        self.renewal_failures += 1;
        self.renew_at = now + RENEWAL_RETRY;
        self.renewal_failures == 2
    }
}

enum Issuer {
    Login(Box<Login>),
    ManagedIdentity(Box<ManagedIdentity>),
    /// The host does not match the configuration. Contains the reason.
    Unavailable(String),
}

impl Tokens {
    pub(crate) fn new(config: &SentinelConfig) -> Tokens {
        let login = |tenant: &str, client: &str, secret| {
            Issuer::Login(Box::new(Login::new(config, tenant, client, secret)))
        };
        let issuer = match &config.identity {
            AzureIdentity::Secret { tenant, client, secret } => {
                login(tenant, client, ClientCredential::secret(secret))
            }
            AzureIdentity::Certificate { tenant, client, certificate, key } => {
                login(tenant, client, ClientCredential::certificate(certificate, key))
            }
            AzureIdentity::Managed { client } => {
                match ManagedIdentity::detect(client.as_deref(), &config.scope) {
                    Ok(managed) => Issuer::ManagedIdentity(Box::new(managed)),
                    Err(reason) => Issuer::Unavailable(reason),
                }
            }
        };
        Tokens { issuer, cached: Mutex::new(None) }
    }

    /// A valid token.
    pub(crate) async fn get(&self) -> Result<Secret, Outcome> {
        // Concurrent requests wait here; the first one renews the token for all.
        let mut cached = self.cached.lock().await;
        if let Some(valid) = cached.as_ref().filter(|cached| Instant::now() < cached.renew_at)
            && !self.changed()
        {
            return Ok(valid.token.clone());
        }
        match self.request_token().await {
            Ok((token, lifetime)) => {
                let renewed = CachedToken::new(token.clone(), lifetime, Instant::now());
                if cached.replace(renewed).is_some_and(|old| old.renewal_failures > 1) {
                    tracing::info!("the token for Azure was renewed");
                }
                Ok(token)
            }
            Err(outcome) => match cached.as_mut().filter(|cached| Instant::now() < cached.expires_at) {
                Some(valid) => {
                    let reason = outcome.reason();
                    match valid.on_renewal_failure(Instant::now()) {
                        true => tracing::warn!(
                            reason,
                            "renewing the token for Azure keeps failing; the old one is used until it expires"
                        ),
                        false => tracing::debug!(reason, "renewing the token for Azure failed; retrying"),
                    }
                    Ok(valid.token.clone())
                }
                None => Err(outcome),
            },
        }
    }

    /// Removes a refused token, unless it was replaced already.
    pub(crate) async fn invalidate(&self, token: &Secret) {
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_some_and(|cached| cached.token == *token) {
            *cached = None;
        }
    }

    /// The client secret in use.
    pub(crate) fn secret(&self) -> Option<Secret> {
        match &self.issuer {
            Issuer::Login(login) => login.credential.last_secret(),
            Issuer::ManagedIdentity(_) | Issuer::Unavailable(_) => None,
        }
    }

    /// Whether the credential has changed since the last token request.
    pub(crate) fn changed(&self) -> bool {
        match &self.issuer {
            Issuer::Login(login) => login.credential.changed(),
            Issuer::ManagedIdentity(_) | Issuer::Unavailable(_) => false,
        }
    }

    async fn request_token(&self) -> Result<(Secret, Duration), Outcome> {
        let response = match &self.issuer {
            Issuer::Login(login) => login.request_token().await?,
            Issuer::ManagedIdentity(managed) => managed.request_token().await?,
            Issuer::Unavailable(reason) => {
                return Err(Outcome::Misconfigured { reason: reason.clone() });
            }
        };
        parse_token(&response)
            .ok_or_else(|| Outcome::retry("the response of the token endpoint contains no token"))
    }
}

/// The token in a response and its lifetime. Entra ID sends the lifetime as a number, the metadata service as
/// a string.
fn parse_token(response: &Response) -> Option<(Secret, Duration)> {
    let body: Value = serde_json::from_slice(&response.body).ok()?;
    let token = body["access_token"].as_str().filter(|token| !token.is_empty())?;
    let seconds = match &body["expires_in"] {
        Value::String(text) => text.parse().ok()?,
        other => other.as_u64()?,
    };
    // Tokens last a day at most.
    Some((Secret::new(token), Duration::from_secs(seconds.min(86_400))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_after_four_fifths_of_its_lifetime() {
        let now = Instant::now();
        let cached = CachedToken::new(Secret::new("t"), Duration::from_secs(3600), now);
        assert_eq!(
            (cached.renew_at - now, cached.expires_at - now),
            (Duration::from_secs(2880), Duration::from_secs(3600))
        );
    }

    #[test]
    fn the_second_failed_renewal_in_a_row_is_a_warning() {
        let now = Instant::now();
        let mut cached = CachedToken::new(Secret::new("t"), Duration::from_secs(3600), now);
        let warnings: Vec<bool> = (0..4).map(|_| cached.on_renewal_failure(now)).collect();
        assert_eq!(warnings, [false, true, false, false]);
        assert_eq!(cached.renew_at, now + RENEWAL_RETRY);
    }

    #[test]
    fn a_lifetime_is_a_number_or_a_string() {
        let lifetime = |body: &str| {
            let response = Response { body: body.into(), ..Response::default() };
            parse_token(&response).map(|(_, lifetime)| lifetime.as_secs())
        };
        let table = [
            (r#"{"access_token":"t","expires_in":3599}"#, Some(3599)),
            (r#"{"access_token":"t","expires_in":"86399"}"#, Some(86_399)),
            (r#"{"access_token":"t","expires_in":99999999999}"#, Some(86_400)),
            (r#"{"access_token":"t","expires_in":-1}"#, None),
            (r#"{"access_token":"t"}"#, None),
            (r#"{"access_token":"","expires_in":3599}"#, None),
            (r#"{"expires_in":3599}"#, None),
            ("<html>", None),
        ];
        for (body, expect) in table {
            assert_eq!(lifetime(body), expect, "{body}");
        }
    }
}
