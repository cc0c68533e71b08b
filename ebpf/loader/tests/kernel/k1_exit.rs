//! Decides whether an exit is in the table before anybody can see it otherwise (K1).

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use miren_loader::{ChangedBy, Mode, ProxyEvents, SlotError, State, Transition, Word};
use nix::sched::{CloneFlags, unshare};

use crate::lab::{Lab, Victim, begin, occupy, run, wait_until, word_of};

const ENDPOINT: &str = "198.51.100.9:80";
/// The wait status of a process that SIGKILL ended.
const KILLED: u32 = 9;

#[test]
fn k1_the_word_is_flipped_before_the_sockets_close() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let reader = lab.reader(Mode::Kernel);
    for round in 0..200 {
        let mut victim = Victim::start();
        let generation = occupy(&fast_path, 1, ENDPOINT, victim.pid(), State::Running);
        assert!(reader.is_running(1, generation));
        victim.kill();
        victim.wait_for_closed_socket();
        assert_eq!(
            reader.word(1),
            Word::new(generation, State::Dead),
            "round {round}: the socket closed first"
        );
    }
}

#[test]
fn k1_the_slot_says_who_when_and_how() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let mut victim = Victim::start();
    let pid = victim.pid();
    let generation = occupy(&fast_path, 3, ENDPOINT, pid, State::Running);
    let running = fast_path.slot(3);
    assert_eq!(
        (running.changed_by, running.tgid, running.exit_code),
        (ChangedBy::Control, pid, 0)
    );
    victim.kill();
    victim.wait_for_closed_socket();
    let dead = fast_path.slot(3);
    assert_eq!(
        (dead.generation, dead.state, dead.changed_by),
        (generation, State::Dead, ChangedBy::Kernel)
    );
    assert_eq!((dead.exit_code, dead.tgid), (KILLED, pid));
    assert!(dead.since_ns > running.since_ns, "{dead:?} after {running:?}");
    assert_eq!(dead.endpoint, Some(ENDPOINT.parse().expect("endpoint")));
}

#[test]
fn k1_each_state_ends_where_it_should() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let cases = [
        (State::Pending, State::Dead),
        (State::Running, State::Dead),
        (State::Draining, State::Stopped),
        (State::Stopping, State::Stopped),
    ];
    for (slot, (from, to)) in (0..).zip(cases) {
        let victim = Victim::start();
        let generation = occupy(&fast_path, slot, ENDPOINT, victim.pid(), from);
        victim.end();
        assert_eq!(word_of(&fast_path, slot), Word::new(generation, to), "from {from}");
    }
    assert_eq!(fast_path.status().transitions.by_kernel, 4);
}

#[test]
fn k1_an_end_that_control_wrote_stays() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    for (slot, end) in (0..).zip([State::Stopped, State::Dead]) {
        let victim = Victim::start();
        let generation = occupy(&fast_path, slot, ENDPOINT, victim.pid(), State::Running);
        fast_path.advance(slot, generation, end).expect("advance");
        let before = fast_path.slot(slot);
        victim.end();
        assert_eq!(fast_path.slot(slot), before);
    }
    assert_eq!(fast_path.status().transitions.by_kernel, 0);
}

#[test]
fn k1_a_group_ends_with_its_last_thread_and_not_with_its_leader() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let (mut ours, theirs) = UnixStream::pair().expect("sockets");
    let theirs_copy = ours.try_clone().expect("clone");
    // SAFETY: the child only starts a thread and waits in system calls.
    let pid = match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            drop((ours, theirs_copy));
            outlive_the_leader(theirs)
        }
        pid => pid.unsigned_abs(),
    };
    drop((theirs, theirs_copy));
    let generation = occupy(&fast_path, 2, ENDPOINT, pid, State::Running);
    ours.write_all(b"leader").expect("telling the leader to end");
    let leader_state =
        || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).map(|stat| stat.contains(") Z"));
    wait_until("the leader becomes a zombie", Some(true), || leader_state().ok());
    assert_eq!(
        word_of(&fast_path, 2),
        Word::new(generation, State::Running),
        "only the leader is gone"
    );
    // A restarted daemon that registers it now must not take it for dead either.
    fast_path
        .register_init(2, generation, pid)
        .expect("the second thread still lives");
    ours.write_all(b"thread").expect("telling the thread to end");
    assert_eq!(ours.read(&mut [0]).expect("the end of the socket"), 0);
    assert_eq!(word_of(&fast_path, 2), Word::new(generation, State::Dead));
    assert_eq!(fast_path.slot(2).exit_code, 7 << 8);
    // SAFETY: our own child, which has exited.
    unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), 0) };
}

/// The leader of the group ends at the first message, the other thread, and with it the group, at the second.
fn outlive_the_leader(mut socket: UnixStream) -> ! {
    let mut message = [0; 6];
    let mut thread_socket = socket.try_clone().expect("clone");
    let (ready, wait) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        wait.recv().ok();
        let mut message = [0; 6];
        thread_socket.read_exact(&mut message).ok();
        // SAFETY: ends the process without running anything of the test harness it was forked from.
        unsafe { libc::_exit(7) }
    });
    socket.read_exact(&mut message).ok();
    ready.send(()).ok();
    // SAFETY: ends only this thread, the leader.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("the leader is gone")
}

