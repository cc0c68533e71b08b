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
use miren_control::policy::Policy;
use miren_control::store::{Content, Expect, Key, Kind, Store, Write};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// What the first release had written after `miren deploy -e COLOR=red` of an app with two sandboxes, and `miren route set`.
const FIRST_RELEASE: &str = include_str!("first_release.jsonl");

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
    let name_of = |index: &str| if index == "app" { "app" } else { "pool" };
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
