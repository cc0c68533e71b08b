//! Deploys over the real API, on a simulated machine.

use crate::followers::Follower;
use crate::node::{Node, eventually, fixed, refusal, web};
use futures_util::StreamExt;
use miren_api::ErrorCode;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::id::{AppName, VersionId};
use miren_api::lease::{AcquireRequest, AcquireResponse, Demand, ReleaseRequest};
use miren_api::resource::{App, Health, SandboxState, Version, VersionStatus};
use miren_api::routing::{ProxyAck, RoutingDelta, RoutingSnapshot};
use miren_control::record::ActiveRecord;
use miren_control::routing::{Change, RoutingError};
use std::pin::pin;

#[tokio::test]
async fn a_first_deploy_ends_with_its_sandboxes_running() {
    let node = Node::start().await;
    let deploy = node.succeed("shop", &fixed("./one", 2)).await;
    assert_eq!((deploy.seq, deploy.reused), (1, false));
    let story: Vec<DeployStatus> = deploy.steps.iter().map(|step| step.status).collect();
    assert_eq!(story.first(), Some(&DeployStatus::Accepted));
    assert_eq!(story.last(), Some(&DeployStatus::Succeeded));
    let app: App = node.client.get("/v1/apps/shop").await.unwrap();
    assert_eq!((app.health, app.ready, app.desired), (Health::Healthy, 2, 2));
    assert_eq!(app.version, deploy.version);
    assert_eq!(app.routes, ["(default)"], "the first app of a node is its default");
    assert!(
        deploy.urls.is_empty(),
        "nobody said under which name the node is reached"
    );
    let pool = &node.pools("shop").await[0];
    assert_eq!((Some(&pool.id), pool.ready), (deploy.pool.as_ref(), 2));
}

#[tokio::test]
async fn a_sandbox_is_told_who_it_is() {
    let node = Node::start().await;
    let deploy = node.succeed("shop", &fixed("./one", 2)).await;
    let mut numbers = Vec::new();
    for id in node.machine().alive() {
        let env = node.machine().environment(&id);
        assert_eq!(
            (
                env["PORT"].as_str(),
                env["MIREN_APP"].as_str(),
                env["MIREN_SERVICE"].as_str()
            ),
            ("3000", "shop", "web")
        );
        assert_eq!(
            Some(env["MIREN_VERSION"].as_str()),
            deploy.version.as_ref().map(|version| version.as_str())
        );
        numbers.push(env["MIREN_INSTANCE_NUM"].clone());
    }
    numbers.sort();
    assert_eq!(numbers, ["0", "1"]);
}

#[tokio::test]
async fn r1_an_identical_deploy_reuses_the_pool_and_starts_nothing() {
    let node = Node::start().await;
    let first = node.succeed("shop", &web("./one")).await;
    let second = node.succeed("shop", &web("./one")).await;
    assert!(second.reused);
    assert_eq!(first.pool, second.pool);
    assert_eq!(node.machine().started().len(), 1);
    let pools = node.pools("shop").await;
    assert_eq!(pools.len(), 1);
    assert_eq!(pools[0].versions, [second.version.clone().unwrap()]);
    let versions: Vec<Version> = node.client.list("/v1/apps/shop/versions").await.unwrap();
    let active: Vec<_> = versions
        .iter()
        .filter(|version| version.status == VersionStatus::Active)
        .collect();
    assert_eq!((versions.len(), active.len()), (2, 1));
    assert_eq!(Some(&active[0].version), second.version.as_ref());
}

#[tokio::test]
async fn r12_three_rapid_deploys_leave_one_version_and_no_orphan() {
    let node = Node::start().await;
    let deploys = [
        node.ask("shop", &web("./one")).await,
        node.ask("shop", &web("./one")).await,
        node.ask("shop", &web("./two")).await,
    ];
    let mut last = None;
    for deploy in &deploys {
        last = Some(node.ended(deploy).await);
    }
    let last = last.unwrap();
    assert_eq!(last.status, DeployStatus::Succeeded);
    eventually("only the newest pool is left", async || {
        let pools = node.pools("shop").await;
        let alive = node.machine().alive();
        let settled = pools.len() == 1 && Some(&pools[0].id) == last.pool.as_ref() && alive.len() == 1;
        if settled {
            Ok(())
        } else {
            Err(format!("{pools:?} {alive:?}"))
        }
    })
    .await;
    assert_eq!(node.pools("shop").await[0].crash_count, 0);
}

