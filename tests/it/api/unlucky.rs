//! What a review found: clocks, credentials, caches and restarts in unlucky combinations.

use super::*;
use crate::simulator::sim::Fault;
use std::io::{Read, Write};
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn f37_a_longer_overlap_repeats_nothing() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let mut config = config_of(&sim, false);
    config.overlap = Duration::from_secs(60);
    config.late_rows_interval = Duration::from_secs(60);
    let mut polled = Polled::new(&sim, config);
    // more than a chunk, older than what is kept
    sim.insert_all(rows(0..3500, 1000));
    polled.run(10 * MINUTE, MINUTE);
    polled.config.overlap = Duration::from_secs(7200);
    polled.config.late_rows_interval = Duration::from_secs(7200);
    polled.restart();
    polled.run(2 * MINUTE, MINUTE);
    polled.is_complete();
}

#[test]
fn f29_host_clock_ahead_at_a_restart() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    sim.insert_all(rows(0..3500, 1000));
    polled.poll();
    polled.restart();
    polled.wall_wrong_ms = 30 * 86_400_000;
    polled.advance(MINUTE);
    polled.poll();
    polled.wall_wrong_ms = 0;
    for n in 0..10u64 {
        polled.advance(MINUTE);
        sim.insert(Row::data_center(sim.now_ms(), 50_000 + n));
        polled.advance(MINUTE);
        polled.poll();
    }
    polled.is_complete();
}

/// Every clock is ahead by hours, the stamps of events too, and is set right: nothing that happens then is skipped, and
/// what was stamped too late is not delivered again when its time comes.
#[test]
fn f29_every_clock_was_ahead_and_is_set_right() {
    const AHEAD_MS: i64 = 10 * 3_600_000;
    for (host_too, minutes) in [(true, 30), (false, 30), (true, 1)] {
        let sim = Sim::data_center().unwrap();
        sim.configure(|options| options.searches_are_audited = false);
        let mut polled = Polled::new(&sim, config_of(&sim, false));
        sim.insert_all(rows(0..3000, 1000));
        polled.run(2 * MINUTE, MINUTE);
        let mut number = 10_000;
        let mut add_events = |polled: &mut Polled, minutes: u64| {
            for _ in 0..minutes {
                sim.insert(Row::data_center(sim.now_ms(), number));
                number += 1;
                polled.advance(MINUTE / 2);
                sim.insert(Row::data_center(sim.now_ms(), number));
                number += 1;
                polled.advance(MINUTE / 2);
                polled.poll();
            }
        };
        sim.advance_clock_ms(AHEAD_MS);
        polled.wall_wrong_ms = if host_too { 0 } else { -AHEAD_MS };
        add_events(&mut polled, minutes);
        assert!(polled.cursor_ms() > BEGIN_MS + AHEAD_MS);
        sim.advance_clock_ms(-AHEAD_MS);
        polled.wall_wrong_ms = 0;
        add_events(&mut polled, 5);
        let behind_ms = sim.now_ms() - polled.cursor_ms();
        assert!((0..=60_000).contains(&behind_ms), "{behind_ms} ms behind the clock");
        add_events(&mut polled, 11 * 60);
        polled.is_complete();
    }
}

/// The server's clock alone is behind by hours and is set right. What happens meanwhile is stamped before the cursor,
/// and before what a poll looks back.
#[test]
fn f29_the_servers_clock_alone_was_behind_and_is_set_right() {
    const BEHIND_MS: i64 = 3 * 3_600_000;
    for minutes in [1, 40, 150] {
        let sim = Sim::data_center().unwrap();
        sim.configure(|options| options.searches_are_audited = false);
        let mut polled = Polled::new(&sim, config_of(&sim, false));
        let mut number = 0;
        let mut add_events = |polled: &mut Polled, minutes: u64| {
            for _ in 0..minutes {
                for part in [1, 59] {
                    sim.insert(Row::data_center(sim.now_ms(), number));
                    number += 1;
                    polled.advance(part * MINUTE / 60);
                }
                polled.poll();
            }
        };
        polled.advance(240 * MINUTE);
        add_events(&mut polled, 3);
        sim.advance_clock_ms(-BEHIND_MS);
        polled.wall_wrong_ms = BEHIND_MS;
        add_events(&mut polled, minutes);
        sim.advance_clock_ms(BEHIND_MS);
        polled.wall_wrong_ms = 0;
        add_events(&mut polled, 5);
        polled.run(130 * MINUTE, MINUTE);
        polled.is_complete();
    }
}

