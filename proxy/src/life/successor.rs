//! How a proxy begins in the place of a running one: it asks for the sockets, proves itself to itself, says so, and accepts once the other
//! one makes way. Until then that one serves as if nothing had happened.

use super::handover::{Message, PROTOCOL, Peer, Purpose, Socket, dial, receive, send, socket_in};
use super::replace::Until;
use crate::config::Config;
use crate::error::StartError;
use crate::listen::{self, House, Server, sockets};
use crate::request::HEALTH_PATH;
use crate::routing::{Routing, Served};
use miren_fault::Point;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// From the sockets until it can serve: less than the process before it waits.
const BOOT: Duration = Duration::from_secs(30);
/// For each word of the process before it.
const WORD: Duration = Duration::from_secs(10);

/// What the running proxy gave.
#[derive(Debug)]
pub struct Handed {
    peer: OwnedFd,
    sockets: Vec<(Socket, TcpListener)>,
    /// Where that one writes its log.
    pub log: OwnedFd,
    served: Served,
    watchdog: Option<Duration>,
}

/// A successor that does not serve yet.
#[derive(Debug)]
pub struct Successor {
    peer: OwnedFd,
    served: Served,
    taken: Vec<SocketAddr>,
    /// Within what time its supervisor wants to hear that the process goes on.
    pub watchdog: Option<Duration>,
    /// Who started it gives it up then.
    pub until: Option<Until>,
}

/// Asks the proxy that owns `data_dir` for its sockets.
///
/// # Errors
/// When there is none, or it does not give them.
pub fn ask(data_dir: &Path) -> Result<Handed, StartError> {
    miren_fault::blocking(Point::TakeAsk)?;
    let path = socket_in(data_dir);
    let peer = dial(&path).map_err(|source| StartError::NoPredecessor { path, source })?;
    ask_at(peer).map_err(|error| StartError::HandOver(error.to_string()))
}

fn ask_at(peer: OwnedFd) -> io::Result<Handed> {
    let limit = TimeVal::new(i64::try_from(WORD.as_secs()).unwrap_or(i64::MAX), 0);
    setsockopt(&peer, sockopt::ReceiveTimeout, &limit)?;
    setsockopt(&peer, sockopt::SendTimeout, &limit)?;
    let hello = Message::Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
    };
    // Who is refused at once may hear of it sooner than it has spoken.
    let said = send(peer.as_fd(), &hello, &[]);
    match receive(peer.as_fd())? {
        Some((
            Message::Sockets {
                pid,
                sockets,
                lineage,
                generation,
                watchdog_ms,
            },
            mut descriptors,
        )) => {
            said?;
            let whole = descriptors.len() == sockets.len() + 1;
            let log = descriptors.pop().filter(|_| whole);
            let log = log.ok_or_else(|| io::Error::other("the running proxy gave other descriptors than it said"))?;
            let listeners = descriptors.into_iter().map(TcpListener::from);
            let served = Served {
                lineage: lineage.into(),
                generation,
            };
            tracing::info!(pid, sockets = sockets.len(), "got the sockets of the running proxy");
            Ok(Handed {
                peer,
                sockets: sockets.into_iter().zip(listeners).collect(),
                log,
                served,
                watchdog: watchdog_ms.map(Duration::from_millis),
            })
        }
        Some((Message::Refused { why }, _)) => Err(io::Error::other(format!("the running proxy refuses: {why}"))),
        Some((other, _)) => Err(io::Error::other(format!("the running proxy said {other:?}"))),
        None => Err(io::Error::other("the running proxy broke off")),
    }
}

impl Handed {
    /// The sockets that `config` wants: those that were handed over as far as they are at its addresses, and new ones.
    ///
    /// # Errors
    /// When an address is taken by somebody else.
    pub fn settle(mut self, config: &Config) -> Result<(Vec<TcpListener>, TcpListener, Successor), StartError> {
        miren_fault::blocking(Point::TakeSettle)?;
        let (mut taken, mut http) = (Vec::new(), Vec::new());
        let inherited = self.sockets.iter().any(|(socket, _)| socket.inherited);
        if inherited {
            while let Some(listener) = self.take(|socket| socket.inherited, &mut taken) {
                http.push(listener);
            }
        } else {
            if config.http.is_empty() {
                return Err(StartError::NoListener);
            }
            for wanted in &config.http {
                let given = self.take(
                    |socket| socket.of == Purpose::Http && is_at(socket, *wanted),
                    &mut taken,
                );
                http.push(given.map_or_else(|| sockets::listen(*wanted, "listen.http"), Ok)?);
            }
        }
        let given = self.take(
            |socket| socket.of == Purpose::Admin && is_at(socket, config.admin),
            &mut taken,
        );
        let admin = given.map_or_else(|| sockets::listen(config.admin, "admin.listen"), Ok)?;
        let Self {
            peer, served, watchdog, ..
        } = self;
        let successor = Successor {
            peer,
            served,
            taken,
            watchdog,
            until: None,
        };
        Ok((http, admin, successor))
    }

    fn take(&mut self, is_it: impl Fn(&Socket) -> bool, taken: &mut Vec<SocketAddr>) -> Option<TcpListener> {
        let at = self.sockets.iter().position(|(socket, _)| is_it(socket))?;
        let (socket, listener) = self.sockets.remove(at);
        taken.push(socket.address);
        Some(listener)
    }

    /// Whether a supervisor made the sockets.
    pub fn is_supervised(&self) -> bool {
        self.sockets.iter().any(|(socket, _)| socket.inherited)
    }
}

