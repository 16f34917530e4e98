//! Recognises what the agent's own questions leave in the audit log: Data Center records every search. Pure.

use crate::record::Record;

const SEARCH: &str = "atlassian.audit.event.action.audit.search";

/// Who the agent is to Confluence.
#[derive(Default)]
pub struct Own {
    /// In lower case, as Confluence compares names.
    user_name: Option<String>,
    /// The user key, seen beside the name: only some records carry both.
    user_key: Option<String>,
}

impl Own {
    pub fn new(user_name: Option<String>) -> Own {
        Own {
            user_name: user_name.map(|name| name.to_lowercase()),
            user_key: None,
        }
    }

    /// From an `X-AUSERNAME` header, which is percent-encoded.
    pub fn learn(&mut self, header: Option<&str>) {
        if let Some(name) = header.filter(|name| !name.is_empty() && *name != "anonymous") {
            self.user_name = Some(decoded(name).to_lowercase());
        }
    }

    pub fn asked(&mut self, record: &Record) -> bool {
        if !record.action_key.text().is_some_and(|key| key.is(SEARCH)) {
            return false;
        }
        let key = record.author.id.text().map(|id| id.decoded());
        let uri = record.author.uri.text().map(|uri| uri.decoded());
        let name = uri.as_deref().and_then(user_name);
        if name.is_some() && name == self.user_name {
            self.user_key = key.map(|key| key.into_owned());
            return true;
        }
        name.is_none() && key.is_some() && key.as_deref() == self.user_key.as_deref()
    }
}

/// The `username` that an author's link carries.
fn user_name(uri: &str) -> Option<String> {
    let (_, query) = uri.split_once('?')?;
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(key, _)| key == "username")
        .map(|(_, name)| name.to_lowercase())
}

fn decoded(text: &str) -> String {
    // A `+` in a header is a plus; in a form it would be a space.
    let text = text.replace('+', "%2B");
    url::form_urlencoded::parse(text.as_bytes())
        .next()
        .map_or(String::new(), |(name, _)| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Parsed, Scratch, parse};

    fn asked(own: &mut Own, json: &str) -> bool {
        match parse(json.as_bytes(), &mut Scratch::default()) {
            Parsed::Record(record) => own.asked(&record),
            Parsed::Unreadable { error, .. } => panic!("{error}"),
        }
    }

    fn entity(action: &str, author: &str) -> String {
        format!(
            r#"{{"timestamp":"2026-01-01T00:00:00Z","author":{author},"type":{{"action":"x","actionI18nKey":"{action}"}},"affectedObjects":[],"changedValues":[],"extraAttributes":[],"system":"https://wiki.example.com"}}"#
        )
    }

    #[test]
    fn f74_own_searches_are_told_from_those_of_others() {
        let mut own = Own::default();
        let search = |author: &str| entity(SEARCH, author);
        let mine =
            r#"{"id":"aa","name":"Auditor","uri":"https://wiki.example.com/user?a=b&username=Audit%40r"}"#;
        let theirs = r#"{"id":"bb","name":"Auditor","uri":"https://wiki.example.com/user?username=eve"}"#;
        assert!(!asked(&mut own, &search(mine)), "nobody is known yet");
        own.learn(Some("anonymous"));
        own.learn(Some("audit%40R"));
        assert!(!asked(&mut own, &search(r#"{"id":"aa","name":"Auditor"}"#)));
        assert!(asked(&mut own, &search(mine)));
        assert!(!asked(&mut own, &search(theirs)));
        assert!(!asked(&mut own, &entity("other", mine)));
        // The key is enough once it is known.
        assert!(asked(&mut own, &search(r#"{"id":"aa","name":"Auditor"}"#)));
        assert!(!asked(&mut own, &search(r#"{"id":"bb","name":"Auditor"}"#)));
    }
}
