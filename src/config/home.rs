//! Where Confluence's local home is.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The directory into which Atlassian's installer puts the program.
pub(crate) const INSTALL_DIR: &str = "/opt/atlassian/confluence";
/// The home that Atlassian's installer chooses.
pub(crate) const DEFAULT_HOME: &str = "/var/atlassian/application-data/confluence";
const PROPERTIES: &str = "confluence/WEB-INF/classes/confluence-init.properties";

/// How a home was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeFound {
    /// `home` in the configuration file.
    Setting,
    /// `--home`.
    Option,
    /// The environment variable `CONFLUENCE_HOME`.
    Environment,
    /// `confluence.home` in this file.
    Properties(PathBuf),
    /// Nothing says where it is: the installer's default.
    Default,
}

impl fmt::Display for HomeFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HomeFound::Setting => write!(f, "set by `home` in the configuration"),
            HomeFound::Option => write!(f, "given by `--home`"),
            HomeFound::Environment => write!(f, "from the environment variable `CONFLUENCE_HOME`"),
            HomeFound::Properties(path) => write!(f, "from `confluence.home` in `{}`", path.display()),
            HomeFound::Default => write!(f, "Confluence's default, nothing names another"),
        }
    }
}

/// A home that somebody names may be its audit directory by mistake: what is meant is two levels above.
pub(crate) fn check(home: &Path) -> Result<(), String> {
    if !home.ends_with("log/audit") {
        return Ok(());
    }
    let meant = home.ancestors().nth(2).unwrap_or(home);
    Err(format!(
        "names a home's `log/audit` directory, `{}`; name the home itself, `{}`",
        home.display(),
        meant.display()
    ))
}

/// Looks the home up where nothing in the configuration names it, in the order of docs/CONFLUENCE.md.
/// The home need not exist: the agent waits for it.
pub(crate) fn find() -> (PathBuf, HomeFound) {
    find_in(std::env::var_os("CONFLUENCE_HOME"), Path::new(INSTALL_DIR))
}

fn find_in(variable: Option<OsString>, install_dir: &Path) -> (PathBuf, HomeFound) {
    if let Some(home) = variable.map(PathBuf::from).filter(|home| home.is_absolute()) {
        return (home, HomeFound::Environment);
    }
    let properties = install_dir.join(PROPERTIES);
    if let Ok(bytes) = std::fs::read(&properties)
        && let Some(home) = property(&latin1(&bytes), "confluence.home")
        && Path::new(&home).is_absolute()
    {
        return (home.into(), HomeFound::Properties(properties));
    }
    (DEFAULT_HOME.into(), HomeFound::Default)
}

/// Java reads properties as Latin-1; UTF-8 is what people write in them. A file that is valid UTF-8 is taken as such.
fn latin1(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// The value of a key in the syntax of `java.util.Properties`; the last one wins, an empty one counts as missing.
fn property(text: &str, wanted: &str) -> Option<String> {
    logical_lines(text)
        .iter()
        .rev()
        .map(|line| split(line))
        .find(|(key, _)| key == wanted)
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

/// Joins lines that end in an odd number of backslashes with the next one; leaves comments and blank lines out.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut natural = text.split(['\n', '\r']);
    while let Some(first) = natural.next() {
        let first = first.trim_start_matches(BLANK);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut line = first.to_string();
        while line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            line.pop();
            // CRLF was split in two: its empty second half is no line.
            let next = natural.by_ref().find(|next| !next.is_empty());
            match next {
                Some(next) => line.push_str(next.trim_start_matches(BLANK)),
                None => break,
            }
        }
        lines.push(line);
    }
    lines
}

const BLANK: [char; 3] = [' ', '\t', '\x0c'];

/// Key and value: the first unescaped `=`, `:` or blank ends the key; one `=` or `:` among blanks belongs to neither.
fn split(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || BLANK.contains(&c));
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (unescape(key), unescape(rest.trim_start_matches(BLANK)))
}

fn unescape(text: &str) -> String {
    // Through UTF-16, because a character outside the basic plane is written as two \u escapes.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let mut literal = c;
        if c == '\\' {
            let Some(escape) = rest.chars().next() else { break };
            rest = &rest[escape.len_utf8()..];
            if escape == 'u'
                && let Some(unit) = rest.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok())
            {
                units.push(unit);
                rest = &rest[4..];
                continue;
            }
            literal = match escape {
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                'f' => '\x0c',
                other => other,
            };
        }
        units.extend_from_slice(literal.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let home = |text: &str| property(text, "confluence.home");
        let table = [
            ("confluence.home=/data/confluence", "/data/confluence"),
            ("confluence.home = /data/confluence", "/data/confluence"),
            ("confluence.home: /data/confluence", "/data/confluence"),
            ("confluence.home /data/confluence", "/data/confluence"),
            ("  confluence.home\t=\t/data/confluence", "/data/confluence"),
            ("# confluence.home=/no\n! confluence.home=/no\nconfluence.home=/yes\n", "/yes"),
            ("confluence.home=/one\r\nconfluence.home=/two\r\n", "/two"),
            ("confluence.home=C\\:\\\\data\\\\confluence", "C:\\data\\confluence"),
            ("confluence.home=/data/\\\n    confluence", "/data/confluence"),
            ("confluence.home=/data/\\\r\n    confluence", "/data/confluence"),
            ("confluence.home=/data/\\u00fcber", "/data/über"),
            ("confluence.home=/data/\\ud83d\\ude00", "/data/😀"),
            ("confluence\\.home=/escaped key", "/escaped key"),
            ("confluence.home==/x", "=/x"),
            ("confluence.home=/trailing\\", "/trailing"),
        ];
        for (text, expected) in table {
            assert_eq!(home(text).as_deref(), Some(expected), "{text:?}");
        }
        for text in ["", "confluence.home=", "confluence.homes=/x", "#confluence.home=/x", "# \\\nother=1"] {
            assert_eq!(home(text), None, "{text:?}");
        }
    }

    #[test]
    fn latin_1_and_utf_8_are_both_read() {
        assert_eq!(latin1(b"/data/\xfcber"), "/data/über");
        assert_eq!(latin1("/data/über".as_bytes()), "/data/über");
    }

    #[test]
    fn lookup_order() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find_in(None, dir.path()), (DEFAULT_HOME.into(), HomeFound::Default));

        let properties = dir.path().join(PROPERTIES);
        std::fs::create_dir_all(properties.parent().unwrap()).unwrap();
        std::fs::write(&properties, "# comment\nconfluence.home=/data/wiki\n").unwrap();
        assert_eq!(
            find_in(None, dir.path()),
            ("/data/wiki".into(), HomeFound::Properties(properties.clone()))
        );

        let variable = Some(OsString::from("/from/env"));
        assert_eq!(find_in(variable, dir.path()), ("/from/env".into(), HomeFound::Environment));
        // An empty variable says nothing.
        assert_eq!(find_in(Some(OsString::new()), dir.path()).0, PathBuf::from("/data/wiki"));

        std::fs::write(&properties, "# as shipped: confluence.home=/x\n").unwrap();
        assert_eq!(find_in(None, dir.path()).1, HomeFound::Default);
    }
}
