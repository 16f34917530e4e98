//! What goes over the wire: credentials to the right server and to no other, and answers that never end.

use super::binary::{cloud, data_center, insert, is_exact, quiet_data_center};
use crate::rig::SOON;
use crate::simulator::sim::{
    ADMIN_EMAIL, ADMIN_PASSWORD, ADMIN_TOKEN, Credential, Fault, Kind, Presented, Sim,
};
use std::fs;

/// Next links and redirects that name another server: it never hears of the agent.
#[test]
fn f40_foreign_next_link() {
    let other = Sim::data_center().unwrap();
    for is_cloud in [false, true] {
        let sim = if is_cloud { Sim::cloud().unwrap() } else { quiet_data_center() };
        let mut host = if is_cloud { cloud(&sim, ADMIN_TOKEN) } else { data_center(&sim) };
        host.set("page_size", "10");
        insert(&sim, is_cloud, 0..35);
        sim.fault(Fault::ForeignNextLink(other.url()));
        host.once_ok();
        is_exact(&sim, &host.events());
        sim.clear_faults();
        sim.fault(Fault::Redirect(format!("{}/rest/auditing/1.0/events", other.url())));
        let once = host.once_code(75);
        once.logged("redirected to");
    }
    assert_eq!(other.request_count(), 0);
}

/// A token that is replaced is used by the next request; after a refusal the new one is looked for.
#[test]
fn f56_rotate_secret_on_the_wire() {
    let sim = quiet_data_center();
    let host = data_center(&sim);
    let replace = |secret: &str| {
        fs::write(host.path("next"), format!("{secret}\n")).unwrap();
        fs::rename(host.path("next"), host.path("token")).unwrap();
    };
    let carried =
        |secret: &str| sim.requests().last().is_some_and(|seen| seen.authorization.is_bearer(secret));
    for secret in ["second", "third"] {
        sim.add_credential(Credential::new(Kind::Token, "auditor", secret));
    }
    insert(&sim, false, 0..5);
    let mut agent = host.start();
    agent.until("the first token is in use", || carried(ADMIN_TOKEN));
    replace("second");
    agent.until("the second token is in use", || carried("second"));
    sim.revoke(ADMIN_TOKEN);
    insert(&sim, false, 10..11);
    agent.until("nothing has failed", || host.delivered() == 6);
    assert_eq!(agent.log_count("not accepted"), 0, "{}", agent.stderr());
    // A file that is empty, or half written where it stands, is not taken.
    replace("");
    insert(&sim, false, 20..21);
    agent.until("the token stays in use", || host.delivered() == 7);
    agent.until_logged("the previous one stays in use");
    assert_eq!(agent.log_count("the previous one stays in use"), 1, "{}", agent.stderr());
    sim.revoke("second");
    agent.until_logged("credentials are not accepted");
    let refused = sim.request_count();
    replace("third");
    insert(&sim, false, 30..31);
    agent.until("the third token is in use", || host.delivered() == 8);
    assert!(sim.requests().len() as u64 > refused && carried("third"));
    assert_eq!(agent.stop(), 0);
    is_exact(&sim, &host.events());
}

/// What each combination of credentials sends; one that is refused sends nothing.
#[test]
fn f68_credential_table_on_the_wire() {
    let inline = |key: &str, value: &str| format!("{key} = {value:?}\n");
    for is_cloud in [false, true] {
        for bits in 0..8 {
            let sim = if is_cloud { Sim::cloud().unwrap() } else { quiet_data_center() };
            insert(&sim, is_cloud, 0..1);
            let (user, secret) =
                if is_cloud { (ADMIN_EMAIL, ADMIN_TOKEN) } else { ("auditor", ADMIN_PASSWORD) };
            let mut host = if is_cloud { cloud(&sim, ADMIN_TOKEN) } else { data_center(&sim) };
            let (pat, name, token) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            host.unset(&["personal", "user", "token"]);
            for (wanted, key, value) in
                [(pat, "personal_access_token", ADMIN_TOKEN), (name, "user", user), (token, "token", secret)]
            {
                if wanted {
                    host.source += &inline(key, value);
                }
            }
            let once = host.once();
            let sent: Vec<Presented> = sim.requests().into_iter().map(|seen| seen.authorization).collect();
            let place = format!("cloud {is_cloud}, {}: {}", host.source, once.stderr);
            match (is_cloud, pat, name && token) {
                (false, true, _) => assert!(sent.iter().all(|sent| sent.is_bearer(ADMIN_TOKEN)), "{place}"),
                (false, false, true) | (true, false, true) => {
                    assert!(sent.iter().all(|sent| sent.is_basic(user, secret)), "{place}");
                }
                _ => {
                    assert_eq!((once.code, sent.len()), (78, 0), "{place}");
                    continue;
                }
            }
            assert!(once.code == 0 && !sent.is_empty(), "{place}");
        }
    }
}

/// A body that drips is given up, and asked for again.
#[test]
fn f44_slow_body() {
    let sim = quiet_data_center();
    let mut host = data_center(&sim);
    host.set("idle_timeout", "\"2s\"");
    insert(&sim, false, 0..5);
    sim.fault_next(1, Fault::SlowBody { bytes: 1, pause: SOON });
    let mut agent = host.start();
    agent.until("the next try succeeds", || host.delivered() == 5);
    assert!(sim.audit_request_count() > 1, "the first one is given up");
    // What the next request heals is not logged for people.
    assert_eq!(
        agent.log_count("took longer than") + agent.log_count("answers again"),
        0,
        "{}",
        agent.stderr()
    );
    assert_eq!(agent.stop(), 0);
    is_exact(&sim, &host.events());
}

/// Bodies without end and bodies of hundreds of MiB do not take the agent's memory; then it asks for less.
#[test]
fn f44_huge_page() {
    let sim = quiet_data_center();
    let host = data_center(&sim);
    insert(&sim, false, 0..300);
    sim.fault_next(2, Fault::EndlessBody);
    // 75 MB for the 250 rows that are asked for then.
    sim.fault_for(crate::simulator::sim::Target::Audit, 3.., Fault::PaddedRows(300_000));
    let mut agent = host.start();
    agent.until_within(5 * SOON, "it comes in smaller pieces", || host.delivered() == 300);
    assert!(agent.log_count("a response was too large") >= 4, "{}", agent.stderr());
    let peak_kb = agent.status_kb("VmHWM");
    assert!(peak_kb < 100_000, "{peak_kb} kB");
    assert_eq!(agent.stop(), 0);
    is_exact(&sim, &host.events());
}
