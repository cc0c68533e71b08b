//! Which deaths count, and for how long.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn boot_failure(created: i64) -> Death {
    Death {
        created_at: at(created),
        ran_for: None,
        ended_by: Some(EndedBy::Exit),
        reason: Some("it exited with status 1 before it listened".into()),
        survived: false,
    }
}

fn ran(seconds: u64, ended_by: EndedBy) -> Death {
    Death {
        ran_for: Some(Duration::from_secs(seconds)),
        ended_by: Some(ended_by),
        ..boot_failure(0)
    }
}

#[test]
fn b3_boot_failures_wait_10_s_20_s_40_s_up_to_15_min() {
    let waits: Vec<u64> = (1..=8).map(|count| backoff(count).as_secs()).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 900]);
    assert_eq!(backoff(0), Duration::ZERO);
    assert_eq!(backoff(4_000_000_000), LONGEST_BACKOFF);
}

#[test]
fn b3_each_boot_failure_counts_once_and_its_siblings_do_not() {
    let mut crash = CrashRecord::default();
    assert!(crash.note(&boot_failure(0), at(5)));
    assert!(!crash.note(&boot_failure(1), at(6)), "made before the crash was known");
    assert_eq!((crash.count, crash.cooldown(at(6))), (1, Some(Duration::from_secs(9))));
    assert!(crash.note(&boot_failure(15), at(20)));
    assert_eq!(crash.cooldown(at(20)), Some(Duration::from_secs(20)));
    assert_eq!(crash.cooldown(at(40)), None);
}

#[test]
fn kill_9_of_a_running_sandbox_is_never_a_crash() {
    let mut crash = CrashRecord::default();
    for second in 0..100 {
        assert!(!crash.note(&ran(0, EndedBy::Signal(libc::SIGKILL)), at(second)));
    }
    assert_eq!((crash.count, crash.early), (0, 0));
}

#[test]
fn running_out_of_memory_is_its_own_doing() {
    let mut crash = CrashRecord::default();
    crash.note(&ran(1, EndedBy::OutOfMemory), at(0));
    assert_eq!(crash.early, 1);
    let mut death = ran(1, EndedBy::Signal(libc::SIGKILL));
    death.reason = Some("what it says about memory is not asked".into());
    crash.note(&death, at(0));
    assert_eq!(crash.early, 1);
}

#[test]
fn the_third_early_end_in_a_row_is_a_crash() {
    let mut crash = CrashRecord::default();
    let counted: Vec<bool> = (0..4)
        .map(|n| {
            let death = Death {
                created_at: at(n * 60),
                ..ran(3, EndedBy::Exit)
            };
            crash.note(&death, at(n * 60 + 5))
        })
        .collect();
    assert_eq!(counted, [false, false, true, true]);
}

#[test]
fn b3_an_app_that_dies_every_61_s_is_backed_off_further_each_time() {
    let mut crash = CrashRecord::default();
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert!(!crash.note_healthy(Duration::from_secs(61)));
        let death = Death {
            created_at: at(now),
            ..ran(61, EndedBy::Exit)
        };
        now += 62;
        crash.note(&death, at(now));
        let wait = crash.cooldown(at(now)).unwrap_or_default().as_secs();
        waits.push(wait);
        now += i64::try_from(wait).unwrap() + 1;
    }
    assert_eq!(waits, [0, 0, 10, 20, 40, 80]);
}

#[test]
fn an_end_after_a_while_or_beside_a_survivor_is_replaced_at_once() {
    let mut crash = CrashRecord::default();
    for _ in 0..5 {
        assert!(!crash.note(&ran(121, EndedBy::Exit), at(0)));
        assert!(!crash.note(
            &Death {
                survived: true,
                ..ran(1, EndedBy::Exit)
            },
            at(0)
        ));
    }
}

