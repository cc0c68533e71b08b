//! What every store must do, run against each; and what only the one on disk must: survive, refuse, fence.

use crate::memory::Memory;
use miren_control::store::{
    Content, Expect, History, Key, Kind, Lock, LockError, Selection, Sqlite, Store, StoreError, Watch, Write,
};
use std::sync::Arc;
use std::time::Duration;

/// Changes kept by the stores under test.
const HISTORY: u64 = 15;

fn key(id: &str) -> Key {
    Key::new(Kind::Pool, id)
}

fn put(id: &str, expect: Expect, body: &str) -> Write {
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

/// Every promise of [`Store`], on an empty one that keeps [`HISTORY`] changes.
async fn conforms(store: Arc<dyn Store>) {
    reads_what_was_written(&*store).await;
    writes_all_or_nothing(&*store).await;
    finds_by_prefix_and_index(&*store).await;
    misses_no_change(Arc::clone(&store)).await;
    says_when_history_is_gone(store).await;
}

async fn reads_what_was_written(store: &dyn Store) {
    assert_eq!(store.get(&key("a")).await, Ok(None));
    let last = store
        .commit(vec![put("a", Expect::Absent, "1"), put("b", Expect::Absent, "2")])
        .await
        .unwrap();
    let (a, b) = (
        store.get(&key("a")).await.unwrap().unwrap(),
        store.get(&key("b")).await.unwrap().unwrap(),
    );
    assert_eq!((a.revision, a.body.as_str()), (last - 1, "1"));
    assert_eq!((b.revision, b.body.as_str()), (last, "2"));
    assert_eq!(*store.revision().borrow(), last);
    assert_eq!(store.get(&Key::new(Kind::App, "a")).await, Ok(None), "another kind");
}

async fn writes_all_or_nothing(store: &dyn Store) {
    let a = store.get(&key("a")).await.unwrap().unwrap();
    for refused in [
        put("a", Expect::Absent, "x"),
        put("a", Expect::Revision(a.revision + 100), "x"),
        put("none", Expect::Revision(1), "x"),
        remove("none", 1),
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
    let revision = store
        .commit(vec![put("a", Expect::Revision(a.revision), "4")])
        .await
        .unwrap();
    let stale = store.commit(vec![put("a", Expect::Revision(a.revision), "5")]).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    store.commit(vec![remove("a", revision)]).await.unwrap();
    assert_eq!(store.get(&key("a")).await, Ok(None));
    assert!(
        store.commit(vec![put("a", Expect::Absent, "6")]).await.is_ok(),
        "absent again"
    );
}

async fn ids(store: &dyn Store, which: Selection) -> Vec<String> {
    let records = store.list(Kind::Pool, which).await.unwrap();
    records.into_iter().map(|record| record.key.id).collect()
}

async fn finds_by_prefix_and_index(store: &dyn Store) {
    let by_app = |app: &str| Selection::Index("app", app.to_owned());
    assert_eq!(ids(store, Selection::All).await, ["a", "b"]);
    store
        .commit(vec![put("bb", Expect::Absent, "2"), put("%", Expect::Absent, "2")])
        .await
        .unwrap();
    assert_eq!(ids(store, Selection::Prefix("b".into())).await, ["b", "bb"]);
    assert_eq!(ids(store, Selection::Prefix("%".into())).await, ["%"], "no wildcard");
    assert_eq!(ids(store, by_app("app-2")).await, ["%", "b", "bb"]);
    let b = store.get(&key("b")).await.unwrap().unwrap().revision;
    let moved = store.commit(vec![put("b", Expect::Revision(b), "7")]).await.unwrap();
    assert_eq!(ids(store, by_app("app-7")).await, ["b"], "the index follows the record");
    assert_eq!(ids(store, by_app("app-2")).await, ["%", "bb"]);
    store.commit(vec![remove("b", moved)]).await.unwrap();
    assert!(ids(store, by_app("app-7")).await.is_empty());
    assert!(
        store.list(Kind::App, by_app("app-2")).await.unwrap().is_empty(),
        "another kind"
    );
}

async fn misses_no_change(store: Arc<dyn Store>) {
    let start = *store.revision().borrow();
    let mut watch = Watch::new(Arc::clone(&store), start);
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for round in 0..10 {
            let id = format!("w{round}");
            writer.commit(vec![put(&id, Expect::Absent, "9")]).await.unwrap();
        }
    });
    for round in 0..10 {
        let next = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        let change = next
            .unwrap_or_else(|_| panic!("change {round} never came"))
            .unwrap()
            .unwrap();
        assert_eq!(
            (change.key.id, change.revision),
            (format!("w{round}"), start + round + 1)
        );
    }
    writing.await.unwrap();
}

