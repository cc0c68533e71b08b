//! Bytes in and out of a connection: without a copy, without a buffer of its own, and never longer than a peer may stall.

use bytes::BytesMut;
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

/// Reads what is there, at most `most` bytes; waits until something is. 0 at the end.
pub async fn read(stream: &TcpStream, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
    // A peer that always has something must not keep a thread.
    consume_budget().await;
    loop {
        match try_read(stream, buffer, most) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            read => return read,
        }
    }
}

/// As [`read`], if something is there already.
pub fn try_read(stream: &TcpStream, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
    buffer.reserve(most.min(SMALL));
    let spare = buffer.spare_capacity_mut();
    let asked = most.min(spare.len());
    let mut count = 0;
    let outcome = stream.try_io(Interest::READABLE, || {
        count = SockRef::from(stream).recv(&mut spare[..asked])?;
        // The system has no more: asking again would only say so. What arrives from now on is told anew, since what is forgotten
        // here is what was known before this read.
        if count > 0 && count < asked {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    });
    match outcome {
        Err(error) if count == 0 => Err(error),
        _ => {
            // SAFETY: the system has written so many bytes to the beginning of the spare room.
            unsafe { buffer.set_len(buffer.len() + count) };
            Ok(count)
        }
    }
}

/// What is read at once where little is expected.
const SMALL: usize = 4 * 1024;

/// Writes all of `parts`, which the other side has to take within `stall`. What the callers write at once is at most some 64 KiB: a
/// system may take a few bytes now and then for somebody who reads nothing.
pub async fn write(stream: &TcpStream, parts: &[&[u8]], stall: Duration) -> io::Result<()> {
    consume_budget().await;
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let (mut written, mut deadline) = (0, None);
    while written < total {
        match try_write(stream, parts, written) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let until = *deadline.get_or_insert_with(|| Instant::now() + stall);
                let ready = tokio::time::timeout_at(until, stream.writable()).await;
                ready.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The most parts that one message has: a head, a chunk's size, its data, and what ends it.
const MOST_PARTS: usize = 6;

/// Writes what of `parts` is behind the first `written` bytes, as far as there is room.
pub fn try_write(stream: &TcpStream, parts: &[&[u8]], written: usize) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MOST_PARTS];
    let (mut count, mut skip) = (0, written);
    for part in parts {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        slices[count] = IoSlice::new(&part[skip..]);
        (count, skip) = (count + 1, 0);
    }
    match &slices[..count] {
        [only] => stream.try_write(only),
        some => stream.try_write_vectored(some),
    }
}

/// What the other side's system has said of what was sent to it.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Bytes, since the connection began.
    pub acked: u64,
    /// How long there was more for it than it had room for, since the connection began; in steps of some milliseconds.
    pub shut: Duration,
}

/// How much the other side has taken.
pub fn taken(stream: &TcpStream) -> io::Result<Taken> {
    // SAFETY: it has nothing but integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
    // SAFETY: the system writes `length` bytes at most, which `info` has, and how many it wrote to `length`.
    let outcome = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Taken {
        acked: info.tcpi_bytes_acked,
        shut: Duration::from_micros(info.tcpi_rwnd_limited),
    })
}

/// Returns when the other side has broken the connection off; never where it has only finished sending.
pub async fn broken(stream: &TcpStream) {
    if let Err(error) = stream.ready(Interest::ERROR).await {
        tracing::debug!(%error, "cannot watch a connection");
        std::future::pending::<()>().await;
    }
}
