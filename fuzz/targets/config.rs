//! A configuration file, whatever it holds, is accepted or refused with a line and a reason for each error.

use super::file::read;
use super::{Config, self_include};
use std::collections::BTreeSet;
use std::path::Path;

pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines = text.matches('\n').count() + 1;
    let read = read(Path::new("/etc/agent/config.toml"), text, false);
    let problems = match &read {
        Ok(config) => {
            check(config);
            &config.warnings
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            &errors.0
        }
    };
    for problem in problems {
        let line = problem.location.as_ref().map_or(1, |(_, line)| *line);
        assert!(!problem.message.is_empty() && (1..=lines).contains(&line), "{problem:?}");
        let shown = problem.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

fn check(config: &Config) {
    assert!(!config.sources.is_empty() && !config.sinks.is_empty());
    assert!(config.state_dir.is_absolute());
    let sources: BTreeSet<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
    let sinks: BTreeSet<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!((sources.len(), sinks.len()), (config.sources.len(), config.sinks.len()));
    for name in sources.into_iter().chain(sinks) {
        assert!((1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let _ = self_include(config);
}
