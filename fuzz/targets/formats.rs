//! Whatever a record holds, its event in each format is one line that a strict reader reads, with its id and, where the
//! format carries it, the record as it was.

use super::input::Input;
use super::readers::{cef, is_line_end, json};
use crate::format::{Agent, Context, Event, EventBuffer, Format, FormatKind, Origin};
use crate::record::{EventId, IdHasher, Scratch, parse};
use std::sync::LazyLock;

/// Of the source that a choice names.
static FORMATS: LazyLock<[[Format; FormatKind::ALL.len()]; 3]> = LazyLock::new(|| {
    let hostile = "a=b|c\\d\"e\n\u{2028}f";
    [
        all_of(context(None, None)),
        all_of(context(Some(vec!["one".to_owned(), hostile.to_owned()]), Some("wiki"))),
        all_of(Context { preserve_original_event: false, ..context(None, Some(hostile)) }),
    ]
});

fn all_of(context: Context) -> [Format; FormatKind::ALL.len()] {
    FormatKind::ALL.map(|kind| Format::new(kind, &context))
}

fn context(tags: Option<Vec<String>>, site: Option<&str>) -> Context {
    Context {
        tags,
        namespace: "default".to_owned(),
        site: site.map(str::to_owned),
        agent: Agent {
            id: "a".to_owned(),
            ephemeral_id: "b".to_owned(),
            name: "c".to_owned(),
            version: "0.1.0".to_owned(),
        },
        host: None,
        cloud: None,
        geo: None,
        preserve_original_event: true,
    }
}

pub(super) fn formats_of(source: usize) -> &'static [Format; FormatKind::ALL.len()] {
    &FORMATS[source % FORMATS.len()]
}

pub(super) fn formats(data: &[u8]) {
    let mut input = Input(data);
    let source = input.below(3);
    let place = input.byte();
    let line = input.0;
    let origin = match place % 3 {
        0 => Origin::Api,
        kind => {
            Origin::File { path_json: r#""/a\u0022b""#, offset: u64::from(place), unterminated: kind == 1 }
        }
    };
    for (kind, format) in FormatKind::ALL.into_iter().zip(formats_of(source)) {
        let (id, event) = written(format, line, origin, place > 128);
        let text = std::str::from_utf8(&event).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        // A record may have tabs between its members, and `raw` leaves them.
        let control = text.chars().find(|c| *c < ' ' && (kind != FormatKind::Raw || *c != '\t'));
        assert_eq!(control, None, "{kind:?}: {text}");
        let (found, original) = read(kind, text);
        assert_eq!(found, id.to_string(), "{kind:?}: {text}");
        assert_eq!(FormatKind::Ecs.id_of(&event), Some(id), "{kind:?}: {text}");
        if source < 2 && matches!(kind, FormatKind::Ecs | FormatKind::Ocsf) {
            assert_eq!(original.as_deref(), Some(&*String::from_utf8_lossy(line)), "{kind:?}: {text}");
        }
    }
}

/// The event of a line, and its id.
pub(super) fn written(format: &Format, line: &[u8], origin: Origin, self_poll: bool) -> (EventId, Vec<u8>) {
    let mut scratch = Scratch::default();
    let content = &parse(line, &mut scratch);
    let id = IdHasher::new(None).id(content);
    let mut out = EventBuffer::new();
    format.write(&Event { content, id, origin, self_poll, read_at_ms: 1_767_323_045_678 }, &mut out);
    (id, out.bytes)
}

/// The id and the original that an event carries.
fn read(kind: FormatKind, text: &str) -> (String, Option<String>) {
    let wrong = |error: String| -> ! { panic!("{kind:?}: {error}: {text}") };
    if kind == FormatKind::Cef {
        assert!(!text.contains(is_line_end), "{text}");
        let pairs = cef::read(text).unwrap_or_else(|error| wrong(error));
        return (pairs.last().map(|(_, value)| value.clone()).unwrap_or_default(), None);
    }
    let event = json::read(text).unwrap_or_else(|error| wrong(error));
    let text_at = |path: &[&str]| {
        let found = path.iter().try_fold(&event, |json, name| json.get(name));
        found.and_then(json::Json::text).map(str::to_owned)
    };
    let (id, original): (&[&str], &[&str]) = match kind {
        FormatKind::Ecs => (&["event", "id"], &["event", "original"]),
        FormatKind::Raw => (&["event_id"], &[]),
        FormatKind::Sentinel => (&["EventId"], &[]),
        FormatKind::Ocsf | FormatKind::Cef => (&["metadata", "uid"], &["raw_data"]),
    };
    (text_at(id).unwrap_or_default(), text_at(original))
}
