//! Keys in sled: a kind, the source's name as a JSON string, and what tells its values apart.
//!
//! `meta` · `head "wiki"` · `file "wiki" 0000002a` · `mark "wiki" "local"` · `loss "wiki" 0000000000000007` ·
//! `cursor "wiki" ` · `ids "wiki" 0000002a` · `other_nodes "wiki" ` · `nodes "wiki" ` · `user "wiki" ` ·
//! `way "wiki" ` · `coverage "wiki" `
//!
//! A JSON string ends at its quote, whatever is in the name, so no source's keys are the prefix of another's.

pub const META: &[u8] = b"meta";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Meta,
    Head,
    File,
    Mark,
    Loss,
    Cursor,
    Ids,
    OtherNodes,
    Nodes,
    User,
    Way,
    Coverage,
}

impl Kind {
    /// All that is remembered of a source beside its head.
    pub const OF_A_SOURCE: [Kind; 10] = [
        Kind::File,
        Kind::Mark,
        Kind::Loss,
        Kind::Cursor,
        Kind::Ids,
        Kind::OtherNodes,
        Kind::Nodes,
        Kind::User,
        Kind::Way,
        Kind::Coverage,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Meta => "meta",
            Kind::Head => "head",
            Kind::File => "file",
            Kind::Mark => "mark",
            Kind::Loss => "loss",
            Kind::Cursor => "cursor",
            Kind::Ids => "ids",
            Kind::OtherNodes => "other_nodes",
            Kind::Nodes => "nodes",
            Kind::User => "user",
            Kind::Way => "way",
            Kind::Coverage => "coverage",
        }
    }
}

pub fn head(source: &str) -> Vec<u8> {
    format!("head {}", quoted(source)).into_bytes()
}

pub fn file(source: &str, key: u32) -> Vec<u8> {
    format!("file {} {key:08x}", quoted(source)).into_bytes()
}

pub fn mark(source: &str, sink: &str) -> Vec<u8> {
    format!("mark {} {}", quoted(source), quoted(sink)).into_bytes()
}

pub fn loss(source: &str, number: u64) -> Vec<u8> {
    format!("loss {} {number:016x}", quoted(source)).into_bytes()
}

pub fn cursor(source: &str) -> Vec<u8> {
    prefix(Kind::Cursor, source)
}

pub fn other_nodes(source: &str) -> Vec<u8> {
    prefix(Kind::OtherNodes, source)
}

pub fn nodes(source: &str) -> Vec<u8> {
    prefix(Kind::Nodes, source)
}

pub fn user(source: &str) -> Vec<u8> {
    prefix(Kind::User, source)
}

pub fn way(source: &str) -> Vec<u8> {
    prefix(Kind::Way, source)
}

pub fn coverage(source: &str) -> Vec<u8> {
    prefix(Kind::Coverage, source)
}

pub fn ids(source: &str, key: u32) -> Vec<u8> {
    format!("ids {} {key:08x}", quoted(source)).into_bytes()
}

/// What all values of a kind of a source begin with.
pub fn prefix(kind: Kind, source: &str) -> Vec<u8> {
    format!("{} {} ", kind.name(), quoted(source)).into_bytes()
}

/// Kind and source of a key; `None` for one that this release does not write.
pub fn parse(key: &[u8]) -> Option<(Kind, String)> {
    if key == META {
        return Some((Kind::Meta, String::new()));
    }
    let text = std::str::from_utf8(key).ok()?;
    let (kind, rest) = text.split_once(' ')?;
    let mut kinds = [Kind::Head].into_iter().chain(Kind::OF_A_SOURCE);
    let kind = kinds.find(|known| known.name() == kind)?;
    let source = serde_json::Deserializer::from_str(rest)
        .into_iter::<String>()
        .next()?
        .ok()?;
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
                (Kind::Head, head(name)),
                (Kind::File, file(name, 42)),
                (Kind::Mark, mark(name, "the \"sink\"")),
                (Kind::Loss, loss(name, 7)),
                (Kind::Cursor, cursor(name)),
                (Kind::Ids, ids(name, 3)),
                (Kind::OtherNodes, other_nodes(name)),
                (Kind::Nodes, nodes(name)),
                (Kind::User, user(name)),
                (Kind::Way, way(name)),
                (Kind::Coverage, coverage(name)),
            ] {
                assert_eq!(parse(&key), Some((kind, name.to_owned())));
            }
        }
        assert!(!file("wiki 2", 1).starts_with(&prefix(Kind::File, "wiki")));
        assert_eq!(parse(b"window \"wiki\""), None);
        assert_eq!(parse(&[0xff]), None);
    }
}
