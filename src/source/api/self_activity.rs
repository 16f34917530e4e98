//! Recognises the agent's own searches in the audit log: Data Center records every search. Pure.

use super::response::is_anonymous;
use crate::position::AgentUser;
use crate::record::Record;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

const SEARCH: &str = "atlassian.audit.event.action.audit.search";

/// How many keys of other users are kept. Beyond this, they are looked up each time.
const OTHERS_MAX: usize = 1000;

/// Shared by the APIs of a source, which learn it, and its files.
pub(crate) type SharedSelfActivity = Arc<Mutex<SelfActivity>>;

/// The agent's user in Confluence, to recognise its searches.
#[derive(Default)]
pub struct SelfActivity {
    configured: Option<String>,
    /// In lower case, because Confluence ignores case in names.
    user_name: Option<String>,
    /// The user key. Files contain only the key; API rows contain key and name.
    user_key: Option<String>,
    others: HashSet<String>,
    /// The API has responded: if the name is still unknown, it will stay unknown.
    has_response: bool,
    changed: bool,
}

/// Who searched the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchedBy {
    Agent,
    /// Another user, or it is not a search.
    Other,
    /// The record has a key whose user is not known yet.
    Unknown,
}

impl SelfActivity {
    /// `configured`: the user in the configuration. `saved`: what the checkpoint has stored.
    pub fn new(configured: Option<String>, saved: Option<AgentUser>) -> SelfActivity {
        let saved = saved.filter(|saved| saved.configured == configured);
        let (name, key) = saved.map(|saved| (saved.name, saved.key)).unzip();
        SelfActivity {
            user_name: name.or_else(|| configured.as_deref().map(str::to_lowercase)),
            user_key: key,
            configured,
            ..SelfActivity::default()
        }
    }

    /// Learns the name from an `X-AUSERNAME` header, which is percent-encoded.
    pub fn learn_user_name(&mut self, header: Option<&str>) {
        let Some(name) = header.filter(|name| !name.trim().is_empty() && !is_anonymous(name)) else {
            return;
        };
        let name = decoded(name).to_lowercase();
        if self.user_name.as_ref() != Some(&name) {
            self.user_name = Some(name);
            self.user_key = None;
            self.others.clear();
        }
    }

    /// The API has responded successfully.
    pub fn response_received(&mut self) {
        self.has_response = true;
    }

    /// Whether the record is a search by the agent.
    pub fn is_own_search(&mut self, record: &Record) -> bool {
        self.searched_by(record) == SearchedBy::Agent
    }

    /// Who made this search. Learns keys from records that contain a name.
    pub fn searched_by(&mut self, record: &Record) -> SearchedBy {
        if !is_search(record) {
            return SearchedBy::Other;
        }
        let key = record.author.id.text().map(|id| id.decoded());
        // A key identifies one user, also after a rename.
        if key.is_some() && key.as_deref() == self.user_key.as_deref() {
            return SearchedBy::Agent;
        }
        let uri = record.author.uri.text().map(|uri| uri.decoded());
        let name = uri.as_deref().and_then(user_name);
        match (name, &self.user_name) {
            (_, None) if self.has_response => SearchedBy::Other,
            (Some(name), Some(activity)) if name == *activity => {
                if let Some(key) = key {
                    self.others.remove(&*key);
                    self.user_key = Some(key.into_owned());
                    self.changed = true;
                }
                SearchedBy::Agent
            }
            (Some(_), Some(_)) => {
                if let Some(key) = key.filter(|_| self.others.len() < OTHERS_MAX) {
                    self.others.insert(key.into_owned());
                }
                SearchedBy::Other
            }
            (Some(_), None) => SearchedBy::Unknown,
            (None, _) => match key {
                Some(key) if !self.others.contains(&*key) && !key.starts_with('-') => SearchedBy::Unknown,
                _ => SearchedBy::Other,
            },
        }
    }

    /// No row contained the name for this record's key. It counts as another user's until one does.
    pub fn author_not_found(&mut self, record: &Record) {
        let key = record.author.id.text().filter(|_| self.others.len() < OTHERS_MAX);
        if let Some(key) = key.map(|key| key.decoded().into_owned()) {
            self.others.insert(key);
        }
    }

    /// The changes since the last call, for the checkpoint.
    pub fn take_changes(&mut self) -> Option<AgentUser> {
        let name = self.user_name.clone().filter(|_| self.changed)?;
        self.changed = false;
        Some(AgentUser { configured: self.configured.clone(), name, key: self.user_key.clone()? })
    }
}

/// Whether a record is a search of the audit log.
pub(crate) fn is_search(record: &Record) -> bool {
    record.action_key.text().is_some_and(|key| key.is(SEARCH))
}

/// The `username` parameter of an author's link, even if its base contains `?` as well.
fn user_name(uri: &str) -> Option<String> {
    let name = uri.rsplit(['?', '&']).find(|parameter| parameter.starts_with("username="))?;
    let (_, name) = url::form_urlencoded::parse(name.as_bytes()).next()?;
    Some(name.to_lowercase()).filter(|name| !name.is_empty())
}

