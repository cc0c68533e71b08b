//! Many apps: what one of them costs does not grow with the others, and a restart reads all of them in seconds.

use crate::machine::Machine;
use crate::node::{Node, Place, web};
use jiff::Timestamp;
use miren_api::app_file::{self, Service};
use miren_api::deploy::DeployStatus;
use miren_api::id::{AppName, NodeId, PoolId, SandboxId, VersionId};
use miren_api::resource::{Route, SandboxState};
use miren_control::clock::Clock;
use miren_control::ledger::Ledger;
use miren_control::record::{
    ActiveRecord, AppRecord, Content, PoolRecord, Reference, RouteRecord, SandboxRecord, VersionRecord,
};
use miren_control::routing::Change;
use miren_control::store::Sqlite;
use miren_sandbox::Facts;
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Sandboxes of each app: three of `web`, two of `worker`.
const SANDBOXES: [(&str, u32); 2] = [("web", 3), ("worker", 2)];
/// How often each thing is done; the least counts, as what else a process does only adds to it.
const TIMES: usize = 15;
/// A hundred times as many apps may make one thing take this much more work: far below what a scan of all sandboxes, a copy of
/// all routes or a plan for every app would cost.
const GROWTH: f64 = 10.0;
/// Set for the process of its own in which it is measured: what other tests do, and what the machine is busy with, is
/// no work of its.
const ALONE: &str = "MIREN_TEST_ALONE";
const TEST: &str = "scale::r2_a_hundred_times_the_apps_do_not_make_a_deploy_slower";

/// Time on a CPU that things cost beside a number of other apps.
#[derive(Debug)]
struct Costs {
    restart: Duration,
    deploy: Duration,
    route: Duration,
}

fn services() -> BTreeMap<String, Service> {
    let text = "[services.web]\ncommand = \"./web\"\n[services.web.concurrency]\nmode = \"fixed\"\nnum_instances = 3\n\
                [services.worker]\ncommand = \"./worker\"\n[services.worker.concurrency]\nmode = \"fixed\"\nnum_instances = 2\n";
    app_file::parse(Some(text), None).unwrap().services
}

/// The records of one app whose sandboxes all run.
fn record(ledger: &mut Ledger, number: usize, services: &BTreeMap<String, Service>, now: Timestamp) {
    let app = AppName::from_text(format!("app-{number}"));
    let version = VersionId::from_text(format!("app-{number}-v1"));
    ledger.put(&AppRecord {
        name: app.clone(),
        created_at: now,
        next_seq: 2,
        deleting: false,
        keep_disks: false,
    });
    let mut pools = BTreeMap::new();
    for (service, count) in SANDBOXES {
        let pool = pool(&app, &version, service, services[service].clone(), now);
        (0..count).for_each(|at| ledger.put(&sandbox(&pool, &version, at, now)));
        pools.insert(service.to_owned(), pool.id.clone());
        ledger.put(&pool);
    }
    ledger.put(&VersionRecord {
        id: version.clone(),
        app: app.clone(),
        seq: 1,
        created_at: now,
        content: Content {
            artifact: "sha256:aa".into(),
            ..Content::default()
        },
        variables: Default::default(),
        pools,
        preview: None,
    });
    ledger.put(&RouteRecord(route(&format!("app-{number}.example.com"), &app)));
    ledger.put(&ActiveRecord {
        app,
        version,
        seq: 1,
        web: true,
    });
}

fn pool(app: &AppName, version: &VersionId, service: &str, spec: Service, now: Timestamp) -> PoolRecord {
    PoolRecord {
        id: PoolId::from_text(format!("pool-{app}-{service}")),
        app: app.clone(),
        service: service.to_owned(),
        spec_hash: "aa".into(),
        references: vec![Reference {
            version: version.clone(),
            seq: 1,
            concurrency: spec.concurrency,
        }],
        spec,
        artifact: "sha256:aa".into(),
        image: None,
        label: None,
        created_at: now,
        desired: 0,
        low_since: None,
        crash: Default::default(),
    }
}

