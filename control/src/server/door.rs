//! Decides whether the API's socket is still where people look for it, and makes it anew where it is not: a socket whose name was removed
//! takes no connection any more, and its daemon would be reached by nobody until it is restarted.

use axum::serve::Listener;
use futures_util::FutureExt;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

#[cfg(test)]
mod tests;

/// How soon it is tried again to make a socket that could not be made: no event tells of a disk that has room again.
const AGAIN: Duration = Duration::from_secs(1);
/// Rest after an error of accepting that the next connection would meet, too, as without descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket of the API, wherever its folder goes.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    listener: UnixListener,
    /// Device and number of what was bound at the path.
    bound: (u64, u64),
    /// Connected to sockets before this one, and not taken yet.
    waiting: VecDeque<(UnixStream, SocketAddr)>,
    changes: Changes,
    ending: CancellationToken,
    /// It could not be made anew; said once.
    is_lost: bool,
}

/// Tells that the folder, or what is mounted where, has changed. What exactly is not believed: the path is looked at.
#[derive(Debug)]
struct Changes {
    folder: PathBuf,
    /// And a copy of its descriptor, which says that there is something to read.
    inotify: Option<(Inotify, AsyncFd<OwnedFd>)>,
    watched: Option<WatchDescriptor>,
    mounts: Option<AsyncFd<OwnedFd>>,
}

impl Door {
    /// Binds the socket in place of one that a dead daemon left, until `ending`. Everybody may connect; who may do what is the gate's matter.
    ///
    /// # Errors
    /// When there can be no socket.
    pub fn open(path: &Path, ending: CancellationToken) -> io::Result<Self> {
        let mut changes = Changes::of(path.parent().unwrap_or(Path::new("/")));
        // First: what comes between the two is seen.
        changes.watch();
        let (listener, bound) = bind(path)?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            bound,
            waiting: VecDeque::new(),
            changes,
            ending,
            is_lost: false,
        })
    }

    /// Whether whoever looks for the socket finds this one, or another one that somebody else serves.
    fn is_found(&self) -> bool {
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.bound => true,
            // Of another daemon, which has the folder's lock: that one is to be found.
            Ok(_) => is_served(&self.path),
            Err(_) => false,
        }
    }

    fn look(&mut self) {
        // Its own end removes it, too.
        if self.ending.is_cancelled() || self.is_found() {
            return;
        }
        match self.make_anew() {
            Ok(()) => {
                self.is_lost = false;
                tracing::warn!(socket = %self.path.display(), "the socket of the API was removed from under it, and is there again");
            }
            Err(error) if !std::mem::replace(&mut self.is_lost, true) => {
                tracing::error!(socket = %self.path.display(), %error, "the socket of the API was removed from under it, and cannot be made anew: nobody can connect; trying again");
            }
            Err(_) => {}
        }
    }

    fn make_anew(&mut self) -> io::Result<()> {
        let folder = &self.changes.folder;
        if !folder.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        self.changes.watch();
        let (listener, bound) = bind(&self.path)?;
        let before = std::mem::replace(&mut self.listener, listener);
        self.bound = bound;
        while let Some(Ok(accepted)) = before.accept().now_or_never() {
            self.waiting.push_back(accepted);
        }
        Ok(())
    }
}

impl Listener for Door {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            if let Some(accepted) = self.waiting.pop_front() {
                return accepted;
            }
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => return accepted,
                    Err(error) => {
                        tracing::error!(%error, "a connection to the API could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                () = self.changes.next() => self.look(),
                () = tokio::time::sleep(AGAIN), if self.is_lost => self.look(),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Changes {
    /// Without the kernel's help the socket is as good as any: nothing depends on it while nobody removes it.
    fn of(folder: &Path) -> Self {
        let inotify = watch_of_changes();
        let mounts = File::open("/proc/self/mountinfo").and_then(|file| registered(file.into(), Interest::PRIORITY));
        for error in [inotify.as_ref().err(), mounts.as_ref().err()].into_iter().flatten() {
            tracing::warn!(%error, "it will not be noticed if the socket of the API is removed");
        }
        Self {
            folder: folder.to_owned(),
            inotify: inotify.ok(),
            watched: None,
            mounts: mounts.ok(),
        }
    }

    /// Watches the folder that is at the path now.
    fn watch(&mut self) {
        let Some((inotify, _)) = &self.inotify else { return };
        let gone = AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        match inotify.add_watch(&self.folder, gone) {
            Ok(new) => {
                let before = self.watched.replace(new).filter(|before| *before != new);
                // It is gone with its folder, mostly.
                let _ = before.map(|before| inotify.rm_watch(before));
            }
            Err(error) => {
                tracing::debug!(folder = %self.folder.display(), %error, "the folder of the socket cannot be watched")
            }
        }
    }

    async fn next(&self) {
        tokio::select! {
            () = read_events(self.inotify.as_ref()) => {}
            () = mounted(self.mounts.as_ref()) => {}
        }
    }
}

fn watch_of_changes() -> io::Result<(Inotify, AsyncFd<OwnedFd>)> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let copy = inotify.as_fd().try_clone_to_owned()?;
    Ok((inotify, registered(copy, Interest::READABLE)?))
}

fn registered(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: only this `AsyncFd` owns the descriptor, which stays open and the same until both are dropped.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}

async fn read_events(inotify: Option<&(Inotify, AsyncFd<OwnedFd>)>) {
    let Some((inotify, readable)) = inotify else {
        return std::future::pending().await;
    };
    let Ok(mut ready) = readable.readable().await else {
        return std::future::pending().await;
    };
    loop {
        match inotify.read_events() {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return ready.clear_ready(),
            Err(_) => return,
        }
    }
}

/// The kernel says by POLLPRI that the table of mounts is another one.
async fn mounted(mounts: Option<&AsyncFd<OwnedFd>>) {
    let Some(mounts) = mounts else {
        return std::future::pending().await;
    };
    match mounts.ready(Interest::PRIORITY).await {
        Ok(mut ready) => ready.clear_ready(),
        Err(_) => std::future::pending().await,
    }
}

/// Never waits: one whose queue is full is served as well.
fn is_served(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connected = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .and_then(|socket| connect(socket.as_raw_fd(), &UnixAddr::new(path)?));
    matches!(connected, Ok(()) | Err(Errno::EAGAIN))
}

fn bind(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    let found = std::fs::metadata(path)?;
    Ok((listener, (found.dev(), found.ino())))
}
