//! `type = "sentinel"`.

use std::path::PathBuf;

use url::Url;

use super::remote::{Common, gzip_at_most, missing, url, wants_json};
use crate::config::file::address::{self, is_loopback};
use crate::config::file::http::Http;
use crate::config::raw::{ConfigValue, Problems, Table};
use crate::config::reference::warn_inline;
use crate::config::{
    Auth, AzureIdentity, Compression, FormatKind, PeerConfig, Reference, RemoteSinkConfig, SentinelConfig,
};

/// `client_certificate` and `client_key`, which every sink by HTTP has, are the application's here.
pub const KEYS: [&str; 9] = [
    "endpoint",
    "dcr_immutable_id",
    "stream",
    "tenant_id",
    "client_id",
    "client_secret",
    "managed_identity",
    "login_host",
    "scope",
];

const ENDPOINT: &str = "https://confluence-x1y2.westeurope-1.ingest.monitor.azure.com";
const RULE: &str = "dcr-00000000000000000000000000000000";
const ID: &str = "11111111-2222-3333-4444-555555555555";

pub fn table(
    table: &mut Table,
    common: &Common,
    format: FormatKind,
    problems: &mut Problems,
) -> Option<SentinelConfig> {
    let endpoint = url(table, "endpoint", ENDPOINT, problems);
    let endpoint = endpoint.filter(|endpoint| is_encrypted(table, "endpoint", endpoint, problems));
    let rule = word(table, "dcr_immutable_id", RULE, problems);
    missing(table, "dcr_immutable_id", &format!("{RULE:?}"), problems);
    let rule = rule.filter(|rule| {
        begins(
            rule,
            &["dcr-"],
            "the rule's JSON view in the portal shows it as `immutableId`",
            problems,
        )
    });
    let stream = word(table, "stream", SentinelConfig::STREAM, problems).filter(|stream| {
        begins(
            stream,
            &["Custom-", "Microsoft-"],
            "the rule names its streams in `streamDeclarations`",
            problems,
        )
    });
    // Before what is missing is told: `client_id` and `client_key` look like misspelt forms of each other.
    let application = Application {
        tenant: word(table, "tenant_id", ID, problems),
        client: word(table, "client_id", ID, problems),
        secret: table.reference("client_secret", problems),
    };
    let mut http = Http::read(table, problems);
    let identity = identity(table, application, http.take_client_certificate(), problems);
    let login = login(table, problems);
    let scope = scope(table, problems);
    let compression = gzip_at_most(table, Compression::Gzip, problems);
    wants_json(table, format, problems);
    let message =
        "is more than Azure takes in one request, which is less than 1 MiB before compression; write \"1MB\"";
    common.at_most(SentinelConfig::BATCH_BYTES_MAX, message, table, problems);
    Some(SentinelConfig {
        http: http.config(endpoint?, Auth::None),
        dcr_immutable_id: rule?.value,
        stream: stream.map_or_else(|| SentinelConfig::STREAM.into(), |found| found.value),
        identity: identity?,
        login: login?,
        scope,
        compression,
    })
}

/// With the defaults of all sinks, but for one.
pub fn defaults(config: SentinelConfig) -> RemoteSinkConfig {
    let mut config = RemoteSinkConfig::new(PeerConfig::Sentinel(Box::new(config)));
    config.batch.bytes = SentinelConfig::BATCH_BYTES;
    config
}

/// What stands there of an application.
struct Application {
    tenant: Option<ConfigValue<String>>,
    client: Option<ConfigValue<String>>,
    secret: Option<ConfigValue<Reference>>,
}

fn identity(
    table: &mut Table,
    application: Application,
    certificate: Option<(PathBuf, PathBuf)>,
    problems: &mut Problems,
) -> Option<AzureIdentity> {
    let managed = table.flag("managed_identity", problems).unwrap_or(false);
    let Application {
        tenant,
        client,
        secret,
    } = application;
    if managed {
        for key in ["tenant_id", "client_secret", "client_certificate"] {
            if let Some(span) = table.place_of(key) {
                let message = "stands beside `managed_identity`, which needs none; remove one of the two";
                problems.add(span, table.key(key), message);
            }
        }
        return Some(AzureIdentity::Managed {
            client: client.map(|found| found.value),
        });
    }
    missing(table, "tenant_id", &format!("{ID:?}"), problems);
    missing(table, "client_id", &format!("{ID:?}"), problems);
    match (secret, certificate) {
        (Some(secret), Some(_)) => {
            let message = "stands beside `client_certificate`; remove one of the two";
            problems.add(&secret.span, secret.key, message);
            None
        }
        (Some(secret), None) => {
            warn_inline(&secret, problems);
            Some(AzureIdentity::Secret {
                tenant: tenant?.value,
                client: client?.value,
                secret: secret.value,
            })
        }
        (None, Some((certificate, key))) => Some(AzureIdentity::Certificate {
            tenant: tenant?.value,
            client: client?.value,
            certificate,
            key,
        }),
        (None, None) => {
            if !["client_certificate", "client_key"]
                .iter()
                .any(|key| table.had(key))
            {
                let example = "{ file = \"/path\" }`, or `client_certificate` and `client_key`, or `managed_identity = true";
                missing(table, "client_secret", example, problems);
            }
            None
        }
    }
}

/// A name that becomes part of an address.
fn word(
    table: &mut Table,
    key: &'static str,
    example: &str,
    problems: &mut Problems,
) -> Option<ConfigValue<String>> {
    let found = table.text(key, example, problems)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if found.value.bytes().all(fits) && !found.value.starts_with('.') {
        return Some(found);
    }
    let message = format!("holds what no such name has; write it as in \"{example}\"");
    problems.add(&found.span, found.key, message);
    None
}

