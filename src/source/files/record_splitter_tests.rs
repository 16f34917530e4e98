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
        assert_eq!(length(&pieces[0]), 10_000);
        assert_eq!(pieces.iter().map(length).sum::<u64>(), boundary);
        assert!(pieces.iter().all(|piece| length(piece) < 12_000), "{pieces:?}");
    }
}

fn feed(splitter: &mut RecordSplitter, bytes: &[u8]) {
    splitter.spare_space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
    splitter.advance(bytes.len());
}

#[test]
fn a_record_of_the_longest_length_is_whole() {
    let (whole, long) = ("x".repeat(100), "x".repeat(101));
    let too_long = |offset, bytes| Owned::Malformed(offset, bytes, MalformedReason::TooLong);
    for parts in [&[1][..], &[1000], &[100, 1]] {
        let bytes = format!("{whole}\n{long}\n{whole}\n");
        let (out, boundary) = frames(bytes.as_bytes(), parts, 100, false);
        assert_eq!(out, [line(0, &whole), too_long(101, 101), line(203, &whole)], "{parts:?}");
        assert_eq!(boundary, 304);
        // Without a line end at the end of a complete file.
        assert_eq!(frames(whole.as_bytes(), parts, 100, true).0, [line(0, &whole)]);
        assert_eq!(frames(long.as_bytes(), parts, 100, true).0, [too_long(0, 101)], "{parts:?}");
    }
    // NUL bytes in a line that is too long make it a run of NUL bytes.
    let cut = format!("{long}\0\0{{a}}\n");
    let nul = Owned::Malformed(0, 103, MalformedReason::Nul);
    assert_eq!(frames(cut.as_bytes(), &[1], 100, false).0, [nul, line(103, "{a}")]);
}

#[test]
fn what_waits_for_the_end_of_its_record() {
    let before = [vec![b'o'; 500], vec![b'b'; FINGERPRINT_BYTES]].concat();
    let mut splitter = RecordSplitter::new(5_000, &before, 100);
    assert_eq!(
        (splitter.boundary(), splitter.read_offset(), splitter.unterminated_bytes()),
        (5_000, 5_000, 0)
    );
    assert_eq!(splitter.bytes_before_boundary(), [b'b'; FINGERPRINT_BYTES]);
    feed(&mut splitter, b"{a}\r\n{half");
    let Some(RawRecord::Line { body: b"{a}", offset: 5_000, end: 5_005 }) = splitter.next_record() else {
        panic!()
    };
    assert!(splitter.next_record().is_none());
    assert_eq!(
        (splitter.boundary(), splitter.read_offset(), splitter.unterminated_bytes()),
        (5_005, 5_010, 5)
    );
    assert_eq!(splitter.unterminated(), b"{half");
    assert!(!splitter.in_nuls());
    assert!(splitter.last_read().ends_with(b"bb{a}\r\n{half"));
    assert_eq!(splitter.last_read().len(), FINGERPRINT_BYTES);
    // Within a malformed record there is none.
    feed(&mut splitter, b"\0");
    assert!(splitter.next_record().is_none() && splitter.in_nuls());
    assert_eq!((splitter.unterminated(), splitter.unterminated_bytes()), (&b""[..], 6));
    let run = splitter.take_unterminated().unwrap();
    assert_eq!((run.bytes(), own(run)), (6, Owned::Malformed(5_005, 6, MalformedReason::Nul)));
    assert_eq!((splitter.boundary(), splitter.unterminated_bytes()), (5_011, 0));
    feed(&mut splitter, b"rest");
    let Some(record @ RawRecord::Line { body: b"rest", offset: 5_011, end: 5_015 }) =
        splitter.take_unterminated()
    else {
        panic!()
    };
    assert_eq!(record.bytes(), 4);
    assert!(splitter.take_unterminated().is_none());
}

