//! `type = "sentinel"`.

use std::path::PathBuf;

use url::Url;

use super::Context;
use super::remote::{RemoteKeys, gzip_at_most, url, wants_json};
use crate::config::file::address::{self, is_loopback, no_query};
use crate::config::file::http;
use crate::config::raw::{ConfigValue, Table};
use crate::config::words::ensure;
use crate::config::{Auth, AzureIdentity, Compression, DestinationConfig, Reference, SentinelConfig};

const ENDPOINT: &str = "https://confluence-x1y2.westeurope-1.ingest.monitor.azure.com";
const RULE: &str = "dcr-00000000000000000000000000000000";
const ID: &str = "11111111-2222-3333-4444-555555555555";

pub(super) fn read(table: &mut Table, context: &Context, common: &RemoteKeys) -> Option<DestinationConfig> {
    let endpoint = url(table, "endpoint", ENDPOINT);
    if let Some(Err(message)) = endpoint.as_ref().map(check_encrypted) {
        table.error("endpoint", message);
    }
    let remedy = "the rule's JSON view in the portal shows it as `immutableId`";
    let rule = word(table, "dcr_immutable_id", RULE, &["dcr-"], remedy);
    table.require("dcr_immutable_id", &format!("{RULE:?}"));
    let remedy = "the rule names its streams in `streamDeclarations`";
    let stream = word(table, "stream", SentinelConfig::STREAM, &["Custom-", "Microsoft-"], remedy);
    // Before what is missing is reported: `client_id` and `client_key` look like misspelt forms of each other.
    let mut application = Application {
        tenant: word(table, "tenant_id", ID, &[], ""),
        client: word(table, "client_id", ID, &[], ""),
        secret: table.reference("client_secret"),
        certificate: None,
    };
    // These two keys, which every sink by HTTP has, are the application's here.
    let mut http = http::read(table, endpoint, Some(Auth::None));
    application.certificate = http.as_mut().and_then(|http| http.tls.client_certificate.take());
    let identity = identity(table, application);
    let login = login(table);
    let scope = table.checked("scope", SentinelConfig::SCOPE, check_scope);
    let compression = gzip_at_most(table, Compression::Gzip);
    wants_json(table, context.format);
    let most = SentinelConfig::BATCH_BYTES_MAX as u64;
    if common.bytes.is_some_and(|bytes| bytes > most) {
        let message = "is more than Azure takes in one request, which is less than 1 MiB before compression; write \"1MB\"";
        table.refuse(&["batch_bytes"], message);
    }
    Some(DestinationConfig::Sentinel(Box::new(SentinelConfig {
        http: http?,
        dcr_immutable_id: rule?,
        stream: stream.unwrap_or(SentinelConfig::STREAM.into()),
        identity: identity?,
        login: login?,
        scope: scope.unwrap_or(SentinelConfig::SCOPE.into()),
        compression,
    })))
}

/// What the keys say of an application.
struct Application<'t> {
    tenant: Option<String>,
    client: Option<String>,
    secret: Option<ConfigValue<'t, Reference>>,
    /// And its key.
    certificate: Option<(PathBuf, PathBuf)>,
}

fn identity(table: &mut Table, application: Application) -> Option<AzureIdentity> {
    let Application { tenant, client, secret, certificate } = application;
    let mut managed = false;
    table.flag("managed_identity", &mut managed);
    if managed {
        let message = "conflicts with `managed_identity`, which needs none; remove one of the two";
        table.refuse(&["tenant_id", "client_secret", "client_certificate"], message);
        return Some(AzureIdentity::Managed { client });
    }
    table.require("tenant_id", &format!("{ID:?}"));
    table.require("client_id", &format!("{ID:?}"));
    if let Some(secret) = secret {
        if table.had("client_certificate") && table.had("client_key") {
            secret.error("conflicts with `client_certificate`; remove one of the two");
            return None;
        }
        secret.warn_inline();
        let (tenant, client, secret) = (tenant?, client?, secret.value);
        return Some(AzureIdentity::Secret { tenant, client, secret });
    }
    if !table.had("client_certificate") && !table.had("client_key") {
        let example =
            "{ file = \"/path\" }`, or `client_certificate` and `client_key`, or `managed_identity = true";
        table.require("client_secret", example);
    }
    let ((certificate, key), tenant, client) = (certificate?, tenant?, client?);
    Some(AzureIdentity::Certificate { tenant, client, certificate, key })
}

/// A name that becomes part of an address, and begins with one of `starts` if there are any.
fn word(
    table: &mut Table,
    key: &'static str,
    example: &str,
    starts: &[&str],
    remedy: &str,
) -> Option<String> {
    table.checked(key, example, |word| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let message = format!("holds what no such name has; write it as in \"{example}\"");
        ensure(word.bytes().all(fits) && !word.starts_with('.'), message)?;
        let message = format!("`{word}` does not begin with `{}`; {remedy}", starts.join("` or `"));
        let begins = starts.is_empty() || starts.iter().any(|start| word.starts_with(start));
        ensure(begins, message)
    })
}

/// A host, or an address without path.
fn login(table: &mut Table) -> Option<Url> {
    let login = table.parsed("login_host", SentinelConfig::LOGIN_HOST, parse_login);
    match table.had("login_host") {
        true => login,
        false => parse_login(SentinelConfig::LOGIN_HOST).ok(),
    }
}

fn parse_login(text: &str) -> Result<Url, String> {
    const HOST: &str = SentinelConfig::LOGIN_HOST;
    let scheme = if text.contains("://") { "" } else { "https://" };
    let url = address::server(&format!("{scheme}{}", text.trim()), &format!("https://{HOST}"))?;
    let message = format!("has a path, which the agent adds itself; write the host alone, as in \"{HOST}\"");
    ensure(url.path() == "/", message)?;
    check_encrypted(&url).map(|()| url)
}

fn check_scope(scope: &str) -> Result<(), String> {
    let message = format!("does not end with `/.default`; write it as in \"{}\"", SentinelConfig::SCOPE);
    ensure(scope.ends_with("/.default"), message)
}

/// Tokens and secrets go there.
fn check_encrypted(url: &Url) -> Result<(), String> {
    let message = "is not encrypted, and a token would be sent there; write `https://`";
    ensure(url.scheme() != "http" || is_loopback(url), message)?;
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
        let SinkKind::Remote(remote) = sink.kind else { panic!() };
        let DestinationConfig::Sentinel(found) = remote.destination else { panic!() };
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
            let expected = SentinelConfig { identity: AzureIdentity::Managed { client }, ..usual.clone() };
            assert_eq!(read(&format!("managed_identity = true\n{line}")).0, expected);
        }
    }
}
