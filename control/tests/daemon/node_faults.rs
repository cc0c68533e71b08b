//! Faults of the node: what they stop goes on when they are over, and no app is blamed for them.

use crate::clocks::{HOUR, set};
use crate::node::fixed;
use crate::stage::{Stage, pass};
use miren_api::ErrorCode;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::id::AppName;
use miren_api::lease::ACQUIRE_WAIT_MAX;
use miren_api::resource::{NodeFault, Pool, PoolState, SandboxState};
use miren_control::app::Command;
use miren_control::ledger;
use miren_control::record::{DeployRecord, SandboxRecord};
use miren_control::store::Selection;

const FULL: (NodeFault, &str) = (
    NodeFault::DiskFull,
    "spec: preparing its files: No space left on device",
);

fn pool(stage: &Stage) -> Pool {
    let view = stage.app.view.borrow().clone();
    let mut pools = view
        .pools
        .values()
        .filter(|pool| pool.pool.state != PoolState::Retiring);
    pools.next().unwrap().pool.clone()
}

fn gauge(stage: &Stage) -> i64 {
    let gauge = &stage.control.world.metrics.node_faults;
    gauge.with_label_values(&["disk_full"]).get()
}

async fn ask(stage: &Stage, command: &str) -> Deploy {
    let request = DeployRequest {
        artifact: Some(stage.artifact(&fixed(command, 1))),
        ..DeployRequest::default()
    };
    let key = None;
    let deploy = |reply| Command::Deploy {
        order: request.into(),
        key,
        reply,
    };
    let name = AppName::from_text("shop");
    stage.control.apps.ask(&name, deploy).await.unwrap()
}

async fn now(stage: &Stage, deploy: &Deploy) -> Deploy {
    let store = &*stage.control.world.store;
    let record: Option<DeployRecord> = ledger::find(store, deploy.id.as_str()).await.unwrap();
    record.unwrap().deploy
}

/// The app serves, and its only sandbox is gone while the machine can start nothing.
async fn broken() -> Stage {
    let stage = Stage::start().await;
    let deploy = ask(&stage, "./one").await;
    pass(1).await;
    assert_eq!(now(&stage, &deploy).await.status, DeployStatus::Succeeded);
    let running = stage.machine.of_app("shop", SandboxState::Running).remove(0);
    stage.machine.break_down(FULL);
    stage.machine.crash(&running, Some(libc::SIGKILL));
    stage
}

#[tokio::test(start_paused = true)]
async fn f9_a_fault_of_the_node_is_tried_each_second_and_ends_by_itself() {
    let stage = broken().await;
    let before = stage.machine.started().len();
    pass(600).await;
    let attempts = stage.machine.started().len() - before;
    assert!((595..=605).contains(&attempts), "{attempts} attempts in 600 s");
    let told = pool(&stage);
    assert_eq!(
        (told.crash_count, told.state, told.cooldown_until),
        (0, PoolState::Active, None)
    );
    let why = told.node_fault.unwrap_or_default();
    assert!(why.starts_with("disk_full: ") && why.contains("No space left"), "{why}");
    assert_eq!(gauge(&stage), 1);
    let store = &*stage.control.world.store;
    let records: Vec<SandboxRecord> = ledger::list(store, Selection::All).await.unwrap();
    let failed = records.iter().filter(|record| record.node_fault.is_some());
    assert_eq!(failed.count(), 1, "of many attempts one is kept");
    stage.machine.break_down(None);
    pass(2).await;
    assert_eq!(stage.running(), ["./one"]);
    assert_eq!(
        (pool(&stage).node_fault, pool(&stage).crash_count, gauge(&stage)),
        (None, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn f9_a_deploy_that_meets_a_fault_of_the_node_goes_on_when_it_is_over() {
    let stage = Stage::start().await;
    stage.deploy("./one").await;
    stage.machine.break_down(FULL);
    let deploy = ask(&stage, "./two").await;
    pass(30).await;
    assert_eq!(now(&stage, &deploy).await.status, DeployStatus::Starting);
    stage.machine.break_down(None);
    pass(3).await;
    let ended = now(&stage, &deploy).await;
    assert_eq!(ended.status, DeployStatus::Succeeded, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn f9_a_deploy_whose_time_is_over_names_the_fault_and_changes_nothing() {
    let stage = Stage::start().await;
    let first = stage.deploy("./one").await;
    stage.machine.break_down(FULL);
    let deploy = ask(&stage, "./two").await;
    pass(90).await;
    let ended = now(&stage, &deploy).await;
    assert_eq!(ended.status, DeployStatus::Failed);
    let error = ended.error.unwrap();
    assert!(
        error.contains("disk_full") && error.contains("nothing has changed"),
        "{error}"
    );
    let name = AppName::from_text("shop");
    assert_eq!(stage.control.world.routing.now().active(&name), Some(&first));
    assert_eq!(stage.running(), ["./one"]);
    pass(5).await;
    assert_eq!(gauge(&stage), 0, "nothing is missing any more");
}

#[tokio::test(start_paused = true)]
async fn f9_a_request_waits_for_the_fault_to_pass_or_is_told_when_to_come_again() {
    let stage = broken().await;
    pass(1).await;
    let version = stage.versions().await.remove(0).id;
    let refused = stage.acquire(&version).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.retry_after),
        (ErrorCode::NodeFault, Some(1)),
        "{refused:?}"
    );
    assert!(refused.message.contains("disk_full"), "{refused:?}");
    // Well before the time is over for which a proxy waits at most: those who wait there know why.
    let begun = tokio::time::Instant::now();
    let again = stage.acquire(&version).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::NodeFault, "{again:?}");
    assert!(begun.elapsed() <= ACQUIRE_WAIT_MAX / 10, "{:?}", begun.elapsed());
    stage.machine.break_down(None);
    pass(2).await;
    assert_eq!(stage.acquire(&version).await.unwrap().leases.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn f9_an_app_that_fails_after_the_nodes_fault_is_blamed_for_its_own() {
    let stage = broken().await;
    pass(10).await;
    stage.machine.fail("./one", "port: did not listen");
    stage.machine.break_down(None);
    pass(2).await;
    let told = pool(&stage);
    assert_eq!(
        (told.crash_count, told.state, told.node_fault),
        (1, PoolState::Cooldown, None)
    );
    assert_eq!(gauge(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn f8_f9_a_clock_that_is_set_back_does_not_put_off_the_next_attempt() {
    let stage = broken().await;
    pass(3).await;
    set(&stage.control, -HOUR);
    pass(3).await;
    stage.machine.break_down(None);
    pass(3).await;
    let running = stage.machine.of_app("shop", SandboxState::Running);
    assert_eq!(running.len(), 1, "{:?}", pool(&stage));
}
