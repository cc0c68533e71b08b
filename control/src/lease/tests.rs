//! Leases end when they should, and never hold up what they should not.

use super::*;
use crate::clock::Clock;
use jiff::Timestamp;
use miren_api::id::{AppName, NodeId, PoolId, SandboxId};
use miren_api::lease::{Demand, HeldLease, LeaseKey, RENEW_INTERVAL};
use miren_sandbox::Budgets;
use std::time::Duration;

mod random;
mod shares;

const ONE: LeaseKey = LeaseKey {
    node: NodeId::FIRST,
    slot: 1,
    generation: 1,
};
const NEXT: LeaseKey = LeaseKey {
    node: NodeId::FIRST,
    slot: 1,
    generation: 2,
};

const BUDGETS: Budgets = Budgets {
    requests: Duration::from_secs(30),
    tunnels: Duration::from_secs(60),
    grace: Duration::from_secs(10),
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

#[test]
fn a_proxy_is_gone_after_five_silent_seconds_without_a_stream() {
    let mut proxies = ProxyTable::default();
    proxies.connected("a", at(0));
    assert!(proxies.expire(at(100)).is_empty(), "it follows");
    proxies.disconnected("a", at(100));
    assert!(proxies.expire(at(104)).is_empty());
    assert_eq!(proxies.expire(at(105)), ["a"]);
}

#[test]
fn every_live_proxy_is_waited_for_and_a_silent_one_is_not() {
    let mut proxies = ProxyTable::default();
    proxies.connected("slow", at(0));
    proxies.connected("quick", at(0));
    proxies.acknowledge("quick", 4, at(10));
    let (waited_for, silent) = proxies.lagging(4, at(10), at(14));
    assert_eq!((waited_for, silent), (vec!["slow".to_owned()], vec![]));
    let (waited_for, silent) = proxies.lagging(4, at(10), at(15));
    assert_eq!((waited_for, silent), (vec![], vec!["slow".to_owned()]));
    proxies.sign("slow", at(14));
    assert_eq!(proxies.lagging(4, at(10), at(15)).0, ["slow"], "it spoke meanwhile");
    assert!(
        proxies.lagging(4, at(10), at(40)).0.is_empty(),
        "it speaks, but never serves it"
    );
    proxies.acknowledge("slow", 5, at(16));
    assert_eq!(
        proxies.lagging(4, at(10), at(17)),
        (vec![], vec![]),
        "a later one will do"
    );
}

#[test]
fn strangers_cannot_make_the_table_grow() {
    let mut proxies = ProxyTable::default();
    let known = (0..1000).filter(|n| proxies.sign(&format!("p{n}"), at(0))).count();
    assert_eq!((known, proxies.len()), (64, 64));
}

/// What one proxy asks of a sandbox that takes 10 requests.
fn ask(key: LeaseKey, need: u32) -> Ask {
    Ask {
        key,
        capacity: 10,
        need,
    }
}

fn held(key: LeaseKey, in_flight: u32, capacity: u32) -> HeldLease {
    HeldLease {
        node: NodeId::FIRST,
        slot: key.slot,
        generation: key.generation,
        in_flight,
        capacity,
        tunnels: 0,
    }
}

fn grant(desk: &Desk, proxy: &str) -> Vec<u32> {
    let (_, granted) = desk.grant(proxy, &[ask(ONE, 1)]);
    granted.into_iter().map(|granted| granted.share).collect()
}

/// Renews leases on these, RUNNING or not; returns what goes on and what is lost.
fn renew(desk: &Desk, proxy: &str, keys: &[LeaseKey], is_running: bool) -> (Vec<LeaseKey>, Vec<LeaseKey>) {
    let asked = |key: &LeaseKey| (held(*key, 1, 10), is_running.then_some(ask(*key, 1)));
    let (renewed, lost) = desk.renew(proxy, &keys.iter().map(asked).collect::<Vec<_>>());
    (renewed.iter().map(|lease| lease.key()).collect(), lost)
}

fn desk() -> Desk {
    let desk = Desk::new(Clock::of_runtime(at(0)));
    let leased = Leased {
        sandbox: SandboxId::from_text("sb-1"),
        app: AppName::from_text("shop"),
        pool: PoolId::from_text("pool-1"),
    };
    desk.introduce(ONE, leased);
    desk
}

/// Long enough for anything that does not wait for something else.
async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.ok()
}

