//! What is asked on the terminal, and what happens where there is none.

use crate::failure::{Doing, Failure};
use crate::shown;
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use std::io::{self, IsTerminal, Write};

/// Fails with a usage error unless somebody sits at stdin who could answer.
pub fn attended(what: &str, remedy: &str) -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::usage(format!("{what}, and stdin is not a terminal")).remedy(remedy))
}

/// Whether the answer is yes; anything else is no.
pub async fn yes(question: &str) -> Result<bool, Failure> {
    let answer = ask(&format!("{question} [y/N] ")).await?.unwrap_or_default();
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// A line that is not shown while it is typed. None: the input ended before it.
pub async fn hidden(question: &str) -> Result<Option<String>, Failure> {
    let _quiet = Quiet::begin().doing(|| "reading from the terminal".into())?;
    ask(question).await
}

/// Reads on another thread, so that Ctrl-C is still heard on this one.
async fn ask(question: &str) -> Result<Option<String>, Failure> {
    let mut prompt = io::stderr();
    write!(prompt, "{}", shown::line(question))?;
    prompt.flush()?;
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let length = io::stdin().read_line(&mut line)?;
        Ok::<_, io::Error>((length > 0).then_some(line))
    });
    let line = reading
        .await
        .map_err(|error| Failure::failed(format!("reading an answer: {error}")))?
        .doing(|| "reading an answer".into())?;
    Ok(line.map(|line| without_end(&line).to_owned()))
}

fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The terminal without echo, until dropped.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        // The line end is still shown: what is printed next begins on a line of its own.
        quiet.local_flags.insert(LocalFlags::ECHONL);
        termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_end_is_taken_off() {
        for (line, kept) in [("a b \n", "a b "), ("x\r\n", "x"), ("x", "x"), ("\n", "")] {
            assert_eq!(without_end(line), kept, "{line:?}");
        }
    }
}
