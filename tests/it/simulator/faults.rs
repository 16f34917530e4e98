//! Each way in which the server goes wrong on command.

use crate::rig::listen_again;
use std::time::Duration;

use super::client::{Client, basic, get, get_with};
use super::routes::{EVENTS, NOON_MS, cloud, data_center, numbers};
use super::sim::{ADMIN_EMAIL, Fault, RateHeaders, Target};

#[test]
fn only_the_requests_that_were_named_are_hit() {
    let sim = data_center(1);
    sim.fault_for(Target::Audit, 2..=3, Fault::Unauthorized);
    sim.fault_for(Target::Other, .., Fault::Status(503, vec![("Retry-After".into(), "7".into())]));
    let statuses: Vec<u16> = (0..4).map(|_| get(&sim, EVENTS).status).collect();
    assert_eq!(statuses, [200, 401, 401, 200]);
    let other = get(&sim, "/rest/pat/latest/tokens");
    assert_eq!((other.status, other.header("Retry-After")), (503, Some("7")));
    sim.clear_faults();
    sim.fault_next(1, Fault::Forbidden);
    assert_eq!([get(&sim, EVENTS).status, get(&sim, EVENTS).status], [403, 200]);
}

#[test]
fn pages_drift_when_rows_come_between_them() {
    let sim = data_center(6);
    sim.fault(Fault::InsertBetweenPages { rows: 2, age_ms: 0 });
    assert_eq!(numbers(&get(&sim, &format!("{EVENTS}?limit=3")).json()), [6, 5, 4]);
    assert_eq!(numbers(&get(&sim, &format!("{EVENTS}?limit=3&offset=3")).json()), [5, 4, 3]);
    assert_eq!(sim.rows().len(), 8);
}

#[test]
fn paging_that_never_ends() {
    let sim = data_center(6);
    sim.fault(Fault::EndlessCursor);
    let first = get(&sim, &format!("{EVENTS}?limit=3")).json();
    let cursor = first["pagingInfo"]["nextPageCursor"].as_str().unwrap().to_owned();
    let second = get(&sim, &format!("{EVENTS}?limit=3&pageCursor={cursor}")).json();
    assert_eq!(second["pagingInfo"]["nextPageCursor"], cursor.as_str());
    assert_eq!(second["pagingInfo"]["lastPage"], false);
    sim.clear_faults();
    sim.fault(Fault::EmptyPages);
    let empty = get(&sim, EVENTS).json();
    assert_eq!((numbers(&empty), &empty["pagingInfo"]["lastPage"]), (vec![], &false.into()));
    assert!(empty["pagingInfo"]["nextPageCursor"].is_string());

    let sim = cloud(6);
    let me = basic(ADMIN_EMAIL, "sim-admin-token");
    sim.fault(Fault::EndlessCursor);
    let page = get_with(&sim, "/wiki/rest/api/audit?start=3&limit=3", &[("Authorization", &me)]).json();
    assert!(page["_links"]["next"].as_str().unwrap().contains("start=3&"));
}

#[test]
fn next_links_lead_elsewhere_and_pages_are_short() {
    let sim = data_center(6);
    sim.fault(Fault::ForeignNextLink("http://elsewhere.invalid".into()));
    sim.fault(Fault::PageCap(2));
    let page = get(&sim, &format!("{EVENTS}?limit=5")).json();
    assert_eq!(numbers(&page), [6, 5]);
    assert!(
        page["pagingInfo"]["nextPageLink"].as_str().unwrap().starts_with("http://elsewhere.invalid/rest/")
    );
}

