//! A cordoned node: nothing new is placed on it, and what it runs goes on whole.

use crate::node::{Node, fixed, refusal, web};
use miren_api::deploy::{Deploy, DeployStatus};
use miren_api::node::{NodeGate, NodePhase};
use miren_api::{ClientError, ErrorCode};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d1_a_cordoned_node_keeps_what_it_runs_and_takes_nothing_new_over_a_restart_too() {
    let node = Node::start().await;
    let shop = node.succeed("shop", &fixed("./shop", 2)).await;
    let idle = node.succeed("idle", &web("./idle")).await.version.unwrap();
    let artifact = node.upload(&web("./next")).await.digest;
    assert_eq!(node.order("cordon").await.unwrap().phase, NodePhase::Cordoned);
    let place = node.kill();
    let node = Node::on(place).await;
    let status = node.status().await;
    assert_eq!(
        (status.phase, status.cordoned, status.gate),
        (NodePhase::Cordoned, true, NodeGate::Open)
    );
    for (app, key) in [("other", "a"), ("shop", "b")] {
        let refused = refusal(node.try_deploy(app, &artifact, key).await);
        assert_eq!(
            (refused.code, &*refused.remedy),
            (ErrorCode::Cordoned, "miren node uncordon"),
            "{refused:?}"
        );
    }
    let crashed = node.running("shop", 2).await[0].clone();
    node.machine().crash(&crashed, Some(9));
    let running = node.replaced("shop", 2, &crashed).await;
    assert_eq!(
        node.acquire(&idle, 10_000).await.unwrap().leases.len(),
        1,
        "an app that is there wakes up"
    );
    let path = format!("/v1/sandboxes/{}/stop", running[0]);
    node.client
        .post::<serde_json::Value>(&path, &serde_json::Map::new())
        .await
        .unwrap();
    let shown: Deploy = node.client.get(&format!("/v1/deploys/{}", shop.id)).await.unwrap();
    assert_eq!(shown.status, DeployStatus::Succeeded);

    assert_eq!(node.order("uncordon").await.unwrap().phase, NodePhase::Active);
    let deploy = node.try_deploy("shop", &artifact, "b").await.unwrap();
    assert_eq!(node.ended(&deploy).await.status, DeployStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d1_cordoned_a_hundred_times_no_deploy_fails_that_was_let_in_and_no_lease_is_refused() {
    let node = Node::start().await;
    let shop = node.succeed("shop", &fixed("./shop", 2)).await.version.unwrap();
    let artifact = node.upload(&web("./next")).await.digest;
    let mut let_in = Vec::new();
    for round in 0..100 {
        node.order(if round % 2 == 0 { "cordon" } else { "uncordon" })
            .await
            .unwrap();
        match node.try_deploy("blog", &artifact, &format!("key-{round}")).await {
            Ok(deploy) if round % 2 == 1 => let_in.push(deploy),
            Err(ClientError::Refused(error)) if round % 2 == 0 => assert_eq!(error.code, ErrorCode::Cordoned),
            other => panic!("round {round}: {other:?}"),
        }
        assert_eq!(node.acquire(&shop, 0).await.unwrap().leases.len(), 2, "round {round}");
    }
    for deploy in let_in {
        let ended = node.ended(&deploy).await;
        assert!(
            matches!(ended.status, DeployStatus::Succeeded | DeployStatus::Superseded),
            "{ended:?}"
        );
    }
}

/// A body that no socket takes whole is refused while it is being sent: its sender is told why, and not cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d1_an_upload_that_is_refused_is_told_why_however_large_it_is() {
    let node = Node::start().await;
    let large = vec![0_u8; 64 << 20];
    node.order("cordon").await.unwrap();
    for round in 0..5 {
        let refused = refusal(node.client.upload(large.clone().into()).await);
        assert_eq!(refused.code, ErrorCode::Cordoned, "round {round}: {refused:?}");
    }
}
