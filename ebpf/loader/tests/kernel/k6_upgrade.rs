//! Decides whether programs are replaced without a moment in which they are missing (K6).

use std::{
    io::ErrorKind,
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use miren_loader::{Mode, OpenError, SlotReader, SlotSource, State, Word};

use crate::{
    lab::{Lab, Victim, begin, occupy, wait_until},
    network::{Host, Namespace, address_of},
};

/// How often the programs are replaced.
const UPGRADES: u32 = 40;

/// Runs `attempt` over and over while the programs are replaced, at least once for each time; gives the number of attempts.
fn hammer(attempt: impl Fn(u64) + Sync, upgrade: impl Fn()) -> u64 {
    let (stop, attempts) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let hammering = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                attempt(attempts.fetch_add(1, Ordering::Relaxed));
            }
        });
        for upgrade_number in 0..UPGRADES {
            if hammering.is_finished() {
                eprintln!("the attempts failed during upgrade {upgrade_number}");
                break;
            }
            upgrade();
            // The one that is under way may have met the old programs only.
            let begun = attempts.load(Ordering::Relaxed);
            wait_until("an attempt meets the new programs", true, || {
                attempts.load(Ordering::Relaxed) > begun + 1 || hammering.is_finished()
            });
        }
        stop.store(true, Ordering::Relaxed);
        hammering
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    attempts.into_inner()
}

#[test]
fn k6_no_connection_slips_through_an_upgrade() {
    let network = Namespace::new();
    network.ip("address add 198.51.100.60/32 dev lo");
    let listener = network.listen("198.51.100.60:0");
    let endpoint = address_of(&listener);
    let lab = Lab::new();
    let fast_path = network.run(|| lab.kernel());
    begin(&fast_path, 0, &endpoint.to_string(), State::Draining);
    let connect = |attempt| {
        let connected = TcpStream::connect(endpoint).map(drop).map_err(|error| error.kind());
        assert_eq!(connected, Err(ErrorKind::ConnectionRefused), "attempt {attempt}");
    };
    let attempts = network.run(|| hammer(connect, || drop(lab.kernel())));
    let status = fast_path.status();
    assert!(status.refused_connects >= attempts, "the counters are kept: {status:?}");
}

#[test]
fn k6_no_exit_is_missed_in_an_upgrade() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let live_and_die = |round: u64| {
        let victim = Victim::start();
        let slot = u32::try_from(round % 64).expect("a slot");
        let generation = occupy(&fast_path, slot, "198.51.100.61:80", victim.pid(), State::Running);
        victim.end();
        let seen = fast_path.slot(slot);
        assert_eq!((seen.generation, seen.state), (generation, State::Dead), "exit {round}");
    };
    let exits = hammer(live_and_die, || drop(lab.kernel()));
    assert_eq!(
        fast_path.status().transitions.by_kernel,
        exits,
        "each exit is counted once"
    );
}

#[test]
fn k6_no_packet_slips_through_an_upgrade() {
    let host = Host::new();
    let sandbox = host.sandbox(62);
    let [listener, _] = sandbox.listen();
    let endpoint = address_of(&listener);
    let lab = Lab::without_connect_hook();
    let fast_path = lab.kernel();
    host.namespace
        .run(|| fast_path.attach_packet_hook("br0"))
        .expect("the packet hook");
    begin(&fast_path, 0, &endpoint.to_string(), State::Stopped);
    let connect = |attempt| {
        let connected = TcpStream::connect(endpoint).map(drop).map_err(|error| error.kind());
        assert_eq!(connected, Err(ErrorKind::ConnectionRefused), "attempt {attempt}");
    };
    host.namespace.run(|| hammer(connect, || drop(lab.kernel())));
}

#[test]
fn k6_the_maps_and_their_readers_stay_and_the_programs_are_new() {
    let lab = Lab::new();
    let old = lab.kernel();
    let reader = lab.reader(Mode::Kernel);
    let victim = Victim::start();
    let generation = occupy(&old, 7, "198.51.100.63:80", victim.pid(), State::Running);
    let before = old.slot(7);
    let ids =
        |programs: Vec<miren_loader::ProgramStatus>| programs.into_iter().map(|program| program.id).collect::<Vec<_>>();
    let old_ids = ids(old.status().programs);
    drop(old);
    let new = lab.kernel();
    assert_eq!(new.slot(7), before);
    let new_ids = ids(new.status().programs);
    assert_eq!((old_ids.len(), new_ids.len()), (3, 3));
    assert!(
        old_ids.iter().all(|id| !new_ids.contains(id)),
        "{old_ids:?} then {new_ids:?}"
    );
    victim.end();
    assert_eq!(
        reader.word(7),
        Word::new(generation, State::Dead),
        "a reader of before sees what happens after"
    );
}

#[test]
fn k6_a_table_of_another_size_is_refused_and_left_alone() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let generation = begin(&fast_path, 7, "198.51.100.63:80", State::Running);
    for mode in [Mode::Kernel, Mode::Auto] {
        let mut config = lab.config(mode);
        config.capacity = 128;
        let refused = miren_loader::FastPath::open(config);
        assert!(
            matches!(
                refused,
                Err(OpenError::OtherCapacity {
                    found: 64,
                    wanted: 128,
                    ..
                })
            ),
            "{mode:?}: {refused:?}"
        );
    }
    assert_eq!(lab.kernel().slot(7).generation, generation);
}

#[test]
fn k6_maps_without_a_record_are_half_made_and_made_again() {
    let lab = Lab::new();
    begin(&lab.kernel(), 7, "198.51.100.63:80", State::Running);
    std::fs::remove_file(lab.pin_dir.join("ABI")).expect("unpinning the record");
    let source = SlotSource::Pinned(lab.pin_dir.clone());
    assert!(
        matches!(SlotReader::open(&source), Err(OpenError::NoTable(_))),
        "a reader waits for the whole table"
    );
    assert_eq!(lab.kernel().slot(7).state, State::Free);
}