fn begins(found: &ConfigValue<String>, starts: &[&str], remedy: &str, problems: &mut Problems) -> bool {
    let good = starts.iter().any(|start| found.value.starts_with(start));
    if !good {
        let message = format!(
            "`{}` does not begin with `{}`; {remedy}",
            found.value,
            starts.join("` or `")
        );
        problems.add(&found.span, found.key.clone(), message);
    }
    good
}

/// A host, or an address without path.
fn login(table: &mut Table, problems: &mut Problems) -> Option<Url> {
    const HOST: &str = SentinelConfig::LOGIN_HOST;
    let found = table.text("login_host", HOST, problems);
    let text = found.as_ref().map_or(HOST, |found| found.value.trim());
    let whole = match text.contains("://") {
        true => text.to_string(),
        false => format!("https://{text}"),
    };
    let read = address::server(&whole, &format!("https://{HOST}")).and_then(|url| match url.path() {
        "/" => Ok(url),
        _ => Err(format!(
            "has a path, which the agent adds itself; write the host alone, as in \"{HOST}\""
        )),
    });
    match (read, found) {
        (Ok(url), _) => is_encrypted(table, "login_host", &url, problems).then_some(url),
        (Err(message), found) => {
            let found = found?;
            problems.add(&found.span, found.key, message);
            None
        }
    }
}

fn scope(table: &mut Table, problems: &mut Problems) -> String {
    let Some(found) = table.text("scope", SentinelConfig::SCOPE, problems) else {
        return SentinelConfig::SCOPE.into();
    };
    if !found.value.ends_with("/.default") {
        let message = format!(
            "does not end with `/.default`; write it as in \"{}\"",
            SentinelConfig::SCOPE
        );
        problems.add(&found.span, found.key, message);
    }
    found.value
}

/// Tokens and secrets go there.
fn is_encrypted(table: &Table, key: &'static str, url: &Url, problems: &mut Problems) -> bool {
    let message = if url.scheme() == "http" && !is_loopback(url) {
        "is not encrypted, and a token would be sent there; write `https://`"
    } else if url.query().is_some() {
        "has a query; end it before the `?`"
    } else {
        return true;
    };
    if let Some(span) = table.place_of(key) {
        problems.add(span, table.key(key), message);
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{HttpConfig, SinkKind};

    fn read(lines: &str) -> (SentinelConfig, usize, FormatKind) {
        let text = format!(
            "[[source]]\nname = \"wiki\"\ntype = \"data_center\"\n[[sink]]\nname = \"out\"\ntype = \"sentinel\"\nendpoint = \"https://e.example.com\"\ndcr_immutable_id = \"dcr-1\"\n{lines}"
        );
        let mut config = crate::config::file::read(Path::new("x.toml"), &text, false).unwrap();
        let sink = config.sinks.remove(0);
        let SinkKind::Remote(remote) = sink.kind else {
            panic!()
        };
        let PeerConfig::Sentinel(found) = remote.peer else {
            panic!()
        };
        (*found, remote.batch.bytes, sink.format)
    }

    #[test]
    fn every_value_reaches_its_place() {
        let application = "tenant_id = \"t\"\nclient_id = \"c\"\n";
        let http = || HttpConfig::new(Url::parse("https://e.example.com").unwrap(), Auth::None);
        let (tenant, client) = ("t".to_string(), "c".to_string());
        let usual = SentinelConfig {
            http: http(),
            dcr_immutable_id: "dcr-1".into(),
            stream: "Custom-ConfluenceAuditLogs_CL".into(),
            identity: AzureIdentity::Secret {
                tenant: tenant.clone(),
                client: client.clone(),
                secret: Reference::Env("S".into()),
            },
            login: Url::parse("https://login.microsoftonline.com").unwrap(),
            scope: "https://monitor.azure.com/.default".into(),
            compression: Compression::Gzip,
        };
        let secret = format!("{application}client_secret = {{ env = \"S\" }}\n");
        assert_eq!(read(&secret), (usual.clone(), 1_000_000, FormatKind::Sentinel));
        let others = "stream = \"Microsoft-X\"\nlogin_host = \"login.example.com\"\nscope = \"https://x/.default\"\ncompression = \"none\"\nformat = \"raw\"\nbatch_bytes = \"2KiB\"\n";
        let expected = SentinelConfig {
            stream: "Microsoft-X".into(),
            login: Url::parse("https://login.example.com").unwrap(),
            scope: "https://x/.default".into(),
            compression: Compression::None,
            ..usual.clone()
        };
        assert_eq!(read(&(secret + others)), (expected, 2048, FormatKind::Raw));
        // The certificate is the application's, and not one for TLS.
        let files = "client_certificate = \"/c.pem\"\nclient_key = \"/k.pem\"\n";
        let expected = SentinelConfig {
            identity: AzureIdentity::Certificate {
                tenant,
                client,
                certificate: "/c.pem".into(),
                key: "/k.pem".into(),
            },
            ..usual.clone()
        };
        assert_eq!(read(&format!("{application}{files}")).0, expected);
        for (line, client) in [("", None), ("client_id = \"c\"\n", Some("c".to_string()))] {
            let expected = SentinelConfig {
                identity: AzureIdentity::Managed { client },
                ..usual.clone()
            };
            assert_eq!(read(&format!("managed_identity = true\n{line}")).0, expected);
        }
    }
}
