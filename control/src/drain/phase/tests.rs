//! Each arrow between phases.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn drain() -> Drain {
    Drain::begin(at(0), Duration::ZERO, true)
}

#[test]
fn d1_a_node_is_active_or_cordoned_until_it_drains_and_down_whatever_it_was() {
    assert_eq!(of(None, false, false), NodePhase::Active);
    assert_eq!(of(None, true, false), NodePhase::Cordoned);
    for cordoned in [false, true] {
        assert_eq!(of(Some(&drain()), cordoned, false), NodePhase::Draining);
        assert_eq!(of(Some(&drain()), cordoned, true), NodePhase::Down);
        assert_eq!(of(None, cordoned, true), NodePhase::Down);
    }
}

#[test]
fn d4_forced_comes_after_draining_once_and_empty_after_both() {
    let mut drain = drain();
    assert!(drain.force(at(5)));
    assert_eq!(drain.phase(), NodePhase::Forced);
    assert!(!drain.force(at(9)), "asked for once more");
    assert_eq!(drain.forced_until(), Some(at(35)), "its time is that of the first");
    drain.step = Step::Empty;
    assert_eq!(drain.phase(), NodePhase::Empty);

    let mut empty = self::drain();
    empty.step = Step::Empty;
    assert!(!empty.force(at(1)), "nothing is left to force");
    assert_eq!(empty.phase(), NodePhase::Empty);
}

#[test]
fn d4_a_drain_is_undone_at_any_time_but_while_it_kills() {
    let mut drain = drain();
    for step in [
        Step::Admitted,
        Step::Starts,
        Step::Sandboxes,
        Step::CleanUps,
        Step::Empty,
    ] {
        drain.step = step;
        assert!(drain.undo(at(1)).is_ok(), "{step:?}");
    }
    drain.step = Step::Sandboxes;
    drain.force(at(1));
    let refused = drain.undo(at(30)).unwrap_err();
    assert_eq!((refused.code, refused.retry_after), (ErrorCode::Conflict, Some(30)));
    assert!(drain.undo(at(31)).is_ok(), "that is over, whatever is left");
}

#[test]
fn d4_what_is_waited_for_is_told_in_the_words_of_the_api() {
    let mut drain = drain();
    let told = [
        (Step::Admitted, Some(DrainStep::Admitted)),
        (Step::Starts, Some(DrainStep::Starts)),
        (Step::Sandboxes, Some(DrainStep::Sandboxes)),
        (Step::CleanUps, Some(DrainStep::CleanUps)),
        (Step::Empty, None),
    ];
    for (step, waits_for) in told {
        drain.step = step;
        assert_eq!(drain.waits_for(), waits_for, "{step:?}");
    }
}
