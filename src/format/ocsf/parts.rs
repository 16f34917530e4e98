//! Who, from where, and on what: the attributes that differ from class to class.

use std::borrow::Cow;

use super::super::escape::escape;
use super::super::out::{Object, Out};
use super::super::users::{self, Group, Person, Users, Value};
use super::{Activity, Class};
use crate::record::walk::for_each_element;
use crate::record::{Record, Shape, Text, Token, address, object};

/// What a required attribute says when the record does not.
const UNKNOWN: Value<'static> = Cow::Borrowed("Unknown");

/// A chain of proxies is short.
const ADDRESSES_MAX: usize = 64;

/// The parts of one event.
pub struct Parts<'r, 'a> {
    record: &'r Record<'a>,
    host: Option<&'r str>,
    users: Users<'a>,
    author: Person<'a>,
    /// The taxonomy's, but what is granted to a group is group management.
    pub activity: Activity,
}

/// An object that something was done to.
struct Thing<'a> {
    kind: Option<Text<'a>>,
    name: Option<Text<'a>>,
    id: Option<Text<'a>>,
    uri: Option<Text<'a>>,
}

impl Thing<'_> {
    fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|own| own.is(kind))
    }
}

impl<'r, 'a> Parts<'r, 'a> {
    pub fn of(record: &'r Record<'a>, activity: Activity, host: Option<&'r str>) -> Self {
        let author = &record.author;
        let mut parts = Parts {
            record,
            host,
            users: Users::of(record),
            author: Person {
                id: users::value(author.id),
                name: super::super::login::login(author.uri),
                full_name: users::value(author.name),
                email: None,
            },
            activity,
        };
        if activity.0 == Class::UserAccess
            && parts.grantee("User").is_none()
            && parts.grantee("Group").is_some()
        {
            parts.activity.0 = Class::Group;
        }
        parts
    }

    pub fn write(&self, out: &mut Out) {
        let record = self.record;
        out.put(",\"actor\":{\"user\":");
        person(&self.author, self.author_type(), out);
        out.put("}");
        match self.activity.0 {
            Class::Authentication => {
                out.put(",\"service\":{\"name\":\"Confluence\"},\"user\":");
                // Who logs in is the affected user; the author is often nobody yet.
                let is_author = self.users.user.id == self.author.id;
                let kind = if is_author {
                    self.author_type()
                } else {
                    (1, "User")
                };
                person(&self.users.user, kind, out);
                self.dst_endpoint(out);
            }
            Class::Account => {
                out.put(",\"user\":");
                person(&self.affected_user(), (1, "User"), out);
                if self.users.changes != Person::default() {
                    out.put(",\"user_result\":");
                    person(&self.users.changes, (1, "User"), out);
                }
            }
            Class::Group => self.group(out),
            Class::UserAccess => {
                out.put(",\"user\":");
                person(&self.affected_user(), (1, "User"), out);
                self.privileges(out);
                self.things(",\"resources\":[", false, |thing| !thing.is("User"), out);
            }
            Class::Entity => self.entity(out),
            Class::WebResources => {
                let any = self.things(",\"web_resources\":[", true, |_| true, out);
                if !any {
                    out.put(",\"web_resources\":[{\"name\":\"Confluence\"");
                    if let Some(url) = record.system.text() {
                        out.put(",\"url_string\":");
                        out.put_long(url.quoted());
                    }
                    out.put("}]");
                }
                self.dst_endpoint(out);
            }
            Class::Api => {
                out.put(",\"api\":{\"operation\":");
                let operation = record.stable_action().or(record.action.text());
                out.put_long(operation.map_or("\"Unknown\"", Text::quoted));
                out.put(",\"service\":{\"name\":\"Confluence\"}}");
                self.things(",\"resources\":[", false, |_| true, out);
                self.dst_endpoint(out);
            }
        }
        self.src_endpoint(out);
    }

    /// `type_id` of the author, and its caption.
    fn author_type(&self) -> (u64, &'static str) {
        let author = &self.record.author;
        match author.id.text() {
            Some(id) if id.is("-1") => (3, "System"),
            Some(id) if id.is("-2") => (0, "Unknown"),
            _ if self.record.sys_admin == Some(true) || self.record.super_admin == Some(true) => (2, "Admin"),
            None if author.name.is_missing() => (0, "Unknown"),
            _ => (1, "User"),
        }
    }

