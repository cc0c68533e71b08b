//! What disks mean for deploys and deletions: one sandbox at a time, the old one back when the new one fails, none left.

use crate::node::{Node, eventually, refusal, web};
use miren_api::deploy::{DeployRequest, DeployStatus};
use miren_api::lease::{AcquireRequest, AcquireResponse, Demand};
use miren_api::resource::{App, DeletedDisk, Disk, DiskState, GrowRequest, SnapshotRequest};
use miren_api::{AppName, ClientError, ErrorCode};
use std::time::Duration;

/// A `web` that runs `command` and writes a disk.
pub fn with_disk(command: &str) -> String {
    let disk = "[[services.web.disks]]\nname = \"data\"\nmount_path = \"/data\"\nsize_gb = 1\n";
    format!("{}{disk}", web(command))
}

fn commands(node: &Node) -> Vec<String> {
    let alive = node.machine().alive();
    alive.iter().map(|id| node.machine().command(id)).collect()
}

fn collisions(node: &Node) -> Vec<String> {
    node.machine().disks.collisions.lock().unwrap().clone()
}

#[tokio::test]
async fn b5_a_deploy_that_names_a_disk_which_cannot_be_made_creates_nothing() {
    let node = Node::start().await;
    let artifact = node.upload(&with_disk("./one").replace("size_gb = 1\n", "")).await;
    let request = DeployRequest {
        artifact: Some(artifact.digest),
        ..DeployRequest::default()
    };
    let refused = refusal(node.client.deploy("shop", &request, "a-key").await);
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (ErrorCode::InvalidConfig, "no disk data")
    );
    assert!(node.client.list::<App>("/v1/apps").await.unwrap().is_empty());
    node.succeed("shop", &with_disk("./one")).await;
    assert_eq!(node.machine().disks.names("shop"), ["data"]);
}

