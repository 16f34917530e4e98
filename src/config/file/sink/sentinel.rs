//! `type = "sentinel"`.

use std::path::PathBuf;

use url::Url;

use super::Context;
use super::remote::{Common, gzip_at_most, url, wants_json};
use crate::config::file::address::{self, is_loopback, no_query};
use crate::config::file::http::Http;
use crate::config::raw::{ConfigValue, Table};
use crate::config::{Auth, AzureIdentity, Compression, PeerConfig, Reference, SentinelConfig};

const ENDPOINT: &str = "https://confluence-x1y2.westeurope-1.ingest.monitor.azure.com";
const RULE: &str = "dcr-00000000000000000000000000000000";
const ID: &str = "11111111-2222-3333-4444-555555555555";

pub fn read(table: &mut Table, context: &Context, common: &Common) -> Option<PeerConfig> {
    let endpoint = url(table, "endpoint", ENDPOINT).and_then(|endpoint| endpoint.check(is_encrypted));
    let rule = word(table, "dcr_immutable_id", RULE);
    table.require("dcr_immutable_id", &format!("{RULE:?}"));
    let remedy = "the rule's JSON view in the portal shows it as `immutableId`";
    let rule = rule.and_then(|rule| rule.check(|rule| begins(rule, &["dcr-"], remedy)));
    let stream = word(table, "stream", SentinelConfig::STREAM);
    let remedy = "the rule names its streams in `streamDeclarations`";
    let stream =
        stream.and_then(|stream| stream.check(|stream| begins(stream, &["Custom-", "Microsoft-"], remedy)));
    // Before what is missing is reported: `client_id` and `client_key` look like misspelt forms of each other.
    let application = Application {
        tenant: word(table, "tenant_id", ID).map(|found| found.value),
        client: word(table, "client_id", ID).map(|found| found.value),
        secret: table.reference("client_secret"),
    };
    // These two keys, which every sink by HTTP has, are the application's here.
    let mut http = Http::read(table);
    let certificate = http.tls.client_certificate.take();
    let identity = identity(table, application, certificate);
    let login = login(table);
    let scope = scope(table);
    let compression = gzip_at_most(table, Compression::Gzip);
    wants_json(table, context.format);
    if common
        .bytes
        .is_some_and(|bytes| bytes > SentinelConfig::BATCH_BYTES_MAX as u64)
    {
        let message = "is more than Azure takes in one request, which is less than 1 MiB before compression; write \"1MB\"";
        table.refuse(&["batch_bytes"], message);
    }
    Some(PeerConfig::Sentinel(Box::new(SentinelConfig {
        http: http.config(endpoint?.value, Auth::None),
        dcr_immutable_id: rule?.value,
        stream: stream.map_or_else(|| SentinelConfig::STREAM.into(), |found| found.value),
        identity: identity?,
        login: login?,
        scope: scope.map_or_else(|| SentinelConfig::SCOPE.into(), |found| found.value),
        compression,
    })))
}

/// What the keys say of an application.
struct Application<'t> {
    tenant: Option<String>,
    client: Option<String>,
    secret: Option<ConfigValue<'t, Reference>>,
}

fn identity(
    table: &mut Table,
    Application {
        tenant,
        client,
        secret,
    }: Application,
    certificate: Option<(PathBuf, PathBuf)>,
) -> Option<AzureIdentity> {
    let mut managed = false;
    table.flag("managed_identity", &mut managed);
    if managed {
        let message = "stands beside `managed_identity`, which needs none; remove one of the two";
        table.refuse(&["tenant_id", "client_secret", "client_certificate"], message);
        return Some(AzureIdentity::Managed { client });
    }
    table.require("tenant_id", &format!("{ID:?}"));
    table.require("client_id", &format!("{ID:?}"));
    match (secret, certificate) {
        (Some(secret), Some(_)) => {
            secret.error("stands beside `client_certificate`; remove one of the two");
            None
        }
        (Some(secret), None) => {
            secret.warn_inline();
            Some(AzureIdentity::Secret {
                tenant: tenant?,
                client: client?,
                secret: secret.value,
            })
        }
        (None, Some((certificate, key))) => Some(AzureIdentity::Certificate {
            tenant: tenant?,
            client: client?,
            certificate,
            key,
        }),
        (None, None) => {
            if !table.had("client_certificate") && !table.had("client_key") {
                let example = "{ file = \"/path\" }`, or `client_certificate` and `client_key`, or `managed_identity = true";
                table.require("client_secret", example);
            }
            None
        }
    }
}

/// A name that becomes part of an address.
fn word<'t>(table: &mut Table<'t>, key: &'static str, example: &str) -> Option<ConfigValue<'t, String>> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    table
        .text(key, example)?
        .check(|word| match word.bytes().all(fits) && !word.starts_with('.') {
            true => Ok(()),
            false => Err(format!(
                "holds what no such name has; write it as in \"{example}\""
            )),
        })
}

fn begins(word: &str, starts: &[&str], remedy: &str) -> Result<(), String> {
    if starts.iter().any(|start| word.starts_with(start)) {
        return Ok(());
    }
    Err(format!(
        "`{word}` does not begin with `{}`; {remedy}",
        starts.join("` or `")
    ))
}

/// A host, or an address without path.
fn login(table: &mut Table) -> Option<Url> {
    const HOST: &str = SentinelConfig::LOGIN_HOST;
    let parse = |text: &str| {
        let whole = match text.contains("://") {
            true => text.to_string(),
            false => format!("https://{text}"),
        };
        let url = address::server(&whole, &format!("https://{HOST}"))?;
        if url.path() != "/" {
            return Err(format!(
                "has a path, which the agent adds itself; write the host alone, as in \"{HOST}\""
            ));
        }
        is_encrypted(&url).map(|()| url)
    };
    match table.text("login_host", HOST) {
        Some(found) => Some(found.parse(|text| parse(text.trim()))?.value),
        None => parse(HOST).ok(),
    }
}

fn scope<'t>(table: &mut Table<'t>) -> Option<ConfigValue<'t, String>> {
    table
        .text("scope", SentinelConfig::SCOPE)?
        .check(|scope| match scope.ends_with("/.default") {
            true => Ok(()),
            false => Err(format!(
                "does not end with `/.default`; write it as in \"{}\"",
                SentinelConfig::SCOPE
            )),
        })
}

/// Tokens and secrets go there.
fn is_encrypted(url: &Url) -> Result<(), String> {
    if url.scheme() == "http" && !is_loopback(url) {
        return Err("is not encrypted, and a token would be sent there; write `https://`".into());
    }
    no_query(url)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{FormatKind, HttpConfig, SinkKind};

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
