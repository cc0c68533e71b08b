//! Idempotency keys over restarts: the same key is the same deploy, rollback or preview, and never another one.

use crate::node::{Node, refusal, web};
use crate::stage::Stage;
use miren_api::ErrorCode;
use miren_api::deploy::{Deploy, DeployRequest, RollbackRequest};
use miren_api::ephemeral::EphemeralRequest;
use miren_control::store::Kind;

fn of(artifact: String) -> DeployRequest {
    DeployRequest {
        artifact: Some(artifact),
        ..DeployRequest::default()
    }
}

#[tokio::test]
async fn f11_a_deploy_asked_for_again_after_a_restart_is_the_same_one() {
    let node = Node::start().await;
    let one = of(node.upload(&web("./one")).await.digest);
    let first = node.client.deploy("shop", &one, "key-1").await.unwrap();
    let under_way = Node::on(node.kill()).await;
    let again = under_way.client.deploy("shop", &one, "key-1").await.unwrap();
    assert_eq!(again.id, first.id, "it may be under way still");
    under_way.ended(&first).await;
    let node = Node::on(under_way.kill()).await;
    assert_eq!(node.client.deploy("shop", &one, "key-1").await.unwrap().id, first.id);
    let two = of(node.upload(&web("./two")).await.digest);
    let refused = refusal(node.client.deploy("shop", &two, "key-1").await);
    assert_eq!(refused.code, ErrorCode::Conflict, "{refused:?}");
    let deploys: Vec<Deploy> = node.client.list("/v1/apps/shop/deploys").await.unwrap();
    assert_eq!(deploys.len(), 1);
    assert_ne!(node.client.deploy("shop", &two, "key-2").await.unwrap().id, first.id);
}

#[tokio::test]
async fn f11_a_key_holds_when_its_folder_is_gone() {
    let node = Node::start().await;
    let one = of(node.upload(&web("./one")).await.digest);
    let first = node.client.deploy("shop", &one, "key-1").await.unwrap();
    node.ended(&first).await;
    let node = Node::on(node.kill()).await;
    let folders = node.control.artifacts.folder().to_owned();
    std::fs::remove_dir_all(&folders).unwrap();
    std::fs::create_dir(&folders).unwrap();
    assert_eq!(node.client.deploy("shop", &one, "key-1").await.unwrap().id, first.id);
}

#[tokio::test]
async fn f11_a_rollback_asked_for_again_does_not_go_back_further() {
    let node = Node::start().await;
    for command in ["./one", "./two", "./three"] {
        node.succeed("shop", &web(command)).await;
    }
    let back = RollbackRequest { to: None };
    let first = node.client.rollback("shop", &back, "key-1").await.unwrap();
    node.ended(&first).await;
    assert_eq!(node.client.rollback("shop", &back, "key-1").await.unwrap().id, first.id);
    let node = Node::on(node.kill()).await;
    assert_eq!(node.client.rollback("shop", &back, "key-1").await.unwrap().id, first.id);
    // A deploy of the same content is no rollback.
    let request = DeployRequest {
        version: first.version.clone(),
        ..DeployRequest::default()
    };
    let refused = refusal(node.client.deploy("shop", &request, "key-1").await);
    assert_eq!(refused.code, ErrorCode::Conflict, "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn f11_a_preview_asked_for_again_after_a_restart_is_the_same_one() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    stage.preview("look", 600, "./old").await;
    let request = EphemeralRequest {
        label: "look".into(),
        ..stage.request(&web("./new"))
    };
    let order = stage.order_with(Some("key-1"), "look", 600, request.clone()).await;
    let made = order.await.unwrap().unwrap();
    assert!(made.replaced.is_some());
    let stage = stage.killed().await;
    let before = stage.bodies(&[Kind::Version, Kind::Label]).await;
    let again = stage.order_with(Some("key-1"), "look", 600, request.clone()).await;
    let again = again.await.unwrap().unwrap();
    assert_eq!(
        (&again.ephemeral.version, &again.replaced),
        (&made.ephemeral.version, &made.replaced)
    );
    assert_eq!(
        stage.bodies(&[Kind::Version, Kind::Label]).await,
        before,
        "nothing was made"
    );
    let other = EphemeralRequest {
        ttl: Some("1h".into()),
        ..request.clone()
    };
    let refused = stage.order_with(Some("key-1"), "look", 3600, other).await;
    assert_eq!(refused.await.unwrap().unwrap_err().code, ErrorCode::Conflict);
    let new = stage.order_with(Some("key-2"), "look", 600, request).await;
    let new = new.await.unwrap().unwrap();
    assert_eq!(new.replaced.as_ref(), Some(&made.ephemeral.version));
}
