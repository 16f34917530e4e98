//! Cuts an export into items: lines, or the elements of the list that a server's answer holds. Only one item is in
//! memory.

use crate::record::scan::string_end;
use std::io::{self, Read};

/// How much is read at once.
const BLOCK_BYTES: usize = 256 << 10;
/// Longest item. An event of a record of 16 MiB fits.
const ITEM_BYTES_MAX: usize = 64 << 20;

/// A piece of an export.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    pub bytes: &'a [u8],
    /// The line that it begins in, from 1.
    pub line: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// It is an element of a list; its number in the file, from 1.
    pub element: Option<u64>,
    /// The export ends in the middle of it.
    pub is_cut: bool,
}

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    Top,
    /// In a list, inside so many objects.
    List {
        objects: usize,
    },
    /// After a list, inside so many objects.
    Rest {
        objects: usize,
    },
}

/// Where an item ends in the buffer.
enum Found {
    Item {
        end: usize,
    },
    /// A list begins after so many bytes.
    List {
        at: usize,
        objects: usize,
    },
    NeedMore,
}

pub(super) struct Items<R> {
    from: R,
    buffer: Vec<u8>,
    /// Offset of the buffer.
    offset: u64,
    start: usize,
    context: Context,
    line: u64,
    elements: u64,
    ended: bool,
    /// It is compressed, and its end is missing.
    is_truncated: bool,
}

impl<R: Read> Items<R> {
    pub(super) fn new(from: R) -> Items<R> {
        Items {
            from,
            buffer: Vec::new(),
            offset: 0,
            start: 0,
            context: Context::Top,
            line: 1,
            elements: 0,
            ended: false,
            is_truncated: false,
        }
    }

