//! The text of a configuration file without secrets and without comments. What is shown is a list of keys whose values
//! are known to be harmless. Everything else is removed: a misspelt key may hold a secret too.

use super::secrets::{REMOVED, Secrets};
use std::path::Path;
use toml::{Table, Value};
use url::Url;

/// Keys whose values are shown. Of tables: whose keys are looked at one by one.
#[rustfmt::skip]
const SHOWN: &[&str] = &[
    "acknowledge", "acknowledge_timeout", "address", "admin", "app_name", "batch_bytes", "batch_events",
    "batch_wait", "body", "body_bytes_max", "brokers", "bytes_max", "ca_file", "certificate", "checkpoint_interval",
    "client_ca_file", "client_certificate", "client_id", "cloud_id", "cloud_metadata", "compression", "concurrency",
    "connect_timeout", "data_stream", "dcr_immutable_id", "deleted_age_max", "deleted_bytes_max",
    "deleted_files_max", "drop_self_polls", "endpoint", "enrich", "event", "facility", "file_error_timeout",
    "file_lag_timeout", "file_recovery_timeout", "files", "first_byte_timeout", "format", "framing", "gateway",
    "geoip", "geoip_asn", "geoip_city", "group", "heartbeat", "home", "host", "host_fields", "hosts", "idle_timeout", "index",
    "interval", "late_rows_interval", "ledger", "level", "listen", "log", "login_host", "managed_identity",
    "method", "missing_files_max", "missing_files_retention", "mode", "name", "namespace", "nodes", "notify",
    "on_poison", "open_files_max", "overlap", "page_size", "path", "pipeline", "poll_interval",
    "preserve_original_event", "probe_interval", "proxy", "read_bytes", "record_bytes_max", "retention",
    "rotate_bytes", "rotate_daily", "rotate_grace", "rotated_files_max", "sasl", "scope", "scoped", "seal_interval",
    "shutdown_timeout", "sink", "site", "socket", "source", "sourcetype", "start", "start_at", "state_dir",
    "stream", "success", "sweep_interval", "tags", "template", "tenant_id", "timeout", "timestamp", "tls",
    "tls_version_min", "token_expires", "token_name", "topic", "transport", "type", "uncommitted_bytes_max", "url",
    "user", "user_agent",
];

/// Keys that hold a secret, or say where it is found.
const SECRET: &[&str] =
    &["api_key", "client_secret", "password", "personal_access_token", "signing_key", "token"];

/// Keys whose values are paths of files with private keys.
const KEY_FILES: &[&str] = &["client_key", "private_key"];

/// Where a secret is found. The name of a variable or of a credential is shown if it is not longer than this: it may be
/// the secret itself, put into the wrong place.
const PLACE_BYTES_MAX: usize = 32;

/// A part of a path in a URL that is at least so long and has a digit may be a token.
const TOKEN_BYTES_MIN: usize = 16;

/// The configuration to show. What was removed is added to `secrets`. The error names no value.
pub(super) fn redacted(text: &str, secrets: &mut Secrets) -> Result<String, &'static str> {
    // The parser's message may repeat a line.
    let table: Table = text.parse().map_err(|_| "it is not valid TOML; see check.txt")?;
    let table = shown_table(&table, secrets);
    toml::to_string_pretty(&table).map_err(|_| "it cannot be written as TOML")
}

fn shown_table(table: &Table, secrets: &mut Secrets) -> Table {
    let shown = table.iter().map(|(key, value)| {
        let value = match key.as_str() {
            "headers" => headers(value, secrets),
            key if KEY_FILES.contains(&key) => key_file(value, secrets),
            key if SECRET.contains(&key) => secret(value, secrets),
            key if SHOWN.contains(&key) => shown_value(value, secrets),
            _ => removed(value, secrets),
        };
        (key.clone(), value)
    });
    shown.collect()
}

