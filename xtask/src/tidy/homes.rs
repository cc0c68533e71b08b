//! What is called in few places only: tasks and threads begin, and daemons speak, in `control/log`; dates are read by the clock (ADR 0023).

use super::{Sources, is_test, without_unit_tests};

/// What is called in few places, what to use elsewhere and why, and where its homes are.
struct Call {
    call: &'static str,
    instead: &'static str,
    homes: &'static [&'static str],
}

const BARE_TASK: &str = "miren_log::spawn: nobody notices when a bare task panics";
const DATE: &str = "control/src/clock.rs: what is waited for is measured by the time since boot (ADR 0023)";

const CALLS: &[Call] = &[
    nowhere("tokio::spawn(", BARE_TASK),
    nowhere("tokio::task::spawn(", BARE_TASK),
    nowhere(
        "thread::spawn(",
        "miren_log::thread: nobody notices when a bare thread panics",
    ),
    nowhere("println!(", "miren_log::say or tracing: it panics when nobody reads"),
    nowhere(
        "eprintln!(",
        "miren_log::complain or tracing: it panics when the disk is full",
    ),
    nowhere(
        "eprint!(",
        "miren_log::complain or tracing: it panics when the disk is full",
    ),
    nowhere(" print!(", "miren_log::say: it panics when nobody reads"),
    Call {
        call: "Timestamp::now(",
        instead: DATE,
        // A line of a log has a date; labels end on one.
        homes: &[
            "control/src/clock.rs",
            "control/sandbox/src/logs/writer.rs",
            "proxy/src/request/admission.rs",
        ],
    },
    Call {
        call: "SystemTime::now(",
        instead: DATE,
        // Folders that were sent have a date.
        homes: &["control/src/artifact.rs"],
    },
];

const fn nowhere(call: &'static str, instead: &'static str) -> Call {
    Call {
        call,
        instead,
        homes: &[],
    }
}

/// The sources of what goes on for as long as a node does; threads of builds and disks are waited for by whoever began them.
const DAEMONS: &[&str] = &["control/src/", "control/sandbox/src/", "proxy/src/", "ebpf/loader/src/"];

pub fn check(sources: &Sources) -> Vec<String> {
    let of_daemons = sources
        .rust
        .iter()
        .filter(|(path, _)| DAEMONS.iter().any(|folder| path.starts_with(folder)) && !is_test(path));
    of_daemons.flat_map(|(path, text)| check_file(path, text)).collect()
}

fn check_file(path: &str, text: &str) -> Vec<String> {
    let code = without_unit_tests(text).lines();
    let code = code.filter(|line| !line.trim_start().starts_with("//"));
    let banned = || CALLS.iter().filter(|call| !call.homes.contains(&path));
    code.flat_map(|line| banned().filter(move |call| line.contains(call.call)))
        .map(|Call { call, instead, .. }| format!("{path}: {call}) has no place there; use {instead}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f4b_a_bare_task_in_a_daemon_is_found() {
        let text = "fn f() {\n    tokio::spawn(work());\n    // tokio::spawn(work());\n}\n";
        assert_eq!(check_file("proxy/src/run.rs", text).len(), 1);
        let tested = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn g() { eprintln!(\"x\") }\n}\n";
        assert!(check_file("control/src/output.rs", tested).is_empty());
        let dated = "fn f() {\n    let at = Timestamp::now();\n}\n";
        assert_eq!(check_file("control/src/apps.rs", dated).len(), 1);
        assert!(check_file("control/src/clock.rs", dated).is_empty());
        assert!(is_test("proxy/src/lease/tests.rs") && !is_test("proxy/src/lease.rs"));
    }
}
