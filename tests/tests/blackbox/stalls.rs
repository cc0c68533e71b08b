//! A sandbox that is frozen: its requests go elsewhere, it gets no others, and it is replaced.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use miren_api::resource::{Sandbox, SandboxState};
use miren_bench::load::{Load, Options};
use miren_blackbox::http::{self, Response};
use miren_blackbox::{AppFolder, Node, process, request_lines, wait_until};
use nix::sys::signal::Signal;

const HOST: &str = "frozen.example.com";
/// Requests a second. Few, so that none waits for another where the machine has other things to do: a service whose answers
/// take more than a second gets no help.
const RATE: f64 = 200.0;
/// All of them may wait for a frozen sandbox at once. Each answer earns a tenth of a move to another one, so what is paced below
/// can pay for more than these, however busy the machine is.
const CONNECTIONS: usize = 32;
/// Answers before anything is frozen.
const PACED: u64 = 500;
/// A client of a frozen sandbox that gets no help, as where a busy machine makes the service a slow one, waits until this has ended.
const DRAIN: &str = "drain_timeout = \"5s\"";

fn gets(node: &Node, rate: f64) -> Options {
    let mut options = Options::get(&format!("http://{}/info", node.http), rate).expect("the address of a node is one");
    options.host = Some(HOST.to_owned());
    options.connections = CONNECTIONS;
    options
}

/// A load whose pace the proxy knows.
#[track_caller]
fn paced_load(options: Options) -> Load {
    let load = Load::start(options).expect("a load starts");
    wait_until(
        "the service's pace to be known",
        Duration::from_secs(60),
        || match load.progress() {
            (answered, _) if answered >= PACED => Ok(()),
            progress => Err(format!("{progress:?}")),
        },
    );
    load
}

/// What runs once another sandbox has taken the place of this one.
#[track_caller]
fn replaced(node: &Node, frozen: &Sandbox) -> Vec<Sandbox> {
    wait_until("its replacement", Duration::from_secs(60), || {
        let running = node.running("frozen");
        let replaced = running.len() == 2 && running.iter().all(|sandbox| sandbox.id != frozen.id);
        if replaced {
            Ok(running)
        } else {
            Err(format!("{running:?}"))
        }
    })
}

#[test]
fn r4_a_frozen_sandbox_fails_no_request_and_is_replaced() {
    let node = Node::start();
    let app = AppFolder::rust("frozen").and(DRAIN).fixed(2);
    node.deploy_at(&app, HOST);
    let before = node.wait_running("frozen", 2);
    let load = paced_load(Options {
        timeout: PATIENT,
        ..gets(&node, RATE)
    });

    let frozen = &before[0];
    process::signal(frozen.pid.expect("a running sandbox has a process"), Signal::SIGSTOP);
    let after = replaced(&node, frozen);
    assert!(
        after.iter().any(|sandbox| sandbox.id == before[1].id),
        "the healthy one was replaced too"
    );
    let report = load.stop().expect("a load ends");
    println!("{report}");
    assert_eq!(report.failed, 0, "{report}");
    let counted = node.proxy_metrics();
    let helped = counted
        .lines()
        .find_map(|line| line.strip_prefix("miren_proxy_stalled_requests_total "));
    assert!(helped.is_some_and(|count| count != "0"), "nobody was helped: {counted}");
    node.stop();
}

/// Requests that may not be repeated, under way when the sandbox freezes.
const POSTS: usize = 8;
/// For how long each would be held, milliseconds: longer than a frozen sandbox stays, as their answers are the service's
/// pace, and one of seconds would keep the GETs from being hurried.
const HOLD: u32 = 22_000;

/// Far longer than health checks, drain and end of a sandbox take together.
const PATIENT: Duration = Duration::from_secs(60);

/// A POST with a body on a connection of its own.
fn post(node: &Node) -> JoinHandle<Response> {
    let (address, body) = (node.http, "no second time");
    let head = format!(
        "POST /sleep?ms={HOLD} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n",
        body.len()
    );
    let request = format!("{head}Connection: close\r\n\r\n{body}");
    thread::spawn(move || http::raw(address, request.as_bytes()).expect("it is answered, this way or another"))
}

/// How many POSTs have reached each of these sandboxes.
fn arrived(node: &Node, sandboxes: &[Sandbox]) -> Vec<usize> {
    let mut lines = request_lines(&node.cli, "frozen");
    lines.retain(|line| line.request.starts_with("POST "));
    let of = |sandbox: &Sandbox| lines.iter().filter(|line| line.sandbox == sandbox.id.as_str()).count();
    sandboxes.iter().map(of).collect()
}

#[test]
fn r4_what_may_not_be_repeated_ends_with_its_frozen_sandbox() {
    let node = Node::start();
    let app = AppFolder::rust("frozen");
    let app = app.and("drain_timeout = \"2s\"\nshutdown_timeout = \"1s\"").fixed(2);
    node.deploy_at(&app, HOST);
    let before = node.wait_running("frozen", 2);
    // However slow the machine: a GET that is not hurried goes elsewhere when its sandbox has been ended.
    let load = paced_load(Options {
        timeout: PATIENT,
        ..gets(&node, RATE / 2.0)
    });
    let posts: Vec<_> = (0..POSTS).map(|_| post(&node)).collect();
    let counts = wait_until("every POST to be under way", Duration::from_secs(60), || {
        let counts = arrived(&node, &before);
        let all = counts.iter().sum::<usize>() == POSTS;
        if all { Ok(counts) } else { Err(format!("{counts:?}")) }
    });
    let most = usize::from(counts[1] > counts[0]);
    let frozen = &before[most];
    process::signal(frozen.pid.expect("a running sandbox has a process"), Signal::SIGSTOP);

    // Health checks find it, its drain has a limit, and so has its end: then nothing waits for it any more.
    replaced(&node, frozen);
    wait_until("the frozen one to be ended", Duration::from_secs(30), || {
        let sandboxes = node.sandboxes("frozen");
        let found = sandboxes.into_iter().find(|sandbox| sandbox.id == frozen.id);
        let ended = |sandbox: &Sandbox| sandbox.state == SandboxState::Stopped;
        if found.as_ref().is_some_and(ended) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });
    wait_until("every POST to have its answer", Duration::from_secs(30), || {
        let open = posts.iter().filter(|post| !post.is_finished()).count();
        if open == 0 {
            Ok(())
        } else {
            Err(format!("{open} have none"))
        }
    });
    let answers: Vec<Response> = posts
        .into_iter()
        .map(|post| post.join().expect("it was answered"))
        .collect();
    let told = |status: u16, code: &str| {
        let same = |answer: &&Response| (answer.status, answer.code()) == (status, code);
        answers.iter().filter(same).count()
    };
    let expected = (counts[most], counts[1 - most]);
    assert_eq!((told(504, "drain_deadline"), told(200, "")), expected, "{answers:#?}");
    // Nothing was sent a second time.
    assert_eq!(arrived(&node, &before), counts);
    let report = load.stop().expect("a load ends");
    println!("{counts:?} POSTs; GETs: {report}");
    assert_eq!(report.failed, 0, "{report}");
    node.stop();
}
