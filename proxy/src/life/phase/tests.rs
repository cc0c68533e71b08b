//! One test per arrow, and what is never done twice or too soon.

use super::*;

const BUDGETS: Budgets = Budgets {
    lame_duck: Duration::from_secs(15),
    requests: Duration::from_secs(30),
    tunnels: Duration::from_secs(40),
    upgrade_tunnels: Duration::from_secs(3600),
};
const NOTHING: Left = Left {
    requests: 0,
    tunnels: 0,
};
const REQUEST: Left = Left {
    requests: 1,
    tunnels: 0,
};
const TUNNEL: Left = Left {
    requests: 0,
    tunnels: 1,
};
const BOTH: Left = Left {
    requests: 1,
    tunnels: 1,
};

/// A life on a clock that only these tests turn.
struct Stage {
    life: Life,
    start: Instant,
}

impl Stage {
    fn new(budgets: Budgets) -> Self {
        Self {
            life: Life::new(budgets),
            start: Instant::now(),
        }
    }

    fn serving(budgets: Budgets) -> Self {
        let mut stage = Self::new(budgets);
        assert_eq!(stage.at(0, Event::Ready, NOTHING), (Phase::Serving, vec![]));
        stage
    }

    /// One that does not wait for a load balancer, and was told to stop at 0.
    fn draining() -> Self {
        let mut stage = Self::serving(Budgets {
            lame_duck: Duration::ZERO,
            ..BUDGETS
        });
        assert_eq!(
            stage.at(0, Event::Told, BOTH),
            (Phase::Draining, vec![Step::KeepNone, Step::ShutDoor])
        );
        stage
    }

    /// What happens so many seconds after the start.
    fn at(&mut self, seconds: u64, event: Event, left: Left) -> (Phase, Vec<Step>) {
        let steps = self.life.on(event, left, self.start + Duration::from_secs(seconds));
        (self.life.phase(), steps)
    }

    fn wakes_at(&self) -> Option<u64> {
        self.life.wakes_at().map(|at| (at - self.start).as_secs())
    }

    /// When tunnels are cut by one that cuts its requests at `requests`, and not its tunnels.
    fn tunnels_are_cut_at(&mut self, requests: u64) -> u64 {
        let cut = (Phase::Draining, vec![Step::CutRequests]);
        assert_eq!(self.at(requests, Event::Time, BOTH), cut);
        self.wakes_at().expect("tunnels have a time")
    }
}

#[test]
fn boot_to_serving_once_there_is_routing() {
    let mut stage = Stage::new(BUDGETS);
    assert_eq!(
        stage.at(100, Event::Time, NOTHING),
        (Phase::Boot, vec![]),
        "it waits as long as it takes"
    );
    assert_eq!(stage.at(100, Event::Idle, NOTHING), (Phase::Boot, vec![]));
    assert_eq!(stage.at(101, Event::Ready, NOTHING), (Phase::Serving, vec![]));
    assert_eq!(stage.wakes_at(), None);
}

#[test]
fn boot_to_draining_when_told_before_it_serves() {
    let mut stage = Stage::new(BUDGETS);
    assert_eq!(
        stage.at(0, Event::Told, NOTHING),
        (Phase::Draining, vec![Step::KeepNone, Step::ShutDoor]),
        "nobody sends to it yet"
    );
    assert_eq!(stage.tunnels_are_cut_at(30), 40);
}

#[test]
fn whoever_serves_goes_on_however_little_there_is_to_do() {
    let mut stage = Stage::serving(BUDGETS);
    assert_eq!(stage.at(1, Event::Idle, NOTHING), (Phase::Serving, vec![]));
    assert_eq!(stage.at(100_000, Event::Time, NOTHING), (Phase::Serving, vec![]));
}

#[test]
fn boot_and_serving_to_forced_when_told_to_stop_at_once() {
    for mut stage in [Stage::new(BUDGETS), Stage::serving(BUDGETS)] {
        let all = vec![Step::KeepNone, Step::ShutDoor, Step::CutRequests, Step::CutTunnels];
        assert_eq!(stage.at(1, Event::Insisted, NOTHING), (Phase::Forced, all));
        assert_eq!(stage.wakes_at(), Some(3));
        assert!(!stage.life.has_cut(), "nothing was there");
    }
}