/// The digest covers what was returned, however it was read and whatever was malformed.
#[test]
fn the_digest_covers_everything_before_the_boundary() {
    let key = [3, 4];
    let mut bytes = b"{a}\n{cut".to_vec();
    bytes.extend([0; 3_000]);
    bytes.extend(format!("{{b}}\n{}\n{{c}}\n{{half", "x".repeat(300)).into_bytes());
    let of = |end: u64| {
        let mut digest = Digest::new(key, 0);
        digest.feed(&bytes[..end as usize]);
        Some(digest.state())
    };
    for part in [1, 50, 2_000, 5_000] {
        let mut splitter = RecordSplitter::new(0, b"", 100);
        assert_eq!(splitter.digest_to_boundary(), None);
        splitter.set_digest(Digest::new(key, 0));
        for part in bytes.chunks(part) {
            feed(&mut splitter, part);
            while splitter.next_record().is_some() {
                let boundary = splitter.boundary();
                assert_eq!(splitter.digest_to_boundary(), of(boundary), "at {boundary}");
            }
            let boundary = splitter.boundary();
            assert_eq!(splitter.digest_to_boundary(), of(boundary), "at {boundary}");
        }
        assert_eq!(splitter.boundary(), bytes.len() as u64 - 5);
    }
}

/// After a long record its memory is released.
#[test]
fn a_buffer_becomes_small_again() {
    let mut splitter = RecordSplitter::new(0, b"", 1 << 20);
    feed(&mut splitter, &[&[b'x'; 100_000][..], b"\n"].concat());
    assert!(splitter.next_record().is_some());
    feed(&mut splitter, b"{a}\n");
    assert!(splitter.buf.capacity() <= 4 * FINGERPRINT_BYTES, "{}", splitter.buf.capacity());
    assert_eq!(splitter.next_record().map(own), Some(line(100_001, "{a}")));
    // A buffer that is at most twice as long as what is wanted is kept.
    feed(&mut splitter, &[&[b'x'; 3_001][..], b"\n"].concat());
    assert!(splitter.next_record().is_some());
    let long = splitter.buf.len();
    splitter.spare_space(long / 2 - FINGERPRINT_BYTES);
    assert_eq!(splitter.buf.len(), long);
    assert_eq!(long % 2, 0);
    let shorter = long / 2 - 1;
    splitter.spare_space(shorter - FINGERPRINT_BYTES);
    assert_eq!(splitter.buf.len(), shorter);
    // No more is reserved than is asked for.
    let mut splitter = RecordSplitter::new(0, b"", 1 << 20);
    feed(&mut splitter, &[b'x'; 10_000]);
    splitter.spare_space(10_000);
    assert_eq!(splitter.buf.capacity(), 20_000);
}

/// A hole within a run of NUL bytes, with few bytes before it.
#[test]
fn positions_behind_a_hole() {
    let mut splitter = RecordSplitter::new(0, b"", 100);
    splitter.set_digest(Digest::new([1, 2], 0));
    feed(&mut splitter, b"\0\0");
    assert!(splitter.next_record().is_none() && splitter.in_nuls());
    splitter.skip_nuls(5_000);
    assert!(splitter.in_nuls());
    assert_eq!(
        (splitter.boundary(), splitter.read_offset(), splitter.unterminated_bytes()),
        (0, 5_002, 5_002)
    );
    feed(&mut splitter, b"{a}\n");
    assert!(!splitter.in_nuls());
    assert_eq!(splitter.next_record().map(own), Some(Owned::Malformed(0, 5_002, MalformedReason::Nul)));
    assert_eq!((splitter.boundary(), splitter.bytes_before_boundary()), (5_002, &[0; FINGERPRINT_BYTES][..]));
    assert_eq!(splitter.next_record().map(own), Some(line(5_002, "{a}")));
    let mut digest = Digest::new([1, 2], 0);
    digest.feed(&[0; 5_002]);
    digest.feed(b"{a}\n");
    assert_eq!(splitter.digest_to_boundary(), Some(digest.state()));
}
