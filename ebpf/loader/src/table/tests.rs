//! Decides that slots keep their rules whoever changes them, and that a file keeps them over a restart.

use std::path::PathBuf;

use super::*;
use crate::error::OpenError;

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("slots");
    Place { _folder: folder, path }
}

fn endpoint() -> SocketAddr {
    "10.1.2.3:8080".parse().expect("address")
}

#[test]
fn a_table_survives_its_daemon() {
    let place = place();
    let table = file::open_or_create(&place.path, 8).expect("create");
    let (generation, _) = table.begin(3, endpoint()).expect("begin");
    table.advance(3, generation, State::Running).expect("advance");
    let before = table.slots().view(3);
    drop(table);
    let table = file::open_or_create(&place.path, 8).expect("adopt");
    assert_eq!(table.slots().view(3), before);
    assert_eq!(before.endpoint, Some(endpoint()));
    let reader = file::open_read_only(&place.path).expect("reader");
    assert_eq!(reader.word(3), Word::new(generation, State::Running));
    assert_eq!(reader.capacity(), 8);
}

#[test]
fn a_table_of_another_size_layout_or_boot_is_not_adopted() {
    let place = place();
    drop(file::open_or_create(&place.path, 8).expect("create"));
    let error = file::open_or_create(&place.path, 16).expect_err("another size");
    assert!(
        matches!(
            error,
            OpenError::OtherCapacity {
                found: 8,
                wanted: 16,
                ..
            }
        ),
        "{error}"
    );

    let table = file::open_or_create(&place.path, 8).expect("adopt");
    table.begin(0, endpoint()).expect("begin");
    let mut bytes = std::fs::read(&place.path).expect("read");
    bytes[40] ^= 1; // the boot
    std::fs::write(&place.path, &bytes).expect("write");
    let table = file::open_or_create(&place.path, 8).expect("a new table");
    assert_eq!(table.slots().word(0), Word::default());

    let mut bytes = std::fs::read(&place.path).expect("read");
    bytes[8] += 1; // the version
    std::fs::write(&place.path, &bytes).expect("write");
    let error = file::open_or_create(&place.path, 8).expect_err("another layout");
    assert!(matches!(error, OpenError::OtherLayout { .. }), "{error}");
    let error = file::open_read_only(&place.path).expect_err("another layout");
    assert!(matches!(error, OpenError::OtherLayout { .. }), "{error}");
}

#[test]
fn a_reader_without_a_table_says_what_to_do() {
    let place = place();
    let error = file::open_read_only(&place.path).expect_err("no table");
    assert!(error.to_string().contains("start miren-control first"), "{error}");
}

#[test]
fn a_cut_table_is_an_error_and_not_a_crash() {
    let place = place();
    drop(file::open_or_create(&place.path, 8).expect("create"));
    let file = std::fs::OpenOptions::new().write(true).open(&place.path).expect("open");
    file.set_len(4600).expect("cut");
    assert!(file::open_read_only(&place.path).is_err());
}

#[test]
fn k5_only_one_of_many_changes_of_a_word_wins() {
    let place = place();
    let table = file::open_or_create(&place.path, 8).expect("create");
    for _ in 0..1000 {
        let (generation, _) = table.begin(0, endpoint()).expect("begin");
        let ended = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| table.exited(0, generation, 9).is_some()))
                .collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().ok())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(ended, 1);
        table.release(0, generation).expect("release");
    }
}

#[test]
fn slots_outside_the_table_are_free_and_cannot_be_used() {
    let place = place();
    let table = file::open_or_create(&place.path, 8).expect("create");
    assert_eq!(table.slots().word(8), Word::default());
    assert_eq!(table.slots().view(u32::MAX).state, State::Free);
    assert!(matches!(
        table.begin(8, endpoint()),
        Err(SlotError::NoSuchSlot { slot: 8, capacity: 8 })
    ));
}
