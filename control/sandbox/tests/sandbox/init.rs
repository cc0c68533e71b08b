//! Decides that the init of a sandbox reaps, passes signals on, and is seen by nobody else: a sandbox ends when its app does, as its app does.

use crate::client::{ask, try_ask};
use crate::node::{TestNode, eventually, signal, status_field, with_node};
use miren_api::resource::SandboxState::{Dead, Stopped};
use miren_loader::{ActiveMode, State};
use miren_sandbox::{Attach, EndedBy, RuntimeConfig, SandboxChange, StartOrder};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::io::AsyncReadExt;

/// What a further command wrote to either output, and how it ended.
async fn run(node: &TestNode, order: &StartOrder, words: &[&str]) -> (String, Result<i32, String>) {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    let exec = node.sandboxes().exec(&order.id, command, Attach::default()).await;
    let mut exec = exec.expect("a command");
    let (mut out, mut err) = (String::new(), String::new());
    let (read, wrote) = tokio::join!(
        exec.streams.stdout.read_to_string(&mut out),
        exec.streams.stderr.read_to_string(&mut err)
    );
    read.and(wrote).expect("both outputs");
    (out + &err, exec.end.wait().await)
}

async fn script(node: &TestNode, order: &StartOrder, text: &str) -> (String, Result<i32, String>) {
    run(node, order, &["sh", "-c", text]).await
}

async fn stop(node: &mut TestNode, order: &StartOrder) {
    node.sandboxes().kill(&order.id, "test over");
    node.until(&order.id, Stopped).await;
}

/// Without a port: what a shell runs.
fn shell(node: &TestNode, command: &str) -> StartOrder {
    let mut order = node.order("");
    order.service.command = command.to_owned();
    order.service.port = None;
    order
}

/// Processes and threads that count, also those that nobody has reaped.
fn counted(node: &TestNode, order: &StartOrder) -> u32 {
    let group = format!("miren-{}/{}/pids.current", node.config.name, order.id);
    let old = fs::read_to_string(format!("/sys/fs/cgroup/pids/{group}"));
    let text = old.or_else(|_| fs::read_to_string(format!("/sys/fs/cgroup/{group}")));
    text.expect("a cgroup").trim().parse().expect("a number")
}

/// The first process of the sandbox of one of its processes.
fn init_of(running: &SandboxChange) -> u32 {
    let status = |pid: u32| fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let app = status(running.facts.pid.expect("a pid"));
    let init = status_field(&app, "PPid").parse().expect("a pid");
    let numbers = status_field(&status(init), "NSpid");
    assert!(numbers.ends_with("\t1"), "{numbers}");
    init
}

/// Everything that is in the logs of a node.
fn logged(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let text = |path: &Path| match path.is_dir() {
        true => logged(path),
        false => fs::read_to_string(path).unwrap_or_default(),
    };
    entries.map(|entry| text(&entry.path())).collect()
}

#[test]
fn g4_orphans_are_reaped_and_do_not_count() {
    with_node(async |node| {
        let mut order = node.order("listen 0.0.0.0");
        order.service.resources.pids = Some(24);
        let running = node.run(&order).await;
        assert_eq!(ask(&running, "cwd"), "/app");
        // Each of them leaves a child behind that ends at some time after it.
        let orphans = "i=0; while [ $i -lt 30 ]; do (/bin/true & ); i=$((i + 1)); done; echo made";
        for _ in 0..3 {
            assert_eq!(script(node, &order, orphans).await, ("made\n".to_owned(), Ok(0)));
            eventually("the orphans to go", || counted(node, &order) <= 3).await;
        }
        let (zombies, _) = script(node, &order, "grep -l '^State:.Z' /proc/[0-9]*/status").await;
        assert_eq!(zombies, "");
        stop(node, &order).await;
    });
}

#[test]
fn g4_every_signal_that_can_be_is_passed_on_with_what_came_along() {
    with_node(async |node| {
        let order = node.order("signals 0.0.0.0");
        node.run(&order).await;
        // Neither those that nobody can take, nor of children and of a background; 32 and 33 are the C library's own.
        let signals = (1..=64).filter(|number| ![9, 17, 19, 21, 22, 32, 33].contains(number));
        for number in signals.clone() {
            let (said, status) = run(node, &order, &["./app", "send", "1", &number.to_string()]).await;
            assert_eq!((said.as_str(), status), ("", Ok(0)), "{number}");
        }
        let (said, _) = run(node, &order, &["./app", "send", "1", "40", "4711"]).await;
        assert_eq!(said, "");
        let log = || logged(&node.config.log_dir);
        eventually("what came along", || log().contains("signal 40 with 4711")).await;
        for number in signals {
            assert!(log().contains(&format!("signal {number} with ")), "{number}: {}", log());
        }
        for number in [17, 21, 22] {
            assert!(!log().contains(&format!("signal {number} with ")), "{}", log());
        }
        stop(node, &order).await;
    });
}

#[test]
fn g4_a_signal_to_the_first_process_ends_the_app_and_is_told_as_its_end() {
    with_node(async |node| {
        let order = node.order("plain 0.0.0.0");
        node.run(&order).await;
        // It may be ended with the sandbox before it ends itself.
        let _ = script(node, &order, "kill -TERM 1").await;
        let dead = node.until(&order.id, Dead).await;
        assert_eq!(dead.facts.exit_code, Some(143));
        let knows = node.config.runtime == RuntimeConfig::Embedded || node.fast_path_mode() == ActiveMode::Kernel;
        if knows {
            assert_eq!(dead.reason.as_deref(), Some("killed by signal 15 (SIGTERM)"));
            assert_eq!(dead.facts.ended_by, Some(EndedBy::Signal(15)));
        }
    });
}

