//! Stores of earlier releases: each becomes a current one, with its history, and a copy of it as it was is kept.

use crate::store::put;
use miren_api::id::NodeId;
use miren_api::lease::LeaseKey;
use miren_api::resource::SandboxState;
use miren_control::ledger;
use miren_control::record::SandboxRecord;
use miren_control::store::{Change, Cursor, Expect, Key, Kind, Selection, Sqlite, Store, StoreError, copy_before};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

/// As the release wrote it that was the last one with schema 2.
const SCHEMA_2: &str = include_str!("schema_2.sql");
/// Changes that it has, of which the first were compacted.
const KEPT: [u64; 2] = [42, 51];

fn store_of_schema_2(folder: &Path) -> PathBuf {
    let path = folder.join("control.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    connection.execute_batch(SCHEMA_2).unwrap();
    path
}

/// Every row of a table, each as one text.
fn rows(path: &Path, table: &str) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut rows = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns = rows.column_count();
    let rows = rows.query_map([], |row| {
        let values = (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column).unwrap());
        Ok(values.map(|value| format!("{value:?} ")).collect())
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn schema(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap()
}

fn copies(folder: &Path) -> Vec<String> {
    let names = folder.read_dir().unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut copies: Vec<String> = names.filter(|name| name.contains(".before-")).collect();
    copies.sort();
    copies
}

#[tokio::test]
async fn m1_a_file_of_the_first_schema_becomes_a_current_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_of_schema_2(folder.path());
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            r#"PRAGMA user_version = 1;
            UPDATE records SET body =
                '{"generation":41,"routes":[{"host":"a.test","app":"a","service":"web"}],"default":null,"apps":{}}'
                WHERE kind = 'snapshot';"#,
        )
        .unwrap();
    let store = Sqlite::open(&path).await.unwrap();
    let records = store.list(Kind::Snapshot, Selection::All).await.unwrap();
    assert_eq!(records[0].body, r#"{"generation":41}"#);
    assert_eq!(schema(&copy_before(&path, schema(&path))), 1);
}

#[tokio::test]
async fn a_store_of_the_release_before_keeps_its_records_its_revisions_and_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_of_schema_2(folder.path());
    let other = "records WHERE kind != 'sandbox'";
    let (records, indexes) = (rows(&path, other), rows(&path, "indexes"));
    let store = Sqlite::open(&path).await.unwrap();
    assert_eq!(rows(&path, other), records);
    assert_eq!(rows(&path, "indexes"), indexes);
    assert_eq!(store.epoch(), 2);
    assert_eq!(*store.revision().borrow(), KEPT[1]);
    let gone = Cursor {
        revision: KEPT[0] - 1,
        n: 0,
    };
    let compacted = store.changes(Cursor::START, 9).await;
    assert_eq!(compacted, Err(StoreError::Compacted { upto: gone }));
    let changes = store.changes(gone, 99).await.unwrap();
    let places: Vec<Cursor> = changes.iter().map(|change| change.at).collect();
    let single = |revision| Cursor { revision, n: 0 };
    assert_eq!(places, (KEPT[0]..=KEPT[1]).map(single).collect::<Vec<_>>());
    assert_eq!(changes[0].key, Key::new(Kind::Sandbox, "sb-kh87x36y5r"));
    let pool = Change {
        at: single(44),
        key: Key::new(Kind::Pool, "pool-mc6vvq2rr9"),
        body: None,
    };
    assert_eq!(changes[2], pool);
    let more = ["a", "b"].map(|id| put(id, Expect::Absent, "1"));
    assert_eq!(store.commit(more.to_vec()).await, Ok(KEPT[1] + 1), "and counts on");
    assert_eq!(store.changes(single(KEPT[1]), 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_release_before_goes_on_with_the_copy_and_refuses_what_was_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_of_schema_2(folder.path());
    // What is only in the log of writes yet.
    let writer = Connection::open(&path).unwrap();
    writer
        .execute_batch("UPDATE counters SET value = 7 WHERE name = 'epoch'")
        .unwrap();
    let before: Vec<Vec<String>> = ["records", "changes", "counters"]
        .map(|table| rows(&path, table))
        .to_vec();
    let store = Sqlite::open(&path).await.unwrap();
    store.commit(vec![put("later", Expect::Absent, "1")]).await.unwrap();
    drop((store, writer));
    let migrated = schema(&path);
    let copy = copy_before(&path, migrated);
    assert_eq!(copies(folder.path()), [copy.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(schema(&copy), 2);
    let kept = ["records", "changes", "counters"]
        .map(|table| rows(&copy, table))
        .to_vec();
    assert_eq!(kept, before, "as it was, and nothing of what came later");
    assert_eq!(
        rows(&copy, "pragma_application_id()"),
        rows(&path, "pragma_application_id()")
    );
    assert!(migrated > 2, "a release that knows 2 says that it is newer");
}

#[tokio::test]
async fn one_copy_is_kept_and_none_is_made_where_nothing_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_of_schema_2(folder.path());
    // Of an earlier migration, of one that was interrupted, and somebody's own.
    for name in ["control.db.before-2", "control.db.before-part", "control.db.mine"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    drop(Sqlite::open(&path).await.unwrap());
    let copy = copy_before(&path, schema(&path));
    assert_eq!(copies(folder.path()), [copy.file_name().unwrap().to_str().unwrap()]);
    assert!(folder.path().join("control.db.mine").exists());
    let made = std::fs::metadata(&copy).unwrap().modified().unwrap();
    drop(Sqlite::open(&path).await.unwrap());
    assert_eq!(
        std::fs::metadata(&copy).unwrap().modified().unwrap(),
        made,
        "opened again"
    );
    let fresh = tempfile::tempdir().unwrap();
    drop(Sqlite::open(&fresh.path().join("control.db")).await.unwrap());
    assert!(copies(fresh.path()).is_empty(), "nothing there was to be kept");
}

#[tokio::test]
async fn a_store_that_cannot_be_copied_is_not_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_of_schema_2(folder.path());
    // Where the copy would be made there is something that does not go away.
    let part = folder.path().join("control.db.before-part");
    std::fs::create_dir(&part).unwrap();
    let refused = Sqlite::open(&path).await.err().unwrap();
    let told = refused.to_string();
    assert!(told.contains("copying the store before it is migrated"), "{told}");
    assert_eq!(schema(&path), 2);
    std::fs::remove_dir(&part).unwrap();
    Sqlite::open(&path).await.unwrap();
}

#[tokio::test]
async fn sandboxes_of_the_release_before_are_on_the_node_there_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_of_schema_2(folder.path());
    let before: Vec<SandboxRecord> = bodies(&path);
    let store = Sqlite::open(&path).await.unwrap();
    let after: Vec<SandboxRecord> = ledger::list(&store, Selection::All).await.unwrap();
    assert_eq!(after.len(), 4);
    assert!(after.iter().all(|sandbox| sandbox.node == NodeId::FIRST));
    assert_eq!(after, before, "what is not migrated, as in the history, means the same");
    let running = after.iter().filter(|sandbox| sandbox.state == SandboxState::Running);
    let keys: Vec<LeaseKey> = running.filter_map(SandboxRecord::lease_key).collect();
    assert_eq!(keys.len(), 2);
    let named = store.list(Kind::Sandbox, Selection::All).await.unwrap();
    assert!(named.iter().all(|record| record.body.contains(r#""node":"node-1""#)));
}

fn bodies(path: &Path) -> Vec<SandboxRecord> {
    let connection = Connection::open(path).unwrap();
    let mut bodies = connection
        .prepare("SELECT body FROM records WHERE kind = 'sandbox' ORDER BY id")
        .unwrap();
    let bodies = bodies.query_map([], |row| row.get::<_, String>(0)).unwrap();
    bodies
        .map(|body| serde_json::from_str(&body.unwrap()).unwrap())
        .collect()
}