fn shown_value(value: &Value, secrets: &mut Secrets) -> Value {
    match value {
        Value::String(text) => Value::String(shown_text(text, secrets)),
        Value::Array(values) => {
            Value::Array(values.iter().map(|value| shown_value(value, secrets)).collect())
        }
        Value::Table(table) => Value::Table(shown_table(table, secrets)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => value.clone(),
    }
}

/// A path. A private key in its place is not shown.
fn key_file(value: &Value, secrets: &mut Secrets) -> Value {
    match value {
        Value::String(path) if Path::new(path).is_absolute() => value.clone(),
        _ => removed(value, secrets),
    }
}

/// The names of headers, and where their values are found.
fn headers(value: &Value, secrets: &mut Secrets) -> Value {
    match value {
        Value::Table(table) => {
            let shown = table.iter().map(|(name, value)| (name.clone(), secret(value, secrets)));
            Value::Table(shown.collect())
        }
        _ => removed(value, secrets),
    }
}

fn secret(value: &Value, secrets: &mut Secrets) -> Value {
    let Value::Table(table) = value else {
        return removed(value, secrets);
    };
    let place = table.iter().map(|(key, value)| {
        let shown = match (key.as_str(), value) {
            ("file", Value::String(path)) if Path::new(path).is_absolute() => value.clone(),
            ("env" | "credential", Value::String(name)) if name.len() <= PLACE_BYTES_MAX => value.clone(),
            _ => removed(value, secrets),
        };
        (key.clone(), shown)
    });
    Value::Table(place.collect())
}

fn removed(value: &Value, secrets: &mut Secrets) -> Value {
    match value {
        Value::Array(values) => Value::Array(values.iter().map(|value| removed(value, secrets)).collect()),
        Value::Table(table) => {
            let shown = table.iter().map(|(key, value)| (key.clone(), removed(value, secrets)));
            Value::Table(shown.collect())
        }
        Value::String(text) => {
            secrets.add(text);
            // The password of a URL is a secret without the rest of it too.
            shown_text(text, secrets);
            Value::String(REMOVED.to_owned())
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            Value::String(REMOVED.to_owned())
        }
    }
}

/// A text without what may be secret in a URL.
pub(super) fn shown_text(text: &str, secrets: &mut Secrets) -> String {
    if !text.contains("://") {
        // `user:password@host` without a scheme.
        return match text.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                secrets.add(user);
                format!("{REMOVED}@{host}")
            }
            _ => text.to_owned(),
        };
    }
    // As it was typed: the parser encodes it, or refuses all of it.
    if let Some((before, _)) = text.rsplit_once('@')
        && let Some((_, password)) = before.rsplit("://").next().unwrap_or_default().split_once(':')
    {
        secrets.add(password);
    }
    let mut url = match Url::parse(text.trim()) {
        // Without a host it is not what it looks like: an address before a URL, for example.
        Ok(url) if url.has_host() => url,
        _ => {
            secrets.add(text);
            return REMOVED.to_owned();
        }
    };
    let user = Some(url.username()).filter(|user| !user.is_empty());
    let parts = [user, url.password(), url.query(), url.fragment()];
    parts.iter().flatten().for_each(|part| secrets.add(part));
    url.query_pairs().for_each(|(_, value)| secrets.add(&value));
    let note = if parts == [None; 4] { "" } else { " [user, query or fragment removed]" };
    // These fail only for URLs that have no host, and so no user.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.set_fragment(None);
    let mut shown = url.to_string();
    for part in url.path().split('/') {
        if part.len() >= TOKEN_BYTES_MIN && part.contains(|c: char| c.is_ascii_digit()) {
            secrets.add(part);
            shown = shown.replace(part, REMOVED);
        }
    }
    shown + note
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../packaging/confluence-audit-agent.toml");

    fn shown(text: &str) -> (String, Secrets) {
        let mut secrets = Secrets::default();
        let shown = redacted(text, &mut secrets).unwrap();
        (shown, secrets)
    }

    /// A new key is either shown or not; somebody has to decide that.
    #[test]
    fn every_key_of_the_configuration_is_classified() {
        let mut keys = 0;
        for line in EXAMPLE.lines().map(|line| line.trim_start_matches('#')) {
            let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains([' ', '`'])) else {
                continue;
            };
            let lists = [SHOWN, SECRET, KEY_FILES].iter().filter(|list| list.contains(&key)).count();
            assert_eq!(lists + usize::from(key == "headers"), 1, "{key}");
            keys += 1;
        }
        assert!(keys > 100, "{keys}");
    }

    #[test]
    fn settings_are_shown_and_comments_are_not() {
        let text = r#"# comment-a
            state_dir = "/s" # comment-b
            [[sink]]
            name = "x"
            batch_events = 7
            success = [200]
            token = { file = "/t" }
            password = { credential = "c" }
            headers = { X-A = { env = "N" } }
        "#;
        let (shown, _) = shown(text);
        let before: Table = text.parse().unwrap();
        assert_eq!(shown.parse::<Table>().unwrap(), before);
        assert!(!shown.contains("comment"), "{shown}");
    }

    #[test]
    fn no_secret_is_shown_wherever_it_is_written() {
        let places = [
            r#"token = "SECRET""#,
            r#"pasword = "SECRET""#,
            r#"unknown = { deep = [{ deeper = "SECRET" }] }"#,
            r#"headers = { Authorization = "Bearer SECRET" }"#,
            r#"headers = "SECRET""#,
            r#"token = { file = "SECRET" }"#,
            r#"token = { env = "SECRET-0123456789-0123456789-0123456789" }"#,
            r#"token = { fil = "SECRET" }"#,
            r#"url = "https://user:SECRET@host/""#,
            r#"url = "https://SECRET@host/""#,
            r#"url = "https://host/?token=SECRET""#,
            r#"url = "https://host/#SECRET""#,
            r#"url = "https://host/hook/SECRET-0123456789""#,
            r#"url = "https://ho st/SECRET""#,
            r#"hosts = ["https://a/", "https://user:SECRET@host/"]"#,
            r#"proxy = { url = "http://user:SECRET@proxy:3128" }"#,
            r#"address = "user:SECRET@host:514""#,
            r#"address = "user:SECRET@host/?via=http://proxy/""#,
            r#"ulr = "https://user:SECRET@host/""#,
            r#"url = "file://user:SECRET@host/""#,
            "unknown = '''\nSECRET\n'''",
            r#"api_key = ["SECRET"]"#,
            r#"private_key = "-----BEGIN PRIVATE KEY-----\nSECRET""#,
            r#"client_key = ["/k", "SECRET"]"#,
        ];
        for text in
            places.map(|text| format!("[[sink]]\n{text} # SECRET\n# SECRET\n[section]\nx = \"SECRET\""))
        {
            let (shown, secrets) = shown(&text);
            assert!(!shown.contains("SECRET") && shown.contains("removed"), "{text}\n{shown}");
            // What was removed is removed wherever else it is.
            assert!(!secrets.remove_from("a line with SECRET".to_owned()).contains("SECRET"), "{text}");
        }
        // A log may name the password without what was around it.
        for url in ["https://user:SECRET@host/", "file://user:SECRET@host/", "https://user:SECRET%5E^@host/"]
        {
            for key in ["url", "ulr"] {
                let (_, secrets) = shown(&format!("{key} = \"{url}\""));
                let line = secrets.remove_from("SECRET is wrong, SECRET%5E^ too".to_owned());
                assert!(
                    !line.contains("SECRET%5E^") && (url.contains('^') || !line.contains("SECRET")),
                    "{url}"
                );
            }
        }
        let (shown, _) = shown("[[sink]]\npassword = 5318008\npasword = 5318008\n");
        assert!(!shown.contains("5318008"), "{shown}");
        let broken = redacted("token = \"SECRET", &mut Secrets::default());
        assert!(broken.is_err_and(|error| !error.contains("SECRET")));
    }
}
