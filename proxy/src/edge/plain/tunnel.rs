//! Bytes both ways once a connection was upgraded: as long as both sides like, or until it is told to go; its client hears so then,
//! between two frames. There is a buffer only while something is on its way.

use super::goodbye::GOODBYE;
use super::way::Way;
use crate::lease::Permit;
use crate::life::gate::Gate;
use bytes::BytesMut;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// What a client may still say once the sandbox has ended a tunnel.
const LAST_WORD: Duration = Duration::from_secs(5);
/// How long the end of a frame, and then a client's answer, are waited for by whoever told it to go.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// An upgraded connection.
#[derive(Debug)]
pub struct Tunnel<'t> {
    up: Way<'t>,
    down: Way<'t>,
    last_word: Duration,
}

impl<'t> Tunnel<'t> {
    /// `early` came behind the heads, from the client and from the sandbox. Neither may refuse a byte for longer than `stall`.
    pub fn new(client: &'t TcpStream, sandbox: &'t TcpStream, early: [BytesMut; 2], stall: Duration) -> Self {
        let [from_client, from_sandbox] = early;
        Self {
            up: Way::new(client, sandbox, from_client, stall),
            down: Way::new(sandbox, client, from_sandbox, stall),
            last_word: stall.min(LAST_WORD),
        }
    }

    /// How many bytes came from the client, and went to it.
    pub fn passed(&self) -> (u64, u64) {
        (self.up.passed(), self.down.passed())
    }

    /// Passes bytes on until both sides have finished, or one is broken. Where it is told to go its client is told so: then a tunnel
    /// of a sandbox that is retired ends with that sandbox, and at once where it is the proxy that goes.
    pub async fn run(&mut self, permit: &Permit, gate: &Gate) {
        let ended = tokio::select! {
            ended = self.pass() => ended,
            () = permit.lease().tunnels_over() => self.leave(permit, gate).await,
            () = gate.goodbye() => self.leave_now().await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a tunnel broke");
        }
    }

    /// Until both sides have finished.
    async fn pass(&mut self) -> io::Result<()> {
        let last_word = self.last_word;
        let mut upward = pin!(self.up.pass());
        let mut downward = pin!(self.down.pass());
        tokio::select! {
            ended = &mut upward => {
                ended?;
                downward.await
            }
            ended = &mut downward => {
                ended?;
                // A client that stays does not keep the place of a tunnel that is over.
                timeout(last_word, upward).await.unwrap_or(Ok(()))
            }
        }
    }

    /// Its sandbox is about to be told to end, and is not kept waiting for it. What it says from then on it may say to nobody.
    async fn leave(&mut self, permit: &Permit, gate: &Gate) -> io::Result<()> {
        let goes = async {
            gate.goodbye().await;
            sleep(GOODBYE_TIME).await;
        };
        let leaves = async {
            let mut let_off = None;
            {
                let mut said = pin!(self.say_goodbye());
                tokio::select! {
                    ended = &mut said => ended?,
                    () = sleep(GOODBYE_TIME) => {
                        let_off = Some(permit.let_off());
                        said.await?;
                    }
                }
            }
            let _let_off = let_off.unwrap_or_else(|| permit.let_off());
            self.down.discard().await
        };
        tokio::select! {
            ended = leaves => ended,
            () = goes => Ok(()),
        }
    }

    /// The proxy is about to end.
    async fn leave_now(&mut self) -> io::Result<()> {
        timeout(GOODBYE_TIME, self.say_goodbye()).await.unwrap_or(Ok(()))
    }

    /// Tells the client, waits for its answer, which the app gets, and closes its connection. Where one side has said that it goes the
    /// other answers by itself, and the tunnel ends as any.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        if !self.finish_frame().await? {
            return self.pass().await;
        }
        self.down.say(GOODBYE).await?;
        let last_word = self.last_word;
        {
            let mut answered = pin!(self.up.pass_close());
            tokio::select! {
                ended = &mut answered => ended?,
                ended = self.down.discard() => {
                    ended?;
                    timeout(last_word, answered).await.unwrap_or(Ok(()))?;
                }
            }
        }
        // A client that has had its goodbye waits for the end (RFC 6455 §7.1.1).
        self.down.finish()
    }

    /// Passes on until no frame to the client is unfinished; false where the tunnel ends by itself.
    async fn finish_frame(&mut self) -> io::Result<bool> {
        let finished = {
            let mut frame = pin!(self.down.finish_frame());
            tokio::select! {
                biased;
                finished = &mut frame => finished?,
                ended = self.up.pass() => {
                    ended?;
                    frame.await?
                }
            }
        };
        Ok(finished && !self.up.closes() && !self.down.closes())
    }
}
