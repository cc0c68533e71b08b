//! Apps that are deleted and made anew at once: a name is free when its deletion was answered.

use crate::clocks::{HOUR, set};
use crate::firsts::Shops;
use crate::stage::pass;
use miren_api::deploy::{Deploy, DeployStatus};
use miren_api::id::AppName;
use miren_api::resource::SandboxState;
use miren_api::{ApiError, ErrorCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f10b_a_name_is_free_when_its_deletion_was_answered_two_hundred_times() {
    let shops = Arc::new(Shops::open().await);
    let (name, artifact) = (AppName::from_text("shop"), shops.artifact("./one"));
    let first = shops.deploy(&name, &artifact).await.unwrap();
    shops.ended(&first).await;
    for round in 0..200 {
        shops.delete(&name).await.unwrap();
        let deploy = match round % 2 {
            0 => shops.deploy(&name, &artifact).await,
            _ => {
                let made = shops.preview(&name, "look", &artifact).await;
                made.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
                shops.deploy(&name, &artifact).await
            }
        };
        let deploy = deploy.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_eq!(deploy.seq, 1, "round {round}: another app of that name");
        let ended = shops.ended(&deploy).await;
        assert_eq!(ended.status, DeployStatus::Succeeded, "round {round}: {ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f10b_what_comes_while_an_app_drains_is_done_in_order_when_it_is_gone() {
    let shops = Arc::new(Shops::open().await);
    let (name, artifact) = (AppName::from_text("shop"), shops.artifact("./one"));
    let first = shops.deploy(&name, &artifact).await.unwrap();
    shops.ended(&first).await;
    shops.machine.hold("./one");
    shops.delete(&name).await.unwrap();
    let alone = shops.set_variable(&name).await.unwrap_err();
    assert_eq!(alone.code, ErrorCode::Conflict, "nothing would make the app: {alone:?}");
    let next = shops.artifact("./two");
    let deploying = {
        let (shops, name) = (Arc::clone(&shops), name.clone());
        tokio::spawn(async move { shops.deploy(&name, &next).await })
    };
    pass(1).await;
    let setting = {
        let (shops, name) = (Arc::clone(&shops), name.clone());
        tokio::spawn(async move { shops.set_variable(&name).await })
    };
    pass(5).await;
    assert!(
        !deploying.is_finished() && !setting.is_finished(),
        "its sandbox has not ended"
    );
    shops.machine.release("./one");
    let (deploy, set) = (deploying.await.unwrap().unwrap(), setting.await.unwrap().unwrap());
    assert_eq!((deploy.seq, set.seq), (1, 2));
    assert_eq!(shops.ended(&set).await.status, DeployStatus::Succeeded);
    let running = shops.machine.of_app("shop", SandboxState::Running);
    let of_variable = |id| shops.machine.environment(id).get("COLOUR").cloned();
    assert_eq!(running.iter().filter_map(of_variable).collect::<Vec<_>>(), ["red"]);
}

/// An app that was deleted and whose sandbox does not end; its name, and what it ran.
async fn going() -> (Arc<Shops>, AppName, String) {
    let shops = Arc::new(Shops::open().await);
    let (name, artifact) = (AppName::from_text("shop"), shops.artifact("./one"));
    let first = shops.deploy(&name, &artifact).await.unwrap();
    shops.ended(&first).await;
    shops.machine.hold("./one");
    shops.delete(&name).await.unwrap();
    (shops, name, artifact)
}

/// A deploy that waits for the app to be gone.
async fn asked(shops: &Arc<Shops>, name: &AppName, artifact: String) -> JoinHandle<Result<Deploy, ApiError>> {
    let (shops, name) = (Arc::clone(shops), name.clone());
    let waiting = tokio::spawn(async move { shops.deploy(&name, &artifact).await });
    pass(1).await;
    waiting
}

#[tokio::test(start_paused = true)]
async fn f10b_the_wait_for_an_app_that_does_not_end_is_over_in_time_and_says_what_is_left() {
    let (shops, name, artifact) = going().await;
    let begun = tokio::time::Instant::now();
    let refused = shops.deploy(&name, &artifact).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("1 of its sandboxes"), "{refused:?}");
    // Drain 30 s, 2 s in which proxies say that they have, stop 10 s, and 30 s more.
    let waited = begun.elapsed();
    assert!((72..74).contains(&waited.as_secs()), "{waited:?}");
    shops.machine.release("./one");
    let deploy = shops.deploy(&name, &artifact).await.unwrap();
    assert_eq!(shops.ended(&deploy).await.status, DeployStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn f8_f10b_a_clock_that_is_set_ends_no_wait_for_an_app_early() {
    let (shops, name, artifact) = going().await;
    let waiting = asked(&shops, &name, artifact).await;
    set(&shops.control, HOUR);
    pass(5).await;
    assert!(!waiting.is_finished(), "an hour has not passed");
    shops.machine.release("./one");
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn f10b_what_waits_for_an_app_is_told_that_control_stops() {
    let (shops, name, artifact) = going().await;
    let waiting = asked(&shops, &name, artifact).await;
    let begun = tokio::time::Instant::now();
    shops.control.apps.close().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().code, ErrorCode::Draining);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "every task has ended: {:?}",
        begun.elapsed()
    );
    let late = shops.deploy(&name, "sha256:none").await.unwrap_err();
    assert_eq!(late.code, ErrorCode::Draining, "{late:?}");
}
