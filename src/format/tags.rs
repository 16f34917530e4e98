//! `tags`: what was configured, and what the agent has to say of an event.

use super::{Context, Event, Origin};

pub const FORWARDED: &str = "forwarded";
const TAG: &str = "confluence-audit";

/// What an event's own tag may be, by [`own_tag`].
pub const OWN_TAGS: [Option<&str>; 3] = [None, Some("unterminated"), Some("self_poll")];

/// It has none.
pub const PLAIN: usize = 0;
/// The rest of a file that ended within a line.
const UNTERMINATED: usize = 1;
/// Made by the agent's own question to the audit API.
const SELF_POLL: usize = 2;

/// Which of [`OWN_TAGS`] an event has.
pub fn own_tag(item: &Event) -> usize {
    match item.origin {
        Origin::File {
            unterminated: true, ..
        } => UNTERMINATED,
        _ if item.self_poll => SELF_POLL,
        _ => PLAIN,
    }
}

/// The tags of all events of Data Center.
pub fn data_center(context: &Context) -> Vec<String> {
    configured(context, &[TAG])
}

/// The tags of all events of Cloud.
pub fn cloud(context: &Context) -> Vec<String> {
    configured(context, &[FORWARDED, TAG])
}

fn configured(context: &Context, default: &[&str]) -> Vec<String> {
    match &context.tags {
        Some(tags) => tags.clone(),
        None => default.iter().map(|tag| (*tag).to_owned()).collect(),
    }
}
