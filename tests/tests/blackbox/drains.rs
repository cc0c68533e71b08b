//! A sandbox that is replaced: what is under way there ends as it began, or at deadlines of its own, and only then is it told to stop.

use miren_api::resource::{LogLine, Sandbox, SandboxState};
use miren_blackbox::http::{Connection, Response, WebSocket, get};
use miren_blackbox::{AppFolder, Node, wait_until};
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const HOST: &str = "leaving.example.com";
/// Longer than anything here takes.
const LONG: &str = "drain_timeout = \"10m\"\ntunnel_timeout = \"10m\"";
const PATIENCE: Duration = Duration::from_secs(60);

/// An app of one sandbox, and that sandbox.
fn deployed(node: &Node, times: &str) -> (AppFolder, Sandbox) {
    let app = AppFolder::rust("leaving").and(times).release("one").fixed(1);
    node.deploy_at(&app, HOST);
    let [old] = node.wait_running("leaving", 1).try_into().expect("one sandbox");
    (app, old)
}

fn ask(node: &Node, path: &str) -> Connection {
    let mut connection = Connection::open(node.http).expect("a connection");
    let headers = "Connection: close\r\n";
    connection.request("GET", HOST, path, headers).expect("it is sent");
    connection
}

/// Its whole answer, waited for beside everything else.
fn answer(node: &Node, path: &str) -> JoinHandle<io::Result<Response>> {
    let mut connection = ask(node, path);
    thread::spawn(move || connection.response())
}

/// An answer of which the head has come.
fn begun(node: &Node, path: &str) -> (Connection, Response) {
    let mut connection = ask(node, path);
    let head = connection.head().expect("a head");
    assert_eq!(head.status, 200);
    (connection, head)
}

fn find(node: &Node, id: &Sandbox) -> Sandbox {
    let all = node.sandboxes("leaving");
    let found = all.iter().find(|sandbox| sandbox.id == id.id);
    found
        .unwrap_or_else(|| panic!("{} is not among {all:?}", id.id))
        .clone()
}

#[track_caller]
fn becomes(node: &Node, sandbox: &Sandbox, state: SandboxState) -> Sandbox {
    let what = format!("{} to be {}", sandbox.id, state.as_str());
    wait_until(&what, PATIENCE, || match find(node, sandbox) {
        found if found.state == state => Ok(found),
        found => Err(format!("{found:?}")),
    })
}

/// When the app of a sandbox had this logged, by its own clock.
#[track_caller]
fn logged_at(node: &Node, sandbox: &Sandbox, what: &str) -> i64 {
    wait_until(what, PATIENCE, || {
        let output = node.cli.call_json(&["logs", "-a", "leaving", "--last", "1h"]);
        let lines: Vec<LogLine> = output
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line"))
            .collect();
        let mut of_it = lines.iter().filter(|line| line.sandbox == sandbox.id);
        let found = of_it.find(|line| line.line.contains(what));
        let at = found.and_then(|line| line.line.strip_prefix("at_ns=")?.split(' ').next()?.parse().ok());
        at.ok_or_else(|| format!("{lines:#?}"))
    })
}

/// Waits until the app of a sandbox has all of these requests.
fn arrived(node: &Node, sandbox: &Sandbox, paths: &[&str]) {
    for path in paths {
        logged_at(node, sandbox, &format!("request GET {path}"));
    }
}