fn sandbox(pool: &PoolRecord, version: &VersionId, number: u32, now: Timestamp) -> SandboxRecord {
    SandboxRecord {
        node: NodeId::FIRST,
        id: SandboxId::from_text(format!("sb-{}-{number}", pool.id)),
        app: pool.app.clone(),
        service: pool.service.clone(),
        version: version.clone(),
        pool: pool.id.clone(),
        number,
        state: SandboxState::Running,
        reason: None,
        facts: Facts::default(),
        created_at: now,
        running_at: Some(now),
        ended_at: None,
        unseen: false,
        node_fault: None,
        deadlines: None,
    }
}

fn route(host: &str, app: &AppName) -> Route {
    Route {
        host: host.to_owned(),
        app: app.clone(),
        service: "web".into(),
        default: false,
        wildcard: false,
        derived: false,
        timeout_ms: None,
        maintenance: None,
    }
}

/// A place where that many apps run.
async fn place(apps: usize) -> Arc<Place> {
    let place = Place {
        folder: tempfile::tempdir().unwrap(),
        machine: Machine::new(Clock::system()),
    };
    let store = Sqlite::open(&place.folder.path().join("control.db")).await.unwrap();
    let mut ledger = Ledger::new(Arc::new(store));
    let (services, now) = (services(), Timestamp::now());
    for number in 0..apps {
        record(&mut ledger, number, &services, now);
    }
    ledger.flush().await.unwrap();
    Arc::new(place)
}

/// What this process has used of all CPUs so far.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap().into()
}

async fn costs(apps: usize) -> Costs {
    let place = place(apps).await;
    // The first control finds nothing running and starts it all; the second takes it over.
    let first = Node::on(Arc::clone(&place)).await;
    first.machine().settles(apps * 5).await;
    let place = first.kill();
    let before = used();
    let node = Node::on(place).await;
    let listed = node.client.list::<serde_json::Value>("/v1/sandboxes").await.unwrap();
    let restart = used() - before;
    assert!(listed.len() >= apps * 5);
    let started = node.machine().started().len();

    let mut deploys = Vec::new();
    for number in 0..TIMES {
        let before = used();
        let deploy = node.deploy("app-0", &web(&format!("./release-{number}"))).await;
        assert_eq!(deploy.status, DeployStatus::Succeeded, "{deploy:?}");
        deploys.push(used() - before);
    }
    let mut routes = Vec::new();
    for number in 0..TIMES {
        let change = Change::SetRoute(route(
            &format!("more-{number}.example.com"),
            &AppName::from_text("app-1"),
        ));
        let before = used();
        node.control.world.routing.submit(change).await.unwrap();
        routes.push(used() - before);
    }
    assert_eq!(
        node.machine().started().len(),
        started + TIMES,
        "a sandbox was started twice"
    );
    Costs {
        restart,
        deploy: deploys.into_iter().min().unwrap(),
        route: routes.into_iter().min().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_hundred_times_the_apps_do_not_make_a_deploy_slower() {
    if std::env::var_os(ALONE).is_none() {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", TEST, "--nocapture"]).env(ALONE, "1").output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        print!("{said}");
        assert!(
            said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let few = costs(20).await;
    let many = costs(2_000).await;
    println!("beside 20 apps with 100 sandboxes: {few:?}\nbeside 2,000 apps with 10,000: {many:?}");
    let growth = |few: Duration, many: Duration| many.as_secs_f64() / few.as_secs_f64();
    assert!(growth(few.deploy, many.deploy) < GROWTH, "{few:?} {many:?}");
    assert!(growth(few.route, many.route) < GROWTH, "{few:?} {many:?}");
    // This one reads everything: what must not be is that each of a hundred times as many costs many times as much.
    assert!(growth(few.restart, many.restart) < 100.0 * 5.0, "{few:?} {many:?}");
}
