//! Frozen windows: nothing between them, nothing twice, whatever the server and the clocks do.

use super::*;
use crate::simulator::sim::Fault;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;
/// The error for a page that was there before.
pub const SAME_PAGE: &str = "the audit API returned the same page twice, so its paging does not end";

/// Fifty events of one millisecond, over two pages and two polls.
#[test]
fn f36_same_instant() {
    for cloud in [false, true] {
        let sim = if cloud { Sim::cloud() } else { Sim::data_center() }.unwrap();
        let row = |number| match cloud {
            true => Row::cloud(BEGIN_MS + HOUR_MS - 1000, number),
            false => Row::data_center(BEGIN_MS + HOUR_MS - 1000, number),
        };
        let mut config = config_of(&sim, cloud);
        config.page_size = 20;
        let mut polled = Polled::new(&sim, config);
        sim.insert_all((0..30).map(row));
        polled.poll();
        sim.insert_all((30..50).map(row));
        polled.advance(MINUTE);
        polled.poll();
        polled.is_complete();
        polled.restart();
        polled.advance(MINUTE);
        polled.poll();
        polled.is_complete();
    }
}

/// Events that are alike in everything are as many events, once each.
#[test]
fn f71_same_instant_twins() {
    let sim = Sim::data_center().unwrap();
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    let twin = || Row::data_center(BEGIN_MS + HOUR_MS - 5, 7);
    sim.insert_all([twin(), twin()]);
    polled.poll();
    sim.insert(twin());
    polled.advance(MINUTE);
    polled.poll();
    polled.run(10 * MINUTE, MINUTE);
    polled.is_complete();
    let twins = polled.delivered.iter().filter(|(_, row)| *row == twin().api);
    assert_eq!(twins.count(), 3);
}

/// A row that becomes visible within the overlap comes with the next poll, a later one with the poll for late rows.
#[test]
fn f37_late_visible() {
    for cloud in [false, true] {
        let sim = if cloud { Sim::cloud() } else { Sim::data_center() }.unwrap();
        sim.configure(|options| options.searches_are_audited = false);
        let mut config = config_of(&sim, cloud);
        config.overlap = Duration::from_secs(120);
        let mut polled = Polled::new(&sim, config);
        let made = |at_ms: i64, number| match cloud {
            true => Row::cloud(at_ms, number),
            false => Row::data_center(at_ms, number),
        };
        polled.poll();
        let now = sim.now_ms();
        sim.insert(made(now, 1).visible_from(now + 90_000));
        sim.insert(made(now, 2).visible_from(now + 190_000));
        for number in 0..10 {
            sim.insert(made(now + number as i64 * 30_000, 10 + number).visible_from(i64::MIN));
        }
        polled.run(10 * MINUTE, MINUTE);
        let has =
            |polled: &Polled, number| polled.delivered.iter().any(|(_, row)| row == &made(now, number).api);
        assert!(has(&polled, 1) && !has(&polled, 2));
        assert_eq!(polled.api().total().late, 0);
        polled.run(60 * MINUTE, MINUTE);
        assert!(has(&polled, 2));
        assert_eq!(polled.api().total().late, 1);
        polled.is_complete();
    }
}

/// Rows come in while pages are being fetched, none to two pages of them each time.
#[test]
fn f38_page_drift() {
    for cloud in [false, true] {
        for (rows, age_ms) in [(0, 0), (1, 0), (7, 0), (20, 0), (1, 600_000), (10, 600_000), (20, 600_000)] {
            let sim = if cloud { Sim::cloud() } else { Sim::data_center() }.unwrap();
            let mut config = config_of(&sim, cloud);
            config.page_size = 10;
            let mut polled = Polled::new(&sim, config);
            match cloud {
                true => sim.insert_all(cloud_rows(0..120, 30_000)),
                false => sim.insert_all(super::rows(0..120, 30_000)),
            }
            sim.fault(Fault::InsertBetweenPages { rows, age_ms });
            polled.poll();
            sim.clear_faults();
            // What came into a part that was read already is late, and found again as such.
            polled.run(80 * MINUTE, MINUTE);
            polled.is_complete();
        }
    }
}

/// A server whose pages have no end ends the poll with one error; the next poll is as usual.
#[test]
fn f39_cursor_loop() {
    for fault in [Fault::EndlessCursor, Fault::EmptyPages] {
        let sim = Sim::data_center().unwrap();
        // With pages of five rows searches would make more rows than a poll reads.
        sim.configure(|options| options.searches_are_audited = false);
        let mut config = config_of(&sim, false);
        config.page_size = 5;
        let mut polled = Polled::new(&sim, config);
        sim.insert_all(rows(0..50, 1000));
        sim.fault(fault.clone());
        polled.poll();
        assert!(sim.audit_request_count() < 10, "{fault:?}");
        let health = polled.api().health().unwrap();
        assert!(health.contains(SAME_PAGE), "{fault:?}: {health}");
        sim.clear_faults();
        polled.advance(2 * MINUTE);
        polled.poll();
        assert_eq!(polled.api().health(), None);
        polled.run(61 * MINUTE, MINUTE);
        polled.is_complete();
    }
}

