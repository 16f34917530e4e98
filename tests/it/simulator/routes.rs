//! Each route of a server in good order.

use serde_json::Value;

use super::client::{Client, basic, get, get_with};
use super::sim::{
    ADMIN_EMAIL, ADMIN_PASSWORD, Clock, Generated, Options, Presented, Route, Row, SCOPED_TOKEN, Sim,
    WRONG_SCOPE_TOKEN,
};

/// 2026-01-05T00:00:00Z.
pub const NOON_MS: i64 = 1_767_571_200_000;
pub const EVENTS: &str = "/rest/auditing/1.0/events";

/// Data Center with rows 1 to `count`, one a second, and searches that leave no trace.
pub fn data_center(count: u64) -> Sim {
    let sim = Sim::start(Options { searches_are_audited: false, ..Options::data_center() }).unwrap();
    sim.set_clock_ms(NOON_MS + 1_000_000);
    sim.insert_all((1..=count).map(|n| Row::data_center(NOON_MS + n as i64 * 1_000, n)));
    sim
}

pub fn cloud(count: u64) -> Sim {
    let sim = Sim::cloud().unwrap();
    sim.set_clock_ms(NOON_MS + 1_000_000);
    sim.insert_all((1..=count).map(|n| Row::cloud(NOON_MS + n as i64 * 1_000, n)));
    sim
}

/// The numbers of the rows in an answer, in its order.
pub fn numbers(answer: &Value) -> Vec<u64> {
    let rows = answer.get("entities").or(answer.get("results")).unwrap().as_array().unwrap();
    rows.iter().map(|row| super::sim::shapes::number_in(&row.to_string()).unwrap()).collect()
}

#[test]
fn events_come_newest_first_and_cursors_lead_through_them() {
    let sim = data_center(25);
    let (mut cursor, mut found, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let page = get(&sim, &format!("{EVENTS}?limit=10{cursor}")).json();
        found.extend(numbers(&page));
        pages += 1;
        assert_eq!(page["pagingInfo"]["size"], page["entities"].as_array().unwrap().len());
        if page["pagingInfo"]["lastPage"] == true {
            assert!(page["pagingInfo"].get("nextPageCursor").is_none());
            break;
        }
        let next = page["pagingInfo"]["nextPageCursor"].as_str().unwrap();
        assert!(next.starts_with(&(NOON_MS + *found.last().unwrap() as i64 * 1_000).to_string()));
        let link = page["pagingInfo"]["nextPageLink"].as_str().unwrap();
        assert!(link.starts_with(&format!("{}{EVENTS}?", sim.url())) && link.contains(next), "{link}");
        cursor = format!("&pageCursor={next}");
    }
    assert_eq!((pages, found), (3, (1..=25).rev().collect()));
}

#[test]
fn bounds_are_inclusive_and_limits_capped() {
    let sim = data_center(9);
    let window = format!("{EVENTS}?from=2026-01-05T00%3A00%3A03.000Z&to=2026-01-05T00%3A00%3A05Z");
    assert_eq!(numbers(&get(&sim, &window).json()), [5, 4, 3]);
    assert_eq!(numbers(&get(&sim, &format!("{EVENTS}?offset=7&limit=5")).json()), [2, 1]);
    sim.configure(|options| (options.page_rows_max, options.next_on_last_page) = (4, true));
    assert_eq!(numbers(&get(&sim, &format!("{EVENTS}?limit=1000")).json()), [9, 8, 7, 6]);
    let last = get(&sim, &format!("{EVENTS}?limit=4&offset=8")).json();
    assert_eq!(last["pagingInfo"]["lastPage"], true);
    assert!(last["pagingInfo"]["nextPageCursor"].is_string());
    assert_eq!(get(&sim, &format!("{EVENTS}?from=yesterday")).status, 400);
    assert_eq!(get(&sim, &format!("{EVENTS}?pageCursor=7")).status, 400);
}

