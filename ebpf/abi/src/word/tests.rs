//! Decides that words of one generation never speak for another.

use crate::{State, Word};

#[test]
fn generation_and_state_share_a_word() {
    let word = Word::new(0x00ab_cdef_0123_4567, State::Running);
    assert_eq!(word.bits(), 0xabcd_ef01_2345_6702);
    assert_eq!(
        (word.generation(), word.state()),
        (0x00ab_cdef_0123_4567, State::Running)
    );
    assert_eq!(Word::default(), Word::new(0, State::Free));
}

#[test]
fn a_new_life_begins_only_where_the_last_one_is_over() {
    for state in State::ALL {
        let begun = Word::new(7, state).begin();
        match state {
            State::Free | State::Stopped | State::Dead => assert_eq!(begun, Some(Word::new(8, State::Pending))),
            _ => assert_eq!(begun, None, "{state}"),
        }
    }
    assert_eq!(
        Word::new(Word::MAX_GENERATION, State::Free).begin(),
        None,
        "generations never wrap"
    );
}

#[test]
fn only_an_ended_life_is_released_and_its_number_stays() {
    for state in State::ALL {
        let released = Word::new(7, state).release(7);
        assert_eq!(released, state.is_ended().then(|| Word::new(7, State::Free)), "{state}");
    }
}

#[test]
fn advance_follows_the_states() {
    for from in State::ALL {
        for to in State::ALL {
            let next = Word::new(7, from).advance(7, to);
            assert_eq!(next, from.may_become(to).then(|| Word::new(7, to)), "{from} -> {to}");
        }
    }
}

#[test]
fn exited_follows_the_states() {
    for from in State::ALL {
        assert_eq!(
            Word::new(7, from).exited(7),
            from.on_exit().map(|to| Word::new(7, to)),
            "{from}"
        );
    }
}

#[test]
fn k5_another_generation_changes_nothing() {
    for state in State::ALL {
        let word = Word::new(8, state);
        for other in [0, 7, 9, Word::MAX_GENERATION] {
            assert_eq!(word.exited(other), None);
            assert_eq!(word.release(other), None);
            assert_eq!(word.advance(other, State::Dead), None);
            assert_eq!(word.state_of(other), None);
            assert!(!word.refuses_connections(other));
            assert!(!word.resets_connections(other));
        }
    }
}

#[test]
fn k3_and_k4_refuse_and_reset_by_state() {
    let refused = State::ALL.map(|state| Word::new(3, state).refuses_connections(3));
    let reset = State::ALL.map(|state| Word::new(3, state).resets_connections(3));
    assert_eq!(refused, [false, false, false, true, true, true, true]);
    assert_eq!(reset, [false, false, false, false, false, true, true]);
}
