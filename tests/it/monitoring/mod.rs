//! Alert rules and dashboards that the packages contain.

mod expected;
mod grafana;
mod prometheus;
mod rules;
mod saved_objects;
mod siem;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A program of Debian's package of Prometheus; `None` where it is not installed.
fn prometheus_program(name: &str) -> Option<PathBuf> {
    let program = root().join("target/tools/prometheus/usr/bin").join(name);
    if !program.is_file() {
        crate::rig::skip("prometheus", "Prometheus is not installed; tests/peers/install.sh does it");
        return None;
    }
    Some(program)
}
