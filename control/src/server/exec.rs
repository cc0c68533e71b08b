//! Decides how a client has a command run in a sandbox, and that the command ends when the client is gone.

use super::Server;
use super::extract::Body;
use super::refusal::Refusal;
use super::sandboxes::find;
use super::speaking::{kept, switching};
use axum::extract::{FromRequest, Path, Request, State};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use miren_api::exec::ExecRequest;
use miren_api::resource::SandboxState;
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::{Attach, Exec, ExecError};

/// Runs a command in a sandbox. The connection becomes one of `miren-exec`: frames of a kind (1 byte), a length (4 bytes,
/// big-endian, at most 65536) and that many bytes. Kinds are 0 input and 1 its end, sent by the client; 2 standard output,
/// 3 standard error, 4 the status (1 byte), 5 why there is none, sent by the server; 6 the size of the client's terminal, rows and
/// columns of 2 bytes each, sent by a client that asked for a terminal. The command ends with the connection.
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
    let upgrade = kept(upgrade)?;
    let sandbox = find(&server, &id)?;
    if !matches!(sandbox.state, SandboxState::Running | SandboxState::Draining) {
        let message = format!("sandbox {} is {}", sandbox.id, sandbox.state.as_str());
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .remedy("choose one that is RUNNING")
            .into());
    }
    let attach = Attach {
        stdin: wanted.stdin || wanted.terminal.is_some(),
        terminal: wanted.terminal,
    };
    let exec = server.executor.exec(&sandbox.id, wanted.command, attach).await;
    let Exec { streams, mut end } = exec.map_err(refused)?;
    // Dropped with the conversation, which ends the command.
    let ended = async move { end.wait().await };
    server.converse(upgrade, streams, ended, std::future::ready(()));
    Ok(switching())
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
