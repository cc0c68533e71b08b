//! Several proxies on one node: they share what a sandbox takes, through crashes of theirs and restarts of control.

use crate::machine::{Machine, control_of_runtime, control_on};
use crate::memory::Memory;
use crate::node::{Node, PATIENCE, eventually, folder, refusal, web};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use miren_api::client::Event;
use miren_api::deploy::DeployRequest;
use miren_api::id::{AppName, NodeId, VersionId};
use miren_api::lease::{
    AcquireRequest, AcquireResponse, Demand, HeldLease, LeaseKey, RENEW_INTERVAL, ReleaseRequest, RenewRequest,
    RenewResponse,
};
use miren_api::resource::Sandbox;
use miren_api::{Client, ClientError, ErrorCode};
use miren_control::app::Command;
use miren_control::clock::Clock;
use miren_control::control::Control;
use miren_control::policy::Policy;
use miren_control::store::Store;
use miren_sandbox::Budgets;
use std::io::Cursor;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

fn ask(proxy: &str, version: &VersionId, queued: u32, wait_ms: u64) -> AcquireRequest {
    AcquireRequest {
        proxy: proxy.into(),
        version: version.clone(),
        service: "web".into(),
        demand: Demand { in_flight: 0, queued },
        wait_ms,
        dropped: Vec::new(),
    }
}

/// A renewal of one lease, with what the proxy takes its share to be.
fn renewal(proxy: &str, key: LeaseKey, in_flight: u32, capacity: u32) -> RenewRequest {
    RenewRequest {
        proxy: proxy.into(),
        held: vec![HeldLease {
            node: key.node,
            slot: key.slot,
            generation: key.generation,
            in_flight,
            capacity,
            tunnels: 0,
        }],
        demand: Vec::new(),
    }
}

/// One that follows control and speaks its API.
struct Proxy {
    name: &'static str,
    client: Client,
    version: VersionId,
    events: Pin<Box<dyn Stream<Item = Result<Event, ClientError>> + Send>>,
}

impl Proxy {
    async fn follow(node: &Node, name: &'static str, version: &VersionId) -> Self {
        let path = format!("/v1/proxy/stream?proxy={name}");
        let mut events = Box::pin(node.client.events(&path, None).await.unwrap());
        for name in ["identity", "snapshot"] {
            assert_eq!(events.next().await.unwrap().unwrap().name, name);
        }
        Self {
            name,
            client: node.client.clone(),
            version: version.clone(),
            events,
        }
    }

    async fn try_acquire(&self, queued: u32, wait_ms: u64) -> Result<AcquireResponse, ClientError> {
        let request = ask(self.name, &self.version, queued, wait_ms);
        self.client.post("/v1/leases/acquire", &request).await
    }

    /// Its share of the one sandbox there is.
    async fn acquire(&self) -> u32 {
        self.try_acquire(1, 10_000).await.unwrap().leases[0].capacity
    }

