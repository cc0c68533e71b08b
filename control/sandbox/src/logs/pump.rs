//! Decides how what a sandbox writes becomes lines of its log.

use crate::logs::LogWriter;
use miren_api::resource::LogStream;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest line; longer ones are split. Keeps the memory of the helper bounded.
const LINE_MAX: usize = 16 * 1024;
/// Bytes read at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come yet; never longer than [`LINE_MAX`].
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
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

    fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&self.rest);
            self.rest.clear();
        }
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
    fn read(&mut self, chunk: &mut [u8], log: &mut LogWriter) {
        let Some(pipe) = &mut self.pipe else { return };
        let stream = self.stream;
        match pipe.read(chunk) {
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
/// or until nobody holds the other ends.
pub(crate) fn run(
    stdout: OwnedFd,
    stderr: OwnedFd,
    init: Option<BorrowedFd<'_>>,
    log: &mut LogWriter,
) -> io::Result<()> {
    let mut outputs = [
        Output::new(LogStream::Stdout, stdout),
        Output::new(LogStream::Stderr, stderr),
    ];
    let mut chunk = vec![0; CHUNK];
    let mut exited = false;
    loop {
        // After init nobody can write any more: its whole pid namespace is gone. What is left is read without waiting.
        let ready = wait(&outputs, init, exited)?;
        if ready.is_empty() {
            break;
        }
        for index in &ready {
            match outputs.get_mut(*index) {
                Some(output) => output.read(&mut chunk, log),
                None => exited = true,
            }
        }
        log.flush();
    }
    for output in &mut outputs {
        let stream = output.stream;
        output.lines.finish(|line| log.line(stream, line));
    }
    log.flush();
    Ok(())
}

/// Which outputs can be read; one past the last of them stands for init. None when there is nothing more to wait for.
fn wait(outputs: &[Output], init: Option<BorrowedFd<'_>>, exited: bool) -> io::Result<Vec<usize>> {
    let pipes = outputs.iter().enumerate();
    let mut watched: Vec<(usize, BorrowedFd<'_>)> = pipes
        .filter_map(|(index, output)| Some((index, output.pipe.as_ref()?.as_fd())))
        .collect();
    watched.extend(init.filter(|_| !exited).map(|init| (outputs.len(), init)));
    if watched.is_empty() {
        return Ok(Vec::new());
    }
    let mut fds: Vec<PollFd<'_>> = watched
        .iter()
        .map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    let timeout = if exited { PollTimeout::ZERO } else { PollTimeout::NONE };
    while let Err(error) = poll(&mut fds, timeout) {
        if error != Errno::EINTR {
            return Err(error.into());
        }
    }
    let ready = watched.iter().zip(&fds).filter(|(_, fd)| fd.any().unwrap_or(false));
    Ok(ready.map(|((index, _), _)| *index).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| found.push(line.to_vec()));
        }
        lines.finish(|line| found.push(line.to_vec()));
        found
    }

    #[test]
    fn lines_do_not_depend_on_how_they_arrive() {
        let whole = cut(&[b"one\ntwo\n\nthree"]);
        assert_eq!(whole, [&b"one"[..], b"two", b"", b"three"]);
        assert_eq!(cut(&[b"on", b"e\ntw", b"o\n", b"\nthree"]), whole);
    }

    #[test]
    fn a_line_without_end_is_split() {
        let exact = vec![b'x'; LINE_MAX];
        let with = |rest: &[u8]| [&exact[..], rest].concat();
        assert_eq!(cut(&[&with(b"")]), [&exact[..]]);
        assert_eq!(
            cut(&[&with(b"\n")]),
            [&exact[..]],
            "a newline right after the longest line makes no empty one"
        );
        assert_eq!(cut(&[&with(b"yy\nz")]), [&exact[..], b"yy", b"z"]);
    }
}
