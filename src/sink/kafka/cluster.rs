//! The connection to a Kafka cluster: authentication, and the leaders of the topic's partitions.

use super::fault;
use crate::config::{KafkaConfig, SaslMechanism};
use crate::credential::Credential;
use crate::http::Secrets;
use crate::sink::outcome::Outcome;
use crate::telemetry::chain;
use crate::tls::{self, Tls};
use rskafka::BackoffConfig;
use rskafka::client::error::Error;
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

/// TLS and credentials of the connections.
pub(crate) struct ConnectionSettings {
    config: KafkaConfig,
    tls: Option<Tls>,
    password: Option<Credential>,
    /// The last attempt was refused: the password file is read again even if it looks unchanged.
    refused: bool,
}

impl ConnectionSettings {
    /// Reads no file yet.
    pub(crate) fn new(config: &KafkaConfig) -> ConnectionSettings {
        let password = config.sasl.as_ref().map(|sasl| sasl.password.clone());
        ConnectionSettings {
            tls: config.tls.as_ref().map(Tls::new),
            password: password.map(Credential::new),
            config: config.clone(),
            refused: false,
        }
    }

    pub(crate) fn changed(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::changed) || self.password.as_ref().is_some_and(Credential::changed)
    }

    pub(crate) fn set_refused(&mut self, refused: bool) {
        self.refused = refused;
    }

    /// Reads certificates and password, and prepares a client with them.
    pub(crate) fn read(&mut self) -> Result<PreparedClient, Outcome> {
        let misconfigured = |reason: String| Outcome::Misconfigured { reason };
        let mut builder = ClientBuilder::new(self.config.brokers.clone())
            .client_id(crate::NAME)
            .backoff_config(no_retries());
        let mut tls = None;
        if let Some(settings) = &mut self.tls {
            let config = settings.config().map_err(|error| misconfigured(chain(&error)))?;
            builder = builder.tls_config(config.clone());
            tls = Some(config);
        }
        if let (Some(sasl), Some(password)) = (&self.config.sasl, &mut self.password) {
            let password = match self.refused {
                true => password.reread(),
                false => password.read(),
            };
            let password = password.map_err(|error| misconfigured(chain(&error)))?;
            let credentials = Credentials::new(sasl.user.clone(), password.expose().to_owned());
            builder = builder.sasl_config(match sasl.mechanism {
                SaslMechanism::Plain => SaslConfig::Plain(credentials),
                SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
                SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
            });
        }
        let mut secrets = Secrets::default();
        secrets.add(self.password.as_ref().and_then(Credential::held).cloned());
        Ok(PreparedClient { builder, tls, secrets })
    }
}

/// Everything that is needed to connect.
pub(crate) struct PreparedClient {
    builder: ClientBuilder,
    tls: Option<Arc<ClientConfig>>,
    /// A broker may repeat them in its messages, so they are redacted.
    secrets: Secrets,
}

/// Turns off the retries of the client, which would never end. The delivery loop retries, reports the reason
/// and pauses.
fn no_retries() -> BackoffConfig {
    BackoffConfig {
        init_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(1),
        base: 2.0,
        deadline: Some(Duration::from_nanos(1)),
    }
}

/// A connected cluster that has the topic.
pub(crate) struct KafkaCluster {
    client: Client,
    topic: String,
    partitions: Vec<OnceCell<PartitionClient>>,
    pub secrets: Secrets,
}

impl KafkaCluster {
    /// Connects to one of the brokers and looks up the topic.
    pub(crate) async fn open(
        prepared: PreparedClient,
        config: &KafkaConfig,
    ) -> Result<KafkaCluster, Outcome> {
        let secrets = prepared.secrets;
        let of_connection = |error: Error| fault::of_connection(&secrets.redacted(&error.to_string()));
        let client = match prepared.builder.build().await {
            Ok(client) => client,
            Err(error) => {
                if let Some(tls) = prepared.tls
                    && let Some(reason) = tls_failure(config, tls).await
                {
                    return Err(Outcome::Misconfigured { reason });
                }
                return Err(of_connection(error));
            }
        };
        let topics = client.list_topics().await;
        let topics = topics.map_err(of_connection)?;
        let topic = topics.into_iter().find(|topic| topic.name == config.topic);
        let count = topic.map_or(0, |topic| topic.partitions.len());
        if count == 0 {
            return Err(fault::no_topic(&config.topic));
        }
        Ok(KafkaCluster {
            client,
            topic: config.topic.clone(),
            partitions: (0..count).map(|_| OnceCell::new()).collect(),
            secrets,
        })
    }

    pub(crate) fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// A connection to the leader of a partition.
    pub(crate) async fn partition(&self, number: usize) -> Result<&PartitionClient, Error> {
        let connect = || {
            let topic = self.topic.as_str();
            self.client.partition_client(topic, number as i32, UnknownTopicHandling::Error)
        };
        self.partitions[number].get_or_try_init(connect).await
    }
}

/// The reason of a TLS failure. The client reports only that it failed, so the handshake is repeated here.
async fn tls_failure(config: &KafkaConfig, tls: Arc<ClientConfig>) -> Option<String> {
    for broker in &config.brokers {
        let host = broker.rsplit_once(':').map_or(broker.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.to_owned()).ok()?;
        let Ok(stream) = TcpStream::connect(broker).await else {
            continue;
        };
        let error = TlsConnector::from(tls.clone()).connect(name, stream).await.err()?;
        return tls::message(&error, "brokers")
            .map(|reason| format!("no TLS connection to `{broker}`: {reason}"));
    }
    None
}
