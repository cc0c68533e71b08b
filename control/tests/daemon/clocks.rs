//! The wall clock set while control works: what is waited for neither ends early nor lasts longer.

use crate::machine::control_of_runtime;
use crate::node::{folder, web};
use crate::stage::{Stage, pass};
use jiff::{SignedDuration, Timestamp};
use miren_api::ErrorCode;
use miren_api::deploy::{DeployRequest, DeployStatus};
use miren_api::lease::LEASE_TTL;
use miren_api::resource::{Pool, PoolState, SandboxState};
use miren_control::app::stamps::Stamps;
use miren_control::app::{AppHandle, Command};
use miren_control::clock::shifted;
use miren_control::control::Control;
use miren_control::ledger;
use miren_control::record::{DeployRecord, PoolRecord, SandboxRecord, Stored};
use miren_control::store::{Selection, Store};
use miren_sandbox::Budgets;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

pub const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Longer than any test.
const DAY: Budgets = Budgets {
    requests: Duration::from_secs(86_400),
    tunnels: Duration::from_secs(86_400),
    grace: Duration::from_secs(10),
};

const BOTH: [SignedDuration; 2] = [HOUR, SignedDuration::from_hours(-1)];

/// Somebody sets the wall clock, and control sees it.
pub fn set(control: &Control, by: SignedDuration) {
    let clock = &control.world.clock;
    clock.set_by(by);
    clock.look();
}

fn pool(app: &AppHandle) -> Pool {
    let view = app.view.borrow().clone();
    view.pools.values().next().unwrap().pool.clone()
}

#[tokio::test(start_paused = true)]
async fn f8_a_lease_that_is_renewed_no_more_ends_after_its_time_whatever_the_wall_clock_says() {
    for by in BOTH {
        let stage = Stage::start().await;
        tokio::spawn(Arc::clone(&stage.control).background());
        let version = stage.deploy("./one").await;
        let desk = &stage.control.world.desk;
        let key = stage.acquire(&version).await.unwrap().leases[0].key;
        let _follows = desk.connect("p1").unwrap();
        let idle = tokio::spawn(desk.close(key, DAY));
        set(&stage.control, by);
        tokio::time::sleep(LEASE_TTL - Duration::from_secs(2)).await;
        assert!(!idle.is_finished(), "a sandbox that drains was cut by {by}");
        assert_eq!(desk.holders(key), 1, "{by}");
        pass(4).await;
        assert!(idle.is_finished(), "a lease of nobody lasts longer by {by}");
    }
}

#[tokio::test(start_paused = true)]
async fn f8_a_proxy_is_silent_after_five_seconds_and_not_after_a_step() {
    for by in BOTH {
        let place = tempfile::tempdir().unwrap();
        let (_, control) = control_of_runtime(place.path()).await;
        tokio::spawn(Arc::clone(&control).background());
        let desk = &control.world.desk;
        drop(desk.connect("p1").unwrap());
        let served = tokio::spawn({
            let desk = desk.clone();
            async move { desk.acknowledged(7).await }
        });
        set(&control, by);
        pass(3).await;
        assert_eq!((served.is_finished(), desk.counts().1), (false, 1), "{by}");
        pass(4).await;
        assert_eq!((served.is_finished(), desk.counts().1), (true, 0), "{by}");
    }
}

/// An app whose pool waits after its first crash, for ten seconds.
async fn crashed(stage: &Stage) {
    stage.deploy("./one").await;
    stage.machine.fail("./one", "no such file");
    let running = stage.machine.of_app("shop", SandboxState::Running);
    stage.machine.crash(&running[0], None);
    pass(1).await;
    let seen = pool(&stage.app);
    assert_eq!((seen.crash_count, seen.state), (1, PoolState::Cooldown));
}

#[tokio::test(start_paused = true)]
async fn f8_a_pool_waits_after_a_crash_as_long_as_it_did_before_a_step() {
    for by in BOTH {
        let stage = Stage::start().await;
        crashed(&stage).await;
        let started = stage.machine.started().len();
        set(&stage.control, by);
        pass(7).await;
        assert_eq!(stage.machine.started().len(), started, "too early by {by}");
        pass(4).await;
        assert_eq!(stage.machine.started().len(), started + 1, "too late by {by}");
        let seen = pool(&stage.app);
        assert_eq!((seen.crash_count, seen.state), (2, PoolState::Cooldown));
        let left = seen
            .cooldown_until
            .unwrap()
            .duration_since(stage.control.world.clock.wall());
        assert!(left <= SignedDuration::from_secs(20), "shown as {left} by {by}");
    }
}

#[tokio::test(start_paused = true)]
async fn f8_who_is_told_to_ask_again_is_told_so_in_the_time_there_is() {
    for by in BOTH {
        let stage = Stage::start().await;
        crashed(&stage).await;
        set(&stage.control, by);
        pass(1).await;
        let version = pool(&stage.app).versions.remove(0);
        let refused = stage.acquire(&version).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Cooldown);
        assert!((1..=10).contains(&refused.retry_after.unwrap()), "{refused:?} by {by}");
    }
}

#[tokio::test(start_paused = true)]
async fn f8_a_stored_wait_of_a_clock_that_went_ahead_is_no_longer_than_any_wait() {
    let stage = Stage::start().await;
    crashed(&stage).await;
    let started = stage.machine.started().len();
    set(&stage.control, -HOUR);
    let stage = stage.killed().await;
    pass(12).await;
    assert_eq!(
        stage.machine.started().len(),
        started + 1,
        "it waits for the hour to come again"
    );
    let record: Vec<PoolRecord> = ledger::list(&*stage.control.world.store, Selection::All).await.unwrap();
    let wall = stage.control.world.clock.wall();
    assert!(record[0].crash.last_at.unwrap() <= wall, "{record:?}");
}

