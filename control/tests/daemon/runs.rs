//! Commands that run once, over the real API on a simulated machine: what they are given, how they end, and what is told of them.

use crate::node::{Node, eventually, refusal, web};
use miren_api::ErrorCode;
use miren_api::id::SandboxId;
use miren_api::resource::{Pool, SandboxState};
use miren_api::run::{Run, RunRequest, RunStatus};

const RUNS: &str = "/v1/apps/shop/runs";

fn detached(words: &[&str]) -> RunRequest {
    RunRequest {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        detach: true,
        ..RunRequest::default()
    }
}

async fn begin(node: &Node, request: &RunRequest) -> Run {
    node.client.post(RUNS, request).await.unwrap()
}

async fn shown(node: &Node, id: &SandboxId) -> Option<Run> {
    let runs: Vec<Run> = node.client.list(RUNS).await.unwrap();
    runs.into_iter().find(|run| run.id == *id)
}

/// The run once its status is that.
async fn becomes(node: &Node, id: &SandboxId, status: RunStatus) -> Run {
    eventually("the run", async || {
        let run = shown(node, id).await;
        match run {
            Some(run) if run.status == status => Ok(run),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

const WITH_DISK: &str = "[[env]]\nkey = \"COLOR\"\nvalue = \"red\"\n[services.web]\ncommand = \"./serve\"\n\
    [services.web.resources]\nmemory = \"64MiB\"\n[[services.web.disks]]\nname = \"data\"\nmount_path = \"/d\"\nsize_gb = 1\n\
    [services.worker]\ncommand = \"./work\"\n[[services.worker.env]]\nkey = \"COLOR\"\nvalue = \"blue\"\n";

#[tokio::test]
async fn g17_a_run_has_what_its_version_has_but_its_port_and_its_disks_and_its_end_is_told() {
    let node = Node::start().await;
    let deploy = node.succeed("shop", WITH_DISK).await;
    node.machine().hold("./later");
    let run = begin(&node, &detached(&["sh", "-c", "exit 3"])).await;
    assert_eq!((Some(run.version.clone()), &*run.service), (deploy.version, "web"));
    let order = node.machine().one_offs_settle(1).await.remove(0);
    let words = order.one_off.as_ref().map(|one_off| one_off.words.clone()).unwrap();
    assert_eq!(words, ["sh", "-c", "exit 3"]);
    assert_eq!((order.service.port, order.service.disks.len()), (None, 0));
    assert!(order.service.resources.memory.is_some() && order.app_files.is_some());
    let env = |name: &str| order.env.get(name).map(String::as_str);
    assert_eq!(
        (env("COLOR"), env("MIREN_SERVICE"), env("PORT")),
        (Some("red"), Some("run"), None)
    );
    assert_eq!(env("MIREN_VERSION"), Some(run.version.as_str()));
    becomes(&node, &run.id, RunStatus::Running).await;
    // No pool has it, and none is another than it was.
    let pools: Vec<Pool> = node.client.list("/v1/pools").await.unwrap();
    assert!(pools.iter().all(|pool| pool.current <= 1), "{pools:?}");
    node.machine().exit(&run.id, 3);
    let ended = becomes(&node, &run.id, RunStatus::Failed).await;
    assert_eq!(ended.exit_code, Some(3));
    assert!(ended.ended_at.is_some());
    let other = begin(
        &node,
        &RunRequest {
            service: Some("worker".into()),
            ..detached(&["true"])
        },
    )
    .await;
    let order = node.machine().one_offs_settle(1).await.remove(0);
    assert_eq!(order.env["COLOR"], "blue");
    node.machine().exit(&other.id, 0);
    becomes(&node, &other.id, RunStatus::Succeeded).await;
    assert_eq!(
        node.machine().of_app("shop", SandboxState::Running).len(),
        2,
        "those that serve, and none in place of a run"
    );
}

#[tokio::test]
async fn g17_what_cannot_be_run_is_refused_with_a_reason() {
    let node = Node::start().await;
    let refused = async |request: &RunRequest| refusal(node.client.post::<Run>(RUNS, request).await);
    assert_eq!(
        refused(&detached(&["true"])).await.code,
        ErrorCode::NotFound,
        "no such app"
    );
    node.machine().fail("./broken", "it is broken");
    let failed = node.ask("shop", &web("./broken")).await;
    node.ended(&failed).await;
    let error = refused(&detached(&["true"])).await;
    assert!(
        error.message.contains("no active version") && !error.remedy.is_empty(),
        "{error:?}"
    );
    node.succeed("shop", &web("./serve")).await;
    for (request, field) in [
        (detached(&[]), "command"),
        (detached(&["a\0b"]), "command"),
        (
            RunRequest {
                stdin: true,
                ..detached(&["a"])
            },
            "detach",
        ),
        (
            RunRequest {
                timeout: Some(0),
                ..detached(&["a"])
            },
            "timeout",
        ),
        (
            RunRequest {
                service: Some("no".into()),
                ..detached(&["a"])
            },
            "service",
        ),
    ] {
        let error = refused(&request).await;
        assert_eq!(error.field.as_deref(), Some(field), "{error:?}");
    }
    let attached = RunRequest {
        detach: false,
        ..detached(&["a"])
    };
    assert!(
        refused(&attached).await.message.contains("connection"),
        "no connection to keep"
    );
    assert!(node.machine().one_offs().is_empty());
}

#[tokio::test]
async fn g17_no_more_run_than_there_is_room_for_and_none_begins_on_a_cordoned_node() {
    let node = Node::start().await;
    node.succeed("shop", &web("./serve")).await;
    let refused = async |request: &RunRequest| refusal(node.client.post::<Run>(RUNS, request).await);
    let nothing = serde_json::Map::new();
    let _: serde_json::Value = node.client.post("/v1/node/cordon", &nothing).await.unwrap();
    let cordoned = refused(&detached(&["true"])).await;
    assert_eq!(cordoned.code, ErrorCode::Cordoned, "{cordoned:?}");
    let _: serde_json::Value = node.client.post("/v1/node/uncordon", &nothing).await.unwrap();
    for _ in 0..miren_control::app::run::PER_APP {
        begin(&node, &detached(&["sleep"])).await;
    }
    let full = refused(&detached(&["one", "more"])).await;
    assert_eq!(full.code, ErrorCode::AtCapacity, "{full:?}");
}

#[tokio::test]
async fn g17_a_run_outlives_control_and_stays_on_its_version() {
    let node = Node::start().await;
    let first = node.succeed("shop", &web("./one")).await;
    let run = begin(&node, &detached(&["work"])).await;
    becomes(&node, &run.id, RunStatus::Running).await;
    node.succeed("shop", &web("./two")).await;
    let place = node.kill();
    let node = Node::on(place).await;
    let again = becomes(&node, &run.id, RunStatus::Running).await;
    assert_eq!(Some(&again.version), first.version.as_ref());
    assert_eq!(node.machine().one_offs().len(), 1, "and none was started again");
    // One whose end nobody saw has ended all the same.
    let place = node.kill();
    place.machine.exit(&run.id, 0);
    let node = Node::on(place).await;
    becomes(&node, &run.id, RunStatus::Failed).await;
    assert!(node.machine().one_offs().is_empty());
}

#[tokio::test]
async fn g17_a_run_that_is_not_wanted_is_ended_and_says_why() {
    let node = Node::start().await;
    node.succeed("shop", &web("./serve")).await;
    let stopped = begin(&node, &detached(&["work"])).await;
    becomes(&node, &stopped.id, RunStatus::Running).await;
    let path = format!("/v1/sandboxes/{}/stop", stopped.id);
    let _: miren_api::resource::Sandbox = node.client.post(&path, &serde_json::Map::new()).await.unwrap();
    let told = becomes(&node, &stopped.id, RunStatus::Stopped).await;
    assert_eq!(told.reason.as_deref(), Some("stopped by request"));
    let brief = begin(
        &node,
        &RunRequest {
            timeout: Some(1),
            ..detached(&["work"])
        },
    )
    .await;
    let told = becomes(&node, &brief.id, RunStatus::Stopped).await;
    assert!(
        told.reason.as_deref().is_some_and(|why| why.contains("longer than")),
        "{told:?}"
    );
    let with_app = begin(&node, &detached(&["work"])).await;
    becomes(&node, &with_app.id, RunStatus::Running).await;
    let _: serde_json::Value = node.client.delete("/v1/apps/shop").await.unwrap();
    eventually("nothing of the app", async || {
        let alive = node.machine().alive();
        alive.is_empty().then_some(()).ok_or_else(|| format!("{alive:?}"))
    })
    .await;
}
