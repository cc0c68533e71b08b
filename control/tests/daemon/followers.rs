//! What proxies are told about routing: all of it once, then what changed, however slowly they read.

use crate::node::{Node, web};
use futures_util::{Stream, StreamExt};
use miren_api::ClientError;
use miren_api::client::Event;
use miren_api::id::AppName;
use miren_api::routing::{RoutingDelta, RoutingSnapshot};
use serde::de::DeserializeOwned;
use std::pin::Pin;

/// The stream of one proxy.
pub struct Follower(Pin<Box<dyn Stream<Item = Result<Event, ClientError>>>>);

impl Follower {
    pub async fn open(node: &Node, proxy: &str) -> Self {
        let path = format!("/v1/proxy/stream?proxy={proxy}");
        Self(Box::pin(node.client.events(&path, None).await.unwrap()))
    }

    /// The next event about routing, which has to be called `name`.
    pub async fn next<T: DeserializeOwned>(&mut self, name: &str) -> T {
        loop {
            let event = self.0.next().await.unwrap().unwrap();
            if ["snapshot", "delta"].contains(&event.name.as_str()) {
                assert_eq!(event.name, name, "{event:?}");
                return serde_json::from_str(&event.data).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn r5_a_follower_gets_everything_once_and_then_only_what_changed() {
    let node = Node::start().await;
    for app in ["shop", "blog"] {
        node.succeed(app, &web("./one")).await;
        node.route(&format!("{app}.test"), app).await;
    }
    let mut follower = Follower::open(&node, "p1").await;
    let first: RoutingSnapshot = follower.next("snapshot").await;
    assert_eq!((first.routes.len(), first.apps.len()), (2, 2));

    node.route("more.test", "shop").await;
    let delta: RoutingDelta = follower.next("delta").await;
    assert_eq!((delta.from, delta.generation), (first.generation, first.generation + 1));
    assert_eq!((delta.routes.len(), delta.routes[0].host.as_str()), (1, "more.test"));
    assert!(delta.apps.is_empty() && delta.removed_routes.is_empty());

    let deployed = node.succeed("blog", &web("./two")).await;
    let delta: RoutingDelta = follower.next("delta").await;
    assert_eq!(delta.from, first.generation + 1);
    assert_eq!(delta.apps.keys().collect::<Vec<_>>(), [&AppName::from_text("blog")]);
    assert_eq!(delta.apps.values().next().unwrap().active, deployed.version);
    assert!(delta.routes.is_empty());
}

#[tokio::test]
async fn r5_a_follower_that_reads_late_gets_all_changes_at_once() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    let mut follower = Follower::open(&node, "p1").await;
    let first: RoutingSnapshot = follower.next("snapshot").await;
    // More than any buffer between the two holds.
    let hosts = 2_000;
    for number in 0..hosts {
        let label = "x".repeat(60);
        node.route(&format!("host-{number}.{label}.{label}.{label}.test"), "shop")
            .await;
    }
    let (mut at, mut seen, mut deltas) = (first.generation, 0, 0);
    while seen < hosts {
        let delta: RoutingDelta = follower.next("delta").await;
        assert_eq!(delta.from, at, "nothing is left out");
        at = delta.generation;
        seen += delta.routes.len();
        deltas += 1;
    }
    assert_eq!(at, first.generation + hosts as u64);
    assert!(deltas < hosts, "each change was queued for a proxy that does not read");
}