async fn says_when_history_is_gone(store: Arc<dyn Store>) {
    let newest = *store.revision().borrow();
    assert!(newest > HISTORY, "the test wrote enough");
    let oldest = newest - HISTORY;
    assert_eq!(
        store.changes(oldest - 1, 5).await,
        Err(StoreError::Compacted { oldest })
    );
    let kept = store.changes(oldest, usize::MAX).await.unwrap();
    let revisions: Vec<u64> = kept.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, (oldest + 1..=newest).collect::<Vec<_>>());
    assert_eq!(store.changes(oldest, 3).await.unwrap().len(), 3);
    let mut watch = Watch::new(store, 0);
    assert!(matches!(watch.next().await, Some(Err(StoreError::Compacted { .. }))));
}

#[tokio::test]
async fn the_store_in_memory_conforms() {
    conforms(Arc::new(Memory::new(HISTORY as usize))).await;
}

#[tokio::test]
async fn the_store_on_disk_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let history = History {
        changes: HISTORY,
        bytes: 1 << 20,
    };
    let store = Sqlite::open_with_history(&folder.path().join("control.db"), history)
        .await
        .unwrap();
    conforms(Arc::new(store)).await;
}

/// Bytes of the bodies that are kept of what came after `after`, and the revision of the first of them.
async fn kept(store: &Sqlite) -> (usize, u64) {
    let oldest = match store.changes(0, 1).await {
        Err(StoreError::Compacted { oldest }) => oldest,
        other => panic!("everything is kept: {other:?}"),
    };
    let kept = store.changes(oldest, usize::MAX).await.unwrap();
    let bodies = kept.iter().filter_map(|change| change.body.as_ref());
    (bodies.map(String::len).sum(), oldest + 1)
}

#[tokio::test]
async fn f11_the_history_is_bounded_in_bytes_and_who_is_further_behind_reads_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    let few = History {
        changes: 10_000,
        bytes: 1_000,
    };
    let store = Sqlite::open_with_history(&path, few).await.unwrap();
    let body = "1".repeat(300);
    let mut revision = store.commit(vec![put("a", Expect::Absent, &body)]).await.unwrap();
    for _ in 0..9 {
        let write = put("a", Expect::Revision(revision), &body);
        revision = store.commit(vec![write]).await.unwrap();
    }
    assert_eq!(kept(&store).await, (900, revision - 2), "three of them fit");
    let large = "2".repeat(5_000);
    let last = store.commit(vec![put("b", Expect::Absent, &large)]).await.unwrap();
    assert_eq!(
        store.changes(last, 9).await,
        Ok(vec![]),
        "who knows it has missed nothing"
    );
    assert_eq!(
        store.changes(last - 1, 9).await,
        Err(StoreError::Compacted { oldest: last }),
        "one that is larger than everything is not kept"
    );
    assert_eq!(
        store.get(&key("b")).await.unwrap().unwrap().body,
        large,
        "the record is"
    );
    let small = store.commit(vec![put("c", Expect::Absent, "3")]).await.unwrap();
    assert_eq!(store.changes(last, 9).await.unwrap().len(), 1);
    let mut watch = Watch::new(Arc::new(store), last);
    assert_eq!(watch.next().await.unwrap().unwrap().revision, small);
}

