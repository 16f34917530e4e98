//! Scripts that have failed, reduced.

use super::action::{Action::*, Input, Setup, Sink};
use super::replay;

/// A file was replaced by another one of at least that length while the agent was stopped, and a copy of the old one is
/// there. The records in the place of those that were delivered got the ids of second twins.
#[test]
fn f35_model_replaced_records() {
    let setup = Setup { input: Input::Auto, sink: Sink::File, notify: false, home: true };
    replay(
        setup,
        &[
            Append { events: 1 },
            Once,
            Copy { file: 0 },
            Replace { file: 0, events: 2, same_name: true },
            Once,
        ],
    );
}
