//! Who, from where, and on what: the attributes that differ from class to class.

use std::borrow::Cow;

use super::super::affected;
use super::super::login::login;
use super::super::out::Out;
use super::super::taxonomy::{Activity, Kind as ActionKind};
use super::super::users::{self, Group, Person, Users, Value};
use super::person::{self, ADMIN, Kind, NOBODY, SYSTEM, UNKNOWN, USER, string};
use super::{ActionClass, endpoints, things};
use crate::record::{Record, Shape, Text};

/// The parts of one event.
pub struct Parts<'r, 'a> {
    record: &'r Record<'a>,
    host: Option<&'r str>,
    users: Users<'a>,
    author: Person<'a>,
    /// The taxonomy's, but what is granted to a group is group management.
    pub activity: Activity,
    categories: &'static [&'static str],
}

impl<'r, 'a> Parts<'r, 'a> {
    pub fn of(record: &'r Record<'a>, kind: &ActionKind, host: Option<&'r str>) -> Self {
        let author = &record.author;
        let mut parts = Parts {
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
        if parts.activity.0 == ActionClass::UserAccess
            && affected::grantee(record, "User").is_none()
            && affected::grantee(record, "Group").is_some()
        {
            parts.activity.0 = ActionClass::Group;
        }
        parts
    }

    pub fn write(&self, out: &mut Out) {
        let record = self.record;
        out.put(",\"actor\":{\"user\":");
        person::write(&self.author, self.author_type(), out);
        out.put("}");
        match self.activity.0 {
            ActionClass::Authentication => {
                out.put(",\"service\":{\"name\":\"Confluence\"},\"user\":");
                // Who logs in is the affected user; the author is often nobody yet.
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
                things::list(record, ",\"resources\":[", false, |thing| !thing.is("User"), out);
            }
            ActionClass::Entity => self.entity(out),
            ActionClass::WebResources => {
                let any = things::list(record, ",\"web_resources\":[", true, |_| true, out);
                if !any {
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
                things::list(record, ",\"resources\":[", false, |_| true, out);
                endpoints::write_destination(self.host, out);
            }
        }
        let required = self.activity.0 == ActionClass::Api;
        endpoints::write_source(record, &self.author, required, out);
    }

    /// `type_id` of the author, and its caption.
    fn author_type(&self) -> Kind {
        let author = &self.record.author;
        match author.id.text() {
            Some(id) if id.is("-1") => SYSTEM,
            Some(id) if id.is("-2") => NOBODY,
            None if author.name.is_missing() => NOBODY,
            // What Cloud does by itself has no account.
            None if author.name.text().is_some_and(|name| name.is("System")) => SYSTEM,
            _ if self.record.sys_admin == Some(true) || self.record.super_admin == Some(true) => ADMIN,
            _ => USER,
        }
    }

    fn affected_user(&self) -> Person<'a> {
        let target = affected::target(self.record, &self.users, self.categories);
        target.unwrap_or_else(|| {
            let user = affected::grantee(self.record, "User");
            let user = user.or_else(|| affected::first(self.record, |thing| thing.kind.is_none()));
            user.map_or_else(Person::default, |user| user.person())
        })
    }

    /// Whom a permission is given to. What is given to everybody has a name and nothing else: on Data Center in the
    /// site's language.
    fn grantee_type(&self, user: &Person) -> Kind {
        match user.id.as_deref() {
            Some("-1") => SYSTEM,
            Some("-2") => NOBODY,
            Some(_) => USER,
            None if self.record.shape != Shape::Cloud && user.name.is_none() => NOBODY,
            None => match user.full_name.as_deref() {
                None => NOBODY,
                Some(name) if name.eq_ignore_ascii_case("anonymous") => NOBODY,
                Some(_) => USER,
            },
        }
    }

    fn group(&self, out: &mut Out) {
        let known = [&self.users.target_group, &self.users.group]
            .into_iter()
            .find(|group| **group != Group::default());
        let group = known.cloned().unwrap_or_else(|| {
            let group = affected::grantee(self.record, "Group");
            group.map_or_else(Group::default, |group| {
                users::split_group(escaped(group.name), escaped(group.id))
            })
        });
        out.put(",\"group\":{\"name\":");
        // A group of which only the id is known is named by it.
        string(group.name.as_ref().or(group.id.as_ref()).unwrap_or(&UNKNOWN), out);
        if let Some(id) = &group.id {
            out.put(",\"uid\":");
            string(id, out);
        }
        out.put("}");
        if matches!(self.activity.1, 1 | 2) {
            self.privileges(out);
            if let Some(thing) = affected::first(self.record, |thing| !thing.is("Group") && !thing.is("User"))
            {
                out.put(",\"resource\":");
                things::write(&thing, false, out);
            }
        } else if self.users.target != Person::default() {
            out.put(",\"user\":");
            person::write(&self.users.target, USER, out);
        }
    }

    fn privileges(&self, out: &mut Out) {
        out.put(",\"privileges\":[");
        // Data Center calls it a type, Cloud a permission.
        let privilege = affected::changed_value(self.record, "Type")
            .or_else(|| affected::changed_value(self.record, "Permission"));
        out.put_long(privilege.map_or("\"Unknown\"", Text::quoted));
        out.put("]");
    }

    fn entity(&self, out: &mut Out) {
        let Some(thing) = affected::first(self.record, |_| true) else {
            // Settings belong to the site as a whole.
            out.put(",\"entity\":{\"name\":\"Confluence\",\"type\":\"Site\",\"type_id\":99}");
            return;
        };
        out.put(",\"entity\":{\"name\":");
        out.put_long(thing.name.or(thing.id).map_or("\"Unknown\"", Text::quoted));
        if let Some(id) = thing.id {
            out.put(",\"uid\":");
            out.put_long(id.quoted());
        }
        match thing.kind {
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

fn escaped(text: Option<Text>) -> Option<Value> {
    text.map(|text| Cow::Borrowed(text.escaped()))
}