#[test]
fn b3_a_healthy_run_ends_the_row() {
    let mut crash = CrashRecord::default();
    for n in 0..6 {
        crash.note(&boot_failure(n * 1000), at(n * 1000 + 1));
    }
    assert_eq!(crash.count, 6);
    assert!(
        !crash.note_healthy(Duration::from_secs(319)),
        "shorter than the last wait"
    );
    assert!(crash.note_healthy(Duration::from_secs(320)));
    assert_eq!(crash, CrashRecord::default());
    crash.note(&boot_failure(9000), at(9001));
    assert!(!crash.note_healthy(Duration::from_secs(119)));
    assert!(crash.note_healthy(Duration::from_secs(120)));
}

/// How often it is replaced in so many seconds if it ends as soon as it runs, ten times a second.
fn replaced(death: &Death, seconds: i64) -> u32 {
    let (mut crash, mut count) = (CrashRecord::default(), 0);
    for tenth in 0..seconds * 10 {
        let now = at(0) + jiff::SignedDuration::from_millis(tenth * 100);
        let wait = crash.cooldown(now).unwrap_or_default();
        assert!(wait <= COST_ALONE, "{wait:?}");
        if wait.is_zero() {
            crash.note(death, now);
            count += 1;
        }
    }
    count
}

#[test]
fn f7_an_exit_with_the_number_of_a_signal_is_the_apps_own() {
    for code in [129, 130, 137, 143] {
        let mut crash = CrashRecord::default();
        let exits = Death {
            reason: Some(format!("exited with status {code}")),
            ..ran(1, EndedBy::Exit)
        };
        let crashes = (0..4).filter(|n| {
            let death = Death {
                created_at: at(n * 60),
                ..exits.clone()
            };
            crash.note(&death, at(n * 60 + 5))
        });
        assert_eq!(crashes.count(), 2, "exit {code}");
    }
}

#[test]
fn f7_whatever_kills_it_it_is_not_replaced_without_end() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGKILL, libc::SIGTERM] {
        let death = ran(0, EndedBy::Signal(signal));
        assert_eq!(replaced(&death, 15), 12, "in 15 s, by signal {signal}");
        assert_eq!(replaced(&death, 615), 62, "one each 12 s for ever");
    }
    let unseen = Death {
        ended_by: None,
        ..ran(0, EndedBy::Exit)
    };
    assert_eq!(replaced(&unseen, 15), 12);
}

#[test]
fn f7_beside_a_running_one_more_is_forgiven() {
    let beside = |ended_by| Death {
        survived: true,
        ..ran(0, ended_by)
    };
    let killed = beside(EndedBy::Signal(libc::SIGKILL));
    assert_eq!(replaced(&killed, 10), 100, "a hundred kills in ten seconds");
    assert_eq!(replaced(&killed, 600), 134 + 586, "then one a second");
    assert_eq!(replaced(&beside(EndedBy::Exit), 60), 30);
}

#[test]
fn f7_many_that_end_at_once_are_replaced_soon() {
    let mut crash = CrashRecord::default();
    for _ in 0..500 {
        crash.note(
            &Death {
                survived: true,
                ..ran(600, EndedBy::Signal(libc::SIGKILL))
            },
            at(0),
        );
    }
    assert_eq!(crash.cooldown(at(0)), Some(COST_BESIDE));
    assert_eq!(crash.cooldown(at(1)), None);
}

#[test]
fn f7_a_clock_that_was_set_back_makes_nobody_wait() {
    let mut crash = CrashRecord::default();
    for _ in 0..20 {
        crash.note(&ran(0, EndedBy::Signal(libc::SIGKILL)), at(7200));
    }
    assert!(crash.cooldown(at(7200)).is_some());
    assert_eq!(crash.cooldown(at(3600)), None);
    crash.note(&ran(0, EndedBy::Signal(libc::SIGKILL)), at(3600));
    assert_eq!(crash.paid_until, Some(at(3612)));
}
