//! Daemons restarted and killed under a supervisor, as systemd has them: what runs runs on, and nobody notices.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use miren_api::resource::Sandbox;
use miren_blackbox::http::{Connection, Response, WebSocket, get};
use miren_blackbox::{AppFolder, Mixed, Node, SupervisedControl, SupervisedProxy};

const HOST: &str = "supervised.example.com";
/// Of each kind.
const TIMES: usize = 20;
/// Kills of the proxy, and what meets each of them.
const KILLS: usize = 3;
const UNDER_WAY: usize = 8;
const QUEUED: usize = 100;
const CLIENTS: usize = 4;

fn node() -> Node {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("supervised").fixed(2), HOST);
    node.wait_running("supervised", 2);
    node
}

/// What makes a sandbox the same one.
fn who(node: &Node) -> Vec<(String, Option<u32>, Option<u64>)> {
    let of = |sandbox: Sandbox| (sandbox.id.to_string(), sandbox.pid, sandbox.generation);
    let mut who: Vec<_> = node.wait_running("supervised", 2).into_iter().map(of).collect();
    who.sort();
    who
}

#[test]
fn i7_forty_restarts_and_kills_of_control_lose_nothing_of_a_mixed_load() {
    let node = node();
    let before = who(&node);
    let mut control = SupervisedControl::keeping(&node);
    let mixed = Mixed::start(&node, HOST);
    let mut socket = WebSocket::open(node.http, HOST, "/ws").expect("a WebSocket opens");
    for time in 0..2 * TIMES {
        if time % 2 == 0 {
            let status = control.terminate();
            assert_eq!(status.code(), Some(0), "{}", node.log());
        } else {
            control.kill();
        }
        let text = format!("while control is away for the {time}th time");
        assert_eq!(socket.echo(&text).expect("the WebSocket lives on"), text);
        control.start();
        assert_eq!(who(&node), before, "the same sandboxes");
    }
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    assert_eq!(socket.echo("at the end").expect("the WebSocket lives on"), "at the end");
    socket.close().expect("a goodbye of both sides");
    // It still decides.
    node.deploy(&AppFolder::rust("supervised").fixed(2).release("after"));
    assert_eq!(node.get(HOST, "/info").field("release"), "after");
    drop(control);
    node.stop();
}

/// An answer of which the head has come.
fn begun(http: SocketAddr, path: &str) -> (Connection, Response) {
    let mut connection = Connection::open(http).expect("a connection");
    connection.request("GET", HOST, path, "").expect("it is sent");
    let head = connection.head().expect("a head");
    assert_eq!(head.status, 200);
    (connection, head)
}

/// One request on a connection of its own: from when to when, and what came of it.
type Asked = (Range<Instant>, io::Result<Response>);

/// Clients that ask again and again, whatever happens.
struct Clients {
    running: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Asked>>>,
}

impl Clients {
    fn start(http: SocketAddr) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let client = |_| {
            let running = Arc::clone(&running);
            thread::spawn(move || {
                let mut all = Vec::new();
                while running.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let outcome = get(http, HOST, "/info");
                    all.push((begun..Instant::now(), outcome));
                }
                all
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Self { running, threads }
    }

    fn stop(self) -> Vec<Asked> {
        self.running.store(false, Ordering::Relaxed);
        let ended = self
            .threads
            .into_iter()
            .map(|thread| thread.join().expect("a client ends"));
        ended.flatten().collect()
    }
}

/// Sent while nobody accepts: the kernel takes it.
fn queued(http: SocketAddr) -> Connection {
    let mut connection = Connection::open(http).expect("nobody is refused");
    let sent = connection.request("GET", HOST, "/info", "Connection: close\r\n");
    sent.expect("the kernel keeps it");
    connection
}

#[test]
fn i9_a_proxy_killed_under_a_supervisor_that_holds_its_socket_loses_what_was_in_flight_and_nothing_else() {
    let node = node();
    let mut proxy = SupervisedProxy::start(&node);
    let http = proxy.http;
    let clients = Clients::start(http);
    let mut kills: Vec<Range<Instant>> = Vec::new();
    for _ in 0..KILLS {
        let under_way: Vec<_> = (0..UNDER_WAY).map(|_| begun(http, "/sse?n=6000&gap_ms=100")).collect();
        let mut tunnel = WebSocket::open(http, HOST, "/ws").expect("a WebSocket opens");
        assert_eq!(tunnel.echo("here").expect("an echo"), "here");
        let begin = Instant::now();
        proxy.kill();
        kills.push(begin..Instant::now());
        let waiting: Vec<Connection> = (0..QUEUED).map(|_| queued(http)).collect();
        for (mut connection, head) in under_way {
            let end = connection.body(&head, |_| true);
            assert!(end.is_err(), "an answer that was cut has an end");
        }
        assert!(tunnel.echo("there").is_err(), "a tunnel outlived its proxy");
        proxy.start_again();
        for mut connection in waiting {
            let answer = connection.response().expect("what waited is answered");
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    let all = clients.stop();
    drop(proxy);
    let mut lost = 0;
    for (times, outcome) in &all {
        let error = match outcome {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                continue;
            }
            Err(error) => error,
        };
        lost += 1;
        let met_a_kill = kills
            .iter()
            .any(|kill| times.start <= kill.end && times.end >= kill.start);
        let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
        assert!(met_a_kill && !is_refused, "{error} at {times:?}; kills: {kills:?}");
    }
    println!(
        "{} requests, {lost} of them in flight at one of {KILLS} kills",
        all.len()
    );
    assert!(
        all.len() > lost && lost <= KILLS * CLIENTS,
        "{lost} of {} lost",
        all.len()
    );
    node.stop();
}
