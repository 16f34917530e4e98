//! The attributes that differ by class: users, groups, endpoints and resources.

use std::borrow::Cow;

use super::super::affected;
use super::super::buffer::EventBuffer;
use super::super::escape::EscapedText;
use super::super::event_kind::{Activity, EventKind};
use super::super::login::login;
use super::super::users::{self, GroupFields, Person, Users};
use super::person::{self, ADMIN, SYSTEM, UNKNOWN, UNKNOWN_USER, USER, UserType, string};
use super::{ActionClass, endpoints, resources};
use crate::record::{Record, Shape, Text};

/// The class dependent attributes of one event.
pub(super) struct ClassAttributes<'r, 'a> {
    record: &'r Record<'a>,
    host: Option<&'r str>,
    users: Users<'a>,
    author: Person<'a>,
    /// From the taxonomy, but a permission that is granted to a group is group management.
    pub activity: Activity,
    categories: &'static [&'static str],
}

impl<'r, 'a> ClassAttributes<'r, 'a> {
    pub(super) fn of(record: &'r Record<'a>, kind: &EventKind, host: Option<&'r str>) -> Self {
        let author = &record.author;
        let mut attributes = ClassAttributes {
            record,
            host,
            users: Users::of(record),
            author: Person {
                id: users::value(author.id),
                name: login(author.uri),
                full_name: users::value(author.name),
                email: None,
            },
            activity: kind.activity,
            categories: kind.categories,
        };
        if attributes.activity.0 == ActionClass::UserAccess
            && affected::grantee(record, "User").is_none()
            && affected::grantee(record, "Group").is_some()
        {
            attributes.activity.0 = ActionClass::Group;
        }
        attributes
    }

    pub(super) fn write(&self, out: &mut EventBuffer) {
        let record = self.record;
        out.put(",\"actor\":{\"user\":");
        person::write(&self.author, self.author_type(), out);
        out.put("}");
        match self.activity.0 {
            ActionClass::Authentication => {
                out.put(",\"service\":{\"name\":\"Confluence\"},\"user\":");
                // The user who logs in is the affected user. The author is often anonymous at that time.
                let is_author = self.users.user.id == self.author.id;
                let kind = if is_author { self.author_type() } else { USER };
                person::write(&self.users.user, kind, out);
                endpoints::write_destination(self.host, out);
            }
            ActionClass::Account => {
                out.put(",\"user\":");
                person::write(&self.affected_user(), USER, out);
                if self.users.changes != Person::default() {
                    out.put(",\"user_result\":");
                    person::write(&self.users.changes, USER, out);
                }
            }
            ActionClass::Group => self.group(out),
            ActionClass::UserAccess => {
                out.put(",\"user\":");
                let user = self.affected_user();
                person::write(&user, self.grantee_type(&user), out);
                self.privileges(out);
                resources::list(record, ",\"resources\":[", false, |object| !object.is("User"), out);
            }
            ActionClass::Entity => self.entity(out),
            ActionClass::WebResources => {
                let has_resources = resources::list(record, ",\"web_resources\":[", true, |_| true, out);
                if !has_resources {
                    out.put(",\"web_resources\":[{\"name\":\"Confluence\"");
                    if let Some(url) = record.system.text() {
                        out.put(",\"url_string\":");
                        out.put_long(url.quoted());
                    }
                    out.put("}]");
                }
                endpoints::write_destination(self.host, out);
            }
            ActionClass::Api => {
                out.put(",\"api\":{\"operation\":");
                let operation = record.stable_action().or(record.action.text());
                out.put_long(operation.map_or("\"Unknown\"", Text::quoted));
                out.put(",\"service\":{\"name\":\"Confluence\"}}");
                resources::list(record, ",\"resources\":[", false, |_| true, out);
                endpoints::write_destination(self.host, out);
            }
        }
        let required = self.activity.0 == ActionClass::Api;
        endpoints::write_source(record, &self.author, required, out);
    }

