//! What Kafka's errors mean for the events that were sent.

use crate::http::Secrets;
use crate::sink::answer::{Outcome, excerpt};
use rskafka::BackoffError;
use rskafka::client::error::{Error, ProtocolError, RequestError};

/// What is to be done with the events of one batch.
#[derive(Debug, PartialEq)]
pub enum KafkaFault {
    /// All of them have this outcome. `Misconfigured`, or `Retry` for what passes by itself.
    All(Outcome),
    /// The batch is too large, or the one event in it.
    TooLarge(String),
    /// Some event in it is refused.
    Refused(String),
}

/// Of an error in producing.
pub fn of(error: &Error, topic: &str, secrets: &Secrets) -> KafkaFault {
    match innermost(error) {
        Error::ServerError { protocol_error, .. } => of_code(*protocol_error, topic),
        other => KafkaFault::All(of_connection(&secrets.concealed(&other.to_string()))),
    }
}

/// The client tries again by itself only what it must; its wrapper says nothing.
fn innermost(error: &Error) -> &Error {
    match error {
        Error::RetryFailed(BackoffError::DeadlineExceded { source, .. }) => {
            source.downcast_ref::<Error>().map_or(error, innermost)
        }
        other => other,
    }
}

/// Whether a connection that was good before is not any more: another one may be.
pub fn is_broken_connection(error: &Error) -> bool {
    matches!(
        innermost(error),
        Error::Request(RequestError::Poisoned(_) | RequestError::IO(_))
    )
}

pub fn no_topic(topic: &str) -> Outcome {
    Outcome::Misconfigured {
        reason: format!(
            "there is no topic `{topic}`, or this user may not see it; create it, correct `topic`, or grant the operations Describe and Write"
        ),
    }
}

fn of_code(code: ProtocolError, topic: &str) -> KafkaFault {
    use ProtocolError::*;
    let misconfigured = |remedy: &str| {
        KafkaFault::All(Outcome::Misconfigured {
            reason: format!("Kafka refuses with {code:?}: {remedy}"),
        })
    };
    match code {
        MessageTooLarge | RecordListTooLarge => KafkaFault::TooLarge(format!(
            "Kafka refuses with {code:?}: raise the topic's `max.message.bytes`, or lower `batch_bytes`"
        )),
        InvalidRecord => KafkaFault::Refused(format!(
            "Kafka refuses with {code:?}: the topic does not take such a record"
        )),
        InvalidTimestamp => KafkaFault::Refused(format!(
            "Kafka refuses with {code:?}: the event's time is further from the broker's than the topic allows; raise its `message.timestamp.before.max.ms`, or see the clocks"
        )),
        UnknownTopicOrPartition | UnknownTopicId => KafkaFault::All(no_topic(topic)),
        InvalidTopicException => misconfigured("this cannot be a topic; correct `topic`"),
        TopicAuthorizationFailed => {
            misconfigured("this user may not write to the topic; grant the operations Describe and Write")
        }
        ClusterAuthorizationFailed => misconfigured("this user may not use the cluster; see its ACLs"),
        SaslAuthenticationFailed => misconfigured("user and password are not accepted; correct them"),
        UnsupportedSaslMechanism | IllegalSaslState => {
            misconfigured("the brokers do not offer this mechanism; correct `sasl`")
        }
        SecurityDisabled => {
            misconfigured("the cluster has no authorizer for what is asked; see its settings")
        }
        UnsupportedCompressionType => {
            misconfigured("this compression is not taken; write `compression = \"gzip\"` or \"none\"")
        }
        UnsupportedForMessageFormat | UnsupportedVersion => {
            misconfigured("the brokers are too old; the agent needs Kafka 1.0 or newer")
        }
        PolicyViolation => {
            misconfigured("a policy of the cluster does not let these records pass; see the brokers' log")
        }
        NotEnoughReplicas | NotEnoughReplicasAfterAppend => KafkaFault::All(Outcome::retry(format!(
            "Kafka says {code:?}: fewer replicas are in sync than the topic's `min.insync.replicas`; start the other brokers"
        ))),
        // Leaders that move, brokers that are busy or stop.
        other => KafkaFault::All(Outcome::retry(format!("Kafka says {other:?}"))),
    }
}