/// The host's wall clock jumps between any two polls, by up to a year.
#[test]
fn f29_clock_jumps() {
    const YEAR_MS: i64 = 365 * 86_400_000;
    for first in [0, YEAR_MS, -YEAR_MS] {
        let sim = Sim::data_center().unwrap();
        sim.configure(|options| options.searches_are_audited = false);
        let mut config = config_of(&sim, false);
        config.start = Start::Ago(Duration::from_secs(3600));
        let mut polled = Polled::new(&sim, config);
        polled.wall_wrong_ms = first;
        sim.insert_all(rows(1..3600, 1000));
        for (turn, wrong) in [YEAR_MS, -YEAR_MS, 0, -1, 86_400_000, YEAR_MS, 0].into_iter().enumerate() {
            polled.poll();
            assert!(polled.cursor_ms() <= sim.now_ms(), "never moves into the future");
            sim.insert(Row::data_center(sim.now_ms(), 10_000 + turn as u64));
            polled.advance(MINUTE);
            polled.wall_wrong_ms = wrong;
            polled.poll();
            polled.is_complete();
        }
    }
}

/// A long idle source costs one request a poll, and its window does not fall behind.
#[test]
fn an_idle_source_asks_once_each_interval() {
    for cloud in [false, true] {
        let sim = if cloud { Sim::cloud() } else { Sim::data_center() }.unwrap();
        sim.configure(|options| options.searches_are_audited = false);
        let mut polled = Polled::new(&sim, config_of(&sim, cloud));
        polled.poll();
        polled.advance(MINUTE);
        sim.forget_requests();
        polled.run(600 * MINUTE, MINUTE);
        let asked = sim.audit_request_count();
        assert!((595..=602).contains(&asked), "{asked} requests");
    }
}

/// The agent's own searches are events too: one each, tagged, and they do not multiply.
#[test]
fn f74_self_poll() {
    let sim = Sim::data_center().unwrap();
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    polled.run(100 * MINUTE, MINUTE);
    assert!((95..=110).contains(&polled.delivered.len()), "{}", polled.delivered.len());
    assert_eq!(polled.self_polls, polled.delivered.len());
    polled.is_complete();
    // And left out if that is wanted.
    let sim = Sim::data_center().unwrap();
    let mut config = config_of(&sim, false);
    config.drop_self_polls = true;
    let mut polled = Polled::new(&sim, config);
    sim.insert_all(rows(0..3, 1000));
    polled.run(100 * MINUTE, MINUTE);
    assert_eq!(polled.delivered.len(), 3);
    assert!(polled.api().total().dropped > 90);
}

/// Ten pages, and the process ends after each of them: nothing is lost, and no id is another's.
#[test]
fn f70_kill_between_pages() {
    for cloud in [false, true] {
        for page in 0..=11 {
            let sim = if cloud { Sim::cloud() } else { Sim::data_center() }.unwrap();
            let mut config = config_of(&sim, cloud);
            config.page_size = 30;
            let mut polled = Polled::new(&sim, config);
            match cloud {
                true => sim.insert_all(cloud_rows(0..300, 1000)),
                false => sim.insert_all(super::rows(0..300, 1000)),
            }
            for _ in 0..page {
                polled.step();
            }
            polled.restart();
            polled.poll();
            polled.is_complete();
        }
    }
}

/// More rows than a window may hold: it is cut, oldest first, and each part is committed by itself.
#[test]
fn a_long_time_range_is_read_in_slices() {
    let sim = Sim::data_center().unwrap();
    let mut config = config_of(&sim, false);
    config.start = Start::Ago(Duration::from_secs(30 * 86_400));
    let mut polled = Polled::new(&sim, config);
    let first_ms = sim.now_ms() - 29 * 86_400_000;
    sim.generate(crate::simulator::sim::Generated::entities(60_000, first_ms, 40_000));
    let mut cursors = Vec::new();
    while polled.step() {
        if polled.cursor.is_some() && cursors.last() != Some(&polled.cursor_ms()) {
            cursors.push(polled.cursor_ms());
        }
    }
    assert!(cursors.is_sorted() && cursors.len() > 5, "{cursors:?}");
    let own = polled.self_polls;
    assert_eq!(polled.delivered.len() - own, 60_000);
    let pages = sim.audit_request_count();
    assert!(pages < 110, "{pages} requests for 60 pages of rows");
}
