//! The generator is what other tests judge by, so it is judged first.

#[path = "../../examples/audit_log_gen/lines.rs"]
pub mod lines;

use lines::Lines;

fn written(mut lines: Lines, count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    (0..count).for_each(|_| lines.write(&mut out));
    out
}

#[test]
fn one_seed_gives_the_same_bytes_and_another_gives_others() {
    assert_eq!(written(Lines::new(7), 1_000), written(Lines::new(7), 1_000));
    assert_ne!(written(Lines::new(7), 1_000), written(Lines::new(8), 1_000));
}

#[test]
fn each_line_is_one_record_of_512_to_2048_bytes() {
    let out = written(Lines::new(1), 20_000);
    let mut kinds = std::collections::BTreeSet::new();
    for line in out.split_inclusive(|b| *b == b'\n') {
        assert!((512..=2_048).contains(&line.len()), "{} bytes", line.len());
        let record: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        kinds.insert(record["auditType"]["actionI18nKey"].as_str().expect("an action").to_owned());
    }
    assert!(kinds.len() >= 12, "{kinds:?}");
}

#[test]
fn a_numbered_line_is_known_by_its_number_and_no_byte_of_it_can_change_unseen() {
    let out = written(Lines::numbered(1), 100);
    for (i, line) in out.split(|b| *b == b'\n').take(100).enumerate() {
        assert_eq!(lines::check(line), Some(i as u64));
    }
    let line = out.split(|b| *b == b'\n').next().expect("a line");
    for i in 0..line.len() {
        let mut changed = line.to_vec();
        changed[i] ^= 1;
        assert_eq!(lines::check(&changed), None, "byte {i}");
        assert_eq!(lines::check(&line[..i]), None, "cut at {i}");
    }
}

#[test]
fn files_are_named_by_day_and_number_in_both_forms() {
    const DAY_MS: i64 = 86_400_000;
    assert_eq!(lines::file_name(lines::START_MS, 0, false), "20260105.00000.audit.log");
    assert_eq!(lines::file_name(lines::START_MS + 54 * DAY_MS, 12, true), "20260228-00012.audit.log");
    assert_eq!(lines::file_name(lines::START_MS + 55 * DAY_MS - 1, 0, false), "20260228.00000.audit.log");
    assert_eq!(lines::file_name(lines::START_MS + 785 * DAY_MS, 0, false), "20280229.00000.audit.log");
    assert!(lines::same_day(lines::START_MS, lines::START_MS + DAY_MS - 1));
    assert!(!lines::same_day(lines::START_MS, lines::START_MS - 1));
}
