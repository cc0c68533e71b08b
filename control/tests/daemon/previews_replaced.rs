//! Previews that take the place of others: by their label, or because an app has only so many; whole, or not at all.

use crate::node::web;
use crate::stage::{Stage, pass};
use miren_api::ErrorCode;
use miren_control::store::Kind;

const DAY: u64 = 86_400;

#[tokio::test(start_paused = true)]
async fn e6_a_label_serves_the_old_one_until_the_new_one_runs() {
    let stage = Stage::start().await;
    let old = stage.served("pr1", DAY, "./old").await;
    stage.machine.hold("./new");
    let answer = stage.order("pr1", DAY, stage.request(&web("./new"))).await;
    pass(10).await;
    assert_eq!(stage.label("pr1").unwrap().version, old.version);
    assert_eq!(stage.served_by(&old.version).await, "./old");
    stage.machine.release("./new");
    let new = answer.await.unwrap().unwrap();
    assert_eq!(new.replaced, Some(old.version));
    assert_eq!(stage.label("pr1").unwrap().version, new.ephemeral.version);
    pass(60).await;
    assert_eq!(stage.running(), ["./new"]);
    assert_eq!(stage.versions().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn e6_one_that_does_not_start_takes_nobodys_place_and_leaves_nothing() {
    let stage = Stage::start().await;
    let old = stage.served("pr1", DAY, "./old").await;
    stage.machine.fail("./new", "exit: 1");
    let error = stage.try_preview("pr1", DAY, &web("./new")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::BootFailed);
    assert!(error.message.contains("exit: 1"), "{error}");
    assert_eq!(stage.label("pr1").unwrap().version, old.version);
    pass(60).await;
    assert_eq!(
        (stage.running(), stage.versions().await.len()),
        (vec!["./old".to_owned()], 1)
    );
    assert_eq!(stage.preview_pools().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn e6_the_newer_of_two_for_one_label_wins() {
    let stage = Stage::start().await;
    stage.served("pr1", DAY, "./old").await;
    stage.machine.hold("./slow");
    let slow = stage.order("pr1", DAY, stage.request(&web("./slow"))).await;
    pass(1).await;
    let new = stage.try_preview("pr1", DAY, &web("./new")).await.unwrap();
    assert_eq!(slow.await.unwrap().unwrap_err().code, ErrorCode::Superseded);
    stage.machine.release("./slow");
    pass(60).await;
    assert_eq!(stage.label("pr1").unwrap().version, new.ephemeral.version);
    assert_eq!(
        (stage.running(), stage.versions().await.len()),
        (vec!["./new".to_owned()], 1)
    );
}

#[tokio::test(start_paused = true)]
async fn e6_who_asks_again_with_the_same_key_waits_for_the_one_that_is_being_made() {
    let stage = Stage::start().await;
    stage.served("pr1", DAY, "./old").await;
    stage.machine.hold("./new");
    let ask = |command| {
        let request = stage.request(&web(command));
        stage.order_with(Some("key"), "pr1", DAY, request)
    };
    let first = ask("./new").await;
    drop(ask("./new").await);
    let again = ask("./new").await;
    let other = ask("./other").await.await.unwrap().unwrap_err();
    assert_eq!(other.code, ErrorCode::Conflict);
    assert_eq!(
        stage.versions().await.len(),
        2,
        "the one that serves, and one that is being made"
    );
    stage.machine.release("./new");
    let made = first.await.unwrap().unwrap();
    assert_eq!(again.await.unwrap().unwrap(), made);
    assert_eq!(stage.label("pr1").unwrap().version, made.ephemeral.version);
    pass(60).await;
    assert_eq!(stage.running(), ["./new"]);
    let late = ask("./new").await.await.unwrap().unwrap();
    assert_eq!(late, made, "whenever it is asked again");
}

#[tokio::test(start_paused = true)]
async fn e6_the_eleventh_takes_the_place_of_the_one_that_expires_first() {
    let stage = Stage::start().await;
    for number in 0..10 {
        stage.preview(&format!("pr{number}"), DAY - number, "./two").await;
    }
    let more = stage.try_preview("more", DAY, &web("./two")).await.unwrap();
    assert_eq!(
        more.evicted.iter().map(|label| label.as_str()).collect::<Vec<_>>(),
        ["pr9"]
    );
    pass(10).await;
    assert_eq!((stage.label("pr9"), stage.versions().await.len()), (None, 10));
    let again = stage.try_preview("pr3", DAY, &web("./three")).await.unwrap();
    assert!(again.evicted.is_empty(), "one with its own label is no further one");
}

#[tokio::test(start_paused = true)]
async fn e14_e6_what_cannot_be_saved_fails_and_changes_nothing() {
    let stage = Stage::start().await;
    for number in 0..10 {
        stage.preview(&format!("pr{number}"), DAY - number, "./two").await;
    }
    let before = stage.bodies(&[Kind::Label]).await;
    for kind in [Kind::Version, Kind::Label] {
        for label in ["pr1", "more"] {
            stage.faults.fail(kind);
            let error = stage.try_preview(label, DAY, &web("./three")).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::Internal, "{kind:?} {label}: {error}");
            stage.faults.fail(None);
            pass(60).await;
            assert_eq!(stage.bodies(&[Kind::Label]).await, before, "{kind:?} {label}");
            assert_eq!(
                stage.versions().await.len(),
                10,
                "{kind:?} {label}: what was half made is gone"
            );
        }
    }
    assert!(stage.try_preview("more", DAY, &web("./three")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn e14_what_was_announced_is_not_said_to_have_failed() {
    let stage = Stage::start().await;
    let old = stage.served("pr1", DAY, "./old").await;
    stage.machine.hold("./new");
    let answer = stage.order("pr1", DAY, stage.request(&web("./new"))).await;
    pass(1).await;
    // That it runs cannot be saved; that it has the label can.
    stage.faults.fail(Kind::Sandbox);
    stage.machine.release("./new");
    pass(10).await;
    assert_ne!(stage.label("pr1").unwrap().version, old.version);
    stage.faults.fail(None);
    let new = answer.await.unwrap().unwrap();
    assert_eq!(stage.label("pr1").unwrap().version, new.ephemeral.version);
}