#[tokio::test]
async fn f11_a_history_that_an_earlier_release_let_grow_is_cut_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    let store = Sqlite::open(&path).await.unwrap();
    let body = "1".repeat(300);
    for number in 0..10 {
        let write = put(&format!("a{number}"), Expect::Absent, &body);
        store.commit(vec![write]).await.unwrap();
    }
    assert_eq!(store.changes(0, 99).await.unwrap().len(), 10);
    drop(store);
    let few = History {
        changes: 10_000,
        bytes: 1_000,
    };
    let store = Sqlite::open_with_history(&path, few).await.unwrap();
    assert_eq!(kept(&store).await, (900, 8));
    store.commit(vec![put("b", Expect::Absent, &body)]).await.unwrap();
    assert_eq!(kept(&store).await, (900, 9), "what is kept was counted");
}

#[tokio::test]
async fn m2_records_and_revisions_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    let before = Sqlite::open(&path).await.unwrap();
    let revision = before.commit(vec![put("a", Expect::Absent, "1")]).await.unwrap();
    let epoch = before.epoch();
    drop(before);
    let after = Sqlite::open(&path).await.unwrap();
    assert_eq!(after.epoch(), epoch + 1);
    assert_eq!(after.get(&key("a")).await.unwrap().unwrap().revision, revision);
    assert_eq!(
        after.commit(vec![put("b", Expect::Absent, "2")]).await,
        Ok(revision + 1)
    );
    assert_eq!(after.changes(0, 9).await.unwrap().len(), 2, "the history, too");
}

#[tokio::test]
async fn an_older_opener_is_fenced_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    let (older, newer) = (Sqlite::open(&path).await.unwrap(), Sqlite::open(&path).await.unwrap());
    let refused = older.commit(vec![put("a", Expect::Absent, "1")]).await;
    assert_eq!(refused, Err(StoreError::Fenced { current: 2, own: 1 }));
    assert!(newer.commit(vec![put("a", Expect::Absent, "1")]).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_understood_is_an_error_and_never_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, b"not a database at all, but long enough".repeat(40)).unwrap();
    assert!(matches!(
        Sqlite::open(&garbage).await.err(),
        Some(StoreError::Undecodable { .. })
    ));

    let foreign = folder.path().join("foreign.db");
    let connection = rusqlite::Connection::open(&foreign).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(
        Sqlite::open(&foreign).await.err(),
        Some(StoreError::Undecodable { .. })
    ));

    let newer = folder.path().join("newer.db");
    drop(Sqlite::open(&newer).await.unwrap());
    rusqlite::Connection::open(&newer)
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    let error = Sqlite::open(&newer).await.err().unwrap();
    assert!(matches!(error, StoreError::NewerSchema { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("restore a copy"), "{error}");
}

#[tokio::test]
async fn m1_a_file_of_the_first_schema_becomes_a_current_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    drop(Sqlite::open(&path).await.unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            r#"PRAGMA user_version = 1;
            INSERT INTO records VALUES ('snapshot', 'routing', 1,
                '{"generation":41,"routes":[{"host":"a.test","app":"a","service":"web"}],"default":null,"apps":{}}');"#,
        )
        .unwrap();
    let store = Sqlite::open(&path).await.unwrap();
    let records = store.list(Kind::Snapshot, Selection::All).await.unwrap();
    assert_eq!(records[0].body, r#"{"generation":41}"#);
}

#[test]
fn a_second_daemon_is_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let held = Lock::take(folder.path()).unwrap();
    let refused = Lock::take(folder.path()).unwrap_err();
    assert!(matches!(refused, LockError::Held { .. }), "{refused}");
    assert!(
        refused.to_string().contains(&format!("process {}", std::process::id())),
        "{refused}"
    );
    drop(held);
    Lock::take(folder.path()).unwrap();
}
