//! The pool planner as text: what happens on the left, the plan on the right. Plans are carried out before the next line.

use super::*;
use crate::app::crash::{CrashRecord, Death};
use crate::record::Reference;
use miren_api::app_file;
use miren_api::id::{AppName, PoolId, VersionId};
use miren_sandbox::EndedBy;

struct Stage {
    pool: PoolRecord,
    sandboxes: Vec<SandboxRecord>,
    wanted: Wanted,
    /// Numbers of sandboxes with requests in flight.
    in_use: BTreeSet<u32>,
    now: Timestamp,
}

impl Stage {
    fn new() -> Self {
        let parsed = app_file::parse(None, Some("web: ./serve")).unwrap();
        let now = Timestamp::from_second(1_000_000).unwrap();
        let pool = PoolRecord {
            id: PoolId::from_text("pool-1"),
            app: AppName::from_text("shop"),
            service: "web".into(),
            spec_hash: "aa".into(),
            spec: parsed.services["web"].clone(),
            artifact: "sha256:aa".into(),
            image: None,
            label: None,
            references: Vec::new(),
            created_at: now,
            desired: 0,
            low_since: None,
            crash: CrashRecord::default(),
        };
        Self {
            pool,
            sandboxes: Vec::new(),
            wanted: Wanted::default(),
            in_use: BTreeSet::new(),
            now,
        }
    }

    fn refer(&mut self, concurrency: Concurrency) {
        let seq = self.pool.references.len() as u64 + 1;
        self.pool.references.push(Reference {
            version: VersionId::from_text(format!("shop-v{seq}")),
            seq,
            concurrency,
        });
    }

    /// The sandbox with this number that has not ended.
    fn living(&mut self, number: &str) -> &mut SandboxRecord {
        let (number, mut all): (u32, _) = (number.parse().unwrap(), self.sandboxes.iter_mut());
        all.find(|s| s.number == number && !s.state.is_terminal()).unwrap()
    }

    fn die(&mut self, number: &str, ended_by: EndedBy) {
        let now = self.now;
        let sandbox = self.living(number);
        sandbox.state = SandboxState::Dead;
        sandbox.ended_at = Some(now);
        let (created_at, running_at) = (sandbox.created_at, sandbox.running_at);
        let survived = self.sandboxes.iter().any(|s| s.state == SandboxState::Running);
        let death = Death {
            created_at,
            ran_for: running_at.map(|running| since(now, running)),
            ended_by: Some(ended_by),
            reason: None,
            survived,
        };
        self.pool.crash.note(&death, now);
    }

    fn happen(&mut self, words: &[&str]) {
        match words {
            ["fixed", count] => self.refer(Concurrency::Fixed {
                count: count.parse().unwrap(),
            }),
            ["auto", per, min, max] => self.refer(Concurrency::Auto {
                requests_per_instance: per.parse().unwrap(),
                scale_down_delay: Duration::from_secs(60),
                min: min.parse().unwrap(),
                max: max.parse().unwrap(),
            }),
            ["forget", seq] => {
                let seq: u64 = seq.parse().unwrap();
                self.pool.references.retain(|reference| reference.seq != seq);
            }
            ["running", numbers @ ..] => {
                for number in numbers {
                    let now = self.now;
                    let sandbox = self.living(number);
                    sandbox.state = SandboxState::Running;
                    sandbox.running_at = Some(now);
                }
            }
            ["stopped", number] => self.living(number).state = SandboxState::Stopped,
            ["killed", number] => self.die(number, EndedBy::Signal(libc::SIGKILL)),
            ["exits", number] => self.die(number, EndedBy::Exit),
            ["demand", requests] => self.wanted.demand.in_flight = requests.parse().unwrap(),
            ["waiting", requests] => self.wanted.demand.queued = requests.parse().unwrap(),
            ["in-use", numbers @ ..] => self.in_use = numbers.iter().map(|number| number.parse().unwrap()).collect(),
            ["deploying", what] => self.wanted.deploying = *what == "on",
            ["turn", "own"] => self.wanted.turn = Turn::Own,
            ["turn", "waits"] => self.wanted.turn = Turn::Waits,
            ["turn", "gives-way"] => self.wanted.turn = Turn::GivesWay,
            ["after", seconds] => self.now = later(self.now, Duration::from_secs(seconds.parse().unwrap())),
            other => panic!("{other:?}"),
        }
    }

