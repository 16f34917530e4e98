//! An export is cut into the same items whatever each read returns, and each item is what is at its place.

use super::event::Recogniser;
use super::frame::Items;
use crate::fuzz::input::{InParts, Input};

#[derive(Debug, PartialEq)]
struct Cut {
    offset: u64,
    length: usize,
    line: u64,
    element: Option<u64>,
    is_cut: bool,
}

pub(crate) fn export(data: &[u8]) {
    let mut input = Input(data);
    let part_bytes = 1 + usize::from(input.byte());
    let export = input.0;
    let whole = items(export, usize::MAX);
    assert_eq!(items(export, part_bytes), whole);
    let mut end = 0;
    for cut in &whole {
        // Items follow each other, and between them is only what lists are made of.
        assert!(cut.offset >= end, "{whole:?}");
        end = cut.offset + cut.length as u64;
    }
    assert!(end <= export.len() as u64);
    let mut recogniser = Recogniser::new(Some("wiki"));
    for cut in &whole {
        let item = &export[cut.offset as usize..][..cut.length];
        let _ = recogniser.recognise(item);
    }
}

fn items(export: &[u8], part_bytes: usize) -> Vec<Cut> {
    let mut items = Items::new(InParts { from: export, part_bytes });
    let mut cuts = Vec::new();
    while let Some(item) = items.next().unwrap_or_else(|error| panic!("{error}")) {
        assert_eq!(item.bytes, &export[item.offset as usize..][..item.bytes.len()]);
        let before = &export[..item.offset as usize];
        assert_eq!(item.line, 1 + memchr::memchr_iter(b'\n', before).count() as u64);
        cuts.push(Cut {
            offset: item.offset,
            length: item.bytes.len(),
            line: item.line,
            element: item.element,
            is_cut: item.is_cut,
        });
        assert!(cuts.len() <= export.len() + 1, "no end");
    }
    cuts
}
