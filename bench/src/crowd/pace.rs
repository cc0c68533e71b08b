//! Decides what a stretch of time was like for those who asked: how late answers came, and how long none came at all.

use std::time::{Duration, Instant};

/// One good answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When its request was meant to leave.
    pub due: Instant,
    pub received: Instant,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// 99 of 100 answers to requests due in it came at most so long after that.
    pub p99: Duration,
    /// The longest time in it without an answer.
    pub gap: Duration,
}

impl Pace {
    /// From `from` to `to`; all of it is a gap if no answer came.
    pub fn of(answers: &[Answer], from: Instant, to: Instant) -> Self {
        let due = answers.iter().filter(|answer| (from..to).contains(&answer.due));
        let mut waits: Vec<Duration> = due.map(|answer| answer.received.duration_since(answer.due)).collect();
        waits.sort_unstable();
        let rank = (waits.len() * 99).div_ceil(100).saturating_sub(1);
        let received = answers.iter().map(|answer| answer.received);
        let mut moments: Vec<Instant> = received
            .filter(|at| (from..to).contains(at))
            .chain([from, to])
            .collect();
        moments.sort_unstable();
        let gaps = moments.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        Self {
            p99: waits.get(rank).copied().unwrap_or_default(),
            gap: gaps.max().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_gap_is_the_longest_time_without_an_answer_its_ends_included() {
        let start = Instant::now();
        let answer = |due: u32, received: u32| Answer {
            due: start + MS * due,
            received: start + MS * received,
        };
        // In the order received, which is not that of their times.
        let answers = [answer(0, 5), answer(20, 45), answer(10, 12), answer(50, 52)];
        let pace = Pace::of(&answers, start, start + MS * 60);
        assert_eq!((pace.gap, pace.p99), (MS * 33, MS * 25));
        // What was due before, and what came after, is not of this time.
        let pace = Pace::of(&answers, start + MS * 50, start + MS * 90);
        assert_eq!((pace.gap, pace.p99), (MS * 38, MS * 2));
        let nothing = Pace::of(&[], start, start + MS * 7);
        assert_eq!((nothing.gap, nothing.p99), (MS * 7, Duration::ZERO));
    }

    #[test]
    fn one_late_answer_in_a_hundred_is_not_in_p99_and_two_are() {
        let start = Instant::now();
        let answers = |late: u32| -> Vec<Answer> {
            let waits = (0..100).map(|n| if n < late { MS * 50 } else { MS });
            let answer = |wait| Answer {
                due: start,
                received: start + wait,
            };
            waits.map(answer).collect()
        };
        assert_eq!(Pace::of(&answers(1), start, start + MS).p99, MS);
        assert_eq!(Pace::of(&answers(2), start, start + MS).p99, MS * 50);
    }
}