    fn plan(&mut self) -> String {
        let seen: Vec<&SandboxRecord> = self.sandboxes.iter().collect();
        if let Some(ran) = longest_run(&seen, self.now) {
            self.pool.crash.note_healthy(ran);
        }
        let sandboxes = self.sandboxes.iter();
        let members: Vec<Member<'_>> = sandboxes
            .map(|sandbox| Member {
                sandbox,
                in_use: self.in_use.contains(&sandbox.number),
            })
            .collect();
        let plan = plan(&self.pool, &members, self.wanted, self.now);
        self.pool.desired = plan.desired;
        self.pool.low_since = plan.low_since;
        let mut said: Vec<String> = plan.actions.iter().map(|action| self.carry_out(action)).collect();
        said.extend(plan.wake.map(|at| format!("wake {}", since(at, self.now).as_secs())));
        if said.is_empty() { "-".into() } else { said.join(", ") }
    }

    fn carry_out(&mut self, action: &Action) -> String {
        match action {
            Action::Start { number } => {
                let (version, node) = (VersionId::from_text("shop-v1"), Default::default());
                let sandbox = SandboxRecord::new(&self.pool, version, node, *number, self.now);
                self.sandboxes.push(sandbox);
                format!("start {number}")
            }
            Action::Drain { id, .. } => {
                let sandbox = self.sandboxes.iter_mut().find(|s| s.id == *id).unwrap();
                sandbox.state = SandboxState::Draining;
                format!("drain {}", sandbox.number)
            }
        }
    }
}

#[track_caller]
fn script(text: &str) {
    let mut stage = Stage::new();
    let mut said = Vec::new();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for line in &lines {
        let (happens, _) = line.split_once(" => ").unwrap();
        stage.happen(&happens.split_whitespace().collect::<Vec<_>>());
        said.push(format!("{happens} => {}", stage.plan()));
    }
    assert_eq!(said.join("\n"), lines.join("\n"));
}

#[test]
fn a_fixed_pool_has_its_number_and_replaces_the_dead_at_once() {
    script(
        "fixed 2 => start 0, start 1
         running 0 1 => -
         killed 0 => start 0
         killed 1 => start 1
         running 0 1 => -
         after 60 => -
         exits 0 => start 0",
    );
}

#[test]
fn b6_a_pool_whose_disk_another_has_starts_nothing_and_one_that_gives_way_drains() {
    script(
        "fixed 1 => start 0
         running 0 => -
         turn gives-way => drain 0
         stopped 0 => -
         turn waits => -
         demand 5 => -
         turn own => start 0
         turn waits => -
         running 0 => -",
    );
}

#[test]
fn a_hundred_kills_beside_a_running_sandbox_are_each_replaced_at_once() {
    let round = "after 1 => -\nkilled 0 => start 0\nrunning 0 => -\n";
    script(&format!(
        "fixed 2 => start 0, start 1\nrunning 0 1 => -\n{}",
        round.repeat(100)
    ));
}

#[test]
fn f7_ten_kills_of_the_only_sandbox_are_replaced_at_once_and_then_one_each_12_s() {
    let at_once = "running 0 => -\nafter 1 => -\nkilled 0 => start 0\n".repeat(10);
    let later = "running 0 => -\nkilled 0 => wake 12\nafter 11 => wake 1\nafter 1 => start 0\n".repeat(10);
    script(&format!(
        "auto 10 1 20 => start 0\n{at_once}\
         running 0 => -\nafter 1 => -\nkilled 0 => wake 2\nafter 2 => start 0\n{later}"
    ));
}

#[test]
fn b3_boot_failures_wait_twice_as_long_each_time_until_a_healthy_run() {
    script(
        "fixed 1 => start 0
         exits 0 => wake 10
         after 9 => wake 1
         after 1 => start 0
         exits 0 => wake 20
         after 20 => start 0
         exits 0 => wake 40
         after 40 => start 0
         running 0 => wake 120
         after 120 => -
         killed 0 => start 0
         exits 0 => wake 10",
    );
}