#[test]
fn serving_to_lame_duck_to_draining() {
    let mut stage = Stage::serving(BUDGETS);
    assert_eq!(
        stage.at(0, Event::Told, BOTH),
        (Phase::LameDuck, vec![Step::KeepNone]),
        "requests are still taken"
    );
    assert_eq!(stage.wakes_at(), Some(15));
    assert_eq!(stage.at(14, Event::Time, BOTH), (Phase::LameDuck, vec![]));
    assert_eq!(
        stage.at(14, Event::Told, BOTH),
        (Phase::LameDuck, vec![]),
        "it was told already"
    );
    assert_eq!(
        stage.at(14, Event::Idle, BOTH),
        (Phase::LameDuck, vec![]),
        "more may come"
    );
    assert_eq!(
        stage.at(15, Event::Time, BOTH),
        (Phase::Draining, vec![Step::KeepNone, Step::ShutDoor])
    );
    assert_eq!(
        stage.wakes_at(),
        Some(45),
        "requests have all of their time from now on"
    );
    assert_eq!(stage.tunnels_are_cut_at(45), 55, "and so have tunnels");
}

#[test]
fn lame_duck_to_forced_when_told_again() {
    let mut stage = Stage::serving(BUDGETS);
    stage.at(0, Event::Told, BOTH);
    let all = vec![Step::KeepNone, Step::ShutDoor, Step::CutRequests, Step::CutTunnels];
    assert_eq!(stage.at(1, Event::Insisted, BOTH), (Phase::Forced, all));
    assert_eq!(stage.wakes_at(), Some(3));
    assert!(stage.life.has_cut());
}

#[test]
fn draining_to_exit_when_nothing_is_left() {
    let mut stage = Stage::draining();
    assert_eq!(stage.at(1, Event::Idle, NOTHING), (Phase::Exit, vec![]));
    assert_eq!(stage.wakes_at(), None);
    assert!(!stage.life.has_cut(), "everything was finished");
}

#[test]
fn draining_to_forced_when_the_time_of_all_there_is_is_over() {
    let mut stage = Stage::draining();
    assert_eq!(stage.at(29, Event::Time, REQUEST), (Phase::Draining, vec![]));
    assert_eq!(
        stage.at(30, Event::Time, REQUEST),
        (Phase::Forced, vec![Step::CutRequests, Step::CutTunnels])
    );
    assert_eq!(stage.wakes_at(), Some(32));
    assert_eq!(stage.at(31, Event::Time, NOTHING), (Phase::Forced, vec![]));
    assert_eq!(
        stage.at(32, Event::Time, REQUEST),
        (Phase::Exit, vec![]),
        "it does not wait for those who do not listen"
    );
    assert!(stage.life.has_cut());
}

#[test]
fn forced_to_exit_as_soon_as_nothing_is_left() {
    let mut stage = Stage::draining();
    stage.at(1, Event::Insisted, REQUEST);
    assert_eq!(
        stage.at(1, Event::Insisted, REQUEST),
        (Phase::Forced, vec![]),
        "it happens once"
    );
    assert_eq!(stage.at(1, Event::Idle, NOTHING), (Phase::Exit, vec![]));
    assert!(stage.life.has_cut());
}

#[test]
fn requests_and_tunnels_have_times_of_their_own() {
    let mut stage = Stage::draining();
    assert_eq!(
        stage.at(30, Event::Time, BOTH),
        (Phase::Draining, vec![Step::CutRequests])
    );
    assert_eq!(stage.wakes_at(), Some(40));
    assert_eq!(
        stage.at(40, Event::Time, TUNNEL),
        (Phase::Forced, vec![Step::CutTunnels])
    );

    let budgets = Budgets {
        lame_duck: Duration::ZERO,
        tunnels: Duration::from_secs(5),
        ..BUDGETS
    };
    let mut sooner = Stage::serving(budgets);
    sooner.at(0, Event::Told, BOTH);
    assert_eq!(
        sooner.at(5, Event::Time, BOTH),
        (Phase::Draining, vec![Step::CutTunnels])
    );
    assert_eq!(sooner.wakes_at(), Some(30));
    let last = (Phase::Forced, vec![Step::CutRequests, Step::CutTunnels]);
    assert_eq!(
        sooner.at(30, Event::Time, REQUEST),
        last,
        "also one that became a tunnel meanwhile"
    );
}

#[test]
fn whoever_was_cut_counts_although_all_the_others_end_in_time() {
    let mut requests = Stage::draining();
    requests.at(30, Event::Time, BOTH);
    assert_eq!(requests.at(31, Event::Idle, NOTHING).0, Phase::Exit);
    assert!(requests.life.has_cut());

    let sooner = Budgets {
        lame_duck: Duration::ZERO,
        tunnels: Duration::from_secs(5),
        ..BUDGETS
    };
    let ends = |left| {
        let mut stage = Stage::serving(sooner);
        stage.at(0, Event::Told, BOTH);
        let cut = (Phase::Draining, vec![Step::CutTunnels]);
        assert_eq!(stage.at(5, Event::Time, left), cut, "what comes yet has its time");
        assert_eq!(stage.at(6, Event::Idle, NOTHING).0, Phase::Exit);
        stage.life.has_cut()
    };
    assert!(ends(TUNNEL) && ends(BOTH));
    assert!(!ends(REQUEST), "there was no tunnel");
}

