//! Decides what becomes of each signal that reaches the first process, and how it ends when the app has ended.

use crate::command::Command;
use crate::gate;
use crate::system::{self, Received};

/// What is done about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Somebody's child has ended, or was stopped.
    Reap,
    Pass,
    /// Of a terminal, for whoever is in its background: that is this process.
    Ignore,
}

fn act(signal: i32) -> Act {
    match signal {
        system::SIGCHLD => Act::Reap,
        system::SIGTTIN | system::SIGTTOU => Act::Ignore,
        _ => Act::Pass,
    }
}

/// Starts the app and stays with it. The app leads a group of processes, to which the terminal belongs if there is one: what is
/// typed there reaches it once, and not again from here.
pub fn run(command: &Command, status: Option<i32>) -> ! {
    if let Some(descriptor) = status {
        system::close_on_execute(descriptor);
    }
    // All of them: one that the hardware raises ends this process nevertheless.
    let before = system::block_all_signals();
    let app = match system::fork() {
        Ok(0) => {
            system::lead_group_and_terminal();
            gate::pass(command, || system::set_blocked_signals(before));
        }
        Ok(app) => app,
        Err(error) => gate::no_process(error),
    };
    let mut info = Received::default();
    loop {
        let signal = system::next_signal(&mut info);
        match act(signal) {
            Act::Reap => {
                if let Some(ended) = reap(app) {
                    end(ended, status);
                }
                go_on(app);
            }
            Act::Pass => pass_on(app, signal, &info),
            Act::Ignore => {}
        }
    }
}

/// A value that was sent along goes with it, unless its queue is full.
fn pass_on(app: i32, signal: i32, info: &Received) {
    if !(info.is_queued() && system::queue(app, signal, info)) {
        system::kill(app, signal);
    }
}

/// Lets the app go on that its terminal has stopped: there is no shell that would. One that SIGSTOP has stopped stays so.
fn go_on(app: i32) {
    let Some(signal) = system::stopped_by(app).filter(|signal| is_of_terminal(*signal)) else {
        return;
    };
    // It wanted the terminal, and would be stopped for it again.
    if signal != system::SIGTSTP {
        system::put_in_foreground(app);
    }
    system::kill(-app, system::SIGCONT);
}

fn is_of_terminal(signal: i32) -> bool {
    matches!(signal, system::SIGTSTP | system::SIGTTIN | system::SIGTTOU)
}

/// Takes everything that has ended; the raw status of the app if that is among it.
fn reap(app: i32) -> Option<i32> {
    let mut of_app = None;
    while let Some((process, status)) = system::wait_for_any() {
        if process == app {
            of_app = Some(status);
        }
    }
    of_app
}

/// What is left in the sandbox ends with this process.
fn end(ended: i32, descriptor: Option<i32>) -> ! {
    if let Some(descriptor) = descriptor {
        system::write(descriptor, &ended.to_ne_bytes());
    }
    system::exit(exit_code(ended))
}

/// As a shell would count it: 128 and the number of the signal that ended it, or its own.
fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_its_status_is_the_apps() {
        for code in [0, 1, 127, 143, 255] {
            assert_eq!(exit_code(code << 8), code);
        }
        for signal in [1, 9, 15, 64] {
            assert_eq!(exit_code(signal), 128 + signal);
        }
        assert_eq!(exit_code(11 | 0x80), 139, "with a core");
    }

    #[test]
    fn g4_all_signals_are_passed_on_but_those_of_children_and_of_a_background() {
        let kept = [system::SIGCHLD, system::SIGTTIN, system::SIGTTOU];
        for signal in 1..=64 {
            assert_eq!(act(signal) == Act::Pass, !kept.contains(&signal), "{signal}");
        }
    }
}
