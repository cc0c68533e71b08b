//! The planner of drains as text: what happens on the left, what is done about it on the right.

use super::*;
use crate::clock::later;
use std::fmt::Write;

/// The node of a script.
struct Stage {
    drain: Option<Drain>,
    seen: Seen,
    /// What a look at the machine finds of ended sandboxes.
    left: usize,
    start: Timestamp,
    now: Timestamp,
}

impl Stage {
    fn new() -> Self {
        let start = Timestamp::from_second(1_000_000).unwrap();
        Self {
            drain: None,
            seen: Seen::default(),
            left: 0,
            start,
            now: start,
        }
    }

    fn happen(&mut self, words: &[&str]) {
        let number = |text: &str| text.parse::<u64>().unwrap();
        let seconds = |text: &str| Duration::from_secs(number(text));
        match words {
            ["drain", limit] => self.drain = Some(Drain::begin(self.now, seconds(limit), true)),
            ["stop", limit] => self.drain = Some(Drain::begin(self.now, seconds(limit), false)),
            ["shorten", limit] => self.drain.as_mut().unwrap().shorten(self.now, seconds(limit)),
            ["force"] => drop(self.drain.as_mut().unwrap().force(self.now)),
            ["admitted", count] => self.seen.admitted = number(count),
            ["starts", count] => self.seen.starts = number(count),
            ["left", count] => self.left = usize::try_from(number(count)).unwrap(),
            ["pass", time] => self.now = later(self.now, seconds(time)),
            ["gone", ids @ ..] => self.seen.living.retain(|sandbox| !ids.contains(&sandbox.id.as_str())),
            [state, ids @ ..] => ids.iter().for_each(|id| self.reach(id, state)),
            [] => {}
        }
    }

    fn reach(&mut self, id: &str, state: &str) {
        let state = match state {
            "pending" => SandboxState::Pending,
            "running" => SandboxState::Running,
            "draining" => SandboxState::Draining,
            "stopping" => SandboxState::Stopping,
            other => panic!("{other} is no verb"),
        };
        let id = SandboxId::from_text(id);
        match self.seen.living.iter_mut().find(|sandbox| sandbox.id == id) {
            Some(sandbox) => sandbox.state = state,
            None => self.seen.living.push(Living { id, state }),
        }
    }

    /// Plans until nothing is left to do now, as the keeper does.
    fn plan(&mut self) -> String {
        let mut told = String::new();
        loop {
            let Some(drain) = self.drain.clone() else {
                return "-".into();
            };
            self.seen.left = (drain.step == Step::CleanUps).then_some(self.left);
            let planned = plan(drain, &self.seen, self.now);
            planned
                .actions
                .iter()
                .for_each(|action| write!(told, "{} ", show(action)).unwrap());
            self.drain = Some(planned.drain.clone());
            if !planned.again {
                let wake = planned
                    .wake
                    .map(|at| format!(" wake {}", since(at, self.start).as_secs()));
                let overdue = if planned.drain.is_overdue(self.now) {
                    " overdue"
                } else {
                    ""
                };
                let (phase, step) = (planned.drain.phase().as_str(), planned.drain.step);
                return format!("{told}= {phase} {step:?}{overdue}{}", wake.unwrap_or_default());
            }
        }
    }
}

fn show(action: &Action) -> String {
    let ids = |ids: &[SandboxId]| ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(",");
    match action {
        Action::CloseStarts => "close-starts".into(),
        Action::Drain(some) => format!("drain:{}", ids(some)),
        Action::CallOff => "call-off".into(),
        Action::Kill(some) => format!("kill:{}", ids(some)),
        Action::Hurry => "hurry".into(),
    }
}

/// Each line: what happens, `->`, what is planned.
#[track_caller]
fn script(text: &str) {
    let mut stage = Stage::new();
    let mut played = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let happens = line.split("->").next().unwrap().trim();
        for event in happens.split(';') {
            stage.happen(&event.split_whitespace().collect::<Vec<_>>());
        }
        let planned = stage.plan();
        writeln!(played, "{happens:38} -> {planned}").unwrap();
    }
    let expected: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(words)
        .collect();
    let played_words: Vec<String> = played.lines().map(words).collect();
    assert_eq!(played_words, expected, "\n{played}");
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn d3_each_gate_is_closed_when_what_the_one_before_let_in_is_over() {
    script(
        "
        running sb-1 ; admitted 2 ; drain 0   -> = DRAINING Admitted
        admitted 1 ; pending sb-2 ; starts 1  -> = DRAINING Admitted
        running sb-2 ; starts 0               -> = DRAINING Admitted
        admitted 0                            -> close-starts drain:sb-1,sb-2 = DRAINING Sandboxes
        draining sb-1 sb-2                    -> = DRAINING Sandboxes
        gone sb-1 ; left 1                    -> = DRAINING Sandboxes
        gone sb-2                             -> = DRAINING CleanUps wake 1
        left 0 ; pass 1                       -> = EMPTY Empty
        ",
    );
}

