//! Variables that an app requires: nothing is made of it until they are set, whichever way it is asked for.

use crate::node::{Node, refusal, web};
use miren_api::deploy::{Deploy, DeployRequest};
use miren_api::ephemeral::{EphemeralDeployed, EphemeralRequest};
use miren_api::{ApiError, ErrorCode};

const DEPLOYS: &str = "/v1/apps/shop/deploys";

fn needy() -> String {
    format!("{}[[env]]\nkey = \"DATABASE_URL\"\nrequired = true\n", web("./one"))
}

async fn request(node: &Node, value: Option<&str>) -> DeployRequest {
    let set = |value: &str| ("DATABASE_URL".to_owned(), Some(value.to_owned()));
    DeployRequest {
        artifact: Some(node.upload(&needy()).await.digest),
        env: value.map(set).into_iter().collect(),
        ..DeployRequest::default()
    }
}

fn is_told(refused: &ApiError) {
    assert_eq!(
        (refused.code, refused.field.as_deref()),
        (ErrorCode::InvalidValue, Some("env")),
        "{refused:?}"
    );
    assert!(
        refused.message.ends_with("requires what is not set: DATABASE_URL"),
        "{refused:?}"
    );
    let remedy = &refused.remedy;
    assert!(
        remedy.starts_with("miren env set -a shop DATABASE_URL=VALUE"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn g18_a_deploy_without_what_its_app_requires_is_refused_before_it_is_one() {
    let node = Node::start().await;
    for value in [None, Some("")] {
        is_told(&refusal(
            node.client.post::<Deploy>(DEPLOYS, &request(&node, value).await).await,
        ));
    }
    assert_eq!(
        refusal(node.client.get::<serde_json::Value>("/v1/apps/shop").await).code,
        ErrorCode::NotFound
    );
    let deploy: Deploy = node
        .client
        .post(DEPLOYS, &request(&node, Some("db")).await)
        .await
        .unwrap();
    node.ended(&deploy).await;
    let id = node.running("shop", 1).await.remove(0);
    assert_eq!(node.machine().environment(&id)["DATABASE_URL"], "db");
    // What was set once is kept, and cannot be taken away.
    let again: Deploy = node.client.post(DEPLOYS, &request(&node, None).await).await.unwrap();
    assert!(node.ended(&again).await.error.is_none());
    let without = DeployRequest {
        env: [("DATABASE_URL".to_owned(), None)].into(),
        ..DeployRequest::default()
    };
    is_told(&refusal(node.client.post::<Deploy>(DEPLOYS, &without).await));
}

#[tokio::test]
async fn g18_a_preview_needs_what_its_app_requires_too() {
    let node = Node::start().await;
    let preview = |content: DeployRequest| EphemeralRequest {
        label: "pr1".into(),
        artifact: content.artifact,
        env: content.env,
        ..EphemeralRequest::default()
    };
    node.succeed("shop", &web("./one")).await;
    let path = "/v1/apps/shop/ephemeral";
    let asked = preview(request(&node, None).await);
    is_told(&refusal(node.client.post::<EphemeralDeployed>(path, &asked).await));
    let asked = preview(request(&node, Some("db")).await);
    node.client.post::<EphemeralDeployed>(path, &asked).await.unwrap();
}