    /// Asks until its share is this.
    async fn becomes(&self, wanted: u32, queued: u32) {
        let what = format!("{} has {wanted}", self.name);
        eventually(&what, async || match self.try_acquire(queued, 0).await {
            Ok(held) if held.leases[0].capacity == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    async fn renew(&self, key: LeaseKey, in_flight: u32, capacity: u32) -> RenewResponse {
        let request = renewal(self.name, key, in_flight, capacity);
        self.client.post("/v1/leases/renew", &request).await.unwrap()
    }

    async fn release(&self, key: LeaseKey) {
        let request = ReleaseRequest {
            proxy: self.name.into(),
            leases: vec![key.released(u64::MAX)],
        };
        let _: ReleaseRequest = self.client.post("/v1/leases/release", &request).await.unwrap();
    }

    /// Waits until it is told to ask again.
    async fn told(&mut self) {
        let told = async {
            loop {
                let event = self.events.next().await.unwrap().unwrap();
                if event.name == "pool" {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("not told");
    }
}

/// A node with one sandbox that takes `capacity` requests.
async fn node(capacity: u32) -> (Node, VersionId, LeaseKey) {
    let node = Node::start().await;
    let sizes = format!("mode = \"auto\"\nrequests_per_instance = {capacity}\nmax_instances = 1\n");
    let app_toml = format!("{}[services.web.concurrency]\n{sizes}", web("./one"));
    let deploy = node.succeed("shop", &app_toml).await;
    let sandbox = &node.sandboxes("shop", miren_api::resource::SandboxState::Running).await[0];
    let key = key(sandbox);
    (node, deploy.version.unwrap(), key)
}

fn key(sandbox: &Sandbox) -> LeaseKey {
    LeaseKey {
        node: sandbox.node_id,
        slot: sandbox.slot.unwrap(),
        generation: sandbox.generation.unwrap(),
    }
}

/// Two proxies that have half of a sandbox for 10 requests each.
async fn halves(node: &Node, version: &VersionId) -> (Proxy, Proxy) {
    let mut first = Proxy::follow(node, "first", version).await;
    let second = Proxy::follow(node, "second", version).await;
    assert_eq!(first.acquire().await, 10, "all of it");
    let (shares, ()) = tokio::join!(second.acquire(), async {
        first.told().await;
        first.becomes(5, 1).await;
    });
    assert_eq!(shares, 5, "woken when the first one knew that it has less");
    (first, second)
}

/// Longer than any test.
const DAY: Budgets = Budgets {
    requests: Duration::from_secs(86_400),
    tunnels: Duration::from_secs(86_400),
    grace: Duration::from_secs(10),
};

#[tokio::test]
async fn two_proxies_share_what_a_sandbox_takes_and_the_last_one_has_it_all() {
    let (node, version, key) = node(10).await;
    let (mut first, second) = halves(&node, &version).await;
    let desk = &node.control.world.desk;
    let (one, other) = (first.renew(key, 3, 5).await, second.renew(key, 4, 5).await);
    assert_eq!((one.renewed[0].capacity, other.renewed[0].capacity), (5, 5));
    assert_eq!((desk.in_flight(key), desk.holders(key)), (7, 2));
    second.release(key).await;
    first.told().await;
    assert_eq!(first.acquire().await, 10);
    assert_eq!((desk.in_flight(key), desk.holders(key)), (3, 1));
}

#[tokio::test]
async fn i7_what_a_killed_proxy_had_is_there_for_the_one_that_needs_it() {
    let (node, version, _) = node(10).await;
    let (first, second) = halves(&node, &version).await;
    drop(second);
    first.becomes(10, 10).await;
}

#[tokio::test]
async fn who_finds_every_share_taken_waits_for_one_and_is_told_why_in_vain() {
    let (node, version, key) = node(1).await;
    let first = Proxy::follow(&node, "first", &version).await;
    let second = Proxy::follow(&node, "second", &version).await;
    assert_eq!(first.acquire().await, 1);
    let refused = refusal(second.try_acquire(1, 50).await);
    assert_eq!(refused.code, ErrorCode::WaitTimeout);
    assert!(refused.message.contains("other proxies"), "{refused:?}");
    let (share, ()) = tokio::join!(second.acquire(), first.release(key));
    assert_eq!(share, 1);
}

#[tokio::test]
async fn i7_after_a_restart_of_control_leases_are_renewed_as_they_were_and_stay_shared() {
    let (node, version, key) = node(10).await;
    drop(halves(&node, &version).await);
    let node = Node::on(node.kill()).await;
    node.running("shop", 1).await;
    let first = Proxy::follow(&node, "first", &version).await;
    let second = Proxy::follow(&node, "second", &version).await;
    let renewed = first.renew(key, 1, 5).await;
    assert_eq!((renewed.renewed[0].capacity, renewed.lost.len()), (5, 0));
    assert_eq!(first.acquire().await, 5, "the other one may not have been heard of yet");
    let renewed = second.renew(key, 1, 5).await;
    assert_eq!((renewed.renewed[0].capacity, renewed.lost.len()), (5, 0));
    assert_eq!((first.acquire().await, second.acquire().await), (5, 5));
}

/// A proxy renews as soon as it is let: whatever the tasks of the apps have got to by then.
#[tokio::test]
async fn f11_a_renewal_at_the_moment_that_control_is_active_loses_no_live_lease() {
    let (node, version, key) = node(10).await;
    assert_eq!(Proxy::follow(&node, "first", &version).await.acquire().await, 10);
    let node = Node::on(node.kill()).await;
    // Nothing else has run since it was active: this is the only thread, and it has not waited.
    let renewed = node.control.leasing().renew(&renewal("first", key, 1, 10));
    assert_eq!((renewed.renewed.len(), renewed.lost), (1, Vec::new()));
    let desk = &node.control.world.desk;
    assert_eq!((desk.in_flight(key), desk.holders(key)), (1, 1));
}

/// Leases that an earlier control gave are unknown until their proxies have had time to renew, which they may from the moment
/// on that control is active.
#[tokio::test(start_paused = true)]
async fn f11_a_drain_waits_for_leases_that_could_not_be_renewed_while_control_took_over() {
    let place = tempfile::tempdir().unwrap();
    let machine = Machine::new(Clock::of_runtime(Timestamp::from_second(1_000_000).unwrap()));
    let records = Arc::new(Memory::new(1000));
    let before = control_on(
        &machine,
        Arc::clone(&records) as Arc<dyn Store>,
        Policy::default(),
        place.path(),
    )
    .await;
    let version = deployed(&before).await;
    let held = before.leasing().acquire(ask("first", &version, 1, 0)).await.unwrap();
    let key = held.leases[0].key;

    *machine.adopts_in.lock().unwrap() = RENEW_INTERVAL * 3;
    let control = control_on(&machine, records, Policy::default(), place.path()).await;
    let desk = &control.world.desk;
    let mut idle = Box::pin(desk.close(key, DAY));
    tokio::select! {
        () = &mut idle => panic!("a request is in flight under a lease that was not renewed yet"),
        () = tokio::time::sleep(RENEW_INTERVAL) => {}
    }
    let renewed = control.leasing().renew(&renewal("first", key, 1, 10));
    assert_eq!(renewed.lost, [key], "it drains");
    tokio::select! {
        () = &mut idle => panic!("a request is in flight"),
        () = tokio::time::sleep(RENEW_INTERVAL) => {}
    }
    desk.release("first", &[key]);
    idle.await;
}

/// A control whose clock is the runtime's, without sockets, and the version of `shop` that runs on it.
async fn paused() -> (Arc<Control>, VersionId, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let (_, control) = control_of_runtime(place.path()).await;
    tokio::spawn(Arc::clone(&control).background());
    let version = deployed(&control).await;
    (control, version, place)
}

/// Deploys `shop`, and returns its version once it runs.
async fn deployed(control: &Control) -> VersionId {
    let request = DeployRequest {
        artifact: Some(
            control
                .artifacts
                .store(Cursor::new(folder(&web("./one"))))
                .unwrap()
                .digest,
        ),
        ..DeployRequest::default()
    };
    let app = control.apps.get_or_make(&AppName::from_text("shop")).unwrap();
    let (reply, answer) = oneshot::channel();
    let deploy = Command::Deploy {
        order: request.into(),
        key: None,
        reply,
    };
    app.commands.send(deploy).await.ok().unwrap();
    answer.await.unwrap().unwrap();
    let mut view = app.view.clone();
    loop {
        let seen = view.borrow_and_update().clone();
        let pool = seen.pools.values().find(|pool| pool.pool.ready == 1);
        match pool.and_then(|pool| pool.pool.versions.first().cloned()) {
            Some(version) => return version,
            None => view.changed().await.unwrap(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r6_a_proxy_that_renews_nothing_loses_its_share_after_the_ttl_and_the_other_has_it_all() {
    let (control, version, _place) = paused().await;
    let desk = &control.world.desk;
    let _following = ["first", "second"].map(|proxy| desk.connect(proxy).unwrap());
    let acquire = async |proxy: &str| {
        let held = control.leasing().acquire(ask(proxy, &version, 1, 0)).await.ok()?;
        Some((held.leases[0].key, held.leases[0].capacity))
    };
    let (key, all) = acquire("first").await.unwrap();
    assert_eq!((all, acquire("second").await), (10, None));
    assert_eq!(acquire("first").await, Some((key, 5)));
    assert_eq!(acquire("second").await, Some((key, 5)));
    let mut tells = desk.tells();
    let renew = || control.leasing().renew(&renewal("first", key, 1, 5)).renewed[0].capacity;
    for _ in 0..2 {
        tokio::time::sleep(RENEW_INTERVAL).await;
        assert_eq!(renew(), 5, "the other one may still renew");
    }
    tokio::time::sleep(RENEW_INTERVAL - Duration::from_secs(1)).await;
    assert!(tells.try_recv().is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(tells.try_recv().unwrap().proxy, "first");
    assert_eq!((renew(), desk.holders(key)), (10, 1));
}

#[tokio::test]
async fn f16_a_proxy_is_told_which_services_are_asked_once_only() {
    let node = Node::start().await;
    for (app, setting, wanted) in [
        ("usual", "", true),
        ("shop", "hedge = false\n", false),
        ("said", "hedge = true\n", true),
    ] {
        let deploy = node.succeed(app, &format!("{}{setting}", web("./one"))).await;
        let request = ask("proxy", &deploy.version.unwrap(), 1, 10_000);
        let held: AcquireResponse = node.client.post("/v1/leases/acquire", &request).await.unwrap();
        assert_eq!(held.hedge, wanted, "{app}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_on_a_slot_of_another_node_is_none_on_the_own_slot_of_that_number() {
    let (control, version, _place) = paused().await;
    let held = control.leasing().acquire(ask("first", &version, 1, 0)).await.unwrap();
    let own = held.leases[0].key;
    assert_eq!(own.node, control.world.nodes.own());
    let node: NodeId = "node-2".parse().unwrap();
    let other = LeaseKey { node, ..own };
    let answer = control.leasing().renew(&renewal("first", other, 1, 10));
    assert_eq!((answer.renewed, answer.lost), (Vec::new(), vec![other]));
    let answer = control.leasing().renew(&renewal("first", own, 1, 10));
    assert_eq!(
        answer.renewed.iter().map(|lease| lease.key()).collect::<Vec<_>>(),
        [own]
    );
    let mut dropped = ask("first", &version, 1, 0);
    dropped.dropped = vec![other];
    control.leasing().acquire(dropped).await.unwrap();
    assert_eq!(control.world.desk.holders(own), 1, "what is dropped is another one");
}
