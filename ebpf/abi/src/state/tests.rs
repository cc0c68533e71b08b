//! Decides that every arrow of the state list is there and no other.

use super::State::{self, *};

/// Every arrow control may take.
const ARROWS: [(State, State); 14] = [
    (Pending, Running),
    (Pending, Draining),
    (Pending, Stopping),
    (Pending, Stopped),
    (Pending, Dead),
    (Running, Draining),
    (Running, Stopping),
    (Running, Stopped),
    (Running, Dead),
    (Draining, Stopping),
    (Draining, Stopped),
    (Draining, Dead),
    (Stopping, Stopped),
    (Stopping, Dead),
];

#[test]
fn exactly_the_listed_arrows_exist() {
    for from in State::ALL {
        for to in State::ALL {
            assert_eq!(from.may_become(to), ARROWS.contains(&(from, to)), "{from} -> {to}");
        }
    }
}

#[test]
fn a_crash_before_drain_is_dead() {
    assert_eq!(Pending.on_exit(), Some(Dead));
    assert_eq!(Running.on_exit(), Some(Dead));
}

#[test]
fn an_exit_after_drain_began_is_stopped() {
    assert_eq!(Draining.on_exit(), Some(Stopped));
    assert_eq!(Stopping.on_exit(), Some(Stopped));
}

#[test]
fn an_exit_changes_nothing_that_ended_or_never_began() {
    assert_eq!(Free.on_exit(), None);
    assert_eq!(Stopped.on_exit(), None);
    assert_eq!(Dead.on_exit(), None);
}

#[test]
fn connections_are_refused_from_draining_on() {
    let refused = State::ALL.map(State::refuses_connections);
    assert_eq!(refused, [false, false, false, true, true, true, true]);
}

#[test]
fn bytes_round_trip_and_unknown_bytes_are_never_routable() {
    for state in State::ALL {
        assert_eq!(State::from_byte(state as u8), state);
    }
    for byte in 7..=u8::MAX {
        assert_eq!(State::from_byte(byte), Dead);
    }
}
