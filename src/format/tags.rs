//! The field `tags`: the configured tags, and one for special events.

use super::{Context, Event, Origin};

pub(super) const FORWARDED: &str = "forwarded";
const TAG: &str = "confluence-audit";

/// The additional tag of an event, by [`own_tag`].
pub(super) const OWN_TAGS: [Option<&str>; 3] = [None, Some("unterminated"), Some("self_poll")];

/// No additional tag.
pub(super) const PLAIN: usize = 0;
/// The last line of a file, which ended without a line end.
const UNTERMINATED: usize = 1;
/// Caused by the agent's own request to the audit API.
const SELF_POLL: usize = 2;

/// The index of the event's tag in [`OWN_TAGS`].
pub(super) fn own_tag(event: &Event) -> usize {
    match event.origin {
        Origin::File { unterminated: true, .. } => UNTERMINATED,
        _ if event.self_poll => SELF_POLL,
        _ => PLAIN,
    }
}

/// The tags of all Data Center events.
pub(super) fn data_center(context: &Context) -> Vec<String> {
    configured(context, &[TAG])
}

/// The tags of all Cloud events.
pub(super) fn cloud(context: &Context) -> Vec<String> {
    configured(context, &[FORWARDED, TAG])
}

fn configured(context: &Context, default: &[&str]) -> Vec<String> {
    match &context.tags {
        Some(tags) => tags.clone(),
        None => default.iter().map(|tag| (*tag).to_owned()).collect(),
    }
}
