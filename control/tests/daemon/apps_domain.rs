//! The hosts that apps have by their name, over the real API: which there are, what proxies are told, and what can be done to them.

use crate::node::{Node, Place, refusal, web};
use crate::stage::{Stage, pass};
use miren_api::ErrorCode;
use miren_api::ephemeral::{Ephemeral, EphemeralDeployed, EphemeralRequest};
use miren_api::id::AppName;
use miren_api::resource::{App, Route};
use miren_api::routing::RoutingSnapshot;
use miren_control::policy::{Policy, Urls};
use serde_json::json;
use std::sync::Arc;

fn below(domain: Option<&str>) -> Policy {
    Policy {
        urls: Urls {
            cluster_host: Some("apps.test".into()),
            apps_domain: domain.map(str::to_owned),
            ..Urls::default()
        },
        ..Policy::default()
    }
}

async fn node() -> Node {
    Node::with(Arc::new(Place::new()), below(Some("apps.test"))).await
}

/// What proxies are told of a host: the app it leads to.
fn leads(snapshot: &RoutingSnapshot, host: &str) -> Option<String> {
    let rule = snapshot.routes.iter().find(|rule| rule.host == host)?;
    Some(rule.to.app.to_string())
}

async fn hosts(node: &Node) -> Vec<(String, bool)> {
    let routes: Vec<Route> = node.client.list("/v1/routes").await.unwrap();
    routes.into_iter().map(|route| (route.host, route.derived)).collect()
}

fn own(pairs: &[(&str, bool)]) -> Vec<(String, bool)> {
    pairs
        .iter()
        .map(|(host, derived)| ((*host).to_owned(), *derived))
        .collect()
}

#[tokio::test]
async fn g15_an_app_is_at_its_name_with_its_first_deploy_and_no_longer_than_it_is_there() {
    let node = node().await;
    node.machine().fail("./bad", "no");
    node.deploy("shop", &web("./bad")).await;
    assert_eq!(hosts(&node).await, [], "nothing serves");
    let deploy = node.succeed("shop", &web("./one")).await;
    assert_eq!(deploy.urls, ["http://shop.apps.test", "http://apps.test"]);
    let blog = node.succeed("blog", &web("./blog")).await;
    assert_eq!(blog.urls, ["http://blog.apps.test"]);
    let there = [("(default)", false), ("blog.apps.test", true), ("shop.apps.test", true)];
    assert_eq!(hosts(&node).await, own(&there));
    let routed = node.control.world.routing.now();
    assert_eq!(leads(&routed.snapshot(), "blog.apps.test").as_deref(), Some("blog"));
    let app: App = node.client.get("/v1/apps/blog").await.unwrap();
    assert_eq!((app.routes, app.urls), (vec!["blog.apps.test".to_owned()], blog.urls));

    let node = Node::with(node.kill(), below(Some("apps.test"))).await;
    assert_eq!(hosts(&node).await, own(&there), "after a restart too");
    assert_eq!(node.control.world.routing.now().generation, routed.generation);
    let _app: App = node.client.delete("/v1/apps/blog").await.unwrap();
    assert_eq!(
        hosts(&node).await,
        own(&there[..1].iter().chain(&there[2..]).copied().collect::<Vec<_>>())
    );
}

#[tokio::test]
async fn g15_a_worker_is_at_no_host() {
    let node = node().await;
    let worker = node
        .succeed("worker", "[services.worker]\ncommand = \"./work\"\n")
        .await;
    assert_eq!(
        worker.urls,
        ["http://apps.test"],
        "the first app is the default, whatever it runs"
    );
    assert_eq!(hosts(&node).await, own(&[("(default)", false)]));
    let web = node.succeed("worker", &web("./one")).await;
    assert_eq!(web.urls[0], "http://worker.apps.test");
}

#[tokio::test]
async fn g15_a_route_that_is_set_wins_and_what_it_took_comes_back_without_it() {
    let node = node().await;
    node.succeed("shop", &web("./one")).await;
    node.succeed("blog", &web("./blog")).await;
    node.route("Blog.Apps.test.", "shop").await;
    let there = [
        ("(default)", false),
        ("blog.apps.test", false),
        ("shop.apps.test", true),
    ];
    assert_eq!(hosts(&node).await, own(&there));
    let snapshot = node.control.world.routing.now().snapshot();
    assert_eq!(leads(&snapshot, "blog.apps.test").as_deref(), Some("shop"));
    let blog: App = node.client.get("/v1/apps/blog").await.unwrap();
    assert_eq!((blog.routes, blog.urls), (vec![], vec![]), "it is found nowhere");
    let removed: Route = node.client.delete("/v1/routes/blog.apps.test").await.unwrap();
    assert!(!removed.derived);
    let shown: Route = node.client.get("/v1/routes/BLOG.apps.test").await.unwrap();
    assert_eq!((shown.derived, shown.app.as_str()), (true, "blog"));

    node.route("pr1.shop.apps.test", "blog").await;
    let routed = node.control.world.routing.now();
    assert_eq!(leads(&routed.snapshot(), "pr1.shop.apps.test").as_deref(), Some("blog"));
    let _app: App = node.client.delete("/v1/apps/blog").await.unwrap();
    assert_eq!(
        hosts(&node).await,
        own(&[("(default)", false), ("shop.apps.test", true)])
    );
}

