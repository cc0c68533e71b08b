//! Decides whether the slot has the status that a parent is told, whichever thread of a process is the last to end (K1).

use miren_loader::{State, Word};

use crate::{
    lab::{Lab, occupy, word_of},
    roles::{Player, listen, say},
};

const ENDPOINT: &str = "198.51.100.9:80";
const ROUNDS: usize = 100;

#[test]
fn k1_a_process_that_ends_has_the_status_it_asked_for_whichever_thread_is_last() {
    ends(7 << 8, |process| process.tell("end"));
}

#[test]
fn k1_a_process_that_is_killed_was_killed_whichever_thread_is_last() {
    ends(9, Player::kill_without_waiting);
}

/// Ends a process whose first thread is on the way out by itself, with status 0, among others that work.
fn ends(status: u32, end: impl Fn(&mut Player)) {
    let lab = Lab::new();
    let fast_path = lab.kernel();
    for round in 0..ROUNDS {
        let working = round % 3;
        let mut process = Player::start("threads", &working.to_string());
        let first = Held::take(process.hear().parse().expect("a thread"));
        let generation = occupy(&fast_path, 1, ENDPOINT, process.pid(), State::Running);
        process.tell("the first thread");
        first.until_it_exits();
        end(&mut process);
        first.until_it_is_gone();
        assert_eq!(process.wait_status(), status, "round {round}: what its parent is told");
        assert_eq!(
            word_of(&fast_path, 1),
            Word::new(generation, State::Dead),
            "round {round}"
        );
        assert_eq!(fast_path.slot(1).exit_code, status, "round {round}: what the hook saw");
    }
}

/// A thread that stops once it has begun to exit, until its process ends: it can be the last one then.
struct Held(libc::pid_t);

impl Held {
    fn take(thread: libc::pid_t) -> Self {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: takes two numbers and no memory.
        let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread, nothing, libc::PTRACE_O_TRACEEXIT) };
        assert_eq!(seized, 0, "seizing a thread: {}", std::io::Error::last_os_error());
        Self(thread)
    }

    fn until_it_exits(&self) {
        let status = self.wait();
        let event = libc::SIGTRAP | libc::PTRACE_EVENT_EXIT << 8;
        assert_eq!(status >> 8, event, "not the beginning of its exit: {status:#x}");
    }

    fn until_it_is_gone(&self) {
        let status = self.wait();
        assert!(!libc::WIFSTOPPED(status), "{status:#x}");
    }

    fn wait(&self) -> libc::c_int {
        let mut status = 0;
        // SAFETY: the status is ours to write to.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        assert_eq!(waited, self.0, "waiting: {}", std::io::Error::last_os_error());
        status
    }
}

/// A process whose first thread ends when it is told to, and the whole process, with 7, when it is told once more.
pub fn play_threads(working: &str) -> ! {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: a system call without arguments.
        tell.send(unsafe { libc::gettid() }).expect("a listener");
        wait.recv().expect("a word");
        // SAFETY: ends only this thread, which owns nothing.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    for _ in 0..working.parse().expect("a number") {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    say(&told.recv().expect("a thread").to_string());
    listen();
    go.send(()).expect("a thread that waits");
    listen();
    // SAFETY: ends the process without running anything of the test harness.
    unsafe { libc::_exit(7) }
}
