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

/// A file held the beginning of a line when the agent finished with it. The next file with its inode begins with the same
/// bytes, as many records do. It was taken for the old file, and its first record was delivered without its beginning.
#[test]
fn f03_model_a_piece_of_a_line_proves_nothing() {
    let setup = Setup { input: Input::Files, sink: Sink::Idempotent, notify: true, home: false };
    replay(
        setup,
        &[
            Half { percent: 1 },
            Rename { file: 0 },
            Append { events: 1 },
            Once,
            Once,
            Rotate,
            Rotate,
            Replace { file: 3, events: 1, same_name: false },
        ],
    );
}

/// The server's clock was corrected by less than it had been ahead, while the agent was stopped. The only poll of a single
/// run began before that was known, and ended after what was stamped since.
#[test]
fn f29_model_a_clock_is_less_ahead_after_a_restart() {
    let setup = Setup { input: Input::Api, sink: Sink::RotatedFile, notify: true, home: true };
    replay(setup, &[ClockAhead { minutes: 10 }, Append { events: 4 }, Once, ClockAhead { minutes: 7 }]);
}