#[test]
fn b3_after_a_crash_one_sandbox_goes_first() {
    script(
        "fixed 3 => start 0, start 1, start 2
         exits 0 => wake 10
         exits 1 => wake 10
         exits 2 => wake 10
         after 10 => start 0
         running 0 => start 1, start 2, wake 120",
    );
}

#[test]
fn a_crash_loop_behind_readiness_is_slowed_down_too() {
    script(
        "fixed 1 => start 0
         running 0 => -
         exits 0 => start 0
         running 0 => wake 120
         exits 0 => start 0
         running 0 => wake 120
         exits 0 => wake 10",
    );
}

#[test]
fn r3_a_pool_without_versions_drains_and_its_deaths_are_no_crashes() {
    script(
        "fixed 2 => start 0, start 1
         running 0 => -
         forget 1 => drain 0, drain 1
         stopped 0 => -
         stopped 1 => -
         fixed 1 => start 0",
    );
}

#[test]
fn an_auto_pool_starts_one_for_its_deploy_and_grows_with_demand_up_to_its_maximum() {
    script(
        "auto 10 0 3 => -
         deploying on => start 0
         running 0 => -
         demand 10 => -
         demand 11 => start 1
         running 1 => -
         demand 500 => start 2
         running 2 => -",
    );
}

#[test]
fn an_auto_pool_shrinks_only_after_less_has_been_enough_for_its_delay() {
    script(
        "auto 10 1 5 => start 0
         demand 30 => start 1, start 2
         running 0 1 2 => -
         demand 0 => wake 60
         after 30 => wake 30
         demand 30 => -
         demand 0 => wake 60
         after 60 => drain 1, drain 2",
    );
}

#[test]
fn a_smaller_version_shrinks_a_shared_pool_only_when_the_larger_one_is_gone() {
    script(
        "fixed 3 => start 0, start 1, start 2
         running 0 1 => -
         fixed 1 => -
         forget 1 => drain 1, drain 2",
    );
}

#[test]
fn a_large_pool_starts_a_few_at_a_time() {
    script(
        "fixed 10 => start 0, start 1, start 2, start 3, start 4, start 5, start 6, start 7
         running 0 1 2 => start 8, start 9",
    );
}

#[test]
fn a_number_is_free_again_only_when_its_sandbox_has_ended() {
    script(
        "fixed 1 => start 0
         running 0 => -
         forget 1 => drain 0
         fixed 1 => start 1
         stopped 0 => -",
    );
}

#[test]
fn a_pool_nobody_asks_scales_to_zero_after_its_delay_and_starts_again_for_the_first_who_waits() {
    script(
        "deploying on => -
         auto 10 0 5 => start 0
         running 0 => -
         deploying off => wake 60
         after 59 => wake 1
         after 1 => drain 0
         stopped 0 => -
         waiting 1 => start 0",
    );
}

#[test]
fn a_burst_of_a_hundred_first_requests_starts_no_more_than_its_share() {
    script(
        "auto 10 0 20 => -
         waiting 100 => start 0, start 1, start 2, start 3, start 4, start 5, start 6, start 7
         running 0 1 2 3 4 5 6 7 => start 8, start 9
         running 8 9 => -",
    );
}

#[test]
fn b3_zero_is_no_way_around_the_back_off() {
    script(
        "auto 10 0 5 => -
         waiting 1 => start 0
         exits 0 => wake 10
         waiting 0 => wake 10
         after 60 => -
         waiting 1 => start 0
         exits 0 => wake 20",
    );
}

#[test]
fn less_load_drains_idle_sandboxes_and_none_in_use() {
    script(
        "auto 10 0 5 => -
         demand 30 => start 0, start 1, start 2
         running 0 1 2 => -
         in-use 1 2 => -
         demand 5 => wake 60
         after 60 => drain 0
         in-use 2 => drain 1
         in-use 2 => -",
    );
}

#[test]
fn a_smaller_number_of_the_apps_own_drains_those_in_use_too() {
    script(
        "fixed 3 => start 0, start 1, start 2
         running 0 1 2 => -
         in-use 0 1 2 => -
         fixed 1 => -
         forget 1 => drain 1, drain 2",
    );
}
