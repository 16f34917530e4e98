//! Which cases are tried, and how often each action is in one.

use super::action::{Action, ApiFault, Failpoint, Input, Setup, Sink};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;

pub fn case() -> impl Strategy<Value = (Setup, Vec<Action>)> {
    setup().no_shrink().prop_flat_map(|setup| (Just(setup), vec(action(setup), 2..18)))
}

fn setup() -> impl Strategy<Value = Setup> {
    let input = prop_oneof![5 => Just(Input::Files), 2 => Just(Input::Api), 3 => Just(Input::Auto)];
    let sink = prop_oneof![
        3 => Just(Sink::File),
        2 => Just(Sink::RotatedFile),
        2 => Just(Sink::Idempotent),
        3 => Just(Sink::Plain)
    ];
    (input, sink, any::<bool>(), any::<bool>()).prop_map(|(input, sink, notify, home)| Setup {
        input,
        sink,
        notify,
        home,
    })
}

type Choice = (u32, BoxedStrategy<Action>);

fn action(setup: Setup) -> impl Strategy<Value = Action> {
    let mut choices = agent(setup);
    choices.push((8, (1..9u8).prop_map(|events| Action::Append { events }).boxed()));
    if setup.input != Input::Api {
        choices.extend(files(setup));
    }
    if setup.input != Input::Files {
        choices.extend(api(setup));
    }
    if matches!(setup.sink, Sink::Idempotent | Sink::Plain) {
        choices.extend(receiver());
    }
    Union::new_weighted(choices)
}

fn files(setup: Setup) -> Vec<Choice> {
    let file = || 0..6u8;
    let mut choices = vec![
        (2, (1..40u8).prop_map(|kib| Action::Long { kib }).boxed()),
        (3, (0..=100u8).prop_map(|percent| Action::Half { percent }).boxed()),
        (2, (1..4u8).prop_map(|events| Action::Late { events }).boxed()),
        (4, Just(Action::Rotate).boxed()),
        (1, Just(Action::NextDay).boxed()),
        (2, file().prop_map(|file| Action::Rename { file }).boxed()),
        (2, (file(), 0..=100u8).prop_map(|(file, percent)| Action::Truncate { file, percent }).boxed()),
        (2, file().prop_map(|file| Action::Copy { file }).boxed()),
        (2, file().prop_map(|file| Action::CopyAndTruncate { file }).boxed()),
        (2, (file(), 1..9u8).prop_map(|(file, events)| Action::Overwrite { file, events }).boxed()),
        (2, file().prop_map(|file| Action::Delete { file }).boxed()),
        (
            2,
            (file(), 1..9u8, any::<bool>())
                .prop_map(|(file, events, same_name)| Action::Replace { file, events, same_name })
                .boxed(),
        ),
        (2, file().prop_map(|file| Action::Gzip { file }).boxed()),
        (1, file().prop_map(|file| Action::MoveOut { file }).boxed()),
        (1, Just(Action::MoveBack).boxed()),
        (1, Just(Action::DirectoryGone).boxed()),
        (2, Just(Action::DirectoryBack).boxed()),
    ];
    if setup.input == Input::Files {
        choices.push((1, Just(Action::NewNode).boxed()));
        choices.push((1, (0..120u8).prop_map(|minutes| Action::ClockAhead { minutes }).boxed()));
        choices.push((1, Just(Action::Twin).boxed()));
    }
    choices
}

fn api(setup: Setup) -> Vec<Choice> {
    let fault = prop_oneof![
        Just(ApiFault::Unavailable),
        Just(ApiFault::TooManyRequests),
        Just(ApiFault::NotJson),
        Just(ApiFault::CutBody),
        Just(ApiFault::Hangup),
        Just(ApiFault::InsertBetweenPages)
    ];
    let fault = (fault, 1..3u8).prop_map(|(fault, requests)| Action::ApiFault { fault, requests });
    let mut choices = vec![
        (2, fault.boxed()),
        (2, (1..6u8).prop_map(|rows| Action::PageCap { rows }).boxed()),
        (1, Just(Action::ApiDown).boxed()),
        (2, Just(Action::ApiUp).boxed()),
    ];
    if setup.input == Input::Api {
        choices.push((1, Just(Action::Twin).boxed()));
        choices.push((2, (0..8u8).prop_map(|seconds| Action::LateRow { seconds }).boxed()));
        choices.push((1, Just(Action::NewNode).boxed()));
        choices.push((1, (0..120u8).prop_map(|minutes| Action::ClockAhead { minutes }).boxed()));
    } else {
        choices.push((2, (1..4u8).prop_map(|events| Action::Row { events }).boxed()));
        choices.push((2, (1..4u8).prop_map(|events| Action::FileOnly { events }).boxed()));
    }
    choices
}

fn receiver() -> Vec<Choice> {
    let requests = || 1..3u8;
    vec![
        (1, requests().prop_map(|requests| Action::Refuse { requests }).boxed()),
        (1, requests().prop_map(|requests| Action::HangUp { requests }).boxed()),
        (1, requests().prop_map(|requests| Action::TakeAndHangUp { requests }).boxed()),
        (1, requests().prop_map(|requests| Action::Stall { requests }).boxed()),
        (1, Just(Action::SinkDown).boxed()),
        (2, Just(Action::SinkUp).boxed()),
    ]
}

fn agent(setup: Setup) -> Vec<Choice> {
    let mut points = vec![
        Failpoint::Read,
        Failpoint::Decode,
        Failpoint::Encode,
        Failpoint::BeforeSend,
        Failpoint::AfterSend,
        Failpoint::AfterAck,
        Failpoint::LedgerSynced,
        Failpoint::BeforeFlush,
        Failpoint::AfterFlush,
    ];
    match setup.sink {
        Sink::File => points.push(Failpoint::Sync),
        Sink::RotatedFile => points.extend([
            Failpoint::Sync,
            Failpoint::CompressWritten,
            Failpoint::CompressRenamed,
            Failpoint::Compressed,
        ]),
        Sink::Idempotent | Sink::Plain => {}
    }
    if setup.input != Input::Files {
        points.push(Failpoint::Ask);
    }
    let crash = (proptest::sample::select(points), 1..6u8);
    vec![
        (6, Just(Action::Once).boxed()),
        (6, crash.clone().prop_map(|(failpoint, hit)| Action::OnceCrash { failpoint, hit }).boxed()),
        (3, Just(Action::Start).boxed()),
        (2, crash.prop_map(|(failpoint, hit)| Action::StartCrash { failpoint, hit }).boxed()),
        (2, Just(Action::Settle).boxed()),
        (2, Just(Action::Stop).boxed()),
        (3, (0..120u8).prop_map(|after_ms| Action::Kill { after_ms }).boxed()),
        (1, Just(Action::Backup).boxed()),
        (1, Just(Action::Restore).boxed()),
        (1, Just(Action::Upgrade).boxed()),
    ]
}
