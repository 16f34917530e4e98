//! The user who acted, and the users and groups that an event is about.

use std::borrow::Cow;

use super::action_words::{ActionWords, Verb};
use super::affected::{self, AffectedObject};
use super::escape::{EscapedText, escaped};
use super::event_kind::IAM_CONFIGURATION;
use super::login::{login, login_of};
use super::taxonomy;
use crate::record::json::for_each_element;
use crate::record::token::{decoded, has_escape};
use crate::record::{Record, Shape, Text, Token, object};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Person<'a> {
    pub id: Option<EscapedText<'a>>,
    pub name: Option<EscapedText<'a>>,
    pub full_name: Option<EscapedText<'a>>,
    pub email: Option<EscapedText<'a>>,
}

impl<'a> Person<'a> {
    /// An object that is a user. Its login name is a parameter of its URI.
    pub(super) fn of(object: &AffectedObject<'a>) -> Self {
        Person {
            id: object.id.map(|id| Cow::Borrowed(id.escaped())),
            name: object.uri.and_then(login_of),
            full_name: object.name.map(|name| Cow::Borrowed(name.escaped())),
            email: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupFields<'a> {
    pub id: Option<EscapedText<'a>>,
    pub name: Option<EscapedText<'a>>,
}

/// The fields `user.*` and `group.*` of ECS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Users<'a> {
    pub user: Person<'a>,
    pub target: Person<'a>,
    pub target_group: GroupFields<'a>,
    pub changes: Person<'a>,
    pub group: GroupFields<'a>,
    /// The renamed user, from the affected object. ECS takes only the names, from the changed values.
    pub renamed: Person<'a>,
}

/// What an action does to users and groups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UserAction {
    Group,
    Membership,
    /// Created or updated: the changed values contain more.
    UserEdited,
    User,
    Renamed,
    Login,
}

fn action(name: &str, is_auth: bool) -> Option<UserAction> {
    Some(match name.strip_prefix("audit.logging.summary.").unwrap_or(name) {
        "group.created" | "group.deleted" | "Group created" | "Group deleted" => UserAction::Group,
        "group.membership.added" | "group.membership.removed" => UserAction::Membership,
        "User added to group" | "User removed from group" => UserAction::Membership,
        "user.created" | "user.updated" | "User created" | "User details updated" => UserAction::UserEdited,
        "user.deleted" | "User deleted" | "User deactivated" | "user.password.changed" => UserAction::User,
        "user.renamed" | "User renamed" => UserAction::Renamed,
        "login.success" | "login.failed" => UserAction::Login,
        _ if taxonomy::is_listed(name) => return None,
        _ => return by_rule(name, is_auth),
    })
}

/// Classifies an action without an entry above. The user of any action on a user is its target.
fn by_rule(name: &str, is_auth: bool) -> Option<UserAction> {
    let words = ActionWords::of(name);
    let is_group = words.has_noun("group groups") && !words.has_preposition;
    match words.verb {
        // A failure in this category is a failed login.
        None if words.succeeded == Some(false) && is_auth => Some(UserAction::Login),
        None if words.succeeded.is_none() => None,
        Some(Verb::LogIn) => Some(UserAction::Login),
        Some(Verb::Create | Verb::Delete) if words.is_membership(name) => Some(UserAction::Membership),
        Some(_) if is_group => Some(UserAction::Group),
        Some(Verb::Create | Verb::Update) => Some(UserAction::UserEdited),
        _ => Some(UserAction::User),
    }
}

impl<'a> Users<'a> {
    pub(super) fn of(record: &Record<'a>) -> Self {
        let author = &record.author;
        let mut users = Users {
            user: Person {
                id: value(author.id),
                name: login(author.uri),
                full_name: value(author.name),
                email: None,
            },
            ..Users::default()
        };
        if !is_about_users(record) {
            return users;
        }
        let Some(name) = record.stable_action().map(Text::decoded) else {
            return users;
        };
        let category_key = record.category_key.text();
        let is_auth = category_key.is_some_and(|key| key.is("audit.logging.category.auth"));
        let action = action(&name, is_auth);
        let cloud = record.shape == Shape::Cloud;
        for list in [record.affected_objects, record.affected_object] {
            for_each_element(list, |element| {
                let kind = if cloud { "objectType" } else { "type" };
                let [kind, id, name, uri] = object(element, [kind, "id", "name", "uri"]);
                match kind.text() {
                    Some(kind) if kind.is("Group") => users.affected_group(action, cloud, id, name),
                    Some(kind) if kind.is("User") => users.affected_user(action, id, name, uri),
                    _ => {}
                }
            });
        }
        for_each_element(record.changed_values, |element| {
            let names = if cloud { ["name", "oldValue", "newValue"] } else { ["i18nKey", "from", "to"] };
            let [key, from, to] = object(element, names);
            if let Some(key) = key.text() {
                users.changed_value(action, &key.decoded(), value(from), value(to));
            }
        });
        users
    }

    fn affected_group(&mut self, action: Option<UserAction>, cloud: bool, id: Token<'a>, name: Token<'a>) {
        let name = value(name);
        if cloud && let Some((group, account)) = name.as_ref().and_then(removed_member) {
            self.target_group = GroupFields { id: Some(group), name: None };
            self.target.id = Some(account);
            return;
        }
        let group = split_group(name, value(id));
        match action {
            Some(UserAction::Group) => self.group = group,
            Some(UserAction::Membership) => self.target_group = group,
            _ => {}
        }
    }