/// Of an error before a request was answered. Those of connecting come as a text, whatever they were.
pub fn of_connection(text: &str) -> Outcome {
    let has = |what: &str| text.contains(what);
    let remedy = if has("Sasl handshake failed") && !has("Sasl handshake failed: Request error") {
        match has("UnsupportedSaslMechanism") || has("unsupported sasl mechanism") {
            true => "the brokers do not offer this mechanism; correct `sasl`",
            false => "user and password are not accepted; correct them",
        }
    } else if has("fatal alert") {
        "a broker does not accept the client certificate, or there is none; see `client_certificate`"
    } else if has("invalid peer certificate") {
        "a broker's certificate is not trusted; name its issuer's with `ca_file`, and write the brokers' names as their certificates have them"
    } else {
        let hint = if has("lookup") {
            "a broker's name cannot be resolved; correct `brokers`, or the brokers' `advertised.listeners`"
        } else if has("refused") {
            "nothing listens at a broker's port; correct `brokers`, or start the brokers"
        } else {
            "the connection to a broker fails; see the brokers, and whether this port wants `tls` and `sasl`"
        };
        return Outcome::retry(format!("{hint} ({})", excerpt(text)));
    };
    Outcome::Misconfigured {
        reason: format!("{remedy} ({})", excerpt(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_class() {
        for code in -1..=120i16 {
            let Some(code) = ProtocolError::new(code) else {
                continue;
            };
            use ProtocolError::*;
            let class = match of_code(code, "t") {
                KafkaFault::TooLarge(_) => "too large",
                KafkaFault::Refused(_) => "refused",
                KafkaFault::All(Outcome::Misconfigured { .. }) => "misconfigured",
                KafkaFault::All(Outcome::Retry { .. }) => "retry",
                other => panic!("{code:?}: {other:?}"),
            };
            let expect = match code {
                MessageTooLarge | RecordListTooLarge => "too large",
                InvalidRecord | InvalidTimestamp => "refused",
                UnknownTopicOrPartition
                | UnknownTopicId
                | InvalidTopicException
                | TopicAuthorizationFailed
                | ClusterAuthorizationFailed
                | SaslAuthenticationFailed
                | UnsupportedSaslMechanism
                | IllegalSaslState
                | SecurityDisabled
                | UnsupportedCompressionType
                | UnsupportedForMessageFormat
                | UnsupportedVersion
                | PolicyViolation => "misconfigured",
                _ => "retry",
            };
            assert_eq!(class, expect, "{code:?}");
        }
    }

    #[test]
    fn errors_of_connecting_are_told_apart_by_their_texts() {
        for (text, is_fault_of_settings, remedy) in [
            (
                "Sasl handshake failed: API error: SaslAuthenticationFailed",
                true,
                "correct them",
            ),
            (
                "Sasl handshake failed: API error: UnsupportedSaslMechanism",
                true,
                "`sasl`",
            ),
            (
                "Sasl handshake failed: Request error: Connection is poisoned: early eof",
                false,
                "fails",
            ),
            (
                "IO Error: invalid peer certificate: UnknownIssuer",
                true,
                "`ca_file`",
            ),
            (
                "IO Error: received fatal alert: CertificateRequired",
                true,
                "`client_certificate`",
            ),
            (
                "IO Error: Connection refused (os error 111)",
                false,
                "start the brokers",
            ),
            (
                "IO Error: failed to lookup address information",
                false,
                "advertised.listeners",
            ),
            ("early eof", false, "`tls`"),
        ] {
            let outcome = of_connection(text);
            let (misconfigured, reason) = match &outcome {
                Outcome::Misconfigured { reason } => (true, reason),
                Outcome::Retry { reason, .. } => (false, reason),
                other => panic!("{other:?}"),
            };
            assert_eq!(misconfigured, is_fault_of_settings, "{text}");
            assert!(reason.contains(remedy), "{reason}");
        }
    }
}