#[test]
fn rows_of_one_instant_are_distinguished_by_the_cursor() {
    let sim = data_center(0);
    sim.insert_all((1..=50).map(|n| Row::data_center(NOON_MS, n)));
    let first = get(&sim, &format!("{EVENTS}?limit=20")).json();
    let cursor = first["pagingInfo"]["nextPageCursor"].as_str().unwrap();
    let second = get(&sim, &format!("{EVENTS}?limit=30&pageCursor={cursor}")).json();
    assert_eq!(numbers(&first), (31..=50).rev().collect::<Vec<_>>());
    assert_eq!(numbers(&second), (1..=30).rev().collect::<Vec<_>>());
}

#[test]
fn late_rows_appear_at_their_time() {
    let sim = data_center(1);
    sim.insert(Row::data_center(NOON_MS, 2).visible_from(sim.now_ms() + 90_000));
    assert_eq!(numbers(&get(&sim, EVENTS).json()), [1]);
    sim.advance_clock_ms(90_000);
    assert_eq!(numbers(&get(&sim, EVENTS).json()), [1, 2]);
}

#[test]
fn a_search_is_an_event_itself() {
    let sim = Sim::data_center().unwrap();
    sim.set_clock_ms(NOON_MS);
    sim.insert(Row::data_center(NOON_MS - 1, 1));
    assert_eq!(numbers(&get(&sim, EVENTS).json()), [1]);
    let second = get(&sim, EVENTS).json();
    let search = &second["entities"][0];
    assert_eq!(search["type"]["actionI18nKey"], "atlassian.audit.event.action.audit.search");
    assert_eq!(search["timestamp"], "2026-01-05T00:00:00Z");
    assert!(search["author"]["uri"].as_str().unwrap().ends_with("?username=auditor"));
    assert_eq!(sim.rows().len(), 3);
    assert_eq!(get_with(&sim, EVENTS, &[]).status, 401);
    assert_eq!(sim.rows().len(), 3, "a refused search leaves no trace");
}

#[test]
fn only_an_administrator_reads_the_audit_log() {
    let sim = data_center(1);
    let status = |authorization: &str| get_with(&sim, EVENTS, &[("Authorization", authorization)]).status;
    assert_eq!(status("Bearer sim-admin-token"), 200);
    assert_eq!(status(&basic("auditor", "sim-admin-token")), 200);
    assert_eq!(status(&basic("auditor", ADMIN_PASSWORD)), 200);
    assert_eq!(status("Bearer sim-user-token"), 403);
    for wrong in [
        "Bearer nonsense",
        "Bearer sim-admin-password",
        "Basic !",
        "Digest x",
        &basic("other", ADMIN_PASSWORD),
    ] {
        assert_eq!(status(wrong), 401, "{wrong}");
    }
    let anonymous = get_with(&sim, EVENTS, &[]);
    assert_eq!((anonymous.status, anonymous.header("X-AUSERNAME")), (401, Some("anonymous")));
    assert_eq!(get(&sim, EVENTS).header("X-AUSERNAME"), Some("auditor"));
    sim.expire("sim-admin-token", Some(sim.now_ms()));
    assert_eq!(status("Bearer sim-admin-token"), 401);
    sim.expire("sim-admin-token", None);
    sim.configure(|options| options.basic_allowed = false);
    assert_eq!((status(&basic("auditor", ADMIN_PASSWORD)), status("Bearer sim-admin-token")), (403, 200));
    sim.revoke("sim-admin-token");
    assert_eq!(status("Bearer sim-admin-token"), 401);
}

#[test]
fn failed_logins_end_in_a_captcha() {
    let sim = data_center(1);
    sim.configure(|options| options.captcha_after = Some(3));
    let (wrong, right) = (basic("auditor", "wrong"), basic("auditor", ADMIN_PASSWORD));
    for _ in 0..3 {
        let answer = get_with(&sim, EVENTS, &[("Authorization", &wrong)]);
        assert_eq!(
            (answer.status, answer.header("X-Seraph-LoginReason")),
            (401, Some("AUTHENTICATED_FAILED"))
        );
    }
    let locked = get_with(&sim, EVENTS, &[("Authorization", &right)]);
    assert_eq!((locked.status, locked.header("X-Seraph-LoginReason")), (403, Some("AUTHENTICATION_DENIED")));
    assert!(locked.header("X-Authentication-Denied-Reason").unwrap().starts_with("CAPTCHA_CHALLENGE"));
    assert_eq!(get(&sim, EVENTS).status, 200, "a token is not locked");
    sim.solve_captcha();
    assert_eq!(get_with(&sim, EVENTS, &[("Authorization", &right)]).status, 200);
}

