//! What every store must do, run against each: the one in memory that tests use, and the one on disk.

use crate::memory::Memory;
use miren_control::store::{
    BYTES_MAX, Change, Content, Cursor, Expect, History, Key, Kind, Selection, Sqlite, Store, StoreError, WRITES_MAX,
    Watch, Write,
};
use std::sync::Arc;
use std::time::Duration;

/// Changes kept by the stores under test.
const HISTORY: usize = 15;

pub fn key(id: &str) -> Key {
    Key::new(Kind::Pool, id)
}

pub fn put(id: &str, expect: Expect, body: &str) -> Write {
    Write {
        key: key(id),
        expect,
        content: Some(Content {
            body: body.into(),
            indexes: vec![("app", format!("app-{}", &body[..1]))],
        }),
    }
}

fn remove(id: &str, at: u64) -> Write {
    Write {
        key: key(id),
        expect: Expect::Revision(at),
        content: None,
    }
}

/// New records, in one transaction.
fn new(ids: &[&str]) -> Vec<Write> {
    ids.iter().map(|id| put(id, Expect::Absent, "1")).collect()
}

/// Where a store is kept.
enum Place {
    Memory(Memory),
    Disk(tempfile::TempDir),
}

impl Place {
    /// An empty one of each kind.
    fn each() -> [Self; 2] {
        [
            Self::Memory(Memory::new(HISTORY)),
            Self::Disk(tempfile::tempdir().unwrap()),
        ]
    }

    /// What a daemon gets that opens it, each time another one.
    async fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(memory) => {
                println!("in memory:");
                Arc::new(memory.open_again())
            }
            Self::Disk(folder) => {
                println!("on disk:");
                let history = History {
                    changes: HISTORY as u64,
                    bytes: 4 << 20,
                };
                let path = folder.path().join("control.db");
                Arc::new(Sqlite::open_with_history(&path, history).await.unwrap())
            }
        }
    }
}

async fn next(watch: &mut Watch) -> Result<Change, StoreError> {
    let next = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
    next.unwrap_or_else(|_| panic!("no change comes")).unwrap()
}

fn ids_of(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.key.id.as_str()).collect()
}

#[tokio::test]
async fn all_that_a_transaction_writes_has_its_one_revision_and_a_place_in_it() {
    for place in Place::each() {
        let store = place.open().await;
        assert_eq!(store.get(&key("a")).await, Ok(None));
        let first = store.commit(new(&["b", "a"])).await.unwrap();
        let (a, b) = (
            store.get(&key("a")).await.unwrap().unwrap(),
            store.get(&key("b")).await.unwrap().unwrap(),
        );
        assert_eq!((a.revision, b.revision), (first, first));
        assert_eq!(a.body, "1");
        assert_eq!(store.get(&Key::new(Kind::App, "a")).await, Ok(None), "another kind");
        let changed = vec![
            put("a", Expect::Revision(first), "2"),
            remove("b", first),
            put("c", Expect::Absent, "3"),
        ];
        let second = store.commit(changed).await;
        assert_eq!(second, Ok(first + 1));
        assert_eq!(*store.revision().borrow(), first + 1);
        let changes = store.changes(Cursor::START, 99).await.unwrap();
        assert_eq!(ids_of(&changes), ["b", "a", "a", "b", "c"], "as they were written");
        let places: Vec<(u64, u32)> = changes.iter().map(|change| (change.at.revision, change.at.n)).collect();
        let (first, second) = (first, first + 1);
        assert_eq!(places, [(first, 0), (first, 1), (second, 0), (second, 1), (second, 2)]);
        let bodies: Vec<Option<&str>> = changes.iter().map(|change| change.body.as_deref()).collect();
        assert_eq!(bodies, [Some("1"), Some("1"), Some("2"), None, Some("3")]);
    }
}

#[tokio::test]
async fn a_transaction_is_written_whole_or_not_at_all() {
    for place in Place::each() {
        let store = place.open().await;
        let at = store.commit(new(&["a"])).await.unwrap();
        for refused in [
            put("a", Expect::Absent, "x"),
            put("a", Expect::Revision(at + 100), "x"),
            put("none", Expect::Revision(1), "x"),
            remove("none", at),
        ] {
            let conflict = Err(StoreError::Conflict {
                key: refused.key.clone(),
            });
            assert_eq!(
                store.commit(vec![put("c", Expect::Absent, "3"), refused]).await,
                conflict
            );
            assert_eq!(store.get(&key("c")).await, Ok(None), "nothing of it was written");
        }
        let twice = store.commit(new(&["d", "d"])).await;
        assert!(matches!(twice, Err(StoreError::Failed { .. })), "{twice:?}");
        let nothing = store.commit(Vec::new()).await;
        assert!(matches!(nothing, Err(StoreError::Failed { .. })), "{nothing:?}");
        assert_eq!(*store.revision().borrow(), at, "and nothing has a revision");
        assert_eq!(store.changes(Cursor::after(at), 9).await, Ok(vec![]));
        let revision = store.commit(vec![put("a", Expect::Revision(at), "4")]).await.unwrap();
        let stale = store.commit(vec![put("a", Expect::Revision(at), "5")]).await;
        assert!(matches!(stale, Err(StoreError::Conflict { .. })));
        store.commit(vec![remove("a", revision)]).await.unwrap();
        assert_eq!(store.get(&key("a")).await, Ok(None));
        assert!(store.commit(new(&["a"])).await.is_ok(), "absent again");
    }
}

