//! A detection rule of a file, and what becomes of it on a server.

use serde_json::Value;

/// What an installation did to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Updated,
    Unchanged,
    /// Somebody edited it.
    Kept,
}

impl Change {
    /// By the digest that an existing object carries.
    pub(super) fn of(existing: Option<&str>, digest: &str) -> Change {
        match existing {
            None => Change::Kept,
            Some(existing) if existing == digest => Change::Unchanged,
            Some(_) => Change::Updated,
        }
    }
}

/// A detection rule of Kibana or a monitor of OpenSearch.
pub(super) struct Rule {
    pub name: String,
    pub document: Value,
    /// Identifies the content. The server keeps it with the rule.
    pub digest: String,
}

impl Rule {
    pub(super) fn new(document: Value) -> Option<Rule> {
        let name = document["name"].as_str()?.to_owned();
        let digest = digest(&[document.to_string()]);
        Some(Rule { name, document, digest })
    }
}

pub(super) fn digest(texts: &[String]) -> String {
    blake3::hash(texts.concat().as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_is_replaced_by_another_edition_and_not_where_it_was_edited() {
        let rule = Rule::new(json!({"name": "a", "query": "x"})).unwrap();
        let other = Rule::new(json!({"name": "a", "query": "y"})).unwrap();
        assert_eq!(Change::of(Some(&rule.digest), &rule.digest), Change::Unchanged);
        assert_eq!(Change::of(Some(&other.digest), &rule.digest), Change::Updated);
        assert_eq!(Change::of(None, &rule.digest), Change::Kept);
        assert!(Rule::new(json!({"query": "x"})).is_none());
    }
}
