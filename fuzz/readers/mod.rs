//! Readers of what the agent writes. They share nothing with the agent, so that both cannot be wrong in one way.

pub(crate) mod cef;
pub(crate) mod json;
pub(crate) mod syslog;

/// All that readers who know Unicode take for line ends, as Python's `str.splitlines` does.
pub(crate) fn is_line_end(letter: char) -> bool {
    matches!(
        letter,
        '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}
