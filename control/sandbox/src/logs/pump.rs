//! Decides how what a sandbox writes becomes lines of its log.

use super::allowance::{Allowance, Dropped};
use crate::config::LogRate;
use crate::logs::LogWriter;
use miren_api::resource::{LinePart, LogStream};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Longest line that is kept as one; longer ones are kept in parts. Keeps the memory of the helper bounded.
pub(super) const LINE_MAX: usize = 256 * 1024;
/// Bytes read at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// A line without its end, or a part of one.
#[derive(Clone, Copy, Debug)]
struct Piece<'b> {
    bytes: &'b [u8],
    part: Option<LinePart>,
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come yet, or of its next part; never longer than [`LINE_MAX`].
    rest: Vec<u8>,
    /// Parts of that line which have been passed on.
    parts: u32,
    /// What comes until the next end of a line belongs to one that was dropped.
    skips: bool,
}

impl Lines {
    /// Passes lines on; `line` tells whether it keeps one. Of a line whose part was not kept, nothing more is passed on: the number
    /// of bytes that were left out so.
    fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(Piece<'_>) -> bool) -> u64 {
        let mut left_out = 0;
        while !bytes.is_empty() {
            if self.skips {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                left_out += end.unwrap_or(bytes.len()) as u64;
                self.skips = end.is_none();
                bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
                continue;
            }
            let room = LINE_MAX - self.rest.len();
            let end = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let length = end.unwrap_or(bytes.len().min(room));
            self.rest.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if end.is_some() {
                bytes = &bytes[1..];
                self.end(&mut line);
            } else if !bytes.is_empty() && !self.go_on(&mut line) {
                left_out += self.rest.len() as u64;
                self.forget();
                self.skips = true;
            }
        }
        left_out
    }

    /// The line ends with what is there of it.
    fn end(&mut self, line: &mut impl FnMut(Piece<'_>) -> bool) {
        let number = self.parts.saturating_add(1);
        line(Piece {
            bytes: &self.rest,
            part: (self.parts > 0).then_some(LinePart { number, last: true }),
        });
        self.forget();
    }

    /// What is there is a part of a longer line.
    fn go_on(&mut self, line: &mut impl FnMut(Piece<'_>) -> bool) -> bool {
        let length = between_letters(&self.rest);
        self.parts = self.parts.saturating_add(1);
        let part = LinePart {
            number: self.parts,
            last: false,
        };
        let kept = line(Piece {
            bytes: &self.rest[..length],
            part: Some(part),
        });
        self.rest.drain(..length);
        kept
    }

    fn forget(&mut self) {
        self.rest.clear();
        // Long lines are rare: most sandboxes need no room for them.
        self.rest.shrink_to(CHUNK);
        self.parts = 0;
    }

    /// Drops bytes without a look at each: counting ends is a twentieth of the work. A line counts where it begins to be dropped.
    fn skip(&mut self, bytes: &[u8]) -> Dropped {
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        let is_open = bytes.last().map_or(self.skips, |last| *last != b'\n');
        let dropped = Dropped {
            lines: (ends + usize::from(is_open) - usize::from(self.skips && !bytes.is_empty())) as u64,
            bytes: (self.rest.len() + bytes.len() - ends) as u64,
        };
        self.forget();
        self.skips = is_open;
        dropped
    }

    fn finish(&mut self, mut line: impl FnMut(Piece<'_>) -> bool) {
        if !self.rest.is_empty() {
            self.end(&mut line);
        }
    }
}

/// Up to where bytes can be cut off without cutting a letter of UTF-8; at most three bytes before their end.
fn between_letters(bytes: &[u8]) -> usize {
    let end = bytes.len();
    let is_inner = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    let last = bytes.iter().rev().take(3).position(|byte| !is_inner(*byte));
    let Some(inner) = last else { return end };
    let begins = end - inner - 1;
    // The first byte of a letter tells how many it has.
    let length = match bytes[begins] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if begins + length > end { begins } else { end }
}

/// A log, and what may still be written to it.
struct Bounded<'l> {
    log: &'l mut LogWriter,
    allowance: Allowance,
    /// Told all that was dropped so far, whenever that is said in the log.
    dropped: &'l mut dyn FnMut(Dropped),
}

impl Bounded<'_> {
    /// Whether it is kept.
    fn line(&mut self, stream: LogStream, piece: Piece<'_>) -> bool {
        let is_kept = self.allowance.take(piece.bytes.len() as u64);
        if is_kept {
            // It stands where they were.
            let before = self.allowance.over();
            self.say(before);
            self.log.piece(stream, piece.bytes, piece.part);
        }
        is_kept
    }

    fn say(&mut self, dropped: Option<Dropped>) {
        let Some(dropped) = dropped else { return };
        let told = self.allowance.told(dropped);
        self.log.line(LogStream::System, told.as_bytes());
        (self.dropped)(dropped);
    }
}

/// One output of the sandbox: the reading end of its pipe.
struct Output {
    stream: LogStream,
    lines: Lines,
    /// None once the other end is closed.
    pipe: Option<File>,
}

impl Output {
    fn new(stream: LogStream, pipe: OwnedFd) -> Self {
        Self {
            stream,
            lines: Lines::default(),
            pipe: Some(File::from(pipe)),
        }
    }

