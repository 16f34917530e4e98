//! How often a server is asked when it refuses, and what is said about it.

use super::*;
use crate::rig::{Random, seed};
use crate::simulator::sim::{ADMIN, ADMIN_PASSWORD, Fault, RateHeaders};
use confluence_audit_agent::config::ProxyConfig;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A day of refusals costs few requests; a new token in the file is taken up at once.
#[test]
fn f42_auth_lockout() {
    for (fault, said) in [
        (Fault::Unauthorized, "credentials are not accepted"),
        (Fault::Captcha, "CAPTCHA"),
        (Fault::Forbidden, "Administrator"),
    ] {
        let sim = Sim::data_center().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "wrong\n").unwrap();
        let mut config = config_of(&sim, false);
        config.http.auth = Auth::Bearer(Reference::File(file.clone()));
        let mut polled = Polled::new(&sim, config);
        sim.insert_all(rows(0..5, 1000));
        sim.fault(fault.clone());
        polled.run(24 * HOUR, Duration::from_secs(5));
        let asked = sim.request_count();
        assert!((90..=100).contains(&asked), "{fault:?}: {asked} requests");
        let health = polled.api().health().unwrap();
        assert!(health.contains(said), "{fault:?}: {health}");
        sim.clear_faults();
        let next = dir.path().join("next");
        std::fs::write(&next, format!("{ADMIN_TOKEN}\n")).unwrap();
        std::fs::rename(&next, &file).unwrap();
        polled.poll();
        assert_eq!(polled.api().health(), None);
        polled.is_complete();
    }
}

/// A token file that is there and cannot be read is no new token: the old one is not tried again and again.
#[test]
fn f42_a_token_file_that_cannot_be_read_is_no_new_token() {
    let sim = Sim::data_center().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "wrong\n").unwrap();
    let mut config = config_of(&sim, false);
    config.http.auth = Auth::Bearer(Reference::File(file.clone()));
    let mut polled = Polled::new(&sim, config);
    sim.insert_all(rows(0..5, 1000));
    sim.fault(Fault::Unauthorized);
    polled.poll();
    std::fs::remove_file(&file).unwrap();
    polled.run(30 * MINUTE, Duration::from_secs(5));
    // `stat` works, to read it does not: as a file of another user.
    std::fs::create_dir(&file).unwrap();
    polled.run(30 * MINUTE, Duration::from_secs(5));
    let asked = sim.request_count();
    assert!((4..10).contains(&asked), "{asked} requests in an hour");
    sim.clear_faults();
    let next = dir.path().join("next");
    std::fs::write(&next, ADMIN_TOKEN).unwrap();
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&next, &file).unwrap();
    polled.poll();
    assert_eq!(polled.api().health(), None);
    polled.is_complete();
}

/// A file of the connection that is not there at the start: tried again slowly, and at once when it is there.
#[test]
fn f73_a_proxy_password_that_comes_later() {
    let sim = Sim::data_center().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let mut config = config_of(&sim, false);
    config.http.proxy = Some(ProxyConfig {
        url: "http://127.0.0.1:1".parse().unwrap(),
        auth: Some(("agent".into(), Reference::File(file.clone()))),
        no_proxy: vec!["127.0.0.1".into()],
    });
    let mut polled = Polled::new(&sim, config);
    sim.insert_all(rows(0..5, 1000));
    polled.run(HOUR, Duration::from_secs(5));
    let health = polled.api().health().unwrap();
    assert!(health.contains("the credential file"), "{health}");
    let tried = polled.api().total().requests;
    assert!((3..=6).contains(&tried), "{tried} in an hour");
    assert_eq!(sim.request_count(), 0);
    std::fs::write(&file, "secret").unwrap();
    polled.poll();
    assert_eq!(polled.api().health(), None);
    polled.is_complete();
}

/// In whatever shape a server asks to be left alone: few requests, and never none for ever.
#[test]
fn f43_rate_limited_poll() {
    for headers in [
        RateHeaders::Absent,
        RateHeaders::Seconds(30),
        RateHeaders::Seconds(0),
        RateHeaders::Seconds(-5),
        RateHeaders::HttpDate(60),
        RateHeaders::HttpDate(-60),
        RateHeaders::IsoReset(60),
        RateHeaders::EpochReset(60),
        RateHeaders::DeltaReset(60),
        RateHeaders::Bucket(5),
        RateHeaders::Huge,
        RateHeaders::Garbage,
    ] {
        let sim = Sim::data_center().unwrap();
        let mut polled = Polled::new(&sim, config_of(&sim, false));
        sim.insert_all(rows(0..5, 1000));
        sim.fault(Fault::TooManyRequests(headers));
        polled.run(10 * MINUTE, Duration::from_secs(1));
        let asked = sim.request_count();
        assert!((1..=25).contains(&asked), "{headers:?}: {asked} requests");
        sim.clear_faults();
        polled.run(16 * MINUTE, Duration::from_secs(5));
        polled.is_complete();
    }
}

/// Answers that are too large are asked for with fewer rows.
#[test]
fn f44_huge_page_in_smaller_pieces() {
    let sim = Sim::data_center().unwrap();
    let mut config = config_of(&sim, false);
    config.http.body_bytes_max = 1 << 20;
    let mut polled = Polled::new(&sim, config);
    sim.insert_all(rows(0..2000, 1000));
    sim.fault(Fault::PaddedRows(20_000));
    polled.poll();
    polled.is_complete();
    assert_eq!(polled.delivered.len() - polled.self_polls, 2000);
}

