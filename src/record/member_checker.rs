//! Checks the types of a record's members and records what is wrong.

use super::json;
use super::json_cursor::JsonCursor;
use super::members::is_nested;
use super::{MemberProblem, Token};

/// Reads members and reports those with a wrong type.
pub(super) struct MemberChecker<'p> {
    pub(super) problems: &'p mut Vec<MemberProblem>,
    /// A member name may be repeated in an object.
    pub(super) may_repeat_names: bool,
}

impl MemberChecker<'_> {
    fn report(&mut self, member: &str, problem: &'static str) {
        self.problems.push(MemberProblem { member: member.to_owned(), problem });
    }

    /// The token is kept even if it is not a text: the event id uses the digits of a number.
    pub(super) fn text<'a>(&mut self, token: Token<'a>, member: &str) -> Token<'a> {
        if !token.is_missing() && token.text().is_none() {
            self.report(member, "is not a text");
        }
        token
    }

    pub(super) fn boolean(&mut self, token: Token, member: &str) -> Option<bool> {
        let boolean = token.boolean();
        if !token.is_missing() && boolean.is_none() {
            self.report(member, "is not true or false");
        }
        boolean
    }

    /// The members of an object with these names. Of a repeated name the last value counts.
    pub(super) fn members<'a, const N: usize>(&mut self, raw: &'a str, names: [&str; N]) -> [Token<'a>; N] {
        let mut values = [""; N];
        let mut others = 0;
        if raw.starts_with('{') {
            let mut cursor = JsonCursor::new(raw);
            cursor.enter();
            while cursor.more() {
                let key = cursor.key();
                let value = cursor.value();
                self.may_repeat_names |= is_nested(value);
                match names.iter().position(|name| *name == key) {
                    Some(at) => {
                        self.may_repeat_names |= !values[at].is_empty();
                        values[at] = value;
                    }
                    None => others += 1,
                }
            }
        } else {
            self.may_repeat_names |= is_nested(raw);
        }
        self.may_repeat_names |= others > 1;
        values.map(Token::new)
    }

    pub(super) fn object<'a>(&mut self, token: Token<'a>, member: &str) -> Token<'a> {
        if token.is_missing() || token.is_object() {
            return token;
        }
        self.report(member, "is not an object");
        Token::MISSING
    }

    pub(super) fn list<'a>(&mut self, token: Token<'a>, member: &str) -> Token<'a> {
        if token.is_missing() || token.is_list() {
            return token;
        }
        self.report(member, "is not a list");
        Token::MISSING
    }

    pub(super) fn time(&mut self, time_ms: Option<i64>, token: Token, member: &str) {
        if time_ms.is_none() {
            self.report(member, if token.is_missing() { "is missing" } else { "is no time" });
        }
    }

    /// Cloud's lists are mapped member by member, so each of these members must be a text.
    pub(super) fn elements(&mut self, list: Token, names: &[&str], member: &str) {
        let mut is_wrong = [false; 2];
        let mut not_object = false;
        json::for_each_element(list, |element| {
            not_object |= !element.is_object();
            for (at, name) in names.iter().enumerate() {
                let [value] = json::object(element, [name]);
                is_wrong[at] |= !value.is_missing() && value.text().is_none();
            }
        });
        if not_object {
            self.report(member, "holds something that is not an object");
        }
        for (name, is_wrong) in names.iter().zip(is_wrong) {
            if is_wrong {
                self.report(&format!("{member}.{name}"), "is not a text");
            }
        }
    }
}
