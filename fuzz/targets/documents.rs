//! `convert` cuts its input into the same documents whatever each read returns, and loses no byte of a line.

use super::documents::{Document, each_document};
use crate::fuzz::input::{InParts, Input};
use std::io;

type Found = (u64, Vec<u8>);

pub(crate) fn documents(data: &[u8]) {
    let mut input = Input(data);
    let part_bytes = 1 + usize::from(input.byte());
    let text = input.0;
    let whole = found(text, usize::MAX);
    assert_eq!(found(text, part_bytes).as_ref().ok(), whole.as_ref().ok());
    let Ok(whole) = whole else {
        // Compressed, and damaged.
        assert!(text.starts_with(&[0x1f, 0x8b]));
        return;
    };
    if text.starts_with(&[0x1f, 0x8b]) {
        return;
    }
    let mut covered = vec![false; text.len()];
    for (offset, document) in whole {
        let at = offset as usize;
        for (byte, is_covered) in document.iter().zip(&mut covered[at..at + document.len()]) {
            assert!(!*is_covered || *byte == b'\n', "twice: {}", document.escape_ascii());
            *is_covered = true;
        }
        // Line ends within a document are LF, and blank lines are.
        let original = &text[at..at + document.len()];
        let is_alike =
            |(read, byte): (&u8, &u8)| read == byte || (*read == b'\n' && byte.is_ascii_whitespace());
        assert!(document.iter().zip(original).all(is_alike), "{}", document.escape_ascii());
    }
    let rest = text.iter().zip(&covered).filter(|(_, is_covered)| !**is_covered).map(|(byte, _)| *byte);
    let rest: Vec<u8> = rest.collect();
    let rest = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&rest);
    assert!(rest.iter().all(|byte| byte.is_ascii_whitespace()), "lost: {}", rest.escape_ascii());
}

fn found(text: &[u8], part_bytes: usize) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let size = each_document(InParts { from: text, part_bytes }, |document| {
        match document {
            Document::Whole(document, offset) => found.push((offset, document.to_vec())),
            // Only its beginning is kept; it has no other bytes than a line and NUL.
            Document::Malformed { prefix, offset, bytes, .. } => {
                let mut document = prefix.to_vec();
                document.resize(bytes as usize, 0);
                found.push((offset, document));
            }
            Document::TooLong(_) => {}
        }
        io::Result::Ok(())
    })?;
    assert!(text.starts_with(&[0x1f, 0x8b]) || size == text.len() as u64);
    Ok(found)
}
