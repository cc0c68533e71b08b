//! What goes wrong with the machine while a node drains: it is said, the drain goes on, and with the fault the trouble is over.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use miren_api::node::{NodePhase, NodeStatus};
use miren_blackbox::http::{self, Response};
use miren_blackbox::{
    AppFolder, Node, NodeOptions, SecondProxy, SmallDisk, SupervisedControl, request_lines, wait_until,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::node_drain::{Call, assert_nothing_is_there, status, wait_status};

const HOST: &str = "faulty.example.com";
const APP: &str = "faulty";
const LIMIT: Duration = Duration::from_secs(180);
/// What a drain waits for while something goes wrong, milliseconds.
const HELD_MS: u64 = 6_000;

#[track_caller]
fn deployed(node: &Node) -> AppFolder {
    let app = AppFolder::rust(APP).fixed(2).release("before");
    node.deploy_at(&app, HOST);
    node.wait_running(APP, 2);
    app
}

/// A drain that waits for a request.
struct Draining {
    call: Call,
    held: JoinHandle<Response>,
}

impl Draining {
    #[track_caller]
    fn begin(node: &Node) -> Self {
        let address = node.http;
        let held = thread::spawn(move || http::get(address, HOST, &format!("/sleep?ms={HELD_MS}")).expect("an answer"));
        wait_until("the request to be in flight", LIMIT, || {
            let lines = request_lines(&node.cli, APP);
            match lines.iter().any(|line| line.request.contains("/sleep")) {
                true => Ok(()),
                false => Err(format!("{lines:?}")),
            }
        });
        let call = Call::start(node, &["node", "drain", "--allow-outage", "--timeout", "30m"]);
        wait_status(node, "the drain to begin", |seen| seen.phase == NodePhase::Draining);
        Self { call, held }
    }

    /// The request was answered, and nothing was forced.
    #[track_caller]
    fn ends(self, node: &Node) {
        let answer = self.held.join().expect("a client");
        assert_eq!(answer.status, 200, "{answer:?}");
        let (code, said) = self.call.end();
        assert_eq!(code, 0, "{said}\n{}", node.log());
        let seen = status(node);
        assert_eq!((seen.phase, seen.errors.len()), (NodePhase::Empty, 0), "{seen:?}");
        assert!(!node.log().contains("what is left on the node is killed"));
        assert_nothing_is_there(node);
    }
}

/// With the fault gone it takes work as ever.
#[track_caller]
fn works_again(node: &Node, app: &AppFolder) {
    let opened = node.cli.call(&["node", "undrain"]);
    assert_eq!(opened.code, 0, "{opened}");
    node.wait_running(APP, 2);
    app.set_release("after");
    node.deploy(app);
    wait_until("the new release", LIMIT, || match http::get(node.http, HOST, "/info") {
        Ok(answer) if answer.status == 200 && answer.field("release") == "after" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[track_caller]
fn said(node: &Node, what: &str) {
    wait_until(&format!("{what:?} to be said"), LIMIT, || match node.log() {
        log if log.contains(what) => Ok(()),
        log => Err(log),
    });
}

#[test]
fn f4b_d7_a_disk_that_fills_during_a_drain_and_during_an_upgrade_ends_neither() {
    let disk = SmallDisk::mount("64m");
    let options = ["data", "run", "second"]
        .iter()
        .fold(NodeOptions::unique(), |options, place| {
            options.place(place, &disk.path().join(place))
        });
    // That of the node's own proxy is given to its user by `miren dev`.
    fs::set_permissions(disk.path().join("second"), Permissions::from_mode(0o777)).expect("opening a folder");
    let node = options.start();
    let app = deployed(&node);
    let mut proxy = SecondProxy::start(&node);
    disk.fill();
    let before = proxy.upgrade();
    assert_ne!(before, proxy.pid);
    assert_eq!(http::get(proxy.http, HOST, "/info").expect("an answer").status, 200);
    let draining = Draining::begin(&node);
    draining.ends(&node);
    disk.make_room();
    works_again(&node, &app);
    proxy.upgrade();
    assert_eq!(http::get(proxy.http, HOST, "/info").expect("an answer").status, 200);
    drop(proxy);
    node.stop();
}

fn clock(folder: &Path) -> PathBuf {
    folder.join("wall-clock")
}

#[track_caller]
fn set_clock(node: &Node, by: &str) {
    let new = node.folder().join("wall-clock.new");
    fs::write(&new, by).expect("writing the clock");
    fs::rename(new, clock(node.folder())).expect("setting the clock");
}

#[test]
fn f8_d4_an_hour_either_way_during_a_drain_forces_nothing_and_puts_nothing_off() {
    let options = NodeOptions::unique();
    let file = clock(options.folder());
    fs::write(&file, "+0").expect("writing the clock");
    let node = options
        .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1")
        .env("FAKETIME_TIMESTAMP_FILE", &file.to_string_lossy())
        .env("FAKETIME_NO_CACHE", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .start();
    let app = deployed(&node);
    let draining = Draining::begin(&node);
    let left = |seen: &NodeStatus| {
        seen.deadline
            .zip(seen.since)
            .map(|(until, since)| until.duration_since(since))
    };
    let (before, mut times) = (left(&status(&node)), 0);
    for by in ["+1h", "-1h", "+0"] {
        set_clock(&node, by);
        times += 1;
        wait_until("control to say so", LIMIT, || {
            match node.log().matches("the wall clock was set").count() {
                count if count >= times => Ok(()),
                count => Err(format!("{count} times")),
            }
        });
        let seen = status(&node);
        assert_eq!(left(&seen), before, "{seen:?}");
    }
    draining.ends(&node);
    works_again(&node, &app);
    node.stop();
}

#[test]
fn a_socket_of_control_that_is_removed_during_a_drain_and_an_upgrade_is_there_again() {
    let node = Node::start();
    let app = deployed(&node);
    let mut proxy = SecondProxy::start(&node);
    let socket = PathBuf::from(node.cli.server.trim_start_matches("unix:"));
    let is_back = |times: usize| {
        wait_until("the socket to be there again", LIMIT, || {
            let log = node.log();
            match log.matches("removed from under it, and is there again").count() {
                count if count >= times => Ok(()),
                _ => Err(log),
            }
        });
    };
    fs::remove_file(&socket).expect("removing a socket");
    is_back(1);
    proxy.upgrade();
    assert_eq!(http::get(proxy.http, HOST, "/info").expect("an answer").status, 200);
    let draining = Draining::begin(&node);
    fs::remove_file(&socket).expect("removing a socket");
    is_back(2);
    draining.ends(&node);
    works_again(&node, &app);
    drop(proxy);
    node.stop();
}

/// Something else at the place of the run folder, until this is dropped.
struct Covered(PathBuf);

impl Covered {
    #[track_caller]
    fn over(folder: &Path) -> Self {
        let options = Some("mode=0755");
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), options).expect("mounting over a folder");
        Self(folder.to_owned())
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("unmounting {}: {error}", self.0.display());
        }
    }
}

#[test]
fn run_files_that_are_mounted_over_during_a_drain_are_said_and_waited_for() {
    let node = Node::start();
    let app = deployed(&node);
    let run = Path::new(node.cli.server.trim_start_matches("unix:"))
        .parent()
        .expect("a folder")
        .to_owned();
    let draining = Draining::begin(&node);
    let covered = Covered::over(&run);
    // Whoever looks for control finds it.
    said(&node, "removed from under it, and is there again");
    assert_eq!(status(&node).phase, NodePhase::Draining);
    drop(covered);
    // For a moment there is the socket again that it has left.
    let phase = wait_until("control to be found in the old place", LIMIT, || {
        let answer = node.cli.call_json(&["node", "status"]);
        match answer.code {
            0 => Ok(answer.parsed::<NodeStatus>().phase),
            _ => Err(answer.text()),
        }
    });
    assert_ne!(phase, NodePhase::Active);
    draining.ends(&node);
    works_again(&node, &app);
    node.stop();
}

#[test]
fn d6_control_that_drains_its_node_at_the_end_exits_with_0_and_the_next_one_serves() {
    let node = Node::start();
    deployed(&node);
    let mut control = SupervisedControl::take(&node, |own| {
        let own = own.replace("on_stop = \"remove\"", "on_stop = \"keep\"");
        let lines = own.lines().map(|line| match line {
            "[drain]" => "[drain]\non_stop = \"node\"\nsupervisor_timeout = \"0s\"",
            line if line.starts_with("node_timeout") => "node_timeout = \"0s\"",
            line => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    let address = node.http;
    let held = thread::spawn(move || http::get(address, HOST, "/sleep?ms=2000").expect("an answer"));
    wait_until("the request to be in flight", LIMIT, || {
        let lines = request_lines(&node.cli, APP);
        match lines.iter().any(|line| line.request.contains("/sleep")) {
            true => Ok(()),
            false => Err(format!("{lines:?}")),
        }
    });
    let ended = control.terminate();
    assert_eq!(ended.code(), Some(0), "{}", node.log());
    assert_eq!(
        held.join().expect("a client").status,
        200,
        "what was under way was waited for"
    );
    assert!(node.log().contains("phase=\"EMPTY\""), "{}", node.log());
    assert_nothing_is_there(&node);
    control.start();
    node.wait_running(APP, 2);
    wait_until("it to serve", LIMIT, || match http::get(node.http, HOST, "/info") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(control);
    node.stop();
}
