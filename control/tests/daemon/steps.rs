//! `kill -9` of control at every step of a deploy: each write of it is once the last one that happened, and once the first
//! one that did not.

use crate::disks::with_disk;
use crate::faulty::Faulty;
use crate::machine::{Machine, control_on};
use crate::memory::Memory;
use crate::node::{folder, web};
use jiff::Timestamp;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::id::AppName;
use miren_api::resource::SandboxState;
use miren_control::app::{AppHandle, Command};
use miren_control::clock::Clock;
use miren_control::control::Control;
use miren_control::ledger;
use miren_control::policy::Policy;
use miren_control::record::DeployRecord;
use miren_control::store::{Selection, Store};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What outlives control.
struct Ground {
    machine: Machine,
    records: Arc<Memory>,
    folder: tempfile::TempDir,
}

/// One process of control.
struct Life {
    control: Arc<Control>,
    store: Arc<Faulty>,
    app: AppHandle,
}

impl Ground {
    fn new() -> Self {
        let clock = Clock::of_runtime(Timestamp::from_second(1_000_000).unwrap());
        Self {
            machine: Machine::new(clock),
            records: Arc::new(Memory::new(1000)),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn live(&self) -> Life {
        let store = Faulty::over(Arc::clone(&self.records));
        let records = Arc::clone(&store) as Arc<dyn Store>;
        let control = control_on(&self.machine, records, Policy::default(), self.folder.path()).await;
        let app = control.apps.get_or_make(&AppName::from_text("shop")).unwrap();
        Life { control, store, app }
    }

    async fn deploys(&self) -> Vec<Deploy> {
        let records: Vec<DeployRecord> = ledger::list(&*self.records, Selection::All).await.unwrap();
        let mut deploys: Vec<Deploy> = records.into_iter().map(|record| record.deploy).collect();
        deploys.sort_by_key(|deploy| deploy.seq);
        deploys
    }

    /// What runs, by what it was told to run.
    fn running(&self) -> Vec<String> {
        let alive = self.machine.alive();
        let all_run = self.machine.of_app("shop", SandboxState::Running).len() == alive.len();
        assert!(all_run, "{alive:?} are not all RUNNING");
        alive.iter().map(|id| self.machine.command(id)).collect()
    }
}

impl Life {
    /// Asks for a deploy; nothing when the process died before it answered.
    async fn ask(&self, app_toml: &str) -> Option<Deploy> {
        let artifact = self.control.artifacts.store(Cursor::new(folder(app_toml))).unwrap();
        let request = DeployRequest {
            artifact: Some(artifact.digest),
            ..DeployRequest::default()
        };
        let (reply, answer) = oneshot::channel();
        let deploy = Command::Deploy {
            order: request.into(),
            key: None,
            reply,
        };
        self.app.commands.send(deploy).await.ok().unwrap();
        tokio::select! {
            answer = answer => Some(answer.unwrap().unwrap()),
            () = self.store.died() => None,
        }
    }

    /// Lets a minute pass, or what of it the process lives; whether it died.
    async fn dies_within_a_minute(&self) -> bool {
        let minute = tokio::time::sleep(Duration::from_secs(60));
        tokio::select! {
            () = self.store.died() => true,
            () = minute => false,
        }
    }
}

/// Kills control at one of the writes of a deploy of an app with this `app.toml`; false if it has fewer.
async fn dies_at(point: i64, app: fn(&str) -> String) -> bool {
    let ground = Ground::new();
    let first = ground.live().await;
    first.ask(&app("./one")).await.unwrap();
    assert!(!first.dies_within_a_minute().await);
    assert_eq!(ground.running(), ["./one"]);

    first.store.kill_at(point);
    let asked = first.ask(&app("./two")).await;
    let died = asked.is_none() || first.dies_within_a_minute().await;
    first.store.kill();

    let second = ground.live().await;
    assert!(!second.dies_within_a_minute().await);
    let deploys = ground.deploys().await;
    let story: Vec<_> = deploys.iter().map(|deploy| (deploy.seq, deploy.status)).collect();
    assert!(
        deploys.iter().all(|deploy| deploy.status.is_final()),
        "{point}: {story:?}"
    );
    let expected = match deploys.last().unwrap() {
        deploy if deploy.seq == 2 && deploy.status == DeployStatus::Succeeded => "./two",
        _ => "./one",
    };
    assert!(
        asked.is_none() || expected == "./two",
        "{point}: an accepted deploy was lost: {story:?}"
    );
    assert_eq!(ground.running(), [expected], "{point}: {story:?}");
    let view = second.app.view.borrow().clone();
    let pools: Vec<_> = view.pools.values().map(|view| &view.pool).collect();
    assert_eq!((pools.len(), pools[0].crash_count), (1, 0), "{point}: {pools:?}");

    second.ask(&app("./three")).await.unwrap();
    assert!(!second.dies_within_a_minute().await);
    assert_eq!(ground.running(), ["./three"], "{point}: the next deploy works");
    let collisions = ground.machine.disks.collisions.lock().unwrap().clone();
    assert_eq!(collisions, Vec::<String>::new(), "{point}");
    died
}

#[tokio::test(start_paused = true)]
async fn i7_m2_control_killed_at_any_write_of_a_deploy_goes_on_with_it_and_duplicates_nothing() {
    dies_everywhere(web).await;
}

#[tokio::test(start_paused = true)]
async fn b6_control_killed_at_any_write_of_a_deploy_with_a_disk_never_lets_two_sandboxes_have_it() {
    dies_everywhere(with_disk).await;
}

async fn dies_everywhere(app: fn(&str) -> String) {
    let mut points = 0;
    while dies_at(points, app).await {
        points += 1;
        assert!(points < 200, "a deploy has no end of writes");
    }
    assert!(points >= 10, "only {points} moments: is the deploy written at all?");
}