#[tokio::test]
async fn g15_a_host_by_name_cannot_be_removed_or_settled_and_it_is_said_why() {
    let node = node().await;
    node.succeed("shop", &web("./one")).await;
    let path = "/v1/routes/shop.apps.test";
    let removed = refusal(node.client.delete::<Route>(path).await);
    let down = refusal(
        node.client
            .put::<Route>(&format!("{path}/maintenance"), &json!({}))
            .await,
    );
    let limit = json!({"timeout": "5s"});
    let limited = refusal(node.client.put::<Route>(&format!("{path}/timeout"), &limit).await);
    for refused in [removed, down, limited] {
        assert_eq!(refused.code, ErrorCode::Conflict, "{refused}");
        assert!(refused.message.contains("ingress.apps_domain"), "{refused}");
        assert!(
            refused.remedy.contains("miren route set shop.apps.test shop"),
            "{refused}"
        );
    }
    node.route("shop.apps.test", "shop").await;
    let down: Route = node
        .client
        .put(&format!("{path}/maintenance"), &json!({}))
        .await
        .unwrap();
    assert!(down.maintenance.is_some() && !down.derived, "as the remedy says");
    let _route: Route = node.client.delete(path).await.unwrap();
    let again: Route = node.client.get(path).await.unwrap();
    assert_eq!((again.derived, again.maintenance), (true, None));
    let unknown = refusal(node.client.delete::<Route>("/v1/routes/nobody.apps.test").await);
    assert_eq!(unknown.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn g15_a_preview_is_before_the_name_of_its_app_also_of_one_that_was_never_deployed() {
    let node = node().await;
    let request = EphemeralRequest {
        label: "pr1".into(),
        artifact: Some(node.upload(&web("./two")).await.digest),
        ..EphemeralRequest::default()
    };
    let made: EphemeralDeployed = node.client.post("/v1/apps/shop/ephemeral", &request).await.unwrap();
    assert_eq!(made.ephemeral.urls, ["http://pr1.shop.apps.test"]);
    let snapshot = node.control.world.routing.now().snapshot();
    assert_eq!(leads(&snapshot, "shop.apps.test").as_deref(), Some("shop"));
    assert_eq!(
        leads(&snapshot, "pr1.shop.apps.test"),
        None,
        "labels are found by the proxy"
    );
    node.succeed("pr1", &web("./one")).await;
    let listed: Vec<Ephemeral> = node.client.list("/v1/apps/shop/ephemeral").await.unwrap();
    assert_eq!(listed[0].urls, ["http://pr1.shop.apps.test"]);
    let _gone: Ephemeral = node.client.delete("/v1/apps/shop/ephemeral/pr1").await.unwrap();
    let snapshot = node.control.world.routing.now().snapshot();
    assert_eq!(
        leads(&snapshot, "shop.apps.test"),
        None,
        "nothing is left of the app to reach"
    );
}

#[tokio::test(start_paused = true)]
async fn g15_another_domain_is_another_snapshot_and_each_change_is_told_as_what_changed() {
    let shop = AppName::from_text("shop");
    let stage = Stage::with(below(None)).await;
    stage.deploy("./one").await;
    let routed = |stage: &Stage| stage.control.world.routing.now();
    let first = routed(&stage);
    assert_eq!(first.snapshot().routes, []);
    let stage = stage.killed_and(below(Some("apps.test"))).await;
    let second = routed(&stage);
    assert_eq!(second.generation, first.generation + 1);
    assert_ne!(second.lineage, first.lineage, "no proxy takes it for what it has");
    assert_eq!(leads(&second.snapshot(), "shop.apps.test").as_deref(), Some("shop"));
    let stage = stage.killed().await;
    assert_eq!(
        routed(&stage).generation,
        second.generation,
        "the same domain is no news"
    );
    let before = routed(&stage);
    stage.deploy("./two").await;
    let delta = routed(&stage).since(&before);
    assert_eq!(
        (delta.routes.len(), delta.apps.len()),
        (0, 1),
        "the host leads where it led"
    );
    let stage = stage.killed_and(below(Some("other.test"))).await;
    let moved = routed(&stage);
    let told: Vec<_> = moved.snapshot().routes.into_iter().map(|rule| rule.host).collect();
    assert_eq!(
        (told, moved.generation),
        (vec!["shop.other.test".to_owned()], before.generation + 2)
    );
    let stage = stage.killed_and(below(None)).await;
    assert_eq!(routed(&stage).snapshot().routes, []);
    assert!(routed(&stage).active(&shop).is_some());
    pass(1).await;
}
