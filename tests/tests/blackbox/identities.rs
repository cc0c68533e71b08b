//! Control comes back as another one, on another slot table or an earlier store: what serves is what it says, and nothing hangs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use miren_blackbox::{AppFolder, Node, process, wait_until};
use nix::sys::signal::Signal;

use crate::control_killed::control_is_back;

const HOST: &str = "moved.example.com";
const LIMIT: Duration = Duration::from_secs(60);
/// The store: what is written, and what has not been moved there yet.
const STORE: [&str; 2] = ["control.db", "control.db-wal"];

/// Ends control, and lets `between` happen before it is started again; returns once it takes changes.
fn restart_control(node: &Node, between: impl FnOnce()) {
    let control = node.control_pid().expect("control runs");
    process::signal(node.dev_pid(), Signal::SIGSTOP);
    process::kill_and_wait(control);
    between();
    process::signal(node.dev_pid(), Signal::SIGCONT);
    control_is_back(node, control);
    // Reads answer before: a route that says what it said changes nothing.
    wait_until("control to take changes", LIMIT, || {
        let output = node.cli.call(&["route", "set", HOST, "moved"]);
        if output.code == 0 {
            Ok(())
        } else {
            Err(output.to_string())
        }
    });
}

/// The release that answers, once one does.
fn answered(node: &Node) -> String {
    wait_until("an answer", LIMIT, || match node.get(HOST, "/info") {
        response if response.status == 200 => Ok(response.field("release")),
        response => Err(format!("{} {}", response.status, response.text())),
    })
}

#[test]
fn f10_with_control_back_in_another_mode_the_proxy_is_replaced_and_the_next_death_hangs_no_request() {
    let node = Node::start();
    let app = AppFolder::rust("moved").fixed(2);
    app.set_release("one");
    node.deploy_at(&app, HOST);
    node.wait_running(&app.name, 2);
    let mut proxy = node.proxy_pid();
    let first = node.fast_path.clone();
    let other = if first == "kernel" { "off" } else { "kernel" };
    // There, and back: each time another table is in the place of the one before.
    for mode in [other, first.as_str()] {
        restart_control(&node, || {
            let file = node.folder().join("control.toml");
            let settings = fs::read_to_string(&file).expect("reading the settings of control");
            let line = settings.lines().find(|line| line.starts_with("mode = "));
            let line = line.unwrap_or_else(|| panic!("{settings}"));
            fs::write(&file, settings.replace(line, &format!("mode = {mode:?}"))).expect("writing settings");
        });
        proxy = wait_until("another proxy", LIMIT, || {
            match process::child(node.dev_pid(), "miren-proxy") {
                Some(pid) if pid != proxy => Ok(pid),
                other => Err(format!("{other:?}, {}", node.log())),
            }
        });
        assert_eq!(answered(&node), "one", "in mode {mode}");
        let running = node.wait_running(&app.name, 2);
        let victim = running[0].pid.expect("a running sandbox has a process");
        process::kill_and_wait(victim);
        for _ in 0..100 {
            let response = node.get(HOST, "/info");
            assert_eq!(response.status, 200, "in mode {mode}: {}", response.text());
        }
        node.wait_running(&app.name, 2);
    }
    let log = node.log();
    assert!(log.contains("control writes slot table"), "the reason is named: {log}");
    let ends = log.matches("miren-proxy ended").count();
    let own = log.matches("miren-proxy ended (exit status: 75)").count();
    assert_eq!((ends, own), (2, 2), "with a code of its own, each time: {log}");
    node.stop();
}

/// Copies the store; control does not go on meanwhile.
fn copy_aside(node: &Node, aside: &Path) {
    let control = node.control_pid().expect("control runs");
    process::signal(control, Signal::SIGSTOP);
    for file in STORE {
        fs::copy(node.folder().join("data").join(file), aside.join(file)).expect("copying the store");
    }
    process::signal(control, Signal::SIGCONT);
}

#[test]
fn f10_after_the_store_was_put_back_a_deploy_that_succeeded_is_what_the_ingress_serves() {
    let node = Node::start();
    let app = AppFolder::rust("moved").fixed(1);
    app.set_release("one");
    node.deploy_at(&app, HOST);
    let aside = tempfile::tempdir().expect("a folder");
    copy_aside(&node, aside.path());
    for release in ["two", "three"] {
        app.set_release(release);
        node.deploy(&app);
    }
    node.route("lost.example.com", &app.name);
    assert_eq!(node.get(HOST, "/info").field("release"), "three");

    restart_control(&node, || {
        let data = node.folder().join("data");
        let _ = fs::remove_file(data.join("control.db-shm"));
        for file in STORE {
            fs::copy(aside.path().join(file), data.join(file)).expect("putting the store back");
        }
    });
    app.set_release("four");
    node.deploy(&app);
    for _ in 0..100 {
        let response = node.get(HOST, "/info");
        let answered = (response.status, response.field("release"));
        assert_eq!(answered, (200, "four".to_owned()), "{}", response.text());
    }
    node.unset_default();
    let lost = node.get("lost.example.com", "/info");
    assert_eq!((lost.status, lost.code()), (404, "no_route"), "{}", lost.text());
    node.stop();
}
