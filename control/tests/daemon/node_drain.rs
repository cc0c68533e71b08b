//! A node that is cordoned, drained and opened again, as its operator, its users and its proxies see it.

use crate::node::{Node, eventually, fixed, refusal, web};
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::id::{SandboxId, VersionId};
use miren_api::lease::{AcquireRequest, AcquireResponse, Demand};
use miren_api::node::{DrainRequest, DrainStep, NodeGate, NodePhase, NodeStatus};
use miren_api::resource::SandboxState;
use miren_api::{Client, ClientError, ErrorCode};

/// An app that has no sandbox while nobody asks for it.
const IDLE: &str =
    "[services.web]\ncommand = \"./idle\"\n[services.web.concurrency]\nmode = \"auto\"\nscale_down_delay = \"0s\"\n";

impl Node {
    pub async fn status(&self) -> NodeStatus {
        self.client.get("/v1/node").await.unwrap()
    }

    pub async fn order(&self, verb: &str) -> Result<NodeStatus, ClientError> {
        self.client
            .post(&format!("/v1/node/{verb}"), &serde_json::Map::new())
            .await
    }

    pub async fn drain(&self, request: DrainRequest) -> Result<NodeStatus, ClientError> {
        self.client.post("/v1/node/drain", &request).await
    }

    pub async fn begin_to_drain(&self) -> NodeStatus {
        self.drain(outage()).await.unwrap()
    }

    pub async fn reaches(&self, phase: NodePhase) -> NodeStatus {
        eventually("the node reaches a phase", async || match self.status().await {
            status if status.phase == phase => Ok(status),
            status => Err(format!("{status:?}")),
        })
        .await
    }

    pub async fn waits_for(&self, step: DrainStep) -> NodeStatus {
        eventually("the drain waits", async || match self.status().await {
            status if status.waits_for == Some(step) => Ok(status),
            status => Err(format!("{status:?}")),
        })
        .await
    }

    /// What runs of an app once there are `count`, and this one is not among them.
    pub async fn replaced(&self, app: &str, count: usize, gone: &SandboxId) -> Vec<SandboxId> {
        eventually("a sandbox is replaced", async || {
            let running = self.machine().of_app(app, SandboxState::Running);
            match running.len() == count && !running.contains(gone) {
                true => Ok(running),
                false => Err(format!("{running:?}")),
            }
        })
        .await
    }

    pub async fn try_deploy(&self, app: &str, artifact: &str, key: &str) -> Result<Deploy, ClientError> {
        let request = DeployRequest {
            artifact: Some(artifact.to_owned()),
            ..DeployRequest::default()
        };
        self.client.deploy(app, &request, key).await
    }

    pub async fn acquire(&self, version: &VersionId, wait_ms: u64) -> Result<AcquireResponse, ClientError> {
        acquire(&self.client, version, wait_ms).await
    }
}

async fn acquire(client: &Client, version: &VersionId, wait_ms: u64) -> Result<AcquireResponse, ClientError> {
    let request = AcquireRequest {
        proxy: "p".into(),
        version: version.clone(),
        service: "web".into(),
        demand: Demand {
            in_flight: 0,
            queued: 1,
        },
        wait_ms,
        dropped: Vec::new(),
    };
    client.post("/v1/leases/acquire", &request).await
}

