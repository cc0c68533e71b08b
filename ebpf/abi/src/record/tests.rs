//! Decides that records keep the offsets other builds rely on.

use core::mem::{align_of, offset_of};

use crate::{AbiRecord, Event, Slot, SlotRef, Stat};

#[test]
fn slots_keep_their_offsets() {
    assert_eq!(offset_of!(Slot, word), 0);
    assert_eq!(offset_of!(Slot, since_ns), 8);
    assert_eq!(offset_of!(Slot, ended_ns), 16);
    assert_eq!(offset_of!(Slot, init_started), 24);
    assert_eq!(offset_of!(Slot, exit_code), 32);
    assert_eq!(offset_of!(Slot, tgid), 36);
    assert_eq!(offset_of!(Slot, address), 40);
    assert_eq!(offset_of!(Slot, port), 56);
    assert_eq!(offset_of!(Slot, ended_by), 58);
    assert_eq!((size_of::<Slot>(), align_of::<Slot>()), (64, 8));
}

#[test]
fn bytes_round_trip() {
    let event = Event {
        word: 0x0702,
        at_ns: 9,
        slot: 4,
        exit_code: 0x300,
        tgid: 77,
        by: 1,
        reserved: [0; 3],
    };
    assert_eq!(Event::from_bytes(event.to_bytes()), event);
    assert_eq!(event.to_bytes()[..8], 0x0702_u64.to_ne_bytes());
    let reference = SlotRef::new(4, 7);
    assert_eq!(SlotRef::from_bytes(reference.to_bytes()), reference);
    assert_eq!(Slot::FREE.to_bytes(), [0; 64]);
}

#[test]
fn a_record_fits_only_the_same_layout() {
    let ours = AbiRecord::new(4096, 1, [0; 16]);
    assert!(
        ours.fits(&AbiRecord::new(16, 2, [9; 16])),
        "hash, boot and capacity are compared by the loader"
    );
    let changes: [fn(&mut AbiRecord); 6] = [
        |record| record.magic = 0,
        |record| record.version += 1,
        |record| record.slot_bytes = 128,
        |record| record.ref_bytes = 8,
        |record| record.event_bytes = 40,
        |record| record.stats += 1,
    ];
    for change in changes {
        let mut other = ours;
        change(&mut other);
        assert!(!ours.fits(&other), "{other:?}");
    }
}

#[test]
fn every_counter_has_a_place() {
    assert_eq!(Stat::LostExits as u32 + 1, Stat::COUNT);
}
