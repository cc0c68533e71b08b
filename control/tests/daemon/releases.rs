//! The release command of a deploy, over the real API on a simulated machine: once, before the switch, and never for what was there.

use crate::node::{Node, eventually, web};
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus, RollbackRequest};
use miren_api::id::SandboxId;
use miren_api::resource::App;
use miren_control::executor::Order;
use std::collections::BTreeMap;

fn releasing(command: &str) -> String {
    format!(
        "{}\n[release]\ncommand = \"migrate {command}\"\ntimeout = \"1h\"\n",
        web(command)
    )
}

/// The release command that runs.
async fn release(node: &Node) -> Order {
    let orders = eventually("a release command", async || {
        let orders = node.machine().one_offs();
        (orders.len() == 1)
            .then_some(orders.clone())
            .ok_or_else(|| format!("{orders:?}"))
    });
    orders.await.remove(0)
}

async fn active(node: &Node) -> Option<miren_api::VersionId> {
    let app: App = node.client.get("/v1/apps/shop").await.unwrap();
    app.version
}

#[tokio::test]
async fn g5_a_release_runs_once_before_anything_of_its_version_and_its_failure_changes_nothing() {
    let node = Node::start().await;
    let first = node.ask("shop", &releasing("./one")).await;
    let order = release(&node).await;
    assert_eq!(order.service.command, "migrate ./one");
    let alive = node.machine().alive();
    assert!(alive == [order.id], "nothing of the version runs yet: {alive:?}");
    let order = release(&node).await;
    node.machine().exit(&order.id, 0);
    let first = node.ended(&first).await;
    assert_eq!(first.status, DeployStatus::Succeeded, "{first:?}");
    assert_eq!(
        first.version.as_ref(),
        Some(&order.version),
        "it ran in the version that was made"
    );
    let running = node.running("shop", 1).await;

    let second = node.ask("shop", &releasing("./two")).await;
    let order = release(&node).await;
    node.machine().exit(&order.id, 3);
    let second = node.ended(&second).await;
    assert_eq!(second.status, DeployStatus::Failed);
    let why = second.error.clone().unwrap_or_default();
    assert!(
        why.contains("exited with status 3") && why.contains("what it wrote last"),
        "{why}"
    );
    assert!(
        second.steps.iter().any(|step| step.message.contains(order.id.as_str())),
        "{second:?}"
    );
    assert_eq!((active(&node).await, node.machine().alive()), (first.version, running));
}

/// Deploys a version whose release succeeds.
async fn released(node: &Node, command: &str) -> Deploy {
    let deploy = node.ask("shop", &releasing(command)).await;
    node.machine().exit(&release(node).await.id, 0);
    let ended = node.ended(&deploy).await;
    assert_eq!(ended.status, DeployStatus::Succeeded, "{ended:?}");
    ended
}

#[tokio::test]
async fn g5_what_was_there_has_had_its_release_and_changed_variables_make_a_version() {
    let node = Node::start().await;
    let first = released(&node, "./one").await;
    let again = DeployRequest {
        version: first.version,
        ..DeployRequest::default()
    };
    let again = node.client.deploy("shop", &again, "key-of-the-same").await.unwrap();
    assert_eq!(node.ended(&again).await.status, DeployStatus::Succeeded);
    released(&node, "./two").await;
    let back = RollbackRequest { to: None };
    let back = node
        .client
        .rollback("shop", &back, "key-of-the-rollback")
        .await
        .unwrap();
    assert_eq!(node.ended(&back).await.status, DeployStatus::Succeeded);
    let variables = DeployRequest {
        env: BTreeMap::from([("A".to_owned(), Some("1".to_owned()))]),
        ..DeployRequest::default()
    };
    let changed = node
        .client
        .deploy("shop", &variables, "key-of-the-change")
        .await
        .unwrap();
    let order = release(&node).await;
    assert_eq!(
        order.env["A"], "1",
        "a change of variables makes a version, which has its own"
    );
    node.machine().exit(&order.id, 0);
    assert_eq!(node.ended(&changed).await.status, DeployStatus::Succeeded);
}

async fn cancel(node: &Node, deploy: &Deploy) -> Deploy {
    let path = format!("/v1/deploys/{}/cancel", deploy.id);
    node.client.post(&path, &serde_json::Map::new()).await.unwrap()
}

#[tokio::test]
async fn g5_a_deploy_that_ends_ends_its_release_and_two_of_an_app_never_run_at_once() {
    let node = Node::start().await;
    let first = node.ask("shop", &releasing("./one")).await;
    let one = release(&node).await;
    let second = node.ask("shop", &releasing("./two")).await;
    cancel(&node, &first).await;
    let next = eventually("the release of the next", async || {
        let orders = node.machine().one_offs();
        let next = orders.iter().find(|order| order.id != one.id).cloned();
        next.filter(|_| orders.len() == 1).ok_or_else(|| format!("{orders:?}"))
    })
    .await;
    node.machine().exit(&next.id, 0);
    assert_eq!(node.ended(&second).await.status, DeployStatus::Succeeded);
    assert_eq!(started(&node, &one.id), 1);
}

fn started(node: &Node, id: &SandboxId) -> usize {
    node.machine().started().iter().filter(|started| *started == id).count()
}

#[tokio::test]
async fn g5_a_release_that_control_did_not_outlive_is_not_run_again() {
    let node = Node::start().await;
    let deploy = node.ask("shop", &releasing("./one")).await;
    let order = release(&node).await;
    // Killed while it runs: the next one takes it over.
    let node = Node::on(node.kill()).await;
    assert_eq!(release(&node).await.id, order.id);
    node.machine().exit(&order.id, 0);
    assert_eq!(node.ended(&deploy).await.status, DeployStatus::Succeeded);
    assert_eq!(
        node.machine().started().len(),
        2,
        "the release, and the sandbox of the version"
    );
    // Killed, and its end was seen by nobody: it may have done anything, and is not run a second time.
    let deploy = node.ask("shop", &releasing("./two")).await;
    let order = release(&node).await;
    let place = node.kill();
    place.machine.crash(&order.id, None);
    let node = Node::on(place).await;
    let ended = node.ended(&deploy).await;
    assert_eq!(ended.status, DeployStatus::Failed, "{ended:?}");
    assert_eq!(node.machine().started().len(), 3, "nothing was started again");
}

#[tokio::test]
async fn g5_a_preview_runs_no_release() {
    let node = Node::start().await;
    let artifact = node.upload(&releasing("./one")).await;
    let request = miren_api::ephemeral::EphemeralRequest {
        label: "pr-1".into(),
        artifact: Some(artifact.digest),
        ..Default::default()
    };
    node.client
        .preview("shop", &request, "key-of-the-preview")
        .await
        .unwrap();
    assert!(node.machine().one_offs().is_empty());
}