#[tokio::test]
async fn a_failing_boot_fails_the_deploy_with_its_reason_and_the_old_version_serves_on() {
    let node = Node::start().await;
    let good = node.succeed("shop", &web("./good")).await;
    let serving = node.running("shop", 1).await;
    node.machine()
        .fail("./bad", "port 3000 did not open within 15s: connection refused");
    let bad = node.deploy("shop", &web("./bad")).await;
    assert_eq!(bad.status, DeployStatus::Failed);
    let error = bad.error.unwrap();
    assert!(error.contains("connection refused"), "{error}");
    let app: App = node.client.get("/v1/apps/shop").await.unwrap();
    assert_eq!(app.version, good.version);
    assert_eq!(node.running("shop", 1).await, serving);
    eventually("the failed pool is gone", async || {
        match node.pools("shop").await.len() {
            1 => Ok(()),
            count => Err(format!("{count} pools")),
        }
    })
    .await;
}

#[tokio::test]
async fn an_older_deploy_that_becomes_ready_later_is_superseded() {
    let node = Node::start().await;
    node.machine().hold("./slow");
    let slow = node.ask("shop", &web("./slow")).await;
    let quick = node.succeed("shop", &web("./quick")).await;
    let slow = node.ended(&slow).await;
    assert_eq!(slow.status, DeployStatus::Superseded);
    node.machine().release("./slow");
    eventually("its sandbox is gone", async || {
        let alive = node.machine().alive();
        if alive.len() == 1 {
            Ok(())
        } else {
            Err(format!("{alive:?}"))
        }
    })
    .await;
    let app: App = node.client.get("/v1/apps/shop").await.unwrap();
    assert_eq!(app.version, quick.version);
}

