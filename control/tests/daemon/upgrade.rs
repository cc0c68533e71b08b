//! The records of an earlier release, under the release that is tested: same sandboxes, same routes, and work goes on.

use crate::machine::{Machine, images};
use crate::memory::Memory;
use jiff::Timestamp;
use miren_api::id::AppName;
use miren_api::resource::SandboxState;
use miren_control::artifact::Artifacts;
use miren_control::clock::Clock;
use miren_control::control::{Control, Parts};
use miren_control::executor::Executor;
use miren_control::ledger;
use miren_control::policy::Policy;
use miren_control::record::{PoolRecord, SandboxRecord, Spec};
use miren_control::store::{Content, Expect, Key, Kind, Store, Write};
use miren_control::store::{Selection, Sqlite};
use rusqlite::Connection;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What the first release had written after `miren deploy -e COLOR=red` of an app with two sandboxes, and `miren route set`.
const FIRST_RELEASE: &str = include_str!("first_release.jsonl");
/// What later ones had written after `miren deploy` twice, `miren route set` and a preview: dumps of their stores, with a history cut short.
/// Each release adds that of the one before it.
const RELEASES: [(&str, &str); 2] = [
    ("schema 2", include_str!("schema_2.sql")),
    ("schema 3", include_str!("schema_3.sql")),
];

#[derive(Deserialize)]
struct Line {
    kind: String,
    id: String,
    indexes: Vec<(String, String)>,
    body: serde_json::Value,
}

fn kind(name: &str) -> Kind {
    match name {
        "active" => Kind::Active,
        "app" => Kind::App,
        "deploy" => Kind::Deploy,
        "pool" => Kind::Pool,
        "route" => Kind::Route,
        "sandbox" => Kind::Sandbox,
        "snapshot" => Kind::Snapshot,
        "version" => Kind::Version,
        "node" => Kind::Node,
        "label" => Kind::Label,
        other => panic!("a record of kind {other}"),
    }
}

fn write(line: &str) -> Write {
    let Line {
        kind: name,
        id,
        indexes,
        body,
    } = serde_json::from_str(line).unwrap();
    let name_of = |index: &str| match index {
        "app" => "app",
        "pool" => "pool",
        other => panic!("an index {other}"),
    };
    Write {
        key: Key::new(kind(&name), &id),
        expect: Expect::Absent,
        content: Some(Content {
            body: body.to_string(),
            indexes: indexes
                .iter()
                .map(|(index, value)| (name_of(index), value.clone()))
                .collect(),
        }),
    }
}

#[tokio::test(start_paused = true)]
async fn m2_records_of_the_first_release_are_taken_over_without_a_duplicate() {
    let store = Arc::new(Memory::new(1000));
    store.commit(FIRST_RELEASE.lines().map(write).collect()).await.unwrap();
    let clock = Clock::of_runtime("2026-11-22T08:00:00Z".parse::<Timestamp>().unwrap());
    let machine = Machine::new(clock.clone());
    let folder = tempfile::tempdir().unwrap();
    let parts = Parts {
        store,
        executor: Arc::new(machine.clone()),
        artifacts: Artifacts::open(folder.path(), 1 << 20).unwrap(),
        images: images(folder.path()),
        clock,
        node: "test".into(),
        policy: Policy::default(),
    };
    let (control, known) = Control::load(parts).await.unwrap();
    // What the earlier release left running.
    for sandbox in &known {
        machine.start(sandbox.order.clone());
        assert_eq!(sandbox.order.env["COLOR"], "red");
    }
    let before = machine.of_app("shop", SandboxState::Running);
    assert_eq!(before.len(), 2);
    let news = machine.attach();
    control.activate(known, news).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(machine.started(), before, "nothing else was started");
    assert_eq!(machine.of_app("shop", SandboxState::Running), before);
    let app = AppName::from_text("shop");
    let routed = control.world.routing.now();
    assert_eq!(
        routed.active(&app).map(|version| version.as_str()),
        Some("shop-v29x42281gh")
    );
    assert_eq!(routed.table.hosts_of(&app).collect::<Vec<_>>(), ["shop.example.com"]);
    assert_eq!(routed.generation, 3, "proxies need no new snapshot");
}

