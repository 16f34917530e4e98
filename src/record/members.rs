//! The members of a record, deserialized without copying.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Token;

/// The known members of a record.
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
pub(super) enum Member {
    AffectedObject,
    AffectedObjects,
    AssociatedObjects,
    AuditType,
    Author,
    Category,
    ChangedValues,
    CreationDate,
    Description,
    #[serde(rename = "event_id")]
    EventId,
    ExtraAttributes,
    Method,
    Node,
    RemoteAddress,
    Source,
    Summary,
    SuperAdmin,
    SysAdmin,
    System,
    Timestamp,
    Type,
    #[serde(other)]
    Other,
}

/// The JSON of a record's members, indexed by [`Member`]. Of a repeated name the last value counts.
pub(super) struct RecordMembers<'a> {
    pub(super) values: [&'a str; Member::Other as usize + 1],
    /// A name may be repeated, here or in a value that is not examined otherwise.
    pub(super) may_repeat_names: bool,
}

impl<'a> RecordMembers<'a> {
    pub(super) fn token(&self, member: Member) -> Token<'a> {
        Token::new(self.values[member as usize])
    }

    /// Whether a member of another shape has nested content.
    pub(super) fn is_nested_foreign(&self, member: Member) -> bool {
        is_nested(self.values[member as usize])
    }
}

/// Whether the value may contain member names.
pub(super) fn is_nested(value: &str) -> bool {
    value.starts_with(['{', '[']) && value.len() > 2
}

impl Member {
    fn is_nested(self) -> bool {
        matches!(
            self,
            Member::AffectedObject
                | Member::AffectedObjects
                | Member::AssociatedObjects
                | Member::AuditType
                | Member::Author
                | Member::ChangedValues
                | Member::ExtraAttributes
                | Member::Timestamp
                | Member::Type
        )
    }
}

impl<'de> Deserialize<'de> for RecordMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RecordMembersVisitor;
        impl<'de> Visitor<'de> for RecordMembersVisitor {
            type Value = RecordMembers<'de>;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members =
                    RecordMembers { values: [""; Member::Other as usize + 1], may_repeat_names: false };
                while let Some(member) = map.next_key::<Member>()? {
                    let value = map.next_value::<&RawValue>()?.get();
                    let known = std::mem::replace(&mut members.values[member as usize], value);
                    members.may_repeat_names |=
                        !known.is_empty() || (is_nested(value) && !member.is_nested());
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(RecordMembersVisitor)
    }
}
