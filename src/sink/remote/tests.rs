//! The delivery loop against a scripted server, with simulated time.

use super::*;
use crate::sink::outcome::Outcome;
use crate::sink::{Batch, BatchEvent, EventSeverity};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// A server that deduplicates events by their ids.
#[derive(Default)]
struct ScriptedServer {
    accepted: RefCell<BTreeSet<u128>>,
    requests: RefCell<Vec<Vec<u128>>>,
    /// When each request arrived.
    times: RefCell<Vec<Instant>>,
    begun: RefCell<Option<Instant>>,
    credentials_changed: Cell<bool>,
    /// Bytes of buffers that were returned to the reader.
    returned: Cell<usize>,
    /// Added to the time that a request takes.
    slowness: Cell<Duration>,
}

struct ScriptedPeer<'a, A> {
    server: &'a ScriptedServer,
    outcome: A,
}

impl<A: Fn(&ScriptedServer, &[(u128, usize)]) -> Option<RequestOutcome>> Destination for ScriptedPeer<'_, A> {
    /// The scripted outcome; without one all events are accepted.
    async fn send(&self, events: &[PendingEvent]) -> RequestOutcome {
        let server = self.server;
        server.begun.borrow_mut().get_or_insert(Instant::now());
        let events: Vec<(u128, usize)> = events.iter().map(|e| (e.id().0, e.bytes().len())).collect();
        let ids = events.iter().map(|(id, _)| *id);
        server.requests.borrow_mut().push(ids.clone().collect());
        server.times.borrow_mut().push(Instant::now());
        // Another request may arrive meanwhile.
        tokio::time::sleep(Duration::from_millis(7) + server.slowness.get()).await;
        (self.outcome)(server, &events).unwrap_or_else(|| {
            let mut accepted = server.accepted.borrow_mut();
            let outcome = |id| match accepted.insert(id) {
                true => Outcome::Delivered,
                false => Outcome::Duplicate,
            };
            RequestOutcome::Each(ids.map(outcome).collect())
        })
    }

    fn credentials_changed(&self) -> bool {
        self.server.credentials_changed.replace(false)
    }
}

#[derive(Debug, Default)]
struct RunResult {
    finals: Vec<u64>,
    events: u64,
    returned: usize,
    troubles: Vec<Option<String>>,
    quarantined: BTreeMap<u128, String>,
    result: Option<SinkError>,
}

fn batch(number: u64, ids: std::ops::Range<u128>, size: impl Fn(u128) -> usize) -> Batch {
    let mut batch = Batch { number: Some(number), ..Batch::default() };
    for id in ids {
        batch.bytes.resize(batch.bytes.len() + size(id), b'x');
        batch.bytes.push(b'\n');
        batch.events.push(BatchEvent {
            end: batch.bytes.len() as u32,
            id: EventId(id),
            time_ms: id as i64,
            header_fields: Default::default(),
        });
    }
    batch
}

fn settings() -> DeliverySettings {
    DeliverySettings {
        sink: "elastic".into(),
        source: "wiki".into(),
        batch: BatchConfig { bytes: 4000, events: 50, wait: Some(Duration::from_secs(1)) },
        concurrency: 2,
        on_poison: OnPoison::Quarantine,
        once: false,
        quarantine_unproven: false,
    }
}

fn run_with(
    settings: DeliverySettings,
    server: &ScriptedServer,
    outcome: impl Fn(&ScriptedServer, &[(u128, usize)]) -> Option<RequestOutcome>,
    feed: impl AsyncFnOnce(UnboundedSender<Message>),
) -> RunResult {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let recorded = RefCell::new(RunResult::default());
    let report = |report: Report| {
        let mut recorded = recorded.borrow_mut();
        match report {
            Report::Written(bytes) => {
                recorded.returned += bytes.len();
                server.returned.set(recorded.returned);
            }
            Report::Final { number, events, .. } => {
                recorded.finals.push(number);
                recorded.events += events;
            }
            Report::Health(trouble) => recorded.troubles.push(trouble),
            Report::Quarantined(_) | Report::Acknowledged(_) | Report::Request { .. } => {}
        }
    };
    let quarantine = |refused: &[Refused]| {
        let refused = refused.iter().map(|r| (r.id.0, r.reason.clone()));
        recorded.borrow_mut().quarantined.extend(refused);
        Ok(())
    };
    let ended = runtime.block_on(async {
        let (messages, receiver) = unbounded_channel();
        let destination = ScriptedPeer { server, outcome };
        let run = run(destination, settings, receiver, &report, &quarantine);
        // A day is longer than any test waits.
        let run = tokio::time::timeout(Duration::from_secs(86_400), run);
        let (result, ()) = tokio::join!(run, feed(messages));
        result.expect("it ends")
    });
    let mut recorded = recorded.into_inner();
    recorded.result = ended.err();
    recorded
}

