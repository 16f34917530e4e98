//! How often a server is asked when it refuses, and what is said about it.

use super::*;
use crate::rig::{Random, seed};
use crate::simulator::sim::{ADMIN, ADMIN_PASSWORD, Fault, RateHeaders};
use confluence_audit_agent::config::ProxyConfig;
use std::path::PathBuf;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A token in a file, wrong at first.
struct TokenFile(tempfile::TempDir);

impl TokenFile {
    fn new() -> TokenFile {
        let token = TokenFile(tempfile::tempdir().unwrap());
        std::fs::write(token.path(), "wrong\n").unwrap();
        token
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("token")
    }

    /// A source with this token, and five rows.
    fn polled<'s>(&self, sim: &'s Sim) -> Polled<'s> {
        let mut config = config_of(sim, false);
        config.http.auth = Auth::Bearer(Reference::File(self.path()));
        let polled = Polled::new(sim, config);
        sim.insert_all(rows(0..5, 1000));
        polled
    }

    /// Another file takes its place, with the right token.
    fn correct(&self) {
        let next = self.0.path().join("next");
        std::fs::write(&next, format!("{ADMIN_TOKEN}\n")).unwrap();
        if self.path().is_dir() {
            std::fs::remove_dir(self.path()).unwrap();
        }
        std::fs::rename(&next, self.path()).unwrap();
    }
}

/// A day of refusals costs few requests; a new token in the file is taken up at once.
#[test]
fn f42_auth_lockout() {
    for (fault, printed) in [
        (Fault::Unauthorized, "credentials are not accepted"),
        (Fault::Captcha, "CAPTCHA"),
        (Fault::Forbidden, "Administrator"),
    ] {
        let sim = Sim::data_center().unwrap();
        let token = TokenFile::new();
        let mut polled = token.polled(&sim);
        sim.fault(fault.clone());
        polled.run(24 * HOUR, Duration::from_secs(5));
        let asked = sim.request_count();
        assert!((90..=100).contains(&asked), "{fault:?}: {asked} requests");
        let health = polled.api().health().unwrap();
        assert!(health.contains(printed), "{fault:?}: {health}");
        sim.clear_faults();
        token.correct();
        polled.poll();
        polled.assert_healthy();
    }
}

/// A token file that is there and cannot be read is no new token: the old one is not tried again and again.
#[test]
fn f42_a_token_file_that_cannot_be_read_is_no_new_token() {
    let sim = Sim::data_center().unwrap();
    let token = TokenFile::new();
    let mut polled = token.polled(&sim);
    sim.fault(Fault::Unauthorized);
    polled.poll();
    std::fs::remove_file(token.path()).unwrap();
    polled.run(30 * MINUTE, Duration::from_secs(5));
    // `stat` works, to read it does not: as a file of another user.
    std::fs::create_dir(token.path()).unwrap();
    polled.run(30 * MINUTE, Duration::from_secs(5));
    let asked = sim.request_count();
    assert!((4..10).contains(&asked), "{asked} requests in an hour");
    sim.clear_faults();
    token.correct();
    polled.poll();
    polled.assert_healthy();
}

/// A file of the connection that is not there at the start: tried again slowly, and at once when it is there.
#[test]
fn f73_a_proxy_password_that_is_added_later() {
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
    polled.assert_healthy();
}