    /// The next item; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Item<'_>>> {
        let (end, next) = loop {
            self.skip_separators();
            let rest = &self.buffer[self.start..];
            if rest.is_empty() && self.ended && self.context == Context::Top {
                return Ok(std::mem::take(&mut self.is_truncated).then(|| self.cut()));
            }
            match self.context {
                Context::Rest { objects } => match closed(rest, objects) {
                    (consumed, 0) => {
                        self.consume(consumed);
                        self.context = Context::Top;
                    }
                    (consumed, objects) => {
                        self.consume(consumed);
                        self.context = Context::Rest { objects };
                        if !self.fill()? {
                            return Ok(Some(self.cut()));
                        }
                    }
                },
                Context::List { objects } if rest.first() == Some(&b']') => {
                    self.consume(1);
                    self.context = if objects == 0 { Context::Top } else { Context::Rest { objects } };
                }
                context => match self.find(context) {
                    Found::Item { end } => break (self.start + end, context),
                    Found::List { at, objects } => {
                        self.consume(at);
                        self.context = Context::List { objects };
                    }
                    Found::NeedMore => {
                        if !self.fill()? {
                            if self.start == self.buffer.len() && context == Context::Top {
                                continue;
                            }
                            return Ok(Some(self.cut()));
                        }
                    }
                },
            }
        };
        let (start, line) = (self.start, self.line);
        self.consume(end - start);
        let element = matches!(next, Context::List { .. }).then(|| {
            self.elements += 1;
            self.elements
        });
        let offset = self.offset + start as u64;
        Ok(Some(Item { bytes: &self.buffer[start..end], line, offset, element, is_cut: false }))
    }

    /// What is left when the export ends in the middle of an item.
    fn cut(&mut self) -> Item<'_> {
        let start = self.start;
        let line = self.line;
        self.start = self.buffer.len();
        (self.context, self.is_truncated) = (Context::Top, false);
        let offset = self.offset + start as u64;
        Item { bytes: &self.buffer[start..], line, offset, element: None, is_cut: true }
    }

    fn skip_separators(&mut self) {
        let is_list = matches!(self.context, Context::List { .. });
        let rest = &self.buffer[self.start..];
        let blank = |byte: &u8| byte.is_ascii_whitespace() || (*byte == b',' && is_list);
        let count = rest.iter().take_while(|byte| blank(byte)).count();
        self.consume(count);
    }

    fn consume(&mut self, count: usize) {
        let consumed = &self.buffer[self.start..self.start + count];
        self.line += memchr::memchr_iter(b'\n', consumed).count() as u64;
        self.start += count;
    }

    /// Reads more. `false`: there is no more.
    fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.buffer.drain(..self.start);
        self.offset += self.start as u64;
        self.start = 0;
        if self.buffer.len() > ITEM_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {}: longer than {} MiB without an end", self.line, ITEM_BYTES_MAX >> 20),
            ));
        }
        // An item that is not complete is looked at again from its beginning: twice as much each time.
        let (have, more) = (self.buffer.len(), self.buffer.len().max(BLOCK_BYTES));
        self.buffer.resize(have + more, 0);
        let mut filled = have;
        while filled < self.buffer.len() {
            match self.from.read(&mut self.buffer[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    (self.ended, self.is_truncated) = (true, true);
                    break;
                }
                Err(error) => {
                    self.buffer.truncate(have);
                    return Err(error);
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(filled > have)
    }

    fn find(&self, context: Context) -> Found {
        let rest = &self.buffer[self.start..];
        match (context, rest.first()) {
            (_, None) => Found::NeedMore,
            (Context::Top, Some(b'[')) => Found::List { at: 1, objects: 0 },
            (Context::Top, Some(first)) => {
                let line = memchr::memchr(b'\n', rest);
                let line = line.or_else(|| self.ended.then_some(rest.len()));
                let content = line.map(|end| rest[..end].trim_ascii_end());
                match content {
                    Some(content) if *first != b'{' || (content.ends_with(b"}") && !is_answer(content)) => {
                        Found::Item { end: content.len() }
                    }
                    None if !is_answer(rest) => Found::NeedMore,
                    _ => value(rest),
                }
            }
            (_, Some(b'{')) => match value(rest) {
                Found::List { .. } | Found::NeedMore => end_of(rest),
                found => found,
            },
            // A list of something else than objects.
            (_, Some(_)) => {
                let end = memchr::memchr3(b',', b']', b'\n', rest);
                end.map_or(Found::NeedMore, |end| Found::Item { end: end.max(1) })
            }
        }
    }
}

/// Whether an object begins as the answers of servers do that hold a list of events.
fn is_answer(object: &[u8]) -> bool {
    const FIRST_MEMBERS: [&[u8]; 7] = [
        b"\"took\"",
        b"\"hits\"",
        b"\"_scroll_id\"",
        b"\"pit_id\"",
        b"\"timed_out\"",
        b"\"_shards\"",
        b"\"results\"",
    ];
    let members = object.get(1..).unwrap_or_default().trim_ascii_start();
    FIRST_MEMBERS.iter().any(|first| members.starts_with(first))
}

/// The end of the object at the beginning of `bytes`.
fn end_of(bytes: &[u8]) -> Found {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Found::Item { end: at + 1 };
                }
            }
            _ => {}
        }
        at += 1;
    }
    Found::NeedMore
}

/// The end of the object at the beginning of `bytes`, or the list of events in it: `hits.hits` or `results`.
fn value(bytes: &[u8]) -> Found {
    let (mut depth, mut at, mut in_hits) = (0_usize, 0, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = string_end(bytes, at);
                let name = bytes.get(at..end).unwrap_or_default();
                at = end;
                let rest = bytes.get(at..).unwrap_or_default();
                let Some(colon) = rest.iter().position(|byte| !byte.is_ascii_whitespace()) else {
                    return Found::NeedMore;
                };
                if rest[colon] != b':' {
                    continue;
                }
                let after = rest[colon + 1..].iter().position(|byte| !byte.is_ascii_whitespace());
                let Some(after) = after else { return Found::NeedMore };
                let begin = at + colon + 1 + after;
                match (depth, name, bytes[begin]) {
                    (1, b"\"results\"", b'[') => return Found::List { at: begin + 1, objects: 1 },
                    (1, b"\"hits\"", b'{') => in_hits = true,
                    (2, b"\"hits\"", b'[') if in_hits => {
                        return Found::List { at: begin + 1, objects: 2 };
                    }
                    _ => {}
                }
                at = begin;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                match depth {
                    0 => return Found::Item { end: at + 1 },
                    1 => in_hits = false,
                    _ => {}
                }
            }
            _ => {}
        }
        at += 1;
    }
    Found::NeedMore
}

