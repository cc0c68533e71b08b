//! Decides that records are taken in order, wherever they lie, and that unfinished ones wait.

use std::{fs::File, os::fd::AsFd, os::unix::fs::FileExt};

use super::*;

const BYTES: u32 = 4096;

/// A ring buffer made of a plain file, with the producer's side open to the test.
struct Fake {
    ring: Ring,
    file: File,
    position: u64,
}

impl Fake {
    fn new() -> Self {
        let file = tempfile::tempfile().expect("file");
        file.set_len(2 * page_bytes() as u64 + 2 * u64::from(BYTES))
            .expect("length");
        let fd = file.as_fd();
        let ring = Ring {
            consumer: Mapping::writable(fd, 0, page_bytes()).expect("consumer"),
            producer: Mapping::read_only(fd, page_bytes(), page_bytes() + 2 * BYTES as usize).expect("producer"),
            bytes: BYTES.into(),
            epoll: file.try_clone().expect("clone").into(),
        };
        Self {
            ring,
            file,
            position: 0,
        }
    }

    fn write(&self, bytes: &[u8], position: u64) {
        let data = 2 * page_bytes() as u64;
        for (offset, byte) in bytes.iter().enumerate() {
            let at = (position + offset as u64) % u64::from(BYTES);
            for copy in [0, u64::from(BYTES)] {
                self.file.write_all_at(&[*byte], data + at + copy).expect("write");
            }
        }
    }

    fn push(&mut self, flags: u32, payload: &[u8]) {
        self.write(&(payload.len() as u32 | flags).to_ne_bytes(), self.position);
        self.write(payload, self.position + HEADER);
        self.position += (HEADER + payload.len() as u64).next_multiple_of(8);
        self.file
            .write_all_at(&self.position.to_ne_bytes(), page_bytes() as u64)
            .expect("write");
    }
}

fn event(slot: u32) -> Event {
    Event {
        word: 1,
        at_ns: 2,
        slot,
        exit_code: 3,
        tgid: 4,
        by: 1,
        reserved: [0; 3],
    }
}

#[test]
fn records_come_in_order_also_around_the_end() {
    let mut fake = Fake::new();
    assert_eq!(fake.ring.pop(), None);
    // 4096 is not a multiple of a record's 40 bytes, so one of these wraps around.
    for slot in 0..1000 {
        fake.push(0, &event(slot).to_bytes());
        assert_eq!(fake.ring.pop(), Some(event(slot)));
    }
    assert_eq!(fake.ring.pop(), None);
}

#[test]
fn an_unfinished_record_waits_and_holds_back_later_ones() {
    let mut fake = Fake::new();
    fake.push(BUSY, &event(1).to_bytes());
    fake.push(0, &event(2).to_bytes());
    assert_eq!(fake.ring.pop(), None);
    fake.write(&(Event::BYTES as u32).to_ne_bytes(), 0);
    assert_eq!(fake.ring.pop(), Some(event(1)));
    assert_eq!(fake.ring.pop(), Some(event(2)));
}

#[test]
fn discarded_and_foreign_records_are_skipped() {
    let mut fake = Fake::new();
    fake.push(DISCARDED, &event(1).to_bytes());
    fake.push(0, &[7; 12]);
    fake.push(0, &event(2).to_bytes());
    assert_eq!(fake.ring.pop(), Some(event(2)));
    assert_eq!(fake.ring.pop(), None);
}
