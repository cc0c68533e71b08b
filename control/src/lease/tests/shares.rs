//! One sandbox, several proxies: who has how much of it, and who is told when that should change.

use super::super::*;
use super::{NEXT, ONE, ask, at, held};
use std::collections::BTreeSet;

fn claims(needs: &[u32]) -> Vec<Claim> {
    let claim = |need: &u32| Claim {
        need: *need,
        present: true,
    };
    needs.iter().map(claim).collect()
}

fn divided(capacity: u32, needs: &[u32]) -> Vec<u32> {
    divide(capacity, &claims(needs), 0)
}

#[test]
fn one_proxy_has_all_and_idle_ones_have_equal_parts() {
    assert_eq!(divided(10, &[0]), [10]);
    assert_eq!(divided(10, &[0, 0]), [5, 5]);
    assert_eq!(divided(3, &[0, 0]), [1, 2]);
    assert_eq!(
        divide(3, &claims(&[0, 0]), 1),
        [2, 1],
        "not the same one on every sandbox"
    );
    assert!(divided(10, &[]).is_empty());
    assert_eq!(divided(0, &[5, 5]), [0, 0]);
}

#[test]
fn an_idle_proxy_starves_no_busy_one_and_a_busy_one_no_other() {
    assert_eq!(divided(10, &[0, 8]), [1, 9]);
    assert_eq!(divided(10, &[0, 500]), [1, 9], "1 at least");
    assert_eq!(divided(10, &[4, 500]), [4, 6]);
    assert_eq!(divided(10, &[500, 500]), [5, 5]);
    assert_eq!(divided(10, &[1, 2, 500]), [1, 2, 7]);
    assert_eq!(divided(u32::MAX, &[u32::MAX, 3]), [u32::MAX - 3, 3], "no sum overflows");
}

#[test]
fn where_1_each_does_not_go_round_the_busy_ones_take_turns() {
    let mut had = [0; 3];
    for turn in 0..9 {
        let parts = divide(1, &claims(&[3, 0, 700]), turn);
        assert_eq!((parts[1], parts.iter().sum::<u32>()), (0, 1));
        parts.iter().zip(&mut had).for_each(|(part, had)| *had += part);
    }
    assert!(had[0] >= 3 && had[2] >= 3, "{had:?}");
}

#[test]
fn an_absent_proxy_has_only_what_nobody_needs() {
    let mut both = claims(&[10, 0]);
    both[0].present = false;
    assert_eq!(divide(10, &both, 0), [4, 6]);
    both[1].need = 10;
    assert_eq!(divide(10, &both, 0), [0, 10]);
    assert_eq!(divide(1, &both, 0), [0, 1]);
}

/// The share a proxy gets when it asks.
fn get(table: &mut LeaseTable, proxy: &str, need: u32, second: i64) -> u32 {
    table.grant(proxy, ask(ONE, need), at(second)).unwrap().share
}

fn told(table: &mut LeaseTable) -> Vec<String> {
    table.take_effects().told.into_iter().map(|(_, proxy)| proxy).collect()
}

#[test]
fn a_newcomer_gets_what_is_free_and_the_rest_once_the_other_knows_that_it_has_less() {
    let mut table = LeaseTable::default();
    assert_eq!(get(&mut table, "a", 1, 0), 10);
    assert!(told(&mut table).is_empty());
    assert_eq!(get(&mut table, "b", 1, 0), 0, "nothing is free");
    assert_eq!(table.holders(ONE), 1, "it holds nothing it would have to give back");
    assert_eq!(told(&mut table), ["a"]);
    assert_eq!(get(&mut table, "b", 1, 0), 0, "a has not heard of it yet");
    table.take_effects();
    assert_eq!(get(&mut table, "a", 1, 0), 5);
    let effects = table.take_effects();
    assert!(
        effects.freed && effects.told == BTreeSet::from([(ONE, "b".to_owned())]),
        "{effects:?}"
    );
    assert_eq!(get(&mut table, "b", 1, 0), 5);
    assert!(told(&mut table).is_empty(), "all have what they should");
}

#[test]
fn a_share_given_back_expired_or_of_a_gone_proxy_goes_to_the_others_who_are_told() {
    for end in ["released", "expired", "gone"] {
        let mut table = LeaseTable::default();
        for (proxy, second) in [("a", 0), ("b", 0), ("a", 0), ("b", 0), ("a", 20)] {
            get(&mut table, proxy, 1, second);
        }
        table.take_effects();
        match end {
            "released" => table.release("b", ONE, at(20)),
            "expired" => table.expire(at(30)),
            _ => table.drop_proxy("b", at(20)),
        }
        let effects = table.take_effects();
        assert!(
            effects.freed && effects.told == BTreeSet::from([(ONE, "a".to_owned())]),
            "{end}: {effects:?}"
        );
        assert_eq!(get(&mut table, "a", 1, 30), 10, "{end}");
    }
}

#[test]
fn a_busy_proxy_gets_what_an_idle_one_does_not_use_as_reported_with_its_renewal() {
    let mut table = LeaseTable::default();
    for proxy in ["a", "b", "a", "b"] {
        get(&mut table, proxy, 1, 0);
    }
    table.take_effects();
    assert_eq!(get(&mut table, "b", 30, 1), 5);
    assert_eq!(told(&mut table), ["a"], "b is short and a has more than its part");
    let renewed = table.renew("a", held(ONE, 0, 5), ask(ONE, 0), at(1)).unwrap();
    assert_eq!(renewed.share, 1, "1 at least");
    assert_eq!(get(&mut table, "b", 30, 1), 9);
    let renewed = table.renew("a", held(ONE, 4, 1), ask(ONE, 4), at(2)).unwrap();
    assert_eq!(renewed.share, 1, "b has the rest");
    assert_eq!(told(&mut table), ["b"]);
    assert_eq!((get(&mut table, "b", 30, 2), get(&mut table, "a", 4, 2)), (6, 4));
}

