//! From a configuration file's tables to a `Config`.
//!
//! Each kind of table has one reader. It asks the table for each key that it knows, with the type, the range and the
//! slot of the value, one line a key. No other list of keys exists: which keys a table may have is found by letting
//! its reader ask an empty one.

pub(super) mod address;
mod api;
mod credentials;
mod http;
mod sink;
mod source;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::checked::*;
use super::errors::ConfigErrors;
use super::raw::{Problems, Span, Table};
use super::typed::keys;
use super::units::parse_duration;
use super::words::ensure;

pub(super) use address::{clear_text, data_center};
pub(super) use sink::check_path as check_sink_path;
pub(super) use source::check_patterns;

const ZERO: Duration = Duration::ZERO;
const SEC: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(super) const FORMATS: [(&str, FormatKind); 5] = [
    ("ecs", FormatKind::Ecs),
    ("raw", FormatKind::Raw),
    ("sentinel", FormatKind::Sentinel),
    ("cef", FormatKind::Cef),
    ("ocsf", FormatKind::Ocsf),
];
const HOST_FIELDS: [(&str, HostFields); 2] = [("all", HostFields::All), ("minimal", HostFields::Minimal)];
pub(super) const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
pub(super) const LOG_LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

/// The tables of one kind that were read so far. The next ones must not be like them.
struct KnownTables<P> {
    /// Names, empty for those without a good one, and where they are.
    names: Vec<(String, Span)>,
    /// What they read or write, and what they are called in messages.
    locations: Vec<(P, String)>,
}

impl<P> KnownTables<P> {
    fn new() -> KnownTables<P> {
        KnownTables { names: Vec::new(), locations: Vec::new() }
    }
}

/// Reads the text of a configuration file. `file` is named in the messages. A missing `[[sink]]` is an error
/// unless `sinks_follow`: then an option gives one.
pub(super) fn read(file: &Path, text: &str, sinks_follow: bool) -> Result<Config, ConfigErrors> {
    let problems = Problems::new(file, text);
    let config = Table::parse(&problems).map(|mut root| {
        let config = root_table(&mut root, sinks_follow);
        root.finish(belongs_to);
        config
    });
    let secret_files = problems.secret_files.take();
    let (errors, warnings) = problems.into_parts();
    match config {
        Some(config) if errors.is_empty() => Ok(Config { warnings, secret_files, ..config }),
        _ => Err(ConfigErrors(errors)),
    }
}

fn root_table(root: &mut Table, sinks_follow: bool) -> Config {
    let mut config = Config::default();
    if let Some(dir) = root.path("state_dir", "/var/lib/confluence-audit-agent") {
        config.state_dir = dir;
    }
    keys!(root, config;
        duration shutdown_timeout(ZERO..=HOUR);
        size uncommitted_bytes_max(0..=1024 * GIB);
        duration checkpoint_interval(SEC / 10..=HOUR);
    );
    section(root.table("ledger"), |table| ledger_keys(table, &mut config.ledger));
    section(root.table("admin"), |table| admin_keys(table, &mut config.admin));
    section(root.table("heartbeat"), |table| heartbeat_keys(table, &mut config.heartbeat));
    section(root.table("log"), |table| log_keys(table, &mut config.log));
    section(root.table("event"), |table| event_keys(table, &mut config.event));
    section(root.table("enrich"), |table| enrich_keys(table, &mut config.enrich));

    let hint = "a `[[source]]` table with `name = \"wiki\"` and `type = \"data_center\"`";
    let mut seen = KnownTables::new();
    for table in tables(root, "source", Some(hint)) {
        config.sources.extend(source::read(table, &mut seen));
    }
    let several = seen.names.len() > 1;
    let hint = "a `[[sink]]` table with `name = \"local\"` and `type = \"file\"` or \"stdout\"";
    let mut seen = KnownTables::new();
    for table in tables(root, "sink", (!sinks_follow).then_some(hint)) {
        config.sinks.extend(sink::read(table, several, &config.event, &mut seen));
    }
    config
}

fn section(mut table: Table, read: impl FnOnce(&mut Table)) {
    read(&mut table);
    table.finish(belongs_to);
}

