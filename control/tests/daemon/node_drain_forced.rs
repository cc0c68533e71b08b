//! The forced end of a drain, on a clock of the runtime's own: once, within its time, with everything named that had to be forced.

use crate::firsts::Shops;
use crate::stage::pass;
use miren_api::deploy::{Deploy, DeployStatus};
use miren_api::id::{AppName, SandboxId};
use miren_api::node::{DrainRequest, DrainStep, NodePhase, NodeStatus};
use miren_api::resource::SandboxState;
use miren_api::{ApiError, ErrorCode};
use miren_control::drain::Stopped;
use std::sync::Arc;
use std::time::Duration;

/// One app with a sandbox that ignores SIGTERM, one that litters, one whose start is stuck.
struct Stuck {
    shops: Shops,
    deaf: SandboxId,
    littered: SandboxId,
    starting: SandboxId,
    deploy: Deploy,
}

async fn shops() -> Shops {
    let shops = Shops::open().await;
    tokio::spawn(Arc::clone(&shops.control).background());
    shops
}

async fn run(shops: &Shops, app: &str, command: &str) -> SandboxId {
    let name = AppName::from_text(app);
    let deploy = shops.deploy(&name, &shops.artifact(command)).await.unwrap();
    assert_eq!(shops.ended(&deploy).await.status, DeployStatus::Succeeded);
    shops.machine.of_app(app, SandboxState::Running)[0].clone()
}

impl Stuck {
    async fn begin() -> Self {
        let shops = shops().await;
        let deaf = run(&shops, "deaf", "./deaf").await;
        let littered = run(&shops, "litter", "./litter").await;
        shops.machine.hold("./deaf");
        shops.machine.litter("./litter");
        shops.machine.hold("./slow");
        let name = AppName::from_text("slow");
        let deploy = shops.deploy(&name, &shops.artifact("./slow")).await.unwrap();
        pass(1).await;
        let starting = shops.machine.of_app("slow", SandboxState::Pending)[0].clone();
        Self {
            shops,
            deaf,
            littered,
            starting,
            deploy,
        }
    }

    fn status(&self) -> NodeStatus {
        self.shops.control.node.status()
    }

    async fn drain(&self, timeout: Option<&str>, force: bool) -> Result<NodeStatus, ApiError> {
        let request = DrainRequest {
            timeout: timeout.map(str::to_owned),
            force,
            allow_outage: true,
        };
        self.shops.control.node.drain(request).await
    }

    fn names(&self, text: &[String], what: &SandboxId) -> bool {
        text.iter().any(|error| error.contains(what.as_str()))
    }
}

#[tokio::test(start_paused = true)]
async fn d4_what_is_stuck_is_ended_and_named_and_five_who_force_do_it_once() {
    let stuck = Stuck::begin().await;
    stuck.drain(None, false).await.unwrap();
    pass(30).await;
    let status = stuck.status();
    assert_eq!(
        (status.phase, status.waits_for),
        (NodePhase::Draining, Some(DrainStep::Admitted)),
        "it waits for what was let in"
    );
    let five = (0..5).map(|_| stuck.drain(None, true));
    for forced in futures_util::future::join_all(five).await {
        forced.unwrap();
    }
    pass(1).await;
    let status = stuck.status();
    assert_eq!((status.phase, status.living()), (NodePhase::Forced, 0), "{status:?}");
    for (what, id) in [
        ("deaf", &stuck.deaf),
        ("littered", &stuck.littered),
        ("starting", &stuck.starting),
    ] {
        assert!(stuck.names(&status.errors, id), "{what}: {:?}", status.errors);
    }
    assert_eq!(status.blockers.len(), 1, "{status:?}");
    assert_eq!(status.blockers[0].id, stuck.littered.to_string());
    let (kills, _) = stuck.shops.machine.forced();
    assert!(kills.values().all(|count| *count == 1), "{kills:?}");
    let ended = stuck.shops.ended(&stuck.deploy).await;
    assert_eq!(ended.status, DeployStatus::Failed, "{ended:?}");
    let refused = stuck.shops.control.node.undrain().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict, "not while it kills");

    let deadline = status.deadline;
    pass(10).await;
    stuck.drain(None, true).await.unwrap();
    let status = stuck.status();
    assert_eq!(status.deadline, deadline, "asked for once more, its time is the same");
    let (_, hurried) = stuck.shops.machine.forced();
    assert!(hurried >= 10, "the clean-up is tried each second: {hurried}");
    pass(20).await;
    let status = stuck.status();
    assert!(status.overdue && status.is_over(), "{status:?}");
    assert_eq!(status.errors.len(), 3, "each once: {:?}", status.errors);
    let (_, hurried) = stuck.shops.machine.forced();
    pass(60).await;
    assert_eq!(stuck.shops.machine.forced().1, hurried, "its time is over");
    stuck.shops.machine.clear_away();
    pass(2).await;
    assert_eq!(stuck.status().phase, NodePhase::Empty);
}

