//! Which deaths count, and for how long.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn boot_failure(created: i64) -> Death {
    Death {
        created_at: at(created),
        ran_for: None,
        exit_code: Some(1),
        reason: Some("it exited with status 1 before it listened".into()),
        survived: false,
    }
}

fn ran(seconds: u64, exit_code: i32) -> Death {
    Death {
        ran_for: Some(Duration::from_secs(seconds)),
        exit_code: Some(exit_code),
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
        assert!(!crash.note(&ran(0, 128 + libc::SIGKILL), at(second)));
    }
    assert_eq!((crash.count, crash.early), (0, 0));
}

#[test]
fn running_out_of_memory_is_its_own_doing() {
    let mut crash = CrashRecord::default();
    let mut death = ran(1, 128 + libc::SIGKILL);
    death.reason = Some("killed: out of memory".into());
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
                ..ran(3, 1)
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
            ..ran(61, 1)
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
        assert!(!crash.note(&ran(121, 1), at(0)));
        assert!(!crash.note(
            &Death {
                survived: true,
                ..ran(1, 1)
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
