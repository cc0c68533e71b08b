//! The wall clock of a node, set by an hour while it works: nothing that is waited for becomes longer or shorter.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use miren_api::resource::{PoolState, SandboxState};
use miren_blackbox::http::{self, Response};
use miren_blackbox::{AppFolder, Node, NodeOptions, request_lines, wait_until};

const HOST: &str = "clock.example.com";
const APP: &str = "clock";
/// Far less than an hour, and far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long the request takes that is in flight: less than a drain may take, and more than the steps of a deploy do.
const HELD_MS: u64 = 20_000;

/// Where the node's daemons read how far their wall clock is ahead.
fn clock(folder: &Path) -> std::path::PathBuf {
    folder.join("wall-clock")
}

/// A node whose wall clock can be set. The machine's own cannot: it is everybody's.
#[track_caller]
fn started() -> Node {
    let options = NodeOptions::unique();
    let clock = clock(options.folder());
    fs::write(&clock, "+0").expect("writing the clock");
    let clock = clock.to_string_lossy().into_owned();
    options
        // `$LIB` is the loader's word for where this machine's libraries are.
        .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1")
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .start()
}

#[track_caller]
fn set(node: &Node, by: &str) {
    let (file, new) = (clock(node.folder()), node.folder().join("wall-clock.new"));
    fs::write(&new, by).expect("writing the clock");
    fs::rename(new, file).expect("setting the clock");
}

/// Else nothing was tested.
#[track_caller]
fn was_set(node: &Node) {
    wait_until("control to say that its wall clock was set", PATIENCE, || {
        match node.log().contains("the wall clock was set") {
            true => Ok(()),
            false => Err(node.log()),
        }
    });
}

fn held(node: &Node) -> thread::JoinHandle<Response> {
    let address = node.http;
    thread::spawn(move || http::get(address, HOST, &format!("/sleep?ms={HELD_MS}")).expect("an answer"))
}

fn drains_unhurt_by(step: &str) {
    let node = started();
    let app = AppFolder::rust(APP).fixed(1).release("before");
    node.deploy_at(&app, HOST);
    let held = held(&node);
    wait_until("the request to be in flight", PATIENCE, || {
        let lines = request_lines(&node.cli, APP);
        match lines.iter().any(|line| line.request.contains("/sleep")) {
            true => Ok(()),
            false => Err(format!("{lines:?}")),
        }
    });
    app.set_release("after");
    node.deploy(&app);
    wait_until("its sandbox to drain", PATIENCE, || {
        let sandboxes = node.sandboxes(APP);
        match sandboxes.iter().any(|one| one.state == SandboxState::Draining) {
            true => Ok(()),
            false => Err(format!("{sandboxes:?}")),
        }
    });
    set(&node, step);
    let response = held.join().expect("the thread that waits for the answer");
    assert_eq!(
        (response.status, response.field("release")),
        (200, "before".to_owned()),
        "{response:?}"
    );
    was_set(&node);
    node.stop();
}

#[test]
fn f8_an_hour_forward_cuts_no_request_of_a_sandbox_that_drains() {
    drains_unhurt_by("+1h");
}

#[test]
fn f8_an_hour_back_cuts_no_request_of_a_sandbox_that_drains() {
    drains_unhurt_by("-1h");
}

#[test]
fn f8_an_hour_back_makes_no_cool_down_longer() {
    let node = started();
    node.deploy_at(&AppFolder::rust(APP).fixed(1), HOST);
    wait_until("a pool that waits after crashes", PATIENCE, || {
        // A request to one that is being replaced waits for the next one, and ends that, too.
        let _ = http::get(node.http, HOST, "/crash");
        match node.pools(APP).remove(0) {
            pool if pool.state == PoolState::Cooldown => Ok(()),
            pool => Err(format!("{pool:?}")),
        }
    });
    set(&node, "-1h");
    wait_until("the end of the wait", PATIENCE, || match node.pools(APP).remove(0) {
        pool if pool.ready == 1 => Ok(()),
        pool => Err(format!("{pool:?}")),
    });
    assert_eq!(node.get(HOST, "/info").status, 200);
    was_set(&node);
    node.stop();
}