/// The same while the agent is down.
#[test]
fn f29_every_clock_is_set_right_while_the_agent_is_down() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    sim.advance_clock_ms(10 * 3_600_000);
    sim.insert(Row::data_center(sim.now_ms(), 1));
    polled.run(3 * MINUTE, MINUTE);
    sim.advance_clock_ms(-10 * 3_600_000);
    for number in 2..20 {
        sim.insert(Row::data_center(sim.now_ms(), number));
        polled.advance(MINUTE);
    }
    polled.restart();
    polled.run(11 * 60 * MINUTE, MINUTE);
    polled.is_complete();
}

#[test]
fn f39_a_poll_that_failed_is_over() {
    let sim = Sim::data_center().unwrap();
    let mut config = config_of(&sim, false);
    config.page_size = 5;
    let mut polled = Polled::new(&sim, config);
    sim.insert_all(rows(0..50, 1000));
    sim.fault(Fault::EndlessCursor);
    polled.run(20 * MINUTE, MINUTE);
    assert!(polled.api().poll_is_over());
    assert!(polled.api().health().unwrap().contains(super::windows::SAME_PAGE));
}

/// A server (or a proxy's cache keyed without the query) that gives the first page whatever the cursor.
fn serve(body: String, headers: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buf = [0; 4096];
            let _ = stream.read(&mut buf);
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    url
}

#[test]
fn f39_a_cursor_that_is_ignored_doubles_nothing() {
    let sim = Sim::data_center().unwrap();
    let entities: Vec<String> = rows(0..10, 1000).map(|r| r.api).collect();
    let url = serve(
        format!(
            r#"{{"entities":[{}],"pagingInfo":{{"lastPage":false,"nextPageCursor":"1,2"}}}}"#,
            entities.join(",")
        ),
        "",
    );
    let mut config = config_of(&sim, false);
    config.http.base = url.parse().unwrap();
    let mut polled = Polled::new(&sim, config);
    polled.poll();
    assert_eq!(polled.delivered.len(), 10);
    assert!(polled.api().health().unwrap().contains(super::windows::SAME_PAGE));
}

#[test]
fn f43_a_pause_on_an_ordinary_answer_ends() {
    let sim = Sim::data_center().unwrap();
    let url = serve(
        r#"{"entities":[],"pagingInfo":{"lastPage":true}}"#.into(),
        "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1795262460000000\r\n",
    );
    let mut config = config_of(&sim, false);
    config.http.base = url.parse().unwrap();
    let mut polled = Polled::new(&sim, config);
    polled.poll();
    // The server asks for a pause of thousands of years.
    assert_eq!(polled.wait, confluence_audit_agent::delay::DELAY_MAX);
    let asked = polled.api().total().requests;
    polled.advance(polled.wait);
    polled.poll();
    assert!(polled.api().total().requests > asked);
}

#[test]
fn f29_the_first_answer_is_an_error_and_the_host_clock_is_wrong() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let mut config = config_of(&sim, false);
    config.start = Start::Ago(Duration::from_secs(3600));
    let mut polled = Polled::new(&sim, config);
    polled.wall_wrong_ms = 86_400_000;
    // The first of them are older than the beginning by the time of the second answer.
    sim.insert_all(rows(60..3600, 1000));
    sim.fault_next(1, Fault::TooManySearches);
    polled.run(3 * MINUTE, Duration::from_secs(10));
    polled.is_complete();
}

#[test]
fn f37_late_row_and_restarts_each_50_minutes() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    polled.poll();
    let now = sim.now_ms();
    sim.insert(Row::data_center(now, 1).visible_from(now + 400_000));
    for n in 0..600u64 {
        sim.insert(Row::data_center(now + n as i64 * 30_000, 100 + n).visible_from(i64::MIN));
    }
    for _ in 0..6 {
        polled.run(50 * MINUTE, MINUTE);
        polled.restart();
    }
    polled.poll();
    polled.is_complete();
}
