//! Requests that their server does not survive.

use std::time::Duration;

use miren_api::resource::SandboxState;
use miren_blackbox::{AppFolder, Node, http, request_lines, wait_until};

const HOST: &str = "crash.example.com";
const SANDBOXES: usize = 4;

#[test]
fn f14_a_request_that_ends_its_server_takes_one_more_at_most() {
    let node = Node::start();
    let app = AppFolder::rust("crash").fixed(u32::try_from(SANDBOXES).expect("few"));
    node.deploy_at(&app, HOST);
    node.wait_running("crash", SANDBOXES);
    let answer = http::get(node.http, HOST, "/crash").expect("it is answered");
    assert_eq!(
        (answer.status, answer.code()),
        (502, "upstream_closed"),
        "{}",
        answer.text()
    );
    let ends = || {
        let sandboxes = node.sandboxes("crash");
        let ended = sandboxes.iter().filter(|sandbox| sandbox.state == SandboxState::Dead);
        let lines = request_lines(&node.cli, "crash");
        let had_it = lines.iter().filter(|line| line.request.starts_with("GET /crash"));
        (ended.count(), had_it.count(), sandboxes.len() - SANDBOXES)
    };
    // Each that had it has ended and is replaced: then all has been told.
    let ended = wait_until("what ended to be replaced", Duration::from_secs(60), || match ends() {
        (ended, had_it, replaced) if ended > 0 && ended == had_it && ended == replaced => Ok(ended),
        seen => Err(format!("{seen:?} ended, had it, are replaced")),
    });
    // Without the kernel's word an end is known when control has seen it, which may be later than the next attempt.
    let most = if node.fast_path == "kernel" { 2 } else { 3 };
    assert!(ended <= most, "{ended} sandboxes ended with one request");
    assert_eq!(http::get(node.http, HOST, "/info").expect("it is answered").status, 200);
    node.stop();
}