fn decoded(text: &str) -> String {
    // In a header `+` is a plus sign; the form decoder would make it a space.
    let text = text.replace('+', "%2B");
    url::form_urlencoded::parse(text.as_bytes()).next().map_or(String::new(), |(name, _)| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Parsed, Scratch, parse};

    fn is_own_search(activity: &mut SelfActivity, json: &str) -> bool {
        match parse(json.as_bytes(), &mut Scratch::default()) {
            Parsed::Record(record) => activity.is_own_search(&record),
            Parsed::Unreadable { error, .. } => panic!("{error}"),
        }
    }

    fn entity(action: &str, author: &str) -> String {
        format!(
            r#"{{"timestamp":"2026-01-01T00:00:00Z","author":{author},"type":{{"action":"x","actionI18nKey":"{action}"}},"affectedObjects":[],"changedValues":[],"extraAttributes":[],"system":"https://wiki.example.com"}}"#
        )
    }

    #[test]
    fn f74_own_searches_are_distinguished_from_others() {
        let mut activity = SelfActivity::default();
        let search = |author: &str| entity(SEARCH, author);
        let mine =
            r#"{"id":"aa","name":"Auditor","uri":"https://wiki.example.com/user?a=b&username=Audit%40r"}"#;
        let theirs = r#"{"id":"bb","name":"Auditor","uri":"https://wiki.example.com/user?username=eve"}"#;
        assert!(!is_own_search(&mut activity, &search(mine)), "the user is not known yet");
        activity.learn_user_name(Some("audit%40R"));
        for nobody in ["anonymous", "Anonymous ", ""] {
            activity.learn_user_name(Some(nobody));
        }
        assert!(!is_own_search(&mut activity, &search(r#"{"id":"aa","name":"Auditor"}"#)));
        assert!(is_own_search(&mut activity, &search(mine)));
        assert!(!is_own_search(&mut activity, &search(theirs)));
        assert!(!is_own_search(&mut activity, &entity("other", mine)));
        // The key is enough once it is known.
        assert!(is_own_search(&mut activity, &search(r#"{"id":"aa","name":"Auditor"}"#)));
        assert!(!is_own_search(&mut activity, &search(r#"{"id":"bb","name":"Auditor"}"#)));
    }

    fn by(activity: &mut SelfActivity, author: &str) -> SearchedBy {
        match parse(entity(SEARCH, author).as_bytes(), &mut Scratch::default()) {
            Parsed::Record(record) => activity.searched_by(&record),
            Parsed::Unreadable { error, .. } => panic!("{error}"),
        }
    }

    const MINE: &str = r#"{"id":"aa","uri":"https://wiki.example.com/?x=1?username=auditor"}"#;
    const MINE_IN_A_FILE: &str = r#"{"id":"aa","name":"Auditor"}"#;
    const THEIRS: &str = r#"{"id":"bb","uri":"https://wiki.example.com/u?username=eve"}"#;
    const THEIRS_IN_A_FILE: &str = r#"{"id":"bb","name":"Auditor"}"#;

    /// A file contains only the key. The first row with key and name tells the user, from then on.
    #[test]
    fn f84_the_user_of_a_key_is_learned_and_stored_and_not_guessed() {
        let mut activity = SelfActivity::default();
        for author in [MINE, MINE_IN_A_FILE, THEIRS_IN_A_FILE] {
            assert_eq!(by(&mut activity, author), SearchedBy::Unknown, "{author}");
        }
        activity.learn_user_name(Some("Auditor"));
        activity.response_received();
        assert_eq!(by(&mut activity, MINE_IN_A_FILE), SearchedBy::Unknown);
        assert_eq!(by(&mut activity, MINE), SearchedBy::Agent);
        assert_eq!(by(&mut activity, MINE_IN_A_FILE), SearchedBy::Agent);
        assert_eq!(by(&mut activity, THEIRS_IN_A_FILE), SearchedBy::Unknown);
        assert_eq!(by(&mut activity, THEIRS), SearchedBy::Other);
        assert_eq!(by(&mut activity, THEIRS_IN_A_FILE), SearchedBy::Other);
        assert_eq!(by(&mut activity, r#"{"id":"-2"}"#), SearchedBy::Other);
        let saved = activity.take_changes();
        assert_eq!(activity.take_changes(), None);
        // The next process knows it at once, also if the login name differs from the configured user.
        let mut again = SelfActivity::new(None, saved.clone());
        assert_eq!(by(&mut again, MINE_IN_A_FILE), SearchedBy::Agent);
        // Another user in the configuration, or another user's token.
        let mut other = SelfActivity::new(Some("eve".into()), saved);
        assert_eq!(by(&mut other, MINE_IN_A_FILE), SearchedBy::Unknown);
        again.learn_user_name(Some("eve"));
        assert_eq!(by(&mut again, MINE_IN_A_FILE), SearchedBy::Unknown);
        assert_eq!(by(&mut again, THEIRS), SearchedBy::Agent);
    }

    /// A key without a name in any row is not looked up repeatedly, and is still learned from a later row.
    #[test]
    fn f84_a_key_without_a_known_name() {
        let mut activity = SelfActivity::new(Some("auditor".into()), None);
        assert_eq!(by(&mut activity, MINE_IN_A_FILE), SearchedBy::Unknown);
        match parse(entity(SEARCH, MINE_IN_A_FILE).as_bytes(), &mut Scratch::default()) {
            Parsed::Record(record) => activity.author_not_found(&record),
            Parsed::Unreadable { error, .. } => panic!("{error}"),
        }
        assert_eq!(by(&mut activity, MINE_IN_A_FILE), SearchedBy::Other);
        assert_eq!(by(&mut activity, MINE), SearchedBy::Agent);
        assert_eq!(by(&mut activity, MINE_IN_A_FILE), SearchedBy::Agent);
    }

    /// If the server never returns the agent's name, no search stays unknown.
    #[test]
    fn f84_without_a_name_no_search_is_the_agents() {
        let mut activity = SelfActivity::default();
        activity.response_received();
        for author in [MINE, MINE_IN_A_FILE] {
            assert_eq!(by(&mut activity, author), SearchedBy::Other);
        }
        let mut activity = SelfActivity::new(Some("Auditor".into()), None);
        assert_eq!(by(&mut activity, MINE), SearchedBy::Agent);
    }
}