/// Port 0 in the settings is whichever the system chose.
fn is_at(socket: &Socket, wanted: SocketAddr) -> bool {
    socket.address == wanted || (wanted.port() == 0 && socket.address.ip() == wanted.ip())
}

/// What control says now is the truth. What is on disk may be older than what is served.
fn is_enough(known: &Served, by_control: bool, served: &Served) -> bool {
    let is_no_older = known.lineage == served.lineage && known.generation >= served.generation;
    by_control || is_no_older || *served == Served::default()
}

impl Successor {
    /// Waits until what is known of routing is not less than what the running proxy goes by, and has `server` answer a request.
    /// `by_control`: routing began with what control said.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub async fn prove<S: Server>(
        &self,
        routing: &Routing,
        by_control: bool,
        house: &Arc<House>,
        server: &Arc<S>,
    ) -> Result<(), StartError> {
        let proven = async {
            miren_fault::at(Point::TakeRouting).await?;
            self.catch_up(routing, by_control).await;
            miren_fault::at(Point::TakeProve).await?;
            answers(house, server)
                .await
                .map_err(|error| StartError::HandOver(format!("it does not answer itself: {error}")))
        };
        match tokio::time::timeout(BOOT, proven).await {
            Ok(proven) => proven,
            Err(_) => {
                let (known, wanted) = (routing.served(), &self.served);
                let why = format!(
                    "not ready within {BOOT:?}: it knows generation {known} of routing, and generation {wanted} is served"
                );
                Err(StartError::HandOver(why))
            }
        }
    }

    async fn catch_up(&self, routing: &Routing, by_control: bool) {
        let is_there = |known: &Served| routing.table().is_some() && is_enough(known, by_control, &self.served);
        // The sender is the routing's own.
        let _ = routing.changes().wait_for(is_there).await;
    }

    /// Says that it is ready to accept, if it is in time, calls `open` once it is to, and waits until the other one does not any more. One that has ended
    /// meanwhile does not either.
    ///
    /// # Errors
    /// When the other one serves on.
    pub async fn serves(self, open: impl FnOnce()) -> Result<(), StartError> {
        let peer = Peer::of(self.peer).map_err(|error| StartError::HandOver(error.to_string()))?;
        if let Some(until) = self.until {
            until.offers(miren_log::say)?;
        }
        match told(&peer, self.taken).await? {
            Some(Message::Yours) => {
                open();
                // One that does not come to its end is heard of in its own log.
                let _ = tokio::time::timeout(WORD, peer.receive()).await;
                Ok(())
            }
            None => Ok(()),
            Some(Message::Refused { why }) => Err(StartError::HandOver(format!("the running proxy serves on: {why}"))),
            Some(other) => Err(StartError::HandOver(format!("the running proxy said {other:?}"))),
        }
    }
}

/// What the process before this one says to it; none when that has ended. Who hears nothing gives up: then the other one cannot say that
/// this one serves, unless it has done so already.
async fn told(peer: &Peer, taken: Vec<SocketAddr>) -> Result<Option<Message>, StartError> {
    let told = async {
        miren_fault::at(Point::TakeSay).await?;
        if let Err(error) = peer.send(&Message::Serving { addresses: taken }, &[]).await {
            tracing::debug!(%error, "the process before this one broke off");
        }
        miren_fault::at(Point::TakeHear).await?;
        peer.receive().await
    };
    let why = match tokio::time::timeout(WORD, told).await {
        Ok(Ok(said)) => return Ok(said),
        Ok(Err(error)) => format!("the running proxy cannot be heard: {error}"),
        Err(_) => format!("the running proxy did not make way within {WORD:?}"),
    };
    let given_up = peer.give_up();
    match (given_up, peer.receive().await) {
        (Ok(()), Ok(Some(said))) => Ok(Some(said)),
        _ => Err(StartError::HandOver(why)),
    }
}

/// A request of its own, through all of the engine, on a pair of sockets that nobody else has.
async fn answers<S: Server>(house: &Arc<House>, server: &Arc<S>) -> io::Result<()> {
    let (mut own, other) = UnixStream::pair()?;
    let other = OwnedFd::from(other.into_std()?);
    let stream = TcpStream::from_std(std::net::TcpStream::from(other))?;
    listen::take_private(stream, house, server).await?;
    let target = String::from_utf8_lossy(HEALTH_PATH);
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    own.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    own.read_to_string(&mut answer).await?;
    match answer.starts_with("HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(io::Error::other(format!("{answer:?} came back"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(lineage: &str, generation: u64) -> Served {
        Served {
            lineage: lineage.into(),
            generation,
        }
    }

    #[test]
    fn a_successor_goes_by_nothing_older_than_what_is_served() {
        let before = served("a", 7);
        for (known, is_fine) in [
            (served("a", 7), true),
            (served("a", 8), true),
            (served("a", 6), false),
            (served("b", 9), false),
        ] {
            assert_eq!(is_enough(&known, false, &before), is_fine, "{known} from disk");
            assert!(is_enough(&known, true, &before), "control says so");
        }
        assert!(
            is_enough(&served("a", 1), false, &Served::default()),
            "nothing is served yet"
        );
    }

    #[test]
    fn a_socket_is_taken_where_the_settings_want_it() {
        let socket = Socket {
            of: Purpose::Http,
            address: "127.0.0.1:8080".parse().unwrap(),
            inherited: false,
        };
        for (wanted, is_it) in [
            ("127.0.0.1:8080", true),
            ("127.0.0.1:0", true),
            ("127.0.0.1:80", false),
            ("0.0.0.0:8080", false),
            ("0.0.0.0:0", false),
        ] {
            assert_eq!(is_at(&socket, wanted.parse().unwrap()), is_it, "{wanted}");
        }
    }
}
