//! Decides how what a ledger has noted becomes transactions: one, unless it is more than one takes.

use crate::store::{BYTES_MAX, Kind, StoreError, WRITES_MAX, Write, size};

/// Transactions in the order in which they are to be made, and why some of the writes are in none of them.
pub(super) struct Split {
    pub transactions: Vec<Vec<Write>>,
    /// There is a record that no transaction takes.
    pub refused: Option<StoreError>,
}

/// Splits what was noted. However few of the transactions are made, no record refers to one that is not there.
pub(super) fn split(noted: Vec<Write>) -> Split {
    let (mut writes, too_large): (Vec<_>, Vec<_>) = noted.into_iter().partition(|write| size(write) <= BYTES_MAX);
    let refused = too_large.first().map(|write| StoreError::TooLarge {
        key: write.key.clone(),
        writes: 1,
        bytes: size(write),
    });
    let bytes: usize = writes.iter().map(size).sum();
    if writes.len() > WRITES_MAX || bytes > BYTES_MAX {
        writes.sort_by_key(turn);
    }
    let mut transactions: Vec<Vec<Write>> = Vec::new();
    let mut room = 0;
    for write in writes {
        let bytes = size(&write);
        match transactions.last_mut() {
            Some(last) if last.len() < WRITES_MAX && bytes <= room => {
                last.push(write);
                room -= bytes;
            }
            _ => {
                transactions.push(vec![write]);
                room = BYTES_MAX - bytes;
            }
        }
    }
    Split { transactions, refused }
}