/// Reads until so many objects are closed. Returns the bytes that were passed, and how many objects are still open.
fn closed(bytes: &[u8], mut objects: usize) -> (usize, usize) {
    let mut at = 0;
    while objects > 0 {
        match bytes.get(at) {
            None => break,
            Some(b'"') => {
                let end = string_end(bytes, at);
                if end >= bytes.len() {
                    // The string may go on.
                    break;
                }
                at = end;
                continue;
            }
            Some(b'{' | b'[') => objects += 1,
            Some(b'}' | b']') => objects -= 1,
            Some(_) => {}
        }
        at += 1;
    }
    (at, objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[track_caller]
    fn check(export: &str, expected: &[(&str, u64, Option<u64>, bool)]) {
        for bytes in [1, 7, 4096] {
            let mut items = Items::new(Trickle(export.as_bytes(), bytes));
            let mut found = Vec::new();
            while let Some(item) = items.next().unwrap() {
                let text = std::str::from_utf8(item.bytes).unwrap().to_owned();
                found.push((text, item.line, item.element, item.is_cut));
            }
            let found: Vec<_> = found
                .iter()
                .map(|(text, line, element, cut)| (text.as_str(), *line, *element, *cut))
                .collect();
            assert_eq!(found, expected, "{bytes}");
        }
    }

    #[test]
    fn lines() {
        check("", &[]);
        check("\n \n", &[]);
        check(
            "{\"a\":1}\r\n\n{\"b\":\"}\"} \nCEF:0|x\n{}",
            &[
                ("{\"a\":1}", 1, None, false),
                ("{\"b\":\"}\"}", 3, None, false),
                ("CEF:0|x", 4, None, false),
                ("{}", 5, None, false),
            ],
        );
    }

    #[test]
    fn answers_of_servers() {
        let answer = r#"{"_scroll_id":"x","took":1,"hits":{"total":{"value":2},"hits":[{"_id":"a","_source":{"hits":{"hits":[1]}}}, {"_id":"]"}],"x":1},"aggregations":{"a":"}"}}"#;
        let elements = [
            (r#"{"_id":"a","_source":{"hits":{"hits":[1]}}}"#, 1, Some(1), false),
            (r#"{"_id":"]"}"#, 1, Some(2), false),
        ];
        check(answer, &elements);
        let next = elements.map(|(text, _, element, cut)| (text, 2, element.map(|element| element + 2), cut));
        check(&format!("{answer}\n{answer}"), &[&elements[..], &next[..]].concat());
        // In lines, as a person would look at it.
        check(
            "{\n \"hits\" : {\n \"hits\" : [\n {\n\"a\":1}\n,\n{}]\n}}\n{\"b\":1}",
            &[("{\n\"a\":1}", 4, Some(1), false), ("{}", 7, Some(2), false), ("{\"b\":1}", 9, None, false)],
        );
        check(
            "[{\"a\":[]},\n{\"b\":1}]\n",
            &[("{\"a\":[]}", 1, Some(1), false), ("{\"b\":1}", 2, Some(2), false)],
        );
        check("{\"results\":[{\"a\":1}],\"b\":2}", &[("{\"a\":1}", 1, Some(1), false)]);
        check("{\"hits\":{\"hits\":[]}}", &[]);
    }

    #[test]
    fn an_object_in_several_lines() {
        check(
            "{\n\"a\":\n1}\n{\"b\":2}",
            &[("{\n\"a\":\n1}", 1, None, false), ("{\"b\":2}", 4, None, false)],
        );
    }

    #[test]
    fn a_cut_export() {
        check("{\"a\":1}\n{\"b\":\"x", &[("{\"a\":1}", 1, None, false), ("{\"b\":\"x", 2, None, true)]);
        check(
            "{\"took\":1,\"hits\":{\"hits\":[{\"a\":1},{\"b",
            &[("{\"a\":1}", 1, Some(1), false), ("{\"b", 1, None, true)],
        );
        check("{\"hits\":{\"hits\":[{\"a\":1}]", &[("{\"a\":1}", 1, Some(1), false), ("", 1, None, true)]);
        check("[{\"a\":1}", &[("{\"a\":1}", 1, Some(1), false), ("", 1, None, true)]);
    }
}
