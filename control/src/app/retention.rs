//! Decides which records of an app's past stay: the newest, the young, and those that something needs.

use crate::clock::since;
use crate::policy::Retention;
use jiff::Timestamp;

/// What is seen of one record.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Rises with each one.
    pub seq: u64,
    pub at: Timestamp,
    pub needed: bool,
}

/// Those that need not stay.
pub fn removable<'r, R>(
    records: impl Iterator<Item = &'r R>,
    kept: impl Fn(&R) -> Kept,
    policy: &Retention,
    now: Timestamp,
) -> Vec<&'r R> {
    let mut records: Vec<(Kept, &R)> = records.map(|record| (kept(record), record)).collect();
    records.sort_by_key(|(kept, _)| std::cmp::Reverse(kept.seq));
    let old = records.into_iter().skip(policy.versions);
    old.filter(|(kept, _)| !kept.needed && since(now, kept.at) >= policy.age)
        .map(|(_, record)| record)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_newest_the_young_and_the_needed_stay() {
        let policy = Retention {
            versions: 2,
            age: Duration::from_secs(100),
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        // Number, time and whether it is needed, in no order.
        let records = [
            (3, 0, false),
            (5, 0, false),
            (1, 0, true),
            (4, 0, false),
            (2, 51, false),
        ];
        let kept = |record: &(u64, i64, bool)| Kept {
            seq: record.0,
            at: at(record.1),
            needed: record.2,
        };
        let gone = |now| {
            let gone = removable(records.iter(), kept, &policy, at(now));
            gone.into_iter().map(|record| record.0).collect::<Vec<_>>()
        };
        assert!(gone(99).is_empty());
        assert_eq!(gone(100), [3]);
        assert_eq!(gone(151), [3, 2]);
    }
}
