//! The task of an app waits for nothing but its store: whatever hangs outside, what is asked of it is answered at once.

use crate::node::web;
use crate::stage::{Stage, pass};
use miren_api::ErrorCode;
use miren_api::deploy::DeployRequest;
use miren_api::deploy::DeployStatus;
use miren_api::id::SandboxId;
use miren_control::app::Command;
use miren_control::ledger;
use miren_control::record::DeployRecord;
use std::time::Duration;
use tokio::sync::oneshot;

/// Asks the app for something that it can answer from what it knows; how long that took, by the paused clock.
async fn answered_in(stage: &Stage) -> Duration {
    let asked = tokio::time::Instant::now();
    let (reply, answer) = oneshot::channel();
    let id = SandboxId::from_text("sb-nobody");
    let command = Command::StopSandbox { id, reply };
    stage.app.commands.send(command).await.ok().unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(600), answer).await;
    let answer = answer.expect("it waits for what hangs").unwrap();
    assert_eq!(answer.unwrap_err().code, ErrorCode::NotFound);
    asked.elapsed()
}

/// Asks for the app to be deleted.
async fn delete(stage: &Stage) -> oneshot::Receiver<Result<miren_api::resource::App, miren_api::ApiError>> {
    let (reply, answer) = oneshot::channel();
    let delete = Command::Delete {
        keep_disks: false,
        reply,
    };
    stage.app.commands.send(delete).await.ok().unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn an_app_is_answered_while_its_disks_do_not_go() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    *stage.machine.disks.hangs.lock().unwrap() = true;
    delete(&stage).await.await.unwrap().unwrap();
    // Within the time in which the removal of disks hangs for the first time.
    pass(1).await;
    assert!(stage.machine.alive().is_empty(), "its sandboxes have ended");
    assert_eq!(answered_in(&stage).await, Duration::ZERO);
    *stage.machine.disks.hangs.lock().unwrap() = false;
    pass(10).await;
    assert!(!stage.app.view.borrow().exists, "it goes in the end");
}

#[tokio::test(start_paused = true)]
async fn an_app_is_answered_while_a_proxy_does_not_acknowledge_its_deletion() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let _silent = stage.control.world.desk.connect("p1").unwrap();
    let deleted = delete(&stage).await;
    assert_eq!(answered_in(&stage).await, Duration::ZERO);
    assert_eq!(
        stage.running(),
        ["./one"],
        "requests may come until every live proxy knows"
    );
    deleted.await.unwrap().unwrap();
    pass(10).await;
    assert!(stage.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_app_is_answered_while_the_log_of_a_sandbox_that_failed_is_read() {
    let stage = Stage::start().await;
    *stage.machine.logs_hang.lock().unwrap() = true;
    stage.machine.hold("./stuck");
    let request = DeployRequest {
        artifact: Some(stage.artifact(&web("./stuck"))),
        ..DeployRequest::default()
    };
    let asked = stage.accepted(request).await;
    // Its time is over in the middle of a second: until then each second is asked in vain.
    let mut ended = None;
    for _ in 0..200 {
        pass(1).await;
        assert_eq!(answered_in(&stage).await, Duration::ZERO);
        let record: Option<DeployRecord> = ledger::find(&*stage.control.world.store, asked.id.as_str())
            .await
            .unwrap();
        ended = record
            .map(|record| record.deploy)
            .filter(|deploy| deploy.status.is_final());
        if ended.is_some() {
            break;
        }
    }
    let ended = ended.expect("it ends although the log cannot be read");
    assert_eq!(ended.status, DeployStatus::Failed);
}