#[test]
fn refusals_look_like_the_real_ones() {
    let sim = data_center(1);
    let answer = |fault: Fault| {
        sim.clear_faults();
        sim.fault(fault);
        get(&sim, EVENTS)
    };
    let login = answer(Fault::LoginPage);
    assert_eq!((login.status, login.header("Content-Type")), (200, Some("text/html;charset=UTF-8")));
    let redirect = answer(Fault::Redirect("http://elsewhere.invalid/".into()));
    assert_eq!((redirect.status, redirect.header("Location")), (302, Some("http://elsewhere.invalid/")));
    let captcha = answer(Fault::Captcha);
    assert_eq!(
        (captcha.status, captcha.header("X-Seraph-LoginReason")),
        (403, Some("AUTHENTICATION_DENIED"))
    );
    assert_eq!(answer(Fault::WrongScope).header("X-Failure-Category"), Some("FAILURE_CLIENT_SCOPE_CHECK"));
    assert_eq!(answer(Fault::TooManySearches).status, 500);
    assert!(serde_json::from_slice::<serde_json::Value>(&answer(Fault::NotJson).body).is_err());
    assert!(answer(Fault::MissingMember("entities")).json().get("entities").is_none());
}

#[test]
fn each_shape_of_a_rate_limit() {
    let sim = data_center(1);
    sim.set_clock_ms(NOON_MS);
    for (headers, name, value) in [
        (RateHeaders::Seconds(-3), "Retry-After", Some("-3")),
        (RateHeaders::HttpDate(30), "Retry-After", Some("Mon, 05 Jan 2026 00:00:30 GMT")),
        (RateHeaders::IsoReset(90), "X-RateLimit-Reset", Some("2026-01-05T00:01Z")),
        (RateHeaders::EpochReset(5), "X-RateLimit-Reset", Some("1767571205")),
        (RateHeaders::DeltaReset(5), "X-RateLimit-Reset", Some("5")),
        (RateHeaders::Bucket(5), "X-RateLimit-Remaining", Some("0")),
        (RateHeaders::Garbage, "Retry-After", Some("soon")),
        (RateHeaders::Absent, "Retry-After", None),
    ] {
        sim.clear_faults();
        sim.fault(Fault::TooManyRequests(headers));
        let answer = get(&sim, EVENTS);
        assert_eq!((answer.status, answer.header(name)), (429, value), "{headers:?}");
    }
}

#[test]
fn bodies_that_break_or_never_end() {
    let sim = data_center(3);
    let me = [("Authorization", "Bearer sim-admin-token")];
    sim.fault_next(1, Fault::CutBody(10));
    let cut = get(&sim, EVENTS);
    assert!(cut.cut && cut.body == b"{\"entities");
    sim.fault_next(1, Fault::Hangup);
    assert!(Client::to(&sim).get(EVENTS, &me).is_none());
    sim.fault_next(1, Fault::PaddedRows(1_000));
    let padded = get(&sim, &format!("{EVENTS}?limit=2"));
    assert_eq!((numbers(&padded.json()), padded.body.starts_with(&[b' '; 2_000])), (vec![3, 2], true));
    sim.fault_next(1, Fault::SlowBody { bytes: 100, pause: Duration::from_millis(1) });
    assert_eq!(numbers(&get(&sim, EVENTS).json()), [3, 2, 1]);
    sim.fault_next(1, Fault::EndlessBody);
    let mut client = Client::to(&sim);
    client.send(EVENTS, &me);
    assert!(client.head().unwrap().header("Content-Length").is_none());
    assert_eq!(client.read_some(1 << 20), vec![b' '; 1 << 20]);
}

#[test]
fn a_server_that_is_gone_comes_back_at_the_same_port() {
    let sim = data_center(1);
    let mut kept = Client::to(&sim);
    let me = [("Authorization", "Bearer sim-admin-token")];
    assert_eq!(kept.get(EVENTS, &me).unwrap().status, 200);
    sim.disconnect();
    assert!(std::net::TcpStream::connect(("127.0.0.1", sim.port())).is_err());
    kept.send(EVENTS, &me);
    assert!(kept.head().is_none());
    listen_again(|| sim.reconnect());
    assert_eq!(get(&sim, EVENTS).status, 200);
}
