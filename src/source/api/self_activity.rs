//! Recognises the agent's own searches in the audit log: Data Center records every search. Pure.

use super::answer::is_anonymous;
use crate::position::AgentUser;
use crate::record::Record;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

const SEARCH: &str = "atlassian.audit.event.action.audit.search";

/// Keys of other users who search the audit log. More are not many; they are looked up again.
const OTHERS_MAX: usize = 1000;

/// What the APIs of a source learn, and its files need as well.
pub(crate) type SharedSelfActivity = Arc<Mutex<SelfActivity>>;

/// Who the agent is to Confluence.
#[derive(Default)]
pub struct SelfActivity {
    configured: Option<String>,
    /// In lower case, as Confluence compares names.
    user_name: Option<String>,
    /// The user key. Only rows of the API have it together with the name.
    user_key: Option<String>,
    others: HashSet<String>,
    /// The API has answered: who has no name by now will not get one.
    answered: bool,
    changed: bool,
}

/// By whom the audit log was searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchedBy {
    Agent,
    /// By another user, or it is no search.
    Other,
    /// The record names a key whose user is not known yet.
    Unknown,
}

impl SelfActivity {
    /// `configured` is the user of the configuration, `saved` what the checkpoint knows.
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

    /// From an `X-AUSERNAME` header, which is percent-encoded.
    pub fn learn(&mut self, header: Option<&str>) {
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

    /// The API has answered as it should.
    pub fn answered(&mut self) {
        self.answered = true;
    }

    pub fn asked(&mut self, record: &Record) -> bool {
        self.searched_by(record) == SearchedBy::Agent
    }

    /// By whom this search was made; learns from records that carry a name.
    pub fn searched_by(&mut self, record: &Record) -> SearchedBy {
        if !is_search(record) {
            return SearchedBy::Other;
        }
        let key = record.author.id.text().map(|id| id.decoded());
        // A key is one user's, by whatever name.
        if key.is_some() && key.as_deref() == self.user_key.as_deref() {
            return SearchedBy::Agent;
        }
        let uri = record.author.uri.text().map(|uri| uri.decoded());
        let name = uri.as_deref().and_then(user_name);
        match (name, &self.user_name) {
            (_, None) if self.answered => SearchedBy::Other,
            (Some(name), Some(own)) if name == *own => {
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

    /// No row has shown which user has this record's key: it counts as another's until one does.
    pub fn author_not_reported(&mut self, record: &Record) {
        let key = record.author.id.text().filter(|_| self.others.len() < OTHERS_MAX);
        if let Some(key) = key.map(|key| key.decoded().into_owned()) {
            self.others.insert(key);
        }
    }

    /// What the checkpoint has to learn since the last call.
    pub fn changes(&mut self) -> Option<AgentUser> {
        let name = self.user_name.clone().filter(|_| self.changed)?;
        self.changed = false;
        Some(AgentUser { configured: self.configured.clone(), name, key: self.user_key.clone()? })
    }
}

/// Whether a record says that the audit log was searched.
pub(crate) fn is_search(record: &Record) -> bool {
    record.action_key.text().is_some_and(|key| key.is(SEARCH))
}

/// The `username` that an author's link carries, however many `?` its base has.
fn user_name(uri: &str) -> Option<String> {
    let name = uri.rsplit(['?', '&']).find(|parameter| parameter.starts_with("username="))?;
    let (_, name) = url::form_urlencoded::parse(name.as_bytes()).next()?;
    Some(name.to_lowercase()).filter(|name| !name.is_empty())
}

fn decoded(text: &str) -> String {
    // A `+` in a header is a plus; in a form it would be a space.
    let text = text.replace('+', "%2B");
    url::form_urlencoded::parse(text.as_bytes()).next().map_or(String::new(), |(name, _)| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Parsed, Scratch, parse};

    fn asked(own: &mut SelfActivity, json: &str) -> bool {
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
        let mut own = SelfActivity::default();
        let search = |author: &str| entity(SEARCH, author);
        let mine =
            r#"{"id":"aa","name":"Auditor","uri":"https://wiki.example.com/user?a=b&username=Audit%40r"}"#;
        let theirs = r#"{"id":"bb","name":"Auditor","uri":"https://wiki.example.com/user?username=eve"}"#;
        assert!(!asked(&mut own, &search(mine)), "nobody is known yet");
        own.learn(Some("anonymous"));
        own.learn(Some("Anonymous "));
        own.learn(Some("audit%40R"));
        assert!(!asked(&mut own, &search(r#"{"id":"aa","name":"Auditor"}"#)));
        assert!(asked(&mut own, &search(mine)));
        assert!(!asked(&mut own, &search(theirs)));
        assert!(!asked(&mut own, &entity("other", mine)));
        // The key is enough once it is known.
        assert!(asked(&mut own, &search(r#"{"id":"aa","name":"Auditor"}"#)));
        assert!(!asked(&mut own, &search(r#"{"id":"bb","name":"Auditor"}"#)));
    }

    fn by(own: &mut SelfActivity, author: &str) -> SearchedBy {
        match parse(entity(SEARCH, author).as_bytes(), &mut Scratch::default()) {
            Parsed::Record(record) => own.searched_by(&record),
            Parsed::Unreadable { error, .. } => panic!("{error}"),
        }
    }

    const MINE: &str = r#"{"id":"aa","uri":"https://wiki.example.com/?x=1?username=auditor"}"#;
    const MINE_IN_A_FILE: &str = r#"{"id":"aa","name":"Auditor"}"#;
    const THEIRS: &str = r#"{"id":"bb","uri":"https://wiki.example.com/u?username=eve"}"#;
    const THEIRS_IN_A_FILE: &str = r#"{"id":"bb","name":"Auditor"}"#;

    /// A file names the key alone: whose it is shows with the first row that has a name as well, and is known from then
    /// on.
    #[test]
    fn f84_whose_key_it_is_is_learned_kept_and_not_guessed() {
        let mut own = SelfActivity::default();
        for author in [MINE, MINE_IN_A_FILE, THEIRS_IN_A_FILE] {
            assert_eq!(by(&mut own, author), SearchedBy::Unknown, "{author}");
        }
        own.learn(Some("Auditor"));
        own.answered();
        assert_eq!(by(&mut own, MINE_IN_A_FILE), SearchedBy::Unknown);
        assert_eq!(by(&mut own, MINE), SearchedBy::Agent);
        assert_eq!(by(&mut own, MINE_IN_A_FILE), SearchedBy::Agent);
        assert_eq!(by(&mut own, THEIRS_IN_A_FILE), SearchedBy::Unknown);
        assert_eq!(by(&mut own, THEIRS), SearchedBy::Other);
        assert_eq!(by(&mut own, THEIRS_IN_A_FILE), SearchedBy::Other);
        assert_eq!(by(&mut own, r#"{"id":"-2"}"#), SearchedBy::Other);
        let saved = own.changes();
        assert_eq!(own.changes(), None);
        // The next process knows it at once, also where a login name has another form than the user of the
        // configuration.
        let mut again = SelfActivity::new(None, saved.clone());
        assert_eq!(by(&mut again, MINE_IN_A_FILE), SearchedBy::Agent);
        // Another user in the configuration, or another user's token.
        let mut other = SelfActivity::new(Some("eve".into()), saved);
        assert_eq!(by(&mut other, MINE_IN_A_FILE), SearchedBy::Unknown);
        again.learn(Some("eve"));
        assert_eq!(by(&mut again, MINE_IN_A_FILE), SearchedBy::Unknown);
        assert_eq!(by(&mut again, THEIRS), SearchedBy::Agent);
    }

    /// A key of which no row tells the name is not asked for again and again, and is learned all the same if one does.
    #[test]
    fn f84_a_key_that_nobody_tells() {
        let mut own = SelfActivity::new(Some("auditor".into()), None);
        assert_eq!(by(&mut own, MINE_IN_A_FILE), SearchedBy::Unknown);
        match parse(entity(SEARCH, MINE_IN_A_FILE).as_bytes(), &mut Scratch::default()) {
            Parsed::Record(record) => own.author_not_reported(&record),
            Parsed::Unreadable { error, .. } => panic!("{error}"),
        }
        assert_eq!(by(&mut own, MINE_IN_A_FILE), SearchedBy::Other);
        assert_eq!(by(&mut own, MINE), SearchedBy::Agent);
        assert_eq!(by(&mut own, MINE_IN_A_FILE), SearchedBy::Agent);
    }

    /// Where the server never says who the agent is nothing is unknown for ever.
    #[test]
    fn f84_without_a_name_no_search_is_the_agents() {
        let mut own = SelfActivity::default();
        own.answered();
        for author in [MINE, MINE_IN_A_FILE] {
            assert_eq!(by(&mut own, author), SearchedBy::Other);
        }
        let mut own = SelfActivity::new(Some("Auditor".into()), None);
        assert_eq!(by(&mut own, MINE), SearchedBy::Agent);
    }
}