#[test]
fn k1_a_process_that_was_gone_before_it_was_registered_ends_its_slot() {
    for mode in [Mode::Kernel, Mode::Off] {
        let lab = Lab::new();
        let fast_path = lab.open(mode);
        let victim = Victim::start();
        let pid = victim.pid();
        let generation = begin(&fast_path, 0, ENDPOINT, State::Running);
        victim.end();
        let refused = fast_path.register_init(0, generation, pid);
        assert!(matches!(refused, Err(SlotError::AlreadyExited { .. })), "{refused:?}");
        assert_eq!(word_of(&fast_path, 0), Word::new(generation, State::Dead), "{mode:?}");
    }
}

#[test]
fn g4_the_process_that_was_named_last_is_the_one_that_counts() {
    for mode in [Mode::Kernel, Mode::Off] {
        let lab = Lab::new();
        let fast_path = lab.open(mode);
        let (first, mut app) = (Victim::start(), Victim::start());
        let generation = occupy(&fast_path, 0, ENDPOINT, first.pid(), State::Running);
        fast_path
            .register_init(0, generation, app.pid())
            .expect("another process");
        assert_eq!(fast_path.slot(0).tgid, app.pid());
        first.end();
        // Behind the end of the first one in every queue.
        let other = Victim::start();
        let next = occupy(&fast_path, 1, ENDPOINT, other.pid(), State::Running);
        other.end();
        let expected = Word::new(next, State::Dead);
        wait_until("an end that counts", expected, || word_of(&fast_path, 1));
        assert_eq!(
            word_of(&fast_path, 0),
            Word::new(generation, State::Running),
            "{mode:?}"
        );
        app.kill();
        let expected = Word::new(generation, State::Dead);
        wait_until("the end of the app", expected, || word_of(&fast_path, 0));
        app.end();
    }
}

#[test]
fn k1_a_zombie_is_not_registered() {
    for mode in [Mode::Kernel, Mode::Off] {
        let lab = Lab::new();
        let fast_path = lab.open(mode);
        let mut victim = Victim::start();
        let generation = begin(&fast_path, 0, ENDPOINT, State::Draining);
        victim.kill();
        victim.wait_for_closed_socket();
        let refused = fast_path.register_init(0, generation, victim.pid());
        assert!(matches!(refused, Err(SlotError::AlreadyExited { .. })), "{refused:?}");
        assert_eq!(
            word_of(&fast_path, 0),
            Word::new(generation, State::Stopped),
            "{mode:?}"
        );
    }
}

#[test]
fn k1_a_process_between_its_exit_and_its_end_is_not_registered() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let mut init = HeldInit::start();
    let generation = begin(&fast_path, 0, ENDPOINT, State::Running);
    init.end_until_held();
    let refused = fast_path.register_init(0, generation, init.pid());
    assert!(matches!(refused, Err(SlotError::AlreadyExited { .. })), "{refused:?}");
    assert_eq!(word_of(&fast_path, 0), Word::new(generation, State::Dead));
    let transitions = fast_path.status().transitions;
    assert_eq!(
        (transitions.by_kernel, transitions.by_control),
        (0, 3),
        "begin, advance, and the exit nobody else would see"
    );
    assert!(init.is_held(), "it ended before it was asked about");
}

/// The first process of a pid namespace, which cannot end while another one there is not reaped, as when a command runs
/// in a sandbox: past the exit hook, and no zombie yet, for as long as it takes. The other goes first.
struct HeldInit {
    other: Victim,
    init: Victim,
}

impl HeldInit {
    fn start() -> Self {
        let inside = || {
            unshare(CloneFlags::CLONE_NEWPID).expect("a pid namespace (needs root)");
            let init = Victim::start();
            let other = Victim::start();
            Self { other, init }
        };
        std::thread::spawn(inside).join().expect("a pid namespace")
    }

    fn pid(&self) -> u32 {
        self.init.pid()
    }

    /// Kills it. It has passed every hook once it kills the others in its namespace, which is near the end of its exit.
    fn end_until_held(&mut self) {
        self.init.kill();
        self.other.wait_for_closed_socket();
        assert!(self.is_held(), "the kernel reaped what is not its to reap");
    }

    fn is_held(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it is there");
        !stat.contains(") Z") && !stat.contains(") X")
    }
}

#[test]
fn k1_both_rings_carry_the_exit() {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    let mut events = fast_path.events().expect("events");
    let mut hints = ProxyEvents::open(&lab.source(Mode::Kernel))
        .expect("ring")
        .expect("kernel mode has one");
    run("exits on both rings", async {
        for slot in 0..50 {
            let victim = Victim::start();
            let (pid, generation) = (
                victim.pid(),
                occupy(&fast_path, slot, ENDPOINT, victim.pid(), State::Running),
            );
            victim.end();
            let at_ns = fast_path.slot(slot).since_ns;
            let by = ChangedBy::Kernel;
            let exit = Transition {
                slot,
                generation,
                state: State::Dead,
                at_ns,
                by,
                exit_code: KILLED,
                tgid: pid,
            };
            assert_eq!((events.next().await, hints.next().await), (Some(exit), Some(exit)));
        }
    });
    assert!(fast_path.events().is_err(), "there is one reader");
    assert_eq!(fast_path.status().dropped_events, 0);
}
