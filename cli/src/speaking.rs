//! Decides how this command speaks with one that runs on the node: its inputs and outputs are this one's, and so is its status.

use crate::failure::{Exit, Failure};
use crate::terminal::{Endings, Lent, Sizes};
use miren_api::exec::{FRAME_MAX, Frame, Frames, TerminalSize};
use std::io::{self, Read, Write};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::mpsc;

/// Parts of the input that wait to be sent.
const WAITING: usize = 4;

/// What a command gets of this one.
#[derive(Clone, Copy, Debug)]
pub enum Given {
    Nothing,
    /// What this command reads.
    Input,
    /// This command's terminal, of this size.
    Terminal(TerminalSize),
}

impl Given {
    /// By the options `-i` and `-t`.
    ///
    /// # Errors
    /// When there is no terminal to be given.
    pub fn of(input: bool, terminal: bool, doing: &str) -> Result<Self, Failure> {
        match (terminal, input) {
            (true, _) => Ok(Self::Terminal(Lent::size(doing)?)),
            (false, true) => Ok(Self::Input),
            (false, false) => Ok(Self::Nothing),
        }
    }

    pub fn has_input(self) -> bool {
        !matches!(self, Self::Nothing)
    }

    pub fn terminal(self) -> Option<TerminalSize> {
        match self {
            Self::Terminal(size) => Some(size),
            Self::Input | Self::Nothing => None,
        }
    }
}

/// A server that knows of no terminals calls that field unknown.
pub fn told_of_terminals(failure: Failure) -> Failure {
    match failure.field.as_deref() {
        Some("terminal") => failure.remedy("this server gives no terminals: leave -t out, or upgrade it"),
        _ => failure,
    }
}

/// Speaks over `connection` until the other end says how its command ended.
pub async fn speak(
    connection: impl AsyncRead + AsyncWrite,
    given: Given,
    doing: impl Fn() -> String,
) -> Result<Exit, Failure> {
    let (from_server, to_server) = split(connection);
    let (mut endings, mut sizes, mut lent) = (None, None, None);
    if given.terminal().is_some() {
        // In this order: whatever ends this command from now on, the terminal is given back.
        endings = Some(Endings::follow()?);
        sizes = Some(Sizes::follow()?);
        lent = Some(Lent::begin()?);
    }
    let ended = tokio::select! {
        ended = hear(from_server) => ended,
        // Whatever happens to the input, the server says how it ends.
        never = feed(to_server, given.has_input(), sizes) => never,
        status = ended_from_outside(&mut endings) => return Ok(Exit::Command(status)),
    };
    // What is said from here on is said to a terminal as it was.
    drop(lent);
    match ended {
        Ok(Frame::Exit(status)) => Ok(Exit::Command(status)),
        Ok(Frame::Failed(why)) => Err(Failure::failed(why).doing(&doing())),
        Ok(_) => Err(Failure::failed("the server sent what only a client may").doing(&doing())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::output_closed()),
        Err(error) => Err(Failure::from(error).doing(&doing())),
    }
}

/// A terminal that is lent has to be given back before this command ends.
async fn ended_from_outside(endings: &mut Option<Endings>) -> u8 {
    match endings {
        Some(endings) => endings.next().await,
        None => std::future::pending().await,
    }
}

/// Prints what the command writes; the last frame.
async fn hear(mut from_server: impl AsyncRead + Unpin) -> io::Result<Frame> {
    let (mut frames, mut buffer) = (Frames::default(), vec![0; FRAME_MAX]);
    loop {
        let read = from_server.read(&mut buffer).await?;
        if read == 0 {
            return Err(io::Error::other("the connection ended before the command did"));
        }
        frames.push(&buffer[..read]);
        while let Some(frame) = frames.next_frame().map_err(io::Error::other)? {
            match frame {
                Frame::Stdout(content) => print(io::stdout().lock(), &content)?,
                Frame::Stderr(content) => print(io::stderr().lock(), &content)?,
                last => return Ok(last),
            }
        }
    }
}

fn print(mut output: impl Write, content: &[u8]) -> io::Result<()> {
    output.write_all(content).and_then(|()| output.flush())
}

/// Sends what is read here, and how large the terminal is; never returns, so that the connection stays open.
async fn feed(mut to_server: impl AsyncWrite + Unpin, has_input: bool, mut sizes: Option<Sizes>) -> io::Result<Frame> {
    if has_input {
        let (sender, mut parts) = mpsc::channel(WAITING);
        // A thread of its own: nothing ends a read of a terminal but the end of this process.
        std::thread::spawn(move || read_all(&sender));
        let mut open = true;
        while open || sizes.is_some() {
            let frame = tokio::select! {
                part = parts.recv(), if open => match part {
                    Some(part) => Frame::Input(part),
                    None => {
                        open = false;
                        Frame::InputEnd
                    }
                },
                size = next(&mut sizes) => Frame::Resize(size),
            };
            // One that has ended takes no more, and has said so.
            if to_server.write_all(&frame.encode()).await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

async fn next(sizes: &mut Option<Sizes>) -> TerminalSize {
    match sizes {
        Some(sizes) => sizes.next().await,
        None => std::future::pending().await,
    }
}

fn read_all(parts: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; FRAME_MAX];
    let mut input = io::stdin().lock();
    while let Ok(read @ 1..) = input.read(&mut buffer) {
        if parts.blocking_send(buffer[..read].to_vec()).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miren_api::{ApiError, ClientError, ErrorCode};

    #[test]
    fn g17_a_server_that_knows_no_terminals_is_told_of() {
        let unknown = ApiError::new(ErrorCode::InvalidRequest, "unknown field `terminal`").field("terminal");
        let told = told_of_terminals(Failure::from(ClientError::Refused(unknown)));
        assert!(told.remedy.contains("-t"), "{told:?}");
        let other = ApiError::new(ErrorCode::InvalidRequest, "no")
            .field("command")
            .remedy("as it was");
        assert_eq!(
            told_of_terminals(Failure::from(ClientError::Refused(other))).remedy,
            "as it was"
        );
    }
}
