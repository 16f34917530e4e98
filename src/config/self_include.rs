//! An agent that reads what it writes feeds itself for ever.

use std::path::{Path, PathBuf};

use super::checked::{Config, FileLocation, SinkKind, audit_dir};
use super::errors::ConfigError;

/// Refuses a watched directory that holds the agent's state, and a sink that writes into a watched directory or
/// to a file that is read. Links in what exists are followed, on both sides.
pub fn self_include(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let state_dir = resolve(&config.state_dir);
    let outputs = outputs(config);
    for source in &config.sources {
        let Some(files) = &source.files else { continue };
        let dirs = watch_dirs(&files.location);
        let key = format!("source.{}", source.name);
        if let Some(dir) = dirs.iter().find(|dir| state_dir.starts_with(dir)) {
            let message = format!(
                "watches `{}`, which holds the agent's own state directory `{}`; move the state directory elsewhere",
                dir.display(),
                config.state_dir.display()
            );
            errors.push(ConfigError::new(key.clone(), message));
        }
        for (name, path) in &outputs {
            let output = resolve(path);
            if let Some(dir) = dirs.iter().find(|dir| output.parent() == Some(dir)) {
                let message = format!(
                    "watches `{}`, into which sink `{name}` writes `{}`; let the sink write elsewhere",
                    dir.display(),
                    path.display()
                );
                errors.push(ConfigError::new(key.clone(), message));
            } else if let Some(pattern) = reads(&files.location, &output) {
                let message = format!(
                    "reads `{pattern}`, which sink `{name}` writes as `{}`; let the sink write elsewhere",
                    path.display()
                );
                errors.push(ConfigError::new(key.clone(), message));
            }
        }
        if config.sinks.iter().any(|sink| sink.kind == SinkKind::Stdout)
            && let Ok(stdout) = std::fs::read_link("/proc/self/fd/1")
            && let Some(pattern) = reads(&files.location, &stdout)
        {
            let message = format!(
                "reads `{pattern}`, and stdout is connected to `{}`, which that matches; send stdout elsewhere",
                stdout.display()
            );
            errors.push(ConfigError::new(key, message));
        }
    }
    errors
}

/// The directories in which a source looks for files, of those that exist; a home's even if it does not exist.
pub fn watch_dirs(location: &FileLocation) -> Vec<PathBuf> {
    let mut dirs = match location {
        FileLocation::Home { dir, .. } => vec![resolve(&audit_dir(dir))],
        FileLocation::Files(patterns) => patterns.iter().flat_map(|pattern| pattern_dirs(pattern)).collect(),
    };
    dirs.sort();
    dirs.dedup();
    dirs
}

/// The directories that match the pattern without its last component.
fn pattern_dirs(pattern: &str) -> Vec<PathBuf> {
    let parent =
        pattern.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
    let found = glob::glob(parent).into_iter().flatten().flatten();
    found.filter(|path| path.is_dir()).map(|path| resolve(&path)).collect()
}

/// Every file that the sinks write, with the sinks' names. Each counts for each source: one may read what another
/// causes to be written.
fn outputs(config: &Config) -> Vec<(&str, PathBuf)> {
    let mut outputs = Vec::new();
    for sink in &config.sinks {
        if let SinkKind::File(file) = &sink.kind {
            let paths = config.sources.iter().map(|source| (sink.name.as_str(), file.path_for(&source.name)));
            outputs.extend(paths);
        }
    }
    outputs.dedup();
    outputs
}

/// What of a location would read the file `path`.
fn reads(location: &FileLocation, path: &Path) -> Option<String> {
    match location {
        FileLocation::Home { dir, .. } => {
            let dir = resolve(&audit_dir(dir));
            (path.parent() == Some(&dir)).then(|| dir.display().to_string())
        }
        FileLocation::Files(patterns) => {
            let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
            let matches = |pattern: &&String| {
                let pattern = resolve_pattern(pattern);
                glob::Pattern::new(&pattern).is_ok_and(|pattern| pattern.matches_path_with(path, options))
            };
            patterns.iter().find(matches).cloned()
        }
    }
}

/// A pattern whose directories without wildcards are resolved as `resolve` does.
fn resolve_pattern(pattern: &str) -> String {
    let wild = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    let Some(slash) = pattern[..wild].rfind('/') else {
        return pattern.to_string();
    };
    let dir = resolve(Path::new(&pattern[..slash.max(1)]));
    format!("{}{}", glob::Pattern::escape(dir.to_string_lossy().trim_end_matches('/')), &pattern[slash..])
}

/// The path without links and dots, as far as it exists; what does not exist yet is kept as it is written.
fn resolve(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            // Joining nothing would add a slash at the end.
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_path_buf()
}
