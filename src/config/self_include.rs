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
        let reads = Reads::new(&files.location);
        for Output { name, path, resolved: output } in &outputs {
            if let Some(dir) = dirs.iter().find(|dir| output.parent() == Some(dir)) {
                let message = format!(
                    "watches `{}`, into which sink `{name}` writes `{}`; let the sink write elsewhere",
                    dir.display(),
                    path.display()
                );
                errors.push(ConfigError::new(key.clone(), message));
            } else if let Some(pattern) = reads.what_reads(output) {
                let message = format!(
                    "reads `{pattern}`, which sink `{name}` writes as `{}`; let the sink write elsewhere",
                    path.display()
                );
                errors.push(ConfigError::new(key.clone(), message));
            }
        }
        if config.sinks.iter().any(|sink| sink.kind == SinkKind::Stdout)
            && let Ok(stdout) = std::fs::read_link("/proc/self/fd/1")
            && let Some(pattern) = reads.what_reads(&stdout)
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

/// A file that a sink writes.
struct Output<'a> {
    name: &'a str,
    path: PathBuf,
    resolved: PathBuf,
}

/// Every file that the sinks write. Each counts for each source: one may read what another causes to be written.
fn outputs(config: &Config) -> Vec<Output<'_>> {
    let mut outputs = Vec::new();
    for sink in &config.sinks {
        if let SinkKind::File(file) = &sink.kind {
            let paths = config.sources.iter().map(|source| (sink.name.as_str(), file.path_for(&source.name)));
            outputs.extend(paths);
        }
    }
    outputs.dedup();
    let outputs = outputs.into_iter();
    outputs.map(|(name, path)| Output { name, resolved: resolve(&path), path }).collect()
}

/// What a location reads, resolved once for many paths: with many sources there are as many outputs for each.
enum Reads {
    Home(PathBuf),
    Patterns(Vec<ResolvedPattern>),
}

struct ResolvedPattern {
    written: String,
    pattern: glob::Pattern,
    /// What each path that matches begins with.
    prefix: String,
}

impl Reads {
    fn new(location: &FileLocation) -> Reads {
        match location {
            FileLocation::Home { dir, .. } => Reads::Home(resolve(&audit_dir(dir))),
            FileLocation::Files(patterns) => {
                let resolved = patterns.iter().filter_map(|written| {
                    let (dir, rest) = resolve_pattern(written);
                    let pattern =
                        glob::Pattern::new(&format!("{}{rest}", glob::Pattern::escape(&dir))).ok()?;
                    Some(ResolvedPattern { written: written.clone(), pattern, prefix: dir })
                });
                Reads::Patterns(resolved.collect())
            }
        }
    }

    /// What of the location would read the file `path`.
    fn what_reads(&self, path: &Path) -> Option<String> {
        match self {
            Reads::Home(dir) => (path.parent() == Some(dir)).then(|| dir.display().to_string()),
            Reads::Patterns(patterns) => {
                let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
                let bytes = path.as_os_str().as_encoded_bytes();
                let matches = |pattern: &&ResolvedPattern| {
                    bytes.starts_with(pattern.prefix.as_bytes())
                        && pattern.pattern.matches_path_with(path, options)
                };
                patterns.iter().find(matches).map(|pattern| pattern.written.clone())
            }
        }
    }
}

/// The directories of a pattern without wildcards, resolved as `resolve` does, and the rest of it.
fn resolve_pattern(pattern: &str) -> (String, &str) {
    let wild = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    let Some(slash) = pattern[..wild].rfind('/') else {
        return (String::new(), pattern);
    };
    let dir = resolve(Path::new(&pattern[..slash.max(1)]));
    (dir.to_string_lossy().trim_end_matches('/').to_owned(), &pattern[slash..])
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