/// `count` events of 100 bytes, ten in a batch, then the end of input.
fn run_all(
    count: u128,
    server: &ScriptedServer,
    outcome: impl Fn(&ScriptedServer, &[(u128, usize)]) -> Option<RequestOutcome>,
) -> RunResult {
    run_with(settings(), server, outcome, async |messages| feed_all(&messages, count, |_| 100))
}

fn feed_all(messages: &UnboundedSender<Message>, count: u128, size: impl Fn(u128) -> usize) {
    feed_all_but_end(messages, count, size);
    messages.send(Message::End).unwrap();
}

fn feed_all_but_end(messages: &UnboundedSender<Message>, count: u128, size: impl Fn(u128) -> usize) {
    for number in 0..count.div_ceil(10) {
        let ids = number * 10..((number + 1) * 10).min(count);
        messages.send(Message::Batch(batch(number as u64, ids, &size))).unwrap();
    }
}

fn each(events: &[(u128, usize)], outcome: impl Fn(u128) -> Outcome) -> Option<RequestOutcome> {
    Some(RequestOutcome::Each(events.iter().map(|(id, _)| outcome(*id)).collect()))
}

fn poison() -> Outcome {
    Outcome::Poison { reason: "no such field".into() }
}

#[track_caller]
fn is_complete(result: &RunResult, server: &ScriptedServer, count: u128) {
    let mut finals = result.finals.clone();
    finals.sort();
    assert_eq!(finals, (0..count.div_ceil(10) as u64).collect::<Vec<_>>());
    assert_eq!(result.events, count as u64);
    let mut accounted = server.accepted.borrow().clone();
    accounted.extend(result.quarantined.keys());
    assert_eq!(accounted, (0..count).collect());
    assert!(result.result.is_none(), "{:?}", result.result);
}

#[test]
fn events_are_joined_into_requests() {
    let server = ScriptedServer::default();
    let result = run_all(1000, &server, |_, _| None);
    is_complete(&result, &server, 1000);
    // 4000 bytes hold 39 events of 101.
    assert_eq!(server.requests.borrow().len(), 1000usize.div_ceil(39));
    assert_eq!((result.returned, result.troubles.len()), (1000 * 101, 0));
}

#[test]
fn f53_a_request_that_is_not_full_goes_at_its_time_and_at_the_end_at_once() {
    let server = ScriptedServer::default();
    let slow = DeliverySettings {
        batch: BatchConfig { wait: Some(Duration::from_secs(600)), ..settings().batch },
        ..settings()
    };
    run_with(
        slow,
        &server,
        |_, _| None,
        async |messages| {
            let begun = Instant::now();
            messages.send(Message::Batch(batch(0, 0..3, |_| 9))).unwrap();
            tokio::time::sleep(Duration::from_secs(700)).await;
            assert_eq!(server.accepted.borrow().len(), 3);
            assert_eq!(server.begun.borrow().unwrap() - begun, Duration::from_secs(600));
            messages.send(Message::Batch(batch(1, 3..4, |_| 9))).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(server.accepted.borrow().len(), 3);
            messages.send(Message::End).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(server.accepted.borrow().len(), 4);
        },
    );
}

