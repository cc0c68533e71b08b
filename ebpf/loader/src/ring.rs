//! Decides how records are taken out of a BPF ring buffer without keeping its descriptor.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use miren_abi::Event;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::mapping::{Mapping, page_bytes};

#[cfg(test)]
mod tests;

/// In the length of a record: still being written.
const BUSY: u32 = 1 << 31;
/// In the length of a record: to be skipped.
const DISCARDED: u32 = 1 << 30;
/// Bytes in front of each record: its length and flags, and an offset only the kernel uses.
const HEADER: u64 = 8;

/// The reading end of one ring buffer.
///
/// The mappings keep the buffer's file alive, and with it its place in the epoll set, after the descriptor is closed.
#[derive(Debug)]
pub(crate) struct Ring {
    consumer: Mapping,
    producer: Mapping,
    bytes: u64,
    epoll: OwnedFd,
}

impl Ring {
    /// Takes over the buffer of `bytes` bytes behind `map`; nobody else may be reading it.
    pub(crate) fn new(map: BorrowedFd<'_>, bytes: u32) -> io::Result<Self> {
        let page = page_bytes();
        if !bytes.is_power_of_two() || !(bytes as usize).is_multiple_of(page) {
            return Err(io::Error::other(format!(
                "a ring buffer of {bytes} bytes is not possible"
            )));
        }
        let consumer = Mapping::writable(map, 0, page)?;
        // The kernel shows the data twice in a row, so that a record that wraps around is in one piece.
        let producer = Mapping::read_only(map, page, page + 2 * bytes as usize)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(map, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(Self {
            consumer,
            producer,
            bytes: bytes.into(),
            epoll: epoll.0,
        })
    }

    /// Readable when the next record is there.
    pub(crate) fn readiness(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// The next record, if there is one. A record of another length is not ours and is skipped.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        loop {
            let at = self.consumed().load(Ordering::Acquire);
            if at >= self.produced().load(Ordering::Acquire) {
                return None;
            }
            let length = self.length_at(at).load(Ordering::Acquire);
            if length & BUSY != 0 {
                return None;
            }
            let payload = length & !DISCARDED;
            let event = (length == Event::BYTES as u32).then(|| self.event_at(at + HEADER));
            self.consumed().store(
                at + (HEADER + u64::from(payload)).next_multiple_of(8),
                Ordering::Release,
            );
            if event.is_some() {
                return event;
            }
        }
    }

    fn consumed(&self) -> &AtomicU64 {
        // SAFETY: the first word of the consumer page, aligned, mapped as long as `self`.
        unsafe { &*self.consumer.start().cast() }
    }

    fn produced(&self) -> &AtomicU64 {
        // SAFETY: the first word of the producer page, aligned, mapped as long as `self`; only loaded from.
        unsafe { &*self.producer.start().cast() }
    }

    fn length_at(&self, position: u64) -> &AtomicU32 {
        // SAFETY: `data` stays inside the mapping; records are 8-aligned.
        unsafe { &*self.data(position).cast() }
    }

    fn event_at(&self, position: u64) -> Event {
        // SAFETY: a record is shorter than the buffer and the data is mapped twice, so it ends inside the mapping; the
        // kernel is done with it, and every bit pattern is an `Event`.
        unsafe { self.data(position).cast::<Event>().read() }
    }

    fn data(&self, position: u64) -> *const u8 {
        let offset = usize::try_from(position & (self.bytes - 1)).unwrap_or(0);
        self.producer.start().wrapping_add(page_bytes() + offset)
    }
}
