//! Deaths, restarts and leases over the real API, on a simulated machine.

use crate::node::{Node, eventually, fixed, refusal, web};
use miren_api::ErrorCode;
use miren_api::deploy::DeployStatus;
use miren_api::id::{SandboxId, VersionId};
use miren_api::lease::{AcquireRequest, AcquireResponse, Demand, HeldLease, RenewRequest, RenewResponse};
use miren_api::resource::{PoolState, Sandbox, SandboxState};
use std::collections::BTreeSet;

fn ask(version: &VersionId, wait_ms: u64) -> AcquireRequest {
    AcquireRequest {
        proxy: "p1".into(),
        version: version.clone(),
        service: "web".into(),
        demand: Demand::default(),
        wait_ms,
        dropped: Vec::new(),
    }
}

#[tokio::test]
async fn a_sandbox_killed_beside_another_is_replaced_at_once_a_hundred_times() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./one", 2)).await;
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let id = eventually("two run", async || {
            match &node.machine().of_app("shop", SandboxState::Running)[..] {
                [_, other] => Ok(other.clone()),
                _ => Err(format!("{:?}", node.pools("shop").await)),
            }
        })
        .await;
        assert!(seen.insert(id.clone()), "{id} was killed before");
        node.machine().crash(&id, Some(libc::SIGKILL));
    }
    node.running("shop", 2).await;
    let pool = &node.pools("shop").await[0];
    assert_eq!((pool.crash_count, pool.state), (0, PoolState::Active));
}

#[tokio::test]
async fn b3_a_boot_failure_makes_the_pool_wait_and_the_proxy_hears_why() {
    let node = Node::start().await;
    let deploy = node.succeed("shop", &web("./one")).await;
    let id = node.running("shop", 1).await.remove(0);
    node.machine().fail("./one", "no such file");
    node.machine().crash(&id, Some(libc::SIGKILL));
    let pool = eventually("the pool waits", async || match node.pools("shop").await.remove(0) {
        pool if pool.state == PoolState::Cooldown => Ok(pool),
        pool => Err(format!("{pool:?}")),
    })
    .await;
    assert_eq!(pool.crash_count, 1);
    let request = ask(&deploy.version.unwrap(), 1000);
    let error = refusal(
        node.client
            .post::<AcquireResponse>("/v1/leases/acquire", &request)
            .await,
    );
    assert_eq!(error.code, ErrorCode::Cooldown);
    assert!(error.message.contains("no such file"), "{error:?}");
    assert!((1..=11).contains(&error.retry_after.unwrap()), "{error:?}");
    // A deploy of the same content starts fresh.
    node.machine().heal("./one");
    let again = node.succeed("shop", &web("./one")).await;
    assert!(again.reused);
    assert_eq!(node.pools("shop").await[0].crash_count, 0);
}

#[tokio::test]
async fn r6_a_lease_is_lost_with_its_sandbox_and_the_next_one_is_waited_for() {
    let node = Node::start().await;
    let deploy = node.succeed("shop", &web("./one")).await;
    let request = ask(&deploy.version.unwrap(), 10_000);
    let held: AcquireResponse = node.client.post("/v1/leases/acquire", &request).await.unwrap();
    let key = held.leases[0].key;
    let renew = RenewRequest {
        proxy: "p1".into(),
        held: vec![HeldLease {
            node: key.node,
            slot: key.slot,
            generation: key.generation,
            in_flight: 1,
            capacity: held.leases[0].capacity,
            tunnels: 0,
        }],
        demand: Vec::new(),
    };
    let kept: RenewResponse = node.client.post("/v1/leases/renew", &renew).await.unwrap();
    assert_eq!((kept.renewed[0].key(), kept.renewed[0].capacity), (key, 10));
    node.machine().hold("./one");
    node.machine().crash(&held.leases[0].sandbox, Some(libc::SIGKILL));
    let lost: RenewResponse = node.client.post("/v1/leases/renew", &renew).await.unwrap();
    assert_eq!(lost.lost, [key]);
    let (client, path) = (node.client.clone(), "/v1/leases/acquire");
    let waiting = tokio::spawn(async move { client.post::<AcquireResponse>(path, &request).await });
    eventually("a replacement is starting", async || {
        let pending = node.machine().of_app("shop", SandboxState::Pending);
        if pending.len() == 1 {
            Ok(())
        } else {
            Err(format!("{pending:?}"))
        }
    })
    .await;
    node.machine().release("./one");
    let next = waiting.await.unwrap().unwrap();
    assert_ne!(next.leases[0].key, held.leases[0].key);
}

#[tokio::test]
async fn waiting_in_vain_ends_when_the_caller_said() {
    let node = Node::start().await;
    let deploy = node.succeed("shop", &web("./one")).await;
    node.machine().hold("./one");
    let id = node.running("shop", 1).await.remove(0);
    node.machine().crash(&id, Some(libc::SIGKILL));
    let request = ask(&deploy.version.unwrap(), 50);
    let error = refusal(
        node.client
            .post::<AcquireResponse>("/v1/leases/acquire", &request)
            .await,
    );
    assert_eq!((error.code, error.retry_after), (ErrorCode::WaitTimeout, Some(1)));
    let unknown = ask(&VersionId::from_text("shop-vnone"), 50);
    let error = refusal(
        node.client
            .post::<AcquireResponse>("/v1/leases/acquire", &unknown)
            .await,
    );
    assert_eq!(error.code, ErrorCode::NoSuchVersion);
}