    /// `type_id` of the author, and its caption.
    fn author_type(&self) -> UserType {
        let author = &self.record.author;
        match author.id.text() {
            Some(id) if id.is("-1") => SYSTEM,
            Some(id) if id.is("-2") => UNKNOWN_USER,
            None if author.name.is_missing() => UNKNOWN_USER,
            // Actions of Cloud itself have no account.
            None if author.name.text().is_some_and(|name| name.is("System")) => SYSTEM,
            _ if self.record.sys_admin == Some(true) || self.record.super_admin == Some(true) => ADMIN,
            _ => USER,
        }
    }

    fn affected_user(&self) -> Person<'a> {
        let target = self.users.target_of(self.record, self.categories);
        target.unwrap_or_else(|| {
            let user = affected::grantee(self.record, "User");
            let user = user.or_else(|| affected::first(self.record, |object| object.kind.is_none()));
            user.map_or_else(Person::default, |user| Person::of(&user))
        })
    }

    /// The type of the user who gets a permission. A permission for everybody has a name only: on Data Center
    /// in the language of the site.
    fn grantee_type(&self, user: &Person) -> UserType {
        match user.id.as_deref() {
            Some("-1") => SYSTEM,
            Some("-2") => UNKNOWN_USER,
            Some(_) => USER,
            None if self.record.shape != Shape::Cloud && user.name.is_none() => UNKNOWN_USER,
            None => match user.full_name.as_deref() {
                None => UNKNOWN_USER,
                Some(name) if name.eq_ignore_ascii_case("anonymous") => UNKNOWN_USER,
                Some(_) => USER,
            },
        }
    }

    fn group(&self, out: &mut EventBuffer) {
        let group_of_record = [&self.users.target_group, &self.users.group]
            .into_iter()
            .find(|group| **group != GroupFields::default());
        let group = group_of_record.cloned().unwrap_or_else(|| {
            let group = affected::grantee(self.record, "Group");
            group.map_or_else(GroupFields::default, |group| {
                users::split_group(escaped(group.name), escaped(group.id))
            })
        });
        out.put(",\"group\":{\"name\":");
        // A group without a known name is written with its id as name.
        string(group.name.as_ref().or(group.id.as_ref()).unwrap_or(&UNKNOWN), out);
        if let Some(id) = &group.id {
            out.put(",\"uid\":");
            string(id, out);
        }
        out.put("}");
        if matches!(self.activity.1, 1 | 2) {
            self.privileges(out);
            if let Some(object) =
                affected::first(self.record, |object| !object.is("Group") && !object.is("User"))
            {
                out.put(",\"resource\":");
                resources::write(&object, false, out);
            }
        } else if self.users.target != Person::default() {
            out.put(",\"user\":");
            person::write(&self.users.target, USER, out);
        }
    }

    fn privileges(&self, out: &mut EventBuffer) {
        out.put(",\"privileges\":[");
        // Data Center has it as `Type`, Cloud as `Permission`.
        let privilege = affected::changed_value(self.record, "Type")
            .or_else(|| affected::changed_value(self.record, "Permission"));
        out.put_long(privilege.map_or("\"Unknown\"", Text::quoted));
        out.put("]");
    }

    fn entity(&self, out: &mut EventBuffer) {
        let Some(object) = affected::first(self.record, |_| true) else {
            // Settings belong to the whole site.
            out.put(",\"entity\":{\"name\":\"Confluence\",\"type\":\"Site\",\"type_id\":99}");
            return;
        };
        out.put(",\"entity\":{\"name\":");
        out.put_long(object.name.or(object.id).map_or("\"Unknown\"", Text::quoted));
        if let Some(id) = object.id {
            out.put(",\"uid\":");
            out.put_long(id.quoted());
        }
        match object.kind {
            Some(kind) if kind.is("User") => out.put(",\"type\":\"User\",\"type_id\":2}"),
            Some(kind) if kind.is("Group") => out.put(",\"type\":\"Group\",\"type_id\":3}"),
            Some(kind) => {
                out.put(",\"type\":");
                out.put_long(kind.quoted());
                out.put(",\"type_id\":99}");
            }
            None => out.put(",\"type\":\"Unknown\",\"type_id\":0}"),
        }
    }
}

fn escaped(text: Option<Text>) -> Option<EscapedText> {
    text.map(|text| Cow::Borrowed(text.escaped()))
}
