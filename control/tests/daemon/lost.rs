//! Writes whose answers are lost, at every moment of an app's life, and stores that are not control's any more.

use crate::stage::{Stage, pass};
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::id::{AppName, Label};
use miren_api::{ApiError, ErrorCode};
use miren_control::app::Command;
use miren_control::ledger::{self, Ledger};
use miren_control::record::{AppRecord, DeployRecord};
use miren_control::store::{Selection, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// What an app lives through. A write that was not made may be told, and then the step is done again.
async fn live(stage: &Stage, may_fail: bool) {
    let name = AppName::from_text("shop");
    for command in ["./one", "./two"] {
        let deploy = until_done(may_fail, async || asked(stage, &name, command).await).await;
        let ended = ended(stage, &deploy).await;
        assert!(ended.status == DeployStatus::Succeeded || may_fail, "{ended:?}");
    }
    until_done(may_fail, async || {
        stage.try_preview("look", 600, &crate::node::web("./three")).await
    })
    .await;
    let label = Label::parse("look").unwrap();
    until_done(may_fail, async || {
        let unlabel = |reply| Command::Unlabel {
            label: label.clone(),
            reply,
        };
        stage.control.apps.ask(&name, unlabel).await
    })
    .await;
    let deploy = until_done(may_fail, async || asked(stage, &name, "./four").await).await;
    ended(stage, &deploy).await;
    let last = until_done(may_fail, async || asked(stage, &name, "./five").await).await;
    let last = ended(stage, &last).await;
    assert!(
        last.status == DeployStatus::Succeeded || stage.faults.loses() || may_fail,
        "{last:?}"
    );
}

async fn asked(stage: &Stage, name: &AppName, command: &str) -> Result<Deploy, ApiError> {
    let request = DeployRequest {
        artifact: Some(stage.artifact(&crate::node::web(command))),
        ..DeployRequest::default()
    };
    let key = None;
    let deploy = |reply| Command::Deploy {
        order: request.into(),
        key,
        reply,
    };
    stage.control.apps.ask(name, deploy).await
}

/// Once more after a failure that says that nothing was written.
async fn until_done<T: std::fmt::Debug>(may_fail: bool, step: impl AsyncFn() -> Result<T, ApiError>) -> T {
    match step().await {
        Ok(done) => done,
        Err(error) if may_fail && error.code == ErrorCode::Internal => step().await.unwrap(),
        Err(error) => panic!("{error:?}"),
    }
}

async fn ended(stage: &Stage, deploy: &Deploy) -> Deploy {
    for _ in 0..600 {
        let store = &*stage.control.world.store;
        let record: Option<DeployRecord> = ledger::find(store, deploy.id.as_str()).await.unwrap_or_default();
        match record {
            Some(record) if record.deploy.status.is_final() => return record.deploy,
            _ => pass(1).await,
        }
    }
    panic!("{deploy:?} does not end");
}

/// Loses the answer to each write in turn; returns how many there were.
async fn walk(is_made: bool) -> usize {
    for moment in 0.. {
        let stage = Stage::start().await;
        stage.faults.lose(moment, is_made);
        live(&stage, !is_made).await;
        let lost = !stage.faults.loses();
        stage.faults.lose(usize::MAX, false);
        let name = AppName::from_text("shop");
        let later = asked(&stage, &name, "./last").await.unwrap();
        let later = ended(&stage, &later).await;
        assert_eq!(
            later.status,
            DeployStatus::Succeeded,
            "after moment {moment}: {later:?}"
        );
        pass(2).await;
        assert_eq!(stage.running(), ["./last"], "after moment {moment}");
        let fatal = tokio::time::timeout(Duration::from_secs(1), stage.control.world.fatal.ended()).await;
        assert!(fatal.is_err(), "moment {moment}: {fatal:?}");
        if !lost {
            return moment;
        }
    }
    0
}

#[tokio::test(start_paused = true)]
async fn f6_a_write_that_was_made_and_not_answered_is_found_by_reading_at_each_of_them() {
    let moments = walk(true).await;
    assert!(moments > 20, "only {moments} writes");
}

#[tokio::test(start_paused = true)]
async fn f6_a_write_that_was_not_made_and_not_answered_is_made_again_at_each_of_them() {
    let moments = walk(false).await;
    assert!(moments > 20, "only {moments} writes");
}

#[tokio::test(start_paused = true)]
async fn f6_a_record_that_somebody_else_writes_ends_the_process() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    let world = &stage.control.world;
    let mut other = Ledger::new(Arc::clone(&world.store));
    let mut apps: Vec<AppRecord> = other.load(Selection::All).await.unwrap();
    apps[0].next_seq = 77;
    other.put(&apps[0]);
    other.flush().await.unwrap();
    let refused = asked(&stage, &AppName::from_text("shop"), "./two").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Internal, "{refused:?}");
    let why = tokio::time::timeout(Duration::from_secs(1), world.fatal.ended())
        .await
        .unwrap();
    assert!(why.contains("app shop was written by somebody else"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn f6_a_store_that_is_anothers_or_nobodys_ends_the_process() {
    let gone = [
        (
            StoreError::Fenced { current: 3, own: 2 },
            "another miren-control has taken over",
        ),
        (
            StoreError::Closed {
                doing: "writing records",
            },
            "the thread of the store has ended",
        ),
    ];
    for (refusal, expected) in gone {
        let stage = Stage::start().await;
        stage.deploy("./one").await;
        stage.faults.refuse(refusal);
        let refused = asked(&stage, &AppName::from_text("shop"), "./two").await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Internal, "{refused:?}");
        let fatal = &stage.control.world.fatal;
        let why = tokio::time::timeout(Duration::from_secs(1), fatal.ended())
            .await
            .unwrap();
        assert!(why.contains(expected), "{why}");
    }
}
