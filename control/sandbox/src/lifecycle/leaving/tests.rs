//! Each arrow between the states of a sandbox that leaves, and those that must not exist.

use super::*;

const BUDGETS: Budgets = Budgets {
    requests: Duration::from_secs(30),
    tunnels: Duration::from_secs(60),
    grace: Duration::from_secs(10),
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn draining_to_stopping_when_every_proxy_has_said_that_nothing_is_under_way() {
    let now = Instant::now();
    let mut leaving = Leaving::begin(BUDGETS, now);
    assert_eq!(leaving.on(Event::Acknowledged, now + seconds(1)), Act::Terminate);
    assert_eq!(
        leaving,
        Leaving::Stops {
            until: now + seconds(11)
        },
        "its grace begins with SIGTERM"
    );
}

#[test]
fn draining_to_stopping_at_the_later_deadline_and_not_before() {
    for (requests, tunnels) in [(30, 60), (60, 30), (60, 0), (0, 60)] {
        let now = Instant::now();
        let budgets = Budgets {
            requests: seconds(requests),
            tunnels: seconds(tunnels),
            ..BUDGETS
        };
        let mut leaving = Leaving::begin(budgets, now);
        let end = now + seconds(60) + ACKNOWLEDGED_WITHIN;
        assert_eq!(leaving.next(), Some(end));
        for early in [now, now + seconds(31), now + seconds(60), end - Duration::from_nanos(1)] {
            assert_eq!(leaving.on(Event::Time, early), Act::Wait, "{requests} {tunnels}");
        }
        assert_eq!(leaving.on(Event::Time, end), Act::Terminate, "{requests} {tunnels}");
    }
}

#[test]
fn stopping_to_killed_when_its_grace_has_passed() {
    let now = Instant::now();
    let mut leaving = Leaving::stops(seconds(10), now);
    assert_eq!(leaving.on(Event::Acknowledged, now), Act::Wait, "it is told once");
    assert_eq!(leaving.on(Event::Time, now + seconds(9)), Act::Wait);
    assert_eq!(leaving.on(Event::Time, now + seconds(10)), Act::Kill);
    assert_eq!(leaving, Leaving::Killed);
}

#[test]
fn draining_and_stopping_to_killed_at_once_when_that_is_asked() {
    let now = Instant::now();
    for mut leaving in [Leaving::begin(BUDGETS, now), Leaving::stops(seconds(10), now)] {
        assert_eq!(leaving.on(Event::Killed, now), Act::Kill);
        assert_eq!(leaving, Leaving::Killed);
    }
}

#[test]
fn nothing_follows_a_kill() {
    let mut leaving = Leaving::Killed;
    let now = Instant::now();
    for event in [Event::Asked(BUDGETS), Event::Acknowledged, Event::Time, Event::Killed] {
        assert_eq!(leaving.on(event, now), Act::Wait);
        assert_eq!((leaving, leaving.next()), (Leaving::Killed, None));
    }
}

#[test]
fn asking_again_moves_each_deadline_nearer_and_none_away() {
    let now = Instant::now();
    let mut leaving = Leaving::begin(BUDGETS, now);
    let longer = Budgets {
        requests: seconds(3600),
        tunnels: seconds(5),
        grace: seconds(3600),
    };
    assert_eq!(leaving.on(Event::Asked(longer), now + seconds(1)), Act::Wait);
    let expected = Leaving::Drains {
        requests_until: now + seconds(30),
        tunnels_until: now + seconds(6),
        grace: seconds(10),
    };
    assert_eq!(leaving, expected);
    let mut stops = Leaving::stops(seconds(10), now);
    stops.on(Event::Asked(BUDGETS), now + seconds(5));
    assert_eq!(stops.next(), Some(now + seconds(10)), "not away");
    let shorter = Budgets {
        grace: seconds(1),
        ..BUDGETS
    };
    stops.on(Event::Asked(shorter), now + seconds(5));
    assert_eq!(stops.next(), Some(now + seconds(6)));
}