/// A page of HTML, a redirect, an answer that is no page: health says so, and the cursor stays.
#[test]
fn f41_html_200() {
    for fault in [
        Fault::LoginPage,
        Fault::Redirect("https://sso.example.com/login".into()),
        Fault::NotJson,
        Fault::MissingMember("entities"),
        Fault::MissingMember("pagingInfo"),
    ] {
        let sim = Sim::data_center().unwrap();
        let mut polled = Polled::new(&sim, config_of(&sim, false));
        sim.insert_all(rows(0..5, 1000));
        polled.poll();
        let cursor = polled.cursor_ms();
        sim.fault(fault.clone());
        sim.insert_all(rows(3000..3005, 1000));
        polled.advance(MINUTE);
        polled.poll();
        assert!(polled.api().health().is_some(), "{fault:?}");
        polled.run(30 * MINUTE, MINUTE);
        assert!(
            polled.api().health().is_some() && polled.cursor_ms() == cursor,
            "{fault:?}"
        );
        sim.clear_faults();
        polled.run(90 * MINUTE, MINUTE);
        polled.is_complete();
    }
}

/// A restart, while a proxy says 404 or shows a page, costs about a minute; what lasts is asked for slowly all the same.
#[test]
fn f41_what_a_proxy_says_during_a_restart_passes() {
    for fault in [Fault::Status(404, Vec::new()), Fault::LoginPage] {
        let sim = Sim::data_center().unwrap();
        sim.insert_all(rows(0..5, 1000));
        sim.fault(fault.clone());
        let mut polled = Polled::new(&sim, config_of(&sim, false));
        // A server that is starting for the first time says 404 as well, for minutes.
        polled.run(Duration::from_secs(150), Duration::from_secs(1));
        assert!(polled.api().needs_a_person(), "{fault:?}: it never answered well");
        sim.clear_faults();
        polled.run(16 * MINUTE, Duration::from_secs(5));
        for _ in 0..2 {
            sim.fault(fault.clone());
            polled.run(2 * MINUTE, Duration::from_secs(5));
            assert!(polled.api().health().is_some(), "{fault:?}");
            sim.clear_faults();
            polled.run(MINUTE, Duration::from_secs(5));
            assert_eq!(polled.api().health(), None, "{fault:?}");
        }
        let before = sim.request_count();
        sim.fault(fault.clone());
        polled.run(HOUR, Duration::from_secs(5));
        let asked = sim.request_count() - before;
        assert!((4..=9).contains(&asked), "{fault:?}: {asked} requests in an hour");
        assert!(polled.api().needs_a_person(), "{fault:?}");
    }
}

/// Whatever is refused in between, in the end everything has come.
#[test]
fn faults_at_random_lose_nothing() {
    let mut random = Random::new(seed("faults_at_random_lose_nothing"));
    let sim = Sim::data_center().unwrap();
    let mut config = config_of(&sim, false);
    config.page_size = 7;
    let mut polled = Polled::new(&sim, config);
    for number in 0..200u64 {
        sim.insert(Row::data_center(sim.now_ms(), number));
        match random.below(6) {
            0 => sim.fault_next(2, Fault::Unauthorized),
            1 => sim.fault_next(2, Fault::LoginPage),
            2 => sim.fault_next(3, Fault::TooManySearches),
            3 => sim.fault_next(1, Fault::CutBody(100)),
            _ => {}
        }
        polled.advance(Duration::from_secs(20));
        polled.poll();
    }
    polled.run(2 * HOUR, MINUTE);
    polled.is_complete();
}

/// Thirty, fourteen, seven, three days, one day ahead: each said once, in the stream as well, across restarts too.
#[test]
fn the_expiry_of_the_token_is_told_in_time() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    let day = 86_400_000;
    sim.expire(ADMIN_TOKEN, Some(sim.now_ms() + 39 * day + day / 2));
    for _ in 0..39 {
        polled.run(24 * HOUR, HOUR);
        polled.restart();
    }
    let told: Vec<&str> = polled.notices.iter().map(|notice| notice.action).collect();
    assert_eq!(told, ["agent.token.expiring"; 5], "{:?}", polled.notices);
    let mut ids: Vec<EventId> = polled.notices.iter().map(|notice| notice.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

/// A user's password has none; a token that the operator has named is looked for whatever else is sent.
#[test]
fn the_expiry_of_a_named_token_is_told_with_a_password_too() {
    for (name, notices) in [(None, 0), (Some("audit"), 1)] {
        let sim = Sim::data_center().unwrap();
        let mut config = config_of(&sim, false);
        config.http.auth = Auth::Basic {
            user: ADMIN.into(),
            password: Reference::Inline(Secret::new(ADMIN_PASSWORD)),
        };
        config.token.name = name.map(str::to_owned);
        let mut polled = Polled::new(&sim, config);
        sim.expire(ADMIN_TOKEN, Some(sim.now_ms() + 86_400_000));
        polled.run(HOUR, MINUTE);
        assert_eq!(polled.api().health(), None);
        assert_eq!(polled.notices.len(), notices, "{name:?}");
    }
}