/// The tables of one kind. Reports that there is none where a `hint` from that is given; not if something there is
/// wrong or misspelt, which is reported anyway.
fn tables<'t>(root: &mut Table<'t>, key: &'static str, hint: Option<&str>) -> Vec<Table<'t>> {
    let tables = root.tables(key);
    let lacks = match &tables {
        Some(tables) => tables.is_empty(),
        None => !root.had(key) && !root.has_like(key),
    };
    if let Some(hint) = hint.filter(|_| lacks) {
        root.problems.error(&(0..0), key, format!("is missing; add {hint}"));
    }
    tables.unwrap_or_default()
}

fn ledger_keys(table: &mut Table, ledger: &mut LedgerConfig) {
    keys!(table, ledger; duration retention(DAY..=100 * 365 * DAY); size bytes_max(16 * MIB..=1024 * GIB);
        duration seal_interval(SEC..=DAY););
    if let Some(key) = table.reference("signing_key") {
        key.warn_inline();
        ledger.signing_key = Some(key.value);
    }
}

fn admin_keys(table: &mut Table, admin: &mut AdminConfig) {
    admin.socket = table.path("socket", "/run/confluence-audit-agent/admin.sock");
    admin.listen = table.parsed("listen", "127.0.0.1:9640", listen_address);
    if let Some(token) = table.reference("token") {
        token.warn_inline();
        admin.token = Some(token.value);
    }
    admin_tls(table, admin);
    let is_protected = ["token", "client_ca_file"].iter().any(|key| table.had(key) || table.has_like(key));
    if admin.listen.is_some_and(|address| !address.ip().is_loopback()) && !is_protected {
        let message = "is no loopback address, so anybody could read it; add `token = { file = \"/path\" }` or \
                       `client_ca_file`, or write a loopback address such as \"127.0.0.1:9640\"";
        table.refuse(&["listen"], message);
    }
}

fn admin_tls(table: &mut Table, admin: &mut AdminConfig) {
    let certificate = table.path("certificate", "/etc/confluence-audit-agent/admin.pem");
    let private_key = table.path("private_key", "/etc/confluence-audit-agent/admin.key");
    table.problems.secret_files.borrow_mut().extend(private_key.clone());
    let client_ca_file = table.path("client_ca_file", "/etc/ssl/company-ca.pem");
    for (key, lacking) in
        [("certificate", "private_key"), ("private_key", "certificate"), ("client_ca_file", "certificate")]
    {
        if !table.had(lacking) && !table.has_like(lacking) {
            table.refuse(&[key], &format!("needs `{lacking}`, the path of a PEM file"));
        }
    }
    let pair = certificate.zip(private_key);
    admin.tls = pair.map(|(certificate, private_key)| AdminTls { certificate, private_key, client_ca_file });
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is no address with a port; write one as in \"127.0.0.1:9640\" or \"[::1]:9640\"")
    })
}

fn heartbeat_keys(table: &mut Table, heartbeat: &mut HeartbeatConfig) {
    if let Some(interval) = table.parsed("interval", "5m", heartbeat_interval) {
        heartbeat.interval = interval;
    }
}

/// `None`: no heartbeats.
fn heartbeat_interval(text: &str) -> Result<Option<Duration>, String> {
    if ["off", "0"].contains(&text) {
        return Ok(None);
    }
    let interval = parse_duration(text)?;
    let message = format!("`{text}` is out of range; write 1s to 1d, or \"off\"");
    ensure((SEC..=DAY).contains(&interval), message)?;
    Ok(Some(interval))
}

fn log_keys(table: &mut Table, log: &mut LogConfig) {
    keys!(table, log; choice format(&LOG_FORMATS); choice level(&LOG_LEVELS););
}

fn event_keys(table: &mut Table, event: &mut EventConfig) {
    if let Some(tags) = table.texts("tags", "confluence-audit") {
        event.tags = tags;
    }
    if let Some(namespace) = namespace(table) {
        event.namespace = namespace;
    }
    table.flag("preserve_original_event", &mut event.preserve_original_event);
}

fn namespace(table: &mut Table) -> Option<String> {
    table.checked("namespace", "default", check_namespace)
}