#[tokio::test]
async fn a_stopped_sandbox_is_replaced() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./one", 2)).await;
    let before = node.running("shop", 2).await;
    let path = format!("/v1/sandboxes/{}/stop", before[0]);
    let _: Sandbox = node.client.post(&path, &()).await.unwrap();
    eventually("another one runs", async || {
        let now = node.running("shop", 2).await;
        if now.contains(&before[0]) {
            Err(format!("{now:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    let stopped: Sandbox = node.client.get(&format!("/v1/sandboxes/{}", before[0])).await.unwrap();
    assert_eq!(stopped.reason.as_deref(), Some("stopped by request"));
    assert_eq!(
        refusal(node.client.post::<Sandbox>(&path, &()).await).code,
        ErrorCode::Conflict
    );
    assert_eq!(node.pools("shop").await[0].crash_count, 0);
}

#[tokio::test]
async fn r3_i5_a_death_on_the_way_out_is_no_crash() {
    let node = Node::start().await;
    node.machine().hold("./one");
    node.ask("shop", &web("./one")).await;
    let pending = eventually("it is starting", async || {
        node.machine()
            .of_app("shop", SandboxState::Pending)
            .pop()
            .ok_or("none".to_owned())
    })
    .await;
    let _: Sandbox = node
        .client
        .post(&format!("/v1/sandboxes/{pending}/stop"), &())
        .await
        .unwrap();
    eventually("another one is starting", async || {
        match node.machine().started().len() {
            2 => Ok(()),
            count => Err(format!("{count} started")),
        }
    })
    .await;
    node.machine().crash(&pending, None);
    let path = format!("/v1/sandboxes/{pending}");
    eventually("it is DEAD", async || {
        match node.client.get::<Sandbox>(&path).await.unwrap() {
            sandbox if sandbox.state == SandboxState::Dead => Ok(()),
            sandbox => Err(format!("{sandbox:?}")),
        }
    })
    .await;
    assert_eq!(node.pools("shop").await[0].crash_count, 0);
}

#[tokio::test]
async fn i7_a_restart_finds_the_same_sandboxes_routes_and_generation() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./one", 3)).await;
    node.route("shop.test", "shop").await;
    let before: BTreeSet<SandboxId> = node.running("shop", 3).await.into_iter().collect();
    let generation = node.control.world.routing.now().generation;
    let key = node.sandboxes("shop", SandboxState::Running).await[0].clone();

    let node = Node::on(node.kill()).await;
    assert_eq!(
        node.running("shop", 3).await.into_iter().collect::<BTreeSet<_>>(),
        before
    );
    assert_eq!(node.machine().started().len(), 3, "no duplicate");
    let snapshot = node.control.world.routing.now().snapshot();
    assert_eq!((snapshot.generation, snapshot.routes.len()), (generation, 1));
    let renew = RenewRequest {
        proxy: "p1".into(),
        held: vec![HeldLease {
            node: key.node_id,
            slot: key.slot.unwrap(),
            generation: key.generation.unwrap(),
            in_flight: 1,
            capacity: 7,
            tunnels: 0,
        }],
        demand: Vec::new(),
    };
    let renewed: RenewResponse = node.client.post("/v1/leases/renew", &renew).await.unwrap();
    assert_eq!(renewed.renewed[0].key(), renew.held[0].key(), "the lease is made again");
    assert_eq!(renewed.renewed[0].capacity, 7, "with the share it had");
}

#[tokio::test]
async fn m2_what_died_meanwhile_is_replaced_once_and_is_no_crash() {
    let node = Node::start().await;
    node.succeed("shop", &fixed("./one", 3)).await;
    let before = node.running("shop", 3).await;
    let place = node.kill();
    place.machine.crash(&before[1], None);
    let node = Node::on(place).await;
    eventually("only the dead one is replaced", async || {
        let after = node.running("shop", 3).await;
        let kept = after.contains(&before[0]) && after.contains(&before[2]);
        if kept && !after.contains(&before[1]) {
            Ok(())
        } else {
            Err(format!("{after:?}"))
        }
    })
    .await;
    assert_eq!(node.machine().started().len(), 4);
    assert_eq!(node.pools("shop").await[0].crash_count, 0);
    let dead: Sandbox = node.client.get(&format!("/v1/sandboxes/{}", before[1])).await.unwrap();
    assert_eq!(dead.state, SandboxState::Dead);
}

#[tokio::test]
async fn a_deploy_goes_on_after_a_restart() {
    let node = Node::start().await;
    node.machine().hold("./one");
    let deploy = node.ask("shop", &web("./one")).await;
    eventually("it is starting", async || {
        let pending = node.machine().of_app("shop", SandboxState::Pending);
        if pending.len() == 1 {
            Ok(())
        } else {
            Err(format!("{pending:?}"))
        }
    })
    .await;
    let node = Node::on(node.kill()).await;
    node.machine().release("./one");
    let ended = node.ended(&deploy).await;
    assert_eq!(ended.status, DeployStatus::Succeeded, "{ended:?}");
    assert_eq!(node.machine().started().len(), 1);
}
