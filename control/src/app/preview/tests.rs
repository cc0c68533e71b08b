//! Previews as plans: each step of making one, which ones give way, and each step to the end of one.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn route(label: &str, expires: i64) -> EphemeralRoute {
    EphemeralRoute {
        label: label.into(),
        version: VersionId::from_text(format!("shop-{label}")),
        expires_at: at(expires),
    }
}

fn seen() -> Seen {
    Seen {
        images: ImagesSeen::Here,
        pools: Vec::new(),
        patience: Duration::from_secs(60),
        acknowledged: false,
    }
}

#[test]
fn e6_a_preview_takes_over_once_its_images_and_sandboxes_are_there() {
    let mut seen = seen();
    seen.images = ImagesSeen::Elsewhere;
    assert_eq!(next(&Stage::Accepted, &seen, at(0)), Step::Fetch);
    seen.images = ImagesSeen::OnTheWay;
    assert_eq!(next(&Stage::Accepted, &seen, at(0)), Step::Wait(None));
    seen.images = ImagesSeen::Unavailable("no such tag".into());
    assert_eq!(
        next(&Stage::Accepted, &seen, at(0)),
        Step::Fail("image: no such tag".into())
    );
    seen.images = ImagesSeen::Here;
    assert_eq!(next(&Stage::Accepted, &seen, at(0)), Step::Stage);
    let starting = Stage::Starting { since: at(0) };
    assert_eq!(
        next(&starting, &seen, at(0)),
        Step::Publish,
        "nobody is served: nothing to wait for"
    );
    seen.pools = vec![PoolSeen {
        service: "web".into(),
        wanted: 1,
        ..PoolSeen::default()
    }];
    assert_eq!(next(&starting, &seen, at(59)), Step::Wait(Some(at(60))));
    assert!(matches!(next(&starting, &seen, at(60)), Step::Fail(_)));
    seen.pools[0].ready = 1;
    assert_eq!(next(&starting, &seen, at(60)), Step::Publish);
    seen.pools[0].failure = Some("port: refused".into());
    assert!(matches!(next(&starting, &seen, at(1)), Step::Fail(why) if why.contains("port: refused")));
    assert_eq!(next(&Stage::Announced, &seen, at(60)), Step::Wait(None));
    seen.acknowledged = true;
    assert_eq!(next(&Stage::Announced, &seen, at(60)), Step::Done);
}

#[test]
fn e6_those_that_expire_first_give_way_and_one_with_the_same_label_is_no_further_one() {
    let labels = [route("c", 30), route("a", 10), route("b", 20), route("old", 5)];
    let gone = |label: &str, most: usize| evicted(label, labels.iter(), most, at(5));
    assert!(gone("new", 4).is_empty(), "the expired one does not count");
    assert_eq!(gone("new", 3), ["a"]);
    assert_eq!(gone("new", 2), ["a", "b"]);
    assert!(gone("b", 3).is_empty());
    assert_eq!(gone("b", 2), ["a"]);
    assert_eq!(gone("new", 0), ["a", "b", "c"], "the new one has a place at least");
}

#[test]
fn e8_e9_a_preview_ends_at_its_time_and_in_steps_each_of_which_may_be_the_last_for_a_while() {
    let (mine, other) = (route("pr1", 10), route("pr2", 99));
    let mut seen = Standing {
        version: &mine.version,
        label: Some(&mine),
        unrouted: None,
        refers: true,
        clearing: true,
    };
    assert_eq!(upkeep(seen, at(9)), Upkeep::Keep(at(10)));
    assert_eq!(upkeep(seen, at(10)), Upkeep::Withdraw);
    seen.label = Some(&other);
    assert_eq!(upkeep(seen, at(9)), Upkeep::Withdraw, "another version has the label");
    seen.label = None;
    assert_eq!(upkeep(seen, at(9)), Upkeep::Withdraw);
    seen.unrouted = Some(false);
    assert_eq!(upkeep(seen, at(9)), Upkeep::Wait);
    seen.unrouted = Some(true);
    assert_eq!(upkeep(seen, at(9)), Upkeep::Release);
    seen.refers = false;
    assert_eq!(
        upkeep(seen, at(9)),
        Upkeep::Wait,
        "its record stays until its pools are gone"
    );
    seen.clearing = false;
    assert_eq!(upkeep(seen, at(9)), Upkeep::Forget);
}

#[test]
fn e8_who_comes_late_is_told_for_a_day_when_it_was_over() {
    let day = 86_400;
    let labels = [route("a", 10), route("b", 20), route("c", 30), route("live", 3 * day)];
    let gone = |most: usize, now: i64| -> Vec<&str> {
        let gone = forgotten(labels.iter(), most, at(now));
        gone.into_iter().map(|label| label.label.as_str()).collect()
    };
    assert!(gone(3, 30).is_empty());
    assert_eq!(gone(2, 30), ["a"], "the newest ones stay");
    assert!(gone(3, 9 + day).is_empty());
    assert_eq!(gone(3, 20 + day), ["b", "a"]);
    assert!(gone(0, 9).is_empty(), "they live");
}
