//! Shared parts of the measurements: settings, directories, input, result rows.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use confluence_audit_agent::config::units::parse_size;

use crate::lines::{self, Lines};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub const MIB: u64 = 1 << 20;

/// The number or size in an environment variable, or the default.
pub fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    let number = text.parse().ok().or_else(|| parse_size(&text).ok());
    number.unwrap_or_else(|| panic!("`{name}={text}` is neither a number nor a size such as `16MiB`"))
}

/// A directory that is removed after the measurement.
pub fn directory() -> Result<tempfile::TempDir> {
    let parent = std::env::var_os("BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    fs::create_dir_all(&parent)?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(parent)?)
}

/// Writes `files` audit files of about `bytes` in total to `dir`/log. Returns their paths, oldest first.
pub fn write_files(dir: &Path, files: u32, bytes: u64) -> Result<Vec<PathBuf>> {
    let dir = dir.join("log");
    fs::create_dir_all(&dir)?;
    let mut lines = Lines::new(1);
    let mut batch = Vec::new();
    let mut paths = Vec::new();
    for number in 0..files {
        let path = dir.join(lines::file_name(lines::START_MS, number, false));
        let mut file = fs::File::create(&path)?;
        let mut left = bytes / u64::from(files);
        while left > 0 {
            batch.clear();
            while (batch.len() as u64) < left.min(MIB) {
                lines.write(&mut batch);
            }
            file.write_all(&batch)?;
            left = left.saturating_sub(batch.len() as u64);
        }
        paths.push(path);
    }
    Ok(paths)
}

/// Appends as Confluence does: open, append, write, close.
pub fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::OpenOptions::new().append(true).open(path)?.write_all(bytes)?;
    Ok(())
}

/// A row of the result table.
pub fn row(what: &str, measured: f64, unit: &str, target: Target) {
    let shown = format!("{} {unit}", number(measured));
    let (wanted, verdict) = match target {
        Target::AtLeast(limit) => (format!("at least {}", number(limit)), verdict(measured >= limit)),
        Target::AtMost(limit) => (format!("at most {}", number(limit)), verdict(measured <= limit)),
        Target::None => (String::new(), ""),
    };
    println!("{what:<58} {shown:>22} {wanted:>22} {verdict}");
}

pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// For information.
    None,
}

fn verdict(held: bool) -> &'static str {
    if held { "pass" } else { "MISS" }
}

fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// The value below which `share` of the sorted values are.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}