#[tokio::test]
async fn b6_a_deploy_stops_the_old_sandbox_first_and_whoever_asks_meanwhile_waits() {
    let node = Node::start().await;
    let first = node.succeed("shop", &with_disk("./one")).await;
    node.machine().hold("./one");
    node.machine().hold("./two");
    let second = node.ask("shop", &with_disk("./two")).await;
    eventually("the old sandbox drains", async || {
        match node.running("shop", 0).await.len() {
            0 => Ok(()),
            count => Err(format!("{count} are RUNNING")),
        }
    })
    .await;
    assert_eq!(commands(&node), ["./one"], "the new one was started beside it");
    let acquire = |version| AcquireRequest {
        proxy: "proxy-1".into(),
        version,
        service: "web".into(),
        demand: Demand {
            in_flight: 0,
            queued: 1,
        },
        wait_ms: 20_000,
        dropped: Vec::new(),
    };
    let asked: AcquireRequest = acquire(first.version.clone().unwrap());
    let leasing = node.control.leasing();
    let waits = tokio::spawn(async move { leasing.acquire(asked).await });
    node.machine().release("./one");
    eventually("the new one starts", async || match commands(&node) {
        now if now == ["./two"] => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .await;
    assert!(!waits.is_finished(), "it was answered: {:?}", waits.await);
    node.machine().release("./two");
    assert_eq!(node.ended(&second).await.status, DeployStatus::Succeeded);
    // A proxy learns of the new version first, and asks for that one.
    let refused = waits.await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoSuchVersion);
    let asked = acquire(node.client.get::<App>("/v1/apps/shop").await.unwrap().version.unwrap());
    let granted: AcquireResponse = node.control.leasing().acquire(asked).await.unwrap();
    assert_eq!(granted.leases.len(), 1);
    assert_eq!(collisions(&node), Vec::<String>::new());
}

#[tokio::test]
async fn b6_a_new_version_that_fails_brings_the_old_one_back() {
    let node = Node::start().await;
    let good = node.succeed("shop", &with_disk("./good")).await;
    node.machine().fail("./bad", "volume: it is full");
    let bad = node.deploy("shop", &with_disk("./bad")).await;
    assert_eq!(bad.status, DeployStatus::Failed);
    assert!(bad.error.unwrap().contains("volume: it is full"));
    node.running("shop", 1).await;
    assert_eq!(commands(&node), ["./good"]);
    let app: App = node.client.get("/v1/apps/shop").await.unwrap();
    assert_eq!(app.version, good.version);
    node.succeed("shop", &with_disk("./better")).await;
    assert_eq!(
        (commands(&node), collisions(&node)),
        (vec!["./better".to_owned()], Vec::new())
    );
}

#[tokio::test]
async fn b6_a_deploy_that_is_called_off_brings_the_old_one_back() {
    let node = Node::start().await;
    node.succeed("shop", &with_disk("./good")).await;
    node.machine().hold("./slow");
    let slow = node.ask("shop", &with_disk("./slow")).await;
    eventually("the new one starts", async || match commands(&node) {
        now if now == ["./slow"] => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .await;
    let path = format!("/v1/deploys/{}/cancel", slow.id);
    let _: serde_json::Value = node.client.post(&path, &serde_json::json!({})).await.unwrap();
    node.machine().release("./slow");
    node.running("shop", 1).await;
    assert_eq!(
        (commands(&node), collisions(&node)),
        (vec!["./good".to_owned()], Vec::new())
    );
}

async fn is_deleted(node: &Node) {
    eventually("the app is gone", async || {
        match node.client.get::<App>("/v1/apps/shop").await {
            Err(ClientError::Refused(error)) if error.code == ErrorCode::NotFound => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn b4_a_deleted_app_takes_its_disks_along_unless_they_are_kept() {
    let node = Node::start().await;
    node.succeed("shop", &with_disk("./one")).await;
    let _: App = node.client.delete("/v1/apps/shop?keep_disks=true").await.unwrap();
    is_deleted(&node).await;
    assert_eq!(node.machine().disks.names("shop"), ["data"]);
    node.succeed("shop", &with_disk("./one").replace("size_gb = 1\n", ""))
        .await;
    let _: App = node.client.delete("/v1/apps/shop").await.unwrap();
    is_deleted(&node).await;
    assert!(node.machine().disks.names("shop").is_empty());
}

#[tokio::test]
async fn b4_a_disk_is_deleted_only_when_its_last_sandbox_has_ended() {
    let node = Node::start().await;
    node.succeed("shop", &with_disk("./one")).await;
    node.machine().hold("./one");
    let _: App = node.client.delete("/v1/apps/shop").await.unwrap();
    node.running("shop", 0).await;
    assert_eq!(
        (commands(&node).len(), node.machine().disks.names("shop")),
        (1, vec!["data".to_owned()])
    );
    node.machine().release("./one");
    is_deleted(&node).await;
    assert!(node.machine().disks.names("shop").is_empty());
    assert_eq!(collisions(&node), Vec::<String>::new());
}

#[tokio::test]
async fn b4_a_deletion_goes_on_after_a_restart_until_the_disks_are_gone() {
    let node = Node::start().await;
    node.succeed("shop", &with_disk("./one")).await;
    *node.machine().disks.stuck.lock().unwrap() = true;
    let _: App = node.client.delete("/v1/apps/shop").await.unwrap();
    eventually("its sandbox is gone", async || match commands(&node).len() {
        0 => Ok(()),
        count => Err(format!("{count} sandboxes")),
    })
    .await;
    let _: App = node.client.get("/v1/apps/shop").await.unwrap();
    let place = node.kill();
    let node = Node::on(place).await;
    let _: App = node.client.get("/v1/apps/shop").await.unwrap();
    *node.machine().disks.stuck.lock().unwrap() = false;
    is_deleted(&node).await;
    assert!(node.machine().disks.names("shop").is_empty());
}

#[tokio::test]
async fn disks_are_listed_shown_copied_and_deleted() {
    let node = Node::start().await;
    node.succeed("shop", &with_disk("./one")).await;
    let disks: Vec<Disk> = node.client.list("/v1/disks?app=shop").await.unwrap();
    assert_eq!((disks.len(), disks[0].state), (1, DiskState::Attached));
    assert_eq!(disks[0].leased_by, node.running("shop", 1).await);
    assert!(node.client.list::<Disk>("/v1/disks?app=bank").await.unwrap().is_empty());
    let shown: Disk = node.client.get("/v1/disks/shop/data").await.unwrap();
    assert_eq!(shown, disks[0]);
    let refused = refusal(node.client.get::<Disk>("/v1/disks/shop/none").await);
    assert_eq!(refused.code, ErrorCode::NotFound);
    let copy = SnapshotRequest { name: "copy".into() };
    let copy: Disk = node.client.post("/v1/disks/shop/data/snapshot", &copy).await.unwrap();
    assert_eq!((copy.name.as_str(), copy.app), ("copy", AppName::from_text("shop")));
    let too_large = GrowRequest { size_gb: 20_000 };
    let refused = refusal(node.client.post::<Disk>("/v1/disks/shop/data/grow", &too_large).await);
    assert_eq!(
        (refused.code, refused.field.as_deref()),
        (ErrorCode::InvalidValue, Some("size_gb"))
    );
    let deleted: DeletedDisk = node.client.delete("/v1/disks/shop/copy").await.unwrap();
    assert!(deleted.deleted && node.machine().disks.names("shop") == ["data"]);
}

/// Every stop of a sandbox that writes a disk is over before the next one starts, whoever asked for it.
#[tokio::test]
async fn b6_a_sandbox_that_is_stopped_is_replaced_once_it_has_ended() {
    let node = Node::start().await;
    node.succeed("shop", &with_disk("./one")).await;
    for _ in 0..3 {
        let id = node.running("shop", 1).await.remove(0);
        let path = format!("/v1/sandboxes/{id}/stop");
        let _: serde_json::Value = node.client.post(&path, &serde_json::json!({})).await.unwrap();
        eventually("another one runs", async || match node.running("shop", 1).await {
            ids if ids[0] != id => Ok(()),
            ids => Err(format!("{ids:?}")),
        })
        .await;
    }
    assert_eq!(collisions(&node), Vec::<String>::new());
    tokio::time::timeout(Duration::from_secs(1), node.machine().settles(1))
        .await
        .expect("one runs");
}
