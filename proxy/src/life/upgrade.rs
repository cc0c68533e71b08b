//! How the running proxy is asked to make way: it gives its sockets to a successor, and goes once that one is ready to accept at them. Whatever
//! becomes of the successor before, nothing has changed here.

use super::folder::Folder;
use super::handover::{DESCRIPTORS_MAX, Message, PROTOCOL, Peer, Purpose, Socket, socket_in};
use super::parent::Parent;
use crate::listen::Seldom;
use crate::routing::Routing;
use miren_fault::Point;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::unistd::geteuid;
use parking_lot::Mutex;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// From its first word until it accepts: longer than a successor gives itself, so that the two never disagree about it.
const SUCCESSOR: Duration = Duration::from_secs(45);
/// For each word of it that needs no work.
const WORD: Duration = Duration::from_secs(5);

/// What a successor gets: the listening sockets, as long as this process is the one to give them.
#[derive(Clone, Debug)]
pub struct Sockets(Arc<Mutex<Vec<(Socket, TcpListener)>>>);

/// Where a successor accepts, from the time on when one does, whatever this process was told before or is told then.
pub type Successors = watch::Receiver<Option<Vec<SocketAddr>>>;

/// A successor that accepts at these addresses.
#[derive(Debug)]
pub struct Offer {
    pub addresses: Vec<SocketAddr>,
    taken: oneshot::Sender<()>,
}

/// The offers of successors.
#[derive(Debug)]
pub struct Offers {
    offers: mpsc::Receiver<Offer>,
    sockets: Sockets,
}

/// What answers successors.
#[derive(Debug)]
pub struct Upgrades {
    sockets: Sockets,
    routing: Arc<Routing>,
    offers: mpsc::Sender<Offer>,
    successors: watch::Sender<Option<Vec<SocketAddr>>>,
    watchdog: Option<Duration>,
    parent: Option<Parent>,
    /// One at a time.
    turn: Semaphore,
    /// Those who asked and may not.
    strangers: Seldom,
}

impl Offer {
    /// Nothing is accepted and nothing written here any more.
    pub fn take(self) {
        // One that does not wait for the word goes on without it.
        let _ = self.taken.send(());
    }
}

impl Offers {
    /// The next one, if there is ever one.
    pub async fn next(&mut self) -> Offer {
        match self.offers.recv().await {
            Some(offer) => offer,
            None => std::future::pending().await,
        }
    }

    /// Takes no further one.
    pub fn close(&mut self) {
        self.sockets.0.lock().clear();
        self.offers.close();
    }
}

/// Answers successors who ask for `sockets`, and are told of the supervisor's `watchdog`, once it is run; children of `parent` only, if this
/// process has to end with that. What they lead to is heard of at the other end, and that one serves by `successors`.
pub fn upgrades(
    sockets: Vec<(Socket, TcpListener)>,
    routing: Arc<Routing>,
    successors: watch::Sender<Option<Vec<SocketAddr>>>,
    (watchdog, parent): (Option<Duration>, Option<Parent>),
) -> (Upgrades, Offers) {
    let (send, offers) = mpsc::channel(1);
    let sockets = Sockets(Arc::new(Mutex::new(sockets)));
    let upgrades = Upgrades {
        sockets: sockets.clone(),
        routing,
        offers: send,
        successors,
        watchdog,
        parent,
        turn: Semaphore::new(1),
        strangers: Seldom::default(),
    };
    (upgrades, Offers { offers, sockets })
}

impl Upgrades {
    /// Answers from the time on when the folder is this process's, until it is dropped. It never ends by itself.
    pub async fn run(self, folder: Folder) {
        let pen = folder.pen().await;
        let listener = listen_in(&folder);
        drop(pen);
        let this = Arc::new(self);
        match listener {
            Ok(listener) => this.answer_all(&listener, &folder).await,
            Err(error) => {
                tracing::error!(folder = %folder.path().display(), %error, "successors cannot ask for the sockets here: this proxy cannot be upgraded");
            }
        }
        std::future::pending().await
    }

