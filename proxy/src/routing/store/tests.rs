//! Whatever happens to the files, the newest readable copy is found and damage is reported.

use super::*;

fn snapshot(generation: u64) -> RoutingSnapshot {
    RoutingSnapshot {
        generation,
        ..RoutingSnapshot::default()
    }
}

fn generation(store: &SnapshotStore) -> Option<u64> {
    store.load().snapshot.map(|snapshot| snapshot.generation)
}

fn store_with(generations: std::ops::RangeInclusive<u64>) -> (tempfile::TempDir, SnapshotStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SnapshotStore::new(folder.path());
    for generation in generations {
        store.save(&snapshot(generation)).unwrap();
    }
    (folder, store)
}

#[test]
fn the_last_saved_snapshot_is_loaded_and_three_older_copies_are_kept() {
    let (folder, store) = store_with(1..=6);
    assert_eq!(generation(&store), Some(6));
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["routing", "routing.1", "routing.2", "routing.3"]);
}

#[test]
fn a_damaged_copy_is_reported_and_the_one_before_is_used() {
    let (folder, store) = store_with(1..=3);
    let current = folder.path().join("routing");
    let mut bytes = fs::read(&current).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&current, bytes).unwrap();
    let loaded = store.load();
    assert_eq!(loaded.snapshot.unwrap().generation, 2);
    assert_eq!(loaded.damaged, [(current, "does not match its checksum".to_owned())]);
}

#[test]
fn an_empty_or_foreign_file_is_never_an_empty_table() {
    let (folder, store) = store_with(1..=2);
    fs::write(folder.path().join("routing"), b"").unwrap();
    fs::write(folder.path().join("routing.1"), b"miren-routing 2 sha256:00\n{}").unwrap();
    let loaded = store.load();
    assert!(loaded.snapshot.is_none());
    let reasons: Vec<&str> = loaded.damaged.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(reasons, ["has no header line", "is of another layout"]);
}

#[test]
fn a_crash_between_the_renames_leaves_the_copy_before() {
    let (folder, store) = store_with(1..=2);
    fs::rename(folder.path().join("routing"), folder.path().join("routing.new")).unwrap();
    assert_eq!(generation(&store), Some(1));
}

#[test]
fn nothing_on_disk_is_no_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = SnapshotStore::new(folder.path()).load();
    assert!(loaded.snapshot.is_none() && loaded.damaged.is_empty());
}