fn outage() -> DrainRequest {
    DrainRequest {
        allow_outage: true,
        ..DrainRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d2_what_was_let_in_finishes_and_d1_what_comes_later_is_refused() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./shop", 2)).await;
    let next = node.upload(&web("./next")).await.digest;
    node.machine().hold("./slow");
    let first = node
        .try_deploy("blog", &node.upload(&web("./slow")).await.digest, "key-1")
        .await
        .unwrap();
    eventually("its sandbox is being started", async || {
        match node.sandboxes("blog", SandboxState::Pending).await.len() {
            1 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;

    node.begin_to_drain().await;
    let status = node.waits_for(DrainStep::Admitted).await;
    assert_eq!((status.gate, status.admitted), (NodeGate::ApiClosed, 1), "{status:?}");
    assert_eq!(status.blockers[0].id, first.id.to_string(), "{status:?}");
    let refused = refusal(node.try_deploy("other", &next, "key-2").await);
    assert_eq!(refused.code, ErrorCode::Draining, "{refused:?}");
    assert!(
        refused.retry_after.is_some() && refused.message.contains("node test"),
        "{refused:?}"
    );
    let upload = node.client.upload(crate::node::folder(&web("./late")).into()).await;
    assert_eq!(refusal(upload).code, ErrorCode::Draining);
    let again = node
        .try_deploy("blog", first_digest(&node).await.as_str(), "key-1")
        .await
        .unwrap();
    assert_eq!(again.id, first.id, "the answer that was lost is found again by its key");
    assert_eq!(
        node.machine().of_app("shop", SandboxState::Running).len(),
        2,
        "what serves goes on meanwhile"
    );

    node.machine().release("./slow");
    let ended = node.ended(&first).await;
    assert_eq!(ended.status, DeployStatus::Succeeded, "{ended:?}");
    let status = node.reaches(NodePhase::Empty).await;
    assert_eq!(
        (status.gate, status.living(), status.clean_ups),
        (NodeGate::Closed, 0, 0),
        "{status:?}"
    );
    assert_eq!(node.machine().alive(), []);
}

/// The folder that [`Node::upload`] makes of the same settings.
async fn first_digest(node: &Node) -> String {
    let stored = node
        .control
        .artifacts
        .store(std::io::Cursor::new(crate::node::folder(&web("./slow"))));
    stored.unwrap().digest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d1_while_it_drains_requests_go_to_what_runs_and_wake_nothing_up() {
    let node = Node::start().await;
    let shop = node.succeed("shop", &fixed("./shop", 1)).await.version.unwrap();
    let idle = node.succeed("idle", IDLE).await.version.unwrap();
    node.running("idle", 0).await;
    let woken = node
        .succeed("woken", &IDLE.replace("./idle", "./woken"))
        .await
        .version
        .unwrap();
    node.running("woken", 0).await;
    node.machine().hold("./woken");
    let waits = {
        let (client, version) = (node.client.clone(), woken.clone());
        tokio::spawn(async move { acquire(&client, &version, 60_000).await })
    };
    eventually("it is being started", async || {
        match node.machine().of_app("woken", SandboxState::Pending).len() {
            1 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    node.machine().hold("./slow");
    let slow = node.ask("blog", &web("./slow")).await;
    node.begin_to_drain().await;
    assert_eq!(refusal(node.acquire(&idle, 0).await).code, ErrorCode::Draining);
    let granted = node.acquire(&shop, 0).await.unwrap();
    assert_eq!(granted.leases.len(), 1, "it is served until its sandbox drains");
    let crashed = node.machine().of_app("shop", SandboxState::Running)[0].clone();
    node.machine().crash(&crashed, Some(9));
    // A replacement is no activation.
    node.replaced("shop", 1, &crashed).await;

    node.machine().release("./woken");
    assert_eq!(
        waits.await.unwrap().unwrap().leases.len(),
        1,
        "what it was started for had been let in"
    );
    node.machine().release("./slow");
    node.ended(&slow).await;
    node.reaches(NodePhase::Empty).await;
    assert_eq!(refusal(node.acquire(&shop, 0).await).code, ErrorCode::Draining);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d4_a_drain_of_the_only_node_and_a_force_without_one_are_asked_for_in_words() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./shop", 1)).await;
    let refused = refusal(node.drain(DrainRequest::default()).await);
    assert_eq!(
        (refused.code, refused.field.as_deref()),
        (ErrorCode::InvalidValue, Some("allow_outage"))
    );
    assert!(refused.remedy.contains("--allow-outage"), "{refused:?}");
    let force = DrainRequest {
        force: true,
        ..DrainRequest::default()
    };
    let refused = refusal(node.drain(force.clone()).await);
    assert_eq!(
        (refused.code, refused.field.as_deref()),
        (ErrorCode::InvalidValue, Some("force"))
    );
    let soon = DrainRequest {
        timeout: Some("soon".into()),
        ..outage()
    };
    assert_eq!(refusal(node.drain(soon).await).field.as_deref(), Some("timeout"));
    assert_eq!(node.status().await.phase, NodePhase::Active, "nothing has changed");
    assert_eq!(node.machine().alive().len(), 1);

    node.begin_to_drain().await;
    node.drain(DrainRequest::default()).await.unwrap();
    node.drain(force).await.unwrap();
    node.reaches(NodePhase::Empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_a_drain_goes_on_where_it_was_when_control_was_killed_and_what_was_empty_stays_so() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./shop", 3)).await;
    node.machine().hold("./slow");
    let slow = node.ask("blog", &web("./slow")).await;
    node.begin_to_drain().await;
    node.waits_for(DrainStep::Admitted).await;
    let artifact = first_digest(&node).await;

    let node = Node::on(node.kill()).await;
    let status = node.waits_for(DrainStep::Admitted).await;
    assert_eq!((status.gate, status.admitted), (NodeGate::ApiClosed, 1), "{status:?}");
    assert_eq!(
        refusal(node.try_deploy("new", &artifact, "k").await).code,
        ErrorCode::Draining
    );
    node.machine().release("./slow");
    assert_eq!(node.ended(&slow).await.status, DeployStatus::Succeeded, "it was let in");
    node.reaches(NodePhase::Empty).await;

    let started = node.machine().started().len();
    let node = Node::on(node.kill()).await;
    let status = node.reaches(NodePhase::Empty).await;
    assert_eq!(status.gate, NodeGate::Closed);
    assert_eq!(
        node.machine().started().len(),
        started,
        "nothing was started in between"
    );
    assert_eq!(refusal(node.order("uncordon").await).code, ErrorCode::Conflict);

    let opened = node.order("undrain").await.unwrap();
    assert_eq!(
        (opened.phase, opened.gate, opened.generation),
        (NodePhase::Active, NodeGate::Open, 1)
    );
    node.running("shop", 3).await;
    let node = Node::on(node.kill()).await;
    assert_eq!(node.reaches(NodePhase::Active).await.gate, NodeGate::Open);
    node.succeed("shop", &fixed("./newer", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d4_undone_half_way_what_drains_ends_and_is_replaced() {
    let node = Node::start().await;
    node.machine().hold("./shop");
    let deploy = node.ask("shop", &fixed("./shop", 2)).await;
    node.machine().release("./shop");
    node.ended(&deploy).await;
    let before = node.running("shop", 2).await;
    // They do not stop before they are released.
    node.machine().hold("./shop");
    node.begin_to_drain().await;
    let status = node.waits_for(DrainStep::Sandboxes).await;
    let mut named: Vec<&str> = status.blockers.iter().map(|blocker| blocker.id.as_str()).collect();
    named.sort_unstable();
    let mut expected: Vec<&str> = before.iter().map(|id| id.as_str()).collect();
    expected.sort_unstable();
    assert_eq!(named, expected, "{status:?}");
    node.order("undrain").await.unwrap();
    node.machine().release("./shop");
    // Each was told to drain; when it does is up to its app.
    for gone in &before {
        node.replaced("shop", 2, gone).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d5_an_order_whose_answer_nobody_waits_for_is_carried_out_and_admission_stays_closed() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./shop", 2)).await;
    let artifact = node.upload(&web("./next")).await.digest;
    node.machine().hold("./shop");
    let follows = {
        let client = node.client.clone();
        tokio::spawn(async move {
            use futures_util::StreamExt;
            client.post::<NodeStatus>("/v1/node/drain", &outage()).await.unwrap();
            let mut events = Box::pin(client.events("/v1/node/events", None).await.unwrap());
            while events.next().await.is_some() {}
        })
    };
    node.waits_for(DrainStep::Sandboxes).await;
    follows.abort();
    assert!(follows.await.unwrap_err().is_cancelled());
    let refused = refusal(node.try_deploy("other", &artifact, "k").await);
    assert_eq!(refused.code, ErrorCode::Draining);
    assert_eq!(node.status().await.phase, NodePhase::Draining);
    node.machine().release("./shop");
    node.reaches(NodePhase::Empty).await;
}

/// Requests that wake sandboxes up against the close, round after round: whatever was started has ended when the node is EMPTY, and
/// nothing is started after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d2_of_activations_against_a_drain_none_is_missed_and_none_comes_after() {
    const APPS: usize = 10;
    let node = Node::start().await;
    let mut versions = Vec::new();
    for app in 0..APPS {
        let deploy = node.succeed(&format!("app-{app}"), &web(&format!("./app-{app}"))).await;
        versions.push(deploy.version.unwrap());
    }
    for round in 0..20 {
        let deploys = (0..APPS).map(|app| {
            let (client, text) = (node.client.clone(), fixed(&format!("./app-{app}-{round}"), 2));
            let artifact = node
                .control
                .artifacts
                .store(std::io::Cursor::new(crate::node::folder(&text)))
                .unwrap();
            tokio::spawn(async move {
                let request = DeployRequest {
                    artifact: Some(artifact.digest),
                    ..DeployRequest::default()
                };
                client
                    .deploy(&format!("app-{app}"), &request, &format!("k-{app}-{round}"))
                    .await
            })
        });
        let deploys: Vec<_> = deploys.collect();
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        node.begin_to_drain().await;
        let mut let_in = Vec::new();
        for deploy in deploys {
            match deploy.await.unwrap() {
                Ok(deploy) => let_in.push(deploy),
                Err(ClientError::Refused(error)) if error.code == ErrorCode::Draining => {}
                Err(other) => panic!("round {round}: {other:?}"),
            }
        }
        node.reaches(NodePhase::Empty).await;
        let started = node.machine().started().len();
        assert_eq!(node.machine().alive(), [], "round {round}");
        for deploy in let_in {
            let ended = node.ended(&deploy).await;
            assert_eq!(ended.status, DeployStatus::Succeeded, "round {round}: {ended:?}");
        }
        for version in versions.iter().filter(|_| round == 19) {
            assert_eq!(
                refusal(node.acquire(version, 0).await).code,
                ErrorCode::Draining,
                "round {round}"
            );
        }
        assert_eq!(node.machine().started().len(), started, "round {round}: one came after");
        node.order("undrain").await.unwrap();
    }
}
