use super::*;
use proptest::prelude::*;

#[derive(Debug, PartialEq, Clone)]
enum Owned {
    Line(u64, Vec<u8>),
    Malformed(u64, u64, MalformedReason),
}

fn own(raw: RawRecord<'_>) -> Owned {
    match raw {
        RawRecord::Line { body, offset, .. } => Owned::Line(offset, body.to_vec()),
        RawRecord::Malformed { offset, bytes, reason, .. } => Owned::Malformed(offset, bytes, reason),
    }
}

/// Feeds `bytes` in parts of the given lengths (cycled) and returns every record and the last boundary.
fn frames(bytes: &[u8], parts: &[usize], max: usize, finished: bool) -> (Vec<Owned>, u64) {
    let mut splitter = RecordSplitter::new(0, b"", max);
    let mut out = Vec::new();
    let (mut fed, mut turn) = (0, 0);
    while fed < bytes.len() {
        let n = parts[turn % parts.len()].clamp(1, bytes.len() - fed);
        splitter.spare_space(n)[..n].copy_from_slice(&bytes[fed..fed + n]);
        splitter.advance(n);
        (fed, turn) = (fed + n, turn + 1);
        while let Some(raw) = splitter.next_record() {
            out.push(own(raw));
        }
        let (tail_fingerprint, boundary) = (splitter.bytes_before_boundary(), splitter.boundary() as usize);
        assert_eq!(tail_fingerprint.len(), boundary.min(FINGERPRINT_BYTES));
        assert_eq!(tail_fingerprint, &bytes[boundary - tail_fingerprint.len()..boundary]);
    }
    if finished && let Some(raw) = splitter.take_unterminated() {
        out.push(own(raw));
    }
    (out, splitter.boundary())
}

fn line(offset: u64, body: &str) -> Owned {
    Owned::Line(offset, body.as_bytes().to_vec())
}

#[test]
fn f12_framing_golden() {
    let check = |bytes: &str, expect: &[Owned], boundary: u64| {
        assert_eq!(frames(bytes.as_bytes(), &[bytes.len().max(1)], 100, false), (expect.to_vec(), boundary));
    };
    check("", &[], 0);
    check("{a}\n{b}\n", &[line(0, "{a}"), line(4, "{b}")], 8);
    check("{a}\r\n\r\n  \n\n{b}\r\n", &[line(0, "{a}"), line(11, "{b}")], 16);
    check("\u{feff}{a}\n\u{feff}{b}\n", &[line(3, "{a}"), line(7, "\u{feff}{b}")], 14);
    check("\u{feff}\n{a}\n", &[line(4, "{a}")], 8);
    check("{a}\n{half", &[line(0, "{a}")], 4);
    check("\n\n\n", &[], 3);
    check("a\rb\r\n", &[line(0, "a\rb")], 5);
}

#[test]
fn f11_a_run_of_nul_is_one_record_and_what_follows_is_another() {
    let mut bytes = b"{a}\n{cut".to_vec();
    bytes.extend([0; 5000]);
    bytes.extend(b"{b}\n\0\0\n{c}\n");
    for part in [1, 7, 4096, 1 << 20] {
        let (out, boundary) = frames(&bytes, &[part], 100, false);
        let expect = [
            line(0, "{a}"),
            Owned::Malformed(4, 5004, MalformedReason::Nul),
            line(5008, "{b}"),
            Owned::Malformed(5012, 2, MalformedReason::Nul),
            line(5015, "{c}"),
        ];
        assert_eq!((out, boundary), (expect.to_vec(), bytes.len() as u64), "parts of {part}");
    }
}

