//! Decides how a command is spoken with from outside: through three pipes, or through a terminal that both sides share.

use crate::bundle::{Pipes, SandboxDir};
use crate::node::Node;
use futures_util::future::BoxFuture;
use miren_api::exec::TerminalSize;
use nix::cmsg_space;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::Winsize;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::UnixListener;
use tokio::net::unix::pipe::{Receiver, Sender};

nix::ioctl_write_ptr_bad!(set_size, nix::libc::TIOCSWINSZ, Winsize);

/// What a command is spoken with through.
pub struct Streams {
    /// What it reads, unless it was to have nothing.
    pub stdin: Option<Input>,
    pub stdout: Output,
    /// Nothing where it has a terminal: both come from there.
    pub stderr: Output,
    /// How large its terminal is, if it has one.
    pub window: Option<Window>,
}

/// The input of a command.
pub enum Input {
    Pipe { pipe: Sender, end: BoxFuture<'static, ()> },
    Terminal(Terminal),
}

/// An output of a command.
pub enum Output {
    Pipe(Receiver),
    Terminal(Terminal),
    Nothing,
}

/// The outer side of a terminal.
#[derive(Clone)]
pub struct Terminal(Arc<AsyncFd<OwnedFd>>);

/// The size of a terminal.
pub struct Window {
    terminal: Option<Terminal>,
    node: Arc<Node>,
    dir: SandboxDir,
    /// The further command that has it; none: the first.
    exec: Option<String>,
}

impl Input {
    /// Waits while the command does not read.
    pub async fn write_all(&mut self, content: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe { pipe, .. } => pipe.write_all(content).await,
            Self::Terminal(terminal) => terminal.write_all(content).await,
        }
    }

    /// There will be no more: the command reads the end. A terminal has none: who types there says so by a character.
    pub async fn end(self) {
        if let Self::Pipe { pipe, end } = self {
            drop(pipe);
            end.await;
        }
    }
}

impl AsyncRead for Output {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_read(context, buffer),
            Self::Terminal(terminal) => terminal.poll_read(context, buffer),
            Self::Nothing => Poll::Ready(Ok(())),
        }
    }
}

impl Terminal {
    fn new(outer: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_truncate(fcntl(&outer, FcntlArg::F_GETFL)?);
        fcntl(&outer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        fcntl(&outer, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        // SAFETY: the descriptor is owned by this `AsyncFd` alone; it stays open and the same until that is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(outer, Interest::READABLE | Interest::WRITABLE) };
        Ok(Self(Arc::new(registered.map_err(io::Error::from)?)))
    }

    /// One whose last user inside has gone reads as ended, which the kernel calls an error.
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), unfilled)?)) {
                Ok(Ok(read)) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }

    async fn write_all(&self, mut content: &[u8]) -> io::Result<()> {
        while !content.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(written) = ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), content)?)) {
                content = content.get(written?..).unwrap_or_default();
            }
        }
        Ok(())
    }

    fn set_size(&self, size: TerminalSize) -> io::Result<()> {
        let size = Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: `size` lives as long as the call, which reads it.
        unsafe { set_size(self.0.as_raw_fd(), &raw const size) }?;
        Ok(())
    }
}

impl Window {
    /// Makes the terminal this large, and tells what runs there.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn set(&self, size: TerminalSize) -> Result<(), String> {
        match &self.terminal {
            Some(terminal) => terminal.set_size(size).map_err(|error| error.to_string()),
            None => self.node.runtime.resize(&self.dir, self.exec.as_deref(), size).await,
        }
    }
}

/// Whose streams they are.
pub(crate) struct Spoken<'s> {
    pub(crate) node: &'s Arc<Node>,
    pub(crate) dir: SandboxDir,
    pub(crate) exec: Option<String>,
    pub(crate) terminal: Option<TerminalSize>,
    /// Resolves when the runtime knows that there is no more input.
    pub(crate) end_input: BoxFuture<'static, ()>,
}

/// What a command that runs by now is spoken with through.
pub(crate) async fn open(pipes: Pipes, spoken: Spoken<'_>) -> io::Result<Streams> {
    let window = |terminal: Option<Terminal>| Window {
        terminal,
        node: Arc::clone(spoken.node),
        dir: spoken.dir.clone(),
        exec: spoken.exec.clone(),
    };
    let streams = match pipes {
        Pipes::Console(listener) => {
            let terminal = Terminal::new(receive(&listener).await?)?;
            Streams {
                stdin: Some(Input::Terminal(terminal.clone())),
                stdout: Output::Terminal(terminal.clone()),
                stderr: Output::Nothing,
                window: Some(window(Some(terminal))),
            }
        }
        Pipes::Pipes { stdin, stdout, stderr } => Streams {
            stdin: stdin.map(|pipe| Input::Pipe {
                pipe,
                end: spoken.end_input,
            }),
            stdout: Output::Pipe(stdout),
            window: stderr.is_none().then(|| window(None)),
            stderr: stderr.map_or(Output::Nothing, Output::Pipe),
        },
    };
    if let (Some(window), Some(size)) = (&streams.window, spoken.terminal) {
        window.set(size).await.map_err(io::Error::other)?;
    }
    Ok(streams)
}

/// The terminal that a runtime has made. It was sent before the command runs.
async fn receive(listener: &UnixListener) -> io::Result<OwnedFd> {
    let (stream, _) = listener.accept().await?;
    loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || take(stream.as_raw_fd())) {
            Ok(Some(terminal)) => return Ok(terminal),
            Ok(None) => return Err(io::Error::other("the runtime sent no terminal")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn take(socket: RawFd) -> io::Result<Option<OwnedFd>> {
    let mut name = [0; 256];
    let mut parts = [IoSliceMut::new(&mut name)];
    let mut space = cmsg_space!([RawFd; 1]);
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut sent = message.cmsgs()?.filter_map(|control| match control {
        ControlMessageOwned::ScmRights(sent) => sent.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made it for this process, and nobody else has seen it.
    Ok(sent.next().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Nothing has to be told.
pub(crate) fn no_end() -> BoxFuture<'static, ()> {
    Box::pin(std::future::ready(()))
}