#[test]
fn d3_what_was_seen_before_the_gate_of_sandboxes_was_closed_is_looked_at_again() {
    let mut stage = Stage::new();
    stage.happen(&["drain", "0"]);
    let drain = stage.drain.clone().unwrap();
    let first = plan(drain, &Seen::default(), stage.now);
    assert_eq!(
        (first.drain.step, first.again),
        (Step::Starts, true),
        "{:?}",
        first.actions
    );
    // Between the look and the close one had been let in.
    let seen = Seen {
        starts: 1,
        ..Seen::default()
    };
    let second = plan(first.drain, &seen, stage.now);
    assert_eq!((second.drain.step, second.again), (Step::Starts, false));
}

#[test]
fn d2_a_start_that_was_let_in_is_waited_for_and_then_drained() {
    script(
        "
        starts 1 ; drain 0                    -> close-starts = DRAINING Starts
        pending sb-1                          -> = DRAINING Starts
        starts 0                              -> = DRAINING Starts
        running sb-1                          -> drain:sb-1 = DRAINING Sandboxes
        gone sb-1                             -> = EMPTY Empty
        ",
    );
}

#[test]
fn d3_sandboxes_drain_so_many_at_a_time_and_each_is_told_once() {
    let mut stage = Stage::new();
    let all: Vec<String> = (100..180).map(|number| format!("sb-{number}")).collect();
    all.iter().for_each(|id| stage.reach(id, "running"));
    stage.happen(&["drain", "0"]);
    let mut told: Vec<SandboxId> = Vec::new();
    for _ in 0..3 * all.len() {
        let drain = stage.drain.clone().unwrap();
        stage.seen.left = Some(0);
        let planned = plan(drain, &stage.seen, stage.now);
        for action in &planned.actions {
            if let Action::Drain(ids) = action {
                told.extend(ids.iter().cloned());
            }
        }
        let under_way = stage
            .seen
            .living
            .iter()
            .filter(|sandbox| told.contains(&sandbox.id))
            .count();
        let most = match planned.drain.step {
            Step::Admitted | Step::Starts => 0,
            _ => AT_A_TIME.min(stage.seen.living.len()),
        };
        assert_eq!(under_way, most, "each that has ended makes room for one");
        stage.drain = Some(planned.drain);
        if !planned.again
            && let Some(next) = stage.seen.living.iter().position(|sandbox| told.contains(&sandbox.id))
        {
            stage.seen.living.remove(next);
        }
    }
    let drain = stage.drain.unwrap();
    assert_eq!((drain.step, drain.told.len()), (Step::Empty, 0));
    let told: Vec<&str> = told.iter().map(SandboxId::as_str).collect();
    assert_eq!(told, all, "each once, in the order in which they were started");
}

#[test]
fn d3_a_sandbox_that_ends_already_is_not_told_again_and_one_that_comes_late_is() {
    script(
        "
        draining sb-1 ; stopping sb-2 ; running sb-3 ; drain 0 -> close-starts drain:sb-3 = DRAINING Sandboxes
        running sb-4                          -> drain:sb-4 = DRAINING Sandboxes
        gone sb-1 sb-2 sb-3 sb-4              -> = EMPTY Empty
        ",
    );
}

#[test]
fn d4_a_drain_whose_time_is_over_closes_what_it_had_not_closed() {
    script(
        "
        admitted 1 ; running sb-1 ; drain 10  -> = DRAINING Admitted wake 10
        pass 10                               -> close-starts call-off kill:sb-1 hurry = FORCED Sandboxes wake 11
        ",
    );
}

/// A sweep that came late is due again only behind the end.
#[test]
fn d4_the_end_of_the_forced_phase_is_woken_for_although_no_sweep_is_due() {
    let start = Timestamp::from_second(1_000_000).unwrap();
    let mut drain = Drain::begin(start, Duration::ZERO, true);
    drain.step = Step::Sandboxes;
    drain.force(start);
    let living = Living {
        id: SandboxId::from_text("sb-1"),
        state: SandboxState::Running,
    };
    let seen = Seen {
        living: vec![living],
        ..Seen::default()
    };
    let swept = plan(drain, &seen, later(start, Duration::from_millis(29_500)));
    assert_eq!(swept.wake, Some(later(start, Duration::from_secs(30))));
}

