//! What proxies are told of previews and routes, and what waits until they know.

use crate::node::web;
use crate::stage::{Stage, pass};
use miren_api::ephemeral::EphemeralRequest;
use miren_api::id::AppName;
use miren_control::policy::{Policy, Urls};
use miren_control::routing::Routed;

const DAY: u64 = 86_400;

fn routed(stage: &Stage) -> Routed {
    stage.control.apps.world.routing.now()
}

#[tokio::test(start_paused = true)]
async fn e6_the_replaced_version_serves_until_every_proxy_knows() {
    let stage = Stage::start().await;
    let old = stage.preview("pr1", DAY, "./old").await;
    stage.acquire(&old.version).await.unwrap();
    let desk = stage.control.apps.world.desk.clone();
    let _connected = desk.connect("p1").unwrap();
    desk.acknowledge("p1", routed(&stage).generation);
    let request = EphemeralRequest {
        artifact: Some(stage.artifact(&web("./new"))),
        ..EphemeralRequest::default()
    };
    let mut answer = stage.order("pr1", DAY, request).await;
    pass(2).await;
    assert_eq!(
        stage.running(),
        ["./new", "./old"],
        "the proxy has not said that it knows"
    );
    assert!(answer.try_recv().is_err(), "nor is it done");
    desk.acknowledge("p1", routed(&stage).generation);
    let new = answer.await.unwrap().unwrap();
    assert_eq!(stage.label("pr1").unwrap().version, new.ephemeral.version);
    pass(60).await;
    assert_eq!(stage.running(), ["./new"]);
}

#[tokio::test(start_paused = true)]
async fn another_name_of_the_ingress_is_another_snapshot() {
    let named = |host: Option<&str>| Policy {
        urls: Urls {
            cluster_host: host.map(str::to_owned),
            ..Urls::default()
        },
        ..Policy::default()
    };
    let stage = Stage::with(named(None)).await;
    stage.deploy("./one").await;
    let first = routed(&stage).generation;
    let stage = stage.killed_and(named(Some("edge.example.com"))).await;
    let second = routed(&stage);
    assert_eq!(second.generation, first + 1);
    assert_eq!(second.snapshot().cluster_host.as_deref(), Some("edge.example.com"));
    let stage = stage.killed().await;
    assert_eq!(routed(&stage).generation, first + 1, "the same name is no news");
    let preview = stage.preview("pr1", DAY, "./two").await;
    assert_eq!(preview.urls, ["http://pr1.shop.edge.example.com"]);
    let delta = routed(&stage).since(&second);
    assert_eq!(
        delta.cluster_host.as_deref(),
        Some("edge.example.com"),
        "changed or not"
    );
    let told = &delta.apps[&AppName::from_text("shop")];
    assert_eq!((told.active.is_some(), told.ephemeral.len()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn e9_a_deploy_does_not_wait_for_the_end_of_a_preview() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let preview = stage.preview("pr1", 60, "./held").await;
    stage.acquire(&preview.version).await.unwrap();
    stage.machine.hold("./held");
    pass(70).await;
    assert_eq!(stage.running(), ["./held", "./one"], "it drains");
    stage.deploy("./two").await;
    assert_eq!(stage.running(), ["./held", "./two"]);
    stage.machine.release("./held");
    pass(60).await;
    assert_eq!(stage.running(), ["./two"]);
}