#[test]
fn nobody_is_told_of_what_nobody_needs() {
    let mut table = LeaseTable::default();
    for proxy in ["a", "b", "a", "b"] {
        get(&mut table, proxy, 1, 0);
    }
    table.take_effects();
    assert_eq!(get(&mut table, "a", 3, 1), 5, "needs moved, and it has room");
    assert!(told(&mut table).is_empty());
}

#[test]
fn the_only_request_a_sandbox_takes_goes_to_whom_has_one_and_then_round() {
    let mut table = LeaseTable::default();
    let one = |need| Ask {
        capacity: 1,
        ..ask(ONE, need)
    };
    let mut had = [0, 0];
    for second in 0..60 {
        for proxy in ["a", "b", "a"] {
            table.grant(proxy, one(5), at(second));
            assert!(table.taken(ONE) <= 1);
        }
        for (proxy, had) in ["a", "b"].into_iter().zip(&mut had) {
            *had += table.grant(proxy, one(5), at(second)).unwrap().share;
        }
    }
    assert!(had[0] >= 20 && had[1] >= 20, "{had:?}");
    table.grant("a", one(0), at(60));
    table.grant("b", one(5), at(60));
    table.grant("a", one(0), at(61));
    assert_eq!(
        table.grant("b", one(5), at(61)).unwrap().share,
        1,
        "a has nothing to send"
    );
}

#[test]
fn a_capacity_that_shrinks_is_reached_with_the_next_renewals() {
    let mut table = LeaseTable::default();
    for proxy in ["a", "b", "a", "b"] {
        get(&mut table, proxy, 1, 0);
    }
    let four = |need| Ask {
        capacity: 4,
        ..ask(ONE, need)
    };
    for proxy in ["a", "b"] {
        let renewed = table.renew(proxy, held(ONE, 1, 5), four(1), at(1)).unwrap();
        assert_eq!(
            renewed.share, 2,
            "its part, not nothing because the other still has too much"
        );
    }
    assert_eq!(table.taken(ONE), 4);
}

#[test]
fn i7_leases_of_an_earlier_process_come_back_with_the_share_they_had() {
    let mut table = LeaseTable::default();
    table.trust_from(at(11));
    let mut renew = |proxy: &str, claimed, second| {
        let renewed = table.renew(proxy, held(ONE, 1, claimed), ask(ONE, 1), at(second));
        (renewed.unwrap().share, table.taken(ONE))
    };
    assert_eq!(renew("a", 6, 0), (6, 6));
    assert_eq!(renew("a", 6, 1), (6, 6), "there may be others yet");
    assert_eq!(renew("b", 4, 1), (4, 10));
    assert_eq!((renew("a", 6, 2).0, renew("b", 4, 2)), (5, (5, 10)));
    let mut table = LeaseTable::default();
    table.trust_from(at(11));
    table.renew("a", held(ONE, 1, 6), ask(ONE, 1), at(0));
    assert_eq!(get(&mut table, "a", 1, 11), 10, "there are none");
}

#[test]
fn a_lease_holds_for_its_ttl_and_longer_when_renewed() {
    let mut table = LeaseTable::default();
    get(&mut table, "a", 1, 0);
    table.expire(at(29));
    assert!(!table.is_idle(ONE));
    get(&mut table, "a", 1, 20);
    table.expire(at(49));
    assert_eq!(table.holders(ONE), 1);
    table.expire(at(50));
    assert!(table.is_idle(ONE) && table.is_empty());
}

#[test]
fn who_only_asked_is_forgotten_soon() {
    let mut table = LeaseTable::default();
    get(&mut table, "a", 1, 0);
    get(&mut table, "b", 1, 0);
    assert_eq!(get(&mut table, "a", 1, 1), 5);
    table.take_effects();
    table.expire(at(2));
    assert_eq!(told(&mut table), ["a"]);
    assert_eq!(get(&mut table, "a", 1, 2), 10);
}

#[test]
fn k5_leases_of_one_generation_say_nothing_about_the_next() {
    let mut table = LeaseTable::default();
    get(&mut table, "a", 1, 0);
    table.close(ONE);
    assert!(table.grant("b", ask(ONE, 1), at(0)).is_none(), "closed");
    assert_eq!(table.grant("b", ask(NEXT, 1), at(0)).unwrap().share, 10);
    table.forget(ONE);
    assert_eq!((table.holders(ONE), table.holders(NEXT)), (0, 1));
}

#[test]
fn a_gone_proxy_takes_only_its_own_leases_along() {
    let mut table = LeaseTable::default();
    for proxy in ["a", "b", "a", "b"] {
        table.grant(proxy, ask(ONE, 1), at(0));
        table.grant(proxy, ask(NEXT, 1), at(0));
    }
    table.drop_proxy("a", at(0));
    table.release("b", NEXT, at(0));
    assert_eq!((table.holders(ONE), table.holders(NEXT)), (1, 0));
}