#[test]
fn settings_and_tokens() {
    let sim = data_center(0);
    sim.set_coverage("SECURITY", "FULL");
    sim.expire("sim-admin-token", Some(NOON_MS));
    sim.set_clock_ms(NOON_MS - 1);
    let coverage = get(&sim, "/rest/auditing/1.0/configuration/coverage").json();
    assert_eq!(coverage["levelByArea"]["SECURITY"], "FULL");
    assert_eq!(coverage["levelByArea"]["AUDIT_LOG"], "BASE");
    assert_eq!(get(&sim, "/rest/auditing/1.0/configuration/retention").json()["period"]["years"], 3);
    let tokens = get(&sim, "/rest/pat/latest/tokens").json();
    assert_eq!(tokens.as_array().unwrap().len(), 1);
    assert_eq!(
        (&tokens[0]["name"], &tokens[0]["expiringAt"]),
        (&"audit".into(), &"2026-01-05T00:00:00Z".into())
    );
}

#[test]
fn a_context_path_is_part_of_every_path() {
    let sim = Sim::start(Options { context_path: "/confluence".into(), ..Options::data_center() }).unwrap();
    assert!(sim.url().ends_with("/confluence"));
    assert_eq!(get(&sim, EVENTS).status, 404);
    assert_eq!(get(&sim, &format!("/confluence{EVENTS}")).status, 200);
}

#[test]
fn before_7_5_there_is_only_the_old_path() {
    let sim = data_center(5);
    sim.configure(|options| options.older_than_7_5 = true);
    assert_eq!(get(&sim, EVENTS).status, 404);
    let window = format!("startDate={}&endDate={}", NOON_MS + 2_000, NOON_MS + 4_000);
    let page = get(&sim, &format!("/rest/api/audit?{window}&start=0&limit=2")).json();
    let times: Vec<i64> =
        page["results"].as_array().unwrap().iter().map(|r| r["creationDate"].as_i64().unwrap()).collect();
    assert_eq!(times, [NOON_MS + 4_000, NOON_MS + 3_000]);
    assert_eq!(page["results"][0]["affectedObject"]["objectType"], "Group");
    assert_eq!(page["results"][0]["author"]["username"], "person4");
    assert!(page["_links"]["next"].as_str().unwrap().contains("start=2"));
}

#[test]
fn cloud_pages_by_offset() {
    let sim = cloud(25);
    let me = basic(ADMIN_EMAIL, "sim-admin-token");
    let page = |query: &str| {
        get_with(&sim, &format!("/wiki/rest/api/audit?{query}"), &[("Authorization", &me)]).json()
    };
    let first = page("start=0&limit=10");
    assert_eq!(numbers(&first), (16..=25).rev().collect::<Vec<_>>());
    assert_eq!((&first["start"], &first["limit"]), (&0.into(), &10.into()));
    assert!(first["_links"]["next"].as_str().unwrap().contains("start=10&limit=10"));
    let last = page("start=20&limit=10");
    assert_eq!(numbers(&last), [5, 4, 3, 2, 1]);
    assert!(last["_links"].get("next").is_none());
    assert_eq!(numbers(&page("start=25&limit=10")), [0; 0]);
    assert_eq!(
        numbers(&page(&format!("startDate={}&endDate={}", NOON_MS + 3_000, NOON_MS + 5_000))),
        [5, 4, 3]
    );
    assert_eq!(page("limit=5000")["limit"], 1000);
}

