//! The command `support-bundle`: what somebody needs who is to find out what is wrong, in one archive, without secrets.

mod config_text;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/config_secrets.rs"]
pub(crate) mod fuzz;
mod host;
mod secrets;
mod service;

use super::admin_client;
use super::output::{OptionalOutput, print_error};
use super::state;
use super::{check, layout};
use crate::cli::{CONFIG_PATH, Options, SupportBundleArgs};
use crate::clock;
use crate::config::{self, AdminEndpoint, Config};
use crate::exit;
use crate::record::time;
use crate::telemetry::escape::{escape, escape_path};
use flate2::Compression;
use flate2::write::GzEncoder;
use secrets::Secrets;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Beside the configuration file: what systemd passes to the agent.
const CREDENTIALS: &str = "credentials";

/// Names of the files, and what is in them.
const CONTENTS: [(&str, &str); 11] = [
    ("versions.txt", "versions of agent, kernel, systemd and system"),
    ("config.toml", "the configuration without secrets and comments"),
    ("check.txt", "what `check --fast` prints"),
    ("status.json", "the status of the running agent"),
    ("metrics.txt", "its metrics"),
    ("log.txt", "its log of the last hour, from the journal"),
    ("state.txt", "what `state show` prints"),
    ("paths.txt", "owner and permissions of the paths that it uses"),
    ("disks.txt", "free space"),
    ("unit.txt", "its systemd unit; of most variables only the names"),
    ("process.txt", "limits and memory of its process"),
];

/// What the files are made from.
struct Gathering<'a> {
    args: &'a SupportBundleArgs,
    config_file: PathBuf,
    /// The defaults, if it is wrong: `check.txt` says what.
    config: Config,
    endpoint: AdminEndpoint,
    secrets: Secrets,
}

/// Writes the archive. Returns the exit code: 0, or 75 if it cannot be written.
///
/// # Errors
/// Errors of `out` only.
pub fn write(args: &SupportBundleArgs, out: &mut impl Write) -> io::Result<u8> {
    if std::fs::symlink_metadata(&args.file).is_ok() && !args.force {
        let file = escape_path(&args.file);
        print_error(&format!("`{file}` exists; give another name, or --force to replace it"));
        return Ok(exit::TRY_AGAIN);
    }
    writeln!(out, "The bundle has no audit events and no secrets. It names hosts, users and paths:\n")?;
    for (name, content) in CONTENTS {
        writeln!(out, "  {name:<14}{content}")?;
    }
    writeln!(out)?;
    out.flush()?;
    let mut gathering = Gathering::new(args);
    let found: Vec<(&str, Result<String, String>)> =
        CONTENTS.iter().map(|(name, _)| (*name, gathering.content(name))).collect();
    let mut files = Vec::new();
    for (name, content) in found {
        let content = match content {
            Ok(text) => text,
            Err(reason) => {
                let reason = gathering.secrets.remove_from(reason);
                for line in layout::clauses(&format!("{name} is empty: {}", escape(&reason)), 2) {
                    writeln!(out, "{line}")?;
                }
                format!("not available: {reason}\n")
            }
        };
        files.push((name, gathering.secrets.remove_from(content)));
    }
    match archive(&args.file, args.force, &files) {
        Ok(bytes) => {
            let file = escape_path(&args.file);
            let size = check::files::human_size(bytes);
            writeln!(out, "Wrote {file} ({size}), readable by you alone.\nRead it before you send it:")?;
            writeln!(out, "  tar -xOzf {} | less", crate::telemetry::escape::shell_word(&file))?;
            Ok(exit::OK)
        }
        Err(error) => {
            print_error(&format!("failed to write `{}`: {error}", escape_path(&args.file)));
            Ok(exit::TRY_AGAIN)
        }
    }
}

impl Gathering<'_> {
    fn new(args: &SupportBundleArgs) -> Gathering<'_> {
        let config_file = args.config.clone().unwrap_or_else(|| CONFIG_PATH.into());
        let options = Options { config: Some(config_file.clone()), ..Options::default() };
        let mut config = config::load_file(&options).unwrap_or_default();
        let endpoint = AdminEndpoint::new(config.admin.clone(), args.config.as_deref());
        config.admin = endpoint.admin.clone();
        let mut secrets = Secrets::default();
        config.secret_files.iter().for_each(|file| secrets.add_file(file));
        // A wrong configuration names files of secrets too.
        let text = std::fs::read(&config_file).unwrap_or_default();
        secrets.add_files_of(&String::from_utf8_lossy(&text));
        let credentials = config_file.parent().map(|directory| directory.join(CREDENTIALS));
        for file in credentials.into_iter().flat_map(std::fs::read_dir).flatten().flatten() {
            secrets.add_file(&file.path());
        }
        Gathering { args, config_file, config, endpoint, secrets }
    }

    /// The error says why there is nothing.
    fn content(&mut self, name: &str) -> Result<String, String> {
        match name {
            "versions.txt" => Ok(host::versions()),
            "config.toml" => {
                let text = std::fs::read_to_string(&self.config_file)
                    .map_err(|error| format!("`{}`: {error}", escape_path(&self.config_file)))?;
                Ok(config_text::redacted(&text, &mut self.secrets)?)
            }
            "check.txt" => {
                let options = Options { config: Some(self.config_file.clone()), ..Options::default() };
                printed(|out| check::check(&options, true, false, out))
            }
            "status.json" => self.ask("/status"),
            "metrics.txt" => self.ask("/metrics"),
            "log.txt" => service::log(&self.args.unit),
            "state.txt" => state::describe(&self.config.state_dir),
            "paths.txt" => Ok(host::paths(&self.config, &self.config_file)),
            "disks.txt" => Ok(host::disks(&self.config)),
            "unit.txt" => service::unit(&self.args.unit, &mut self.secrets),
            _ => service::process(&self.args.unit),
        }
    }

    fn ask(&self, path: &str) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(admin_client::get(&self.endpoint, path)).map(|answer| answer.body)
    }
}

fn printed(print: impl FnOnce(&mut dyn Write) -> io::Result<u8>) -> Result<String, String> {
    let mut out = Vec::new();
    print(&mut OptionalOutput::new(&mut out)).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Writes the files into an archive of mode 0600, whole or not at all. Returns its length.
fn archive(file: &Path, force: bool, files: &[(&str, String)]) -> io::Result<u64> {
    let directory = match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new().prefix(".support-bundle-").tempfile_in(directory)?;
    let now_ms = clock::now_ms();
    let time = String::from_utf8_lossy(&time::iso(now_ms)).replace(':', "");
    let root = format!("confluence-audit-agent-support-{}", &time[..time.len().min(17)]);
    let mut tar = tar::Builder::new(GzEncoder::new(&mut temporary, Compression::default()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime((now_ms / 1000).max(0) as u64);
        tar.append_data(&mut header, format!("{root}/{name}"), content.as_bytes())?;
    }
    tar.into_inner()?.finish()?;
    temporary.as_file().sync_all()?;
    let bytes = temporary.as_file().metadata()?.len();
    // Neither follows a symbolic link.
    match force {
        true => temporary.persist(file),
        false => temporary.persist_noclobber(file),
    }
    .map_err(|error| error.error)?;
    Ok(bytes)
}