#[tokio::test]
async fn what_is_more_than_a_transaction_takes_is_refused_before_any_of_it_is_written() {
    for place in Place::each() {
        let store = place.open().await;
        let many = |count: usize| (0..count).map(|n| put(&format!("m{n:03}"), Expect::Absent, "1"));
        let refused = store.commit(many(WRITES_MAX + 1).collect()).await;
        assert!(
            matches!(refused, Err(StoreError::TooLarge { writes, .. }) if writes == WRITES_MAX + 1),
            "{refused:?}"
        );
        let large = "1".repeat(BYTES_MAX);
        let refused = store
            .commit(vec![
                put("a", Expect::Absent, "1"),
                put("large", Expect::Absent, &large),
            ])
            .await;
        assert!(
            matches!(&refused, Err(StoreError::TooLarge { key, .. }) if key.id == "large"),
            "the largest is named: {refused:?}"
        );
        assert!(store.list(Kind::Pool, Selection::All).await.unwrap().is_empty());
        assert_eq!(*store.revision().borrow(), 0);
        let fits = "1".repeat(BYTES_MAX - 1000);
        assert_eq!(store.commit(vec![put("large", Expect::Absent, &fits)]).await, Ok(1));
        assert_eq!(store.commit(many(WRITES_MAX).collect()).await, Ok(2));
    }
}

async fn ids(store: &dyn Store, which: Selection) -> Vec<String> {
    let records = store.list(Kind::Pool, which).await.unwrap();
    records.into_iter().map(|record| record.key.id).collect()
}

#[tokio::test]
async fn records_are_found_by_prefix_and_by_index() {
    for place in Place::each() {
        let store = &*place.open().await;
        let by_app = |app: &str| Selection::Index("app", app.to_owned());
        store.commit(new(&["a"])).await.unwrap();
        let two = ["b", "bb", "%"].map(|id| put(id, Expect::Absent, "2"));
        let b = store.commit(two.to_vec()).await.unwrap();
        assert_eq!(ids(store, Selection::All).await, ["%", "a", "b", "bb"]);
        assert_eq!(ids(store, Selection::Prefix("b".into())).await, ["b", "bb"]);
        assert_eq!(ids(store, Selection::Prefix("%".into())).await, ["%"], "no wildcard");
        assert_eq!(ids(store, by_app("app-2")).await, ["%", "b", "bb"]);
        let moved = store.commit(vec![put("b", Expect::Revision(b), "7")]).await.unwrap();
        assert_eq!(ids(store, by_app("app-7")).await, ["b"], "the index follows the record");
        assert_eq!(ids(store, by_app("app-2")).await, ["%", "bb"]);
        store.commit(vec![remove("b", moved)]).await.unwrap();
        assert!(ids(store, by_app("app-7")).await.is_empty());
        let others = store.list(Kind::App, by_app("app-2")).await.unwrap();
        assert!(others.is_empty(), "another kind");
    }
}

#[tokio::test]
async fn changes_are_followed_from_the_middle_of_a_transaction_on_and_in_pages_that_end_in_one() {
    for place in Place::each() {
        let store = place.open().await;
        store.commit(new(&["a", "b", "c"])).await.unwrap();
        store.commit(new(&["d"])).await.unwrap();
        store.commit(new(&["e", "f"])).await.unwrap();
        let all = store.changes(Cursor::START, usize::MAX).await.unwrap();
        assert_eq!(ids_of(&all), ["a", "b", "c", "d", "e", "f"]);
        for (number, change) in all.iter().enumerate() {
            for limit in 0..=all.len() {
                let page = store.changes(change.at, limit).await.unwrap();
                let left = &all[number + 1..];
                assert_eq!(
                    page,
                    left[..limit.min(left.len())],
                    "{limit} from behind {}",
                    change.key.id
                );
            }
            let mut watch = Watch::new(Arc::clone(&store), change.at);
            for expected in &all[number + 1..] {
                assert_eq!(next(&mut watch).await.as_ref(), Ok(expected));
            }
        }
        let behind = |revision| store.changes(Cursor::after(revision), 9);
        assert_eq!(ids_of(&behind(1).await.unwrap()), ["d", "e", "f"]);
        assert_eq!(ids_of(&behind(3).await.unwrap()), [""; 0]);
    }
}

