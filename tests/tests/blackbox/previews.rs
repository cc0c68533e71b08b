//! Previews as a user has them: beside what serves, under a label, and gone in the second in which their time is over.

use jiff::Timestamp;
use miren_api::resource::{Sandbox, SandboxState, Version, VersionStatus};
use miren_blackbox::http::{self, Connection};
use miren_blackbox::{AppFolder, Node, Output, wait_until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const HOST: &str = "shop.example.com";
const PATIENCE: Duration = Duration::from_secs(60);
/// First requests at once.
const CROWD: usize = 200;

fn preview(node: &Node, app: &AppFolder, arguments: &[&str]) -> Output {
    let folder = app.path().to_str().expect("a path in UTF-8");
    node.cli
        .call_json(&[&["deploy", "-d", folder, "--ephemeral"], arguments].concat())
}

fn versions(node: &Node, more: &[&str]) -> Vec<Version> {
    node.cli.json(&[&["app", "versions", "-a", "shop"], more].concat())
}

/// What was ever started for the preview of a version.
fn started(node: &Node, version: &str) -> Vec<Sandbox> {
    let mut sandboxes = node.sandboxes("shop");
    sandboxes.retain(|sandbox| sandbox.version.as_str() == version);
    sandboxes
}

#[test]
fn e1_e6_e8_e9_e12_e13_the_whole_life_of_a_preview() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(1).release("active");
    let active = node.deploy_at(&app, HOST);
    let alone = node.census("hello-rust");
    app.set_release("first");
    let first = node.preview(&app, &["feature/My_Branch", "--ttl", "1h"]);
    assert_eq!(first["label"], "feature-my-branch");
    let url = first["urls"][0].as_str().expect("it has a url");
    let port = node.http.port();
    assert_eq!(url, format!("http://feature-my-branch.{HOST}:{port}"));
    let label = format!("feature-my-branch.{HOST}");
    assert_eq!(node.get(&label, "/info").field("release"), "first");
    assert_eq!(node.get(HOST, "/info").field("release"), "active");
    assert_eq!(node.pools("shop").len(), 2);

    let both = versions(&node, &[]);
    let status = |id: &str| {
        both.iter()
            .find(|version| version.version.as_str() == id)
            .map(|version| version.status)
    };
    assert_eq!(status(&active.version), Some(VersionStatus::Active));
    assert_eq!(
        status(first["version"].as_str().unwrap()),
        Some(VersionStatus::Ephemeral)
    );
    let previews = versions(&node, &["--ephemeral"]);
    assert_eq!((both.len(), previews.len()), (2, 1));
    assert_eq!(previews[0].label.as_deref(), Some("feature-my-branch"));

    app.set_release("second");
    let second = node.preview(&app, &["feature-my-branch", "--ttl", "8s"]);
    assert_eq!(second["replaced"], first["version"]);
    assert_eq!(node.get(&label, "/info").field("release"), "second");
    let of_second = started(&node, second["version"].as_str().unwrap()).remove(0);
    ends_at_its_instant(&node, &label, &second);
    nothing_is_left(&node, &of_second, &alone);
    let now = node.deploy(&AppFolder::rust("shop").fixed(1).release("active"));
    assert_eq!(
        (now.reused, now.pool),
        (true, active.pool),
        "what serves was never touched"
    );
    node.stop();
}

/// Neither its records nor anything that was made for its sandbox.
#[track_caller]
fn nothing_is_left(node: &Node, sandbox: &Sandbox, alone: &BTreeMap<&str, usize>) {
    wait_until("nothing to be left of it", PATIENCE, || {
        let (pools, versions) = (node.pools("shop").len(), versions(node, &[]).len());
        let alive = node
            .sandboxes("shop")
            .into_iter()
            .filter(|sandbox| !sandbox.state.is_terminal())
            .count();
        match (pools, versions, alive) {
            (1, 1, 1) => Ok(()),
            seen => Err(format!("pools, versions, sandboxes: {seen:?}")),
        }
    });
    wait_until("its namespace, interface and cgroup to go", PATIENCE, || {
        match node.census("hello-rust") {
            census if census == *alone => Ok(()),
            census => Err(format!("{census:?}, not {alone:?}")),
        }
    });
    let address = SocketAddr::new(sandbox.ip.expect("it ran"), sandbox.port.expect("it listened"));
    let nobody = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    assert!(nobody.is_err(), "something has its address: {nobody:?}");
}

