//! What only the store on disk must do: survive, bound its history, refuse what is not its own.

use crate::store::{key, put};
use miren_control::store::{Cursor, Expect, History, Lock, LockError, Sqlite, Store, StoreError, Watch};
use std::sync::Arc;

/// Bytes of the bodies that are kept of what came after `after`, and the revision of the first of them.
async fn kept(store: &Sqlite) -> (usize, u64) {
    let upto = match store.changes(Cursor::START, 1).await {
        Err(StoreError::Compacted { upto }) => upto,
        other => panic!("everything is kept: {other:?}"),
    };
    let kept = store.changes(upto, usize::MAX).await.unwrap();
    let bodies = kept.iter().filter_map(|change| change.body.as_ref());
    (bodies.map(String::len).sum(), upto.revision + 1)
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
        store.changes(Cursor::after(last), 9).await,
        Ok(vec![]),
        "who knows it has missed nothing"
    );
    assert_eq!(
        store.changes(Cursor::after(last - 1), 9).await,
        Err(StoreError::Compacted {
            upto: Cursor { revision: last, n: 0 }
        }),
        "one that is larger than everything is not kept"
    );
    assert_eq!(
        store.get(&key("b")).await.unwrap().unwrap().body,
        large,
        "the record is"
    );
    let small = store.commit(vec![put("c", Expect::Absent, "3")]).await.unwrap();
    assert_eq!(store.changes(Cursor::after(last), 9).await.unwrap().len(), 1);
    let mut watch = Watch::new(Arc::new(store), Cursor::after(last));
    assert_eq!(watch.next().await.unwrap().unwrap().at.revision, small);
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
    assert_eq!(store.changes(Cursor::START, 99).await.unwrap().len(), 10);
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
    assert_eq!(
        after.changes(Cursor::START, 9).await.unwrap().len(),
        2,
        "the history, too"
    );
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
