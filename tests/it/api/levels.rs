//! How loudly a fault is logged: at debug what the next request heals, as a warning what lasts, as an error what a
//! person has to fix.

use super::binary::{data_center, insert, is_exact, quiet_data_center};
use crate::rig::SOON;
use crate::simulator::sim::{Fault, RateHeaders, Target};

/// Lines of the log at this level, but for those about the test's own files.
fn lines(stderr: &str, level: &str) -> Vec<String> {
    let of = |line: &&str| line.contains(&format!(" {level} ")) && !line.contains("holds a secret");
    stderr.lines().filter(of).map(str::to_owned).collect()
}

/// One request in ten fails and the next one does not: nothing is logged for people.
#[test]
fn f79_a_fault_that_the_next_request_heals_is_debug() {
    for fault in [
        Fault::TooManyRequests(RateHeaders::Absent),
        Fault::TooManyRequests(RateHeaders::Seconds(1)),
        Fault::Status(503, Vec::new()),
        Fault::Status(500, Vec::new()),
        Fault::TooManySearches,
        Fault::Hangup,
        Fault::SlowHead(SOON),
        Fault::NotJson,
        Fault::LoginPage,
    ] {
        // What a proxy shows while a server restarts is waited for by half a minute.
        if fault == Fault::LoginPage {
            continue;
        }
        let sim = quiet_data_center();
        let mut host = data_center(&sim);
        host.set("poll_interval", "\"1s\"");
        host.set("timeout", "\"2s\"");
        insert(&sim, false, 0..5);
        sim.fault_for(Target::Audit, 3..=3, fault.clone());
        sim.fault_for(Target::Audit, 6..=6, fault.clone());
        let mut agent = host.start();
        agent.until("the faults are over", || sim.audit_request_count() >= 8);
        assert_eq!(agent.stop(), 0);
        let printed = agent.stderr();
        let loud = [lines(&printed, "ERROR"), lines(&printed, "WARN"), lines(&printed, "INFO")].concat();
        let loud: Vec<_> = loud.iter().filter(|line| line.contains("source=wiki")).collect();
        assert!(loud.is_empty(), "{fault:?}: {loud:?}");
        is_exact(&sim, &host.events());
    }
}

/// What lasts longer than a poll interval is a warning, once, and its end is logged; what a person has to fix is an
/// error at once.
#[test]
fn f79_what_lasts_is_a_warning_and_what_a_person_has_to_fix_an_error() {
    for (fault, level, printed) in [
        (Fault::Status(503, Vec::new()), "WARN", "overloaded or being restarted"),
        (Fault::TooManyRequests(RateHeaders::Absent), "WARN", "rate limit reached"),
        (Fault::Hangup, "WARN", "closed before the response was complete"),
        (Fault::Unauthorized, "ERROR", "credentials are not accepted"),
        (Fault::Firewall, "ERROR", "web application firewall"),
        (Fault::Forbidden, "ERROR", "global permission"),
    ] {
        let sim = quiet_data_center();
        let mut host = data_center(&sim);
        host.set("poll_interval", "\"1500ms\"");
        insert(&sim, false, 0..5);
        sim.fault(fault.clone());
        let mut agent = host.start();
        agent.until_logged(printed);
        let reported = lines(&agent.stderr(), level);
        assert!(reported.len() == 1 && reported[0].contains(printed), "{fault:?}: {}", agent.stderr());
        let other = if level == "WARN" { "ERROR" } else { "WARN" };
        assert!(lines(&agent.stderr(), other).is_empty(), "{fault:?}: {}", agent.stderr());
        if level == "WARN" {
            assert!(sim.audit_request_count() >= 2, "{fault:?}: not of one request");
            sim.clear_faults();
            agent.until("it goes on", || host.delivered() == 5);
            agent.until_logged("answers again");
        }
        assert_eq!(agent.stop(), 0);
    }
}
