//! The command `setup`: installs once what events need at their destination.

mod cluster;
mod dashboards;
mod detections;
mod documents;
mod monitors;
mod rules;
mod step;

use std::io::{self, Write};
use std::path::Path;

use crate::cli::{Options, SetupElasticsearch};
use crate::config::units::parse_duration;
use crate::config::{self, Auth, DestinationConfig, ElasticsearchConfig, Reference, SinkKind};
use crate::exit;
use crate::telemetry::escape::escape;
use cluster::ElasticsearchSetup;
use detections::Detections;

pub use documents::TEMPLATE;

const DAY_S: u64 = 86_400;

/// Installs index template, ingest pipeline, lifecycle policy and data stream for each sink of type
/// `elasticsearch`, or for the named one. Prints one line for each. `Ok` is the exit code.
pub fn elasticsearch(args: &SetupElasticsearch, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    if args.print {
        return documents::print(out).map(|()| exit::OK);
    }
    let retention_days = match args.retention.as_deref().map(days).transpose() {
        Ok(days) => days,
        Err(message) => {
            writeln!(err, "--retention {}", escape(&message))?;
            return Ok(exit::CONFIG);
        }
    };
    let detections = match detections(args) {
        Ok(detections) => detections,
        Err(message) => {
            writeln!(err, "--dashboards {}", escape(&message))?;
            return Ok(exit::CONFIG);
        }
    };
    let options = Options { config: args.config.clone(), ..Options::default() };
    let config = match config::load_file(&options) {
        Ok(config) => config,
        Err(errors) => {
            writeln!(err, "{errors}")?;
            return Ok(errors.exit_code());
        }
    };
    let mut sinks: Vec<(&str, ElasticsearchConfig)> = Vec::new();
    for sink in &config.sinks {
        if let SinkKind::Remote(remote) = &sink.kind
            && let DestinationConfig::Elasticsearch(destination) = &remote.destination
            && args.sink.as_ref().is_none_or(|name| *name == sink.name)
        {
            sinks.push((&sink.name, (**destination).clone()));
        }
    }
    if sinks.is_empty() {
        match &args.sink {
            Some(name) => {
                writeln!(err, "the configuration has no sink `{}` of type \"elasticsearch\"", escape(name))?
            }
            None => writeln!(err, "the configuration has no sink of type \"elasticsearch\"; add one")?,
        }
        return Ok(exit::CONFIG);
    }
    if detections.is_some() && sinks.len() > 1 {
        writeln!(err, "there are several sinks of type \"elasticsearch\"; name one with `--sink`")?;
        return Ok(exit::CONFIG);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut code = exit::OK;
    for (name, mut sink) in sinks {
        if let Some(auth) = other_credentials(args) {
            sink.http.auth = auth;
        }
        let dashboards = detections.as_ref().and_then(|detections| detections.dashboards.as_ref());
        if let (Some(message), true) = (dashboards.and_then(config::clear_text), sink.http.auth != Auth::None)
        {
            writeln!(err, "--dashboards {message}")?;
        }
        let cluster = ElasticsearchSetup { config: &sink, retention_days, dry_run: args.dry_run };
        let mut result = runtime.block_on(cluster.set_up(out))?;
        if let (Ok(product), Some(detections)) = (&result, &detections) {
            let installed = runtime.block_on(detections.set_up(product, &sink, out))?;
            result = installed.and(result);
        }
        if let Err(reason) = result {
            writeln!(err, "sink {name}: {}", escape(&reason))?;
            code = exit::TRY_AGAIN;
        }
    }
    Ok(code)
}

fn detections(args: &SetupElasticsearch) -> Result<Option<Detections>, String> {
    let example = "https://kibana.example.com";
    let dashboards = args.dashboards.as_deref().map(|text| config::base_url(text, example)).transpose()?;
    let detections = args.detections.as_ref();
    Ok(detections.map(|directory| Detections {
        directory: directory.clone(),
        dashboards,
        dry_run: args.dry_run,
    }))
}

/// Credentials for the setup. Those of the sink should not be allowed to change templates.
fn other_credentials(args: &SetupElasticsearch) -> Option<Auth> {
    let file = |path: &Path| Reference::File(std::path::absolute(path).unwrap_or_else(|_| path.into()));
    match (&args.user, &args.password_file, &args.api_key_file) {
        (Some(user), Some(password), _) => Some(Auth::Basic { user: user.clone(), password: file(password) }),
        (_, _, Some(key)) => Some(Auth::Scheme("ApiKey", file(key))),
        _ => None,
    }
}

fn days(text: &str) -> Result<u64, String> {
    let days = parse_duration(text)?.as_secs() / DAY_S;
    match days {
        1..=36_500 => Ok(days),
        _ => Err(format!("`{text}` is out of range; write 1d to 36500d")),
    }
}
