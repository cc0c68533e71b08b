//! What is kept of a flood, with time as an argument.

use super::*;
use crate::logs::pump;

const LINE_MAX: u64 = pump::LINE_MAX as u64;

const RATE: LogRate = LogRate {
    bytes: Bytes(64 << 10),
    lines: 100,
    burst: Duration::from_secs(4),
};

fn allowance() -> (Allowance, Instant) {
    let now = Instant::now();
    (Allowance::new(RATE, now), now)
}

/// How many of so many lines are kept.
fn kept(allowance: &mut Allowance, lines: u64, length: u64) -> u64 {
    (0..lines).filter(|_| allowance.take(length)).count() as u64
}

#[test]
fn f4_a_burst_is_kept_and_then_so_much_a_second() {
    let (mut few, _) = allowance();
    assert_eq!(kept(&mut few, 1000, 10), 400, "by number");
    assert_eq!(few.over(), None, "it goes on");
    assert_eq!(
        few.rest(),
        Some(Dropped {
            lines: 600,
            bytes: 6000
        })
    );
    let (mut large, now) = allowance();
    assert_eq!(kept(&mut large, 1000, 1024), 256, "by bytes");
    for second in 1..100 {
        large.refill(now + Duration::from_secs(second));
        assert_eq!(kept(&mut large, 1000, 1024), 64, "second {second}");
    }
}

#[test]
fn f4_what_is_dropped_is_said_once_it_is_over_and_adds_up() {
    let (mut allowance, now) = allowance();
    let kept_first = kept(&mut allowance, 500, 100);
    allowance.drop(Dropped { lines: 70, bytes: 7000 });
    assert_eq!(allowance.wait(), Some(Duration::from_secs(1)));
    allowance.refill(now + Duration::from_millis(999));
    assert!(
        allowance.is_over() && !allowance.take(1),
        "not for the first line that fits"
    );
    assert_eq!(allowance.over(), None);
    allowance.refill(now + Duration::from_secs(1));
    assert!(!allowance.is_over());
    assert_eq!(allowance.wait(), Some(Duration::ZERO), "there is something to say");
    let dropped = allowance.over().expect("something was dropped");
    assert_eq!(kept_first + dropped.lines, 500 + 70 + 1);
    assert_eq!(dropped.bytes, (500 - kept_first) * 100 + 7000 + 1);
    assert_eq!((allowance.over(), allowance.wait()), (None, None), "once");
    assert_eq!(
        allowance.told(dropped),
        "171 lines (17001 bytes) dropped: over the limit of 64KiB or 100 lines a second, 4 s of it at once"
    );
}

#[test]
fn f4_the_longest_line_is_kept_at_the_smallest_rate() {
    let rate = LogRate {
        bytes: Bytes(1),
        lines: 1,
        burst: Duration::ZERO,
    };
    let now = Instant::now();
    let mut allowance = Allowance::new(rate, now);
    assert!(allowance.take(LINE_MAX));
    assert!(!allowance.take(1));
    allowance.refill(now + Duration::from_secs(LINE_MAX));
    assert!(allowance.take(LINE_MAX));
    // However long nothing was written, and whatever clock this is.
    allowance.refill(now + Duration::from_secs(1 << 40));
    allowance.refill(now);
    assert!(allowance.take(1));
}

#[test]
fn g7_what_a_long_line_has_more_than_its_share_is_paid_for_later() {
    let (mut allowance, now) = allowance();
    let mut all = 0;
    for second in 0..1000 {
        allowance.refill(now + Duration::from_secs(second));
        all += LINE_MAX * kept(&mut allowance, 3, LINE_MAX);
        let bound = RATE.bytes.0 * (second + RATE.burst.as_secs()) + LINE_MAX - AHEAD;
        assert!(all <= bound, "{all} bytes until second {second}, {bound} are allowed");
    }
    // Nor is less kept than may be.
    assert!(all >= RATE.bytes.0 * 900, "{all}");
}

#[test]
fn f4_no_wait_is_longer_than_it_takes() {
    let (mut allowance, mut now) = allowance();
    for _ in 0..1000 {
        let _ = kept(&mut allowance, 1000, 777);
        let wait = allowance.wait().expect("it is over");
        now += wait;
        allowance.refill(now);
        assert!(!allowance.is_over(), "{wait:?} was not enough");
    }
}

#[test]
fn g7_the_rest_of_a_line_that_was_dropped_is_counted_and_waits_for_the_next() {
    let (mut allowance, now) = allowance();
    kept(&mut allowance, 401, 10);
    allowance.drop_rest(7);
    allowance.refill(now + Duration::from_secs(4));
    assert_eq!(allowance.over(), Some(Dropped { lines: 1, bytes: 17 }));
    allowance.drop_rest(5);
    assert_eq!(allowance.wait(), None, "it alone is said to nobody");
    assert!(allowance.take(10));
    assert_eq!(allowance.over(), Some(Dropped { lines: 0, bytes: 5 }));
}
