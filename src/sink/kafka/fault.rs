//! What errors of Kafka mean for the events that were sent.

use crate::http::Secrets;
use crate::sink::outcome::{Outcome, excerpt};
use rskafka::BackoffError;
use rskafka::client::error::{Error, ProtocolError, RequestError};

/// What to do with the events of one batch.
#[derive(Debug, PartialEq)]
pub(super) enum KafkaFault {
    /// All events have this outcome: `Misconfigured`, or `Retry` for a transient fault.
    All(Outcome),
    /// The batch is too large, or its only event is.
    TooLarge(String),
    /// Some event of the batch is refused.
    Refused(String),
}

/// Classifies an error of a produce request.
pub(super) fn of_produce(error: &Error, topic: &str, secrets: &Secrets) -> KafkaFault {
    match innermost(error) {
        Error::ServerError { protocol_error, .. } => of_code(*protocol_error, topic),
        other => KafkaFault::All(of_connection(&secrets.redacted(&other.to_string()))),
    }
}

/// Unwraps the error of the client's retries, which contains no reason of its own.
fn innermost(error: &Error) -> &Error {
    match error {
        Error::RetryFailed(BackoffError::DeadlineExceded { source, .. }) => {
            source.downcast_ref::<Error>().map_or(error, innermost)
        }
        other => other,
    }
}

/// Whether an established connection has broken. A new connection may work.
pub(super) fn is_broken_connection(error: &Error) -> bool {
    matches!(innermost(error), Error::Request(RequestError::Poisoned(_) | RequestError::IO(_)))
}

pub(super) fn no_topic(topic: &str) -> Outcome {
    Outcome::Misconfigured {
        reason: format!(
            "there is no topic `{topic}`, or this user may not see it; create it, correct `topic`, or grant the operations Describe and Write"
        ),
    }
}

fn of_code(code: ProtocolError, topic: &str) -> KafkaFault {
    use ProtocolError::*;
    let misconfigured = |remedy: &str| {
        KafkaFault::All(Outcome::Misconfigured { reason: format!("Kafka responded with {code:?}: {remedy}") })
    };
    match code {
        MessageTooLarge | RecordListTooLarge => KafkaFault::TooLarge(format!(
            "Kafka responded with {code:?}: raise the topic's `max.message.bytes`, or lower `batch_bytes`"
        )),
        InvalidRecord => KafkaFault::Refused(format!(
            "Kafka responded with {code:?}: the topic does not accept this record"
        )),
        InvalidTimestamp => KafkaFault::Refused(format!(
            "Kafka responded with {code:?}: the event's time is further from the broker's than the topic allows; raise its `message.timestamp.before.max.ms`, or check the clocks"
        )),
        UnknownTopicOrPartition | UnknownTopicId => KafkaFault::All(no_topic(topic)),
        InvalidTopicException => misconfigured("this is not a valid topic name; correct `topic`"),
        TopicAuthorizationFailed => {
            misconfigured("this user may not write to the topic; grant the operations Describe and Write")
        }
        ClusterAuthorizationFailed => misconfigured("this user may not use the cluster; see its ACLs"),
        SaslAuthenticationFailed => misconfigured("user and password are not accepted; correct them"),
        UnsupportedSaslMechanism | IllegalSaslState => {
            misconfigured("the brokers do not offer this mechanism; correct `sasl`")
        }
        SecurityDisabled => misconfigured("the cluster has no authorizer for this request; see its settings"),
        UnsupportedCompressionType => {
            misconfigured("this compression is not supported; write `compression = \"gzip\"` or \"none\"")
        }
        UnsupportedForMessageFormat | UnsupportedVersion => {
            misconfigured("the brokers are too old; the agent needs Kafka 1.0 or newer")
        }
        PolicyViolation => {
            misconfigured("a policy of the cluster refuses these records; see the brokers' log")
        }
        NotEnoughReplicas | NotEnoughReplicasAfterAppend => KafkaFault::All(Outcome::retry(format!(
            "Kafka responded with {code:?}: fewer replicas are in sync than the topic's `min.insync.replicas`; start the other brokers"
        ))),
        // A leader election, or brokers that are busy or stopping.
        other => KafkaFault::All(Outcome::retry(format!("Kafka responded with {other:?}"))),
    }
}

