//! What a test does where it cannot run. The unit tests in `src` include this file as well.

/// Names what may be skipped, `NAME: REASON` on each line. `.ci/run` sets it.
pub(crate) const ALLOWED: &str = "CI_SKIPS";

/// Reports that a test, or a part of it, cannot run here. Under `CI=true` that fails the test, unless `.ci/run` names
/// it. `name` is what the test needs and this machine does not have.
#[track_caller]
pub(crate) fn skip(name: &str, reason: &str) {
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let allowed = std::env::var(ALLOWED).unwrap_or_default();
    match outcome(is_ci, &allowed, name, reason) {
        Ok(message) => eprintln!("{message}"),
        Err(message) => panic!("{message}"),
    }
}

/// The message of a skip; an error if it fails the test.
pub(crate) fn outcome(is_ci: bool, allowed: &str, name: &str, reason: &str) -> Result<String, String> {
    let message = format!("skipped: {name}: {reason}");
    if !is_ci || allowed_names(allowed).any(|allowed| allowed == name) {
        return Ok(message);
    }
    Err(format!(
        "{message}. Under CI=true a skip fails; install what is missing, or add `{name}: REASON` to {ALLOWED} in .ci/run"
    ))
}

/// The names in the list that have a reason.
pub(crate) fn allowed_names(allowed: &str) -> impl Iterator<Item = &str> {
    let entries = allowed.lines().filter_map(|line| line.trim().split_once(':'));
    entries.filter(|(_, reason)| !reason.trim().is_empty()).map(|(name, _)| name)
}
