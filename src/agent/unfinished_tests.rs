use super::unfinished::Unfinished;

#[test]
fn outcomes_in_any_order_are_counted_by_kind() {
    let unfinished = Unfinished::default();
    for (number, is_awaited) in [(0, true), (1, false), (2, true), (3, false)] {
        unfinished.sent(number, is_awaited);
    }
    unfinished.finished(1, true);
    unfinished.finished(2, true);
    assert_eq!((unfinished.has_awaited(), unfinished.others()), (true, 1));
    unfinished.finished(0, true);
    assert!(!unfinished.has_awaited(), "what is not finished comes after all others");
    unfinished.finished(3, true);
    assert_eq!((unfinished.has_awaited(), unfinished.others()), (false, 0));
}

/// Requests overtake each other. What was delivered is not committed before what was sent before it.
#[test]
fn a_stop_waits_for_what_cannot_be_committed_yet() {
    let unfinished = Unfinished::default();
    unfinished.sent(0, false);
    unfinished.sent(1, true);
    unfinished.finished(1, false);
    assert!(!unfinished.has_awaited(), "positions alone");
    unfinished.sent(2, true);
    unfinished.finished(2, true);
    assert!(unfinished.has_awaited());
    unfinished.finished(0, true);
    assert!(!unfinished.has_awaited());
}