#[test]
fn d4_a_drain_without_a_limit_waits_for_ever_and_one_with_it_is_forced_then() {
    script(
        "
        running sb-1 ; drain 0                -> close-starts drain:sb-1 = DRAINING Sandboxes
        pass 100000                           -> = DRAINING Sandboxes
        shorten 60                            -> = DRAINING Sandboxes wake 100060
        pass 59                               -> = DRAINING Sandboxes wake 100060
        pass 1                                -> call-off kill:sb-1 hurry = FORCED Sandboxes wake 100061
        gone sb-1                             -> = EMPTY Empty
        ",
    );
}

#[test]
fn d4_a_limit_may_only_become_shorter() {
    script(
        "
        running sb-1 ; drain 60               -> close-starts drain:sb-1 = DRAINING Sandboxes wake 60
        shorten 90                            -> = DRAINING Sandboxes wake 60
        shorten 0                             -> = DRAINING Sandboxes wake 60
        shorten 10                            -> = DRAINING Sandboxes wake 10
        ",
    );
}

#[test]
fn d4_force_skips_what_is_waited_for_and_has_its_own_thirty_seconds() {
    script(
        "
        admitted 1 ; starts 1 ; pending sb-1 ; running sb-2 ; drain 600 -> = DRAINING Admitted wake 600
        pass 599 ; force                      -> close-starts call-off kill:sb-1,sb-2 hurry = FORCED Sandboxes wake 600
        force                                 -> = FORCED Sandboxes wake 600
        pass 1                                -> kill:sb-1,sb-2 hurry = FORCED Sandboxes wake 601
        gone sb-2                             -> = FORCED Sandboxes wake 601
        pass 1 ; pending sb-3                 -> kill:sb-1,sb-3 hurry = FORCED Sandboxes wake 602
        pending sb-4                          -> kill:sb-4 = FORCED Sandboxes wake 602
        pass 27                               -> kill:sb-1,sb-3,sb-4 hurry = FORCED Sandboxes wake 629
        pass 1                                -> = FORCED Sandboxes overdue
        gone sb-1 sb-3 sb-4                   -> = FORCED Sandboxes overdue
        starts 0                              -> = EMPTY Empty
        ",
    );
}

#[test]
fn d4_a_clean_up_that_hangs_is_tried_each_second_and_given_up_in_time() {
    script(
        "
        left 1 ; drain 0                      -> close-starts = DRAINING CleanUps wake 1
        force                                 -> call-off hurry = FORCED CleanUps wake 1
        pass 1                                -> hurry = FORCED CleanUps wake 2
        pass 29                               -> = FORCED CleanUps overdue wake 31
        left 0                                -> = EMPTY Empty
        ",
    );
}

#[test]
fn d7_nothing_is_empty_before_a_look_has_found_nothing() {
    let mut stage = Stage::new();
    stage.happen(&["drain", "0"]);
    let mut drain = stage.drain.clone().unwrap();
    drain.step = Step::CleanUps;
    let planned = plan(drain.clone(), &Seen::default(), stage.now);
    assert_eq!(planned.drain.step, Step::CleanUps, "nobody has looked");
    let seen = Seen {
        left: Some(0),
        starts: 1,
        ..Seen::default()
    };
    assert_eq!(
        plan(drain.clone(), &seen, stage.now).drain.step,
        Step::CleanUps,
        "one comes late"
    );
    stage.reach("sb-1", "running");
    stage.seen.left = Some(0);
    assert_eq!(
        plan(drain, &stage.seen, stage.now).drain.step,
        Step::CleanUps,
        "it is there"
    );
}

#[test]
fn d8_what_is_over_when_its_time_is_was_not_forced() {
    script(
        "
        running sb-1 ; drain 10               -> close-starts drain:sb-1 = DRAINING Sandboxes wake 10
        gone sb-1 ; pass 10                   -> = EMPTY Empty
        force                                 -> = EMPTY Empty
        ",
    );
}

#[test]
fn d3_a_daemon_that_ends_waits_for_sandboxes_alone() {
    script(
        "
        admitted 1 ; pending sb-1 ; running sb-2 ; stop 45 -> close-starts drain:sb-1,sb-2 = DRAINING Sandboxes wake 45
        gone sb-1 sb-2                        -> = EMPTY Empty
        ",
    );
}