/// What is referred to comes first and goes last.
fn turn(write: &Write) -> (bool, i8) {
    let depth = match write.key.kind {
        // Its number rises before any route is another one: what is half made has no number that anybody serves.
        Kind::Snapshot => 0,
        Kind::Node => 1,
        Kind::App => 2,
        Kind::Version => 3,
        Kind::Run => 4,
        Kind::Deploy => 5,
        Kind::Pool => 6,
        Kind::Sandbox => 7,
        Kind::Route => 8,
        Kind::Active => 9,
        Kind::Label => 10,
    };
    let goes = write.content.is_none();
    (goes, if goes { -depth } else { depth })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Content, Expect, Key, check};

    fn put(kind: Kind, id: String, bytes: usize) -> Write {
        Write {
            key: Key::new(kind, id),
            expect: Expect::Absent,
            content: Some(Content {
                body: "x".repeat(bytes),
                indexes: Vec::new(),
            }),
        }
    }

    fn remove(kind: Kind, id: String) -> Write {
        Write {
            key: Key::new(kind, id),
            expect: Expect::Revision(1),
            content: None,
        }
    }

    /// Each transaction as the kinds in it, in order, without repetitions.
    fn kinds(split: &Split) -> Vec<Vec<Kind>> {
        let of = |writes: &Vec<Write>| {
            let mut kinds: Vec<Kind> = writes.iter().map(|write| write.key.kind).collect();
            kinds.dedup();
            kinds
        };
        split.transactions.iter().map(of).collect()
    }

    #[test]
    fn what_a_transaction_takes_is_one_in_the_order_of_its_keys() {
        let few: Vec<Write> = [Kind::App, Kind::Deploy, Kind::Sandbox, Kind::Snapshot]
            .map(|kind| put(kind, "a".into(), 10))
            .to_vec();
        let split = split(few.clone());
        assert_eq!(split.transactions, [few]);
        assert_eq!(split.refused, None);
        assert!(super::split(Vec::new()).transactions.is_empty());
    }

    #[test]
    fn a_crash_between_the_transactions_of_one_batch_leaves_no_record_without_what_it_refers_to() {
        let mut noted: Vec<Write> = (0..200)
            .map(|n| put(Kind::Sandbox, format!("new-{n:03}"), 10))
            .collect();
        noted.extend((0..3).map(|n| put(Kind::Pool, format!("new-{n}"), 10)));
        noted.extend((0..200).map(|n| remove(Kind::Sandbox, format!("old-{n:03}"))));
        noted.extend([Kind::App, Kind::Version, Kind::Pool, Kind::Deploy].map(|kind| remove(kind, "old".into())));
        noted.sort_by(|a, b| a.key.cmp(&b.key));
        let split = split(noted.clone());
        let mut written: Vec<Write> = split.transactions.concat();
        assert_eq!(
            kinds(&split),
            [
                vec![Kind::Pool, Kind::Sandbox],
                vec![Kind::Sandbox],
                vec![Kind::Sandbox],
                vec![Kind::Sandbox, Kind::Pool, Kind::Deploy, Kind::Version, Kind::App],
            ]
        );
        let first_gone = written.iter().position(|write| write.content.is_none());
        assert_eq!(first_gone, Some(203), "what comes is there before anything goes");
        written.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(written, noted, "everything, once");
        split
            .transactions
            .iter()
            .for_each(|writes| assert_eq!(check(writes), Ok(())));
    }

    /// In every order in which they may be noted.
    #[test]
    fn whatever_refers_to_something_comes_after_it_and_goes_before_it() {
        let refers = [
            (Kind::Version, Kind::App),
            (Kind::Deploy, Kind::Version),
            (Kind::Pool, Kind::Version),
            (Kind::Sandbox, Kind::Pool),
            (Kind::Sandbox, Kind::Node),
            (Kind::Route, Kind::App),
            (Kind::Active, Kind::Version),
            (Kind::Active, Kind::Pool),
            (Kind::Label, Kind::Version),
            (Kind::Label, Kind::Pool),
        ];
        // So many bytes that two records are one transaction too many.
        let large = BYTES_MAX / 2 + 1;
        let order = |noted: Vec<Write>| -> Vec<Kind> {
            let written = split(noted).transactions.concat();
            written.iter().map(|write| write.key.kind).collect()
        };
        for (from, to) in refers {
            let both = [from, to].map(|kind| put(kind, "a".into(), large));
            let [first, second] = both.clone();
            assert_eq!(order(both.to_vec()), [to, from]);
            assert_eq!(order(vec![second, first]), [to, from]);
            let crowd = || (0..WRITES_MAX).map(|n| remove(Kind::Sandbox, format!("{n}")));
            let both = || [remove(to, "a".into()), remove(from, "b".into())];
            let gone = order(both().into_iter().chain(crowd()).collect());
            let place = |kind| gone.iter().rposition(|other| *other == kind);
            assert!(place(from) < place(to), "{from:?} goes before {to:?}");
        }
    }

    #[test]
    fn no_route_is_another_one_before_the_number_of_its_snapshot_rises() {
        let large = BYTES_MAX / 2 + 1;
        for kind in [Kind::Route, Kind::Active, Kind::Label] {
            let noted = vec![
                put(kind, "a".into(), large),
                put(Kind::Snapshot, "routing".into(), large),
            ];
            let split = split(noted);
            assert_eq!(kinds(&split), [[Kind::Snapshot], [kind]]);
        }
    }

    #[test]
    fn what_a_transaction_has_already_leaves_that_much_less_room() {
        let third = BYTES_MAX / 3;
        let noted: Vec<Write> = (0..4).map(|n| put(Kind::Pool, format!("{n}"), third)).collect();
        let split = split(noted.clone());
        assert_eq!(split.transactions, [noted[..2].to_vec(), noted[2..].to_vec()]);
    }

    #[test]
    fn the_number_of_a_routing_snapshot_rises_before_any_of_many_routes_goes() {
        let mut noted: Vec<Write> = (0..300).map(|n| remove(Kind::Route, format!("{n}.test"))).collect();
        noted.push(put(Kind::Snapshot, "routing".into(), 50));
        let split = split(noted);
        assert_eq!(split.transactions.len(), 3);
        assert_eq!(split.transactions[0][0].key.kind, Kind::Snapshot);
    }

    #[test]
    fn bytes_split_too_and_a_record_that_is_too_large_keeps_nothing_else_from_being_written() {
        let half = BYTES_MAX / 2;
        let noted = vec![
            put(Kind::Pool, "a".into(), half),
            put(Kind::Pool, "b".into(), half),
            put(Kind::Pool, "c".into(), 10),
            put(Kind::Pool, "huge".into(), BYTES_MAX),
        ];
        let split = split(noted.clone());
        assert_eq!(split.transactions, [vec![noted[0].clone()], noted[1..3].to_vec()]);
        split
            .transactions
            .iter()
            .for_each(|writes| assert_eq!(check(writes), Ok(())));
        let refused = split.refused.unwrap();
        assert!(
            matches!(&refused, StoreError::TooLarge { key, .. } if key.id == "huge"),
            "{refused}"
        );
    }
}
