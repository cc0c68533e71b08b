//! Decides how a client and a command speak over the one connection that is left to them, and that it ends when either is gone.

use super::Server;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use miren_api::exec::{FRAME_MAX, Frame, Frames, PROTOCOL};
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::{Input, Output, Streams, Window};
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{interval, sleep};

/// How often a client that is sent nothing else is asked whether it is there.
const BEAT: Duration = Duration::from_secs(2);
/// How long a silent output is waited for once the command has ended: what it left running may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How a command ended: its status as shells count it, or why nobody can tell.
pub(super) type Status = Result<i32, String>;

/// The connection that a request leaves to the command.
///
/// # Errors
/// When the client has not asked for that.
pub(super) fn kept(upgrade: Option<OnUpgrade>) -> Result<OnUpgrade, ApiError> {
    upgrade.ok_or_else(|| {
        ApiError::new(
            ErrorCode::InvalidRequest,
            "the connection cannot be kept for the command",
        )
        .remedy(format!("send \"Connection: upgrade\" and \"Upgrade: {PROTOCOL}\""))
    })
}

/// The answer after which the connection is the command's.
pub(super) fn switching() -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

impl Server {
    /// Lets a client and a command speak until one of them or the daemon ends, and does `then` after that.
    pub(super) fn converse(
        &self,
        upgrade: OnUpgrade,
        streams: Streams,
        end: impl Future<Output = Status> + Send + 'static,
        then: impl Future<Output = ()> + Send + 'static,
    ) {
        let ending = self.ending.clone();
        let conversation = async move {
            if let Ok(connection) = upgrade.await {
                tokio::select! {
                    () = ending.cancelled() => {}
                    // A client that is gone has nobody to be told.
                    _ = speak(streams, end, TokioIo::new(connection)) => {}
                }
            }
            then.await;
        };
        // One that panics costs its client the connection.
        miren_log::spawn(
            "a command's client",
            miren_log::caught("a command's client", conversation),
        );
    }
}

/// Until the command has ended and the client has heard so; or the client is gone.
async fn speak(
    streams: Streams,
    end: impl Future<Output = Status>,
    connection: impl AsyncRead + AsyncWrite,
) -> io::Result<()> {
    let (from_client, mut to_client) = split(connection);
    let Streams {
        stdin,
        stdout,
        stderr,
        window,
    } = streams;
    let last = tokio::select! {
        gone = listen(from_client, stdin, window) => return gone,
        last = tell((stdout, stderr), end, &mut to_client) => last?,
    };
    to_client.write_all(&last.encode()).await?;
    to_client.shutdown().await
}

/// Passes on what the client sends; returns when it is gone.
async fn listen(
    mut from_client: impl AsyncRead + Unpin,
    mut stdin: Option<Input>,
    window: Option<Window>,
) -> io::Result<()> {
    let (mut frames, mut buffer) = (Frames::default(), vec![0; FRAME_MAX]);
    loop {
        let read = from_client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        frames.push(&buffer[..read]);
        while let Some(frame) = frames.next_frame().map_err(io::Error::other)? {
            match (frame, &window) {
                (Frame::Input(content), _) => {
                    if let Some(open) = &mut stdin
                        && open.write_all(&content).await.is_err()
                    {
                        // It reads no more; how it ends is told all the same.
                        stdin = None;
                    }
                }
                (Frame::Resize(size), Some(window)) => {
                    if let Err(error) = window.set(size).await {
                        tracing::debug!(error, "a terminal keeps its size");
                    }
                }
                (Frame::InputEnd, _) => {
                    if let Some(stdin) = stdin.take() {
                        stdin.end().await;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Passes on what the command writes, as fast as the client takes it; the frame that tells of its end.
async fn tell(
    (mut stdout, mut stderr): (Output, Output),
    end: impl Future<Output = Status>,
    to_client: &mut (impl AsyncWrite + Unpin),
) -> io::Result<Frame> {
    let (mut out, mut err) = (vec![0; FRAME_MAX], vec![0; FRAME_MAX]);
    let (mut out_open, mut err_open) = (true, true);
    let mut beat = interval(BEAT);
    let mut end = pin!(end);
    let mut last = None;
    while out_open || err_open || last.is_none() {
        let frame = tokio::select! {
            read = stdout.read(&mut out), if out_open => {
                let read = read?;
                out_open = read > 0;
                Frame::Stdout(out[..read].to_vec())
            }
            read = stderr.read(&mut err), if err_open => {
                let read = read?;
                err_open = read > 0;
                Frame::Stderr(err[..read].to_vec())
            }
            status = &mut end, if last.is_none() => {
                last = Some(status.map_or_else(Frame::Failed, |status| Frame::Exit(status as u8)));
                continue;
            }
            () = sleep(LAST_WORDS), if last.is_some() => break,
            _ = beat.tick() => Frame::Stdout(Vec::new()),
        };
        to_client.write_all(&frame.encode()).await?;
    }
    last.ok_or_else(|| io::Error::other("it has not ended"))
}