#[tokio::test]
async fn a_deploy_can_be_followed_to_its_end_and_resumed() {
    let node = Node::start().await;
    node.machine().hold("./one");
    let deploy = node.ask("shop", &web("./one")).await;
    let path = format!("/v1/deploys/{}/events", deploy.id);
    let mut events = pin!(node.client.events(&path, None).await.unwrap());
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(first.name, "deploy");
    node.machine().release("./one");
    let mut last = first.clone();
    while let Some(event) = events.next().await {
        last = event.unwrap();
    }
    let ended: Deploy = serde_json::from_str(&last.data).unwrap();
    assert_eq!(ended.status, DeployStatus::Succeeded);
    let again: Vec<_> = node.client.events(&path, Some(&last.id)).await.unwrap().collect().await;
    assert!(again.is_empty(), "nothing happened after it: {again:?}");
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_deploy() {
    let node = Node::start().await;
    let artifact = node.upload(&web("./one")).await.digest;
    let request = DeployRequest {
        artifact: Some(artifact),
        ..DeployRequest::default()
    };
    let first = node.client.deploy("shop", &request, "key-1").await.unwrap();
    node.ended(&first).await;
    let again = node.client.deploy("shop", &request, "key-1").await.unwrap();
    assert_eq!((first.id.clone(), first.seq), (again.id, again.seq));
    let mut other = request.clone();
    other.env.insert("A".into(), Some("1".into()));
    assert_eq!(
        refusal(node.client.deploy("shop", &other, "key-1").await).code,
        ErrorCode::Conflict
    );
    assert_ne!(
        node.client.deploy("shop", &request, "key-2").await.unwrap().id,
        first.id
    );
}

#[tokio::test]
async fn the_old_pool_is_retired_only_after_every_proxy_serves_the_new_snapshot() {
    let node = Node::start().await;
    let old = node.succeed("shop", &web("./old")).await;
    node.route("shop.test", "shop").await;
    let mut stream = Follower::open(&node, "p1").await;
    let first: RoutingSnapshot = stream.next("snapshot").await;
    assert_eq!(first.routes[0].host, "shop.test");
    assert_eq!(first.apps.values().next().unwrap().active, old.version);
    let ask: AcquireRequest = AcquireRequest {
        proxy: "p1".into(),
        version: old.version.clone().unwrap(),
        service: "web".into(),
        demand: Demand::default(),
        wait_ms: 1000,
        dropped: Vec::new(),
    };
    let held: AcquireResponse = node.client.post("/v1/leases/acquire", &ask).await.unwrap();
    assert_eq!((held.leases.len(), held.leases[0].capacity), (1, 10));

    let new = node.ask("shop", &web("./new")).await;
    let second: RoutingDelta = stream.next("delta").await;
    assert_eq!(second.from, first.generation);
    // Far more writes than the retirement would need, were it not held up.
    for n in 0..10 {
        node.route(&format!("r{n}.test"), "shop").await;
    }
    let path = format!("/v1/deploys/{}", new.id);
    let waiting: Deploy = node.client.get(&path).await.unwrap();
    assert!(!waiting.status.is_final(), "{waiting:?}");
    assert_eq!(
        node.machine().of_app("shop", SandboxState::Running).len(),
        2,
        "both serve until the proxy says so"
    );

    let ack = ProxyAck {
        proxy: "p1".into(),
        generation: second.generation,
        lineage: String::new(),
    };
    let _: ProxyAck = node.client.post("/v1/proxy/ack", &ack).await.unwrap();
    assert_eq!(node.ended(&new).await.status, DeployStatus::Succeeded);
    eventually("the old sandbox drains, and waits for the lease", async || {
        match node.machine().of_app("shop", SandboxState::Draining).as_slice() {
            [only] if *only == held.leases[0].sandbox => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(
        refusal(node.client.post::<AcquireResponse>("/v1/leases/acquire", &ask).await).code,
        ErrorCode::NoSuchVersion
    );

    let release = ReleaseRequest {
        proxy: "p1".into(),
        leases: vec![held.leases[0].key.released(held.answer)],
    };
    let _: ReleaseRequest = node.client.post("/v1/leases/release", &release).await.unwrap();
    eventually("the old sandbox is gone", async || match node.machine().alive().len() {
        1 => Ok(()),
        count => Err(format!("{count} alive")),
    })
    .await;
}

#[tokio::test]
async fn p2_the_installed_number_never_decreases() {
    let node = Node::start().await;
    let routing = &node.control.world.routing;
    let install = |seq| {
        Change::Install(ActiveRecord {
            app: AppName::from_text("shop"),
            version: VersionId::from_text(format!("shop-v{seq}")),
            seq,
            web: true,
        })
    };
    let second = routing.submit(install(2)).await.unwrap();
    assert_eq!(
        routing.submit(install(1)).await,
        Err(RoutingError::Superseded { installed: 2 })
    );
    assert_eq!(routing.submit(install(2)).await, Ok(second), "said twice is done once");
    assert_eq!(routing.submit(install(3)).await, Ok(second + 1));
}

#[tokio::test]
async fn a_deleted_app_leaves_nothing() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./one", 2)).await;
    node.route("shop.test", "shop").await;
    let _: App = node.client.delete("/v1/apps/shop").await.unwrap();
    eventually("the app is gone", async || {
        match node.client.get::<App>("/v1/apps/shop").await {
            Ok(app) => Err(format!("{app:?}")),
            Err(_) => Ok(()),
        }
    })
    .await;
    assert!(node.machine().alive().is_empty());
    assert!(
        node.client
            .list::<miren_api::resource::Route>("/v1/routes")
            .await
            .unwrap()
            .is_empty()
    );
    let again = node.succeed("shop", &web("./one")).await;
    assert_eq!(again.seq, 1);
}