#[test]
fn cloud_takes_each_token_at_its_own_place() {
    let sim = cloud(1);
    let id = get_with(&sim, "/_edge/tenant_info", &[]).json()["cloudId"].as_str().unwrap().to_owned();
    let (site, scoped) = ("/wiki/rest/api/audit", format!("/ex/confluence/{id}/wiki/rest/api/audit"));
    let status =
        |path: &str, authorization: &str| get_with(&sim, path, &[("Authorization", authorization)]).status;
    assert_eq!(status(site, &basic(ADMIN_EMAIL, "sim-admin-token")), 200);
    assert_eq!(status(&scoped, &basic(ADMIN_EMAIL, SCOPED_TOKEN)), 200);
    assert_eq!(status(&scoped, &format!("Bearer {SCOPED_TOKEN}")), 200);
    assert_eq!(status(site, &basic(ADMIN_EMAIL, SCOPED_TOKEN)), 401);
    assert_eq!(status(&scoped, &basic(ADMIN_EMAIL, "sim-admin-token")), 401);
    assert_eq!(status(site, "Bearer sim-admin-token"), 401);
    assert_eq!(status(site, &basic("reader@acme.example", "sim-user-token")), 403);
    let me = basic(ADMIN_EMAIL, WRONG_SCOPE_TOKEN);
    let wrong = get_with(&sim, &scoped, &[("Authorization", &me)]);
    assert_eq!((wrong.status, wrong.header("X-Failure-Category")), (401, Some("FAILURE_CLIENT_SCOPE_CHECK")));
}

#[test]
fn a_million_rows_need_no_place() {
    let sim = data_center(0);
    sim.generate(Generated { rows_per_instant: 7, ..Generated::entities(1_000_000, NOON_MS, 10) });
    sim.insert(Row::data_center(NOON_MS + 50, 2_000_000));
    let all = get(&sim, &format!("{EVENTS}?limit=3&offset=999960")).json();
    // 41 rows are not newer than the inserted one: 7 in each of 6 instants, less the one that was skipped.
    assert_eq!(numbers(&all), [41, 40, 39]);
    let around = get(&sim, &format!("{EVENTS}?limit=3&to=2026-01-05T00%3A00%3A00.050Z")).json();
    assert_eq!(numbers(&around), [2_000_000, 42, 41]);
    let cursor = around["pagingInfo"]["nextPageCursor"].as_str().unwrap();
    assert_eq!(numbers(&get(&sim, &format!("{EVENTS}?limit=2&pageCursor={cursor}")).json()), [40, 39]);
}

#[test]
fn requests_are_recorded_and_the_clock_obeys() {
    let sim = data_center(2);
    let mut client = Client::to(&sim);
    for _ in 0..2 {
        let answer =
            client.get(&format!("{EVENTS}?limit=1"), &[("Authorization", "Bearer sim-admin-token")]).unwrap();
        assert_eq!(answer.header("Date"), Some("Mon, 05 Jan 2026 00:16:40 GMT"));
    }
    get_with(&sim, "http://wiki.example.com/nowhere", &[("Proxy-Authorization", &basic("p", "q"))]);
    let seen = sim.requests();
    assert_eq!((sim.request_count(), sim.audit_request_count(), seen.len()), (3, 2, 3));
    assert_eq!((seen[1].route, seen[1].rows, seen[1].parameter("limit")), (Route::Events, 1, Some("1")));
    assert_eq!(seen[0].connection, seen[1].connection, "the connection was kept");
    assert!(seen[0].authorization.is_bearer("sim-admin-token"));
    assert!(!format!("{seen:?}").contains("sim-admin-token"));
    assert_eq!((seen[2].route, seen[2].via_proxy, seen[2].status), (Route::Unknown, true, 404));
    assert_eq!(seen[2].authorization, Presented::Nothing);
    assert!(seen[2].proxy_authorization.is_basic("p", "q"));
    sim.set_clock(Clock::Real { ahead_ms: -3_600_000 });
    assert!(sim.now_ms() < confluence_audit_agent::clock::now_ms() - 3_500_000);
}
