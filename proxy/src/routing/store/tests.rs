//! Whatever happens to the files, the newest readable state is found and damage is reported.

use super::*;
use miren_api::routing::AppRouting;
use miren_api::{AppName, VersionId};

fn snapshot(generation: u64) -> RoutingSnapshot {
    RoutingSnapshot {
        generation,
        apps: [(AppName::from_text("shop"), serves(generation))].into(),
        ..RoutingSnapshot::default()
    }
}

/// Each generation has its own version.
fn serves(generation: u64) -> AppRouting {
    AppRouting {
        active: Some(VersionId::from_text(format!("shop-{generation}"))),
        ..AppRouting::default()
    }
}

fn change(from: u64) -> RoutingDelta {
    RoutingDelta {
        from,
        generation: from + 1,
        apps: [(AppName::from_text("shop"), serves(from + 1))].into(),
        ..RoutingDelta::default()
    }
}

fn table(generation: u64) -> RouteTable {
    RouteTable::new(&snapshot(generation))
}

/// The generation on disk, once it is known to be whole.
fn generation(store: &SnapshotStore) -> Option<u64> {
    let kept = store.load().table?.snapshot();
    assert_eq!(kept, snapshot(kept.generation));
    Some(kept.generation)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn store_with(generations: std::ops::RangeInclusive<u64>) -> (tempfile::TempDir, SnapshotStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SnapshotStore::new(folder.path());
    for generation in generations {
        store.writer().keep(&table(generation), None).unwrap();
    }
    (folder, store)
}

/// A copy of the first generation, and what was added to it.
fn changed(to: u64) -> (tempfile::TempDir, SnapshotStore, SnapshotWriter) {
    let folder = tempfile::tempdir().unwrap();
    let store = SnapshotStore::new(folder.path());
    let mut writer = store.writer();
    writer.keep(&table(1), None).unwrap();
    for from in 1..to {
        writer.keep(&table(from + 1), Some(&[change(from)])).unwrap();
    }
    (folder, store, writer)
}

fn journal_in(folder: &Path) -> PathBuf {
    let names = names(folder);
    let mut journals = names.iter().filter(|name| name.starts_with(JOURNAL));
    let journal = folder.join(journals.next().unwrap());
    assert_eq!(journals.next(), None);
    journal
}

#[test]
fn the_last_saved_snapshot_is_loaded_and_three_older_copies_are_kept_with_their_journals() {
    let (folder, store) = store_with(1..=6);
    assert_eq!(generation(&store), Some(6));
    let (journals, copies): (Vec<String>, Vec<String>) = names(folder.path())
        .into_iter()
        .partition(|name| name.starts_with(JOURNAL));
    assert_eq!(copies, ["routing", "routing.1", "routing.2", "routing.3"]);
    assert_eq!(journals.len(), 4);
}

#[test]
fn changes_are_added_and_the_copy_is_not_written_again() {
    let (folder, store, mut writer) = changed(1);
    let copy = fs::read(folder.path().join("routing")).unwrap();
    for from in [1, 3] {
        let changes = [change(from), change(from + 1)];
        writer.keep(&table(from + 2), Some(&changes)).unwrap();
        assert_eq!(generation(&store), Some(from + 2));
    }
    assert_eq!(fs::read(folder.path().join("routing")).unwrap(), copy);
    assert!(!folder.path().join("routing.1").exists());
}

#[test]
fn a_journal_cut_off_anywhere_has_the_changes_before() {
    let (folder, store, _writer) = changed(4);
    let path = journal_in(folder.path());
    let whole = fs::read(&path).unwrap();
    let mut found = Vec::new();
    for length in (0..=whole.len()).rev() {
        fs::write(&path, &whole[..length]).unwrap();
        found.extend(generation(&store));
        let is_begun = length >= "miren-routing-changes 1\n".len();
        assert_eq!(store.load().damaged.is_empty(), is_begun, "{length}");
    }
    assert_eq!(found.len(), whole.len() + 1, "there is always one");
    assert!(found.is_sorted_by(|a, b| a >= b), "{found:?}");
    found.dedup();
    assert_eq!(found, [4, 3, 2, 1]);
}

#[test]
fn what_follows_damage_is_not_guessed_and_the_damage_is_reported() {
    let (folder, store, _writer) = changed(4);
    let path = journal_in(folder.path());
    let whole = fs::read_to_string(&path).unwrap();
    for (damaged, why) in [
        (whole.replace("shop-3", "shop-9"), "does not match its checksum"),
        (whole.replace(r#" {"from":2"#, r#"{"from":2"#), "without a checksum"),
        (
            whole
                .lines()
                .filter(|line| !line.contains("shop-3"))
                .map(|line| format!("{line}\n"))
                .collect(),
            "goes on from generation 3 where 2",
        ),
        (whole.replace("changes 1", "changes 2"), "another layout"),
    ] {
        fs::write(&path, &damaged).unwrap();
        let loaded = store.load();
        let reached = loaded.table.unwrap().generation();
        assert_eq!(reached, if why == "another layout" { 1 } else { 2 }, "{why}");
        assert_eq!(loaded.damaged.len(), 1, "{why}");
        assert!(loaded.damaged[0].1.contains(why), "{why}: {:?}", loaded.damaged);
    }
}

#[test]
fn changes_of_another_copy_are_never_taken_for_those_of_this_one() {
    let (folder, store, mut writer) = changed(3);
    let before = fs::read(journal_in(folder.path())).unwrap();
    // Another control begins where the first change did, and serves something else.
    let other = RoutingSnapshot {
        generation: 1,
        ..RoutingSnapshot::default()
    };
    writer.keep(&RouteTable::new(&other), None).unwrap();
    assert_eq!(store.load().table.unwrap().snapshot(), other);
    let journals = names(folder.path())
        .into_iter()
        .filter(|name| name.starts_with(JOURNAL));
    let kept: Vec<Vec<u8>> = journals
        .map(|name| fs::read(folder.path().join(name)).unwrap())
        .collect();
    assert!(kept.contains(&before), "it is that of the older copy");
    fs::write(folder.path().join("routing"), b"").unwrap();
    let loaded = store.load();
    assert_eq!((loaded.table.unwrap().generation(), loaded.damaged.len()), (3, 1));
}

#[test]
fn a_full_journal_makes_way_for_a_new_copy_and_goes_with_its_own() {
    let (folder, store, mut writer) = changed(1);
    let mut at = 1;
    let mut fifty_more = || {
        let changes: Vec<RoutingDelta> = (at..at + 50).map(change).collect();
        at += 50;
        writer.keep(&table(at), Some(&changes)).unwrap();
        at
    };
    while !folder.path().join("routing.3").exists() {
        assert!(fifty_more() < 10_000, "no journal is ever full");
    }
    let many = fifty_more();
    assert!(many > 500, "a copy is written for a few changes");
    while fifty_more() < 2 * many {}
    let last = fifty_more();
    assert_eq!(generation(&store), Some(last));
    assert_eq!(names(folder.path()).len(), 8, "four copies and their journals");
}

#[test]
fn a_journal_that_another_proxy_removed_is_not_written_to() {
    let (folder, store, mut writer) = changed(2);
    fs::remove_file(journal_in(folder.path())).unwrap();
    writer.keep(&table(3), Some(&[change(2)])).unwrap();
    assert_eq!(generation(&store), Some(3));
}

#[test]
fn what_could_not_be_added_is_written_as_a_whole_next_time() {
    let (_folder, store, mut writer) = changed(2);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    writer.journal = Some(Journal::over(full));
    assert!(writer.keep(&table(3), Some(&[change(2)])).is_err());
    assert_eq!(generation(&store), Some(2));
    writer.keep(&table(4), Some(&[change(3)])).unwrap();
    assert_eq!(generation(&store), Some(4));
}

#[test]
fn a_damaged_copy_is_reported_and_the_one_before_is_used() {
    let (folder, store) = store_with(1..=3);
    let current = folder.path().join("routing");
    let mut bytes = fs::read(&current).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&current, bytes).unwrap();
    let loaded = store.load();
    assert_eq!(loaded.table.unwrap().generation(), 2);
    assert_eq!(loaded.damaged, [(current, "does not match its checksum".to_owned())]);
}

#[test]
fn an_empty_or_foreign_file_is_never_an_empty_table() {
    let (folder, store) = store_with(1..=2);
    fs::write(folder.path().join("routing"), b"").unwrap();
    fs::write(folder.path().join("routing.1"), b"miren-routing 2 sha256:00\n{}").unwrap();
    let loaded = store.load();
    assert!(loaded.table.is_none());
    let reasons: Vec<&str> = loaded.damaged.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(reasons, ["has no header line", "is of another layout"]);
}

#[test]
fn a_crash_between_the_renames_leaves_the_copy_before() {
    let (folder, store, mut writer) = changed(3);
    writer.keep(&table(4), None).unwrap();
    fs::rename(folder.path().join("routing"), folder.path().join("routing.new")).unwrap();
    assert_eq!(generation(&store), Some(3), "with its changes");
}

#[test]
fn copies_become_older_only_where_there_is_one_in_the_way() {
    let (folder, store) = store_with(1..=4);
    // As often as an attempt fails after it has made room.
    for next in 5..10 {
        fs::remove_file(folder.path().join("routing")).unwrap();
        assert_eq!(generation(&store), Some(3));
        store.writer().keep(&table(next), None).unwrap();
        assert_eq!(generation(&store), Some(next));
        assert!((0..=OLDER_COPIES).all(|age| store.copy(age).exists()));
    }
}

#[test]
fn nothing_on_disk_is_no_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = SnapshotStore::new(folder.path()).load();
    assert!(loaded.table.is_none() && loaded.damaged.is_empty());
}
