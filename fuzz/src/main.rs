//! Runs one target with libFuzzer: the one that the environment variable `FUZZ_TARGET` names.

#![no_main]

use confluence_audit_agent::fuzz::TARGETS;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.into_iter().find(|(target, _)| *target == name);
    let names = || TARGETS.map(|(name, _)| name).join(", ");
    found.unwrap_or_else(|| panic!("FUZZ_TARGET is to be one of: {}", names())).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
