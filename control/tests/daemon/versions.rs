//! Versions that are made, changed, called off and brought back, over the real API on a simulated machine.

use crate::node::{Node, eventually, refusal, web};
use miren_api::ErrorCode;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus, RollbackRequest, Variable, VariableSource};
use miren_api::id::VersionId;
use miren_api::resource::{App, Version, VersionStatus};
use miren_control::record::{DeployRecord, VersionRecord};
use serde_json::json;
use std::collections::BTreeMap;

fn changes(pairs: &[(&str, Option<&str>)]) -> DeployRequest {
    let owned = |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
    DeployRequest {
        env: pairs.iter().map(owned).collect(),
        ..DeployRequest::default()
    }
}

async fn deploy(node: &Node, request: &DeployRequest) -> Deploy {
    let key = format!("{:016x}", rand::random::<u64>());
    let accepted = node.client.deploy("shop", request, &key).await.unwrap();
    let ended = node.ended(&accepted).await;
    assert_eq!(ended.status, DeployStatus::Succeeded, "{ended:?}");
    ended
}

/// What the only sandbox that runs was given, without what the system sets.
async fn environment(node: &Node) -> BTreeMap<String, String> {
    let running = node.running("shop", 1).await.remove(0);
    let mut env = node.machine().environment(&running);
    env.retain(|name, _| name != "PORT" && !name.starts_with("MIREN_"));
    env
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

async fn active(node: &Node) -> Option<VersionId> {
    let app: App = node.client.get("/v1/apps/shop").await.unwrap();
    app.version
}

#[tokio::test]
async fn several_variables_are_one_version_and_one_deploy_and_later_deploys_keep_them() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    let set = deploy(&node, &changes(&[("A", Some("1")), ("B", Some("2")), ("C", Some("3"))])).await;
    assert_eq!(set.seq, 2);
    assert_eq!(environment(&node).await, map(&[("A", "1"), ("B", "2"), ("C", "3")]));
    let versions: Vec<Version> = node.client.list("/v1/apps/shop/versions").await.unwrap();
    assert_eq!(versions.len(), 2);
    node.succeed("shop", &web("./two")).await;
    assert_eq!(environment(&node).await, map(&[("A", "1"), ("B", "2"), ("C", "3")]));
    deploy(&node, &changes(&[("B", None)])).await;
    assert_eq!(environment(&node).await, map(&[("A", "1"), ("C", "3")]));
    let listed: Vec<Variable> = node.client.list("/v1/apps/shop/env").await.unwrap();
    let told: Vec<_> = listed
        .iter()
        .map(|variable| (variable.name.as_str(), variable.source))
        .collect();
    assert_eq!(told, [("A", VariableSource::Manual), ("C", VariableSource::Manual)]);
}