#[tokio::test]
async fn a_watch_misses_nothing_of_what_is_written_meanwhile() {
    for place in Place::each() {
        let store = place.open().await;
        let mut watch = Watch::new(Arc::clone(&store), Cursor::START);
        let writer = Arc::clone(&store);
        let writing = tokio::spawn(async move {
            for round in 0..7 {
                let ids = [format!("{round}a"), format!("{round}b")];
                writer.commit(new(&[&ids[0], &ids[1]])).await.unwrap();
            }
        });
        for round in 0..7 {
            for (n, name) in (0..).zip(["a", "b"]) {
                let change = next(&mut watch).await.unwrap();
                let revision = round + 1;
                assert_eq!(change.at, Cursor { revision, n });
                assert_eq!(change.key.id, format!("{round}{name}"));
            }
        }
        writing.await.unwrap();
    }
}

/// What is left for whoever is at a place, when `all` was written and `kept` of it are left: none when some are missing.
fn left(all: &[Change], kept: usize, at: Cursor) -> Option<&[Change]> {
    let first = all.iter().position(|change| change.at > at).unwrap_or(all.len());
    (first >= all.len() - kept).then(|| &all[first..])
}

#[tokio::test]
async fn whoever_watches_while_the_history_is_compacted_misses_nothing_or_is_told() {
    for place in Place::each() {
        let store = place.open().await;
        let mut all: Vec<Change> = Vec::new();
        let mut watches: Vec<(Watch, usize)> = Vec::new();
        let mut told = 0;
        // Transactions of all sizes: the history is full after the fifth of them.
        for (round, writes) in [3, 1, 4, 2, 5, 1, 3, 6, 2, 15, 1, 16, 1].into_iter().enumerate() {
            let ids: Vec<String> = (0..writes).map(|n| format!("{round}-{n}")).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let revision = store.commit(new(&ids)).await.unwrap();
            all.extend((0..).zip(&ids).map(|(n, id)| Change {
                at: Cursor { revision, n },
                key: key(id),
                body: Some("1".into()),
            }));
            let mut kept = all.len();
            while kept > HISTORY {
                let oldest = all[all.len() - kept].at.revision;
                kept -= all.iter().filter(|change| change.at.revision == oldest).count();
            }
            let places = all
                .iter()
                .flat_map(|change| [change.at, Cursor::after(change.at.revision)]);
            for at in places.clone().chain([Cursor::START]) {
                match (store.changes(at, usize::MAX).await, left(&all, kept, at)) {
                    (Ok(found), Some(left)) => assert_eq!(found, left, "after {at}"),
                    (Err(StoreError::Compacted { upto }), None) => {
                        assert_eq!(upto, all[all.len() - kept - 1].at, "after {at}");
                        told += 1;
                    }
                    (found, left) => panic!("after {at} there is {left:?}, and found {found:?}"),
                }
            }
            // One that has read up to each place, whatever it has in hand.
            for (watch, read) in &mut watches {
                let at = read.checked_sub(1).map_or(Cursor::START, |last| all[last].at);
                match next(watch).await {
                    Ok(change) => assert_eq!(change, all[*read], "after {at}"),
                    Err(StoreError::Compacted { .. }) => {
                        assert_eq!(left(&all, kept, at), None, "after {at}");
                        *read = all.len() - 1;
                        *watch = Watch::new(Arc::clone(&store), all[*read].at);
                    }
                    Err(other) => panic!("after {at}: {other}"),
                }
                *read += 1;
            }
            watches.push((Watch::new(Arc::clone(&store), all[all.len() - 1].at), all.len()));
        }
        assert!(told > 0, "the test wrote enough");
    }
}

#[tokio::test]
async fn an_older_opener_is_fenced_off_and_writes_nothing_more() {
    for place in Place::each() {
        let older = place.open().await;
        older.commit(new(&["a"])).await.unwrap();
        let newer = place.open().await;
        let (own, current) = (older.epoch(), newer.epoch());
        assert!(current > own);
        let fenced = StoreError::Fenced { current, own };
        assert!(fenced.is_final());
        let refused = Err(fenced);
        assert_eq!(older.commit(new(&["b"])).await, refused);
        // Also where nothing else would hold: whoever is fenced off is told that, and not of a conflict.
        assert_eq!(older.commit(new(&["a"])).await, refused);
        assert_eq!(older.get(&key("b")).await, Ok(None));
        assert_eq!(newer.commit(new(&["b"])).await, Ok(2));
    }
}
