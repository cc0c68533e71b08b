//! Who gives way to whom, with the time as an argument.

use super::*;

const NOBODY: Option<Client> = None;

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn client(number: u32) -> Option<Client> {
    Some(Client::V4(number))
}

fn places(all: usize) -> Places {
    Places::new(all, Limit::of(0, all))
}

fn enter(places: &mut Places, client: Option<Client>, now: Duration) -> Arc<Entry> {
    match places.enter(client, now) {
        Entrance::In(entry) => entry,
        other => panic!("no place: {other:?}"),
    }
}

fn soon(places: &mut Places, client: Option<Client>, now: Duration) -> Vec<Arc<Entry>> {
    match places.enter(client, now) {
        Entrance::Soon(chosen) => chosen,
        other => panic!("nobody gives way: {other:?}"),
    }
}

fn is_full(places: &mut Places, client: Option<Client>, now: Duration) -> Option<Cause> {
    match places.enter(client, now) {
        Entrance::Full(cause) => Some(cause),
        _ => None,
    }
}

#[test]
fn f13_the_one_longest_without_a_request_gives_way_whether_it_had_one_or_not() {
    let mut places = places(3);
    let (first, second, third) = (
        enter(&mut places, NOBODY, at(1)),
        enter(&mut places, NOBODY, at(2)),
        enter(&mut places, NOBODY, at(3)),
    );
    first.begins();
    first.ends(at(4));
    let chosen = soon(&mut places, NOBODY, at(5));
    assert!(chosen.len() == 1 && Arc::ptr_eq(&chosen[0], &second));
    assert!(soon(&mut places, NOBODY, at(6)).is_empty(), "one is on its way out");
    assert!(places.leave(&second).gave_way);
    enter(&mut places, NOBODY, at(7));
    let chosen = soon(&mut places, NOBODY, at(8));
    assert!(Arc::ptr_eq(&chosen[0], &third));
    assert!(!places.leave(&first).gave_way, "it went by itself");
}

#[test]
fn f13_who_serves_a_request_never_gives_way() {
    let mut places = places(2);
    let (first, second) = (enter(&mut places, NOBODY, at(1)), enter(&mut places, NOBODY, at(2)));
    for entry in [&first, &second] {
        assert_eq!(
            entry.begins(),
            Turned {
                was_fresh: true,
                was_chosen: false
            }
        );
    }
    assert_eq!(is_full(&mut places, NOBODY, at(3)), Some(Cause::All));
    first.ends(at(4));
    assert!(Arc::ptr_eq(&soon(&mut places, NOBODY, at(5))[0], &first));
}

#[test]
fn f13_who_was_chosen_and_got_a_request_stays_and_another_is_chosen() {
    let mut places = places(2);
    let (first, second) = (enter(&mut places, NOBODY, at(1)), enter(&mut places, NOBODY, at(2)));
    assert!(Arc::ptr_eq(&soon(&mut places, NOBODY, at(3))[0], &first));
    assert!(first.begins().was_chosen);
    places.stays(&first);
    assert!(Arc::ptr_eq(&soon(&mut places, NOBODY, at(4))[0], &second));
    assert!(!places.leave(&first).gave_way && places.leave(&second).gave_way);
    assert_eq!((places.leaving, places.open.len(), places.clients.len()), (0, 0, 0));
}

#[test]
fn f13_a_client_at_its_part_gives_up_its_own_oldest_and_nobody_elses() {
    let mut places = places(8);
    let other = enter(&mut places, client(9), at(1));
    let own: Vec<_> = (2..8).map(|now| enter(&mut places, client(1), at(now))).collect();
    let chosen = soon(&mut places, client(1), at(9));
    assert!(
        chosen.len() == 1 && Arc::ptr_eq(&chosen[0], &own[0]),
        "six of eight is its part"
    );
    enter(&mut places, client(9), at(10));
    assert!(!other.is_chosen());
    places.leave(&own[0]);
    for entry in &own[1..] {
        entry.begins();
    }
    let last = enter(&mut places, client(1), at(11));
    last.begins();
    assert_eq!(is_full(&mut places, client(1), at(12)), Some(Cause::Client));
}

#[test]
fn f13_a_fixed_limit_refuses_and_counts_down() {
    let mut places = Places::new(8, Limit::of(2, 8));
    let first = enter(&mut places, client(1), at(1));
    enter(&mut places, client(1), at(2));
    assert_eq!(is_full(&mut places, client(1), at(3)), Some(Cause::Client));
    enter(&mut places, client(2), at(4));
    enter(&mut places, NOBODY, at(4));
    places.leave(&first);
    enter(&mut places, client(1), at(5));
}

#[test]
fn f13_a_crowd_pays_for_one_pass_together() {
    let mut places = places(640);
    let all: Vec<_> = (0..640).map(|now| enter(&mut places, NOBODY, at(now))).collect();
    let chosen = soon(&mut places, NOBODY, at(1000));
    assert_eq!(chosen.len(), 10);
    assert!(all[..10].iter().all(|entry| entry.is_chosen()), "the oldest ones");
    for entry in &chosen {
        places.leave(entry);
    }
    for _ in 0..10 {
        enter(&mut places, NOBODY, at(1001));
    }
    assert_eq!(soon(&mut places, NOBODY, at(1002)).len(), 10);
}

#[test]
fn f13_a_full_house_is_not_searched_for_each_who_knocks() {
    let mut places = places(1000);
    let all: Vec<_> = (0..1000).map(|_| enter(&mut places, NOBODY, at(1))).collect();
    for entry in &all {
        entry.begins();
    }
    assert_eq!(is_full(&mut places, NOBODY, at(2)), Some(Cause::All));
    all[7].ends(at(2));
    assert_eq!(is_full(&mut places, NOBODY, at(2)), Some(Cause::All), "not looked");
    assert!(Arc::ptr_eq(&soon(&mut places, NOBODY, at(2) + REST * 1000)[0], &all[7]));
}

#[test]
fn f13_where_descriptors_are_short_the_oldest_go_although_there_are_places() {
    let mut places = places(100);
    let first = enter(&mut places, NOBODY, at(1));
    enter(&mut places, NOBODY, at(2));
    let chosen = places.make_room(at(3));
    assert!(chosen.len() == 1 && Arc::ptr_eq(&chosen[0], &first));
    assert!(places.make_room(at(4)).is_empty(), "one is on its way out");
    places.leave(&first);
    assert_eq!(places.make_room(at(5)).len(), 1);
}

#[test]
fn f13_what_a_crowd_took_is_given_back() {
    let mut places = places(50_000);
    let crowd: Vec<_> = (0..50_000)
        .map(|number| enter(&mut places, client(number), at(1)))
        .collect();
    let kept = enter(&mut Places::new(1, Limit::Fixed(1)), NOBODY, at(1));
    assert_eq!(
        Arc::strong_count(&kept),
        1,
        "places of a house that is gone hold nothing"
    );
    for entry in crowd {
        places.leave(&entry);
        assert_eq!(Arc::strong_count(&entry), 1);
    }
    assert!(
        places.open.capacity() <= 2048 && places.clients.capacity() <= 4096,
        "{} {}",
        places.open.capacity(),
        places.clients.capacity()
    );
}