    async fn answer_all(self: &Arc<Self>, listener: &UnixListener, folder: &Folder) {
        loop {
            let (peer, pid) = match next_peer(listener, &self.strangers).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "who asks for the sockets cannot be heard");
                    tokio::time::sleep(WORD).await;
                    continue;
                }
            };
            let (this, folder) = (Arc::clone(self), folder.clone());
            miren_log::spawn("an upgrade", async move { this.answer(peer, pid, &folder).await });
        }
    }

    async fn answer(&self, peer: Peer, pid: Option<i32>, folder: &Folder) {
        let hello = match tokio::time::timeout(WORD, peer.receive()).await {
            // Somebody has asked the kernel which process listens here.
            Ok(Ok(None)) => return,
            Ok(heard) => heard,
            Err(_) => Err(io::Error::other("it said nothing")),
        };
        if let Err(why) = self.attempt(&peer, (hello, pid), folder).await {
            refuse(&peer, &why).await;
        }
    }

    /// One upgrade; why not, for who asked.
    async fn attempt(
        &self,
        peer: &Peer,
        (hello, pid): (io::Result<Option<Message>>, Option<i32>),
        folder: &Folder,
    ) -> Result<(), String> {
        if let Some(parent) = self.parent {
            parent.admits(pid)?;
        }
        let Ok(_turn) = self.turn.try_acquire() else {
            return Err("another upgrade is under way; wait for its end".to_owned());
        };
        if self.sockets.0.lock().is_empty() {
            return Err("it is on its way out already; ask its successor".to_owned());
        }
        match tokio::time::timeout(SUCCESSOR, self.agree(peer, hello)).await {
            Ok(Ok((pid, addresses))) => {
                self.make_way(addresses, folder).await;
                tracing::info!(successor = pid, "a successor serves");
                Ok(())
            }
            Ok(Err(why)) => {
                tracing::error!(%why, "the successor does not serve; nothing has changed");
                Err(why.to_string())
            }
            Err(_) => {
                tracing::error!(limit = ?SUCCESSOR, "the successor took too long; nothing has changed");
                Err(format!("it did not serve within {SUCCESSOR:?}"))
            }
        }
    }

    /// The number of the successor, and where it accepts. What it is told last settles it for both: who has given up cannot be told
    /// any more, and who has been told serves.
    async fn agree(&self, peer: &Peer, hello: io::Result<Option<Message>>) -> io::Result<(u32, Vec<SocketAddr>)> {
        let (version, pid) = match hello? {
            Some(Message::Hello {
                protocol: PROTOCOL,
                version,
                pid,
            }) => (version, pid),
            Some(Message::Hello { protocol, version, .. }) => {
                let why = format!(
                    "release {version} speaks protocol {protocol} of upgrades, this one {PROTOCOL}: restart it instead"
                );
                return Err(io::Error::other(why));
            }
            other => return Err(io::Error::other(format!("it said {other:?}"))),
        };
        tracing::info!(version, pid, "a successor asks for the sockets");
        miren_fault::at(Point::GiveAsked).await?;
        self.give(peer).await?;
        miren_fault::at(Point::GiveSockets).await?;
        let addresses = match peer.receive().await? {
            Some(Message::Serving { addresses }) => addresses,
            Some(other) => return Err(io::Error::other(format!("it said {other:?}"))),
            None => return Err(io::Error::other("it ended before it served")),
        };
        miren_fault::at(Point::GiveOffer).await?;
        let told = peer.send(&Message::Yours, &[]).await;
        told.map_err(|error| io::Error::other(format!("it gave up before it was told to serve ({error})")))?;
        Ok((pid, addresses))
    }

    /// Accepts and writes nothing here any more. One that stops already makes way as well.
    async fn make_way(&self, addresses: Vec<SocketAddr>, folder: &Folder) {
        miren_fault::pass(Point::GiveTaken);
        self.successors.send_replace(Some(addresses.clone()));
        let (taken, done) = oneshot::channel();
        if self.offers.send(Offer { addresses, taken }).await.is_ok() {
            let _ = done.await;
        }
        folder.leave();
        miren_fault::pass(Point::GiveLeft);
    }

    async fn give(&self, peer: &Peer) -> io::Result<()> {
        let served = self.routing.served();
        let (sockets, copies): (Vec<Socket>, Vec<TcpListener>) = {
            let sockets = self.sockets.0.lock();
            let copy = |(socket, listener): &(Socket, TcpListener)| Ok((socket.clone(), listener.try_clone()?));
            sockets
                .iter()
                .map(copy)
                .collect::<io::Result<Vec<_>>>()?
                .into_iter()
                .unzip()
        };
        let log = io::stderr();
        let descriptors: Vec<RawFd> = copies
            .iter()
            .map(|copy| copy.as_raw_fd())
            .chain([log.as_raw_fd()])
            .collect();
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::other(format!(
                "{} sockets are more than can be handed over",
                sockets.len()
            )));
        }
        let message = Message::Sockets {
            pid: std::process::id(),
            sockets,
            lineage: served.lineage.to_string(),
            generation: served.generation,
            watchdog_ms: self
                .watchdog
                .and_then(|watchdog| u64::try_from(watchdog.as_millis()).ok()),
        };
        peer.send(&message, &descriptors).await
    }
}

/// What goes to a successor of these.
pub fn copies(http: &[TcpListener], inherited: bool, admin: &TcpListener) -> io::Result<Vec<(Socket, TcpListener)>> {
    let copy = |of, inherited, listener: &TcpListener| {
        let address = listener.local_addr()?;
        Ok((Socket { of, address, inherited }, listener.try_clone()?))
    };
    let http = http.iter().map(|listener| copy(Purpose::Http, inherited, listener));
    http.chain([copy(Purpose::Admin, false, admin)]).collect()
}

/// Says so, and waits for the other end: what it has said and nobody has read would be a reset, which overtakes this.
async fn refuse(peer: &Peer, why: &str) {
    let refusal = Message::Refused { why: why.to_owned() };
    let said = async {
        let mut open = peer.send(&refusal, &[]).await.is_ok();
        while open {
            open = matches!(peer.receive().await, Ok(Some(_)));
        }
    };
    // Whoever is gone need not be told.
    let _ = tokio::time::timeout(WORD, said).await;
}

/// A socket of that name is there whole or not at all; one of a process before is replaced.
fn listen_in(folder: &Folder) -> io::Result<UnixListener> {
    let path = socket_in(folder.path());
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(&new)?)?;
    // The folder decides who gets here, and the kernel says who did: root may lack what it takes to pass over a mode.
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    listen(&listener, Backlog::new(8)?)?;
    fs::rename(&new, &path)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(listener))
}

/// The next one who may ask, and its number: root, or who runs this process.
async fn next_peer(listener: &UnixListener, strangers: &Seldom) -> io::Result<(Peer, Option<i32>)> {
    loop {
        let (socket, _) = listener.accept().await?;
        let credentials = socket.peer_cred()?;
        let uid = credentials.uid();
        if uid == 0 || uid == geteuid().as_raw() {
            return Ok((Peer::accepted(socket), credentials.pid()));
        }
        if let Some(times) = strangers.happened(Instant::now()) {
            tracing::warn!(uid, times, "somebody who may not asked for the sockets");
        }
    }
}
