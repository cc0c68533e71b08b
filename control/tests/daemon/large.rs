//! Work that is more than one transaction of the store: it is done in several, and a death between any two of them is survived.

use crate::node::fixed;
use crate::stage::{Stage, pass};
use miren_api::deploy::{Deploy, DeployRequest};
use miren_api::ephemeral::EphemeralRequest;
use miren_api::id::{AppName, DeployId, SandboxId, VersionId};
use miren_api::{ApiError, ErrorCode};
use miren_control::app::Command;
use miren_control::ledger::Ledger;
use miren_control::policy::{Policy, Retention};
use miren_control::record::{BY_APP, DeployRecord, PoolRecord, SandboxRecord, VersionRecord, size};
use miren_control::store::{Kind, Selection, Store, WRITES_MAX};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// More than three transactions of records of each kind.
const MANY: usize = WRITES_MAX * 3 + 10;
/// Every kind of which an app has records.
const OF_APPS: [Kind; 5] = [Kind::App, Kind::Version, Kind::Deploy, Kind::Pool, Kind::Sandbox];

/// An app with a long past: as many versions and ended deploys as a year of them leaves.
async fn with_past(policy: Policy) -> Stage {
    let stage = Stage::with(policy.clone()).await;
    stage.deploy("./one").await;
    let mut ledger = Ledger::new(Arc::clone(&stage.records) as Arc<dyn Store>);
    let version = ledger.load::<VersionRecord>(Selection::All).await.unwrap().remove(0);
    let deploy = ledger.load::<DeployRecord>(Selection::All).await.unwrap().remove(0);
    for number in 0..MANY {
        let mut version = version.clone();
        version.id = VersionId::from_text(format!("shop-v{number:04}"));
        let mut deploy = deploy.clone();
        deploy.deploy.id = DeployId::from_text(format!("dep-{number:04}"));
        deploy.deploy.version = Some(version.id.clone());
        ledger.put(&version);
        ledger.put(&deploy);
    }
    ledger.flush().await.unwrap();
    stage.killed_and(policy).await
}

async fn count(stage: &Stage) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for kind in OF_APPS {
        counts.insert(kind.as_str(), stage.bodies(&[kind]).await.len());
    }
    counts
}

/// What refers to something that is not there.
async fn orphans(stage: &Stage) -> Vec<String> {
    let app = || Selection::Index(BY_APP, "shop".into());
    let mut ledger = Ledger::new(Arc::clone(&stage.records) as Arc<dyn Store>);
    let versions: Vec<VersionRecord> = ledger.load(app()).await.unwrap();
    let pools: Vec<PoolRecord> = ledger.load(app()).await.unwrap();
    let sandboxes: Vec<SandboxRecord> = ledger.load(app()).await.unwrap();
    let exists = !stage.bodies(&[Kind::App]).await.is_empty();
    let known: BTreeSet<String> = pools.iter().map(|pool| pool.id.to_string()).collect();
    let mut orphans: Vec<String> = Vec::new();
    orphans.extend(
        versions
            .iter()
            .filter(|_| !exists)
            .map(|version| version.id.to_string()),
    );
    let lost = |sandbox: &&SandboxRecord| !known.contains(sandbox.pool.as_str()) && sandbox.ended_at.is_none();
    orphans.extend(sandboxes.iter().filter(lost).map(|sandbox| sandbox.id.to_string()));
    orphans
}

