//! `miren sandbox exec`: runs a command in a sandbox, as if it ran here: same pipes, same exit status.

use crate::Context;
use crate::failure::{Doing, Exit, Failure};
use clap::Args;
use miren_api::exec::{ExecRequest, FRAME_MAX, Frame, Frames};
use std::io::{self, Read, Write};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::mpsc;

#[derive(Debug, Args)]
pub struct ExecOptions {
    /// Give it what this command reads
    #[arg(short, long = "stdin")]
    interactive: bool,
    /// Id of the sandbox, or the beginning of it
    id: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Parts of the input that wait to be sent.
const WAITING: usize = 4;

pub async fn run(options: ExecOptions, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let request = ExecRequest {
        command: options.command,
        stdin: options.interactive,
    };
    let doing = || format!("running a command in sandbox {}", options.id);
    let connection = context.client()?.exec(&options.id, &request).await.doing(doing)?;
    let (from_server, to_server) = split(connection);
    let ended = tokio::select! {
        ended = hear(from_server) => ended,
        // Whatever happens to the input, the server says how it ends.
        never = feed(to_server, options.interactive) => never,
    };
    match ended {
        Ok(Frame::Exit(status)) => Ok(Exit::Command(status)),
        Ok(Frame::Failed(why)) => Err(Failure::failed(why).doing(&doing())),
        Ok(_) => Err(Failure::failed("the server sent what only a client may").doing(&doing())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::output_closed()),
        Err(error) => Err(Failure::from(error).doing(&doing())),
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

/// Sends what is read here; never returns, so that the connection stays open.
async fn feed(mut to_server: impl AsyncWrite + Unpin, is_wanted: bool) -> io::Result<Frame> {
    if is_wanted {
        let (sender, mut parts) = mpsc::channel(WAITING);
        // A thread of its own: nothing ends a read of a terminal but the end of this process.
        std::thread::spawn(move || read_all(&sender));
        while let Some(part) = parts.recv().await {
            if to_server.write_all(&Frame::Input(part).encode()).await.is_err() {
                break;
            }
        }
        // One that has ended takes no more, and has said so.
        let _ = to_server.write_all(&Frame::InputEnd.encode()).await;
    }
    std::future::pending().await
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