#[tokio::test]
async fn a_change_of_variables_is_on_top_of_the_deploy_under_way() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    node.machine().hold("./two");
    let code = node.ask("shop", &web("./two")).await;
    let env = node
        .client
        .deploy("shop", &changes(&[("A", Some("1"))]), "k")
        .await
        .unwrap();
    node.machine().release("./two");
    node.ended(&code).await;
    assert_eq!(node.ended(&env).await.status, DeployStatus::Succeeded);
    eventually("the new code with the variable serves alone", async || {
        let alive = node.machine().alive();
        let commands: Vec<_> = alive.iter().map(|id| node.machine().command(id)).collect();
        match commands.as_slice() {
            [only] if only == "./two" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(environment(&node).await, map(&[("A", "1")]));
}

#[tokio::test]
async fn a_rollback_brings_the_version_back_with_its_folder_and_its_variables() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    let first = deploy(&node, &changes(&[("A", Some("1"))])).await;
    let second = node.succeed("shop", &web("./two")).await;
    deploy(&node, &changes(&[("A", Some("2"))])).await;
    let path = "/v1/apps/shop/rollback";
    let to = RollbackRequest {
        to: first.version.clone(),
    };
    let back: Deploy = node.client.post(path, &to).await.unwrap();
    let back = node.ended(&back).await;
    assert_eq!((back.status, &back.version), (DeployStatus::Succeeded, &first.version));
    assert_eq!(environment(&node).await, map(&[("A", "1")]));
    let alive = node.running("shop", 1).await.remove(0);
    assert_eq!(node.machine().command(&alive), "./one");
    let versions: Vec<Version> = node.client.list("/v1/apps/shop/versions").await.unwrap();
    let serving: Vec<_> = versions.iter().filter(|v| v.status == VersionStatus::Active).collect();
    assert_eq!((versions.len(), serving.len()), (4, 1), "no version is made for it");
    assert_eq!(Some(&serving[0].version), first.version.as_ref());

    let again = refusal(node.client.post::<Deploy>(path, &to).await);
    assert_eq!(again.code, ErrorCode::Conflict, "it serves already");
    let back: Deploy = node.client.post(path, &RollbackRequest::default()).await.unwrap();
    let back = node.ended(&back).await;
    assert_ne!(back.version, second.version, "the one before was that with A=2");
    assert_eq!(environment(&node).await, map(&[("A", "2")]));
}

#[tokio::test]
async fn what_cannot_be_deployed_is_refused_before_it_has_a_number() {
    let node = Node::start().await;
    let none = refusal(node.client.deploy("shop", &changes(&[("A", Some("1"))]), "k").await);
    assert_eq!(none.code, ErrorCode::NotFound, "no such app");
    let first = node.succeed("shop", &web("./one")).await;
    let other = node.succeed("other", &web("./one")).await;
    let refused = async |request: DeployRequest| refusal(node.client.deploy("shop", &request, "k").await);
    let nothing = refused(DeployRequest::default()).await;
    assert_eq!(nothing.code, ErrorCode::InvalidRequest);
    let both = refused(DeployRequest {
        artifact: Some(node.upload(&web("./one")).await.digest),
        version: first.version.clone(),
        ..DeployRequest::default()
    });
    assert_eq!(both.await.field.as_deref(), Some("version"));
    let foreign = refused(DeployRequest {
        version: other.version.clone(),
        ..DeployRequest::default()
    });
    assert_eq!(foreign.await.code, ErrorCode::NotFound);
    assert_eq!(
        refused(changes(&[("PORT", Some("1"))])).await.code,
        ErrorCode::InvalidValue
    );
    let earlier = refusal(
        node.client
            .post::<Deploy>("/v1/apps/shop/rollback", &RollbackRequest::default())
            .await,
    );
    assert_eq!(earlier.code, ErrorCode::NotFound, "nothing served before");
    let next = node.succeed("shop", &web("./two")).await;
    assert_eq!(next.seq, 2, "no refused deploy took a number");
}

#[tokio::test]
async fn a_deploy_is_called_off_until_it_has_switched_traffic() {
    let node = Node::start().await;
    let good = node.succeed("shop", &web("./good")).await;
    node.machine().hold("./slow");
    let slow = node.ask("shop", &web("./slow")).await;
    eventually("its sandbox is asked for", async || {
        match node.machine().started().len() {
            2 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    let cancel = async |deploy: &Deploy| {
        let path = format!("/v1/deploys/{}/cancel", deploy.id);
        node.client.post::<Deploy>(&path, &json!({})).await
    };
    let cancelled = cancel(&slow).await.unwrap();
    assert_eq!(cancelled.status, DeployStatus::Failed);
    assert_eq!(node.ended(&slow).await.error.as_deref(), Some("cancelled by request"));
    assert_eq!(active(&node).await, good.version);
    node.machine().release("./slow");
    eventually("only the good one is left", async || {
        match node.machine().alive().len() {
            1 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert_eq!(node.pools("shop").await[0].crash_count, 0);
    assert_eq!(refusal(cancel(&good).await).code, ErrorCode::Conflict);
}

#[test]
fn m2_deploys_and_versions_of_the_first_release_are_understood() {
    let deploy: DeployRecord = serde_json::from_value(json!({
        "deploy": {
            "id": "dep-1", "app": "shop", "version": null, "seq": 1, "status": "ACCEPTED", "pool": null,
            "reused": false, "urls": [], "started_at": "2026-11-20T10:00:00Z", "finished_at": null, "error": null,
            "steps": []
        },
        "request": { "artifact": "sha256:aa", "env": { "A": "1" } },
        "starting_at": null,
        "generation": null
    }))
    .unwrap();
    let source = deploy.source();
    assert_eq!((source.content.artifact.as_str(), source.version), ("sha256:aa", None));
    assert_eq!(source.variables.all, map(&[("A", "1")]));
    let version: VersionRecord = serde_json::from_value(json!({
        "id": "shop-v1", "app": "shop", "seq": 1, "created_at": "2026-11-20T10:00:00Z", "artifact": "sha256:aa",
        "pools": { "web": "pool-1" }
    }))
    .unwrap();
    assert!(version.variables.all.is_empty());
}