#[test]
fn f09_a_long_record_is_passed_over_in_constant_memory() {
    let mut splitter = RecordSplitter::new(0, b"", 1000);
    let piece = [b'x'; 512];
    for _ in 0..10_000 {
        splitter.spare_space(piece.len()).copy_from_slice(&piece);
        splitter.advance(piece.len());
        assert!(splitter.next_record().is_none());
        assert!(splitter.buf.capacity() < 8192, "{}", splitter.buf.capacity());
        assert_eq!(splitter.boundary(), 0);
    }
    splitter.spare_space(5).copy_from_slice(b"\n{a}\n");
    splitter.advance(5);
    match splitter.next_record() {
        Some(RawRecord::Malformed {
            head,
            offset: 0,
            bytes: 5_120_000,
            hash,
            reason: MalformedReason::TooLong,
        }) => {
            assert_eq!(head, [b'x'; 1024]);
            assert_eq!(hash, xxhash_rust::xxh3::xxh3_64(&vec![b'x'; 5_120_000]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(splitter.next_record().map(own), Some(line(5_120_001, "{a}")));
}

#[test]
fn f08_the_rest_of_a_finished_file_is_a_record() {
    assert_eq!(frames(b"{a}\n{b}", &[3], 100, true).0, [line(0, "{a}"), line(4, "{b}")]);
    assert_eq!(frames(b"{a}\n  \r", &[3], 100, true).0, [line(0, "{a}")]);
    assert_eq!(
        frames(b"{a}\n\0\0", &[3], 100, true).0,
        [line(0, "{a}"), Owned::Malformed(4, 2, MalformedReason::Nul)]
    );
}

proptest! {
    /// Where the bytes are cut in reading changes nothing (F06).
    #[test]
    fn f06_split_anywhere(
        pieces in prop::collection::vec(prop_oneof![
            "[a-z]{0,30}", Just("\n".to_owned()), Just("\r\n".to_owned()), Just("\0\0".to_owned()), Just("\u{feff}".to_owned())
        ], 0..60),
        parts in prop::collection::vec(1usize..50, 1..8),
        finished: bool,
    ) {
        let bytes = pieces.concat().into_bytes();
        let whole = frames(&bytes, &[bytes.len().max(1)], 40, finished);
        prop_assert_eq!(frames(&bytes, &parts, 40, finished), whole);
    }
}

/// A hole gives the same record, hash, boundary and fingerprint as NUL bytes that were read.
#[test]
fn f93_a_hole_is_a_run_of_nul() {
    let raw = |hole: bool, parts: usize| {
        let mut splitter = RecordSplitter::new(0, b"", 1 << 20);
        let mut out = Vec::new();
        let mut feed = |splitter: &mut RecordSplitter, bytes: &[u8]| {
            for part in bytes.chunks(parts) {
                splitter.spare_space(part.len())[..part.len()].copy_from_slice(part);
                splitter.advance(part.len());
                while let Some(raw) = splitter.next_record() {
                    let hash = match raw {
                        RawRecord::Malformed { hash, .. } => hash,
                        RawRecord::Line { .. } => 0,
                    };
                    out.push((own(raw), hash));
                }
            }
        };
        feed(&mut splitter, b"{a}\n{cut\0\0");
        if hole {
            assert!(splitter.in_nuls());
            splitter.skip_nuls(300_000);
            assert_eq!(splitter.last_read(), [0; FINGERPRINT_BYTES]);
        } else {
            feed(&mut splitter, &[0; 300_000]);
        }
        assert_eq!((splitter.boundary(), splitter.bytes_before_boundary()), (4, &b"{a}\n"[..]));
        feed(&mut splitter, b"\0\0{b}\n");
        assert!(!splitter.in_nuls());
        (out, splitter.boundary(), splitter.bytes_before_boundary().to_vec())
    };
    let expect = raw(false, 1 << 20);
    assert_eq!(expect.0[1].0, Owned::Malformed(4, 300_008, MalformedReason::Nul));
    for parts in [1, 100, 70_000] {
        assert_eq!(raw(true, parts), expect);
        assert_eq!(raw(false, parts), expect);
    }
}

/// A long run of NUL bytes is returned in parts. A restart continues after the last part.
#[test]
fn f93_a_long_malformed_record_is_returned_in_parts() {
    for (byte, reason) in [(0, MalformedReason::Nul), (b'a', MalformedReason::TooLong)] {
        let mut splitter = RecordSplitter::new(0, b"", 1_000);
        splitter.part_bytes_max = 10_000;
        let (mut pieces, mut boundary) = (Vec::new(), 0);
        for _ in 0..35 {
            splitter.spare_space(1_000)[..1_000].fill(byte);
            splitter.advance(1_000);
            while let Some(raw) = splitter.next_record() {
                pieces.push(own(raw));
                boundary = splitter.boundary();
            }
        }
        let length = |piece: &Owned| match piece {
            Owned::Malformed(_, bytes, found) if *found == reason => *bytes,
            other => panic!("{other:?}"),
        };
        assert!(pieces.len() >= 3, "{pieces:?}");
        assert_eq!(pieces.iter().map(length).sum::<u64>(), boundary);
        assert!(pieces.iter().all(|piece| length(piece) < 12_000), "{pieces:?}");
    }
}