/// A store in memory with the records of a file of an earlier release, as they are once this release has opened it.
async fn migrated(dump: &str, folder: &Path) -> Memory {
    let path = folder.join("control.db");
    Connection::open(&path).unwrap().execute_batch(dump).unwrap();
    drop(Sqlite::open(&path).await.unwrap());
    let file = Connection::open(&path).unwrap();
    let mut records = file.prepare("SELECT kind, id, body FROM records").unwrap();
    let mut indexes = file
        .prepare("SELECT name, value FROM indexes WHERE kind = ?1 AND id = ?2")
        .unwrap();
    let records = records.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let records: Vec<(String, String, String)> = records.unwrap().map(Result::unwrap).collect();
    let writes = records.into_iter().map(|(kind, id, body)| {
        let indexes = indexes.query_map([&kind, &id], |row| Ok((row.get(0)?, row.get(1)?)));
        let indexes: Vec<(String, String)> = indexes.unwrap().map(Result::unwrap).collect();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let line = serde_json::json!({ "kind": kind, "id": id, "indexes": indexes, "body": body });
        write(&line.to_string())
    });
    let store = Memory::new(1000);
    store.commit(writes.collect()).await.unwrap();
    store
}

/// Every record that says what shall run, with when it was written last.
async fn kept(store: &dyn Store) -> Vec<(Key, u64, String)> {
    let mut kept = Vec::new();
    for kind in [Kind::Pool, Kind::Version, Kind::Active, Kind::Deploy] {
        let records = store.list(kind, Selection::All).await.unwrap();
        kept.extend(
            records
                .into_iter()
                .map(|record| (record.key, record.revision, record.body)),
        );
    }
    kept
}

#[tokio::test(start_paused = true)]
async fn m2_an_upgrade_from_any_release_changes_no_pool_and_no_sandbox() {
    for (release, dump) in RELEASES {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(migrated(dump, folder.path()).await);
        let pools: Vec<PoolRecord> = ledger::list(&*store, Selection::All).await.unwrap();
        let sandboxes: Vec<SandboxRecord> = ledger::list(&*store, Selection::All).await.unwrap();
        let running = sandboxes
            .iter()
            .filter(|one| one.state == SandboxState::Running)
            .count();
        assert!(!pools.is_empty() && running == 2, "{release}");
        for pool in &pools {
            // Another hash would be another pool: what runs would be started beside itself.
            let spec = Spec {
                artifact: pool.artifact.clone(),
                image: pool.image,
                service: pool.spec.clone(),
            };
            assert_eq!(spec.hash(&pool.service), pool.spec_hash, "{release}");
        }
        let before = kept(&*store).await;
        let clock = Clock::of_runtime("2026-11-30T21:00:00Z".parse::<Timestamp>().unwrap());
        let machine = Machine::new(clock.clone());
        let parts = Parts {
            store: store.clone(),
            executor: Arc::new(machine.clone()),
            artifacts: Artifacts::open(folder.path(), 1 << 20).unwrap(),
            images: images(folder.path()),
            clock,
            node: "test".into(),
            policy: Policy::default(),
        };
        let (control, known) = Control::load(parts).await.unwrap();
        for sandbox in &known {
            machine.start(sandbox.order.clone());
        }
        let started = machine.started();
        assert_eq!(started.len(), running, "{release}: what runs is taken over");
        let news = machine.attach();
        control.activate(known, news).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(machine.started(), started, "{release}: nothing else was started");
        assert_eq!(
            machine.of_app("shop", SandboxState::Running),
            started,
            "{release}: and nothing ended"
        );
        assert_eq!(kept(&*store).await, before, "{release}: nothing was written anew");
    }
}
