//! What becomes of a whole process whose task dies, or whose log cannot be written.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn daemon(how: &str) -> Command {
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_miren-log-testdaemon"));
    daemon.arg(how).env_remove("RUST_LOG").stdout(Stdio::piped());
    daemon
}

#[track_caller]
fn run(how: &str) -> (Output, String) {
    let output = daemon(how).output().unwrap();
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    (output, log)
}

#[test]
fn f4b_a_dead_task_or_thread_ends_the_process_and_is_named_with_its_reason() {
    let cases = [
        ("task", "the heart", "out of luck"),
        ("thread", "lungs", "out of air"),
        ("end", "the heart", "it ended although nothing asked it to"),
        ("change", "the books", "whoever changed it panicked"),
    ];
    for (how, name, why) in cases {
        let (output, log) = run(how);
        assert_eq!(output.status.code(), Some(miren_log::EXIT_CODE), "{how}: {log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains(name) && last.contains(why), "{how}: {log}");
        let panicked = log.lines().find(|line| line.contains("panicked: "));
        let named = panicked.is_none_or(|line| line.contains("task=") && line.contains("testdaemon/main.rs:"));
        assert!(named && panicked.is_some() == (how != "end"), "{how}: {log}");
    }
}

#[test]
fn f4b_a_request_that_panics_is_named_counted_and_no_end() {
    let (output, log) = run("request");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{log}");
    let expected = "a request failed by a fault in this program: a strange one; 1 panics; 0 dropped\n";
    assert_eq!(said, expected);
    assert!(log.contains("a strange one") && log.contains("a request"), "{log}");
}

/// What it said on stdout, which it only says when nothing ended it.
#[track_caller]
fn said_with(stderr: impl Into<Stdio>, how: &str, code: i32) -> String {
    let output = daemon(how).stderr(stderr).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn f4b_a_log_on_a_full_disk_ends_nothing_and_is_counted() {
    assert_eq!(said_with(full(), "", 0), "nothing to do; 1 dropped\n");
    let said = said_with(full(), "lines", 0);
    assert_eq!(said, "said them all; 50001 dropped\n");
    // Nor does it hide a death.
    assert_eq!(said_with(full(), "task", miren_log::EXIT_CODE), "");
}

#[test]
fn f4b_a_log_that_nobody_reads_any_more_ends_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(said_with(writer, "lines", 0), "said them all; 50001 dropped\n");
}

#[test]
fn f4b_a_reader_of_the_log_that_is_stuck_holds_nothing_up() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let said = said_with(writer, "lines", 0);
    assert!(
        said.starts_with("said them all; ") && said != "said them all; 0 dropped\n",
        "{said}"
    );
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    assert!(log.contains("begun"), "{log}");
}

#[test]
fn l7_a_supervisor_hears_that_a_daemon_serves_lives_and_how_long_its_end_may_take() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut watched = daemon("watched")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "20000")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let hear = || {
        let mut told = [0; 1024];
        let length = socket.recv(&mut told).expect("nothing was told");
        String::from_utf8_lossy(&told[..length]).into_owned()
    };
    let serves = hear();
    assert!(
        serves.contains("READY=1") && serves.contains("X_MIREN={\"it\":1}"),
        "{serves}"
    );
    for _ in 0..3 {
        assert_eq!(hear().trim(), "WATCHDOG=1");
    }
    drop(watched.stdin.take());
    let mut rest = Vec::new();
    while !rest.iter().any(|told: &String| told.contains("EXTEND_TIMEOUT_USEC=")) {
        rest.push(hear());
    }
    assert!(rest.iter().any(|told| told.contains("STOPPING=1")), "{rest:?}");
    watched.kill().unwrap();
    watched.wait().unwrap();
}
