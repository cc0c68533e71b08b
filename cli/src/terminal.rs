//! Decides how this command lends its terminal to a program elsewhere, and that it has it back however that ends.

use crate::failure::Failure;
use miren_api::exec::TerminalSize;
use nix::libc;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal};
use tokio::signal::unix::{Signal, SignalKind, signal};

nix::ioctl_read_bad!(read_size, libc::TIOCGWINSZ, libc::winsize);

/// What a terminal has that does not say how large it is: as terminals were made when there were only such.
const UNKNOWN: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// The terminal that this command reads from, lent until this is dropped: every key goes through, those that would end or stop this
/// command too.
pub struct Lent {
    before: Termios,
}

impl Lent {
    /// How large the terminal is.
    ///
    /// # Errors
    /// When this command reads from none.
    pub fn size(doing: &str) -> Result<TerminalSize, Failure> {
        if !io::stdin().is_terminal() {
            let why = format!("{doing}: -t lends the program this terminal, and what this command reads from is none");
            return Err(Failure::usage(why).remedy("leave -t out; -i gives it what this command reads"));
        }
        Ok(size())
    }

    /// Lends it.
    pub fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // One that has gone needs nothing.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

fn size() -> TerminalSize {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: `size` lives as long as the call, which fills it in.
    let read = unsafe { read_size(libc::STDIN_FILENO, &raw mut size) };
    match (read, size.ws_row, size.ws_col) {
        (Ok(_), rows @ 1.., columns @ 1..) => TerminalSize { rows, columns },
        _ => UNKNOWN,
    }
}

/// How large the terminal is, again and again.
pub struct Sizes {
    changes: Signal,
    /// It may have changed between its first look and the moment from which changes are told.
    is_told: bool,
}

impl Sizes {
    pub fn follow() -> io::Result<Self> {
        let changes = signal(SignalKind::window_change())?;
        Ok(Self {
            changes,
            is_told: false,
        })
    }

    /// Its size now, then after each change. One that is dropped while it waits has taken nothing.
    pub async fn next(&mut self) -> TerminalSize {
        if self.is_told {
            self.changes.recv().await;
        }
        self.is_told = true;
        size()
    }
}

/// What ends this command from outside while its terminal is lent.
pub struct Endings([(SignalKind, Signal); 4]);

impl Endings {
    pub fn follow() -> io::Result<Self> {
        let one = |kind| signal(kind).map(|signal| (kind, signal));
        Ok(Self([
            one(SignalKind::interrupt())?,
            one(SignalKind::terminate())?,
            one(SignalKind::hangup())?,
            one(SignalKind::quit())?,
        ]))
    }

    /// The status that a shell shows for the signal that came.
    pub async fn next(&mut self) -> u8 {
        let received = self.0.iter_mut().map(|(kind, signal)| {
            let status = u8::try_from(128 + kind.as_raw_value()).unwrap_or(u8::MAX);
            Box::pin(async move {
                signal.recv().await;
                status
            })
        });
        futures_util::future::select_all(received).await.0
    }
}
