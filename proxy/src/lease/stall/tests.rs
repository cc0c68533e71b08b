//! When silence is a stall, for how long, and how often a request may be sent again.

use super::*;

const MS: u64 = 1_000;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn patience_follows_the_services_own_pace_and_remembers_what_was_slow() {
    let pace = Pace::default();
    let minute = 60_000 * MS;
    assert_eq!(pace.patience(), None, "nothing is known");
    (0..20).for_each(|_| pace.note(ms(1), 0));
    assert_eq!(pace.patience(), Some(SHORTEST));
    pace.note(ms(200), minute);
    assert_eq!(pace.patience(), Some(ms(400)));
    (0..100_000).for_each(|_| pace.note(ms(1), 4 * minute));
    assert_eq!(pace.patience(), Some(ms(400)), "however many others there are");
    pace.note(ms(1), 5 * minute);
    assert_eq!(pace.patience(), Some(ms(400)), "in the window before");
    pace.note(ms(1), 10 * minute);
    assert_eq!(pace.patience(), Some(SHORTEST), "forgotten in the end");
    pace.note(ms(1_100), 11 * minute);
    assert_eq!(pace.patience(), None, "a slow service is not hurried");
}

#[test]
fn at_most_one_request_in_ten_is_sent_again() {
    let pace = Pace::default();
    let spent = |pace: &Pace| (0..10_000).take_while(|_| pace.spend()).count();
    assert_eq!(spent(&pace), 10);
    (0..100).for_each(|_| pace.note(ms(1), 0));
    assert_eq!(spent(&pace), 10);
    (0..100_000).for_each(|_| pace.note(ms(1), 0));
    assert_eq!(spent(&pace), 1_000, "what is saved is bounded");
}

#[test]
fn three_stalls_in_a_row_are_a_rest_that_gets_longer_until_an_answer() {
    let silence = Silence::default();
    silence.answered(1_000 * MS);
    assert!(!silence.is_longer_than(ms(50), 1_049 * MS));
    assert!(silence.is_longer_than(ms(50), 1_050 * MS));
    assert!(!silence.stalled(2, 1_050 * MS));
    assert!(!silence.rests(1_050 * MS));
    assert!(silence.stalled(1, 1_050 * MS));
    assert!(silence.rests(2_049 * MS) && !silence.rests(2_050 * MS));
    assert!(silence.stalled(3, 2_100 * MS), "tried again, and stalled again");
    assert!(silence.rests(4_099 * MS) && !silence.rests(4_100 * MS));
    silence.answered(4_200 * MS);
    assert!(!silence.rests(4_200 * MS) && !silence.is_suspect());
    assert!(!silence.stalled(2, 4_300 * MS), "the row is over");
}