    /// Takes what is there. Called when the pipe is readable, so it does not block.
    fn read(&mut self, chunk: &mut [u8], log: &mut Bounded<'_>) {
        let Some(pipe) = &mut self.pipe else { return };
        let stream = self.stream;
        match pipe.read(chunk) {
            Ok(count) if count > 0 && log.allowance.is_over() => log.allowance.drop(self.lines.skip(&chunk[..count])),
            Ok(count) if count > 0 => {
                let left_out = self.lines.push(&chunk[..count], |piece| log.line(stream, piece));
                log.allowance.drop_rest(left_out);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                self.pipe = None;
                self.lines.finish(|piece| log.line(stream, piece));
            }
        }
    }
}

/// Moves lines from the two pipes to the log until everything that was written is read: until init has exited, if it is given,
/// or until nobody holds the other ends. `dropped` is told what came faster than `rate`.
pub(crate) fn run(
    [stdout, stderr]: [OwnedFd; 2],
    init: Option<BorrowedFd<'_>>,
    log: &mut LogWriter,
    rate: LogRate,
    dropped: &mut dyn FnMut(Dropped),
) -> io::Result<()> {
    let mut log = Bounded {
        log,
        allowance: Allowance::new(rate, Instant::now()),
        dropped,
    };
    let mut outputs = [
        Output::new(LogStream::Stdout, stdout),
        Output::new(LogStream::Stderr, stderr),
    ];
    let mut chunk = vec![0; CHUNK];
    let mut exited = false;
    loop {
        // After init nobody can write any more: its whole pid namespace is gone. What is left is read without waiting.
        let patience = if exited {
            Some(Duration::ZERO)
        } else {
            log.allowance.wait()
        };
        let Some(ready) = wait(&outputs, init.filter(|_| !exited), patience)? else {
            break;
        };
        if ready.is_empty() && exited {
            break;
        }
        log.allowance.refill(Instant::now());
        if ready.is_empty() {
            let dropped = log.allowance.over();
            log.say(dropped);
        }
        for index in &ready {
            match outputs.get_mut(*index) {
                Some(output) => output.read(&mut chunk, &mut log),
                None => exited = true,
            }
        }
        log.log.flush();
    }
    for output in &mut outputs {
        let stream = output.stream;
        output.lines.finish(|piece| log.line(stream, piece));
    }
    let dropped = log.allowance.rest();
    log.say(dropped);
    log.log.flush();
    Ok(())
}

/// Which outputs can be read, after `patience` at the latest; one past the last of them stands for init. None when there is nothing
/// more to wait for.
fn wait(
    outputs: &[Output],
    init: Option<BorrowedFd<'_>>,
    patience: Option<Duration>,
) -> io::Result<Option<Vec<usize>>> {
    let pipes = outputs.iter().enumerate();
    let mut watched: Vec<(usize, BorrowedFd<'_>)> = pipes
        .filter_map(|(index, output)| Some((index, output.pipe.as_ref()?.as_fd())))
        .collect();
    watched.extend(init.map(|init| (outputs.len(), init)));
    if watched.is_empty() {
        return Ok(None);
    }
    let mut fds: Vec<PollFd<'_>> = watched
        .iter()
        .map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    while let Err(error) = poll(&mut fds, timeout(patience)) {
        if error != Errno::EINTR {
            return Err(error.into());
        }
    }
    let ready = watched.iter().zip(&fds).filter(|(_, fd)| fd.any().unwrap_or(false));
    Ok(Some(ready.map(|((index, _), _)| *index).collect()))
}

/// In whole milliseconds, as `poll` counts, and never less than was asked for.
fn timeout(patience: Option<Duration>) -> PollTimeout {
    let Some(patience) = patience else {
        return PollTimeout::NONE;
    };
    let milliseconds = patience.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}
