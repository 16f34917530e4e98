//! Keys in sled: the kind of value, the source's name as a JSON string, and what distinguishes the source's values.
//!
//! ```text
//! meta
//! head "wiki"
//! file "wiki" 0000002a
//! mark "wiki" "local"
//! loss "wiki" 0000000000000007
//! cursor "wiki"                 and so on for the kinds with one value per source; the key ends with a space
//! ```
//!
//! A JSON string ends at its closing quote, so no source's keys are a prefix of another's.

pub(super) const META: &[u8] = b"meta";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ValueKind {
    Meta,
    Head,
    File,
    Mark,
    Loss,
    Cursor,
    /// Ids of delivered events, as 0.1 stored them: read by no release since, removed with the source.
    Ids,
    OtherNodes,
    Nodes,
    User,
    ActiveInput,
    AuditSettings,
    Ledger,
}

impl ValueKind {
    /// All values of a source except its head.
    pub(super) const OF_A_SOURCE: [ValueKind; 11] = [
        ValueKind::File,
        ValueKind::Mark,
        ValueKind::Loss,
        ValueKind::Cursor,
        ValueKind::Ids,
        ValueKind::OtherNodes,
        ValueKind::Nodes,
        ValueKind::User,
        ValueKind::ActiveInput,
        ValueKind::AuditSettings,
        ValueKind::Ledger,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            ValueKind::Meta => "meta",
            ValueKind::Head => "head",
            ValueKind::File => "file",
            ValueKind::Mark => "mark",
            ValueKind::Loss => "loss",
            ValueKind::Cursor => "cursor",
            ValueKind::Ids => "ids",
            ValueKind::OtherNodes => "other_nodes",
            ValueKind::Nodes => "nodes",
            ValueKind::User => "user",
            ValueKind::ActiveInput => "way",
            ValueKind::AuditSettings => "audit_settings",
            ValueKind::Ledger => "ledger",
        }
    }
}

pub(super) fn head(source: &str) -> Vec<u8> {
    format!("head {}", quoted(source)).into_bytes()
}

pub(super) fn file(source: &str, key: u32) -> Vec<u8> {
    format!("file {} {key:08x}", quoted(source)).into_bytes()
}

pub(super) fn mark(source: &str, sink: &str) -> Vec<u8> {
    format!("mark {} {}", quoted(source), quoted(sink)).into_bytes()
}

pub(super) fn loss(source: &str, number: u64) -> Vec<u8> {
    format!("loss {} {number:016x}", quoted(source)).into_bytes()
}

pub(super) fn cursor(source: &str) -> Vec<u8> {
    prefix(ValueKind::Cursor, source)
}

pub(super) fn other_nodes(source: &str) -> Vec<u8> {
    prefix(ValueKind::OtherNodes, source)
}

pub(super) fn nodes(source: &str) -> Vec<u8> {
    prefix(ValueKind::Nodes, source)
}

pub(super) fn user(source: &str) -> Vec<u8> {
    prefix(ValueKind::User, source)
}

pub(super) fn active_input(source: &str) -> Vec<u8> {
    prefix(ValueKind::ActiveInput, source)
}

pub(super) fn audit_settings(source: &str) -> Vec<u8> {
    prefix(ValueKind::AuditSettings, source)
}

pub(super) fn ledger(source: &str) -> Vec<u8> {
    prefix(ValueKind::Ledger, source)
}

/// Common prefix of all values of one kind of a source.
pub(super) fn prefix(kind: ValueKind, source: &str) -> Vec<u8> {
    format!("{} {} ", kind.name(), quoted(source)).into_bytes()
}

/// Kind and source of a key; `None` for one that this release does not write.
pub(super) fn parse(key: &[u8]) -> Option<(ValueKind, String)> {
    if key == META {
        return Some((ValueKind::Meta, String::new()));
    }
    let text = std::str::from_utf8(key).ok()?;
    let (kind, rest) = text.split_once(' ')?;
    let mut kinds = [ValueKind::Head].into_iter().chain(ValueKind::OF_A_SOURCE);
    let kind = kinds.find(|known| known.name() == kind)?;
    let source = serde_json::Deserializer::from_str(rest).into_iter::<String>().next()?.ok()?;
    Some((kind, source))
}

fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        for name in ["wiki", "", "a b", "quote\"", "\0", "wiki\" 00", "Ümlaut"] {
            for (kind, key) in [
                (ValueKind::Head, head(name)),
                (ValueKind::File, file(name, 42)),
                (ValueKind::Mark, mark(name, "the \"sink\"")),
                (ValueKind::Loss, loss(name, 7)),
                (ValueKind::Cursor, cursor(name)),
                (ValueKind::Ids, [prefix(ValueKind::Ids, name), b"0000002a".to_vec()].concat()),
                (ValueKind::OtherNodes, other_nodes(name)),
                (ValueKind::Nodes, nodes(name)),
                (ValueKind::User, user(name)),
                (ValueKind::ActiveInput, active_input(name)),
                (ValueKind::AuditSettings, audit_settings(name)),
                (ValueKind::Ledger, ledger(name)),
            ] {
                assert_eq!(parse(&key), Some((kind, name.to_owned())));
            }
        }
        assert!(!file("wiki 2", 1).starts_with(&prefix(ValueKind::File, "wiki")));
        assert_eq!(parse(b"window \"wiki\""), None);
        assert_eq!(parse(&[0xff]), None);
    }
}
