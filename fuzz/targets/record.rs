//! Any line is a record or a line that cannot be read, and its event id is a function of what it means.

use super::readers::json;
use crate::record::{EventId, IdHasher, Parsed, Scratch, Shape, parse, without_blanks};

pub(super) fn record(line: &[u8]) {
    let mut scratch = Scratch::default();
    let mut ids = IdHasher::new(Some("wiki"));
    let parsed = parse(line, &mut scratch);
    let id = ids.id(&parsed);
    let Parsed::Record(record) = &parsed else {
        return;
    };
    assert_eq!(record.original, String::from_utf8_lossy(line));
    // Of repeated names the last is left, and nothing else that a strict reader refuses.
    let json = json::read(record.text).unwrap_or_else(|error| panic!("{error}: {}", record.text));
    let read = (id, Some(record.shape), record.time_ms);
    assert_eq!(again(&mut ids, record.text.as_bytes()), read, "without repeated names");
    assert_eq!(again(&mut ids, &without_blanks(line)), read, "without blanks");
    let mut reversed = String::new();
    json.write_reversed(&mut reversed);
    assert_eq!(again(&mut ids, reversed.as_bytes()), read, "{reversed}");
}

fn again(ids: &mut IdHasher, line: &[u8]) -> (EventId, Option<Shape>, Option<i64>) {
    let mut scratch = Scratch::default();
    let parsed = parse(line, &mut scratch);
    let id = ids.id(&parsed);
    match parsed {
        Parsed::Record(record) => (id, Some(record.shape), record.time_ms),
        Parsed::Unreadable { .. } => (id, None, None),
    }
}