/// Asks all the time: the preview answers up to its last instant, and from then on nothing does.
#[track_caller]
fn ends_at_its_instant(node: &Node, label: &str, preview: &Value) {
    let expires: Timestamp = preview["expires_at"].as_str().unwrap().parse().expect("a time");
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        let before = Timestamp::now();
        let response = node.get(label, "/info");
        match response.status {
            200 => assert!(before < expires, "served after its end: {before} {expires}"),
            404 => {
                assert_eq!(response.code(), "no_such_ephemeral");
                assert!(Timestamp::now() >= expires, "refused before its end");
                return;
            }
            _ => panic!("{response:?}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Many requests that are all there before the first one is answered.
fn crowd(node: &Node, host: &str) -> Vec<http::Response> {
    let ask = |_| {
        let (address, host) = (node.http, host.to_owned());
        thread::spawn(move || {
            let mut connection = Connection::open(address).expect("a connection");
            connection
                .request("GET", &host, "/info", "Connection: close\r\n")
                .expect("a request is sent");
            connection.response().expect("an answer")
        })
    };
    let asking: Vec<_> = (0..CROWD).map(ask).collect();
    asking
        .into_iter()
        .map(|asking| asking.join().expect("a client ends"))
        .collect()
}

#[test]
fn e11_two_hundred_first_requests_start_one_sandbox_and_all_are_answered() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(1).release("active");
    node.deploy_at(&app, HOST);
    app.set_release("preview");
    let cold = node.preview(&app, &["pr1"]);
    let answers = crowd(&node, &format!("pr1.{HOST}"));
    let told: BTreeSet<(u16, String)> = answers
        .iter()
        .map(|answer| (answer.status, answer.field("release")))
        .collect();
    assert_eq!(told, BTreeSet::from([(200, "preview".to_owned())]));
    let sandboxes = started(&node, cold["version"].as_str().unwrap());
    assert_eq!((sandboxes.len(), node.pools("shop").len()), (1, 2), "{sandboxes:?}");
    node.stop();
}

#[test]
fn e11_all_of_two_hundred_are_told_that_it_does_not_start_and_the_next_deploy_works() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(1).release("active");
    node.deploy_at(&app, HOST);
    // Long enough for all of them to be there before the first boot has failed.
    let broken = AppFolder::empty("shop")
        .command("sleep 1000")
        .and("port_timeout = \"10s\"")
        .fixed(1);
    let made = node.preview(&broken, &["pr1"]);
    let host = format!("pr1.{HOST}");
    for answer in crowd(&node, &host) {
        assert_eq!((answer.status, answer.code()), (503, "boot_failed"), "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    let tried = started(&node, made["version"].as_str().unwrap());
    assert!(
        tried.len() < CROWD / 10,
        "nobody had a boot of his own: {} were tried",
        tried.len()
    );
    app.set_release("fixed");
    node.preview(&app, &["pr1"]);
    assert_eq!(node.get(&host, "/info").field("release"), "fixed");
    node.stop();
}

#[test]
fn e7_the_end_of_a_clone_leaves_its_source_as_it_was() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(1).release("active");
    let active = node.deploy_at(&app, HOST);
    let set = node.cli.call(&["env", "set", "-a", "shop", "COLOR=red"]);
    assert_eq!(set.code, 0, "{set}");
    let version = versions(&node, &[])
        .into_iter()
        .find(|version| version.status == VersionStatus::Active)
        .expect("it serves")
        .version;
    let facts = || -> [Value; 3] {
        let mut own: Value = node.cli.json(&["app", "versions", "-a", "shop"]);
        own.as_array_mut()
            .unwrap()
            .retain(|one| one["version"] == version.as_str());
        let pools: Value = node.cli.json(&["pool", "list"]);
        let pools = pools.as_array().unwrap().iter();
        let of_version = pools
            .filter(|pool| pool["versions"][0] == version.as_str())
            .cloned()
            .collect();
        [own, of_version, node.cli.json(&["env", "list", "-a", "shop"])]
    };
    let before = facts();
    let clone = node.preview(&app, &["x", "--version", version.as_str(), "--ttl", "5s"]);
    let host = format!("x.{HOST}");
    assert_eq!(
        node.get(&host, "/info").field("version"),
        clone["version"].as_str().unwrap()
    );
    ends_at_its_instant(&node, &host, &clone);
    wait_until("the clone to go", PATIENCE, || {
        match versions(&node, &["--ephemeral"]).len() + node.pools("shop").len() {
            1 => Ok(()),
            count => Err(format!("{count} previews and pools")),
        }
    });
    assert_eq!(facts(), before);
    let kept = node.running("shop");
    assert_eq!((kept.len(), kept[0].version.as_str()), (1, version.as_str()));
    assert_ne!(active.version, version.as_str());
    node.stop();
}

#[test]
fn e5_what_is_no_label_and_no_life_is_told_before_anything_is_sent() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(1);
    let long = "a".repeat(64);
    for label in [
        "",
        &long,
        "-pr1",
        "a.b",
        "größe",
        "*",
        "'; DROP TABLE apps; --",
        "$(reboot)",
    ] {
        let folder = app.path().to_str().unwrap();
        let output = node
            .cli
            .call_json(&["deploy", "-d", folder, &format!("--ephemeral={label}")]);
        assert_ne!(output.code, 0, "{output}");
        assert!(
            !output.parsed::<Value>()["error"]["message"]
                .as_str()
                .unwrap()
                .is_empty(),
            "{output}"
        );
    }
    for ttl in ["0", "-1h", "1ns", "10 years", "soon"] {
        let output = preview(&node, &app, &["pr1", &format!("--ttl={ttl}")]);
        assert_ne!(output.code, 0, "{output}");
        let message = output.parsed::<Value>()["error"]["message"].to_string();
        assert!(message.contains(ttl), "{output}");
    }
    let apps: Vec<Value> = node.cli.json(&["app", "list"]);
    assert_eq!(apps.len(), 0, "{apps:?}");
    node.stop();
}

#[test]
fn e9_previews_live_on_through_kill_9_of_control_and_end_all_the_same() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(1).release("active");
    node.deploy_at(&app, HOST);
    app.set_release("preview");
    let made = node.preview(&app, &["pr1", "--ttl", "12s"]);
    let host = format!("pr1.{HOST}");
    assert_eq!(node.get(&host, "/info").field("release"), "preview");
    let running = node.running("shop").len();
    let control = node.control_pid().expect("control runs");
    miren_blackbox::process::signal(control, nix::sys::signal::Signal::SIGKILL);
    assert_eq!(
        node.get(&host, "/info").field("release"),
        "preview",
        "while control is away"
    );
    wait_until("another control", PATIENCE, || match node.control_pid() {
        Some(pid) if pid != control => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    wait_until("the sandboxes to be the same", PATIENCE, || {
        match node.cli.call_json(&["sandbox", "list"]).code {
            0 if node.running("shop").len() == running => Ok(()),
            code => Err(code.to_string()),
        }
    });
    ends_at_its_instant(&node, &host, &made);
    wait_until("only the app to be left", PATIENCE, || match node.sandboxes("shop") {
        all if all
            .iter()
            .filter(|sandbox| sandbox.state == SandboxState::Running)
            .count()
            == 1 =>
        {
            Ok(())
        }
        all => Err(format!("{all:?}")),
    });
    node.stop();
}
