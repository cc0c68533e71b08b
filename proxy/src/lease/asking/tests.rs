//! Every arrow of [`Asking`], and what becomes of one who comes while a task is about to end.

use super::Again::{Anyway, AtOnceIfWaited, IfWaited};
use super::*;

const EACH: [Asking; 5] = [
    Asking::Idle,
    asks(IfWaited),
    asks(AtOnceIfWaited),
    asks(Anyway),
    Asking::Pausing,
];

const fn asks(again: Again) -> Asking {
    Asking::UnderWay { again }
}

/// What `change` makes of each state, and what it says.
fn arrows(change: impl Fn(&mut Asking) -> bool) -> [(Asking, bool); 5] {
    EACH.map(|mut asking| {
        let said = change(&mut asking);
        (asking, said)
    })
}

#[test]
fn the_first_who_waits_begins_a_task_or_ends_its_pause() {
    let first = arrows(|asking| asking.somebody_waits(true));
    assert_eq!(
        first,
        [
            (asks(AtOnceIfWaited), true),
            (asks(AtOnceIfWaited), false),
            (asks(AtOnceIfWaited), false),
            (asks(Anyway), false),
            (asks(AtOnceIfWaited), false),
        ]
    );
}

#[test]
fn the_next_ones_who_wait_hurry_nobody() {
    let others = arrows(|asking| asking.somebody_waits(false));
    let mut same = EACH.map(|asking| (asking, false));
    same[0] = (asks(AtOnceIfWaited), true);
    assert_eq!(others, same);
}

#[test]
fn news_are_asked_about_whatever_goes_on() {
    let asked = arrows(Asking::news);
    assert_eq!(asked, EACH.map(|asking| (asks(Anyway), asking == Asking::Idle)));
}

#[test]
fn a_task_goes_on_for_news_or_for_those_who_wait_and_pauses_after_what_did_not_help() {
    let next = |waited| EACH.map(|mut asking| asking.next(waited));
    assert_eq!(
        next(true),
        [
            Asking::Idle,
            Asking::Pausing,
            asks(IfWaited),
            asks(IfWaited),
            asks(IfWaited)
        ]
    );
    assert_eq!(
        next(false),
        [Asking::Idle, Asking::Idle, Asking::Idle, asks(IfWaited), Asking::Idle]
    );
}

#[test]
fn whoever_comes_while_a_task_ends_is_seen_by_it_or_begins_another() {
    // The task's last look and the newcomer's word, in both orders.
    let mut before = asks(IfWaited);
    assert!(!before.somebody_waits(true));
    assert_eq!(before.next(true), asks(IfWaited), "without a pause");
    let mut after = asks(IfWaited);
    assert_eq!(after.next(false), Asking::Idle);
    assert!(after.somebody_waits(true));
    assert_eq!(after.next(true), asks(IfWaited));
}

#[tokio::test(start_paused = true)]
async fn a_pause_lasts_its_time_unless_there_is_something_better_to_do() {
    let limit = Duration::from_secs(1);
    let line = Line::default();
    line.talk().asking = Asking::Pausing;
    line.change(|asking| asking.somebody_waits(false));
    let begun = tokio::time::Instant::now();
    line.pause(limit).await;
    assert_eq!(begun.elapsed(), limit, "a word that changed nothing");
    let begun = tokio::time::Instant::now();
    tokio::join!(line.pause(limit), async {
        line.change(|asking| asking.somebody_waits(true));
    });
    assert_eq!(begun.elapsed(), Duration::ZERO);
    line.pause(limit).await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "said before it began");
}
