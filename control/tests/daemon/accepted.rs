//! What is settled when a deploy is accepted: its folder is not read again, and what a node is told to start names no place.

use crate::node::web;
use crate::stage::{Stage, pass};
use miren_api::deploy::{DeployRequest, DeployStatus};
use miren_api::id::{AppName, DeployId};
use miren_control::app::{Command, DeployOrder, spec};
use miren_control::executor::ArtifactDigest;
use miren_control::ledger;
use miren_control::record::{DeployRecord, PoolRecord, SandboxRecord};
use miren_control::store::{Content, Expect, Key, Kind, Selection, Store, Write};
use std::path::PathBuf;
use tokio::sync::oneshot;

/// A deploy that is accepted, and control dead before anything else of it was kept.
async fn accepted() -> (Stage, DeployId, String) {
    let stage = Stage::start().await;
    let digest = stage.artifact(&web("./one"));
    let request = DeployRequest {
        artifact: Some(digest.clone()),
        env: [("COLOR".to_owned(), Some("red".to_owned()))].into(),
        ..DeployRequest::default()
    };
    stage.faults.kill_at(2);
    let (reply, answer) = oneshot::channel();
    let key = None;
    let deploy = Command::Deploy {
        order: request.into(),
        key,
        reply,
    };
    stage.app.commands.send(deploy).await.ok().unwrap();
    let deploy = answer.await.unwrap().unwrap();
    stage.faults.died().await;
    (stage, deploy.id, digest)
}

/// Who looked through the folder before it asked hands over what it read.
#[tokio::test(start_paused = true)]
async fn a_folder_that_was_read_for_the_answer_is_not_read_again() {
    let stage = Stage::start().await;
    let digest = stage.artifact(&web("./one"));
    let folder = folder(&stage, &digest);
    let read = spec::read(Some(&folder), None).unwrap();
    std::fs::remove_file(folder.join(".miren/app.toml")).unwrap();
    let request = DeployRequest {
        artifact: Some(digest),
        ..DeployRequest::default()
    };
    let order = DeployOrder {
        request,
        read: Some(Box::new(read)),
        restart: false,
    };
    let (reply, answer) = oneshot::channel();
    let key = None;
    let deploy = Command::Deploy { order, key, reply };
    stage.app.commands.send(deploy).await.ok().unwrap();
    let deploy = answer.await.unwrap().unwrap();
    pass(60).await;
    assert_eq!(record(&stage, &deploy.id).await.deploy.status, DeployStatus::Succeeded);
    assert_eq!(stage.running(), ["./one"]);
}

fn folder(stage: &Stage, digest: &str) -> PathBuf {
    let folders = stage.control.artifacts.folder();
    folders.join(digest.strip_prefix("sha256:").unwrap())
}

async fn record(stage: &Stage, id: &DeployId) -> DeployRecord {
    ledger::find(&*stage.records, id.as_str()).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_deploy_goes_on_by_what_was_read_when_it_was_accepted() {
    let (stage, id, digest) = accepted().await;
    let settings = record(&stage, &id).await.source().settings.expect("kept with it");
    assert_eq!(settings.services["web"].command, "./one");
    assert!(
        settings.services["web"].env.is_empty(),
        "variables lie over it when it is used"
    );
    std::fs::remove_file(folder(&stage, &digest).join(".miren/app.toml")).unwrap();
    let stage = stage.killed().await;
    pass(60).await;
    let ended = record(&stage, &id).await;
    assert_eq!(ended.deploy.status, DeployStatus::Succeeded, "{ended:?}");
    assert_eq!(stage.running(), ["./one"]);
    let pools: Vec<PoolRecord> = ledger::list(&*stage.records, Selection::All).await.unwrap();
    assert_eq!(pools[0].spec.env["COLOR"], "red");
    assert_eq!(ended.source().settings, None, "nobody needs it any more");
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_an_earlier_release_accepted_has_its_folder_read_when_it_is_needed() {
    let (stage, id, _) = accepted().await;
    let key = Key::new(Kind::Deploy, id.as_str());
    let found = stage.records.get(&key).await.unwrap().unwrap();
    let mut body: serde_json::Value = serde_json::from_str(&found.body).unwrap();
    let removed = body["source"].as_object_mut().unwrap().remove("settings");
    assert!(removed.is_some());
    let earlier = Write {
        key,
        expect: Expect::Revision(found.revision),
        content: Some(Content {
            body: body.to_string(),
            indexes: vec![("app", "shop".into())],
        }),
    };
    stage.records.commit(vec![earlier]).await.unwrap();
    let stage = stage.killed().await;
    pass(60).await;
    assert_eq!(record(&stage, &id).await.deploy.status, DeployStatus::Succeeded);
    assert_eq!(stage.running(), ["./one"]);
}

#[tokio::test(start_paused = true)]
async fn an_order_names_its_folder_by_digest_and_no_place_on_a_machine() {
    let stage = Stage::start().await;
    let digest = stage.artifact(&web("./one"));
    stage.deploy("./one").await;
    let pools: Vec<PoolRecord> = ledger::list(&*stage.records, Selection::All).await.unwrap();
    let sandboxes: Vec<SandboxRecord> = ledger::list(&*stage.records, Selection::All).await.unwrap();
    let order = spec::order(&pools[0], &sandboxes[0]);
    assert_eq!(order.app, AppName::from_text("shop"));
    assert_eq!(order.app_files, Some(ArtifactDigest(digest)));
    let folder = stage.control.artifacts.folder().display().to_string();
    assert!(!format!("{order:?}").contains(&folder));
}