/// Elasticsearch's rule for data streams, whose names a namespace becomes a part of.
fn check_namespace(name: &str) -> Result<(), String> {
    let fits = |c: char| !c.is_uppercase() && !c.is_whitespace() && !"\\/*?\"<>|,#:-".contains(c);
    let message = format!(
        "`{name}` cannot be a data stream's namespace; write at most 100 bytes without upper case, blanks and \\/*?\"<>|,#:-"
    );
    ensure(name.len() <= 100 && name.chars().all(fits), message)
}

fn enrich_keys(table: &mut Table, enrich: &mut EnrichConfig) {
    table.flag("geoip", &mut enrich.geoip);
    for (key, example, slot) in [
        ("geoip_city", "/usr/share/GeoIP/GeoLite2-City.mmdb", &mut enrich.geoip_city),
        ("geoip_asn", "/usr/share/GeoIP/GeoLite2-ASN.mmdb", &mut enrich.geoip_asn),
    ] {
        *slot = table.path(key, example);
        if !enrich.geoip {
            table.warn(&[key], "is not used, for `geoip = false` looks no address up; remove one of the two");
        }
    }
    keys!(table, enrich; flag cloud_metadata; choice host_fields(&HOST_FIELDS););
}

/// The name of a source or sink; the table's keys are reported with it from here on.
fn name(table: &mut Table, kind: &str, example: &str, seen: &mut Vec<(String, Span)>) -> Option<String> {
    let found = table.checked("name", example, check_name);
    let span = table.place_of("name").unwrap_or(&table.span).clone();
    if !table.had("name") {
        // Names differ, so each is shown another.
        let example = match seen.len() {
            0 => example.to_owned(),
            before => format!("{example}-{}", before + 1),
        };
        table.error("name", format!("is missing; add `name = \"{example}\"`"));
    }
    if let Some(name) = &found {
        if let Some((_, first)) = seen.iter().find(|(other, _)| other == name) {
            let line = table.problems.line(first);
            let message =
                format!("the {kind} in line {line} is called `{name}` too; give each a name of its own");
            table.error("name", message);
        }
        table.rename(format_args!("{kind}.{name}"));
    }
    seen.push((found.clone().unwrap_or_default(), span));
    found
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = name.len() <= 64
        && name.bytes().next().is_some_and(fits)
        && name.bytes().all(|byte| fits(byte) || b"_.-".contains(&byte));
    let message = format!(
        "`{name}` cannot be a name; write at most 64 of a-z, 0-9, `_`, `.` and `-`, a letter or digit first"
    );
    ensure(good, message)
}

/// Where a key belongs that people put somewhere else.
fn belongs_to(key: &str) -> Option<String> {
    match table_of(key) {
        Some(table) => Some(format!("it belongs in `{table}`")),
        None => keys_of("")
            .contains(&key)
            .then(|| "it belongs at the top of the file, before the first table".to_owned()),
    }
}

/// The first kind of table that has a key. Keys that nearly all have say nothing.
fn table_of(key: &str) -> Option<&'static str> {
    let sections =
        ["[[source]]", "[ledger]", "[admin]", "[heartbeat]", "[log]", "[event]", "[enrich]", "[[sink]]"]
            .iter();
    let mut sections = sections.filter(|_| !["name", "type", "format"].contains(&key));
    sections.find(|section| keys_of(section).contains(&key)).copied()
}

/// The keys that a kind of table may have; of sinks, those of all types.
fn keys_of(section: &str) -> Vec<&'static str> {
    let mut config = Config::default();
    match section {
        "[ledger]" => Table::keys_asked(|table| ledger_keys(table, &mut config.ledger)),
        "[admin]" => Table::keys_asked(|table| admin_keys(table, &mut config.admin)),
        "[heartbeat]" => Table::keys_asked(|table| heartbeat_keys(table, &mut config.heartbeat)),
        "[log]" => Table::keys_asked(|table| log_keys(table, &mut config.log)),
        "[event]" => Table::keys_asked(|table| event_keys(table, &mut config.event)),
        "[enrich]" => Table::keys_asked(|table| enrich_keys(table, &mut config.enrich)),
        "[[source]]" => source::keys(),
        "[[sink]]" => sink::keys(),
        _ => Table::keys_asked(|root| config = root_table(root, true)),
    }
}

#[cfg(test)]
mod tests;