#[test]
fn g4_the_end_of_the_app_is_the_end_also_of_what_it_left_behind() {
    with_node(async |node| {
        let order = shell(
            node,
            "(setsid sleep 600 & ); while [ ! -e /tmp/go ]; do sleep 0.01; done; exit 3",
        );
        let running = node.run(&order).await;
        let init = init_of(&running);
        assert_eq!(script(node, &order, ": > /tmp/go").await.1, Ok(0));
        let dead = node.until(&order.id, Dead).await;
        assert_eq!(dead.facts.exit_code, Some(3));
        node.sandboxes().drained().await;
        assert!(!Path::new(&format!("/proc/{init}")).exists(), "its init has ended too");
    });
}

/// Ctrl-Z, and what befalls one in the background: there is no shell that would let it go on.
#[test]
fn g4_an_app_that_its_terminal_stops_goes_on_and_one_that_somebody_stops_does_not() {
    with_node(async |node| {
        let order = shell(
            node,
            "kill -TSTP $$; kill -TTIN $$; kill -TTOU $$; : > /tmp/on; kill -STOP $$; : > /tmp/off; exec sleep 600",
        );
        let running = node.run(&order).await;
        let app = running.facts.pid.expect("a pid");
        let status = || fs::read_to_string(format!("/proc/{app}/status")).expect("it lives");
        let is_there = |name: &str| Path::new(&format!("/proc/{app}/root/tmp/{name}")).exists();
        eventually("it goes on", || is_there("on")).await;
        eventually("it is stopped", || status().contains("T (stopped)")).await;
        // Its init hears of this orphan later than of the stop.
        assert_eq!(script(node, &order, "(/bin/true & )").await.1, Ok(0));
        eventually("the orphan to go", || counted(node, &order) <= 2).await;
        assert!(status().contains("T (stopped)"), "{}", status());
        assert!(!is_there("off"));
        signal(Some(app), Signal::SIGCONT);
        eventually("it goes on again", || is_there("off")).await;
        stop(node, &order).await;
    });
}

/// Nothing waits for the first process: it is stopped here, and could not even end.
#[test]
fn g4_the_end_of_the_app_counts_and_not_that_of_its_init() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let init = init_of(&running);
        signal(Some(init), Signal::SIGSTOP);
        eventually("it is stopped", || {
            fs::read_to_string(format!("/proc/{init}/status")).is_ok_and(|status| status.contains("T (stopped)"))
        })
        .await;
        try_ask(&running, "exit/7").expect_err("it exits");
        let slot = running.facts.slot.expect("a slot");
        let word = || node.fast_path.as_ref().expect("a daemon").slot(slot).state;
        eventually("the word says so", || word() == State::Dead).await;
        let status = fs::read_to_string(format!("/proc/{init}/status")).expect("its init is there still");
        assert!(status.contains("T (stopped)"), "{status}");
        signal(Some(init), Signal::SIGCONT);
        let dead = node.until(&order.id, Dead).await;
        assert_eq!(dead.facts.exit_code, Some(7));
    });
}

#[test]
fn g4_what_brings_an_init_of_its_own_is_the_first_process() {
    with_node(async |node| {
        let mut order = node.order("listen 0.0.0.0");
        order.service.init = false;
        let running = node.run(&order).await;
        let numbers = ask(&running, "list/proc");
        let processes = numbers.lines().filter(|name| name.parse::<u32>().is_ok());
        assert_eq!(processes.collect::<Vec<_>>(), ["1"]);
        assert_eq!(ask(&running, "read/proc/1/comm").trim(), "app");
        node.drain_now(&order.id, "test over");
        let stopped = node.until(&order.id, Stopped).await;
        assert_eq!(stopped.facts.exit_code, Some(0));
        let mut order = node.order("exit 5");
        order.service.init = false;
        let reason = node.fail(&order).await;
        assert!(reason.starts_with("port: exited with status 5 before"), "{reason}");
        let mut missing = shell(node, "no-such-program --flag");
        missing.service.init = false;
        let reason = node.fail(&missing).await;
        assert!(
            reason.starts_with("create: command not found: no-such-program"),
            "{reason}"
        );
    });
}

#[test]
fn g4_what_cannot_run_is_told_by_either_runtime_alike() {
    with_node(async |node| {
        let folder = node.order("").app_files.expect("a folder");
        for (name, text, mode) in [
            ("no-interpreter", "#!/no/such/interpreter\n", 0o755),
            ("no-program", "\u{7f}ELF", 0o755),
            ("no-mode", "#!/bin/sh\n", 0o644),
            ("no-line", "echo of a shell; exit 9\n", 0o755),
        ] {
            fs::write(folder.join(name), text).expect("a file");
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        for (command, expected) in [
            (
                "./no-interpreter",
                "create: cannot execute ./no-interpreter: the interpreter in its first line",
            ),
            (
                "./no-mode",
                "create: command not executable: ./no-mode; set its mode with chmod +x",
            ),
            // What has no first line of this kind is a script of the shell, as everywhere.
            (
                "./no-line",
                "start: exited with status 9 right after its start; last log lines:\n  of a shell",
            ),
        ] {
            let order = shell(node, command);
            node.sandboxes().start(order.clone());
            let reason = until_ended(node, &order).await;
            assert!(
                reason.starts_with(expected) || reason == "exited with status 9",
                "{command}: {reason}"
            );
        }
    });
}

/// One without a port may be RUNNING before it has ended.
async fn until_ended(node: &mut TestNode, order: &StartOrder) -> String {
    node.sandboxes().drained().await;
    let dead = node.until(&order.id, Dead).await;
    dead.reason.expect("a reason")
}