/// With the defaults: an event that comes alone goes at once. During a request the others form a batch, which goes when
/// the request ends, or after [`BatchConfig::BUSY_WAIT`] if the request is slow.
#[test]
fn a_batch_forms_while_a_request_is_in_flight() {
    for (slowness_ms, second_at_ms) in [(193, 200), (5_000, 1_010)] {
        let server = ScriptedServer::default();
        server.slowness.set(Duration::from_millis(slowness_ms));
        let settings =
            DeliverySettings { batch: BatchConfig { wait: None, ..settings().batch }, ..settings() };
        let start = Cell::new(None);
        run_with(
            settings,
            &server,
            |_, _| None,
            async |messages| {
                start.set(Some(Instant::now()));
                for number in 0..5 {
                    let id = u128::from(number);
                    messages.send(Message::Batch(batch(number, id..id + 1, |_| 9))).unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                tokio::time::sleep(Duration::from_secs(20)).await;
                messages.send(Message::End).unwrap();
            },
        );
        let times = server.times.borrow();
        let times_ms: Vec<u128> = times.iter().map(|at| (*at - start.get().unwrap()).as_millis()).collect();
        assert_eq!(times_ms, [0, second_at_ms]);
        assert_eq!(*server.requests.borrow(), [vec![0], vec![1, 2, 3, 4]]);
    }
}

#[test]
fn an_event_in_several_batches_is_sent_without_delay() {
    let server = ScriptedServer::default();
    let slow = DeliverySettings {
        batch: BatchConfig { wait: Some(Duration::from_secs(600)), ..settings().batch },
        ..settings()
    };
    run_with(
        slow,
        &server,
        |_, _| None,
        async |messages| {
            let begun = Instant::now();
            messages.send(Message::Batch(batch(0, 0..1, |_| 9))).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(server.accepted.borrow().len(), 0);
            // The reader waits for its buffers.
            messages.send(Message::Flush).unwrap();
            feed_long(&messages, &server, &mut 10, 1).await;
            feed_long(&messages, &server, &mut 900_111, 2).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(server.accepted.borrow().len(), 3);
            assert!(begun.elapsed() < Duration::from_secs(60));
            messages.send(Message::End).unwrap();
        },
    );
}

#[test]
fn f47_bulk_mixed() {
    let server = ScriptedServer::default();
    let refused = RefCell::new(BTreeSet::new());
    let result = run_all(30, &server, |server, events| {
        each(events, |id| match id % 5 {
            // Busy at first.
            0 | 1 if refused.borrow_mut().insert(id) => Outcome::Retry {
                reason: "status 429".into(),
                after: (id == 0).then(|| Duration::from_secs(90)),
            },
            2 => poison(),
            _ => match server.accepted.borrow_mut().insert(id) {
                true => Outcome::Delivered,
                false => Outcome::Duplicate,
            },
        })
    });
    is_complete(&result, &server, 30);
    assert_eq!(result.quarantined.keys().copied().collect::<Vec<_>>(), [2, 7, 12, 17, 22, 27]);
    let again: Vec<u128> = (0..30).filter(|id| id % 5 < 2).collect();
    assert_eq!(*server.requests.borrow(), [(0..30).collect(), again]);
}

#[test]
fn f47_a_server_that_takes_a_part_each_time_is_given_time() {
    let (server, last) = (ScriptedServer::default(), Cell::new(None));
    let result = run_with(
        settings(),
        &server,
        |server, events| {
            last.set(Some(Instant::now()));
            let outcome = |(at, (id, _)): (usize, &(u128, usize))| match at % 2 {
                0 => {
                    server.accepted.borrow_mut().insert(*id);
                    Outcome::Delivered
                }
                _ => Outcome::retry("status 429"),
            };
            Some(RequestOutcome::Each(events.iter().enumerate().map(outcome).collect()))
        },
        async |messages| feed_all(&messages, 40, |_| 30),
    );
    is_complete(&result, &server, 40);
    // 40, 20, 10, 5, 2 and 1.
    assert_eq!(server.requests.borrow().len(), 6);
    let lasted = last.get().unwrap() - server.begun.borrow().unwrap();
    assert!((8..=16).contains(&lasted.as_secs()), "{lasted:?}");
    assert!(matches!(&result.troubles[..], [Some(_), None]), "{:?}", result.troubles);
}

#[test]
fn f47_an_answer_that_does_not_fit_what_was_sent_is_no_delivery() {
    let server = ScriptedServer::default();
    let first = Cell::new(true);
    let result = run_all(10, &server, |_, events| {
        first.replace(false).then(|| RequestOutcome::Each(vec![Outcome::Delivered; events.len() - 1]))
    });
    is_complete(&result, &server, 10);
    assert_eq!(server.requests.borrow().len(), 2);
}

#[test]
fn f48_poison_event() {
    let (server, whole) = (ScriptedServer::default(), ScriptedServer::default());
    let bad = |id: u128| id == 17 || id == 40;
    let named = run_all(100, &server, |server, events| {
        each(events, |id| match bad(id) {
            true => poison(),
            false => {
                server.accepted.borrow_mut().insert(id);
                Outcome::Delivered
            }
        })
    });
    // The same with a server that refuses the whole request and names no event.
    let unnamed = run_all(100, &whole, |_, events| {
        events
            .iter()
            .any(|(id, _)| bad(*id))
            .then(|| RequestOutcome::Halve { reason: "no such field".into(), too_large: false })
    });
    // The same with a server that names the first bad event, counting from 0 or from 1.
    let suspects = [0, 1].map(|from| {
        let server = ScriptedServer::default();
        let result = run_all(100, &server, |_, events| {
            let at = events.iter().position(|(id, _)| bad(*id))?;
            Some(RequestOutcome::Suspect { at: at + from, reason: "no such field".into() })
        });
        (result, server)
    });
    assert!(suspects[0].1.requests.borrow().len() < 20);
    let suspects = suspects.iter().map(|(result, server)| (result, server));
    for (result, server) in [(&named, &server), (&unnamed, &whole)].into_iter().chain(suspects) {
        is_complete(result, server, 100);
        let reason = "no such field".to_string();
        assert_eq!(result.quarantined, BTreeMap::from([(17, reason.clone()), (40, reason)]));
    }
    assert!(whole.requests.borrow().len() < 40);
    let stop = DeliverySettings { on_poison: OnPoison::Stop, ..settings() };
    let server = ScriptedServer::default();
    let result = run_with(
        stop,
        &server,
        |_, events| each(events, |id| if bad(id) { poison() } else { Outcome::Delivered }),
        async |messages| feed_all(&messages, 100, |_| 100),
    );
    assert!(matches!(result.result, Some(SinkError::Poison { id: EventId(17), .. })));
    assert!(!result.finals.contains(&1) && result.quarantined.is_empty());
}

#[test]
fn f48_where_everything_is_refused_nothing_is_set_aside() {
    let (server, wrong) = (ScriptedServer::default(), Cell::new(true));
    let result = run_with(
        settings(),
        &server,
        |server, events| {
            // Fixed after an hour.
            let begun = server.begun.borrow().unwrap();
            wrong.set(begun.elapsed() < Duration::from_secs(3600));
            wrong.get().then(|| each(events, |_| poison()).unwrap())
        },
        async |messages| feed_all(&messages, 100, |_| 100),
    );
    is_complete(&result, &server, 100);
    assert_eq!(result.quarantined, BTreeMap::new());
    assert!(server.requests.borrow().len() < 40, "{}", server.requests.borrow().len());
}

/// The agent's own events have another form: that they are accepted says nothing of audit events.
#[test]
fn f48_events_of_the_agent_prove_nothing() {
    let server = ScriptedServer::default();
    let refuses_audit = |_: &ScriptedServer, events: &[(u128, usize)]| {
        each(events, |id| if id % 10 == 0 { Outcome::Delivered } else { poison() })
    };
    let result =
        run_with(DeliverySettings { once: true, ..settings() }, &server, refuses_audit, async |messages| {
            for number in 0..20 {
                let from = u128::from(number) * 10;
                let mut batch = batch(number, from..from + 10, |_| 100);
                batch.events[0].header_fields = HeaderFields::new(EventSeverity::Info, "agent.heartbeat");
                messages.send(Message::Batch(batch)).unwrap();
            }
            messages.send(Message::End).unwrap();
        });
    assert_eq!(result.quarantined, BTreeMap::new());
    assert!(matches!(result.result, Some(SinkError::GaveUp { .. })), "{:?}", result.result);
}

#[test]
fn f48_what_is_taken_after_it_proves_it_too() {
    let server = ScriptedServer::default();
    let result = run_all(10, &server, |_, events| {
        events
            .iter()
            .any(|(id, _)| *id == 0)
            .then(|| RequestOutcome::Halve { reason: "no".into(), too_large: false })
    });
    is_complete(&result, &server, 10);
    assert_eq!(result.quarantined.len(), 1);
    let alone = server.requests.borrow().iter().filter(|ids| **ids == [0]).count();
    // It is sent once more after others were accepted: the server may have recovered before it accepted them.
    assert_eq!((alone, result.troubles.len()), (2, 0));
}

#[test]
fn f48_the_first_event_of_all_is_poison() {
    let server = ScriptedServer::default();
    let result = run_with(
        settings(),
        &server,
        |_, events| {
            events
                .iter()
                .any(|(id, _)| *id == 0)
                .then(|| RequestOutcome::Halve { reason: "no".into(), too_large: false })
        },
        async |messages| {
            messages.send(Message::Batch(batch(0, 0..1, |_| 100))).unwrap();
            tokio::time::sleep(Duration::from_secs(7000)).await;
            // An event that is refused alone waits until another event is accepted.
            assert_eq!(server.accepted.borrow().len(), 0);
            messages.send(Message::Batch(batch(1, 1..10, |_| 100))).unwrap();
            messages.send(Message::End).unwrap();
        },
    );
    assert_eq!(result.quarantined.keys().copied().collect::<Vec<_>>(), [0]);
    assert_eq!((result.events, server.accepted.borrow().len()), (10, 9));
}

/// The poison event is refused at once, while the request that proves it is still in flight.
#[test]
fn f48_what_proves_it_is_on_its_way() {
    let server = ScriptedServer::default();
    let mut settings = DeliverySettings { once: true, ..settings() };
    settings.batch.bytes = 100_000;
    let result = run_with(
        settings,
        &server,
        |_, events| {
            let halve = |reason: &str| RequestOutcome::Halve { reason: reason.into(), too_large: true };
            (events.len() > 5 || events[0].0 == 50).then(|| halve("too large"))
        },
        async |messages| {
            messages.send(Message::Batch(batch(0, 0..51, |_| 100))).unwrap();
            messages.send(Message::End).unwrap();
        },
    );
    assert!(result.result.is_none(), "{:?}", result.result);
    assert_eq!(result.quarantined.keys().copied().collect::<Vec<_>>(), [50]);
    assert_eq!((result.events, server.accepted.borrow().len()), (51, 50));
}

/// Outcome of a refused request, by ids and sizes of its events.
type MakeRefusal = fn(&[(u128, usize)]) -> RequestOutcome;

/// All kinds of refused requests.
const REFUSALS: [MakeRefusal; 5] = [
    |_| RequestOutcome::Halve { reason: "status 400".into(), too_large: false },
    |_| RequestOutcome::Halve { reason: "status 413".into(), too_large: true },
    |_| RequestOutcome::Suspect { at: 0, reason: "code 6".into() },
    |events| RequestOutcome::Suspect { at: events.len() / 2, reason: "code 12".into() },
    |events| each(events, |_| poison()).unwrap(),
];

impl ScriptedServer {
    /// The most requests within one second, among those of the first `until_s` seconds.
    fn requests_in_a_second(&self, until_s: u64) -> usize {
        let mut times = self.times.borrow().clone();
        times.retain(|time| (*time - self.begun.borrow().unwrap()).as_secs() < until_s);
        let within = |from: &Instant| {
            let later = times.iter().filter(|time| **time >= *from);
            later.filter(|time| **time - *from < Duration::from_secs(1)).count()
        };
        times.iter().map(within).max().unwrap_or(0)
    }

    fn pauses(&self) -> Vec<Duration> {
        let times = self.times.borrow();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.filter(|gap| *gap >= Duration::from_secs(2)).collect()
    }
}

/// Bisecting stops as well for a server that refuses everything. The pauses are those that the log reports.
#[test]
fn f96_a_server_that_refuses_everything_is_left_alone() {
    for (at, refuse) in REFUSALS.iter().enumerate() {
        for accepted in [0, 1, 2, 7] {
            let server = ScriptedServer::default();
            let large = DeliverySettings {
                batch: BatchConfig { bytes: 1 << 20, events: 500, wait: Some(Duration::from_secs(1)) },
                ..settings()
            };
            let result = run_with(
                large,
                &server,
                |server, events| {
                    let wrong = server.begun.borrow().unwrap().elapsed() < Duration::from_secs(3600);
                    (wrong && server.requests.borrow().len() > accepted).then(|| refuse(events))
                },
                async |messages| feed_all(&messages, 4000, |_| 100),
            );
            is_complete(&result, &server, 4000);
            assert_eq!(result.quarantined, BTreeMap::new(), "{at}");
            let in_a_second = server.requests_in_a_second(3600);
            assert!(in_a_second <= accepted + 20, "{at}: {in_a_second}");
            let pauses = server.pauses();
            let (first, last) = (pauses[0].as_secs(), pauses[pauses.len() - 1].as_secs());
            // No pause is skipped, and none is waited for twice.
            assert!((29..=65).contains(&first) && last <= 901, "{at}: {pauses:?}");
            let doubles = |pair: &[Duration]| pair[1] <= 4 * pair[0];
            assert!(pauses.windows(2).all(doubles), "{at}: {pauses:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// A server that refuses everything for a while, starting with any request. No good event goes into
    /// quarantine, and each poison event does.
    #[test]
    fn f96_only_poison_is_set_aside(
        kind in 0..REFUSALS.len(),
        broken in prop::collection::vec((0usize..60, 0usize..40), 0..2),
        bad in prop::collection::btree_set(0u128..300, 0..4),
        concurrency in 1usize..4,
        events in 1usize..200,
    ) {
        let server = ScriptedServer::default();
        let small = DeliverySettings {
            concurrency,
            batch: BatchConfig { events, bytes: 1 << 20, ..settings().batch },
            ..settings()
        };
        let result = run_with(
            small,
            &server,
            |server, events| {
                let number = server.requests.borrow().len();
                let mut from = 0;
                for (healthy, refusing) in &broken {
                    from += healthy;
                    if (from..from + refusing).contains(&number) {
                        return Some(REFUSALS[kind](events));
                    }
                    from += refusing;
                }
                let at = events.iter().position(|(id, _)| bad.contains(id))?;
                match kind {
                    0 | 1 => Some(REFUSALS[kind](events)),
                    2 | 3 => Some(RequestOutcome::Suspect { at, reason: "code 6".into() }),
                    _ => each(events, |id| if bad.contains(&id) { poison() } else {
                        server.accepted.borrow_mut().insert(id);
                        Outcome::Delivered
                    }),
                }
            },
            async |messages| {
                feed_all_but_end(&messages, 300, |_| 100);
                tokio::time::sleep(Duration::from_secs(20_000)).await;
                feed_slowly(&messages, 30, 30).await;
            },
        );
        is_complete(&result, &server, 600);
        prop_assert_eq!(result.quarantined.into_keys().collect::<BTreeSet<_>>(), bad);
    }
}

/// One poison event at low traffic: it holds up no other event, and goes into quarantine when the next event
/// is accepted.
#[test]
fn f96_an_event_that_waits_for_proof_holds_up_no_other() {
    let server = ScriptedServer::default();
    let result = run_with(
        settings(),
        &server,
        |_, events| {
            let bad = events.iter().any(|(id, _)| *id == 1);
            bad.then(|| REFUSALS[0](events))
        },
        async |messages| {
            for id in 0..4 {
                messages.send(Message::Batch(batch(id as u64, id..id + 1, |_| 9))).unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
                assert_eq!(server.accepted.borrow().contains(&id), id != 1);
            }
            messages.send(Message::End).unwrap();
        },
    );
    assert_eq!(result.quarantined.keys().copied().collect::<Vec<_>>(), [1]);
    assert!(matches!(&result.troubles[..], [Some(_), None]), "{:?}", result.troubles);
}

/// Events from the quarantine are all tried, however many are refused again.
#[test]
fn f96_what_was_set_aside_before_is_tried_to_the_last() {
    let server = ScriptedServer::default();
    let replay = DeliverySettings {
        once: true,
        quarantine_unproven: true,
        batch: BatchConfig { events: 100, bytes: 1 << 20, ..settings().batch },
        ..settings()
    };
    let result = run_with(
        replay,
        &server,
        |_, events| events.iter().any(|(id, _)| *id < 90).then(|| REFUSALS[0](events)),
        async |messages| feed_all(&messages, 100, |_| 9),
    );
    is_complete(&result, &server, 100);
    assert_eq!((result.quarantined.len(), server.accepted.borrow().len()), (90, 10));
}

/// With `--once` the later events are sent before the run gives up.
#[test]
fn f96_once_waits_for_what_may_prove_it() {
    for (bad, is_proven) in [(0, true), (50, true), (98, true), (99, true), (100, false)] {
        let server = ScriptedServer::default();
        let once = DeliverySettings {
            once: true,
            concurrency: 1,
            batch: BatchConfig { events: if bad == 100 { 100 } else { 7 }, ..settings().batch },
            ..settings()
        };
        let result = run_with(
            once,
            &server,
            |_, events| {
                let bad = bad == 100 || events.iter().any(|(id, _)| *id == bad);
                bad.then(|| REFUSALS[0](events))
            },
            async |messages| feed_all(&messages, 100, |_| 9),
        );
        let quarantined: Vec<u128> = result.quarantined.keys().copied().collect();
        match is_proven {
            true => assert_eq!((quarantined, result.result.is_none()), (vec![bad], true), "{bad}"),
            false => assert!(quarantined.is_empty() && result.result.is_some()),
        }
    }
}

/// These small batches prove refusals at the end of the input.
async fn feed_slowly(messages: &UnboundedSender<Message>, from: u64, batches: u64) {
    for number in from..from + batches {
        tokio::time::sleep(Duration::from_secs(1000)).await;
        let ids = u128::from(number) * 10..u128::from(number) * 10 + 10;
        messages.send(Message::Batch(batch(number, ids, |_| 1))).unwrap();
    }
    messages.send(Message::End).unwrap();
}

/// Sends an event in several batches as the reader does: each when all buffers are returned.
async fn feed_long(messages: &UnboundedSender<Message>, server: &ScriptedServer, sent: &mut usize, id: u128) {
    let tail = batch(id as u64, id..id + 1, |_| 100);
    for _ in 0..3 {
        let part = Batch { bytes: vec![b'x'; 300_000], ..Batch::default() };
        while server.returned.get() < *sent {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        *sent += part.bytes.len();
        messages.send(Message::Batch(part)).unwrap();
    }
    *sent += tail.bytes.len();
    messages.send(Message::Batch(tail)).unwrap();
}

#[test]
fn f48_the_first_event_of_all_is_long_and_poison() {
    let server = ScriptedServer::default();
    let result = run_with(
        settings(),
        &server,
        |_, events| {
            let bad = events.iter().any(|(id, _)| *id < 3);
            bad.then(|| RequestOutcome::Halve { reason: "no".into(), too_large: false })
        },
        async |messages| {
            let mut sent = 0;
            for id in 0..4 {
                feed_long(&messages, &server, &mut sent, id).await;
            }
            messages.send(Message::End).unwrap();
        },
    );
    assert_eq!(result.quarantined.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((result.events, server.accepted.borrow().len()), (4, 1));
    assert_eq!(result.returned, 4 * 900_101);
}

#[test]
fn f48_what_proves_it_is_long() {
    let server = ScriptedServer::default();
    let result = run_with(
        settings(),
        &server,
        |_, events| {
            let bad = events.iter().any(|(id, _)| *id == 0);
            bad.then(|| each(events, |_| poison()).unwrap())
        },
        async |messages| {
            messages.send(Message::Batch(batch(0, 0..1, |_| 100))).unwrap();
            feed_long(&messages, &server, &mut 101, 1).await;
            messages.send(Message::End).unwrap();
        },
    );
    assert_eq!(result.quarantined.keys().copied().collect::<Vec<_>>(), [0]);
    assert_eq!((result.events, server.accepted.borrow().len()), (2, 1));
}

#[test]
fn f48_refused_events_fill_more_than_a_request() {
    let server = ScriptedServer::default();
    let result = run_all(400, &server, |server, events| {
        each(events, |id| match id < 200 {
            true => poison(),
            false => {
                server.accepted.borrow_mut().insert(id);
                Outcome::Delivered
            }
        })
    });
    is_complete(&result, &server, 400);
    assert_eq!(result.quarantined.len(), 200);
    let requests = server.requests.borrow().len();
    assert!(requests < 60, "{requests} requests");
}

#[test]
fn f49_where_everything_is_too_large_nothing_is_set_aside() {
    let server = ScriptedServer::default();
    let result = run_with(
        settings(),
        &server,
        |server, _| {
            let wrong = server.begun.borrow().unwrap().elapsed() < Duration::from_secs(3600);
            wrong.then(|| RequestOutcome::Halve { reason: "status 413".into(), too_large: true })
        },
        async |messages| feed_all(&messages, 100, |_| 100),
    );
    is_complete(&result, &server, 100);
    assert_eq!(result.quarantined, BTreeMap::new());
}

#[test]
fn f49_what_no_protocol_carries_needs_no_witness() {
    let server = ScriptedServer::default();
    let too_large = |id| match id {
        0..5 => Outcome::TooLarge { reason: "does not fit into a datagram".into() },
        _ => Outcome::retry("nothing listens there"),
    };
    let once = DeliverySettings { once: true, ..settings() };
    let result = run_with(
        once,
        &server,
        |_, events| each(events, too_large),
        async |messages| feed_all(&messages, 10, |_| 100),
    );
    assert!(matches!(result.result, Some(SinkError::GaveUp { .. })));
    assert_eq!(result.quarantined.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

proptest! {
    /// A server with a size limit. All events that fit are delivered and the larger ones go into quarantine,
    /// in few requests.
    #[test]
    fn f49_too_large(mut sizes in prop::collection::vec(1usize..3000, 1..120), limit in 50usize..5000) {
        // Some event is always accepted. Otherwise the sink would wait for the operator.
        sizes.iter_mut().step_by(5).for_each(|size| *size = 1);
        let server = ScriptedServer::default();
        let result = run_with(
            settings(),
            &server,
            |_, events| {
                let bytes: usize = events.iter().map(|(_, bytes)| bytes + 1).sum();
                (bytes > limit).then(|| RequestOutcome::Halve { reason: "status 413".into(), too_large: true })
            },
            async |messages| {
                sizes.resize(sizes.len().next_multiple_of(10), 1);
                feed_all_but_end(&messages, sizes.len() as u128, |id| sizes[id as usize]);
                feed_slowly(&messages, sizes.len() as u64 / 10, 10).await;
            },
        );
        sizes.extend([1; 100]);
        prop_assert!(result.result.is_none());
        let too_large = |id: &u128| sizes.get(*id as usize).is_some_and(|size| size + 1 > limit);
        let accepted = server.accepted.borrow();
        prop_assert_eq!(accepted.len() + result.quarantined.len(), sizes.len());
        prop_assert!(!accepted.iter().any(too_large) && result.quarantined.keys().all(too_large));
        // A neighbour may have to prove an event, one minute at a time.
        let n = sizes.len();
        let requests = server.requests.borrow().len();
        prop_assert!(requests <= 3 * n + 40, "{requests} requests for {n} events");
    }
}

#[test]
fn f50_store_then_drop() {
    let server = ScriptedServer::default();
    let result = run_all(500, &server, |server, events| {
        let cut = server.requests.borrow().len() % 2 == 1;
        cut.then(|| {
            server.accepted.borrow_mut().extend(events.iter().map(|(id, _)| id));
            RequestOutcome::All(Outcome::retry("the connection ended before the answer did"))
        })
    });
    is_complete(&result, &server, 500);
}

#[test]
fn f51_while_nothing_is_taken_nothing_more_is_asked_for_and_one_request_tries() {
    let server = ScriptedServer::default();
    let result = run_with(
        settings(),
        &server,
        |server, _| {
            let down = server.begun.borrow().unwrap().elapsed() < Duration::from_secs(6 * 3600);
            down.then(|| RequestOutcome::All(Outcome::retry("cannot reach `c`")))
        },
        async |messages| {
            feed_all(&messages, 200, |_| 100);
            tokio::time::sleep(Duration::from_secs(6 * 3600 - 10)).await;
            // Two requests were in flight when it failed. Then one at a time is sent, at least every quarter
            // of an hour.
            let requests = server.requests.borrow();
            assert!((10..60).contains(&requests.len()), "{}", requests.len());
            let tried: BTreeSet<&Vec<u128>> = requests.iter().collect();
            assert!(tried.len() <= 2, "{tried:?}");
        },
    );
    is_complete(&result, &server, 200);
    assert_eq!(result.troubles.len(), 2);
    assert!(result.troubles[0].is_some() && result.troubles[1].is_none());
}

#[test]
fn f55_sink_401() {
    let server = ScriptedServer::default();
    let result = run_with(
        settings(),
        &server,
        |server, _| {
            let wrong = server.begun.borrow().unwrap().elapsed() < Duration::from_secs(3600);
            wrong.then(|| RequestOutcome::All(Outcome::Misconfigured { reason: "status 401".into() }))
        },
        async |messages| feed_all(&messages, 200, |_| 100),
    );
    is_complete(&result, &server, 200);
    assert_eq!(result.quarantined, BTreeMap::new());
    let tried = server.requests.borrow().len() - 200usize.div_ceil(39);
    assert!((5..20).contains(&tried), "{tried} in an hour");
}

#[test]
fn f55_corrected_credentials_are_tried_at_once() {
    let (server, right) = (ScriptedServer::default(), Cell::new(false));
    run_with(
        settings(),
        &server,
        |_, _| {
            (!right.get())
                .then(|| RequestOutcome::All(Outcome::Misconfigured { reason: "status 401".into() }))
        },
        async |messages| {
            messages.send(Message::Batch(batch(0, 0..3, |_| 9))).unwrap();
            tokio::time::sleep(Duration::from_secs(1800)).await;
            let tried = server.requests.borrow().len();
            right.set(true);
            server.credentials_changed.set(true);
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!((server.requests.borrow().len(), server.accepted.borrow().len()), (tried + 1, 3));
            messages.send(Message::End).unwrap();
        },
    );
}

#[test]
fn once_does_not_wait_for_ever() {
    let once = || DeliverySettings { once: true, ..settings() };
    for outcome in
        [Outcome::retry("cannot reach `c`"), Outcome::Misconfigured { reason: "status 403".into() }]
    {
        let server = ScriptedServer::default();
        let outcome = |_: &ScriptedServer, _: &[(u128, usize)]| Some(RequestOutcome::All(outcome.clone()));
        let result = run_with(once(), &server, outcome, async |messages| feed_all(&messages, 10, |_| 9));
        assert!(matches!(result.result, Some(SinkError::GaveUp { .. })), "{:?}", result.result);
        assert_eq!((result.finals.len(), result.quarantined.len()), (0, 0));
    }
}

#[test]
fn a_quarantine_that_cannot_be_written_holds_the_events() {
    let server = ScriptedServer::default();
    let full = Cell::new(true);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let finals = Cell::new(0);
    let report = |report: Report| {
        if let Report::Final { .. } = report {
            finals.set(finals.get() + 1);
        }
    };
    let quarantine = |refused: &[Refused]| {
        assert_eq!(refused.len(), 1);
        match full.replace(false) {
            true => Err(io::Error::other("disk full")),
            false => Ok(()),
        }
    };
    let outcome = |_: &ScriptedServer, events: &[(u128, usize)]| {
        each(events, |id| if id == 4 { poison() } else { Outcome::Delivered })
    };
    let (messages, receiver) = unbounded_channel();
    feed_all(&messages, 10, |_| 9);
    let destination = ScriptedPeer { server: &server, outcome };
    runtime.block_on(run(destination, settings(), receiver, &report, &quarantine)).unwrap();
    assert_eq!(finals.get(), 1);
    assert_eq!(*server.requests.borrow(), [(0..10).collect::<Vec<_>>(), vec![4]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a server responds for a while: each event is accepted or in quarantine in the end, and final
    /// once.
    #[test]
    fn nothing_is_lost_whatever_the_answers(
        answers in prop::collection::vec(0u8..9, 0..60),
        concurrency in 1usize..5,
        count in 1u128..150,
    ) {
        let server = ScriptedServer::default();
        let next = Cell::new(0);
        let settings = DeliverySettings { concurrency, ..settings() };
        let result = run_with(
            settings,
            &server,
            |server, events| {
                let take = |id: u128| match server.accepted.borrow_mut().insert(id) {
                    true => Outcome::Delivered,
                    false => Outcome::Duplicate,
                };
                let outcome = answers.get(next.replace(next.get() + 1))?;
                match outcome {
                    0 => Some(RequestOutcome::All(Outcome::retry("busy"))),
                    1 => Some(RequestOutcome::All(Outcome::Misconfigured { reason: "status 403".into() })),
                    2 => Some(RequestOutcome::Halve { reason: "no".into(), too_large: false }),
                    3 => Some(RequestOutcome::Halve { reason: "no".into(), too_large: true }),
                    4 => Some(RequestOutcome::Each(Vec::new())),
                    5 => each(events, |id| if id % 3 == 0 { take(id) } else { Outcome::retry("busy") }),
                    6 => each(events, |id| if id % 4 == 0 { poison() } else { take(id) }),
                    7 => each(events, |id| if id % 2 == 0 { take(id) } else { Outcome::Misconfigured { reason: "no".into() } }),
                    _ => None,
                }
            },
            async |messages| feed_all(&messages, count, |_| 100),
        );
        prop_assert!(result.result.is_none());
        let mut finals = result.finals.clone();
        finals.sort();
        prop_assert_eq!(finals, (0..count.div_ceil(10) as u64).collect::<Vec<_>>());
        prop_assert_eq!((result.events, result.returned), (count as u64, count as usize * 101));
        let mut accounted = server.accepted.borrow().clone();
        accounted.extend(result.quarantined.keys());
        prop_assert_eq!(accounted, (0..count).collect());
    }
}
