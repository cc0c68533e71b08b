//! Nothing that was in use last stays unwritten, and what was missed is made up for with the whole.

use super::*;
use miren_api::routing::RoutingSnapshot;
use std::fs;

fn table(generation: u64) -> Arc<RouteTable> {
    Arc::new(RouteTable::new(&RoutingSnapshot {
        generation,
        ..RoutingSnapshot::default()
    }))
}

fn change(from: u64) -> RoutingDelta {
    RoutingDelta {
        from,
        generation: from + 1,
        ..RoutingDelta::default()
    }
}

/// What is taken: the generation, and how many changes have led there.
async fn taken(unwritten: &Unwritten) -> (u64, Option<usize>) {
    let (table, changes) = unwritten.take().await;
    (table.generation(), changes.map(|changes| changes.len()))
}

#[tokio::test]
async fn changes_are_taken_together_and_once() {
    let unwritten = Unwritten::default();
    unwritten.put(table(1), None);
    unwritten.put(table(2), Some(change(1)));
    assert_eq!(taken(&unwritten).await, (2, None), "a new table begins with the whole");
    unwritten.put(table(3), Some(change(2)));
    unwritten.put(table(4), Some(change(3)));
    assert_eq!(taken(&unwritten).await, (4, Some(2)));
    unwritten.put(table(5), Some(change(4)));
    assert_eq!(taken(&unwritten).await, (5, Some(1)));
}

#[tokio::test]
async fn more_changes_than_are_remembered_are_the_whole() {
    let unwritten = Unwritten::default();
    let most = MOST_CHANGES as u64;
    for from in 1..=most {
        unwritten.put(table(from + 1), Some(change(from)));
    }
    assert_eq!(taken(&unwritten).await, (most + 1, Some(MOST_CHANGES)));
    for from in 1..=most + 1 {
        unwritten.put(table(from + 1), Some(change(from)));
    }
    assert_eq!(taken(&unwritten).await, (most + 2, None));
}

#[tokio::test]
async fn f11_changes_that_tell_of_more_than_is_remembered_are_the_whole() {
    let unwritten = Unwritten::default();
    let large = |from| RoutingDelta {
        removed_routes: vec![String::new(); MOST_CHANGED / 2],
        ..change(from)
    };
    unwritten.put(table(2), Some(large(1)));
    unwritten.put(table(3), Some(large(2)));
    assert_eq!(taken(&unwritten).await, (3, Some(2)));
    for from in 3..=5 {
        unwritten.put(table(from + 1), Some(large(from)));
    }
    unwritten.put(table(7), Some(change(6)));
    assert_eq!(taken(&unwritten).await, (7, None));
}

#[tokio::test]
async fn what_could_not_be_written_is_written_unless_something_newer_is() {
    let unwritten = Unwritten::default();
    unwritten.give_back(table(1));
    assert_eq!(taken(&unwritten).await, (1, None));
    unwritten.put(table(2), Some(change(1)));
    unwritten.give_back(table(1));
    assert_eq!(taken(&unwritten).await, (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_written_to_has_the_newest_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let store = SnapshotStore::new(&path);
    let (unwritten, metrics) = (Unwritten::default(), Metrics::new().unwrap());
    let own = Folder::new(folder.path());
    own.own().await;
    unwritten.put(table(1), None);
    let tried = async {
        while metrics.snapshot_write_errors.get() < 3 {
            tokio::time::sleep(FIRST_PAUSE).await;
        }
        unwritten.put(table(2), Some(change(1)));
        fs::create_dir(&path).unwrap();
        while store.load().table.is_none() {
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    };
    tokio::select! {
        () = keep(&unwritten, &store, &own, &metrics) => unreachable!("it goes on"),
        tried = tokio::time::timeout(60 * LONGEST_PAUSE, tried) => tried.expect("it is written when it can be"),
    }
    assert_eq!(store.load().table.unwrap().generation(), 2);
}