#[test]
fn once_forced_no_other_time_counts() {
    let mut stage = Stage::draining();
    stage.at(29, Event::Insisted, BOTH);
    assert_eq!(stage.wakes_at(), Some(31));
}

#[test]
fn times_that_are_over_for_nobody_cut_nothing() {
    let mut stage = Stage::draining();
    // A connection is left that is neither: whoever still sends what nobody reads.
    assert_eq!(stage.at(30, Event::Time, NOTHING).0, Phase::Forced);
    assert_eq!(stage.at(31, Event::Idle, NOTHING), (Phase::Exit, vec![]));
    assert!(!stage.life.has_cut());
}

#[test]
fn a_successor_leaves_tunnels_their_long_time_and_requests_theirs() {
    for ready in [true, false] {
        let mut stage = Stage::new(BUDGETS);
        if ready {
            stage.at(0, Event::Ready, NOTHING);
        }
        let left = (Phase::Draining, vec![Step::KeepNone, Step::LeaveDoor]);
        assert_eq!(
            stage.at(0, Event::HandedOver, BOTH),
            left,
            "nobody has to be warned: somebody serves"
        );
        assert_eq!(
            stage.at(30, Event::Time, BOTH),
            (Phase::Draining, vec![Step::CutRequests])
        );
        assert_eq!(stage.wakes_at(), Some(3600));
        assert_eq!(
            stage.at(3600, Event::Time, TUNNEL),
            (Phase::Forced, vec![Step::CutTunnels])
        );
    }
    let mut lame = Stage::serving(BUDGETS);
    lame.at(0, Event::Told, BOTH);
    assert_eq!(lame.at(1, Event::HandedOver, BOTH).0, Phase::Draining);
}

#[test]
fn one_that_was_handed_over_and_is_told_to_stop_gives_tunnels_no_more_than_others_do() {
    let mut stage = Stage::serving(BUDGETS);
    stage.at(0, Event::HandedOver, BOTH);
    assert_eq!(stage.at(10, Event::Told, BOTH), (Phase::Draining, vec![Step::ShutDoor]));
    assert_eq!(
        stage.at(30, Event::Time, BOTH),
        (Phase::Draining, vec![Step::CutRequests])
    );
    assert_eq!(stage.wakes_at(), Some(50));
    assert_eq!(stage.at(49, Event::Told, TUNNEL).0, Phase::Draining);
    assert_eq!(stage.wakes_at(), Some(50), "it is never given more");
    assert_eq!(
        stage.at(49, Event::Insisted, TUNNEL),
        (Phase::Forced, vec![Step::CutRequests, Step::CutTunnels])
    );
}

#[test]
fn without_a_slot_table_it_drains_at_once_whatever_it_waits_for() {
    let drains = (Phase::Draining, vec![Step::KeepNone, Step::ShutDoor]);
    for mut stage in [Stage::new(BUDGETS), Stage::serving(BUDGETS)] {
        assert_eq!(stage.at(0, Event::TableLost, BOTH), drains);
        assert_eq!(stage.tunnels_are_cut_at(30), 40);
    }
    let mut lame = Stage::serving(BUDGETS);
    lame.at(0, Event::Told, BOTH);
    assert_eq!(lame.at(1, Event::TableLost, BOTH), drains);
    assert_eq!(lame.at(2, Event::TableLost, BOTH), (Phase::Draining, vec![]));
}

#[test]
fn what_was_begun_is_never_taken_back() {
    let late = [Event::Ready, Event::HandedOver, Event::TableLost, Event::Told];
    for event in late {
        let mut stage = Stage::draining();
        assert_eq!(stage.at(1, event, BOTH), (Phase::Draining, vec![]), "{event:?}");
        stage.at(2, Event::Insisted, BOTH);
        assert_eq!(stage.at(2, event, BOTH), (Phase::Forced, vec![]), "{event:?}");
        stage.at(3, Event::Idle, NOTHING);
        for event in [event, Event::Insisted] {
            assert_eq!(stage.at(3, event, BOTH), (Phase::Exit, vec![]), "{event:?}");
        }
    }
}
