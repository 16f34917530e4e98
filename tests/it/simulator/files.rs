//! Audit files, and rows from a directory.

use std::fs;
use std::path::Path;

use super::client::get;
use super::routes::{EVENTS, NOON_MS, data_center, numbers};
use super::sim::{AuditFiles, NameForm, Row, Sim, records, shapes};

/// Name and text of each file, by name.
fn files(dir: &Path) -> Vec<(String, String)> {
    let entry = |e: std::io::Result<fs::DirEntry>| e.unwrap();
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(entry).collect();
    all.sort_by_key(fs::DirEntry::file_name);
    let pair =
        |e: fs::DirEntry| (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap());
    all.into_iter().map(pair).collect()
}

fn insert(sim: &Sim, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        sim.insert(Row::data_center(NOON_MS + n as i64, n));
    }
}

#[test]
fn files_rotate_by_size_and_date_in_both_forms_of_the_name() {
    for (form, mark) in [(NameForm::Dot, '.'), (NameForm::Dash, '-')] {
        let home = tempfile::tempdir().unwrap();
        let sim = data_center(0);
        sim.set_clock_ms(NOON_MS);
        sim.write_files("", AuditFiles { form, rotate_bytes: 1_000, ..AuditFiles::under(home.path()) });
        insert(&sim, 1..=5);
        sim.advance_clock_ms(86_400_000);
        insert(&sim, 6..=6);
        let found = files(&home.path().join("log/audit"));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let name = |day: u32, number: u32| format!("202601{day:02}{mark}{number:05}.audit.log");
        assert_eq!(names, [name(5, 0), name(5, 1), name(5, 2), name(6, 0)]);
        let lines: String = found.into_iter().map(|(_, text)| text).collect();
        let written: Vec<u64> = lines.lines().map(|line| shapes::number_in(line).unwrap()).collect();
        assert_eq!(written, [1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn batches_tear_lines_and_rotation_completes_them() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log/audit");
    let sim = data_center(0);
    sim.write_files("", AuditFiles { batch_lines: 2, tear: true, ..AuditFiles::under(home.path()) });
    insert(&sim, 1..=1);
    assert!(!dir.exists(), "one line is no batch");
    insert(&sim, 2..=2);
    let text = &files(&dir)[0].1;
    assert_eq!((text.lines().count(), text.ends_with('\n')), (2, false));
    sim.files("", |files, now_ms| files.rotate(now_ms)).unwrap();
    insert(&sim, 3..=4);
    let found = files(&dir);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].1.lines().filter_map(shapes::number_in).collect::<Vec<_>>(), [1, 2]);
    assert!(found[0].1.ends_with('\n') && found[1].1.starts_with('{'));
}

#[test]
fn each_node_has_its_own_files_and_may_fall_silent() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sim = data_center(0);
    for (node, home) in [("n1", &one), ("n2", &two)] {
        sim.write_files(node, AuditFiles::under(home.path()));
    }
    for n in 1..=4 {
        let node = if n % 2 == 1 { "n1" } else { "n2" };
        sim.files("n2", |files, _| files.silent = n == 4);
        sim.insert(Row::data_center(NOON_MS + n as i64, n).on_node(node));
    }
    sim.insert(Row::data_center(NOON_MS + 5, 5).on_node("n1").file_only());
    sim.insert(Row::data_center(NOON_MS + 6, 6).on_node("n1").database_only());
    let of = |home: &Path| -> Vec<u64> {
        let found = files(&home.join("log/audit"));
        found[0].1.lines().filter_map(shapes::number_in).collect()
    };
    assert_eq!((of(one.path()), of(two.path())), (vec![1, 3, 5], vec![2]));
    assert_eq!(numbers(&get(&sim, EVENTS).json()), [6, 4, 3, 2, 1]);
    assert_eq!(get(&sim, EVENTS).json()["entities"][0]["node"], "n1");
}

#[test]
fn records_of_every_shape_are_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let home = records::load(&fixtures.join("confluence-home")).unwrap();
    assert!(home.rows.len() > 300 && home.rows.iter().all(|row| row.line.is_some()));
    let cloud = records::load(&fixtures.join("mapping/cloud.jsonl")).unwrap();
    assert!(cloud.rows.len() >= 7 && cloud.rows.iter().all(|row| row.line.is_none()));
    assert!(records::load(&fixtures.join("state")).is_err());
}

#[test]
fn a_line_and_its_entity_are_the_same_event() {
    let line = Row::data_center(NOON_MS + 54, 7);
    let made = Row::from_json(line.line.as_ref().unwrap()).unwrap();
    let entity: serde_json::Value = serde_json::from_str(&made.api).unwrap();
    assert_eq!(entity["timestamp"], "2026-01-05T00:00:00.054Z");
    assert!(entity.get("version").is_none() && entity["type"].get("area").is_none());
    let back: serde_json::Value =
        serde_json::from_str(Row::from_json(&made.api).unwrap().line.as_ref().unwrap()).unwrap();
    assert_eq!(back["timestamp"], serde_json::json!({"epochSecond": 1_767_571_200, "nano": 54_000_000}));
    assert_eq!(back["extraAttributes"], entity["extraAttributes"]);
}
