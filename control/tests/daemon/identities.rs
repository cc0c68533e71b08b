//! Which history routing is of: the same over restarts of control, another one where its store was put back.

use crate::followers::Follower;
use crate::node::{Node, Place, web};
use futures_util::{FutureExt, StreamExt};
use miren_api::Identity;
use miren_api::lease::{HeldLease, RenewRequest, RenewResponse};
use miren_api::routing::{ProxyAck, RoutingDelta, RoutingSnapshot};
use std::fs;
use std::path::Path;
use std::sync::Arc;

async fn routed(node: &Node) -> RoutingSnapshot {
    Follower::open(node, "looks").await.next("snapshot").await
}

/// The files of the store. Whoever still has those open that are replaced has them for himself.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_file(to.join("control.db-shm"));
    for file in ["control.db", "control.db-wal"] {
        let _ = fs::remove_file(to.join(file));
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

async fn acknowledge(node: &Node, lineage: &str, generation: u64) {
    let ack = ProxyAck {
        proxy: "p1".into(),
        generation,
        lineage: lineage.into(),
    };
    let _: ProxyAck = node.client.post("/v1/proxy/ack", &ack).await.unwrap();
}

#[tokio::test]
async fn f10_a_restart_of_control_goes_on_in_the_same_history() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    let before = routed(&node).await;
    assert!(!before.lineage.is_empty());
    let node = Node::on(node.kill()).await;
    let mut follower = Follower::open(&node, "p1").await;
    let after: RoutingSnapshot = follower.next("snapshot").await;
    assert_eq!(after, before, "nothing has changed");
    node.route("more.test", "shop").await;
    let delta: RoutingDelta = follower.next("delta").await;
    assert_eq!((&delta.from_lineage, delta.from), (&before.lineage, before.generation));
    assert_ne!(
        delta.lineage, before.lineage,
        "each daemon draws its own for what it changes"
    );
    node.route("most.test", "shop").await;
    let next: RoutingDelta = follower.next("delta").await;
    assert_eq!((&next.from_lineage, &next.lineage), (&delta.lineage, &delta.lineage));
}

/// A node whose store is that of a copy, and what was routed when it was made, and last before it was put back.
async fn put_back() -> (Node, RoutingSnapshot, RoutingSnapshot) {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    let copied = routed(&node).await;
    let aside = tempfile::tempdir().unwrap();
    let place: Arc<Place> = node.kill();
    copy(place.folder.path(), aside.path());
    let node = Node::on(place).await;
    for host in ["a.test", "b.test"] {
        node.route(host, "shop").await;
    }
    let lost = routed(&node).await;
    assert_eq!(lost.generation, copied.generation + 2);
    let place = node.kill();
    copy(aside.path(), place.folder.path());
    (Node::on(place).await, copied, lost)
}

#[tokio::test]
async fn f10_a_store_that_was_put_back_uses_numbers_again_and_never_in_the_same_history() {
    let (node, copied, lost) = put_back().await;
    assert_eq!(routed(&node).await, copied, "as it was");
    for host in ["c.test", "d.test", "e.test"] {
        node.route(host, "shop").await;
        let now = routed(&node).await;
        assert_ne!((&now.lineage, now.generation), (&lost.lineage, lost.generation));
        assert_ne!(now.lineage, lost.lineage);
    }
    assert!(routed(&node).await.generation > lost.generation);
}

#[tokio::test]
async fn f10_what_a_proxy_serves_of_a_history_that_is_gone_does_not_end_the_wait_for_it() {
    let (node, copied, lost) = put_back().await;
    let mut follower = Follower::open(&node, "p1").await;
    let _: RoutingSnapshot = follower.next("snapshot").await;
    node.route("c.test", "shop").await;
    let told: RoutingDelta = follower.next("delta").await;
    let generation = told.generation;
    let desk = &node.control.world.desk;
    let mut waits = Box::pin(desk.acknowledged(generation));
    acknowledge(&node, &lost.lineage, lost.generation).await;
    assert_eq!(
        (&mut waits).now_or_never(),
        None,
        "it serves another generation {}",
        lost.generation
    );
    acknowledge(&node, &copied.lineage, copied.generation).await;
    assert_eq!((&mut waits).now_or_never(), None, "an earlier one");
    acknowledge(&node, &told.lineage, generation).await;
    assert_eq!((&mut waits).now_or_never(), Some(()));
}

#[tokio::test]
async fn f10_stream_and_answers_say_whose_they_are() {
    let node = Node::start().await;
    let version = node.succeed("shop", &web("./one")).await.version.unwrap();
    let mut events = Box::pin(node.client.events("/v1/proxy/stream?proxy=p1", None).await.unwrap());
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(first.name, "identity", "before anything that depends on it");
    let told: Identity = serde_json::from_str(&first.data).unwrap();
    let expected = Identity {
        slot_table: "simulated".into(),
        lineage: routed(&node).await.lineage,
        epoch: 1,
    };
    assert_eq!(told, expected);
    let held = crate::stage::acquire(&node.control, "p1", &version).await.unwrap();
    assert_eq!(held.identity.as_ref(), Some(&expected));
    let key = held.leases[0].key;
    let renewal = RenewRequest {
        proxy: "p1".into(),
        held: vec![HeldLease {
            node: key.node,
            slot: key.slot,
            generation: key.generation,
            in_flight: 0,
            capacity: 1,
            tunnels: 0,
        }],
        demand: Vec::new(),
    };
    let renewed: RenewResponse = node.client.post("/v1/leases/renew", &renewal).await.unwrap();
    assert_eq!(renewed.identity, Some(expected));
    drop(events);
    let node = Node::on(node.kill()).await;
    assert_eq!(node.control.leasing().identity().epoch, 2);
}
