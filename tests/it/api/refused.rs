//! Rows that are no records, and answers that hold them twice: each row is an event or an error of its own.

use super::binary::{cloud, data_center, insert, quiet, quiet_data_center};
use super::*;
use crate::rig::{Event, Host};
use crate::simulator::sim::{Fault, Options, Row, Target};

fn entity(number: u64, at_ms: i64) -> String {
    Row::data_center(at_ms, number).api
}

fn errors(events: &[Event]) -> usize {
    events.iter().filter(|event| event.text("/event/kind") == "pipeline_error").count()
}

/// Delivers the answer twice, by polls that overlap; then what the server really has.
#[track_caller]
fn assert_answer_delivered(sim: &Sim, host: &mut Host, answer: &str, records: usize, broken: usize) {
    // One window.
    host.set("start", "\"30m\"");
    sim.fault_for(Target::Audit, .., Fault::Json(answer.to_owned()));
    for _ in 0..2 {
        let once = host.once();
        assert_eq!(once.code, 0, "{answer}\n{}", once.stderr);
        let events = host.events();
        assert_eq!((events.len(), errors(&events)), (records + broken, broken), "{answer}");
        let mut ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), events.len(), "{answer}");
    }
}

#[test]
fn f80_rows_of_data_center_are_never_dropped() {
    let last = r#""pagingInfo":{"lastPage":true}"#;
    let now_ms = confluence_audit_agent::clock::now_ms();
    let [one, two, three] = [1, 2, 3].map(|n| entity(n, now_ms - 60_000 + n as i64));
    for (answer, records, broken) in [
        (format!(r#"{{"entities":[{one},{two}],{last},"entities":[{three}]}}"#), 3, 0),
        (format!(r#"{{"entities":[{one},{two}],"entities":[],{last}}}"#), 2, 0),
        (format!(r#"{{"results":[{one}],"entities":[{two}],{last}}}"#), 2, 0),
        (format!(r#"{{"entities":[{{}},{{}},{one}],{last}}}"#), 1, 2),
        (format!(r#"{{"entities":[null,5,"x",[],[{{}}],true,{{}},{{"a":1}},{one}],{last}}}"#), 1, 8),
        (format!(r#"{{"entities":[{{}},{{}}],{last}}}"#), 0, 2),
    ] {
        let sim = quiet_data_center();
        let mut host = data_center(&sim);
        assert_answer_delivered(&sim, &mut host, &answer, records, broken);
        sim.clear_faults();
        insert(&sim, false, 10..12);
        host.once_ok();
        assert_eq!(host.events().len(), records + broken + 2);
    }
}

#[test]
fn f80_rows_of_cloud_are_never_dropped() {
    let now_ms = confluence_audit_agent::clock::now_ms();
    let [one, two] = [1, 2].map(|n| Row::cloud(now_ms - 60_000 + n as i64, n).api);
    for (answer, records, broken) in [
        (format!(r#"{{"results":[{one},{two}],"results":[]}}"#), 2, 0),
        (format!(r#"{{"results":[{one}],"entities":[{two}]}}"#), 2, 0),
        (format!(r#"{{"results":[{one},{{}},{{}},null]}}"#), 1, 3),
    ] {
        let sim = quiet(Options::cloud());
        let mut host = cloud(&sim, ADMIN_TOKEN);
        assert_answer_delivered(&sim, &mut host, &answer, records, broken);
    }
}
