//! How long what is under way to a retired sandbox may go on: told to its proxies as what is left, and never more than the node gives.

use crate::stage::{Stage, acquire, pass};
use miren_api::deploy::DeployRequest;
use miren_api::lease::{HeldLease, LeaseKey, RenewRequest, RenewResponse};
use miren_api::resource::SandboxState;
use miren_control::app::Event;
use miren_control::lease::{About, Connected};
use miren_sandbox::Budgets;
use std::time::Duration;

const APP: &str = "name = \"shop\"\n[services.web]\ncommand = \"./one\"\ndrain_timeout = \"10h\"\ntunnel_timeout = \"20h\"\n\
                   [services.web.concurrency]\nmode = \"fixed\"\nnum_instances = 1\n";
const HOUR: u64 = 3_600_000;

/// A sandbox that was replaced while a proxy had a request there.
async fn retired() -> (Stage, LeaseKey, Connected) {
    let stage = Stage::start().await;
    tokio::spawn(std::sync::Arc::clone(&stage.control).background());
    let first = DeployRequest {
        artifact: Some(stage.artifact(APP)),
        ..DeployRequest::default()
    };
    let version = stage.deployed(first).await;
    let follows = follow(&stage);
    let held = acquire(&stage.control, "p1", &version).await.unwrap();
    let key = held.leases[0].key;
    assert_eq!(renew(&stage, key).lost, []);
    stage.deploy("./two").await;
    (stage, key, follows)
}

/// The proxy is there, and serves whatever is published.
fn follow(stage: &Stage) -> Connected {
    let desk = &stage.control.world.desk;
    desk.acknowledge("p1", u64::MAX);
    desk.connect("p1").unwrap()
}

fn renew(stage: &Stage, key: LeaseKey) -> RenewResponse {
    let held = HeldLease {
        node: key.node,
        slot: key.slot,
        generation: key.generation,
        in_flight: 1,
        capacity: 10,
        tunnels: 0,
    };
    let request = RenewRequest {
        proxy: "p1".into(),
        held: vec![held],
        demand: Vec::new(),
    };
    stage.control.leasing().renew(&request)
}

/// What its proxy is told to be left, in milliseconds.
fn left(stage: &Stage, key: LeaseKey) -> Option<(u64, u64)> {
    let answer = renew(stage, key);
    assert_eq!(answer.lost, [key], "{answer:?}");
    let closing = answer.closing.iter().find(|closing| closing.key() == key)?;
    Some((closing.requests_ms, closing.tunnels_ms))
}

/// Lets so many seconds pass in which the proxy renews what it has.
async fn pass_renewed(stage: &Stage, key: LeaseKey, seconds: u64) {
    for _ in 0..seconds {
        renew(stage, key);
        pass(1).await;
    }
}

fn draining(stage: &Stage) -> usize {
    stage.machine.of_app("shop", SandboxState::Draining).len()
}

#[tokio::test(start_paused = true)]
async fn a_proxy_is_told_how_long_what_it_has_at_a_retired_sandbox_may_go_on() {
    let (stage, key, _follows) = retired().await;
    let (requests, tunnels) = left(&stage, key).expect("it is told");
    assert!((9 * HOUR..=10 * HOUR).contains(&requests), "{requests}");
    assert!((19 * HOUR..=20 * HOUR).contains(&tunnels), "{tunnels}");
    pass_renewed(&stage, key, 100).await;
    assert_eq!(
        left(&stage, key),
        Some((requests - 100_000, tunnels - 100_000)),
        "what is left, by this clock"
    );
    assert_eq!(draining(&stage), 1, "it is waited for");
    let desk = &stage.control.world.desk;
    desk.release("p1", &[key]);
    pass(1).await;
    assert_eq!(draining(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn d4_a_node_that_drains_gives_no_more_to_what_drains_already() {
    let (stage, key, _follows) = retired().await;
    pass_renewed(&stage, key, 60).await;
    assert_eq!(draining(&stage), 1);
    let budgets = Budgets {
        requests: Duration::from_secs(30),
        tunnels: Duration::from_secs(5),
        grace: Duration::from_secs(1),
    };
    let mut tells = stage.control.world.desk.tells();
    stage.control.apps.tell_all(|| Event::NodeDrains(budgets));
    let told = async { while tells.recv().await.unwrap().about != About::Closing(key) {} };
    let in_time = tokio::time::timeout(Duration::from_secs(1), told).await;
    in_time.expect("it is told at once");
    assert_eq!(left(&stage, key), Some((30_000, 5_000)));
    pass_renewed(&stage, key, 60).await;
    assert_eq!(
        draining(&stage),
        0,
        "it has ended although its proxy has a request there"
    );
}

/// Deadlines are moments: a control that takes over gives what is left, however often that happens.
#[tokio::test(start_paused = true)]
async fn l4_i7_a_control_that_takes_over_goes_on_with_the_drain_and_its_deadlines() {
    let (mut stage, key, mut follows) = retired().await;
    let (requests, tunnels) = left(&stage, key).expect("it is told");
    pass_renewed(&stage, key, 60).await;
    for _ in 0..3 {
        drop(follows);
        stage = stage.killed().await;
        follows = follow(&stage);
        let after = left(&stage, key).expect("it is told");
        let (most, least) = ((requests - 60_000, tunnels - 60_000), requests - HOUR);
        assert!(
            after.0 <= most.0 && after.1 <= most.1,
            "{after:?}, and {most:?} was left"
        );
        assert!(after.0 >= least, "nothing is cut: {after:?}");
        assert_eq!(draining(&stage), 1);
    }
}

/// An hour either way while it drains is no hour more or less of it, in the next daemon neither.
#[tokio::test(start_paused = true)]
async fn l4_f8_deadlines_outlive_a_wall_clock_that_is_set() {
    for by in [-1, 1] {
        let (stage, key, follows) = retired().await;
        pass_renewed(&stage, key, 60).await;
        let (requests, tunnels) = left(&stage, key).expect("it is told");
        let clock = stage.control.world.clock.clone();
        clock.set_by(jiff::SignedDuration::from_hours(by));
        clock.look();
        pass_renewed(&stage, key, 1).await;
        assert_eq!(left(&stage, key), Some((requests - 1_000, tunnels - 1_000)));
        drop(follows);
        let stage = stage.killed().await;
        let _follows = follow(&stage);
        let after = left(&stage, key).expect("it is told");
        let near = |left: u64, before: u64| before - left < HOUR / 2;
        assert!(
            near(after.0, requests) && near(after.1, tunnels),
            "{by}: {after:?} of {requests} and {tunnels}"
        );
    }
}