    fn for_each(&self, mut each: impl FnMut(Thing<'a>)) {
        let kind_name = match self.record.shape {
            Shape::Cloud => "objectType",
            Shape::File | Shape::Entity => "type",
        };
        for list in [self.record.affected_object, self.record.affected_objects] {
            for_each_element(list, |element| {
                let [kind, name, id, uri] =
                    object(element, [kind_name, "name", "id", "uri"]).map(Token::text);
                if name.is_some() || id.is_some() {
                    each(Thing { kind, name, id, uri });
                }
            });
        }
    }

    fn first(&self, which: impl Fn(&Thing) -> bool) -> Option<Thing<'a>> {
        let mut first = None;
        self.for_each(|thing| {
            if first.is_none() && which(&thing) {
                first = Some(thing);
            }
        });
        first
    }

    /// The user or group that an event is about, by object or by changed value.
    fn grantee(&self, kind: &str) -> Option<Thing<'a>> {
        self.first(|thing| thing.is(kind)).or_else(|| {
            let name = self.changed_value(kind)?;
            Some(Thing {
                kind: None,
                name: Some(name),
                id: None,
                uri: None,
            })
        })
    }

    /// What a value was changed to, or else from.
    fn changed_value(&self, wanted: &str) -> Option<Text<'a>> {
        let names = match self.record.shape {
            Shape::Cloud => ["name", "oldValue", "newValue"],
            Shape::File | Shape::Entity => ["i18nKey", "from", "to"],
        };
        let mut found = None;
        for_each_element(self.record.changed_values, |element| {
            let [key, from, to] = object(element, names).map(Token::text);
            if key.is_some_and(|key| key.is(wanted)) {
                found = found.or(to).or(from);
            }
        });
        found
    }

    fn affected_user(&self) -> Person<'a> {
        if self.users.target != Person::default() {
            return self.users.target.clone();
        }
        let user = self.grantee("User");
        let user = user.or_else(|| self.first(|thing| thing.kind.is_none()));
        user.map_or_else(Person::default, |user| Person {
            id: escaped(user.id),
            name: escaped(user.name),
            ..Person::default()
        })
    }

    fn group(&self, out: &mut Out) {
        let known = [&self.users.target_group, &self.users.group]
            .into_iter()
            .find(|group| **group != Group::default());
        let group = known.cloned().unwrap_or_else(|| {
            let group = self.grantee("Group");
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
            if let Some(thing) = self.first(|thing| !thing.is("Group") && !thing.is("User")) {
                out.put(",\"resource\":");
                write_thing(&thing, false, out);
            }
        } else if self.users.target != Person::default() {
            out.put(",\"user\":");
            person(&self.users.target, (1, "User"), out);
        }
    }

    fn privileges(&self, out: &mut Out) {
        out.put(",\"privileges\":[");
        // Data Center calls it a type, Cloud a permission.
        let privilege = self
            .changed_value("Type")
            .or_else(|| self.changed_value("Permission"));
        out.put_long(privilege.map_or("\"Unknown\"", Text::quoted));
        out.put("]");
    }

    fn entity(&self, out: &mut Out) {
        let Some(thing) = self.first(|_| true) else {
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

    /// A list of objects; returns whether there is any.
    fn things(&self, open: &str, web: bool, which: impl Fn(&Thing) -> bool, out: &mut Out) -> bool {
        let mut any = false;
        self.for_each(|thing| {
            if which(&thing) {
                out.put(if any { "," } else { open });
                write_thing(&thing, web, out);
                out.room();
                any = true;
            }
        });
        if any {
            out.put("]");
        }
        any
    }

    fn dst_endpoint(&self, out: &mut Out) {
        if let Some(host) = self.host {
            out.put(",\"dst_endpoint\":{\"hostname\":\"");
            escape(host, &mut out.bytes);
            out.put("\",\"svc_name\":\"Confluence\"}");
        }
    }

    /// The remote address, and what can be looked for across events.
    fn src_endpoint(&self, out: &mut Out) {
        let source = self.record.source.text();
        let chain = source.map(Text::decoded);
        let mut addresses = chain
            .as_deref()
            .into_iter()
            .flat_map(address::addresses)
            .take(ADDRESSES_MAX);
        // A v4 address within v6 can be longer than the schema's 40 characters; written shortest it is not.
        let first = addresses.next().map(|(_, ip)| ip.to_string());
        match (&first, source) {
            (Some(ip), _) => {
                out.put(",\"src_endpoint\":{\"ip\":\"");
                out.put(ip);
                out.put("\"");
                for (at, (_, ip)) in addresses.enumerate() {
                    out.put(if at == 0 {
                        ",\"intermediate_ips\":[\""
                    } else {
                        ",\""
                    });
                    out.put(&ip.to_string());
                    out.put("\"");
                }
                out.put(if self.has_chain(chain.as_deref()) {
                    "]}"
                } else {
                    "}"
                });
            }
            (None, Some(source)) => {
                out.put(",\"src_endpoint\":{\"name\":");
                out.put_long(source.quoted());
                out.put("}");
            }
            (None, None) if self.activity.0 == Class::Api => {
                out.put(",\"src_endpoint\":{\"name\":\"Unknown\"}");
            }
            (None, None) => {}
        }
        self.observables(first.as_deref(), out);
    }

    fn has_chain(&self, chain: Option<&str>) -> bool {
        chain.is_some_and(|chain| address::addresses(chain).nth(1).is_some())
    }

    fn observables(&self, ip: Option<&str>, out: &mut Out) {
        let mut any = false;
        let mut begin = |what: &str, out: &mut Out| {
            out.put(if std::mem::replace(&mut any, true) {
                ","
            } else {
                ",\"observables\":["
            });
            out.put(what);
        };
        if let Some(ip) = ip {
            begin(
                "{\"name\":\"src_endpoint.ip\",\"type\":\"IP Address\",\"type_id\":2,\"value\":\"",
                out,
            );
            out.put(ip);
            out.put("\"}");
        }
        if let Some(login) = &self.author.name {
            begin(
                "{\"name\":\"actor.user.name\",\"type\":\"User Name\",\"type_id\":4,\"value\":",
                out,
            );
            string(login, out);
            out.put("}");
        }
        if let Some(id) = &self.author.id {
            begin(
                "{\"name\":\"actor.user.uid\",\"type\":\"User Object: uid\",\"type_id\":31,\"value\":",
                out,
            );
            string(id, out);
            out.put("}");
        }
        if any {
            out.put("]");
        }
    }
}

fn escaped(text: Option<Text>) -> Option<Value> {
    text.map(|text| Cow::Borrowed(text.escaped()))
}

fn string(value: &Value, out: &mut Out) {
    out.put("\"");
    out.put_long(value);
    out.put("\"");
}

/// A resource; one of the web has an address.
fn write_thing(thing: &Thing, web: bool, out: &mut Out) {
    let mut object = Object::new("{");
    for (key, text) in [
        (",\"name\":", thing.name),
        (",\"type\":", thing.kind),
        (",\"uid\":", thing.id),
        (",\"url_string\":", thing.uri.filter(|_| web)),
    ] {
        if let Some(text) = text {
            object.key(key, out);
            out.put_long(text.quoted());
        }
    }
    object.end(out);
}

/// A user, by name where one is known.
fn person(person: &Person, (type_id, kind): (u64, &str), out: &mut Out) {
    out.put("{\"type\":\"");
    out.put(kind);
    out.put("\",\"type_id\":");
    out.put_number(type_id);
    if let Some(email) = person.email.as_ref().filter(|email| is_email(email)) {
        out.put(",\"email_addr\":");
        string(email, out);
    }
    if let Some(full_name) = &person.full_name {
        out.put(",\"full_name\":");
        string(full_name, out);
    }
    let unnamed = person.id.is_none().then_some(&UNKNOWN);
    let name = person.name.as_ref().or(person.full_name.as_ref()).or(unnamed);
    if let Some(name) = name {
        out.put(",\"name\":");
        string(name, out);
    }
    if let Some(id) = &person.id {
        out.put(",\"uid\":");
        string(id, out);
    }
    out.put("}");
}

/// Whether the schema takes it for an address; others stand in `unmapped` only.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let Some((host, rest)) = domain.split_once('.') else {
        return false;
    };
    !local.is_empty()
        && local
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+,-./=?^_`{|}~".contains(&byte))
        && !host.is_empty()
        && host.bytes().all(plain)
        && !rest.is_empty()
        && rest.bytes().all(|byte| plain(byte) || byte == b'.')
}