#[test]
fn d2_i9_what_is_under_way_ends_as_it_began_and_sigterm_comes_behind_it() {
    let node = Node::start();
    let (app, old) = deployed(&node, LONG);
    let slow = answer(&node, "/sleep?ms=4000");
    let (mut events, head) = begun(&node, "/sse?n=20&gap_ms=200");
    let mut socket = WebSocket::open(node.http, HOST, "/ws").expect("a WebSocket");
    arrived(&node, &old, &["/sleep", "/sse", "/ws"]);
    app.set_release("two");
    node.deploy(&app);
    becomes(&node, &old, SandboxState::Draining);
    assert_eq!(
        get(node.http, HOST, "/info").expect("an answer").field("release"),
        "two"
    );
    assert_eq!(socket.echo("while it drains").expect("an echo"), "while it drains");

    let mut text = Vec::new();
    events
        .body(&head, |piece| {
            text.extend_from_slice(piece);
            true
        })
        .expect("all events, and their end");
    let text = String::from_utf8(text).expect("events are text");
    assert_eq!(text.matches("data: ").count(), 20, "{text}");
    let slow = slow.join().expect("a client").expect("an answer");
    assert_eq!((slow.status, slow.field("sandbox")), (200, old.id.to_string()));
    // Requests have ended, and the tunnel is waited for.
    assert_eq!(socket.echo("still there").expect("an echo"), "still there");
    assert_eq!(find(&node, &old).state, SandboxState::Draining);
    socket.close().expect("a goodbye of both sides");
    becomes(&node, &old, SandboxState::Stopped);
    let (ended, sigterm) = (slow.field("ended_ns"), logged_at(&node, &old, "SIGTERM"));
    assert!(ended.parse::<i64>().expect("a time") < sigterm, "{ended} and {sigterm}");
    node.stop();
}

#[test]
fn d4_i9_at_their_deadlines_requests_are_ended_and_websockets_told_and_then_comes_sigterm() {
    let node = Node::start();
    let (app, old) = deployed(&node, "drain_timeout = \"2s\"\ntunnel_timeout = \"3s\"");
    let slow = answer(&node, "/sleep?ms=600000");
    let (mut events, head) = begun(&node, "/sse?n=6000&gap_ms=100");
    let mut socket = WebSocket::open(node.http, HOST, "/ws").expect("a WebSocket");
    assert_eq!(socket.echo("here").expect("an echo"), "here");
    arrived(&node, &old, &["/sleep", "/sse", "/ws"]);
    app.set_release("two");
    node.deploy(&app);

    let slow = slow.join().expect("a client").expect("an answer");
    assert_eq!((slow.status, slow.code()), (504, "drain_deadline"));
    let end = events.body(&head, |_| true);
    assert!(end.is_err(), "events that were cut have an end");
    let told = socket.told_to_go().expect("a close frame, and the end");
    assert_eq!(told, (1012, "service restart".to_owned()));
    let stopped = becomes(&node, &old, SandboxState::Stopped);
    logged_at(&node, &old, "SIGTERM: exiting");
    let reason = stopped.reason.expect("a reason");
    assert!(!reason.contains("killed"), "it was not waited for: {reason}");
    assert_eq!(
        get(node.http, HOST, "/info").expect("an answer").field("release"),
        "two"
    );
    node.stop();
}

/// Requests that are gone do not end a tunnel, nor a tunnel's deadline a request.
#[test]
fn d4_the_two_deadlines_are_apart() {
    let node = Node::start();
    let (app, old) = deployed(&node, "drain_timeout = \"10m\"\ntunnel_timeout = \"0s\"");
    let slow = answer(&node, "/sleep?ms=3000");
    let socket = WebSocket::open(node.http, HOST, "/ws").expect("a WebSocket");
    arrived(&node, &old, &["/sleep", "/ws"]);
    app.set_release("two");
    node.deploy(&app);
    let (code, _) = socket.told_to_go().expect("a close frame, and the end");
    assert_eq!(code, 1012);
    let slow = slow.join().expect("a client").expect("an answer");
    assert_eq!((slow.status, slow.field("sandbox")), (200, old.id.to_string()));
    becomes(&node, &old, SandboxState::Stopped);
    let (ended, sigterm) = (slow.field("ended_ns"), logged_at(&node, &old, "SIGTERM"));
    assert!(ended.parse::<i64>().expect("a time") < sigterm, "{ended} and {sigterm}");
    node.stop();
}