#[tokio::test(start_paused = true)]
async fn r6_renewal_of_a_dead_or_unknown_sandbox_fails() {
    let desk = desk();
    grant(&desk, "a");
    assert_eq!(
        renew(&desk, "a", &[ONE, NEXT], true),
        (vec![ONE], vec![NEXT]),
        "nobody knows the second"
    );
    assert_eq!(
        renew(&desk, "a", &[ONE], false),
        (vec![], vec![ONE]),
        "its word is not RUNNING"
    );
    desk.forget(ONE);
    assert_eq!(renew(&desk, "a", &[ONE], true), (vec![], vec![ONE]));
    assert!(grant(&desk, "a").is_empty(), "it is over");
    assert_eq!(desk.counts().0, 0);
}

#[tokio::test(start_paused = true)]
async fn r6_a_renewal_once_the_generation_is_closed_is_lost_and_stays_held() {
    let desk = desk();
    grant(&desk, "a");
    let idle = desk.close(ONE, BUDGETS);
    let renewing = async {
        for _ in 0..4 {
            tokio::time::sleep(RENEW_INTERVAL).await;
            assert_eq!(renew(&desk, "a", &[ONE], true), (vec![], vec![ONE]));
        }
    };
    let _connected = desk.connect("a");
    tokio::select! {
        () = desk.sweep() => {}
        () = idle => panic!("requests are in flight under it"),
        () = renewing => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_draining_sandbox_is_idle_when_the_last_lease_is_given_back() {
    let desk = desk();
    for proxy in ["a", "b", "a", "b"] {
        grant(&desk, proxy);
    }
    let idle = tokio::spawn(desk.close(ONE, BUDGETS));
    assert!(grant(&desk, "c").is_empty(), "closed");
    desk.release("a", &[ONE]);
    assert!(within(1, desk.close(ONE, BUDGETS)).await.is_none(), "b still has one");
    desk.release("b", &[ONE]);
    assert!(within(1, idle).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_gone_holds_a_drain_up_for_five_seconds_and_one_that_lives_for_as_long_as_it_likes() {
    let desk = desk();
    let [gone, _lives] = ["gone", "lives"].map(|proxy| desk.connect(proxy).unwrap());
    for proxy in ["gone", "lives", "gone", "lives"] {
        grant(&desk, proxy);
    }
    let sweeping = tokio::spawn({
        let desk = desk.clone();
        async move { desk.sweep().await }
    });
    let idle = tokio::spawn(desk.close(ONE, BUDGETS));
    drop(gone);
    tokio::time::sleep(SILENCE + Duration::from_secs(1)).await;
    assert_eq!(
        (desk.holders(ONE), idle.is_finished()),
        (1, false),
        "the other one has something there"
    );
    desk.release("lives", &[ONE]);
    assert!(within(1, idle).await.is_some());
    sweeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_on_a_draining_sandbox_stays_held_until_it_is_given_back() {
    let desk = desk();
    let idle = desk.close(ONE, BUDGETS);
    assert_eq!(renew(&desk, "a", &[ONE], false), (vec![], vec![ONE]));
    let mut idle = Box::pin(idle);
    assert!(within(1, &mut idle).await.is_none(), "requests are in flight under it");
    desk.release("a", &[ONE]);
    assert!(within(1, idle).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn i7_after_a_restart_no_lease_is_no_answer_before_proxies_could_renew() {
    let desk = desk();
    desk.trust_from(at(11));
    let mut idle = Box::pin(desk.close(ONE, BUDGETS));
    assert!(within(10, &mut idle).await.is_none());
    assert!(within(2, idle).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_silent_proxy_loses_its_leases_and_holds_nothing_up() {
    let desk = desk();
    let _connected = desk.connect("frozen").unwrap();
    grant(&desk, "frozen");
    assert!(within(4, desk.acknowledged(2)).await.is_none());
    assert!(within(6, desk.acknowledged(2)).await.is_some());
    assert_eq!(desk.counts().0, 0);
}

#[tokio::test(start_paused = true)]
async fn demand_is_summed_over_proxies_and_fades_with_them() {
    let desk = desk();
    let pool = PoolId::from_text("pool-1");
    let demand = |in_flight, queued| Demand { in_flight, queued };
    let _following = ["a", "b"].map(|proxy| desk.connect(proxy));
    desk.demand("a", &pool, demand(3, 0));
    tokio::time::advance(Duration::from_secs(20)).await;
    desk.demand("b", &pool, demand(4, 5));
    assert_eq!(desk.total_demand(&pool), demand(7, 5));
    assert_eq!(desk.total_demand(&PoolId::from_text("pool-2")), demand(0, 0));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(desk.total_demand(&pool), demand(4, 5));
}

#[tokio::test(start_paused = true)]
async fn what_proxies_report_is_summed_over_those_that_have_a_lease() {
    let desk = desk();
    grant(&desk, "a");
    assert_eq!((desk.in_flight(ONE), desk.holders(ONE)), (0, 1), "nothing reported yet");
    let report = |proxy: &str, in_flight| desk.renew(proxy, &[(held(ONE, in_flight, 10), Some(ask(ONE, in_flight)))]);
    report("a", 3);
    report("b", 4);
    report("b", 2);
    assert_eq!((desk.in_flight(ONE), desk.holders(ONE)), (5, 2));
    desk.release("a", &[ONE]);
    assert_eq!((desk.in_flight(ONE), desk.holders(ONE)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_others_are_told_over_their_streams_and_whoever_waits_is_woken() {
    let desk = desk();
    let mut tells = desk.tells();
    grant(&desk, "a");
    assert!(grant(&desk, "b").is_empty(), "a has all");
    let told = |proxy: &str| Tell {
        proxy: proxy.to_owned(),
        about: About::Pool(PoolId::from_text("pool-1")),
    };
    assert_eq!(tells.try_recv(), Ok(told("a")));
    let mut changes = desk.changes();
    assert_eq!(grant(&desk, "a"), [5]);
    assert!(changes.are_new(), "b may have the rest");
    assert_eq!(tells.try_recv(), Ok(told("b")));
    assert_eq!(grant(&desk, "b"), [5]);
    desk.release("a", &[ONE]);
    assert_eq!(tells.try_recv(), Ok(told("b")));
    assert!(tells.try_recv().is_err(), "nobody else");
    let _connected = desk.connect("a");
    changes.seen();
    grant(&desk, "b");
    assert!(!changes.are_new(), "b got more, which frees nothing");
}

#[tokio::test(start_paused = true)]
async fn a_killed_proxy_keeps_no_share_that_the_next_one_needs() {
    let desk = desk();
    drop(desk.connect("killed"));
    grant(&desk, "killed");
    let _connected = desk.connect("next").unwrap();
    assert!(grant(&desk, "next").is_empty(), "it may have lost only its stream");
    tokio::time::advance(ABSENCE).await;
    let needs = |need| desk.grant("next", &[ask(ONE, need)]).1[0].share;
    assert_eq!(
        needs(1),
        6,
        "its own 1, half of the 9 that nobody needs, and what is odd"
    );
    assert_eq!(needs(10), 10);
}

#[test]
fn a_proxy_is_absent_soon_after_its_stream_ended_unless_it_speaks() {
    let mut proxies = ProxyTable::default();
    proxies.connected("a", at(0));
    assert!(proxies.absent(at(100)).is_empty(), "it follows");
    proxies.disconnected("a", at(100));
    assert!(proxies.absent(at(100)).is_empty());
    assert!(proxies.absent(at(101)).contains("a"));
    proxies.sign("a", at(102));
    assert!(proxies.absent(at(102)).is_empty());
}

#[test]
fn r5_a_lease_granted_again_by_an_answer_under_way_is_not_taken_back_by_an_earlier_release() {
    let desk = desk();
    let ask = [Ask {
        key: ONE,
        capacity: 10,
        need: 1,
    }];
    let (first, _) = desk.grant("a", &ask);
    // Another version of the app uses the same sandbox; its answer has not arrived when the first one's lease is given back.
    let (second, _) = desk.grant("a", &ask);
    assert!(second > first);
    desk.give_back("a", &[ONE.released(first)]);
    assert_eq!(desk.holders(ONE), 1, "the drain of its sandbox would not wait for it");
    desk.give_back("a", &[ONE.released(second)]);
    assert_eq!(desk.holders(ONE), 0);
}

#[tokio::test(start_paused = true)]
async fn f21_what_a_proxy_needed_that_may_be_gone_is_not_counted_beside_its_successor() {
    let desk = desk();
    let pool = PoolId::from_text("pool-1");
    let demand = |queued| Demand { in_flight: 0, queued };
    let (first, beside) = (desk.connect("first"), desk.connect("beside"));
    desk.demand("first", &pool, demand(100));
    desk.demand("beside", &pool, demand(7));
    assert_eq!(desk.total_demand(&pool).total(), 107);
    // Its clients come to the one that takes its place.
    drop(first);
    tokio::time::sleep(ABSENCE).await;
    let _second = desk.connect("second");
    desk.demand("second", &pool, demand(100));
    assert_eq!(desk.total_demand(&pool).total(), 107);
    assert!(desk.demand_until(&pool).is_some(), "somebody looks when it is over");
    // It lives, and is back.
    let _first = desk.connect("first");
    assert_eq!(desk.total_demand(&pool).total(), 207);
    drop(beside);
    tokio::time::sleep(SILENCE).await;
    assert_eq!(desk.total_demand(&pool).total(), 200);
}
