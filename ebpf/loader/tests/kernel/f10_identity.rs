//! Decides whether a table can be told from every other, also from the one that takes its place (F10).

use miren_loader::Mode;

use crate::lab::Lab;

#[test]
fn f10_who_adopts_a_table_and_who_reads_it_call_it_the_same() {
    for mode in [Mode::Kernel, Mode::Off] {
        let lab = Lab::new();
        let made = lab.open(mode);
        let id = made.table().clone();
        let reader = lab.reader(mode);
        assert_eq!(reader.table(), &id, "{mode:?}");
        drop(made);
        assert_eq!(lab.open(mode).table(), &id, "{mode:?}: adopted");
        assert_eq!(lab.reader(mode).table(), &id, "{mode:?}: a later reader");
    }
}

#[test]
fn f10_a_table_that_is_made_anew_is_another_one_in_the_same_place_too() {
    for mode in [Mode::Kernel, Mode::Off] {
        let lab = Lab::new();
        let first = lab.open(mode);
        let reader = lab.reader(mode);
        first.remove().expect("removing the table");
        let second = lab.open(mode);
        assert_ne!(second.table(), reader.table(), "{mode:?}");
        assert_eq!(second.table(), lab.reader(mode).table(), "{mode:?}");
    }
}

#[test]
fn f10_another_mode_is_another_table_there_and_back() {
    let lab = Lab::new();
    let modes = [Mode::Kernel, Mode::Off, Mode::Kernel, Mode::Off];
    let names: Vec<String> = modes.map(|mode| lab.open(mode).table().to_string()).into();
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "{names:?}");
    }
}