/// In whatever shape a server asks for a pause: it gets that pause or a longer one, no request before it is over, and
/// the next one then.
#[test]
fn f43_rate_limited_poll() {
    // After these another time range is requested first.
    const REFUSALS: u32 = 5;
    // The pause in seconds: as of an exact second, and of any other time.
    for (headers, requested_s) in [
        (RateHeaders::Absent, 0.0..=0.0),
        (RateHeaders::Seconds(30), 30.0..=30.0),
        (RateHeaders::Seconds(0), 0.0..=0.0),
        (RateHeaders::Seconds(-5), 0.0..=0.0),
        (RateHeaders::HttpDate(60), 59.0..=60.0),
        (RateHeaders::HttpDate(-60), 0.0..=0.0),
        // Without its seconds.
        (RateHeaders::IsoReset(60), 0.0..=60.0),
        (RateHeaders::EpochReset(60), 59.0..=60.0),
        (RateHeaders::DeltaReset(60), 60.0..=60.0),
        (RateHeaders::Bucket(5), 5.0..=5.0),
        (RateHeaders::Huge, 900.0..=900.0),
        (RateHeaders::Garbage, 0.0..=0.0),
    ] {
        let sim = Sim::data_center().unwrap();
        let mut polled = Polled::new(&sim, config_of(&sim, false));
        sim.insert_all(rows(0..5, 1000));
        sim.fault(Fault::TooManyRequests(headers));
        for refusals in 1..=REFUSALS {
            polled.poll();
            assert_eq!(sim.audit_request_count(), u64::from(refusals), "{headers:?}");
            // The agent's own back-off doubles, and half of it is random; so is a tenth on top of the server's time.
            let back_off_s = f64::from(refusals - 1).exp2();
            let (from_s, to_s): (f64, f64) = (*requested_s.start(), *requested_s.end());
            let least_s = from_s.max(back_off_s / 2.0).clamp(1.0, 900.0);
            let most_s = (to_s * 1.1).max(back_off_s).clamp(1.0, 900.0);
            let wait_s = polled.wait.as_secs_f64();
            assert!(
                (least_s - 0.001..=most_s + 0.001).contains(&wait_s),
                "{headers:?}, refusal {refusals}: {wait_s} s, not {least_s} to {most_s} s"
            );
            let early = Duration::from_millis(1);
            polled.advance(polled.wait - early);
            polled.poll();
            assert_eq!(sim.audit_request_count(), u64::from(refusals), "{headers:?}");
            polled.advance(early);
        }
        sim.clear_faults();
        polled.poll();
        assert!(sim.audit_request_count() > u64::from(REFUSALS), "{headers:?}");
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

/// A page of HTML, a redirect, a response that is no page: health says so, and the cursor stays.
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
        assert!(polled.api().health().is_some() && polled.cursor_ms() == cursor, "{fault:?}");
        sim.clear_faults();
        polled.run(90 * MINUTE, MINUTE);
        polled.is_complete();
    }
}

/// A restart, while a proxy says 404 or shows a page, costs about a minute; what lasts is asked for slowly all the
/// same.
#[test]
fn f41_answers_of_a_proxy_during_a_restart_pass() {
    for fault in [Fault::Status(404, Vec::new()), Fault::LoginPage] {
        let sim = Sim::data_center().unwrap();
        sim.insert_all(rows(0..5, 1000));
        sim.fault(fault.clone());
        let mut polled = Polled::new(&sim, config_of(&sim, false));
        // A server that is starting for the first time says 404 as well, for minutes.
        polled.run(Duration::from_secs(150), Duration::from_secs(1));
        assert!(polled.api().needs_operator(), "{fault:?}: it never answered well");
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
        assert!(polled.api().needs_operator(), "{fault:?}");
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
fn the_expiry_of_the_token_is_reported_in_time() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    let day = 86_400_000;
    sim.expire(ADMIN_TOKEN, Some(sim.now_ms() + 39 * day + day / 2));
    for _ in 0..39 {
        polled.run(24 * HOUR, HOUR);
        polled.restart();
    }
    let reported: Vec<&str> = polled.notices.iter().map(|notice| notice.action.as_str()).collect();
    assert_eq!(reported, ["agent.token.expiring"; 5], "{:?}", polled.notices);
    let mut ids: Vec<EventId> = polled.notices.iter().map(|notice| notice.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

/// A token without an expiry has none in the metrics either, so that no alert of the one before it remains.
#[test]
fn a_token_that_no_longer_expires_has_no_time_in_the_metrics() {
    let sim = Sim::data_center().unwrap();
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    let expires_ms = sim.now_ms() + 40 * 86_400_000;
    sim.expire(ADMIN_TOKEN, Some(expires_ms));
    polled.run(HOUR, MINUTE);
    assert_eq!(polled.metrics.credential_expiry(), Some(expires_ms as f64 / 1000.0));
    sim.expire(ADMIN_TOKEN, None);
    polled.run(7 * HOUR, MINUTE);
    assert_eq!(polled.metrics.credential_expiry(), None);
}

/// A user's password has none; a token that the operator has named is looked for whatever else is sent.
#[test]
fn the_expiry_of_a_named_token_is_reported_with_a_password_too() {
    for (name, notices) in [(None, 0), (Some("audit"), 1)] {
        let sim = Sim::data_center().unwrap();
        let mut config = config_of(&sim, false);
        config.http.auth =
            Auth::Basic { user: ADMIN.into(), password: Reference::Inline(Secret::new(ADMIN_PASSWORD)) };
        config.token.name = name.map(str::to_owned);
        let mut polled = Polled::new(&sim, config);
        sim.expire(ADMIN_TOKEN, Some(sim.now_ms() + 86_400_000));
        polled.run(HOUR, MINUTE);
        assert_eq!(polled.api().health(), None);
        assert_eq!(polled.notices.len(), notices, "{name:?}");
    }
}
