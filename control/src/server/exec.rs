//! Decides how a client speaks with a command it has run in a sandbox, and that the command ends when the client is gone.

use super::Server;
use super::extract::Body;
use super::refusal::Refusal;
use super::sandboxes::find;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use miren_api::exec::{ExecRequest, FRAME_MAX, Frame, Frames, PROTOCOL};
use miren_api::resource::SandboxState;
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::{Exec, ExecError, ExecInput};
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{interval, sleep};

/// How often a client that is sent nothing else is asked whether it is there.
const BEAT: Duration = Duration::from_secs(2);
/// How long a silent output is waited for once the command has ended: what it left running may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs a command in a sandbox. The connection becomes one of `miren-exec`: frames of a kind (1 byte), a length (4 bytes,
/// big-endian, at most 65536) and that many bytes. Kinds are 0 input and 1 its end, sent by the client; 2 standard output,
/// 3 standard error, 4 the status (1 byte), 5 why there is none, sent by the server. The command ends with the connection.
#[utoipa::path(post, path = "/v1/sandboxes/{id}/exec", tag = "sandboxes", params(("id" = String, Path)),
    request_body = ExecRequest,
    responses((status = 101, description = "It runs"), (status = 400, body = miren_api::error::ErrorBody),
        (status = 404, body = miren_api::error::ErrorBody), (status = 409, body = miren_api::error::ErrorBody),
        (status = 503, body = miren_api::error::ErrorBody)))]
pub async fn run(
    State(server): State<Server>,
    Path(id): Path<String>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let Body(wanted) = Body::<ExecRequest>::from_request(request, &()).await?;
    let upgrade = upgrade.ok_or_else(|| {
        ApiError::new(
            ErrorCode::InvalidRequest,
            "the connection cannot be kept for the command",
        )
        .remedy(format!("send \"Connection: upgrade\" and \"Upgrade: {PROTOCOL}\""))
    })?;
    let sandbox = find(&server, &id)?;
    if !matches!(sandbox.state, SandboxState::Running | SandboxState::Draining) {
        let message = format!("sandbox {} is {}", sandbox.id, sandbox.state.as_str());
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .remedy("choose one that is RUNNING")
            .into());
    }
    let executor = &server.executor;
    let exec = executor.exec(&sandbox.id, wanted.command, wanted.stdin).await;
    let exec = exec.map_err(refused)?;
    let ending = server.ending.clone();
    let conversation = async move {
        let Ok(connection) = upgrade.await else { return };
        tokio::select! {
            () = ending.cancelled() => {}
            // A client that is gone has nobody to be told.
            _ = speak(exec, TokioIo::new(connection)) => {}
        }
    };
    // One that panics costs its client the connection.
    miren_log::spawn(
        "a command's client",
        miren_log::caught("a command's client", conversation),
    );
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

fn refused(error: ExecError) -> ApiError {
    let message = error.to_string();
    match error {
        ExecError::NotThere(_) => ApiError::new(ErrorCode::Conflict, message).remedy("choose one that is RUNNING"),
        ExecError::TooMany(_) => ApiError::new(ErrorCode::AtCapacity, message).remedy("end one of them first"),
        ExecError::Refused(_) => ApiError::new(ErrorCode::InvalidRequest, message),
        ExecError::Pipes(_) => ApiError::new(ErrorCode::Internal, message),
    }
}

/// Until the command has ended and the client has heard so; or the client is gone.
async fn speak(mut exec: Exec, connection: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (from_client, mut to_client) = split(connection);
    let stdin = exec.stdin.take();
    let last = tokio::select! {
        gone = listen(from_client, stdin) => return gone,
        last = tell(&mut exec, &mut to_client) => last?,
    };
    to_client.write_all(&last.encode()).await?;
    to_client.shutdown().await
}

/// Passes on what the client sends; returns when it is gone.
async fn listen(mut from_client: impl AsyncRead + Unpin, mut stdin: Option<ExecInput>) -> io::Result<()> {
    let (mut frames, mut buffer) = (Frames::default(), vec![0; FRAME_MAX]);
    loop {
        let read = from_client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        frames.push(&buffer[..read]);
        while let Some(frame) = frames.next_frame().map_err(io::Error::other)? {
            match frame {
                Frame::Input(content) => {
                    if let Some(stdin) = &mut stdin {
                        stdin.write_all(&content).await?;
                    }
                }
                _ => {
                    if let Some(stdin) = stdin.take() {
                        stdin.end().await;
                    }
                }
            }
        }
    }
}

/// Passes on what the command writes, as fast as the client takes it; the frame that tells of its end.
async fn tell(exec: &mut Exec, to_client: &mut (impl AsyncWrite + Unpin)) -> io::Result<Frame> {
    let Exec {
        stdout, stderr, end, ..
    } = exec;
    let (mut out, mut err) = (vec![0; FRAME_MAX], vec![0; FRAME_MAX]);
    let (mut out_open, mut err_open) = (true, true);
    let mut beat = interval(BEAT);
    let mut end = pin!(end.wait());
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
