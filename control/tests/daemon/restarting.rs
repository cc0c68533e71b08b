//! A restart: what serves runs in new sandboxes, by a deploy of its own, and nothing else has changed.

use crate::node::{Node, eventually, fixed, refusal, web};
use crate::stage::{Stage, pass};
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::id::{AppName, SandboxId};
use miren_api::resource::{SandboxState, Version};
use miren_api::{ApiError, ErrorCode};
use miren_control::app::Command;
use miren_control::record::DeployRecord;
use miren_control::store::Selection;
use tokio::sync::oneshot;

async fn restart(node: &Node) -> Deploy {
    let key = format!("{:016x}", rand::random::<u64>());
    let accepted = node.client.restart("shop", &key).await.unwrap();
    node.ended(&accepted).await
}

#[tokio::test]
async fn g15_a_restart_is_a_deploy_of_what_serves_in_new_sandboxes() {
    let node = Node::start().await;
    let first = node.succeed("shop", &fixed("./one", 2)).await;
    let old = node.running("shop", 2).await;
    let generation = node.control.world.routing.now().generation;
    let restarted = restart(&node).await;
    assert_eq!(restarted.status, DeployStatus::Succeeded, "{restarted:?}");
    assert_eq!(
        (restarted.seq, &restarted.version, restarted.reused),
        (2, &first.version, false)
    );
    let new = node.running("shop", 2).await;
    assert!(old.iter().all(|id| !new.contains(id)), "{old:?} became {new:?}");
    assert_eq!(
        node.control.world.routing.now().generation,
        generation,
        "nothing is routed otherwise"
    );
    let versions: Vec<Version> = node.client.list("/v1/apps/shop/versions").await.unwrap();
    assert_eq!(
        (versions.len(), &versions[0].pool),
        (1, &restarted.pool),
        "no version is made"
    );
    let deploys: Vec<Deploy> = node.client.list("/v1/apps/shop/deploys").await.unwrap();
    assert_eq!(deploys.len(), 2);
    assert!(
        deploys[1].steps[0].message.contains("again, in new sandboxes"),
        "{deploys:?}"
    );

    let same = node.succeed("shop", &fixed("./one", 2)).await;
    assert!(
        same.reused,
        "a deploy of the same uses the sandboxes that the restart made"
    );
    assert_eq!(same.pool, restarted.pool);
    let back = restart(&node).await;
    assert_eq!((back.status, &back.version), (DeployStatus::Succeeded, &same.version));
    let rolled = node.client.rollback("shop", &Default::default(), "k").await.unwrap();
    assert_eq!(
        node.ended(&rolled).await.version,
        first.version,
        "restarts are no versions before"
    );
}

