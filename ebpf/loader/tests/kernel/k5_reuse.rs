//! Decides whether reused addresses, slots and pids are told apart (K5).

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
};

use miren_loader::{FastPath, Mode, SlotError, State, Word};

use crate::{
    lab::{Lab, Victim, begin, occupy, word_of},
    network::{Namespace, address_of},
};

#[test]
fn k5_an_exit_never_flips_a_later_generation() {
    for mode in [Mode::Kernel, Mode::Off] {
        let lab = Lab::new();
        let fast_path = lab.open(mode);
        let victim = Victim::start();
        let first = occupy(&fast_path, 1, "198.51.100.50:80", victim.pid(), State::Running);
        fast_path.advance(1, first, State::Dead).expect("advance");
        let second = begin(&fast_path, 1, "198.51.100.51:80", State::Running);
        assert_eq!(second, first + 1);
        victim.end();
        assert_eq!(word_of(&fast_path, 1), Word::new(second, State::Running), "{mode:?}");
        assert_eq!(fast_path.slot(1).tgid, 0, "the new life has no process yet");
    }
}

#[test]
fn k5_a_process_that_moves_to_another_slot_ends_only_that_one() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let victim = Victim::start();
    let old = occupy(&fast_path, 1, "198.51.100.50:80", victim.pid(), State::Running);
    fast_path.advance(1, old, State::Stopped).expect("advance");
    let new = occupy(&fast_path, 2, "198.51.100.51:80", victim.pid(), State::Running);
    // The pid is the second slot's now; releasing the first must not take it away.
    fast_path.release(1, old).expect("release");
    let reused = begin(&fast_path, 1, "198.51.100.50:80", State::Running);
    victim.end();
    assert_eq!(word_of(&fast_path, 2), Word::new(new, State::Dead));
    assert_eq!(word_of(&fast_path, 1), Word::new(reused, State::Running));
}

#[test]
fn k5_stale_generations_change_nothing() {
    for mode in [Mode::Kernel, Mode::Off] {
        let lab = Lab::new();
        let fast_path = lab.open(mode);
        let reader = lab.reader(mode);
        let first = begin(&fast_path, 4, "198.51.100.50:80", State::Dead);
        fast_path.release(4, first).expect("release");
        let second = begin(&fast_path, 4, "198.51.100.50:80", State::Running);
        let found = Word::new(second, State::Running);
        let refusals = [
            fast_path.advance(4, first, State::Dead).map(drop),
            fast_path.release(4, first),
            fast_path.register_init(4, first, std::process::id()),
            fast_path
                .begin(4, "198.51.100.50:80".parse().expect("endpoint"))
                .map(drop),
        ];
        for refusal in refusals {
            assert!(
                matches!(refusal, Err(SlotError::Refused { found: word }) if word == found),
                "{mode:?}: {refusal:?}"
            );
        }
        assert_eq!(reader.word(4), found);
        assert!(reader.is_running(4, second) && !reader.is_running(4, first));
        assert_eq!(
            (reader.state(4, second), reader.state(4, first)),
            (Some(State::Running), None)
        );
    }
}

fn connect(network: &Namespace, to: SocketAddr) -> Result<(), ErrorKind> {
    network.run(|| TcpStream::connect(to).map(drop).map_err(|error| error.kind()))
}

fn release(fast_path: &FastPath, slot: u32, generation: u64) {
    fast_path.release(slot, generation).expect("release");
}

#[test]
fn k5_an_address_belongs_to_its_newest_sandbox() {
    let network = Namespace::new();
    network.ip("address add 198.51.100.55/32 dev lo");
    let listener = network.listen("198.51.100.55:0");
    let endpoint = address_of(&listener);
    let refused = Err(ErrorKind::ConnectionRefused);
    let lab = Lab::new();
    let fast_path = network.run(|| lab.kernel());

    // Another slot takes the address over while the first one still waits for its release.
    let old = begin(&fast_path, 0, &endpoint.to_string(), State::Dead);
    assert_eq!(connect(&network, endpoint), refused);
    let new = begin(&fast_path, 1, &endpoint.to_string(), State::Running);
    assert_eq!(connect(&network, endpoint), Ok(()));
    release(&fast_path, 0, old);
    assert_eq!(connect(&network, endpoint), Ok(()));
    fast_path.advance(1, new, State::Draining).expect("advance");
    assert_eq!(
        connect(&network, endpoint),
        refused,
        "the release took only the old owner's claim away"
    );

    // The slot goes on with another address; the old one is nobody's.
    fast_path.advance(1, new, State::Stopped).expect("advance");
    begin(&fast_path, 1, "198.51.100.56:80", State::Dead);
    assert_eq!(
        connect(&network, endpoint),
        Ok(()),
        "the state of another address says nothing about this one"
    );
}

#[test]
fn k5_a_thousand_lives_of_one_slot_keep_their_order() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    for expected in 1..=1000 {
        let generation = begin(&fast_path, 9, "198.51.100.50:80", State::Dead);
        assert_eq!(generation, expected);
        if expected % 2 == 0 {
            release(&fast_path, 9, generation);
        }
    }
}
