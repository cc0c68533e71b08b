//! A wall clock that is set moves what people read, and nothing that is waited for.

use super::*;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test(start_paused = true)]
async fn f8_setting_the_wall_clock_moves_neither_what_is_steady_nor_what_nobody_looked_at() {
    let clock = Clock::of_runtime(Timestamp::from_second(1_000_000).unwrap());
    let mut readings = clock.readings();
    for by in [HOUR, -HOUR - HOUR, SignedDuration::from_hours(24 * 365 * 50)] {
        let (steady, wall, now) = (clock.steady(), clock.wall(), clock.now());
        clock.set_by(by);
        assert_eq!((clock.steady(), clock.now()), (steady, now), "{by}");
        assert_eq!(clock.wall(), shifted(wall, by));
        clock.look();
        assert_eq!(clock.now(), clock.wall());
        assert_eq!(clock.steady(), steady);
        assert!(readings.has_changed().unwrap());
        readings.mark_unchanged();
    }
}

#[tokio::test(start_paused = true)]
async fn f8_what_lies_between_two_questions_is_no_step() {
    let clock = Clock::of_runtime(Timestamp::from_second(1_000_000).unwrap());
    let readings = clock.readings();
    clock.set_by(SignedDuration::from_millis(99));
    clock.look();
    tokio::time::advance(Duration::from_secs(3600)).await;
    clock.look();
    assert!(!readings.has_changed().unwrap());
    clock.set_by(SignedDuration::from_millis(1));
    clock.look();
    assert!(readings.has_changed().unwrap(), "small steps add up");
}

#[test]
fn f8_the_clocks_of_the_system_agree_until_somebody_sets_one() {
    let clock = Clock::system();
    let (steady, wall) = (clock.steady(), clock.wall());
    assert!(
        wall.duration_since(steady).abs() < SignedDuration::from_hours(1),
        "{steady} {wall}"
    );
    assert!(clock.steady() >= steady);
}

#[test]
fn f8_the_ends_of_time_are_no_panic() {
    assert_eq!(shifted(Timestamp::MAX, HOUR), Timestamp::MAX);
    assert_eq!(shifted(Timestamp::MIN, -HOUR), Timestamp::MIN);
    assert_eq!(since(Timestamp::MIN, Timestamp::MAX), Duration::ZERO);
}
