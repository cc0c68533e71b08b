//! Decides which records of an app's past stay: the newest, the young, and those that something needs.

use crate::clock::since;
use crate::policy::Retention;
use jiff::Timestamp;
use std::collections::BTreeMap;

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

/// Of what has ended, by group: all but the newest `of_each` of a group, and all but the newest `of_all`.
pub fn surplus<G: Ord, R>(ended: impl Iterator<Item = (G, Timestamp, R)>, (of_each, of_all): (usize, usize)) -> Vec<R> {
    let mut ended: Vec<(G, Timestamp, R)> = ended.collect();
    ended.sort_by_key(|(_, at, _)| std::cmp::Reverse(*at));
    let (mut kept, mut of_group) = (0, BTreeMap::new());
    let mut surplus = Vec::new();
    for (group, _, record) in ended {
        let count = of_group.entry(group).or_insert(0);
        match *count < of_each && kept < of_all {
            true => (*count, kept) = (*count + 1, kept + 1),
            false => surplus.push(record),
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn f7_the_newest_of_each_and_of_all_stay() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ended = [("a", 1), ("b", 2), ("a", 3), ("a", 5), ("b", 4), ("c", 0)];
        let gone = |limits| {
            let records = ended.iter().map(|(group, second)| (*group, at(*second), *second));
            let mut gone: Vec<i64> = surplus(records, limits);
            gone.sort_unstable();
            gone
        };
        assert!(gone((3, 6)).is_empty());
        assert_eq!(gone((2, 6)), [1]);
        assert_eq!(gone((2, 4)), [0, 1]);
        assert_eq!(gone((1, 2)), [0, 1, 2, 3]);
    }

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