async fn delete(stage: &Stage) {
    let (reply, answer) = oneshot::channel();
    let command = Command::Delete {
        keep_disks: false,
        reply,
    };
    stage.app.commands.send(command).await.ok().unwrap();
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn an_app_with_more_records_than_a_transaction_takes_is_deleted_whenever_control_dies_in_it() {
    let mut moments = 0;
    for moment in 0.. {
        let stage = with_past(Policy::default()).await;
        assert!(count(&stage).await["deploy"] > MANY);
        stage.faults.kill_at(moment);
        delete(&stage).await;
        let died = tokio::time::timeout(Duration::from_secs(120), stage.faults.died()).await;
        assert_eq!(orphans(&stage).await, [""; 0], "moment {moment}");
        let stage = stage.killed().await;
        if moment == 0 {
            // Nothing was noted: it is to be asked again.
            delete(&stage).await;
        }
        pass(120).await;
        let left = count(&stage).await;
        assert!(left.values().all(|count| *count == 0), "moment {moment}: {left:?}");
        assert!(stage.running().is_empty());
        moments = moment;
        if died.is_err() {
            break;
        }
    }
    assert!(moments > 16, "only {moments} moments");
}

#[tokio::test(start_paused = true)]
async fn more_versions_than_a_transaction_takes_go_at_once() {
    let retention = Retention {
        versions: 5,
        age: Duration::ZERO,
    };
    let stage = with_past(Policy {
        retention,
        ..Policy::default()
    })
    .await;
    stage.control.apps.collect();
    pass(5).await;
    let left = count(&stage).await;
    assert!(left["deploy"] <= 6 && left["version"] <= 6, "{left:?}");
    assert_eq!(stage.running(), ["./one"]);
    stage.deploy("./two").await;
}

async fn ask(stage: &Stage, request: DeployRequest) -> Result<Deploy, ApiError> {
    let (reply, answer) = oneshot::channel();
    let key = None;
    let command = Command::Deploy {
        order: request.into(),
        key,
        reply,
    };
    stage.app.commands.send(command).await.ok().unwrap();
    answer.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn more_sandboxes_than_a_transaction_takes_start_once_whenever_control_dies_meanwhile() {
    let count = u32::try_from(WRITES_MAX + 20).unwrap();
    let expected = vec!["./many".to_owned(); WRITES_MAX + 20];
    let mut moment = 0;
    loop {
        let stage = Stage::start().await;
        let artifact = Some(stage.artifact(&fixed("./many", count)));
        let request = DeployRequest {
            artifact,
            ..DeployRequest::default()
        };
        // From the second write on: once it is accepted.
        stage.faults.kill_at(moment + 2);
        ask(&stage, request).await.unwrap();
        let died = tokio::time::timeout(Duration::from_secs(60), stage.faults.died()).await;
        let stage = stage.killed().await;
        pass(120).await;
        assert_eq!(stage.running(), expected, "moment {moment}");
        let started: Vec<SandboxId> = stage.machine.started();
        let distinct: BTreeSet<&SandboxId> = started.iter().collect();
        assert_eq!(distinct.len(), started.len(), "moment {moment}: started twice");
        assert_eq!(orphans(&stage).await, [""; 0], "moment {moment}");
        if died.is_err() {
            break;
        }
        moment += 3;
    }
    assert!(moment > 10, "only {moment} moments");
}

fn variables(count: usize, bytes: usize) -> BTreeMap<String, Option<String>> {
    let variable = |number| (format!("V{number}"), Some("x".repeat(bytes)));
    (0..count).map(variable).collect()
}

#[tokio::test(start_paused = true)]
async fn what_no_record_could_keep_is_refused_when_it_is_asked_for_and_the_app_goes_on() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let before = *stage.records.revision().borrow();
    let large = variables(32, 64_000);
    let name = AppName::from_text("shop");
    let request = DeployRequest {
        env: large.clone(),
        ..DeployRequest::default()
    };
    let refused = ask(&stage, request).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooLarge, "{refused:?}");
    assert!(refused.message.contains(&size::ASKED_MAX.to_string()), "{refused:?}");
    let preview = EphemeralRequest {
        env: large,
        ..stage.request(&crate::node::web("./look"))
    };
    let refused = stage.order("look", 600, preview).await.await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooLarge, "{refused:?}");
    // They add up: what is kept of earlier deploys counts.
    let mut sets = 0;
    let refused = loop {
        let env = (0..4).map(|number| (format!("S{sets}_{number}"), Some("x".repeat(60_000))));
        let request = DeployRequest {
            env: env.collect(),
            ..DeployRequest::default()
        };
        match ask(&stage, request).await {
            Ok(_) => sets += 1,
            Err(refused) => break refused,
        }
        pass(60).await;
    };
    assert_eq!(refused.code, ErrorCode::TooLarge, "{refused:?}");
    assert!(sets >= 1, "none was taken");
    assert!(*stage.records.revision().borrow() > before);
    let version = stage.deploy("./two").await;
    assert_eq!(stage.running(), ["./two"]);
    let routed = stage.control.world.routing.now();
    assert_eq!(routed.active(&name), Some(&version));
}
