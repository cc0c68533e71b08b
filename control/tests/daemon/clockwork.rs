//! What takes minutes, with the runtime's clock paused and a store that never leaves the runtime.

use crate::machine::{Machine, control_of_runtime};
use crate::node::{fixed, folder, web};
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::id::AppName;
use miren_api::lease::{AcquireRequest, Demand};
use miren_api::resource::{Pool, PoolState, SandboxState};
use miren_control::app::{AppHandle, Command};
use miren_control::control::Control;
use miren_control::ledger;
use miren_control::record::{DeployRecord, SandboxRecord};
use miren_control::store::Selection;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

struct Clockwork {
    machine: Machine,
    control: Arc<Control>,
    app: AppHandle,
    _folder: tempfile::TempDir,
}

impl Clockwork {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (machine, control) = control_of_runtime(folder.path()).await;
        let app = control.apps.get_or_make(&AppName::from_text("shop")).unwrap();
        Self {
            machine,
            control,
            app,
            _folder: folder,
        }
    }

    async fn ask(&self, app_toml: &str) -> Deploy {
        let artifact = self.control.artifacts.store(Cursor::new(folder(app_toml))).unwrap();
        let request = DeployRequest {
            artifact: Some(artifact.digest),
            ..DeployRequest::default()
        };
        let (reply, answer) = oneshot::channel();
        let key = None;
        let deploy = Command::Deploy {
            order: request.into(),
            key,
            reply,
        };
        self.app.commands.send(deploy).await.ok().unwrap();
        answer.await.unwrap().unwrap()
    }

    /// Lets this much time pass, with everything that happens in it.
    async fn pass(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn deploy(&self, deploy: &Deploy) -> Deploy {
        let store = &*self.control.world.store;
        let record: Option<DeployRecord> = ledger::find(store, deploy.id.as_str()).await.unwrap();
        record.unwrap().deploy
    }

    fn pool(&self) -> Pool {
        let view = self.app.view.borrow().clone();
        view.pools.values().next().unwrap().pool.clone()
    }

    fn starts(&self) -> usize {
        self.machine.started().len()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn b3_a_pool_that_cannot_boot_is_tried_after_10_s_20_s_40_s() {
    let node = Clockwork::start().await;
    let deploy = node.ask(&web("./one")).await;
    node.pass(SECOND).await;
    assert_eq!(node.deploy(&deploy).await.status, DeployStatus::Succeeded);
    node.machine.fail("./one", "no such file");
    let running = node.machine.of_app("shop", SandboxState::Running);
    node.machine.crash(&running[0], Some(libc::SIGKILL));
    node.pass(SECOND).await;
    assert_eq!(
        (node.starts(), node.pool().crash_count),
        (2, 1),
        "replaced at once, which failed"
    );
    for (wait, crashes) in [(10, 2), (20, 3), (40, 4)] {
        let before = node.starts();
        node.pass(SECOND * (wait - 2)).await;
        assert_eq!(node.starts(), before, "not before {wait} s");
        node.pass(SECOND * 2).await;
        assert_eq!((node.starts(), node.pool().crash_count), (before + 1, crashes));
    }
    node.machine.heal("./one");
    node.pass(SECOND * 80).await;
    assert_eq!((node.pool().ready, node.pool().crash_count), (1, 4));
    node.pass(SECOND * 120).await;
    assert_eq!(node.pool().crash_count, 0, "a healthy run ends the row");
}

#[tokio::test(start_paused = true)]
async fn a_deploy_whose_sandboxes_never_listen_fails_in_time_with_their_log() {
    let node = Clockwork::start().await;
    node.machine.hold("./slow");
    let deploy = node.ask(&fixed("./slow", 2)).await;
    node.pass(SECOND * 59).await;
    assert_eq!(node.deploy(&deploy).await.status, DeployStatus::Starting);
    node.pass(SECOND * 2).await;
    let failed = node.deploy(&deploy).await;
    assert_eq!(failed.status, DeployStatus::Failed);
    let error = failed.error.unwrap();
    assert!(
        error.contains("0 of 2") && error.contains("what it wrote last"),
        "{error}"
    );
    node.machine.release("./slow");
    node.pass(SECOND).await;
    assert!(node.machine.alive().is_empty(), "nothing of it is left");
}

#[tokio::test(start_paused = true)]
async fn f7_an_app_that_kills_itself_is_not_restarted_without_end() {
    let node = Clockwork::start().await;
    node.ask(&web("./one")).await;
    node.pass(SECOND).await;
    let mut ended = std::collections::BTreeSet::new();
    for _ in 0..580 {
        for id in node.machine.of_app("shop", SandboxState::Running) {
            node.machine.crash(&id, Some(libc::SIGTERM));
            ended.insert(id);
        }
        node.pass(SECOND / 10).await;
    }
    // A burst of ten and one more, then one each 12 s.
    assert!((14..=16).contains(&ended.len()), "{} in a minute", ended.len());
    let pool = node.pool();
    assert_eq!(
        (pool.crash_count, pool.state),
        (0, PoolState::Cooldown),
        "no crash, but it waits"
    );
    assert!(pool.cooldown_until.is_some(), "{pool:?}");
    node.pass(SECOND * 13).await;
    assert_eq!(node.pool().ready, 1, "its next one may live");
}

#[tokio::test(start_paused = true)]
async fn f7_records_of_ended_sandboxes_are_bounded_by_number() {
    let node = Clockwork::start().await;
    node.ask(&fixed("./one", 2)).await;
    node.pass(SECOND).await;
    let mut last = None;
    for _ in 0..80 {
        let running = node.machine.of_app("shop", SandboxState::Running);
        node.machine.crash(&running[0], Some(libc::SIGKILL));
        last = Some(running[0].clone());
        node.pass(SECOND * 2).await;
    }
    let view = node.app.view.borrow().clone();
    let ended: Vec<_> = view
        .sandboxes
        .iter()
        .filter(|sandbox| sandbox.state == SandboxState::Dead)
        .collect();
    assert_eq!(ended.len(), 50);
    assert!(
        ended.iter().any(|sandbox| Some(&sandbox.id) == last.as_ref()),
        "the newest is there"
    );
    let store = &*node.control.world.store;
    let kept = ledger::list::<SandboxRecord>(store, Selection::All).await.unwrap();
    assert_eq!(kept.len(), 52, "the store has no more than what is told");
}

#[tokio::test(start_paused = true)]
async fn records_of_ended_sandboxes_are_forgotten_after_an_hour() {
    let node = Clockwork::start().await;
    node.ask(&web("./one")).await;
    node.pass(SECOND).await;
    let running = node.machine.of_app("shop", SandboxState::Running);
    node.machine.crash(&running[0], Some(libc::SIGKILL));
    let listed = || node.app.view.borrow().sandboxes.iter().count();
    node.pass(SECOND).await;
    assert_eq!(listed(), 2);
    node.pass(SECOND * 3590).await;
    assert_eq!(listed(), 2);
    node.pass(SECOND * 20).await;
    assert_eq!(listed(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_app_nobody_asks_for_scales_to_zero_and_the_first_request_starts_it_again() {
    let node = Clockwork::start().await;
    let deploy = node.ask(&web("./one")).await;
    node.pass(SECOND).await;
    assert_eq!(node.deploy(&deploy).await.status, DeployStatus::Succeeded);
    node.pass(SECOND * 880).await;
    assert_eq!((node.pool().ready, node.pool().desired), (1, 1));
    node.pass(SECOND * 60).await;
    assert_eq!((node.pool().ready, node.pool().desired), (0, 0));
    assert!(node.machine.alive().is_empty());
    let request = AcquireRequest {
        proxy: "p1".into(),
        version: node.deploy(&deploy).await.version.unwrap(),
        service: "web".into(),
        demand: Demand {
            in_flight: 0,
            queued: 1,
        },
        wait_ms: 10_000,
        dropped: Vec::new(),
    };
    let granted = node.control.leasing().acquire(request).await.unwrap();
    assert_eq!(granted.leases.len(), 1);
    assert_eq!((node.pool().ready, node.pool().crash_count), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn from_zero_to_the_maximum_and_back_twice_leaves_nothing_behind() {
    let node = Clockwork::start().await;
    let deploy = node.ask(&web("./one")).await;
    node.pass(SECOND).await;
    let version = node.deploy(&deploy).await.version.unwrap();
    for round in 1..=2 {
        let request = AcquireRequest {
            proxy: "p1".into(),
            version: version.clone(),
            service: "web".into(),
            demand: Demand {
                in_flight: 0,
                queued: 1_000,
            },
            wait_ms: 10_000,
            dropped: Vec::new(),
        };
        node.control.leasing().acquire(request).await.unwrap();
        node.pass(SECOND * 5).await;
        assert_eq!((node.pool().desired, node.pool().ready), (20, 20), "round {round}");
        // Nobody renews the leases or tells a demand: both are over, and the pool may shrink.
        node.pass(SECOND * (60 + 16 * 60)).await;
        assert_eq!((node.pool().desired, node.pool().ready), (0, 0), "round {round}");
        assert!(node.machine.alive().is_empty());
        assert_eq!(node.pool().crash_count, 0);
    }
    assert_eq!(node.control.world.desk.counts().0, 0, "no lease is left");
}
