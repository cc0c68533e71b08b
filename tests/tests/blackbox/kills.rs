//! Sandboxes killed under load: nobody notices, and nothing is left of the dead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use miren_api::resource::{FastPathStatus, Sandbox};
use miren_bench::load::{Load, Options};
use miren_blackbox::{AppFolder, Follow, Node, process, request_lines, wait_until};
use nix::sys::signal::Signal;

const KILLS: usize = 100;
const SANDBOXES: usize = 2;
/// Requests a second.
const RATE: f64 = 500.0;
const HOST: &str = "kill.example.com";

fn load(node: &Node) -> Load {
    let mut options = Options::get(&format!("http://{}/info", node.http), RATE).expect("the address of a node is one");
    options.host = Some(HOST.to_owned());
    Load::start(options).expect("a load starts")
}

#[test]
fn k1_r4_hundred_kills_under_load() {
    let node = Node::start();
    let app = AppFolder::rust("victim").fixed(2);
    node.deploy_at(&app, HOST);
    let mut watch = Follow::transitions(&node.cli);
    let load = load(&node);
    let mut seen = BTreeSet::new();
    let mut deaths = BTreeMap::new();
    for round in 0..KILLS {
        let running = two_alive(&node, &app.name, &deaths);
        seen.extend(running.iter().map(|sandbox| sandbox.id.to_string()));
        // Any of the two may be hit, the one just started or the one that has served a while.
        let victim = &running[round % 2];
        process::signal(victim.pid.expect("a running sandbox has a process"), Signal::SIGKILL);
        let death = watch.expect(&format!("the death of {}", victim.id), |change| {
            Some(change.slot) == victim.slot && Some(change.generation) == victim.generation && change.state == "DEAD"
        });
        deaths.insert(victim.id.to_string(), death.at_ns);
    }
    seen.extend(
        two_alive(&node, &app.name, &deaths)
            .iter()
            .map(|sandbox| sandbox.id.to_string()),
    );
    let report = load.stop().expect("a load ends");
    assert_eq!(report.failed, 0, "{report}");
    assert_eq!(deaths.len(), KILLS, "a sandbox died twice");
    assert!(
        seen.len() >= KILLS + 2,
        "{} sandboxes for {KILLS} deaths in a pool of two",
        seen.len()
    );

    nothing_was_sent_to_the_dead(&node, &app.name, &deaths);
    if node.fast_path == "kernel" {
        let status: FastPathStatus = node.cli.json(&["fastpath", "status"]);
        assert!(status.transitions.by_kernel >= KILLS as u64, "{status:?}");
    }
    the_dead_left_nothing(&node);
    println!("{report}");
    // It follows this node, and would be found when nothing may be left.
    drop(watch);
    node.stop();
}

/// Waits for the replacement. The list of sandboxes may follow the kernel's word by a moment: the dead do not count.
fn two_alive(node: &Node, app: &str, deaths: &BTreeMap<String, u64>) -> Vec<Sandbox> {
    wait_until("two sandboxes after a death", Duration::from_secs(30), || {
        let mut running = node.running(app);
        running.retain(|sandbox| !deaths.contains_key(sandbox.id.as_str()));
        if running.len() == SANDBOXES {
            Ok(running)
        } else {
            Err(format!("{running:?}"))
        }
    })
}

/// The apps' own word: no sandbox logged a request after the time at which its slot's word had changed.
fn nothing_was_sent_to_the_dead(node: &Node, app: &str, deaths: &BTreeMap<String, u64>) {
    let lines = request_lines(&node.cli, app);
    assert!(!lines.is_empty(), "the apps logged no request");
    let late: Vec<_> = lines
        .iter()
        .filter(|line| deaths.get(&line.sandbox).is_some_and(|death| line.at_ns > *death))
        .collect();
    assert!(late.is_empty(), "requests reached dead sandboxes: {late:#?}");
}

/// While the node runs on, what belongs to a sandbox exists once per living sandbox and no more.
fn the_dead_left_nothing(node: &Node) {
    wait_until("the clean-up after the dead", Duration::from_secs(30), || {
        let counted = node.census("hello-rust");
        assert!(
            counted["app processes"] >= SANDBOXES,
            "the census finds none of what runs: {counted:?}"
        );
        let wrong: Vec<_> = counted.iter().filter(|(_, count)| **count > SANDBOXES).collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("for {SANDBOXES} sandboxes there are {wrong:?}"))
        }
    });
}
