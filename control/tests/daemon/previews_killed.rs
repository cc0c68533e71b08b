//! `kill -9` of control at every write of a preview's life: made, replaced, opened, over. What is left is a preview or nothing.

use crate::node::{fixed, web};
use crate::stage::{Stage, pass};
use miren_api::id::VersionId;
use miren_control::store::Kind;

/// What is done while control dies.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Make,
    Replace,
    Open,
    Expire,
    Delete,
}

async fn doing(stage: &Stage, deed: Deed, preview: Option<&VersionId>) {
    match (deed, preview) {
        (Deed::Make | Deed::Replace, _) => {
            let request = stage.request(&web("./new"));
            drop(stage.order("pr1", 3600, request).await.await);
        }
        (Deed::Open, Some(version)) => drop(stage.acquire(version).await),
        (Deed::Delete, _) => {
            let (reply, answer) = tokio::sync::oneshot::channel();
            let label = miren_api::Label::from_text("pr1");
            let unlabel = miren_control::app::Command::Unlabel { label, reply };
            drop(stage.app.commands.send(unlabel).await);
            drop(answer.await);
            pass(120).await;
        }
        _ => pass(3700).await,
    }
}

/// Kills control at one of the writes; false if there are fewer.
async fn dies_at(point: i64, deed: Deed) -> bool {
    let stage = Stage::start().await;
    let request = miren_api::deploy::DeployRequest {
        artifact: Some(stage.artifact(&fixed("./one", 1))),
        ..Default::default()
    };
    stage.deployed(request).await;
    let own = [Kind::Active, Kind::Deploy];
    let before = stage.bodies(&own).await;
    let old = match deed {
        Deed::Make => None,
        _ => Some(stage.preview("pr1", 3600, "./old").await.version),
    };
    if let (Deed::Replace | Deed::Expire | Deed::Delete, Some(old)) = (deed, &old) {
        stage.acquire(old).await.unwrap();
    }
    stage.faults.kill_at(point);
    let died = tokio::select! {
        biased;
        () = stage.faults.died() => true,
        () = doing(&stage, deed, old.as_ref()) => false,
    };
    let stage = stage.killed().await;
    pass(60).await;

    assert_eq!(
        stage.bodies(&own).await,
        before,
        "{deed:?} {point}: what serves is touched"
    );
    let label = stage.label("pr1");
    let made: Vec<_> = stage
        .versions()
        .await
        .into_iter()
        .filter(|version| version.preview.is_some())
        .collect();
    let ids: Vec<&VersionId> = made.iter().map(|version| &version.id).collect();
    assert_eq!(
        ids,
        label.iter().map(|label| &label.version).collect::<Vec<_>>(),
        "{deed:?} {point}"
    );
    if let Some(label) = &label {
        let command = stage.served_by(&label.version).await;
        let is_old = old.as_ref() == Some(&label.version);
        assert_eq!(command, if is_old { "./old" } else { "./new" }, "{deed:?} {point}");
    }
    assert_eq!(stage.preview_pools().len(), made.len(), "{deed:?} {point}");
    assert_eq!(
        stage.running().len(),
        1 + made.len(),
        "{deed:?} {point}: {:?}",
        stage.running()
    );
    let last = stage.running().pop();
    assert_eq!(last.as_deref(), Some("./one"), "{deed:?} {point}: the app runs on");

    let next = stage.preview("pr1", 3600, "./next").await;
    assert_eq!(stage.served_by(&next.version).await, "./next", "{deed:?} {point}");
    died
}

async fn dies_everywhere(deed: Deed) {
    let mut point = 0;
    while dies_at(point, deed).await {
        point += 1;
        assert!(point < 100, "{deed:?} has no end of writes");
    }
    assert!(point > 0, "{deed:?} writes nothing");
}

#[tokio::test(start_paused = true)]
async fn e9_control_killed_while_a_preview_is_made_leaves_it_or_nothing() {
    dies_everywhere(Deed::Make).await;
}

#[tokio::test(start_paused = true)]
async fn e6_control_killed_while_a_preview_is_replaced_leaves_the_old_or_the_new_one() {
    dies_everywhere(Deed::Replace).await;
}

#[tokio::test(start_paused = true)]
async fn e11_control_killed_while_a_preview_is_opened_leaves_one_pool_at_most() {
    dies_everywhere(Deed::Open).await;
}

#[tokio::test(start_paused = true)]
async fn e9_the_collector_killed_at_any_write_goes_on_where_it_was() {
    dies_everywhere(Deed::Expire).await;
}

#[tokio::test(start_paused = true)]
async fn e9_control_killed_while_a_preview_is_deleted_goes_on_with_it() {
    dies_everywhere(Deed::Delete).await;
}
