//! What is called in one place only: tasks and threads begin, and daemons speak, in `control/log` (ADR 0023).

use super::Sources;

/// Calls, what they are called instead, and why.
const CALLS: &[(&str, &str)] = &[
    (
        "tokio::spawn(",
        "miren_log::spawn: nobody notices when a bare task panics",
    ),
    (
        "tokio::task::spawn(",
        "miren_log::spawn: nobody notices when a bare task panics",
    ),
    (
        "thread::spawn(",
        "miren_log::thread: nobody notices when a bare thread panics",
    ),
    ("println!(", "miren_log::say or tracing: it panics when nobody reads"),
    (
        "eprintln!(",
        "miren_log::complain or tracing: it panics when the disk is full",
    ),
    (
        "eprint!(",
        "miren_log::complain or tracing: it panics when the disk is full",
    ),
    (" print!(", "miren_log::say: it panics when nobody reads"),
];

/// The sources of what goes on for as long as a node does; threads of builds and disks are waited for by whoever began them.
const DAEMONS: &[&str] = &["control/src/", "control/sandbox/src/", "proxy/src/", "ebpf/loader/src/"];

pub fn check(sources: &Sources) -> Vec<String> {
    let of_daemons = sources
        .rust
        .iter()
        .filter(|(path, _)| DAEMONS.iter().any(|folder| path.starts_with(folder)) && !is_test(path));
    of_daemons.flat_map(|(path, text)| check_file(path, text)).collect()
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn check_file(path: &str, text: &str) -> Vec<String> {
    // Unit tests stand at the end of a file.
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| CALLS.iter().filter(move |(call, _)| line.contains(call)))
        .map(|(call, instead)| format!("{path}: {call}) is for control/log; use {instead}"))
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
        assert!(is_test("proxy/src/lease/tests.rs") && !is_test("proxy/src/lease.rs"));
    }
}
