//! What proxies are told of previews and routes, and what waits until they know.

use crate::node::web;
use crate::stage::{Stage, pass};
use miren_api::ephemeral::Ephemeral;
use miren_api::id::{AppName, Label};
use miren_api::resource::SandboxState;
use miren_api::{ApiError, ErrorCode};
use miren_control::app::Command;
use miren_control::policy::{Policy, Urls};
use miren_control::routing::{Change, Routed};
use std::time::Duration;
use tokio::sync::oneshot;

const DAY: u64 = 86_400;

fn routed(stage: &Stage) -> Routed {
    stage.control.world.routing.now()
}

#[tokio::test(start_paused = true)]
async fn e6_the_replaced_version_serves_until_every_proxy_knows() {
    let stage = Stage::start().await;
    let old = stage.served("pr1", DAY, "./old").await;
    let desk = stage.control.world.desk.clone();
    let _connected = desk.connect("p1").unwrap();
    desk.acknowledge("p1", routed(&stage).generation);
    let mut answer = stage.order("pr1", DAY, stage.request(&web("./new"))).await;
    pass(2).await;
    assert_ne!(stage.label("pr1").unwrap().version, old.version, "it is announced");
    let serving = stage.machine.of_app("shop", SandboxState::Running);
    assert_eq!(serving.len(), 2, "the proxy has not said that it knows");
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
    stage.served("pr1", 60, "./held").await;
    stage.machine.hold("./held");
    pass(70).await;
    assert_eq!(stage.running(), ["./held", "./one"], "it drains");
    assert_eq!(
        stage.versions().await.len(),
        2,
        "its record stays until its pool is gone"
    );
    stage.deploy("./two").await;
    assert_eq!(stage.running(), ["./held", "./two"]);
    stage.machine.release("./held");
    pass(60).await;
    assert_eq!(stage.running(), ["./two"]);
    assert_eq!(stage.versions().await.len(), 2, "both that were deployed");
}

/// Ends the preview with this label.
async fn unlabel(stage: &Stage, label: &str) -> Result<Ephemeral, ApiError> {
    let (reply, answer) = oneshot::channel();
    let label = Label::from_text(label);
    stage
        .app
        .commands
        .send(Command::Unlabel { label, reply })
        .await
        .ok()
        .unwrap();
    answer.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn e9_after_a_restart_too_proxies_have_time_to_say_that_they_know() {
    let stage = Stage::start().await;
    stage.served("pr1", DAY, "./two").await;
    let connected = stage.control.world.desk.connect("p1").unwrap();
    unlabel(&stage, "pr1").await.unwrap();
    pass(2).await;
    let serving = |stage: &Stage| stage.machine.of_app("shop", SandboxState::Running).len();
    assert_eq!(serving(&stage), 1, "the proxy has said nothing");
    let stage = stage.killed().await;
    drop(connected);
    pass(4).await;
    assert_eq!(serving(&stage), 1, "it may come back");
    pass(60).await;
    assert_eq!((stage.running(), stage.versions().await.len()), (Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn e8_what_no_label_leads_to_is_neither_opened_nor_extended() {
    let stage = Stage::start().await;
    let (gone, over) = (
        stage.preview("gone", DAY, "./two").await,
        stage.preview("over", 60, "./two").await,
    );
    let _silent = stage.control.world.desk.connect("p1").unwrap();
    unlabel(&stage, "gone").await.unwrap();
    pass(1).await;
    let refused = stage.acquire(&gone.version).await.unwrap_err();
    assert_eq!(
        refused.code,
        ErrorCode::NoSuchVersion,
        "nor while proxies are waited for"
    );
    pass(60).await;
    assert!(stage.remembered("over").is_some());
    let refused = stage.acquire(&over.version).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoSuchVersion);
    let (reply, answer) = oneshot::channel();
    let (label, ttl) = (Label::from_text("over"), Duration::from_secs(3600));
    stage
        .app
        .commands
        .send(Command::Extend { label, ttl, reply })
        .await
        .ok()
        .unwrap();
    assert_eq!(answer.await.unwrap().unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(unlabel(&stage, "over").await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn e8_the_end_of_a_version_is_not_that_of_the_one_that_has_its_label_now() {
    let stage = Stage::start().await;
    let old = stage.preview("pr1", DAY, "./old").await;
    let new = stage.preview("pr1", DAY, "./new").await;
    let late = Change::Unlabel {
        app: AppName::from_text("shop"),
        label: "pr1".into(),
        version: old.version,
    };
    stage.control.world.routing.submit(late).await.unwrap();
    assert_eq!(stage.label("pr1").unwrap().version, new.version);
}