#[tokio::test(start_paused = true)]
async fn f8_a_deploy_has_as_long_as_it_did_before_a_step() {
    for by in BOTH {
        let stage = Stage::start().await;
        stage.machine.hold("./slow");
        let request = DeployRequest {
            artifact: Some(
                stage
                    .control
                    .artifacts
                    .store(Cursor::new(folder(&web("./slow"))))
                    .unwrap()
                    .digest,
            ),
            ..DeployRequest::default()
        };
        let (reply, answer) = oneshot::channel();
        let key = None;
        let deploy = Command::Deploy {
            order: request.into(),
            key,
            reply,
        };
        stage.app.commands.send(deploy).await.ok().unwrap();
        let asked = answer.await.unwrap().unwrap();
        let status = async || {
            let store = &*stage.control.world.store;
            let record: Option<DeployRecord> = ledger::find(store, asked.id.as_str()).await.unwrap();
            record.unwrap().deploy.status
        };
        pass(5).await;
        set(&stage.control, by);
        pass(50).await;
        assert_eq!(status().await, DeployStatus::Starting, "too early by {by}");
        pass(10).await;
        assert_eq!(status().await, DeployStatus::Failed, "too late by {by}");
    }
}

#[tokio::test(start_paused = true)]
async fn f8_an_idle_app_goes_to_sleep_and_ended_sandboxes_are_forgotten_when_it_is_time() {
    for by in BOTH {
        let stage = Stage::start().await;
        stage.deploy("./one").await;
        set(&stage.control, by);
        pass(800).await;
        assert_eq!(pool(&stage.app).ready, 1, "too early by {by}");
        pass(200).await;
        assert_eq!(pool(&stage.app).ready, 0, "too late by {by}");
        set(&stage.control, by);
        let listed = || stage.app.view.borrow().sandboxes.iter().count();
        pass(3300).await;
        assert_eq!(listed(), 1, "too early by {by}");
        pass(400).await;
        assert_eq!(listed(), 0, "too late by {by}");
    }
}

#[tokio::test(start_paused = true)]
async fn f8_a_preview_ends_on_its_date_by_the_wall_clock() {
    let stage = Stage::start().await;
    let preview = stage.served("pr-1", 7200, "./one").await;
    set(&stage.control, HOUR);
    pass(60).await;
    assert!(
        stage.acquire(&preview.version).await.is_ok(),
        "half of its time is left"
    );
    set(&stage.control, HOUR);
    let refused = stage.acquire(&preview.version).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoSuchVersion, "its date has come");
    pass(60).await;
    assert_eq!(stage.running(), Vec::<String>::new(), "what it ran is drained");
}

#[tokio::test(start_paused = true)]
async fn f8_what_people_read_is_told_by_the_wall_clock_after_a_step() {
    for by in BOTH {
        let stage = Stage::start().await;
        stage.deploy("./one").await;
        set(&stage.control, by);
        stage.deploy("./two").await;
        let wall = stage.control.world.clock.wall();
        let view = stage.app.view.borrow().clone();
        let newest = view.sandboxes.iter().map(|sandbox| sandbox.created_at).max().unwrap();
        let age = wall.duration_since(newest);
        assert!(
            (SignedDuration::ZERO..SignedDuration::from_secs(60)).contains(&age),
            "{age} by {by}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn f8_an_upload_that_only_looks_old_since_the_clock_was_set_is_kept_for_its_deploy() {
    let stage = Stage::start().await;
    tokio::spawn(Arc::clone(&stage.control).background());
    pass(1).await;
    let digest = stage.artifact(&web("./one"));
    let uploads = stage.control.artifacts.folder();
    // As one that an earlier process took: of it only the time on disk is known.
    let folder = uploads.join("f".repeat(64));
    std::fs::rename(uploads.join(digest.trim_start_matches("sha256:")), &folder).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
    std::fs::File::open(&folder).unwrap().set_modified(long_ago).unwrap();
    set(&stage.control, HOUR);
    pass(900).await;
    assert!(
        folder.exists(),
        "it may have been uploaded a moment before the clock was set"
    );
    pass(3600).await;
    assert!(!folder.exists(), "it is nobody's");
}

/// Every text in a document that is a time.
fn times(value: &serde_json::Value, found: &mut Vec<Timestamp>) {
    match value {
        serde_json::Value::String(text) => found.extend(text.parse::<Timestamp>().ok()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| times(item, found)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| times(field, found)),
        _ => {}
    }
}

async fn all_shift<T: Stored + Stamps>(store: &dyn Store) -> usize {
    let mut count = 0;
    for mut record in ledger::list::<T>(store, Selection::All).await.unwrap() {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        times(&serde_json::to_value(&record).unwrap(), &mut before);
        record.shift(HOUR);
        times(&serde_json::to_value(&record).unwrap(), &mut after);
        let expected: Vec<Timestamp> = before.iter().map(|at| shifted(*at, HOUR)).collect();
        assert_eq!(after, expected, "{}", record.id());
        count += before.len();
    }
    count
}

#[tokio::test(start_paused = true)]
async fn f8_no_time_in_a_record_that_is_measured_from_is_forgotten() {
    let stage = Stage::start().await;
    crashed(&stage).await;
    pass(900).await;
    let store = &*stage.control.world.store;
    assert!(all_shift::<PoolRecord>(store).await >= 3);
    assert!(all_shift::<SandboxRecord>(store).await >= 3);
    assert!(all_shift::<DeployRecord>(store).await >= 3);
}
