//! Decides what became of a write whose answer was lost, from what the store has of its records.

use crate::store::{Expect, Key, Record, Revision, Write};

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// At this revision; none when it only deleted.
    Written(Option<Revision>),
    /// Every record is as it was before.
    Untouched,
    /// Somebody else has written this record.
    Foreign(Key),
}

/// Judges a transaction, which is made whole, at one revision, or not at all. `found`: its records, in the order of its writes.
pub(super) fn of(writes: &[Write], found: &[Option<Record>]) -> Verdict {
    let pairs = || writes.iter().zip(found.iter().map(Option::as_ref));
    let revision = found.iter().flatten().map(|record| record.revision).max();
    let at_once = |found: Option<&Record>| found.is_none_or(|found| Some(found.revision) == revision);
    if pairs().all(|(write, found)| is_made(write, found) && at_once(found)) {
        return Verdict::Written(revision);
    }
    match pairs().find(|(write, found)| !is_untouched(write, *found)) {
        None => Verdict::Untouched,
        Some((write, _)) => Verdict::Foreign(write.key.clone()),
    }
}

fn is_made(write: &Write, found: Option<&Record>) -> bool {
    match (&write.content, found) {
        (Some(content), Some(found)) => content.body == found.body && !is_untouched(write, Some(found)),
        (None, None) => true,
        _ => false,
    }
}

fn is_untouched(write: &Write, found: Option<&Record>) -> bool {
    match write.expect {
        Expect::Absent => found.is_none(),
        Expect::Revision(before) => found.is_some_and(|found| found.revision == before),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Content, Kind};

    fn write(id: &str, expect: Expect, body: Option<&str>) -> Write {
        Write {
            key: Key::new(Kind::Pool, id),
            expect,
            content: body.map(|body| Content {
                body: body.into(),
                indexes: Vec::new(),
            }),
        }
    }

    fn record(id: &str, revision: u64, body: &str) -> Option<Record> {
        Some(Record {
            key: Key::new(Kind::Pool, id),
            revision,
            body: body.into(),
        })
    }

    #[test]
    fn f6_what_is_found_tells_what_became_of_a_write() {
        let (new, old) = (
            write("a", Expect::Absent, Some("one")),
            write("b", Expect::Revision(4), Some("two")),
        );
        let gone = write("c", Expect::Revision(5), None);
        let all = [new, old, gone];
        let foreign = |id: &str| Verdict::Foreign(Key::new(Kind::Pool, id));
        let cases = [
            (
                [record("a", 7, "one"), record("b", 7, "two"), None],
                Verdict::Written(Some(7)),
            ),
            // What one transaction wrote has one revision.
            ([record("a", 7, "one"), record("b", 8, "two"), None], foreign("a")),
            ([None, record("b", 4, "was"), record("c", 5, "was")], Verdict::Untouched),
            // The same content as before is not what was written now.
            ([None, record("b", 4, "two"), record("c", 5, "was")], Verdict::Untouched),
            ([record("a", 7, "else"), record("b", 7, "two"), None], foreign("a")),
            ([None, record("b", 6, "else"), record("c", 5, "was")], foreign("b")),
            ([None, record("b", 4, "was"), None], foreign("c")),
            // Half of it: a transaction leaves no halves.
            (
                [record("a", 7, "one"), record("b", 4, "was"), record("c", 5, "was")],
                foreign("a"),
            ),
        ];
        for (found, verdict) in cases {
            assert_eq!(of(&all, &found), verdict, "{found:?}");
        }
    }
}
