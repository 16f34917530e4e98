//! Words that were typed and words that are known.

/// Finds a word among those known. The error names the nearest, or all.
pub(super) fn choose<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    Err(match nearest(text, &names) {
        Some(near) => format!("`{text}` is not known; did you mean \"{near}\"?"),
        None => format!("`{text}` is not known; write {}", one_of(&names)),
    })
}

/// An error that says `message` unless something is good.
pub(super) fn ensure(good: bool, message: impl Into<String>) -> Result<(), String> {
    if good { Ok(()) } else { Err(message.into()) }
}

/// Keys of versions before 1.0, and their names since.
const RENAMED: [(&str, &str); 10] = [
    ("entries_vanished_max", "missing_files_max"),
    ("grace", "shutdown_timeout"),
    ("keep", "rotated_files_max"),
    ("preserve_original", "preserve_original_event"),
    ("reconcile", "late_rows_interval"),
    ("retention", "missing_files_retention"),
    ("return_after", "file_recovery_timeout"),
    ("silent_after", "file_lag_timeout"),
    ("unpersisted_bytes_max", "uncommitted_bytes_max"),
    ("unusable_after", "file_error_timeout"),
];

/// The name that a key has now, if it was renamed.
pub(super) fn renamed_to(key: &str) -> Option<&'static str> {
    let key = normalized(key);
    RENAMED.iter().find_map(|(old, new)| (*old == key).then_some(*new))
}

/// Case, hyphens and blanks do not count.
fn normalized(typed: &str) -> String {
    typed.to_lowercase().replace(['-', ' '], "_")
}

/// The name that was probably meant: case, hyphens and blanks do not count, and a third of it may be wrong.
pub(super) fn nearest<'n>(typed: &str, names: &[&'n str]) -> Option<&'n str> {
    let typed = normalized(typed);
    let distance = |name: &str| strsim::damerau_levenshtein(&typed, name);
    let (distance, name) = names.iter().map(|name| (distance(name), *name)).min()?;
    (distance <= name.len().max(3) / 3).then_some(name)
}

/// `"a", "b" or "c"`
pub(super) fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// `` `a`, `b` ``
pub(super) fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