#[tokio::test(start_paused = true)]
async fn d4_a_limit_forces_when_it_is_over_with_thirty_fresh_seconds() {
    let stuck = Stuck::begin().await;
    stuck.drain(Some("90s"), false).await.unwrap();
    pass(89).await;
    assert_eq!(stuck.status().phase, NodePhase::Draining);
    pass(2).await;
    assert_eq!(stuck.status().phase, NodePhase::Forced);
    pass(28).await;
    assert!(!stuck.status().overdue);
    pass(1).await;
    assert!(stuck.status().overdue);
    let opened = stuck.shops.control.node.undrain().await.unwrap();
    assert_eq!(
        (opened.phase, opened.errors.len()),
        (NodePhase::Active, 0),
        "{opened:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn d6_a_daemon_that_ends_says_what_is_left_and_waits_for_no_deploy() {
    let stuck = Stuck::begin().await;
    let stopped = stuck
        .shops
        .control
        .node
        .stop(Duration::from_secs(45), false)
        .await
        .unwrap();
    let Stopped::Left(what) = stopped else {
        panic!("{stopped:?}");
    };
    assert!(stuck.names(&what, &stuck.littered), "{what:?}");
    assert_eq!(stuck.shops.machine.alive(), []);
    let record = stuck.shops.control.world.nodes.follow().borrow().clone();
    assert_eq!(record.drain, None, "the next daemon takes work");
}

#[tokio::test(start_paused = true)]
async fn d4_a_daemon_that_ends_during_a_drain_leaves_its_successor_the_time_there_was_and_there_is_no_way_back() {
    let stuck = Stuck::begin().await;
    let node = &stuck.shops.control.node;
    stuck.drain(Some("1h"), false).await.unwrap();
    let kept = || stuck.shops.control.world.nodes.follow().borrow().drain.clone();
    let before = kept().expect("it is kept");
    let stopping = tokio::time::timeout(Duration::from_secs(600), node.stop(Duration::from_secs(45), false));
    let undone = async {
        pass(1).await;
        node.undrain().await
    };
    let (stopped, undone) = tokio::join!(stopping, undone);
    let stopped = stopped.expect("it never ends");
    assert!(matches!(stopped, Ok(Stopped::Left(_))), "{stopped:?}");
    assert_eq!(undone.unwrap_err().code, ErrorCode::Draining);
    assert_eq!(kept(), Some(before), "of the hour the next daemon has the rest");
}

#[tokio::test(start_paused = true)]
async fn d7_nothing_is_empty_while_a_clean_up_goes_on() {
    let shops = shops().await;
    let littered = run(&shops, "litter", "./litter").await;
    shops.machine.litter("./litter");
    let drain = DrainRequest {
        allow_outage: true,
        ..DrainRequest::default()
    };
    shops.control.node.drain(drain).await.unwrap();
    pass(60).await;
    let status = shops.control.node.status();
    assert_eq!(
        (status.phase, status.waits_for),
        (NodePhase::Draining, Some(DrainStep::CleanUps)),
        "{status:?}"
    );
    assert_eq!(
        (&*status.blockers[0].id, &*status.blockers[0].state),
        (littered.as_str(), "CLEANING_UP")
    );
    assert_eq!((status.living(), status.clean_ups), (0, 1));
    shops.machine.clear_away();
    pass(2).await;
    assert_eq!(shops.control.node.status().phase, NodePhase::Empty);
}
