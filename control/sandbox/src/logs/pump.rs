//! Decides how what a sandbox writes becomes lines of its log.

use super::allowance::{Allowance, Dropped};
use crate::config::LogRate;
use crate::logs::LogWriter;
use miren_api::resource::LogStream;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Longest line; longer ones are split. Keeps the memory of the helper bounded.
pub(super) const LINE_MAX: usize = 16 * 1024;
/// Bytes read at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come yet; never longer than [`LINE_MAX`].
    rest: Vec<u8>,
    /// What comes until the next end of a line belongs to one that was dropped.
    skips: bool,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        if self.skips {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                return;
            };
            self.skips = false;
            bytes = &bytes[end + 1..];
        }
        while !bytes.is_empty() {
            let room = LINE_MAX - self.rest.len();
            let end = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let length = end.unwrap_or(bytes.len().min(room));
            self.rest.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if end.is_some() {
                bytes = &bytes[1..];
            } else if bytes.is_empty() {
                return;
            }
            line(&self.rest);
            self.rest.clear();
        }
    }

    /// Drops bytes without a look at each: counting ends is a twentieth of the work. A line counts where it begins to be dropped.
    fn skip(&mut self, bytes: &[u8]) -> Dropped {
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        let is_open = bytes.last().map_or(self.skips, |last| *last != b'\n');
        let dropped = Dropped {
            lines: (ends + usize::from(is_open) - usize::from(self.skips && !bytes.is_empty())) as u64,
            bytes: (self.rest.len() + bytes.len() - ends) as u64,
        };
        self.rest.clear();
        self.skips = is_open;
        dropped
    }

    fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&self.rest);
            self.rest.clear();
        }
    }
}

/// A log, and what may still be written to it.
struct Bounded<'l> {
    log: &'l mut LogWriter,
    allowance: Allowance,
    /// Told all that was dropped so far, whenever that is said in the log.
    dropped: &'l mut dyn FnMut(Dropped),
}

impl Bounded<'_> {
    fn line(&mut self, stream: LogStream, line: &[u8]) {
        if self.allowance.take(line.len() as u64) {
            // It stands where they were.
            let before = self.allowance.over();
            self.say(before);
            self.log.line(stream, line);
        }
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
            Ok(count) if count > 0 => self.lines.push(&chunk[..count], |line| log.line(stream, line)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                self.pipe = None;
                self.lines.finish(|line| log.line(stream, line));
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
        output.lines.finish(|line| log.line(stream, line));
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
