//! Leases end when they should, and never hold up what they should not.

use super::*;
use crate::clock::Clock;
use jiff::Timestamp;
use miren_api::id::{AppName, PoolId, SandboxId};
use miren_api::lease::{Demand, LeaseKey};
use std::time::Duration;

const ONE: LeaseKey = LeaseKey { slot: 1, generation: 1 };
const NEXT: LeaseKey = LeaseKey { slot: 1, generation: 2 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

#[test]
fn a_lease_holds_for_its_ttl_and_longer_when_renewed() {
    let mut table = LeaseTable::default();
    assert!(table.grant("a", ONE, at(0)));
    table.expire(at(29));
    assert!(!table.is_idle(ONE));
    table.grant("a", ONE, at(20));
    table.expire(at(49));
    assert_eq!(table.holders(ONE), 1);
    table.expire(at(50));
    assert!(table.is_idle(ONE));
}

#[test]
fn k5_leases_of_one_generation_say_nothing_about_the_next() {
    let mut table = LeaseTable::default();
    table.grant("a", ONE, at(0));
    table.close(ONE);
    assert!(!table.grant("b", ONE, at(0)), "closed");
    assert!(table.grant("b", NEXT, at(0)));
    table.forget(ONE);
    assert_eq!((table.holders(ONE), table.holders(NEXT)), (0, 1));
}

#[test]
fn a_gone_proxy_takes_only_its_own_leases_along() {
    let mut table = LeaseTable::default();
    for proxy in ["a", "b"] {
        table.grant(proxy, ONE, at(0));
        table.grant(proxy, NEXT, at(0));
    }
    table.drop_proxy("a");
    table.release("b", NEXT);
    assert_eq!((table.holders(ONE), table.holders(NEXT)), (1, 0));
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
    desk.grant("a", &[ONE]);
    assert_eq!(
        desk.renew("a", &[ONE, NEXT], |_| true),
        (vec![ONE], vec![NEXT]),
        "nobody knows the second"
    );
    assert_eq!(
        desk.renew("a", &[ONE], |_| false),
        (vec![], vec![ONE]),
        "its word is not RUNNING"
    );
    desk.forget(ONE);
    assert_eq!(desk.renew("a", &[ONE], |_| true), (vec![], vec![ONE]));
}

#[tokio::test(start_paused = true)]
async fn a_draining_sandbox_is_idle_when_the_last_lease_is_given_back() {
    let desk = desk();
    desk.grant("a", &[ONE]);
    desk.grant("b", &[ONE]);
    let idle = tokio::spawn(desk.close(ONE));
    assert!(desk.grant("c", &[ONE]).is_empty(), "closed");
    desk.release("a", &[ONE]);
    assert!(within(1, desk.close(ONE)).await.is_none(), "b still has one");
    desk.release("b", &[ONE]);
    assert!(within(1, idle).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_on_a_draining_sandbox_stays_held_until_it_is_given_back() {
    let desk = desk();
    let idle = desk.close(ONE);
    assert_eq!(desk.renew("a", &[ONE], |_| false), (vec![], vec![ONE]));
    let mut idle = Box::pin(idle);
    assert!(within(1, &mut idle).await.is_none(), "requests are in flight under it");
    desk.release("a", &[ONE]);
    assert!(within(1, idle).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn i7_after_a_restart_no_lease_is_no_answer_before_proxies_could_renew() {
    let desk = desk();
    desk.trust_from(at(11));
    let mut idle = Box::pin(desk.close(ONE));
    assert!(within(10, &mut idle).await.is_none());
    assert!(within(2, idle).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_silent_proxy_loses_its_leases_and_holds_nothing_up() {
    let desk = desk();
    let _connected = desk.connect("frozen").unwrap();
    desk.grant("frozen", &[ONE]);
    assert!(within(4, desk.acknowledged(2)).await.is_none());
    assert!(within(6, desk.acknowledged(2)).await.is_some());
    assert_eq!(desk.counts().0, 0);
}

#[tokio::test(start_paused = true)]
async fn demand_is_summed_over_proxies_and_fades_with_them() {
    let desk = desk();
    let pool = PoolId::from_text("pool-1");
    let demand = |in_flight, queued| Demand { in_flight, queued };
    desk.demand("a", &pool, demand(3, 0));
    tokio::time::advance(Duration::from_secs(20)).await;
    desk.demand("b", &pool, demand(4, 5));
    assert_eq!(desk.total_demand(&pool), demand(7, 5));
    assert_eq!(desk.total_demand(&PoolId::from_text("pool-2")), demand(0, 0));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(desk.total_demand(&pool), demand(4, 5));
}