    fn affected_user(&mut self, action: Option<UserAction>, id: Token<'a>, name: Token<'a>, uri: Token<'a>) {
        match action {
            Some(UserAction::UserEdited | UserAction::User) => {
                self.target.id = value(id);
                self.target.full_name = value(name);
                self.target.name = login(uri);
            }
            Some(UserAction::Membership) => {
                self.target.id = value(id);
                self.target.name = value(name);
            }
            Some(UserAction::Login) => {
                self.user.id = value(id);
                self.user.full_name = value(name);
                if let Some(login) = login(uri) {
                    self.user.name = Some(login);
                }
            }
            Some(UserAction::Renamed) => {
                self.renamed =
                    Person { id: value(id), name: login(uri), full_name: value(name), email: None };
            }
            _ => {}
        }
    }

    fn changed_value(
        &mut self,
        action: Option<UserAction>,
        key: &str,
        from: Option<EscapedText<'a>>,
        to: Option<EscapedText<'a>>,
    ) {
        let (changes, target) = match (action, key) {
            (Some(UserAction::Renamed), "audit.logging.changed.value.username") => {
                self.changes.name = to;
                self.target.name = from;
                return;
            }
            (Some(UserAction::UserEdited), "Username") => (&mut self.changes.name, &mut self.target.name),
            (Some(UserAction::UserEdited), "Email") => (&mut self.changes.email, &mut self.target.email),
            (Some(UserAction::UserEdited), "Display name") => {
                (&mut self.changes.full_name, &mut self.target.full_name)
            }
            _ => return,
        };
        *target = from.or_else(|| to.clone());
        *changes = to;
    }

    /// The user who is the target of the event. ECS has it for events about users only; a permission has one too.
    pub(super) fn target_of(&self, record: &Record<'a>, categories: &[&str]) -> Option<Person<'a>> {
        let (mut target, renamed) = (self.target.clone(), &self.renamed);
        target.id = target.id.or_else(|| renamed.id.clone());
        target.full_name = target.full_name.or_else(|| renamed.full_name.clone());
        target.name = target.name.or_else(|| renamed.name.clone());
        if target != Person::default() {
            return Some(target);
        }
        let is_about_permissions = categories == IAM_CONFIGURATION;
        let user = is_about_permissions.then(|| affected::grantee(record, "User"))??;
        Some(Person::of(&user))
    }

    /// The distinct login names of user, target and changes, in this order.
    pub(super) fn names(&self) -> impl Iterator<Item = &EscapedText<'a>> {
        let names = [&self.user.name, &self.target.name, &self.changes.name].map(Option::as_ref);
        (0..names.len()).filter_map(move |at| {
            let name = names[at]?;
            let seen = names[..at].iter().flatten().any(|other| decoded(other) == decoded(name));
            (!seen).then_some(name)
        })
    }
}

fn is_about_users(record: &Record) -> bool {
    let key = record.category_key.text();
    key.is_some_and(|key| {
        key.is("audit.logging.category.user.management")
            || key.is("audit.logging.category.auth")
            || key.is("audit.logging.category.security")
    }) || record.category.text().is_some_and(|text| text.is("Users and groups"))
}

pub(super) fn value(token: Token) -> Option<EscapedText> {
    token.text().map(|text| Cow::Borrowed(text.escaped()))
}

/// Splits `<uuid>; User: <accountId>`, Cloud's name for the group that a member was removed from.
fn removed_member<'a>(name: &EscapedText<'a>) -> Option<(EscapedText<'a>, EscapedText<'a>)> {
    let (group, account) = if let Cow::Borrowed(escaped) = name
        && !has_escape(escaped)
    {
        let (group, account) = escaped.split_once("; User: ")?;
        (Cow::Borrowed(group), Cow::Borrowed(account))
    } else {
        let name = decoded(name);
        let (group, account) = name.split_once("; User: ")?;
        (escaped(group), escaped(account))
    };
    (is_uuid(&group) && !account.is_empty()).then_some((group, account))
}

/// Splits a trailing `:<uuid>` off a group's name. Without one, the id of the object is used.
pub(super) fn split_group<'a>(name: Option<EscapedText<'a>>, id: Option<EscapedText<'a>>) -> GroupFields<'a> {
    let Some(name) = name else {
        return GroupFields { id, name: None };
    };
    let split = match &name {
        Cow::Borrowed(plain) if !has_escape(plain) => plain
            .rsplit_once(':')
            .filter(|(_, id)| is_uuid(id))
            .map(|(name, id)| (Cow::Borrowed(name), Cow::Borrowed(id))),
        other => decoded(other)
            .rsplit_once(':')
            .filter(|(_, id)| is_uuid(id))
            .map(|(name, id)| (escaped(name), escaped(id))),
    };
    match split {
        Some((name, id)) => GroupFields { id: Some(id), name: Some(name).filter(|name| !name.is_empty()) },
        None => GroupFields { id, name: Some(name) },
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_names() {
        const ID: &str = "12e51e32-77EE-45ef-a643-55d4c7f6327c";
        let split = |name: &str| {
            let GroupFields { id, name } = split_group(Some(Cow::Borrowed(name)), None);
            (name.map(Cow::into_owned), id.map(Cow::into_owned))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(split(&format!("Ops: A & B:{ID}")), (some("Ops: A & B"), some(ID)));
        assert_eq!(split(&format!("\\\"Ops\\\":{ID}")), (some("\\\"Ops\\\""), some(ID)));
        assert_eq!(split(&format!("Ops\\u003a{ID}")), (some("Ops"), some(ID)));
        assert_eq!(split(&format!(":{ID}")), (None, some(ID)));
        assert_eq!(split("Ops:12e51e32"), (some("Ops:12e51e32"), None));
    }
}