/// Classifies an error before a request was answered. Errors of connecting are only available as text.
pub(super) fn of_connection(text: &str) -> Outcome {
    let contains = |what: &str| text.contains(what);
    let remedy = if contains("Sasl handshake failed") && !contains("Sasl handshake failed: Request error") {
        match contains("UnsupportedSaslMechanism") || contains("unsupported sasl mechanism") {
            true => "the brokers do not offer this mechanism; correct `sasl`",
            false => "user and password are not accepted; correct them",
        }
    } else if contains("fatal alert") {
        "a broker does not accept the client certificate, or there is none; see `client_certificate`"
    } else if contains("invalid peer certificate") {
        "a broker's certificate is not trusted; set `ca_file` to its issuer's certificate, and write the brokers' names as in their certificates"
    } else {
        let hint = if contains("lookup") {
            "a broker's name cannot be resolved; correct `brokers`, or the brokers' `advertised.listeners`"
        } else if contains("refused") {
            "nothing listens at a broker's port; correct `brokers`, or start the brokers"
        } else {
            "the connection to a broker failed; see the brokers, and whether this port requires `tls` and `sasl`"
        };
        return Outcome::retry(format!("{hint} ({})", excerpt(text)));
    };
    Outcome::Misconfigured { reason: format!("{remedy} ({})", excerpt(text)) }
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
    fn connection_errors_are_classified_by_their_texts() {
        for (text, is_fault_of_settings, remedy) in [
            ("Sasl handshake failed: API error: SaslAuthenticationFailed", true, "correct them"),
            ("Sasl handshake failed: API error: UnsupportedSaslMechanism", true, "`sasl`"),
            ("Sasl handshake failed: Request error: Connection is poisoned: early eof", false, "failed"),
            ("IO Error: invalid peer certificate: UnknownIssuer", true, "`ca_file`"),
            ("IO Error: received fatal alert: CertificateRequired", true, "`client_certificate`"),
            ("IO Error: Connection refused (os error 111)", false, "start the brokers"),
            ("IO Error: failed to lookup address information", false, "advertised.listeners"),
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

    #[test]
    fn a_mechanism_that_is_not_offered_has_two_texts() {
        for text in ["UnsupportedSaslMechanism", "unsupported sasl mechanism"] {
            let Outcome::Misconfigured { reason } = of_connection(&format!("Sasl handshake failed: {text}"))
            else {
                panic!("{text}");
            };
            assert!(reason.starts_with("the brokers do not offer this mechanism"), "{reason}");
        }
        // Without a handshake it is the text of something else.
        assert!(matches!(of_connection("UnsupportedSaslMechanism"), Outcome::Retry { .. }));
    }

    /// Then a new connection is made at once.
    #[test]
    fn a_broken_connection_is_recognised_below_the_retries_of_the_client() {
        let broken = || Error::Request(RequestError::IO(std::io::ErrorKind::BrokenPipe.into()));
        let retried = |error: Error| {
            let source = Box::new(error);
            Error::RetryFailed(BackoffError::DeadlineExceded { deadline: std::time::Duration::ZERO, source })
        };
        assert!(is_broken_connection(&broken()) && is_broken_connection(&retried(retried(broken()))));
        let other = || Error::InvalidResponse("no records".into());
        assert!(!is_broken_connection(&other()) && !is_broken_connection(&retried(other())));
        let KafkaFault::All(Outcome::Retry { reason, .. }) =
            of_produce(&retried(other()), "t", &Secrets::default())
        else {
            panic!()
        };
        assert!(reason.contains("no records") && !reason.contains("deadline"), "{reason}");
    }
}
