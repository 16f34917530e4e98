//! Tokens of Entra ID: kept while they are good, and asked for again before they end.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::login::{Login, Proof};
use super::managed::Managed;
use crate::config::{AzureIdentity, SentinelConfig};
use crate::http::Answer;
use crate::secret::Secret;
use crate::sink::answer::Outcome;

/// A token is renewed when so much of its life is over: there is time then to try again.
const RENEW_AT: f64 = 0.8;
/// How long a token that cannot be renewed is used before that is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// The tokens of one sink.
pub struct Tokens {
    issuer: Issuer,
    held: Mutex<Option<Held>>,
}

struct Held {
    token: Secret,
    renew: Instant,
    end: Instant,
}

impl Held {
    fn new(token: Secret, life: Duration, now: Instant) -> Held {
        Held {
            token,
            renew: now + life.mul_f64(RENEW_AT),
            end: now + life,
        }
    }
}

enum Issuer {
    Login(Box<Login>),
    Managed(Box<Managed>),
    /// The host has something that does not fit the configuration.
    Nobody(String),
}

impl Tokens {
    pub fn new(config: &SentinelConfig) -> Tokens {
        let login = |tenant: &str, client: &str, proof| {
            Issuer::Login(Box::new(Login::new(config, tenant, client, proof)))
        };
        let issuer = match &config.identity {
            AzureIdentity::Secret {
                tenant,
                client,
                secret,
            } => login(tenant, client, Proof::secret(secret)),
            AzureIdentity::Certificate {
                tenant,
                client,
                certificate,
                key,
            } => login(tenant, client, Proof::certificate(certificate, key)),
            AzureIdentity::Managed { client } => match Managed::here(client.as_deref(), &config.scope) {
                Ok(managed) => Issuer::Managed(Box::new(managed)),
                Err(reason) => Issuer::Nobody(reason),
            },
        };
        Tokens {
            issuer,
            held: Mutex::new(None),
        }
    }

    /// A token that is good now.
    pub async fn get(&self) -> Result<Secret, Outcome> {
        // Several requests want one at once; the first asks for all.
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.renew)
            && !self.changed()
        {
            return Ok(held.token.clone());
        }
        match self.ask().await {
            Ok((token, life)) => {
                *held = Some(Held::new(token.clone(), life, Instant::now()));
                Ok(token)
            }
            Err(outcome) => match held.as_mut().filter(|held| Instant::now() < held.end) {
                Some(held) => {
                    tracing::warn!(
                        reason = outcome.reason(),
                        "the token for Azure cannot be renewed; the old one is used while it lasts"
                    );
                    held.renew = Instant::now() + RENEW_AGAIN;
                    Ok(held.token.clone())
                }
                None => Err(outcome),
            },
        }
    }

    /// Forgets a token that was refused, unless there is another already.
    pub async fn drop_if(&self, token: &Secret) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.token == *token) {
            *held = None;
        }
    }

    /// The secret with which tokens are asked for.
    pub fn proof(&self) -> Option<Secret> {
        match &self.issuer {
            Issuer::Login(login) => login.proof.held(),
            Issuer::Managed(_) | Issuer::Nobody(_) => None,
        }
    }

    /// Whether what is proved by is another than when a token was last asked for.
    pub fn changed(&self) -> bool {
        match &self.issuer {
            Issuer::Login(login) => login.proof.changed(),
            Issuer::Managed(_) | Issuer::Nobody(_) => false,
        }
    }

    async fn ask(&self) -> Result<(Secret, Duration), Outcome> {
        let answer = match &self.issuer {
            Issuer::Login(login) => login.ask().await?,
            Issuer::Managed(managed) => managed.ask().await?,
            Issuer::Nobody(reason) => {
                return Err(Outcome::Misconfigured {
                    reason: reason.clone(),
                });
            }
        };
        given(&answer).ok_or_else(|| Outcome::retry("what answers in place of Entra ID gives no token"))
    }
}

/// The token of an answer, and how long it lasts: Entra ID says that by a number, the metadata service by a text.
fn given(answer: &Answer) -> Option<(Secret, Duration)> {
    let said: Value = serde_json::from_slice(&answer.body).ok()?;
    let token = said["access_token"].as_str().filter(|token| !token.is_empty())?;
    let seconds = match &said["expires_in"] {
        Value::String(text) => text.parse().ok()?,
        other => other.as_u64()?,
    };
    // A day is the most that is given.
    Some((Secret::new(token), Duration::from_secs(seconds.min(86_400))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_when_four_fifths_of_its_life_are_over() {
        let now = Instant::now();
        let held = Held::new(Secret::new("t"), Duration::from_secs(3600), now);
        assert_eq!(
            (held.renew - now, held.end - now),
            (Duration::from_secs(2880), Duration::from_secs(3600))
        );
    }

    #[test]
    fn a_life_is_a_number_or_a_text() {
        let life = |body: &str| {
            let answer = Answer {
                body: body.into(),
                ..Answer::default()
            };
            given(&answer).map(|(_, life)| life.as_secs())
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
            assert_eq!(life(body), expect, "{body}");
        }
    }
}