#[tokio::test]
async fn g15_a_restart_that_fails_leaves_what_serves() {
    let node = Node::start().await;
    let first = node.succeed("shop", &web("./one")).await;
    let old = node.running("shop", 1).await;
    node.machine().fail("./one", "it does not start any more");
    let failed = restart(&node).await;
    assert_eq!(failed.status, DeployStatus::Failed, "{failed:?}");
    assert!(
        failed
            .error
            .as_deref()
            .unwrap_or_default()
            .contains("it does not start any more"),
        "{failed:?}"
    );
    assert_eq!(node.running("shop", 1).await, old);
    let versions: Vec<Version> = node.client.list("/v1/apps/shop/versions").await.unwrap();
    assert_eq!(
        versions[0].pool, first.pool,
        "the pool that is shown is the one that serves"
    );
    node.machine().heal("./one");
    assert_eq!(restart(&node).await.status, DeployStatus::Succeeded);
    assert_ne!(node.running("shop", 1).await, old);
    eventually("the pools that were given up are gone", async || {
        match node.pools("shop").await {
            pools if pools.len() == 1 => Ok(()),
            pools => Err(format!("{pools:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn g15_what_cannot_be_restarted_is_refused_with_what_to_do() {
    let node = Node::start().await;
    let refused = async |key: &str| refusal(node.client.restart("shop", key).await);
    assert_eq!(refused("k1").await.code, ErrorCode::NotFound, "no such app");
    node.machine().fail("./bad", "no");
    node.deploy("shop", &web("./bad")).await;
    let nothing = refused("k2").await;
    assert_eq!(nothing.code, ErrorCode::NotFound, "{nothing}");
    assert!(nothing.message.contains("has no version that serves"), "{nothing}");
    assert_eq!(nothing.remedy, "deploy its folder first");

    node.succeed("shop", &web("./one")).await;
    node.machine().hold("./two");
    let under_way = node.ask("shop", &web("./two")).await;
    let overtaken = refused("k3").await;
    assert_eq!(
        overtaken.code,
        ErrorCode::Conflict,
        "it would bring back what the deploy replaces"
    );
    assert!(overtaken.remedy.contains(under_way.id.as_str()), "{overtaken}");
    node.machine().release("./two");
    assert_eq!(node.ended(&under_way).await.status, DeployStatus::Succeeded);
    assert_eq!(restart(&node).await.version, node.ended(&under_way).await.version);
}

#[tokio::test]
async fn g15_the_same_key_restarts_once_and_two_at_a_time_are_one() {
    let node = Node::start().await;
    node.succeed("shop", &web("./one")).await;
    node.machine().hold("./one");
    let first = node.client.restart("shop", "key-1").await.unwrap();
    assert_eq!(node.client.restart("shop", "key-1").await.unwrap().id, first.id);
    let other = refusal(node.client.restart("shop", "key-2").await);
    assert_eq!(other.code, ErrorCode::Conflict, "{other}");
    let path = format!("/v1/deploys/{}/cancel", first.id);
    let cancelled: Deploy = node.client.post(&path, &serde_json::json!({})).await.unwrap();
    assert_eq!(cancelled.status, DeployStatus::Failed);
    node.machine().release("./one");
    eventually("only what served is left", async || {
        match node.machine().alive().len() {
            1 => Ok(()),
            more => Err(more.to_string()),
        }
    })
    .await;
    let node = Node::on(node.kill()).await;
    let again = node.client.restart("shop", "key-1").await.unwrap();
    assert_eq!(again.id, first.id, "it was called off, and is not tried by itself");
    let rollback = refusal(node.client.rollback("shop", &Default::default(), "key-1").await);
    assert_eq!(rollback.code, ErrorCode::Conflict, "another request under the same key");
    let request = DeployRequest {
        version: first.version.clone(),
        ..DeployRequest::default()
    };
    assert_eq!(
        refusal(node.client.deploy("shop", &request, "key-1").await).code,
        ErrorCode::Conflict
    );
}

async fn ask(stage: &Stage) -> Option<Result<Deploy, ApiError>> {
    let (reply, answer) = oneshot::channel();
    let restart = Command::Restart { key: None, reply };
    stage.app.commands.send(restart).await.ok()?;
    tokio::select! {
        answer = answer => answer.ok(),
        () = stage.faults.died() => None,
    }
}

fn running(stage: &Stage) -> Vec<SandboxId> {
    stage.machine.of_app("shop", SandboxState::Running)
}

#[tokio::test(start_paused = true)]
async fn g15_until_it_has_switched_requests_go_where_they_went_and_then_to_the_new_ones() {
    let stage = Stage::start().await;
    let version = stage.deploy("./one").await;
    let preview = stage.served("pr1", 3600, "./two").await;
    let [old, label] = &running(&stage)[..] else {
        panic!("{:?}", running(&stage));
    };
    stage.machine.hold("./one");
    ask(&stage).await.unwrap().unwrap();
    pass(2).await;
    assert_eq!(stage.machine.alive().len(), 3, "the new one starts");
    let lease = stage.acquire(&version).await.unwrap().leases.remove(0);
    assert!([old, label].contains(&&lease.sandbox), "{lease:?}");
    assert_eq!(stage.served_by(&version).await, "./one", "what runs serves meanwhile");
    stage.machine.release("./one");
    pass(60).await;
    let now = running(&stage);
    assert_eq!(now.len(), 2, "{now:?}");
    assert_eq!(
        now.iter().filter(|id| [old, label].contains(id)).count(),
        1,
        "only the preview's is left: {now:?}"
    );
    assert_eq!(stage.served_by(&version).await, "./one");
    assert_eq!(stage.served_by(&preview.version).await, "./two");
}

#[tokio::test(start_paused = true)]
async fn g15_a_deploy_of_the_same_during_a_restart_uses_what_the_restart_starts() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let old = running(&stage);
    stage.machine.hold("./one");
    ask(&stage).await.unwrap().unwrap();
    pass(2).await;
    let same = DeployRequest {
        artifact: Some(stage.artifact(&web("./one"))),
        ..DeployRequest::default()
    };
    stage.accepted(same).await;
    pass(2).await;
    assert_eq!(running(&stage), old, "it waits for what starts");
    stage.machine.release("./one");
    pass(60).await;
    let now = running(&stage);
    assert!(now.len() == 1 && now != old, "{old:?} became {now:?}");
    assert_eq!(stage.machine.started().len(), 2);
    assert_eq!(stage.app.view.borrow().pools.len(), 1);
}

/// Kills control at one of the writes of a restart; false if it has fewer.
async fn dies_at(point: i64) -> bool {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let old = running(&stage);
    stage.faults.kill_at(point);
    let asked = ask(&stage).await;
    let died = asked.is_none()
        || tokio::select! {
            () = stage.faults.died() => true,
            () = pass(60) => false,
        };
    let stage = stage.killed().await;
    pass(60).await;
    let records: Vec<DeployRecord> = miren_control::ledger::list(&*stage.records, Selection::All)
        .await
        .unwrap();
    let restarts: Vec<_> = records.iter().filter(|record| record.restart).collect();
    let deploys = records.iter().map(|record| &record.deploy);
    let told: Vec<_> = deploys
        .map(|deploy| (deploy.seq, deploy.status, &deploy.error))
        .collect();
    assert!(
        restarts.len() <= 1 && (asked.is_none() || restarts.len() == 1),
        "{point}: {told:?}"
    );
    let all_ended = records
        .iter()
        .all(|record| record.deploy.status == DeployStatus::Succeeded);
    assert!(all_ended, "{point}: {told:?}");
    let now = running(&stage);
    assert_eq!((now.len(), stage.machine.alive().len()), (1, 1), "{point}: {told:?}");
    assert_eq!(now == old, restarts.is_empty(), "{point}: {told:?}");
    let started = stage.machine.started().len();
    assert!(
        started <= 2,
        "{point}: restarted twice, {started} sandboxes were started"
    );
    assert_eq!(stage.app.view.borrow().pools.len(), 1, "{point}");
    let installed = stage.control.world.routing.now().installed(&AppName::from_text("shop"));
    assert_eq!(installed, 1 + restarts.len() as u64, "{point}");
    died
}

#[tokio::test(start_paused = true)]
async fn g15_control_killed_at_any_write_of_a_restart_restarts_once_or_not_at_all() {
    let mut points = 0;
    while dies_at(points).await {
        points += 1;
        assert!(points < 200, "a restart has no end of writes");
    }
    assert!(points >= 10, "only {points} moments: is the restart written at all?");
}
